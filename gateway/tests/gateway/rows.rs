//! Every row and every code, over both transports.

use crate::support::{Client, Gateway, code};
use futures_util::SinkExt;
use tokio_tungstenite::tungstenite::Message;

/// Runs the same over the Unix socket and over TLS.
async fn both<F: Future<Output = ()>>(gateway: &Gateway, test: impl Fn(Client) -> F) {
    test(gateway.unix().await).await;
    test(gateway.tls().await).await;
}

#[tokio::test]
async fn rows_without_a_session() {
    let gateway = Gateway::start().await;
    both(&gateway, async |mut client: Client| {
        let reply = client
            .call(r#"{"args":"","id":"sysadm_client_identify","name":"identify","namespace":"rpc"}"#)
            .await;
        assert_eq!(reply["args"]["type"], "server");
        assert!(!reply["args"]["hostname"].as_str().expect("a name").is_empty());
        assert_eq!(reply["name"], "response");
        assert_eq!(reply["id"], "sysadm_client_identify");
        for (namespace, name, args, expected) in [
            ("RPC", "Identify", "{}", 0),
            ("rpc", "query", "{}", 401),
            ("RPC", "QUERY", "[]", 401),
            ("rpc", "sessions", r#"{"action":"list"}"#, 401),
            ("events", "subscribe", r#""auth""#, 401),
            ("events", "unsubscribe", "7", 401),
            ("sysadm", "fs", "{}", 401),
            ("x", "y", "1", 401),
            ("rpc", "auth", r#"{"username":"alice","password":"wrong"}"#, 401),
            ("rpc", "auth", r#"{"username":"nobody","password":"x"}"#, 401),
            ("rpc", "auth", r#"{"username":1}"#, 400),
            ("rpc", "auth", r#""""#, 400),
            ("rpc", "auth_token", r#"{"token":"operator"}"#, 401),
            ("rpc", "auth_token", r#"{"token":"0af6c1a8-9c4d-4f0a-9a53-0123456789ab"}"#, 401),
            ("rpc", "auth_token", r#"{"token":1}"#, 400),
            ("rpc", "auth_respond", r#"{"conversation":"none","answers":["x"]}"#, 401),
            ("rpc", "auth_respond", "{}", 400),
            ("rpc", "auth_ssl", r#""""#, 0),
            ("rpc", "auth_ssl", r#"{"username":1}"#, 400),
            ("rpc", "auth_ssl", r#"{"encrypted_string":"?"}"#, 401),
            ("rpc", "settings", r#"{"action":"list_ssl_certs"}"#, 401),
            ("rpc", "settings", "1", 401),
            ("rpc", "auth_clear", r#"{"reply":true}"#, 0),
        ] {
            assert_eq!(client.code(namespace, name, args).await, expected, "{namespace}/{name} {args}");
        }
    })
    .await;
}

#[tokio::test]
async fn rows_with_a_session() {
    let gateway = Gateway::start().await;
    both(&gateway, async |mut client: Client| {
        let token = client.log_in("alice", "wonderland").await;
        let reply = client.call(r#"{"namespace":"rpc","name":"query","id":{"a":[1, 2]}}"#).await;
        assert_eq!(reply["args"], serde_json::json!({"rpc/logs": "read"}));
        assert_eq!(reply["id"], serde_json::json!({"a": [1, 2]}));
        for (namespace, name, args, expected) in [
            ("rpc", "identify", "{}", 0),
            ("rpc", "QUERY", "null", 0),
            ("rpc", "sessions", r#"{"action":"list"}"#, 0),
            ("RPC", "Sessions", r#"{"action":"LIST"}"#, 0),
            ("rpc", "sessions", r#"{"action":"close"}"#, 404),
            ("rpc", "sessions", r#"{"action":"end"}"#, 400),
            ("rpc", "sessions", r#"{"action":"end","session":"x"}"#, 404),
            ("rpc", "sessions", r#"{"action":"end","session":"0af6c1a8-9c4d-4f0a-9a53-0123456789ab"}"#, 404),
            ("rpc", "sessions", r#"{"action":"end_others"}"#, 0),
            ("sysadm", "sessions", r#"{"action":"list"}"#, 404),
            ("events", "subscribe", r#""auth""#, 0),
            ("Events", "SUBSCRIBE", r#"["auth","dispatcher"]"#, 0),
            ("events", "subscribe", r#""dispatcher""#, 400),
            ("events", "subscribe", "[]", 400),
            ("events", "subscribe", "{}", 400),
            ("events", "unsubscribe", r#""auth""#, 0),
            ("events", "unsubscribe", r#""dispatcher""#, 400),
            ("sysadm", "fs", "{}", 404),
            ("rpc", "auth_ssl", "{}", 0),
            ("rpc", "settings", r#"{"action":"list_ssl_certs"}"#, 404),
            ("rpc", "auth", r#"{"username":"alice","password":"wrong"}"#, 401),
            ("rpc", "query", "{}", 0),
        ] {
            assert_eq!(client.code(namespace, name, args).await, expected, "{namespace}/{name} {args}");
        }
        let again = format!(r#"{{"namespace":"rpc","name":"auth_token","args":{{"token":"{token}"}}}}"#);
        assert_eq!(client.call(again).await["args"], serde_json::json!([token, 300]));
        client.send(r#"{"namespace":"rpc","name":"auth_clear","id":"no reply to this"}"#).await;
        assert_eq!(client.query().await, 401);
    })
    .await;
}

#[tokio::test]
async fn whatever_is_no_request_is_answered_too() {
    let gateway = Gateway::start().await;
    both(&gateway, async |mut client: Client| {
        for (text, expected) in [
            ("", "the message is not JSON"),
            ("{", "the message is not JSON"),
            ("[]", "the message is not an object"),
            ("{}", "namespace is missing"),
            (r#"{"namespace":"rpc","name":7}"#, "name must be a string"),
        ] {
            let reply = client.call(text).await;
            assert_eq!(reply["args"]["message"], format!("Bad Request: {expected}"), "{text}");
            assert_eq!((&reply["namespace"], &reply["id"]), (&"rpc".into(), &"".into()));
        }
        client
            .0
            .send(Message::binary(&br#"{"namespace":"rpc","name":"identify","id":1}"#[..]))
            .await
            .expect("sent");
        assert_eq!(client.reply().await["id"], 1);
        client.0.send(Message::binary(&[0xff, 0xfe][..])).await.expect("sent");
        assert_eq!(code(&client.reply().await), 400);
        client.0.send(Message::Ping("are you there".into())).await.expect("sent");
        assert_eq!(client.code("rpc", "identify", "{}").await, 0);
    })
    .await;
}

#[tokio::test]
async fn each_failure_of_authd_has_its_code() {
    let gateway = Gateway::start().await;
    both(&gateway, async |mut client: Client| {
        for (reason, expected) in [
            ("BadRequest", 400),
            ("Unauthenticated", 401),
            ("Forbidden", 401),
            ("NotFound", 401),
            ("TooMany", 429),
            ("TimedOut", 408),
            ("Unavailable", 503),
            ("Fault", 500),
        ] {
            let args = format!(r#"{{"username":"reason-{reason}","password":"x"}}"#);
            assert_eq!(client.code("rpc", "auth", &args).await, expected, "{reason}");
        }
        let args = r#"{"namespace":"rpc","name":"auth","args":{"username":"reason-Fault","password":"x"}}"#;
        assert_eq!(client.call(args).await["args"]["message"], "Internal Server Error");
    })
    .await;
}

#[tokio::test]
async fn a_session_without_the_right_gets_403() {
    let gateway = Gateway::start().await;
    both(&gateway, async |mut client: Client| {
        client.log_in("bob", "builder").await;
        assert_eq!(client.query().await, 403);
        assert_eq!(client.code("rpc", "sessions", r#"{"action":"list"}"#).await, 403);
        assert_eq!(client.code("rpc", "sessions", r#"{"action":"end","session":7}"#).await, 403);
        assert_eq!(client.code("events", "subscribe", r#""auth""#).await, 403);
        assert_eq!(client.code("no", "such", "{}").await, 404);
    })
    .await;
}
