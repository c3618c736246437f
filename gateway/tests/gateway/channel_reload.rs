//! Facilities, warnings, and a table of policies that changes.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::{
    channels::{TABLE, gateway, gateway_with},
    support::{Client, Gateway},
};

#[tokio::test]
async fn where_the_table_is_takes_a_restart() {
    let mut gateway = gateway().await;
    let there = gateway.config.channels.file.clone();
    let mut client = gateway.channels().await;
    client.is_user("alice").await;
    client.says(json!({"action": "subscribe", "channel": "hall"})).await;
    gateway.config.channels.file = there.with_file_name("elsewhere.toml");
    gateway.reload().await;
    std::fs::write(&gateway.config.channels.file, "").expect("written");
    gateway.reload().await;
    client.hears_nothing().await;
    std::fs::write(there, "").expect("written");
    gateway.reload().await;
    assert_eq!(client.text().await, r#"{"name":"unsubscribed","channel":"hall","status":1}"#);
}

#[tokio::test]
async fn who_may_hear_no_more_after_a_reload_is_told_at_once() {
    let gateway = gateway().await;
    let mut client = gateway.channels().await;
    client.is_user("alice").await;
    let mut nobody = gateway.channels().await;
    for reader in [&mut client, &mut nobody] {
        reader.says(json!({"action": "subscribe", "channel": "news"})).await;
    }
    client.says(json!({"action": "subscribe", "channel": "hall"})).await;
    std::fs::write(&gateway.config.channels.file, "[channels.news]\nsubscribe = \"member\"")
        .expect("written");
    gateway.reload().await;
    assert_eq!(client.text().await, r#"{"name":"unsubscribed","channel":"hall","status":2}"#);
    assert_eq!(nobody.text().await, r#"{"name":"unsubscribed","channel":"news","status":0}"#);
    client.hears_nothing().await;
    // One that is wrong changes nothing.
    std::fs::write(&gateway.config.channels.file, "[channels.news]\nsubscribe = \"all\"").expect("written");
    assert!(gateway.try_reload().await.is_err());
    let told = client.says(json!({"action": "subscribe", "channel": "news", "pk": 1})).await;
    assert_eq!(told, r#"{"name":"subscribed","channel":"news","status":3,"pk":"1"}"#);
    std::fs::write(&gateway.config.channels.file, TABLE).expect("written");
    gateway.reload().await;
    let told = nobody.says(json!({"action": "subscribe", "channel": "news"})).await;
    assert_eq!(told, r#"{"name":"subscribed","channel":"news","status":1}"#);
}

#[tokio::test]
async fn only_facilities_of_ours_are_served_and_each_is_by_itself() {
    let gateway = Gateway::start_with(|config| {
        config.channels.facilities = vec!["events".to_owned(), "other".to_owned()];
        config.channels.file = config.state_dir.with_file_name("channels.toml");
        std::fs::write(&config.channels.file, TABLE).expect("written");
    })
    .await;
    for path in ["unknown", "events/", "events/x", "a:b", "%65vents", "a b%20", &"x".repeat(65)] {
        let url = format!("ws://localhost/ws/{}", path.replace(' ', "%20"));
        let mut client = Client::over(gateway.unix_stream().await, &url).await.expect("101");
        let refused = r#"{"channel":"facility","message":{"error":"facility name not allowed","code":403}}"#;
        assert_eq!(client.text().await, refused, "{path}");
        assert_eq!(client.closed().await.0, 1001, "{path}");
    }
    let mut clients = Vec::new();
    for url in ["ws://localhost/ws/", "ws://localhost/", "ws://localhost/ws/other"] {
        let mut client = Client::over(gateway.unix_stream().await, url).await.expect("101");
        client.says(json!({"action": "subscribe", "channel": "news"})).await;
        clients.push(client);
    }
    let [first, second, third] = clients.as_mut_slice() else { panic!("three") };
    first.send(json!({"action": "publish", "channel": "news", "message": 1}).to_string()).await;
    for client in [first, second] {
        assert_eq!(client.text().await, r#"{"channel":"news","message":1}"#);
    }
    third.hears_nothing().await;
}

#[tokio::test]
async fn who_brings_no_credentials_is_warned_and_closed() {
    let gateway = Gateway::start_with(|config| config.timers.login_seconds = 9).await;
    let began = Instant::now();
    let mut client = gateway.channels().await;
    let warning = r#"{"channel":"member","message":{"error":"no credentials received","code":401}}"#;
    assert_eq!(client.text().await, warning);
    assert!(began.elapsed() >= Duration::from_millis(7_900), "{:?}", began.elapsed());
    assert_eq!(client.closed().await, (1001, "login timeout".to_owned()));
    assert!(began.elapsed() >= Duration::from_millis(8_900), "{:?}", began.elapsed());
}

#[tokio::test]
async fn without_a_table_there_is_nothing_but_ones_own() {
    let gateway = gateway_with("").await;
    let mut client = gateway.channels().await;
    client.is_user("alice").await;
    for channel in ["news", "hall", "group", "user"] {
        let refused = format!(
            r#"{{"channel":"{channel}","message":{{"error":"subscribe permission denied","code":403}}}}"#
        );
        assert_eq!(client.says(json!({"action": "subscribe", "channel": channel})).await, refused);
    }
}
