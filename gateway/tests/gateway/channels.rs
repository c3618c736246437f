//! The dialect of channels, message by message, and the defects of the server that it is after.

use std::time::Duration;

use doorward_gateway::config::{Carrier, Config};
use doorward_launch::Identity;
use doorward_proto::authd::v1::EndReason;
use serde_json::{Value, json};

use crate::{
    redis_server::Redis,
    support::{Client, Gateway, until},
};

pub(crate) const TABLE: &str = r#"
    [channels.news]
    subscribe = "anyone"
    publish = "anyone"
    [channels.hall]
    subscribe = "member"
    publish = "member"
    [channels.group]
    subscribe = "acl"
    publish = "acl"
    [channels.user]
    publish = "nobody"
"#;

/// A gateway whose channels a Redis carries, connected to it.
pub(crate) async fn gateway_over(redis: &Redis, change: impl FnOnce(&mut Config)) -> Gateway {
    let gateway = Gateway::start_with(|config| {
        config.channels.engine = Carrier::Redis;
        config.redis.socket = Some(redis.socket());
        config.redis.socket_user = Identity::current().uid.to_string();
        config.redis.prefix = Some("ws".into());
        change(config);
    })
    .await;
    until(|| (!gateway.hub.is_interrupted()).then_some(())).await;
    gateway
}

/// A gateway with this table of policies.
pub(crate) async fn gateway_with(table: &str) -> Gateway {
    let table = table.to_owned();
    Gateway::start_with(move |config| {
        config.channels.file = config.state_dir.with_file_name("channels.toml");
        std::fs::write(&config.channels.file, table).expect("written");
    })
    .await
}

pub(crate) async fn gateway() -> Gateway {
    gateway_with(TABLE).await
}

impl Client {
    /// The text of the next message.
    pub(crate) async fn text(&mut self) -> String {
        match self.message().await {
            Some(tokio_tungstenite::tungstenite::Message::Text(text)) => text.to_string(),
            other => panic!("no message but {other:?}"),
        }
    }

    pub(crate) async fn says(&mut self, message: Value) -> String {
        self.send(message.to_string()).await;
        self.text().await
    }

