//! What becomes of clients, and of what they have asked for, when the gateway stops.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::{
    channels::gateway_over,
    redis_server::Redis,
    subsystems::{World, request},
    support::{Gateway, auth, code, until},
    web::{Web, basic},
};

#[tokio::test]
async fn when_the_gateway_stops_clients_are_told() {
    let gateway = Gateway::start().await;
    let (mut client, _) = gateway.alice().await;
    let path = gateway.unix.clone();
    gateway.stop();
    assert_eq!(client.closed().await, (1001, "shutting down".to_owned()));
    drop(client);
    gateway.stopped().await;
    until(|| std::os::unix::net::UnixStream::connect(&path).is_err().then_some(())).await;
}

/// Waits until authd works on so many logins that it does not answer.
async fn slow_logins(gateway: &Gateway, count: usize) {
    let slow = || gateway.authd.received("begin").iter().filter(|call| call.about == "slow").count();
    until(|| (slow() == count).then_some(())).await;
}

#[tokio::test]
async fn what_is_under_way_when_the_gateway_stops_is_answered() {
    let (world, subsystem) = World::with("a", "").await;
    subsystem.hold(true);
    let gateway = world.gateway;
    let (mut calling, _) = gateway.alice().await;
    calling.send(request("a", "1", &json!({"action": "wait"}))).await;
    calling.send(request("a", "2", &json!({"action": "wait"}))).await;
    let mut logging_in = gateway.tls().await;
    logging_in.send(auth("slow", "x")).await;
    let mut rest = Web(gateway.tls_stream().await);
    rest.begin("PUT /rpc/auth", "", r#"{"username":"slow","password":"x"}"#).await;
    slow_logins(&gateway, 2).await;
    subsystem.hang(2).await;
    let (mut idle, _) = gateway.alice().await;
    gateway.stop();
    // Whoever waits for nothing goes at once, while others are waited for.
    assert_eq!(idle.closed().await, (1001, "shutting down".to_owned()));
    // Nothing new is taken from them.
    calling.send(request("a", "3", &json!({"action": "wait"}))).await;
    subsystem.hold(false);
    gateway.authd.let_go();
    let ids = [calling.reply().await, calling.reply().await].map(|reply| reply["id"].clone());
    assert!(ids.contains(&json!("1")) && ids.contains(&json!("2")), "{ids:?}");
    assert_eq!(calling.closed().await, (1001, "shutting down".to_owned()));
    assert_eq!(logging_in.reply().await["args"][1], 300);
    assert_eq!(logging_in.closed().await, (1001, "shutting down".to_owned()));
    assert_eq!(rest.answer(false).await.status, 200);
    gateway.stopped().await;
    assert_eq!(subsystem.received().len(), 2, "the third was not begun");
}

#[tokio::test]
async fn what_does_not_end_when_the_gateway_stops_is_refused_in_time() {
    let (world, subsystem) = World::with("a", "").await;
    let gateway = world.gateway;
    let (mut calling, _) = gateway.alice().await;
    calling.send(request("a", "1", &json!({"action": "hang"}))).await;
    let mut logging_in = gateway.tls().await;
    logging_in.send(auth("slow", "x")).await;
    let mut rest = Web(gateway.tls_stream().await);
    rest.begin("PUT /rpc/auth", "", r#"{"username":"slow","password":"x"}"#).await;
    let mut token = Web(gateway.token_stream().await);
    token.begin("POST /0.1/token", &basic("slow", "x"), "{}").await;
    slow_logins(&gateway, 3).await;
    subsystem.hang(1).await;
    let began = Instant::now();
    gateway.stop();
    for client in [&mut calling, &mut logging_in] {
        assert_eq!(code(&client.reply().await), 503);
        assert_eq!(client.closed().await, (1001, "shutting down".to_owned()));
    }
    let (rest, token) = (rest.answer(false).await, token.answer(false).await);
    assert_eq!((rest.status, rest.json()["args"]["code"].clone()), (503, json!(503)));
    assert_eq!((token.status, token.json()["status_code"].clone()), (503, json!(503)));
    // 3 s, and some for a machine that is busy.
    assert!(
        (Duration::from_secs(2)..Duration::from_secs(15)).contains(&began.elapsed()),
        "{:?}",
        began.elapsed()
    );
    gateway.stopped().await;
    subsystem.hang(0).await;
}

#[tokio::test]
async fn a_login_that_waits_for_redis_is_answered_when_the_gateway_stops() {
    let Some(redis) = Redis::start() else { return };
    let gateway = gateway_over(&redis, |_| {}).await;
    let mut client = gateway.channels().await;
    redis.signal("STOP");
    client.send(json!({"action": "auth", "kind": "jwt", "token": "user.alice.signed"}).to_string()).await;
    gateway.authd.received_at_least("begin", 1).await;
    gateway.stop();
    redis.signal("CONT");
    assert_eq!(client.text().await, r#"{"name":"subscribed","channel":"user","status":1,"pk":"alice"}"#);
    assert_eq!(client.closed().await, (1001, "shutting down".to_owned()));
    gateway.stopped().await;
}
