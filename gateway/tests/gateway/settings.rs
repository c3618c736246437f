//! `rpc/settings`: what certd is asked, and what clients hear of its answers.

use base64::{Engine, engine::general_purpose::STANDARD};
use doorward_launch::Identity;
use doorward_proto::certd::v1::Entry;
use serde_json::{Value, json};

use crate::{
    fake_authd::{FakeAuthd, hex},
    fake_certd::{FakeCertd, Received},
    support::{Client, Gateway, PATIENCE, code},
};

fn settings(args: &Value) -> String {
    json!({"namespace": "rpc", "name": "settings", "id": "s", "args": args}).to_string()
}

async fn settings_code(client: &mut Client, args: Value) -> u64 {
    let reply = client.call(settings(&args)).await;
    assert_eq!((&reply["id"], &reply["namespace"]), (&"s".into(), &"rpc".into()), "{reply}");
    code(&reply)
}

fn revoke(key: &str) -> Value {
    json!({"action": "revoke_ssl_cert", "pub_key": STANDARD.encode(key)})
}

fn entry(user: &str, key: &[u8]) -> Entry {
    Entry {
        key: key.to_vec(),
        fingerprint: vec![0; 32],
        user: user.to_owned(),
        nickname: format!("{user}'s"),
        registered: 1_795_319_222,
        proven: true,
        ..Entry::default()
    }
}

#[tokio::test]
async fn certd_is_listed_while_it_is_up() {
    let (gateway, mut certd) = Gateway::start_with_certd().await;
    let (mut client, _) = gateway.alice().await;
    let query = r#"{"namespace":"rpc","name":"query"}"#;
    assert_eq!(client.call(query).await["args"], json!({"rpc/settings": "read/write", "rpc/logs": "read"}));
    let mut bob = gateway.tls().await;
    bob.log_in("bob", "builder").await;
    assert_eq!(bob.query().await, 403, "bob may not even ask");
    certd.kill().await;
    gateway.certd_is(false).await;
    assert_eq!(client.call(query).await["args"], json!({"rpc/logs": "read"}));
    certd.resume();
    gateway.certd_is(true).await;
}

#[tokio::test]
async fn certd_may_come_later_and_go() {
    let (gateway, mut certd) = Gateway::start_with_certd().await;
    let (mut client, _) = gateway.alice().await;
    let list = json!({"action": "list_ssl_certs"});
    assert_eq!(settings_code(&mut client, list.clone()).await, 0);
    certd.kill().await;
    assert_eq!(settings_code(&mut client, list.clone()).await, 503);
    assert_eq!(settings_code(&mut client, revoke("k")).await, 503);
    assert_eq!(client.query().await, 0, "nothing else is hindered");
    certd.resume();
    assert_eq!(settings_code(&mut client, list).await, 0, "the next request tries again");
}

#[tokio::test]
async fn a_listing_is_what_clients_know() {
    let (gateway, certd) = Gateway::start_with_certd().await;
    let (mut client, _) = gateway.alice().await;
    for action in ["list_ssl_certs", "list_ssl_certificates"] {
        assert_eq!(client.call(settings(&json!({"action": action}))).await["args"], json!({}));
    }
    certd.put(entry("alice", &[1]));
    certd.put(entry("bob", &[2]));
    certd.put(Entry { revoked: Some(5), ..entry("alice", &[3]) });
    let reply = client.call(settings(&json!({"action": "list_ssl_certs"}))).await;
    let packed = STANDARD.encode("-----BEGIN PUBLIC KEY-----\nAQ==\n-----END PUBLIC KEY-----\n");
    let text = reply["args"]["alice"][&packed].as_str().expect("a text");
    assert!(
        text.starts_with("Nickname: alice's\nEmail: \nDate Registered: 2026-11-22T03:47:02Z\n"),
        "{text}"
    );
    assert_eq!(reply["args"]["alice"].as_object().expect("an object").len(), 1, "the revoked one is gone");
    assert_eq!(reply["args"].as_object().expect("an object").len(), 2);
    let reply = client.call(settings(&json!({"action": "list_ssl_checksums"}))).await;
    assert_eq!(reply["args"]["md5_keys"].as_array().expect("an array").len(), 2);
}