    /// Logged in as a user of the host.
    pub(crate) async fn is_user(&mut self, name: &str) {
        let token = format!("user.{name}.signed");
        let told = self.says(json!({"action": "auth", "kind": "jwt", "token": token})).await;
        assert_eq!(told, format!(r#"{{"name":"subscribed","channel":"user","status":1,"pk":"{name}"}}"#));
    }

    /// The next reply is one to this: nothing came before.
    pub(crate) async fn hears_nothing(&mut self) {
        self.send("--heartbeat--").await;
        assert_eq!(self.text().await, "--heartbeat--");
    }
}

fn error(channel: &str, text: &str, code: u16) -> String {
    format!(r#"{{"channel":"{channel}","message":{{"error":"{text}","code":{code}}}}}"#)
}

/// To the byte, and with a fake authd for the logins: transcripts compare members in any order.
#[tokio::test]
async fn every_row_of_the_grammar_is_answered_as_it_says() {
    let gateway = gateway().await;
    let mut client = gateway.channels().await;
    for (message, expected) in [
        (
            json!({"action": "subscribe", "channel": "news"}),
            r#"{"name":"subscribed","channel":"news","status":1}"#,
        ),
        (
            json!({"action": "subscribe", "channel": "news", "pk": 3}),
            r#"{"name":"subscribed","channel":"news","status":2,"pk":"3"}"#,
        ),
        (
            json!({"action": "subscribe", "channel": "news", "pk": "3"}),
            r#"{"name":"subscribed","channel":"news","status":2,"pk":"3"}"#,
        ),
        (
            json!({"action": "publish", "channel": "news", "pk": 3, "message": {"a": [1]}}),
            r#"{"channel":"news","pk":"3","message":{"a":[1]}}"#,
        ),
        (
            json!({"action": "publish", "channel": "news", "pk": null, "message": null}),
            r#"{"channel":"news","message":null}"#,
        ),
        (
            json!({"action": "publish", "channel": "news", "pk": 4, "message": 1, "id": {"x": 1}}),
            r#"{"id":{"x":1},"name":"published","channel":"news"}"#,
        ),
        (
            json!({"action": "unsubscribe", "channel": "news", "pk": 3}),
            r#"{"name":"unsubscribed","channel":"news","status":1,"pk":"3"}"#,
        ),
        (
            json!({"action": "unsubscribe", "channel": "news", "pk": 3}),
            r#"{"name":"unsubscribed","channel":"news","status":1,"pk":"3"}"#,
        ),
        (
            json!({"action": "subscribe", "channel": "hall"}),
            &error("hall", "subscribe permission denied", 403),
        ),
        (
            json!({"action": "publish", "channel": "hall", "message": 1}),
            &error("hall", "publish permission denied", 403),
        ),
        (
            json!({"action": "status", "channel": "hall", "x": 1}),
            &error("hall", "channel does not support onWS4RedisMessage", 404),
        ),
        (
            json!({"action": "auth", "kind": "jwt", "token": "user.alice.forged"}),
            &error("system", "invalid credentials", 401),
        ),
        (
            json!({"action": "auth", "kind": "token", "token": "x"}),
            &error("system", "invalid credentials", 401),
        ),
        (
            json!({"action": "auth", "kind": "nobody", "token": "x"}),
            &error("system", "invalid auth kind", 400),
        ),
        (json!({"action": "auth", "kind": "a b"}), &error("system", "invalid auth kind", 400)),
        (
            json!({"action": "auth", "kind": "terminal", "token": "x", "channel": "c"}),
            &error("c", "invalid credentials", 401),
        ),
        (
            json!({"action": "auth", "kind": "password", "username": "alice", "password": "x"}),
            &error("system", "invalid credentials", 401),
        ),
        (
            json!({"action": "auth", "kind": "password", "username": "alice", "password": ""}),
            &error("system", "invalid credentials", 401),
        ),
        (
            json!({"action": "auth", "kind": "password", "username": 1, "password": ""}),
            &error("system", "bad message", 400),
        ),
        (json!({"action": "auth"}), &error("system", "bad message", 400)),
        (json!({"action": "subscribe"}), &error("system", "bad message", 400)),
        (json!({"action": "subscribe", "channel": "a:b"}), &error("system", "bad message", 400)),
        (json!({"action": "subscribe", "channel": "news", "pk": "a:b"}), &error("news", "bad message", 400)),
        (json!({"action": "subscribe", "channel": "news", "pk": true}), &error("news", "bad message", 400)),
        (json!({"action": "publish", "channel": "news"}), &error("news", "bad message", 400)),
        (json!({"action": "a b", "channel": "news"}), &error("news", "bad message", 400)),
        (json!({"action": 1, "channel": "news"}), &error("system", "bad message", 400)),
        (json!({"channel": "news"}), &error("system", "bad message", 400)),
        (json!([1]), &error("system", "bad message", 400)),
        (json!({"action": "resubscribe", "channels": [{"pk": 1}]}), &error("system", "bad message", 400)),
    ] {
        assert_eq!(client.says(message.clone()).await, expected, "{message}");
    }
    client.send("{").await;
    assert_eq!(client.text().await, error("system", "bad message", 400));
    client.send(r#"{"action":"subscribe","action":"x","channel":"news"}"#).await;
    assert_eq!(client.text().await, error("system", "bad message", 400));
    let resubscribe = json!({"action": "resubscribe", "channels": [
        {"channel": "news"}, {"channel": "hall", "pk": "1"}, {"channel": "news", "pk": 9},
    ]});
    assert_eq!(client.says(resubscribe).await, r#"{"name":"subscribed","channel":"news","status":1}"#);
    assert_eq!(client.text().await, error("hall", "subscribe permission denied", 403));
    assert_eq!(client.text().await, r#"{"name":"subscribed","channel":"news","status":2,"pk":"9"}"#);
    client.hears_nothing().await;
}

#[tokio::test]
async fn every_kind_of_login_is_told_by_ones_own_channel() {
    let gateway = gateway().await;
    let alice = r#"{"name":"subscribed","channel":"user","status":1,"pk":"alice"}"#;
    let (_kept, token) = gateway.alice().await;
    for credentials in [
        json!({"action": "auth", "kind": "jwt", "token": "user.alice.signed"}),
        json!({"action": "auth", "kind": "jwt", "token": token}),
        json!({"action": "auth", "kind": "token", "token": token}),
        json!({"action": "auth", "kind": "password", "username": "alice", "password": "wonderland"}),
    ] {
        assert_eq!(gateway.channels().await.says(credentials.clone()).await, alice, "{credentials}");
    }
    let mut thing = gateway.channels().await;
    let own = r#"{"name":"subscribed","channel":"terminal","status":1,"pk":"t-7"}"#;
    let credentials = json!({"action": "auth", "kind": "terminal", "token": "t-7", "n": [1]});
    assert_eq!(thing.says(credentials).await, own);
    let told = gateway.authd.received("begin").pop().expect("a login");
    assert_eq!(told.about, r#"terminal {"n":[1],"token":"t-7"}"#, "without what the gateway read");
    let mut carol = gateway.channels().await;
    let asked =
        carol.says(json!({"action": "auth", "kind": "password", "username": "carol", "password": "first"}));
    let asked: Value = serde_json::from_str(&asked.await).expect("JSON");
    assert_eq!(asked["message"]["prompts"][1], json!({"style": "hidden", "text": "Code: "}));
    let conversation = &asked["message"]["conversation"];
    let answer =
        json!({"action": "auth", "kind": "password", "conversation": conversation, "answers": ["424242"]});
    assert_eq!(carol.says(answer).await, r#"{"name":"subscribed","channel":"user","status":1,"pk":"carol"}"#);
}

#[tokio::test]
async fn the_longest_jwt_fits_a_message_before_a_login() {
    let gateway = gateway().await;
    let mut client = gateway.channels().await;
    for (length, asked) in [(8_000, 1), (8_001, 0)] {
        let token = format!("user.{}.forged", "a".repeat(length - "user..forged".len()));
        let told = client.says(json!({"action": "auth", "kind": "jwt", "token": token})).await;
        assert_eq!(told, error("system", "invalid credentials", 401));
        let begun = gateway.authd.received("begin");
        assert_eq!(begun.iter().filter(|begun| begun.about == token).count(), asked, "{length}");
    }
}

#[tokio::test]
async fn both_dialects_are_spoken_on_one_connection_with_one_session() {
    let gateway = gateway().await;
    let (mut client, _) = gateway.alice().await;
    assert_eq!(
        client.says(json!({"action": "subscribe", "channel": "hall"})).await,
        r#"{"name":"subscribed","channel":"hall","status":1}"#
    );
    assert_eq!(client.query().await, 0);
    // What is neither keeps its answer; on a path of channels it has the other one.
    let neither = client.call("{}").await;
    assert_eq!(neither["args"]["code"], 400, "{neither}");
    let mut other = gateway.channels().await;
    assert_eq!(other.query().await, 401);
    other.is_user("alice").await;
    assert_eq!(other.query().await, 403, "the JWT's entries reach no further");
    let with_both = r#"{"action":"subscribe","namespace":"rpc","name":"identify","id":1}"#;
    assert_eq!(other.call(with_both).await["name"], "response");
    let clear = r#"{"namespace":"rpc","name":"auth_clear","id":1,"args":{"reply":true}}"#;
    assert_eq!(client.call(clear).await, json!({"name": "unsubscribed", "channel": "hall", "status": 0}));
    assert_eq!(client.reply().await["name"], "response", "what was this session's is over before it says so");
}

#[tokio::test]
async fn b6_1_nobody_publishes_where_it_is_not_allowed() {
    let gateway = gateway().await;
    let mut alice = gateway.channels().await;
    alice.is_user("alice").await;
    let mut nobody = gateway.channels().await;
    let forged = json!({"action": "publish", "channel": "user", "pk": "alice", "message": {"name": "logout", "pk": 7}});
    assert_eq!(nobody.says(forged.clone()).await, error("user", "publish permission denied", 403));
    let elsewhere = json!({"action": "publish", "channel": "unmapped", "message": 1});
    assert_eq!(nobody.says(elsewhere).await, error("unmapped", "publish permission denied", 403));
    nobody.is_user("mallory").await;
    assert_eq!(nobody.says(forged).await, error("user", "publish permission denied", 403));
    alice.hears_nothing().await;
}

#[tokio::test]
async fn b6_2_resubscribe_is_checked_before_and_after_a_login() {
    let gateway = gateway_with("[channels.user]\npublish = \"member\"").await;
    let mut mallory = gateway.channels().await;
    let resubscribe = json!({"action": "resubscribe", "channels": [{"channel": "user", "pk": "alice"}]});
    let refused = error("user", "subscribe permission denied", 403);
    assert_eq!(mallory.says(resubscribe.clone()).await, refused);
    mallory.is_user("mallory").await;
    assert_eq!(mallory.says(resubscribe).await, refused);
    let mut bob = gateway.channels().await;
    bob.is_user("bob").await;
    let told = json!({"action": "publish", "channel": "user", "pk": "alice", "message": 1, "id": 1});
    assert_eq!(bob.says(told).await, r#"{"id":1,"name":"published","channel":"user"}"#);
    mallory.hears_nothing().await;
}

#[tokio::test]
async fn b6_3_no_payload_closes_anybody() {
    let gateway = gateway().await;
    let mut reader = gateway.channels().await;
    reader.says(json!({"action": "subscribe", "channel": "news"})).await;
    let mut writer = gateway.channels().await;
    for payload in
        [json!(5), json!([1]), json!(true), json!("q"), Value::Null, json!({}), json!(""), json!("\u{0}")]
    {
        writer.send(json!({"action": "publish", "channel": "news", "message": payload}).to_string()).await;
        assert_eq!(reader.reply().await, json!({"channel": "news", "message": payload}));
    }
    // What some readers cannot read is passed on to nobody.
    for payload in [r#""\ud800""#, "1e400", r#"{"a":["\udc00\ud800"]}"#] {
        writer.send(format!(r#"{{"action":"publish","channel":"news","message":{payload}}}"#)).await;
        assert_eq!(writer.text().await, error("news", "bad message", 400), "{payload}");
    }
    for payload in [&b"\xff\x00\xfe"[..], b"{", b"", b"null", b"\"", b"[[[[", br#"["\ud800"]"#, b"1e400"] {
        let at = doorward_gateway::call::Address {
            channel: doorward_gateway::call::ChannelName::parse("news").expect("a name"),
            pk: None,
            facility: doorward_gateway::call::Facility::default(),
        };
        gateway.hub.deliver(&at, payload).expect("small");
        let told = reader.reply().await;
        assert_eq!(told["channel"], "news", "{payload:?}");
        if payload != b"null" {
            assert_eq!(told["message"], String::from_utf8_lossy(payload).as_ref(), "{payload:?}");
        }
    }
    writer.hears_nothing().await;
}

#[tokio::test]
async fn b6_6_who_is_logged_out_elsewhere_is_closed_at_once() {
    let gateway = gateway().await;
    let (mut other, token) = gateway.alice().await;
    let mut client = gateway.channels().await;
    client.says(json!({"action": "auth", "kind": "token", "token": token})).await;
    gateway.authd.end(&token, EndReason::Revoked);
    assert_eq!(client.text().await, error("system", "session revoked", 401));
    assert_eq!(client.closed().await, (4003, "session ended".to_owned()));
    assert_eq!(other.reply().await["args"]["reason"], "revoked");
    assert_eq!(other.closed().await.0, 1000, "as ever on other paths");
}

#[tokio::test]
async fn b6_7_another_identity_takes_nothing_over_and_a_failed_login_changes_nothing() {
    let gateway = gateway().await;
    let mut client = gateway.channels().await;
    client.says(json!({"action": "subscribe", "channel": "news"})).await;
    let login = |name: &str| json!({"action": "auth", "kind": "jwt", "token": format!("user.{name}.signed")});
    let told = client.says(login("alice")).await;
    assert_eq!(
        told, r#"{"name":"subscribed","channel":"user","status":2,"pk":"alice"}"#,
        "news is for anyone"
    );
    client.says(json!({"action": "subscribe", "channel": "hall"})).await;
    assert_eq!(
        client.says(json!({"action": "auth", "kind": "jwt", "token": "a.b.c"})).await,
        error("system", "invalid credentials", 401)
    );
    let told = json!({"action": "publish", "channel": "hall", "message": 1});
    assert_eq!(
        client.says(told.clone()).await,
        r#"{"channel":"hall","message":1}"#,
        "still alice, still there"
    );
    // The same identity keeps what it has.
    assert_eq!(
        client.says(login("alice")).await,
        r#"{"name":"subscribed","channel":"user","status":3,"pk":"alice"}"#
    );
    // Another has nothing of it.
    let mut heard = vec![client.says(json!({"action": "auth", "kind": "terminal", "token": "t-1"})).await];
    for _ in 0..3 {
        heard.push(client.text().await);
    }
    assert_eq!(
        heard,
        [
            r#"{"name":"unsubscribed","channel":"hall","status":2}"#,
            r#"{"name":"unsubscribed","channel":"news","status":1}"#,
            r#"{"name":"unsubscribed","channel":"user","status":0,"pk":"alice"}"#,
            r#"{"name":"subscribed","channel":"terminal","status":1,"pk":"t-1"}"#,
        ]
    );
    let mut other = gateway.channels().await;
    other.is_user("bob").await;
    other.send(told.to_string()).await;
    other.hears_nothing().await;
    client.hears_nothing().await;
}

#[tokio::test]
async fn b6_9_a_fault_is_told_without_its_inside() {
    let gateway = gateway().await;
    let mut client = gateway.channels().await;
    for (reason, text, code) in [
        ("Fault", "internal error", 500),
        ("Unavailable", "service unavailable", 503),
        ("TimedOut", "request timeout", 408),
        ("TooMany", "too many requests", 429),
    ] {
        let login = json!({"action": "auth", "kind": "password", "username": format!("reason-{reason}"), "password": "x"});
        assert_eq!(client.says(login).await, error("system", text, code));
    }
}

#[tokio::test]
async fn b6_10_identities_without_a_name_share_no_channel() {
    let gateway = gateway().await;
    let mut one = gateway.channels().await;
    one.says(json!({"action": "auth", "kind": "terminal", "token": "t-1"})).await;
    for (channel, pk) in
        [("terminal", json!("t-2")), ("terminal", Value::Null), ("user", json!("t-1")), ("user", Value::Null)]
    {
        assert_eq!(
            one.says(json!({"action": "subscribe", "channel": channel, "pk": pk})).await,
            error(channel, "subscribe permission denied", 403)
        );
    }
}

#[tokio::test]
async fn b6_11_what_anyone_may_hear_can_be_published() {
    let gateway = gateway().await;
    let mut client = gateway.channels().await;
    let told = json!({"action": "publish", "channel": "news", "message": "x", "id": null});
    assert_eq!(client.says(told).await, r#"{"id":null,"name":"published","channel":"news"}"#);
}

#[tokio::test]
async fn b6_13_credentials_in_the_path_are_not_read_unless_root_says_so() {
    let gateway = gateway().await;
    let url = "ws://localhost/ws/events?token=user.alice.signed";
    let mut client = Client::over(gateway.unix_stream().await, url).await.expect("a WebSocket");
    client.hears_nothing().await;
    assert_eq!(client.query().await, 401);
    assert!(gateway.authd.received("begin").is_empty());
    let gateway = Gateway::start_with(|config| {
        config.url_credentials.insert("token".to_owned(), "jwt".to_owned());
    })
    .await;
    let mut client = Client::over(gateway.unix_stream().await, url).await.expect("a WebSocket");
    assert_eq!(client.text().await, r#"{"name":"subscribed","channel":"user","status":1,"pk":"alice"}"#);
    let wrong = "ws://localhost/ws/events?token=x";
    let mut client = Client::over(gateway.unix_stream().await, wrong).await.expect("a WebSocket");
    assert_eq!(client.text().await, error("system", "invalid credentials", 401));
}

#[tokio::test]
async fn credentials_in_the_path_of_which_nothing_can_come_are_refused_at_once() {
    let gateway = Gateway::start_with(|config| {
        config.url_credentials.insert("token".to_owned(), "token".to_owned());
    })
    .await;
    let url = "ws://localhost/ws/events?token=x";
    let mut client = Client::over(gateway.unix_stream().await, url).await.expect("a WebSocket");
    // The client is looked at again after some seconds, whatever it does.
    let told = tokio::time::timeout(Duration::from_secs(7), client.text()).await.expect("it is told");
    assert_eq!(told, error("system", "invalid credentials", 401));
    assert!(gateway.authd.received("begin").is_empty());
}

#[tokio::test]
async fn a_token_for_channels_alone_is_no_key_to_the_rest() {
    let gateway = gateway().await;
    let mut client = gateway.channels().await;
    client.is_user("alice").await;
    let mut things = gateway.channels().await;
    things.says(json!({"action": "auth", "kind": "terminal", "token": "t-1"})).await;
    assert_eq!(things.query().await, 403);
    assert_eq!(things.code("events", "subscribe", r#""auth""#).await, 403);
}

#[tokio::test]
async fn before_each_delivery_the_session_is_known_to_live() {
    let gateway = gateway().await;
    gateway.authd.set_rights(Duration::ZERO);
    let (_kept, token) = gateway.alice().await;
    let mut client = gateway.channels().await;
    client.says(json!({"action": "auth", "kind": "token", "token": token})).await;
    client.says(json!({"action": "subscribe", "channel": "hall"})).await;
    gateway.authd.end_silently(&token);
    let at = doorward_gateway::call::Address {
        channel: doorward_gateway::call::ChannelName::parse("hall").expect("a name"),
        pk: None,
        facility: doorward_gateway::call::Facility::default(),
    };
    gateway.hub.deliver(&at, b"1").expect("small");
    assert_eq!(client.text().await, error("system", "session revoked", 401));
    assert_eq!(client.closed().await.0, 4003);
}
