//! Whose subscriptions are, when sessions change faster than anything is carried out; and what becomes of sessions that
//! nobody can take up.

use serde_json::json;

use crate::{
    channels::{TABLE, gateway, gateway_with},
    support::until,
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
