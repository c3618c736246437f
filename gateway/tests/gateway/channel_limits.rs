//! What one client can do to others: nothing. Bounds, slow readers, and names that reach for other keys.

use futures_util::StreamExt;
use serde_json::json;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use crate::{
    channels::{TABLE, gateway, gateway_over},
    redis_server::Redis,
    support::{Client, Gateway, PATIENCE},
};

#[tokio::test]
async fn after_256_subscriptions_there_is_no_other_but_ones_own() {
    let gateway = gateway().await;
    let mut client = gateway.channels().await;
    let all: Vec<_> = (0..256).map(|pk| json!({"channel": "news", "pk": pk})).collect();
    client.send(json!({"action": "resubscribe", "channels": all}).to_string()).await;
    for status in 1..=256 {
        assert_eq!(client.reply().await["status"], status);
    }
    let full = r#"{"channel":"news","message":{"error":"too many subscriptions","code":429}}"#;
    assert_eq!(client.says(json!({"action": "subscribe", "channel": "news"})).await, full);
    let told = client.says(json!({"action": "auth", "kind": "jwt", "token": "user.alice.signed"})).await;
    assert_eq!(told, r#"{"name":"subscribed","channel":"user","status":257,"pk":"alice"}"#);
    let more: Vec<_> = (0..257).map(|pk| json!({"channel": "news", "pk": pk})).collect();
    let bad = r#"{"channel":"system","message":{"error":"bad message","code":400}}"#;
    assert_eq!(client.says(json!({"action": "resubscribe", "channels": more})).await, bad);
    client.says(json!({"action": "unsubscribe", "channel": "news", "pk": 7})).await;
    client.says(json!({"action": "unsubscribe", "channel": "news", "pk": 8})).await;
    let told = client.says(json!({"action": "subscribe", "channel": "news"})).await;
    assert_eq!(told, r#"{"name":"subscribed","channel":"news","status":256}"#);
}

#[tokio::test]
async fn b6_12_whoever_publishes_without_end_is_refused_and_others_are_not() {
    let gateway = Gateway::start_with(|config| {
        config.limits.publishes = 10;
        config.channels.file = config.state_dir.with_file_name("channels.toml");
        std::fs::write(&config.channels.file, TABLE).expect("written");
    })
    .await;
    let mut flood = gateway.channels().await;
    for id in 0..400 {
        flood.send(json!({"action": "publish", "channel": "news", "message": 1, "id": id}).to_string()).await;
    }
    let mut refused = 0;
    for _ in 0..400 {
        let told = flood.reply().await;
        refused += u32::from(told["message"]["error"] == "too many messages");
    }
    assert!((1..=390).contains(&refused), "{refused}");
    let mut other = gateway.channels().await;
    let told = json!({"action": "publish", "channel": "news", "message": 1, "id": 1});
    assert_eq!(other.says(told).await, r#"{"id":1,"name":"published","channel":"news"}"#);
    // And what is larger than a message before a login may be is not taken.
    let large = json!({"action": "publish", "channel": "news", "message": "x".repeat(9 << 10)});
    let told = other.says(large).await;
    assert_eq!(told, r#"{"channel":"system","message":{"error":"message too large","code":413}}"#);
    assert_eq!(other.closed().await.0, 1009);
}

#[tokio::test]
async fn one_identity_publishes_no_more_by_many_connections_than_by_four() {
    let gateway = Gateway::start_with(|config| {
        config.limits.publishes = 1;
        config.channels.file = config.state_dir.with_file_name("channels.toml");
        std::fs::write(&config.channels.file, TABLE).expect("written");
    })
    .await;
    let publish = json!({"action": "publish", "channel": "news", "message": 1, "id": 1});
    let (published, refused) = (
        r#"{"id":1,"name":"published","channel":"news"}"#,
        r#"{"channel":"news","message":{"error":"too many messages","code":429}}"#,
    );
    // With a name and without one: each of them may say one thing in a second, all of them together four.
    for user in [Some("alice"), None] {
        let mut clients = Vec::new();
        for _ in 0..64 {
            let mut client = gateway.channels().await;
            if let Some(user) = user {
                client.is_user(user).await;
            }
            clients.push(client);
        }
        for client in &mut clients {
            client.send(publish.to_string()).await;
        }
        let mut told = [0; 2];
        for client in &mut clients {
            let text = client.text().await;
            let place = [published, refused].iter().position(|expected| *expected == text);
            told[place.unwrap_or_else(|| panic!("{text}"))] += 1;
        }
        assert!(told[0] >= 4 && told[1] > 0, "{user:?}: {told:?}");
    }
    let mut other = gateway.channels().await;
    other.is_user("dora").await;
    assert_eq!(other.says(publish).await, published, "others are not hindered");
}

#[tokio::test]
async fn names_that_reach_for_another_key_are_no_names() {
    let gateway = gateway().await;
    let mut client = gateway.channels().await;
    client.is_user("alice").await;
    for (channel, pk) in [
        (json!("group"), json!("7:events")),
        (json!("group:7"), json!(1)),
        (json!("user:bob:events"), serde_json::Value::Null),
        (json!("news\u{0}"), json!(1)),
        (json!("news"), json!("\n")),
        (json!("news"), json!("")),
        (json!("news"), json!("x".repeat(129))),
        (json!("news"), json!([1])),
        (json!(["news"]), json!(1)),
        (json!(""), json!(1)),
    ] {
        for action in ["subscribe", "unsubscribe", "publish", "status"] {
            let asked = json!({"action": action, "channel": channel, "pk": pk, "message": 1});
            let told: serde_json::Value =
                serde_json::from_str(&client.says(asked.clone()).await).expect("JSON");
            assert_eq!(told["message"], json!({"error": "bad message", "code": 400}), "{asked}");
        }
    }
    // Wildcards and words of the ACL language are pks like others.
    for pk in ["*", "#", "7.#", "me", "_", "%2A", "!7"] {
        let asked = json!({"action": "subscribe", "channel": "group", "pk": pk});
        let told = client.says(asked).await;
        assert_eq!(
            told, r#"{"channel":"group","message":{"error":"subscribe permission denied","code":403}}"#,
            "{pk}"
        );
    }
    let told = client.says(json!({"action": "subscribe", "channel": "group", "pk": 7})).await;
    assert_eq!(told, r#"{"name":"subscribed","channel":"group","status":2,"pk":"7"}"#);
}

#[tokio::test]
async fn whoever_logs_in_without_end_while_redis_is_silent_is_sent_away() {
    let Some(redis) = Redis::start() else { return };
    let gateway = gateway_over(&redis, |config| config.limits.in_flight = 4).await;
    let mut client = gateway.channels().await;
    redis.signal("STOP");
    let login = json!({"action": "auth", "kind": "jwt", "token": "user.alice.signed"}).to_string();
    // Not all at once: that would be too many in flight.
    for begun in 1..=8 {
        client.send(login.clone()).await;
        gateway.authd.received_at_least("begin", begun).await;
    }
    client.send(login).await;
    assert_eq!(client.closed().await, (1008, "too many logins".to_owned()));
    redis.signal("CONT");
}

#[tokio::test]
async fn a_slow_subscriber_among_a_thousand_holds_up_nobody_and_is_closed() {
    let gateway = Gateway::start_with(|config| {
        config.timers.write_seconds = 86_400;
        config.timers.login_seconds = 600;
        config.limits.publishes = 10_000;
        config.limits.connections_before_login = 4_096;
        config.limits.per_source = 4_096;
        config.channels.file = config.state_dir.with_file_name("channels.toml");
        std::fs::write(&config.channels.file, TABLE).expect("written");
    })
    .await;
    // At "/", where nobody is reminded of logging in.
    let mut slow = gateway.unix().await;
    slow.says(json!({"action": "subscribe", "channel": "news"})).await;
    let mut readers = Vec::new();
    for _ in 0..999 {
        let mut reader = gateway.unix().await;
        reader.says(json!({"action": "subscribe", "channel": "news"})).await;
        readers.push(reader);
    }
    let mut writer = gateway.channels().await;
    writer.is_user("alice").await;
    let message = json!({"n": 0, "pad": "x".repeat(60 << 10)});
    let publish = json!({"action": "publish", "channel": "news", "message": message}).to_string();
    let expected = json!({"channel": "news", "message": message});
    for round in 0..150 {
        writer.send(publish.clone()).await;
        // All of the first rounds, some of the others: it is the slow one that gets too much.
        let heard = if round < 2 { readers.len() } else { 3 };
        if round == 2 {
            readers.truncate(3);
        }
        for reader in readers.iter_mut().take(heard) {
            assert_eq!(reader.reply().await, expected);
        }
    }
    let closed = timeout(PATIENCE, async {
        let mut messages = 0;
        loop {
            match slow.0.next().await.expect("a close").expect("a frame") {
                Message::Close(frame) => return (messages, frame),
                _ => messages += 1,
            }
        }
    });
    let (messages, frame) = closed.await.expect("in time");
    let frame = frame.expect("a reason");
    assert_eq!((u16::from(frame.code), frame.reason.as_str()), (4008, "messages were not read"));
    assert!(messages < 150, "{messages}");
}

#[tokio::test]
async fn whoever_goes_leaves_no_place_taken() {
    let gateway = gateway().await;
    let at = doorward_gateway::call::Address {
        channel: doorward_gateway::call::ChannelName::parse("news").expect("a name"),
        pk: None,
        facility: doorward_gateway::call::Facility::default(),
    };
    let mut client: Client = gateway.channels().await;
    client.says(json!({"action": "subscribe", "channel": "news"})).await;
    assert!(gateway.hub.is_heard(&at));
    drop(client);
    crate::support::until(|| (!gateway.hub.is_heard(&at)).then_some(())).await;
    tokio::time::timeout(PATIENCE, gateway.stopped()).await.expect("it stops in time");
}
