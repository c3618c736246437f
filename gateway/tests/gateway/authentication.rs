//! Logging in, taking up, replacing and giving back sessions.

use std::time::Duration;

use crate::support::{Client, Gateway, auth, code};

fn take_up(token: &str) -> String {
    format!(r#"{{"namespace":"rpc","name":"auth_token","id":"t","args":{{"token":"{token}"}}}}"#)
}

fn respond(conversation: &str, answers: &str) -> String {
    format!(
        r#"{{"namespace":"rpc","name":"auth_respond","id":"r","args":{{"conversation":"{conversation}","answers":{answers}}}}}"#
    )
}

#[tokio::test]
async fn a_conversation_goes_on_until_it_is_over() {
    let gateway = Gateway::start().await;
    let mut client = gateway.tls().await;
    let reply = client.call(auth("carol", "first")).await;
    let prompts =
        serde_json::json!([{"style": "info", "text": "Welcome"}, {"style": "hidden", "text": "Code: "}]);
    assert_eq!(reply["args"]["prompts"], prompts);
    let conversation = reply["args"]["conversation"].as_str().expect("a name").to_owned();

    let mut other = gateway.tls().await;
    assert_eq!(code(&other.call(respond(&conversation, r#"["424242"]"#)).await), 401, "it is not theirs");
    let reply = client.call(respond(&conversation, "[]")).await;
    assert_eq!(reply["args"]["message"], "Bad Request: answers: one is wanted");
    let reply = client.call(respond(&conversation, r#"["424242"]"#)).await;
    assert_eq!(reply["args"][1], 300, "{reply}");
    assert_eq!(client.query().await, 0);
    assert_eq!(code(&client.call(respond(&conversation, r#"["424242"]"#)).await), 401, "it is over");

    let begun = gateway.authd.received("begin");
    let answered = gateway.authd.received("respond");
    assert_eq!(begun[0].connection, answered[1].connection);
    assert_ne!(answered[0].connection, answered[1].connection);
}

#[tokio::test]
async fn a_client_that_leaves_its_conversation_is_reported() {
    let gateway = Gateway::start().await;
    let mut client = gateway.unix().await;
    client.call(auth("carol", "first")).await;
    drop(client);
    let abandoned = gateway.authd.received_at_least("abandon", 1).await;
    assert_eq!(abandoned[0].connection, gateway.authd.received("begin")[0].connection);

    let mut client = gateway.unix().await;
    client.send(auth("slow", "x")).await;
    gateway.authd.received_at_least("begin", 2).await;
    drop(client);
    gateway.authd.received_at_least("abandon", 2).await;
}

#[tokio::test]
async fn the_local_user_needs_no_password() {
    let gateway = Gateway::start().await;
    let uid = doorward_launch::Identity::current().uid;
    for args in [
        "{}".to_owned(),
        format!(r#"{{"username":"uid-{uid}","password":""}}"#),
        r#"{"username":""}"#.to_owned(),
    ] {
        let mut client = gateway.unix().await;
        assert_eq!(client.code("rpc", "auth", &args).await, 0, "{args}");
        assert_eq!(client.query().await, 0);
    }
    let mut client = gateway.unix().await;
    assert_eq!(client.code("rpc", "auth", r#"{"username":"somebody"}"#).await, 401);
    let asked = gateway.authd.received("peer");
    let begun = gateway.authd.received("begin");
    assert_eq!(asked.len(), 4);
    for (asked, begun) in asked.iter().zip(&begun) {
        assert_eq!((&asked.about, &asked.connection), (&format!("uid-{uid}"), &begun.connection));
    }
}

#[tokio::test]
async fn authd_is_told_where_a_login_comes_from() {
    let gateway = Gateway::start().await;
    let uid = Some(doorward_launch::Identity::current().uid);
    gateway.unix().await.log_in("alice", "wonderland").await;
    gateway.tls().await.log_in("alice", "wonderland").await;
    let told: Vec<_> = gateway.authd.received("source").into_iter().map(|call| call.about).collect();
    let on_loopback = if cfg!(target_os = "linux") { uid } else { None };
    assert_eq!(told, [format!(" {uid:?}"), format!("127.0.0.1 {on_loopback:?}")]);
}

#[tokio::test]
async fn an_empty_password_is_for_local_users_alone() {
    let gateway = Gateway::start().await;
    for (name, of_unix, of_tls) in [
        ("X-Forwarded-For", "192.0.2.1", "192.0.2.1"),
        ("Via", "1.1 proxy", "1.1 proxy"),
        ("Forwarded", "", ""),
        ("X-Real-IP", "127.0.0.1", "127.0.0.1"),
        // A page of its own.
        ("Origin", "http://localhost", "https://localhost:443"),
    ] {
        let (stream, headers) = (gateway.unix_stream().await, [(name, of_unix)]);
        let client = Client::with_headers(stream, "ws://localhost/", &headers).await;
        let (stream, headers) = (gateway.tls_stream().await, [(name, of_tls)]);
        let other = Client::with_headers(stream, "ws://localhost/", &headers).await;
        for client in [client, other] {
            let mut client = client.expect("a WebSocket");
            for args in ["{}", r#"{"username":"alice"}"#, r#"{"username":"alice","password":""}"#] {
                assert_eq!(client.code("rpc", "auth", args).await, 401, "{name} {args}");
            }
        }
    }
    assert!(gateway.authd.received("begin").is_empty() && gateway.authd.received("peer").is_empty());
    let headers = [("Origin", "sysadm-client")];
    let stream = gateway.unix_stream().await;
    let mut client = Client::with_headers(stream, "ws://localhost/", &headers).await.expect("a WebSocket");
    assert_eq!(client.code("rpc", "auth", "{}").await, 0);
    let stream = gateway.tls_stream().await;
    let mut client = Client::with_headers(stream, "ws://localhost/", &headers).await.expect("a WebSocket");
    assert_eq!(client.code("rpc", "auth", "{}").await, if cfg!(target_os = "linux") { 0 } else { 401 });
}

#[tokio::test]
async fn a_token_is_good_on_any_connection_while_the_session_lives() {
    let gateway = Gateway::start().await;
    let (mut first, token) = gateway.alice().await;
    let mut second = gateway.tls().await;
    let reply = second.call(take_up(&token)).await;
    assert_eq!(reply["args"], serde_json::json!([token, 300]));
    assert_eq!((first.query().await, second.query().await), (0, 0));

    first.send(r#"{"namespace":"rpc","name":"auth_clear","args":""}"#).await;
    let told = second.reply().await;
    assert_eq!((&told["namespace"], &told["name"]), (&"events".into(), &"auth".into()));
    assert_eq!(told["args"], serde_json::json!({"reason": "revoked", "seconds": 0}));
    assert_eq!(second.closed().await.0, 1000);
    assert_eq!(first.query().await, 401, "who cleared keeps the connection");
    assert_eq!(code(&first.call(take_up(&token)).await), 401);
}

#[tokio::test]
async fn a_new_login_ends_the_old_session_unless_another_connection_holds_it() {
    let gateway = Gateway::start().await;
    let (mut client, first) = gateway.alice().await;
    let mut holder = gateway.unix().await;
    assert_eq!(code(&holder.call(take_up(&first)).await), 0);

    let second = client.log_in("alice", "wonderland").await;
    assert_ne!(first, second);
    let third = client.log_in("alice", "wonderland").await;
    let ended = gateway.authd.received_at_least("end", 1).await;
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0].about, second);
    assert!(gateway.authd.lives(&first) && gateway.authd.lives(&third));
    assert_eq!((client.query().await, holder.query().await), (0, 0));
    assert_eq!(code(&client.call(auth("alice", "wrong")).await), 401);
    assert_eq!(client.query().await, 0, "a failure changes nothing");
}

#[tokio::test]
async fn clearing_is_done_even_if_the_client_leaves_at_once() {
    let gateway = Gateway::start().await;
    let (mut client, token) = gateway.alice().await;
    client.send(r#"{"namespace":"rpc","name":"auth_clear","args":""}"#).await;
    drop(client);
    gateway.authd.received_at_least("end", 1).await;
    assert!(!gateway.authd.lives(&token));
}

#[tokio::test]
async fn closing_a_connection_does_not_end_its_session() {
    let gateway = Gateway::start().await;
    let (client, token) = gateway.alice().await;
    drop(client);
    let mut client = gateway.tls().await;
    assert_eq!(code(&client.call(take_up(&token)).await), 0);
}

#[tokio::test]
async fn authd_hears_what_was_used() {
    let gateway = Gateway::start().await;
    gateway.authd.set_rights(Duration::ZERO);
    let (mut client, token) = gateway.alice().await;
    assert_eq!(client.query().await, 0);
    assert_eq!(client.query().await, 0);
    let checks = gateway.authd.received("check");
    let used: Vec<_> = checks.iter().map(|check| check.connection.as_str()).collect();
    assert_eq!(used, ["unused", "used"], "the second check tells of the first request");
    assert_eq!(gateway.authd.received_at_least("report", 1).await[0].about, token);
}
