//! What a connection hears when its session ends elsewhere, and when time ends it.

use std::time::{Duration, Instant};

use doorward_proto::authd::v1::EndReason;
use serde_json::json;

use crate::{
    subsystems::{World, request},
    support::{Gateway, auth, code, until},
    web::{Web, basic},
};

#[tokio::test]
async fn an_idle_session_leaves_its_connection_open() {
    let gateway = Gateway::start().await;
    let (mut client, token) = gateway.alice().await;
    assert_eq!(client.query().await, 0);
    gateway.authd.end(&token, EndReason::Idle);
    // The event and the query race; after the event it is 401 for ever.
    let mut code = 0;
    for _ in 0..10_000 {
        code = client.query().await;
        if code != 0 {
            break;
        }
    }
    assert_eq!(code, 401);
    client.log_in("alice", "wonderland").await;
    assert_eq!(client.query().await, 0);
}

#[tokio::test]
async fn the_end_of_a_session_is_told_and_closes() {
    let gateway = Gateway::start().await;
    for (reason, word) in [(EndReason::Expired, "expired"), (EndReason::Revoked, "revoked")] {
        let (mut client, token) = gateway.alice().await;
        let (mut other, _) = gateway.alice().await;
        gateway.authd.end(&token, reason);
        let expected = serde_json::json!({
            "namespace": "events", "name": "auth", "id": "", "args": {"reason": word, "seconds": 0},
        });
        assert_eq!(client.reply().await, expected);
        assert_eq!(client.closed().await, (1000, "session ended".to_owned()));
        assert_eq!(other.query().await, 0, "another session is not touched");
    }
}

#[tokio::test]
async fn who_does_not_log_in_is_sent_away() {
    let gateway = Gateway::start_with(|config| config.timers.login_seconds = 1).await;
    let mut client = gateway.tls().await;
    assert_eq!(client.code("rpc", "identify", "{}").await, 0);
    assert_eq!(client.closed().await, (1000, "login timeout".to_owned()));
}

#[tokio::test]
async fn the_login_clock_stands_still_while_authd_works() {
    let gateway = Gateway::start_with(|config| config.timers.login_seconds = 1).await;
    let mut slow = gateway.unix().await;
    slow.send(auth("slow", "x")).await;
    gateway.authd.received_at_least("begin", 1).await;
    // Another connection's clock runs out meanwhile.
    let mut idle = gateway.unix().await;
    assert_eq!(idle.closed().await.1, "login timeout");
    gateway.authd.let_go();
    assert_eq!(slow.reply().await["args"][1], 300);
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let gateway = Gateway::start_with(|config| config.timers.connection_idle_seconds = 1).await;
    let (mut client, _) = gateway.alice().await;
    assert_eq!(client.closed().await, (1000, "idle".to_owned()));
}

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
        (Duration::from_secs(2)..Duration::from_secs(6)).contains(&began.elapsed()),
        "{:?}",
        began.elapsed()
    );
    gateway.stopped().await;
    subsystem.hang(0).await;
}

#[tokio::test]
async fn a_replaced_session_is_dead_when_its_successor_is_told() {
    let gateway = Gateway::start().await;
    let (mut client, mut old) = gateway.alice().await;
    for _ in 0..50 {
        let new = client.log_in("alice", "wonderland").await;
        assert!(!gateway.authd.lives(&old) && gateway.authd.lives(&new));
        old = new;
    }
}

#[tokio::test]
async fn who_guesses_passwords_is_sent_away() {
    let gateway = Gateway::start().await;
    let mut client = gateway.tls().await;
    for _ in 0..10 {
        assert_eq!(crate::support::code(&client.call(auth("alice", "wrong")).await), 401);
    }
    assert_eq!(client.closed().await, (1008, "too many failed logins".to_owned()));
}

#[tokio::test]
async fn pings_without_a_pause_do_not_delay_the_login_timeout() {
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::Message;
    let gateway = Gateway::start_with(|config| config.timers.login_seconds = 1).await;
    let (mut write, mut read) = gateway.unix().await.0.split();
    let pinging = tokio::spawn(async move { while write.send(Message::Ping("p".into())).await.is_ok() {} });
    let closed = tokio::time::timeout(crate::support::PATIENCE, async {
        loop {
            match read.next().await {
                Some(Ok(Message::Close(frame))) => return frame.expect("a reason").reason.to_string(),
                Some(Ok(_)) => {}
                other => panic!("no close but {other:?}"),
            }
        }
    });
    assert_eq!(closed.await.expect("in time"), "login timeout");
    pinging.abort();
}
