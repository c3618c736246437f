//! Whose subscriptions are, when sessions change faster than anything is carried out; and what becomes of sessions that
//! nobody can take up.

use serde_json::json;

use futures_util::future::join_all;

use crate::{
    channels::{TABLE, gateway, gateway_with},
    support::{Client, until},
    web::{Web, basic},
};

const CLEAR: &str = r#"{"namespace":"rpc","name":"auth_clear","id":1,"args":{"reply":true}}"#;

#[tokio::test]
async fn what_was_decided_for_one_session_is_not_done_for_nobody() {
    let gateway = gateway_with(&format!("{TABLE}\n[channels.board]\nsubscribe = \"anyone\"")).await;
    let mut client = gateway.channels().await;
    // All three are handled at once when the login is answered.
    client
        .send(json!({"action": "auth", "kind": "password", "username": "slow", "password": "x"}).to_string())
        .await;
    client.send(json!({"action": "subscribe", "channel": "group", "pk": 3}).to_string()).await;
    let all = json!([{"channel": "group", "pk": 4}, {"channel": "hall"}]);
    client.send(json!({"action": "resubscribe", "channels": all}).to_string()).await;
    client.send(CLEAR).await;
    client.hears_nothing().await;
    gateway.authd.let_go();
    assert_eq!(client.text().await, r#"{"channel":"system","message":{"name":"logged in","code":200}}"#);
    for channel in ["group", "group", "hall"] {
        let refused = json!({"error": "subscribe permission denied", "code": 403});
        assert_eq!(client.reply().await, json!({"channel": channel, "message": refused}));
    }
    assert_eq!(client.reply().await["name"], "response");
    let mut alice = gateway.channels().await;
    alice
        .says(json!({"action": "auth", "kind": "password", "username": "alice", "password": "wonderland"}))
        .await;
    let told = json!({"action": "publish", "channel": "group", "pk": 3, "message": 1, "id": 1});
    assert_eq!(alice.says(told).await, r#"{"id":1,"name":"published","channel":"group"}"#);
    client.hears_nothing().await;
    let told = client.says(json!({"action": "subscribe", "channel": "board"})).await;
    assert_eq!(told, r#"{"name":"subscribed","channel":"board","status":1}"#, "nothing else is there");
}

#[tokio::test]
async fn the_same_identity_with_fewer_rights_keeps_what_these_allow() {
    let gateway = gateway().await;
    let mut client = gateway.channels().await;
    client
        .says(json!({"action": "auth", "kind": "password", "username": "alice", "password": "wonderland"}))
        .await;
    for (pk, status) in [(3, 2), (7, 3)] {
        let told = client.says(json!({"action": "subscribe", "channel": "group", "pk": pk})).await;
        assert_eq!(
            told,
            format!(r#"{{"name":"subscribed","channel":"group","status":{status},"pk":"{pk}"}}"#)
        );
    }
    let told = client.says(json!({"action": "auth", "kind": "jwt", "token": "user.alice.signed"})).await;
    assert_eq!(told, r#"{"name":"unsubscribed","channel":"group","status":2,"pk":"3"}"#);
    assert_eq!(client.text().await, r#"{"name":"subscribed","channel":"user","status":2,"pk":"alice"}"#);
}

#[tokio::test]
async fn a_session_of_channels_ends_with_its_connection() {
    let gateway = gateway().await;
    let (_kept, token) = gateway.alice().await;
    let mut other = gateway.channels().await;
    other.says(json!({"action": "auth", "kind": "token", "token": token})).await;
    for _ in 0..3 {
        let mut client = gateway.channels().await;
        client.is_user("alice").await;
    }
    drop(other);
    let ended = until(|| Some(gateway.authd.received("end")).filter(|ended| ended.len() >= 3)).await;
    assert!(ended.iter().all(|ended| ended.about != token), "it can be taken up again");
    assert!(gateway.authd.lives(&token));
    let mut last = gateway.channels().await;
    last.is_user("alice").await;
    let (_directory, authd) = gateway.stopped().await;
    assert_eq!(authd.received("end").len(), 4, "a gateway that stops ends them, too");
    assert!(authd.lives(&token));
}

/// Takes the session up; a connection that has it is told so.
async fn takes_up(client: &mut Client, token: &str) {
    let told = client.says(json!({"action": "auth", "kind": "token", "token": token})).await;
    assert_eq!(told, r#"{"name":"subscribed","channel":"user","status":1,"pk":"alice"}"#);
}

/// As after a second login of somebody who is to be the only one.
async fn loses_it(client: &mut Client) {
    let told = r#"{"channel":"system","message":{"error":"session revoked","code":401}}"#;
    assert_eq!(client.text().await, told);
    assert_eq!(client.closed().await, (4003, "session ended".to_owned()));
}

#[tokio::test]
async fn a_session_that_one_may_hold_at_a_time_passes_to_whoever_takes_it_up_last() {
    let gateway = gateway().await;
    let (mut elsewhere, token) = gateway.alice().await;
    gateway.authd.only_one(&token);
    let (mut first, mut second) = (gateway.channels().await, gateway.channels().await);
    takes_up(&mut first, &token).await;
    takes_up(&mut second, &token).await;
    loses_it(&mut first).await;
    // Whoever has it takes it from nobody: by taking it up again, and by requests.
    takes_up(&mut second, &token).await;
    second.hears_nothing().await;
    // On another path the words are those of that path.
    takes_up(&mut elsewhere, &token).await;
    loses_it(&mut second).await;
    let mut third = gateway.channels().await;
    takes_up(&mut third, &token).await;
    assert_eq!(elsewhere.reply().await["args"]["reason"], "revoked");
    assert_eq!(elsewhere.closed().await.0, 1000);
    // It lives all the while, and goes on without any of them.
    drop(third);
    let mut fourth = gateway.channels().await;
    takes_up(&mut fourth, &token).await;
    assert!(gateway.authd.lives(&token) && gateway.authd.received("end").is_empty());
}

#[tokio::test]
async fn of_many_that_take_it_up_at_once_exactly_one_stays() {
    let gateway = gateway().await;
    let (_kept, token) = gateway.alice().await;
    gateway.authd.only_one(&token);
    let takers = (0..6).map(async |_| {
        let mut client = gateway.channels().await;
        takes_up(&mut client, &token).await;
        client
    });
    let mut left = Vec::new();
    for mut client in join_all(takers).await {
        client.send("--heartbeat--").await;
        if client.text().await == "--heartbeat--" {
            left.push(client);
        }
    }
    gateway.authd.take_up_elsewhere(&token, true);
    assert_eq!(left.len(), 1);
    loses_it(&mut left[0]).await;
}

#[tokio::test]
async fn what_another_gateway_takes_up_is_lost_here_also_if_that_was_not_told() {
    let gateway = gateway().await;
    let (_kept, token) = gateway.alice().await;
    gateway.authd.only_one(&token);
    let mut client = gateway.channels().await;
    takes_up(&mut client, &token).await;
    gateway.authd.take_up_elsewhere(&token, true);
    loses_it(&mut client).await;
    // While nothing was told.
    let mut client = gateway.channels().await;
    takes_up(&mut client, &token).await;
    gateway.authd.fall_silent();
    gateway.authd.take_up_elsewhere(&token, false);
    gateway.authd.speak();
    loses_it(&mut client).await;
    // And by the answer to a question that the connection's own request asks.
    gateway.authd.set_rights(std::time::Duration::ZERO);
    let mut client = gateway.channels().await;
    takes_up(&mut client, &token).await;
    gateway.authd.take_up_elsewhere(&token, false);
    client.send(json!({"action": "subscribe", "channel": "hall"}).to_string()).await;
    loses_it(&mut client).await;
}

#[tokio::test]
async fn a_token_of_the_token_api_is_held_on_when_ends_are_told_again() {
    let gateway = gateway().await;
    let mut web = Web(gateway.tls_stream().await);
    let issued = web.ask("POST /0.1/token", &basic("alice", "wonderland"), "{}").await.json();
    let token = issued["data"]["token"].as_str().expect("a token").to_owned();
    let mut client = gateway.channels().await;
    takes_up(&mut client, &token).await;
    let looked = gateway.authd.received("check").len();
    gateway.authd.fall_silent();
    gateway.authd.speak();
    gateway.authd.received_at_least("check", looked + 1).await;
    client.hears_nothing().await;
    assert!(client.says(json!({"action": "subscribe", "channel": "hall"})).await.contains("subscribed"));
}
