//! What a connection hears when its session ends elsewhere, and when time ends it.

use doorward_proto::authd::v1::EndReason;

use crate::support::{Gateway, auth};

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