#[tokio::test]
async fn a_listing_that_is_too_large_is_413_and_no_harm() {
    let (gateway, certd) = Gateway::start_with_certd().await;
    let (mut client, _) = gateway.alice().await;
    // Each weighs 512 and twice its key; the last is one too many.
    let weight = 512 + 2 * 30_000 + 6 * (5 + 7);
    let most: usize = (16 << 20) / weight;
    for number in 0..most {
        let mut key = vec![0; 30_000];
        key[..8].copy_from_slice(&number.to_be_bytes());
        certd.put(entry("alice", &key));
    }
    let list = settings(&json!({"action": "list_ssl_certs"}));
    let reply = client.call(&*list).await;
    assert_eq!(reply["args"]["alice"].as_object().expect("an object").len(), most);
    certd.put(entry("alice", &[1; 30_000]));
    assert_eq!(code(&client.call(list).await), 413);
    assert_eq!(client.query().await, 0);
}

#[tokio::test]
async fn certd_is_asked_with_the_sessions_assertion_and_nothing_else() {
    let (gateway, certd) = Gateway::start_with_certd().await;
    let mut client = gateway.tls().await;
    client.log_in("alice", "wonderland").await;
    let challenge = client.call(settings(&json!({"action": "register_challenge"}))).await;
    let expected = json!({"test_string": "r".repeat(128), "context": "for registration"});
    assert_eq!(challenge["args"], expected);
    let register = json!({
        "action": "register_ssl_certificate", "pub_key": STANDARD.encode("key"), "proof": "AAEC",
        "certificate": STANDARD.encode("certificate"), "nickname": "n", "email": "e",
    });
    assert_eq!(client.call(settings(&register)).await["args"], json!({}));
    let revoke =
        json!({"action": "revoke_ssl_certificate", "pub_key": STANDARD.encode("key"), "user": "bob"});
    assert_eq!(client.call(settings(&revoke)).await["args"], json!({}));

    let received = certd.received();
    let [Received::Challenge(challenge), Received::Register(register), Received::Revoke(revoke)] =
        received.as_slice()
    else {
        panic!("{received:?}")
    };
    // One assertion serves all of them.
    let assertions = [&challenge.assertion, &register.assertion, &revoke.assertion];
    assert_eq!(assertions, ["alice certd 0"; 3]);
    assert_eq!(gateway.authd.received("assert").len(), 1);
    let fingerprint = STANDARD.decode(&gateway.fingerprint["SHA256:".len()..]).expect("base64");
    assert_eq!(hex(&challenge.server_key), hex(&fingerprint));
    assert_eq!(challenge.connection, gateway.authd.received("begin").pop().expect("begun").connection);
    assert_eq!(register.connection, challenge.connection);
    assert_eq!((&*register.public_key, &*register.certificate), (&b"key"[..], &b"certificate"[..]));
    assert_eq!((&*register.nickname, &*register.email, &*register.proof), ("n", "e", &[0, 1, 2][..]));
    assert!(register.loaded_key.is_empty());
    assert_eq!((&*revoke.public_key, &*revoke.user), (&b"key"[..], "bob"));
}

