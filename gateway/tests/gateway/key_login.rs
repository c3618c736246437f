//! `rpc/auth_ssl`: the challenge, the proof, and what authd is told of both.

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    fake_authd::hex,
    support::{Client, Gateway, code},
};

fn auth_ssl(args: &str) -> String {
    format!(r#"{{"namespace":"rpc","name":"auth_ssl","id":"k","args":{args}}}"#)
}

fn proof(signature: &str, hints: &str) -> String {
    auth_ssl(&format!(r#"{{"encrypted_string":"{}"{hints}}}"#, STANDARD.encode(signature)))
}

#[tokio::test]
async fn a_registered_key_logs_in() {
    let gateway = Gateway::start().await;
    for (mut client, server_key) in [
        (gateway.unix().await, String::new()),
        (
            gateway.tls().await,
            hex(&STANDARD.decode(&gateway.fingerprint["SHA256:".len()..]).expect("base64")),
        ),
    ] {
        let reply = client.call(auth_ssl(r#""""#)).await;
        let expected = serde_json::json!({"test_string": "s".repeat(128), "context": "a context"});
        assert_eq!(reply["args"], expected);
        let reply = client.call(proof("by alice", "")).await;
        assert_eq!(reply["args"][1], 300, "{reply}");
        assert_eq!(client.query().await, 0);
        let asked = gateway.authd.received("challenge").pop().expect("asked");
        let begun = gateway.authd.received("begin").pop().expect("begun");
        assert_eq!((asked.about, asked.connection), (server_key, begun.connection));
    }
}

#[tokio::test]
async fn hints_are_told_with_the_proof_and_not_before() {
    let gateway = Gateway::start().await;
    let mut client = gateway.tls().await;
    let hash = [7; 32];
    let hints = format!(r#","username":"alice","fingerprint":"SHA256:{}""#, STANDARD.encode(hash));
    assert_eq!(code(&client.call(auth_ssl(&format!("{{{}}}", &hints[1..]))).await), 0);
    assert_eq!(code(&client.call(proof("by alice", &hints)).await), 0);
    assert_eq!(gateway.authd.received("begin")[0].about, format!("alice {}", hex(&hash)));
}

#[tokio::test]
async fn a_proof_without_a_challenge_of_its_connection_is_401() {
    let gateway = Gateway::start().await;
    let mut first = gateway.tls().await;
    let mut second = gateway.tls().await;
    assert_eq!(code(&first.call(auth_ssl("{}")).await), 0);
    assert_eq!(code(&second.call(proof("by alice", "")).await), 401);
    assert_eq!(code(&first.call(proof("wrong", "")).await), 401);
    assert_eq!(code(&first.call(proof("by alice", "")).await), 401, "the challenge is used up");
    for args in [r#"{"encrypted_string":"?"}"#, r#"{"encrypted_string":"AAEC","fingerprint":"x"}"#] {
        let before = gateway.authd.received("begin").len();
        assert_eq!(code(&first.call(auth_ssl(args)).await), 401, "{args}");
        assert_eq!(gateway.authd.received("begin").len(), before, "authd is not asked");
    }
}

#[tokio::test]
async fn pipelined_stages_are_kept_in_order() {
    let gateway = Gateway::start().await;
    let mut client: Client = gateway.unix().await;
    client.send(auth_ssl("{}")).await;
    client.send(proof("by alice", "")).await;
    client.send(r#"{"namespace":"rpc","name":"query","id":"q"}"#).await;
    assert!(client.reply().await["args"].get("test_string").is_some());
    assert_eq!(client.reply().await["args"][1], 300);
    let last = client.reply().await;
    assert_eq!((&last["id"], code(&last)), (&"q".into(), 0));
}

#[tokio::test]
async fn without_authd_a_challenge_is_503() {
    let mut gateway = Gateway::start().await;
    let mut client = gateway.unix().await;
    gateway.authd.kill().await;
    assert_eq!(code(&client.call(auth_ssl("{}")).await), 503);
    gateway.authd.resume();
    assert_eq!(code(&client.call(auth_ssl("{}")).await), 0);
}