#[tokio::test]
async fn an_assertion_is_one_sessions_and_lives_as_long_as_it_is_good() {
    let (gateway, certd) = Gateway::start_with_certd().await;
    let list = json!({"action": "list_ssl_certs"});
    let assertions = |certd: &FakeCertd| -> Vec<String> {
        let lists = certd.received().into_iter().map(|call| match call {
            Received::List(list) => list.assertion,
            other => panic!("{other:?}"),
        });
        lists.collect()
    };
    let (mut alice, token) = gateway.alice().await;
    let mut bob = gateway.tls().await;
    bob.log_in("bob", "builder").await;
    // Another connection with alice's session shares it.
    let mut other = gateway.tls().await;
    let take_up = format!(r#"{{"namespace":"rpc","name":"auth_token","args":{{"token":"{token}"}}}}"#);
    assert_eq!(code(&other.call(take_up).await), 0);
    for client in [&mut alice, &mut bob, &mut other] {
        assert_eq!(settings_code(client, list.clone()).await, 0);
    }
    assert_eq!(settings_code(&mut alice, list.clone()).await, 0);
    assert_eq!(assertions(&certd), ["alice certd 0", "bob certd 1", "alice certd 0", "alice certd 0"]);
    // A new session of the same user has its own.
    alice.log_in("alice", "wonderland").await;
    assert_eq!(settings_code(&mut alice, list.clone()).await, 0);
    assert_eq!(assertions(&certd)[4], "alice certd 2");
    // One that is about to lapse is not kept.
    gateway.authd.set_assertion_valid(std::time::Duration::from_secs(2));
    alice.log_in("alice", "wonderland").await;
    for _ in 0..2 {
        assert_eq!(settings_code(&mut alice, list.clone()).await, 0);
    }
    assert_eq!(assertions(&certd)[5..], ["alice certd 3", "alice certd 4"]);
}

#[tokio::test]
async fn a_refused_assertion_is_asked_for_once_more() {
    let (gateway, certd) = Gateway::start_with_certd().await;
    let (mut client, _) = gateway.alice().await;
    let list = json!({"action": "list_ssl_certs"});
    assert_eq!(settings_code(&mut client, list.clone()).await, 0);
    certd.refuse("alice certd 0");
    assert_eq!(settings_code(&mut client, list.clone()).await, 0, "a new one is good");
    certd.refuse("alice");
    assert_eq!(settings_code(&mut client, list).await, 500, "it is no fault of the client's");
    assert_eq!(gateway.authd.received("assert").len(), 3);
    assert_eq!(client.query().await, 0, "the session is not touched");
}

#[tokio::test]
async fn a_session_that_has_ended_gets_no_assertion() {
    let (gateway, certd) = Gateway::start_with_certd().await;
    let (mut client, token) = gateway.alice().await;
    gateway.authd.end_silently(&token);
    assert_eq!(settings_code(&mut client, json!({"action": "list_ssl_certs"})).await, 401);
    assert!(certd.received().is_empty());
}

#[tokio::test]
async fn each_failure_of_certd_has_its_code() {
    let (gateway, _certd) = Gateway::start_with_certd().await;
    let (mut client, _) = gateway.alice().await;
    for (reason, expected) in [
        ("BadRequest", 400),
        ("Forbidden", 403),
        ("NotFound", 404),
        ("TooMany", 429),
        ("TimedOut", 408),
        ("Unavailable", 503),
        ("Fault", 500),
    ] {
        let key = format!("reason-{reason}");
        assert_eq!(settings_code(&mut client, revoke(&key)).await, expected, "{reason}");
        let register = json!({"action": "register_ssl_cert", "pub_key": STANDARD.encode(&key)});
        assert_eq!(settings_code(&mut client, register).await, expected, "{reason}");
    }
    let reply = client.call(settings(&revoke("reason-BadRequest"))).await;
    assert_eq!(reply["args"]["message"], "Bad Request: a sentence of a service");
}

#[tokio::test]
async fn actions_and_aliases_and_rights() {
    let (gateway, certd) = Gateway::start_with_certd().await;
    let (mut alice, _) = gateway.alice().await;
    for (namespace, name) in [("rpc", "settings"), ("sysadm", "settings"), ("Settings", "SysAdm")] {
        for (args, expected) in [
            (r#"{"action":"list_ssl_certs"}"#, 0),
            (r#"{"action":"LIST_SSL_CERTS"}"#, 0),
            (r#"{"action":"list"}"#, 404),
            (r#"{"action":"_"}"#, 404),
            ("{}", 400),
            (r#""""#, 400),
            (r#"{"action":"revoke_ssl_cert"}"#, 400),
            (r#"{"action":"revoke_ssl_cert","pub_key":"?"}"#, 400),
        ] {
            assert_eq!(alice.code(namespace, name, args).await, expected, "{namespace}/{name} {args}");
        }
    }
    let before = certd.received().len();
    let mut bob = gateway.unix().await;
    bob.log_in("bob", "builder").await;
    assert_eq!(settings_code(&mut bob, json!({"action": "list_ssl_certificates"})).await, 0);
    assert_eq!(settings_code(&mut bob, json!({"action": "list_ssl_checksums"})).await, 0);
    assert_eq!(settings_code(&mut bob, json!({"action": "register_challenge"})).await, 403);
    assert_eq!(settings_code(&mut bob, json!({"action": "register_ssl_cert"})).await, 403);
    assert_eq!(settings_code(&mut bob, revoke("k")).await, 403);
    assert_eq!(settings_code(&mut bob, json!({"action": "no such"})).await, 404);
    assert_eq!(certd.received().len(), before + 2);
}

#[tokio::test]
async fn a_slow_answer_stops_nobody_not_even_its_own_connection() {
    let (gateway, certd) = Gateway::start_with_certd().await;
    let (mut client, _) = gateway.alice().await;
    client.send(settings(&revoke("slow"))).await;
    certd.received_at_least(1).await;
    assert_eq!(client.query().await, 0, "a reply overtakes");
    assert_eq!(client.code("rpc", "settings", r#"{"action":"list_ssl_certs"}"#).await, 0);
    for _ in 0..31 {
        client.send(settings(&revoke("slow"))).await;
    }
    // A user has a quarter of the calls that certd is given at once; the rest of his wait here.
    certd.received_at_least(1 + 16).await;
    assert_eq!(
        client.code("rpc", "settings", r#"{"action":"list_ssl_certs"}"#).await,
        429,
        "32 are in flight"
    );
    assert_eq!(certd.received().len(), 1 + 16);
    assert_eq!(client.query().await, 0, "what keeps the session passes");
    certd.let_go();
    for _ in 0..32 {
        assert_eq!(code(&client.reply().await), 0);
    }
    assert_eq!(client.query().await, 0);
}

#[tokio::test]
async fn somebody_else_on_certds_socket_is_told_nothing() {
    let directory = tempfile::TempDir::new().expect("a directory");
    let (authd, certd) = (FakeAuthd::start(directory.path()), FakeCertd::start(directory.path()));
    let gateway = Gateway::start_in(directory, authd, |config| {
        config.certd.socket = certd.socket();
        config.certd.user = (Identity::current().uid + 1).to_string();
    })
    .await;
    gateway.authd.watched().await;
    let (mut client, _) = gateway.alice().await;
    assert_eq!(settings_code(&mut client, json!({"action": "list_ssl_certs"})).await, 503);
    let reply = client.call(r#"{"namespace":"rpc","name":"query"}"#).await;
    assert_eq!(reply["args"], json!({"rpc/logs": "read"}));
    assert!(certd.received().is_empty());
}

#[tokio::test]
async fn a_revoked_session_hears_no_answer_any_more() {
    let (gateway, certd) = Gateway::start_with_certd().await;
    let (mut client, token) = gateway.alice().await;
    client.send(settings(&revoke("slow"))).await;
    certd.received_at_least(1).await;
    gateway.authd.end(&token, doorward_proto::authd::v1::EndReason::Revoked);
    assert_eq!(client.reply().await["name"], "auth");
    assert_eq!(client.closed().await.0, 1000);
    certd.let_go();
    let rest = tokio::time::timeout(PATIENCE, client.message()).await.expect("it ends");
    assert!(rest.is_none(), "{rest:?}");
}
