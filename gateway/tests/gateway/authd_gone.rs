//! authd dies, comes back, or is somebody else.

use doorward_launch::Identity;

use crate::{
    fake_authd::FakeAuthd,
    support::{Client, Gateway, PATIENCE, auth, code},
};

/// Asks until the answer is another; gives the last one.
async fn query_until(client: &mut Client, unwanted: u64) -> u64 {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let code = client.query().await;
        if code != unwanted {
            return code;
        }
        assert!(tokio::time::Instant::now() < deadline, "still {unwanted}");
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_session_survives_and_everything_heals_by_itself() {
    let mut gateway = Gateway::start().await;
    let (mut client, _) = gateway.alice().await;
    let (mut gone, token) = gateway.alice().await;
    assert_eq!((client.query().await, gone.query().await), (0, 0));
    gateway.authd.kill().await;
    assert_eq!(query_until(&mut client, 0).await, 503);
    let mut fresh = gateway.tls().await;
    assert_eq!(code(&fresh.call(auth("alice", "wonderland")).await), 503);
    assert_eq!(fresh.code("rpc", "auth", "{}").await, 503, "loopback is asked about as well");
    assert_eq!(gateway.unix().await.code("rpc", "auth", "{}").await, 503, "the peer socket is gone too");
    assert_eq!(fresh.code("rpc", "identify", "{}").await, 0);
    assert_eq!(fresh.query().await, 401);

    gateway.authd.end_silently(&token);
    gateway.authd.resume();
    assert_eq!(query_until(&mut client, 503).await, 0, "the session lives");
    // This one ended unheard: it is told when the stream is back.
    assert_eq!(gone.reply().await["args"]["reason"], "revoked");
    assert_eq!(gone.closed().await, (1000, "session ended".to_owned()));
    fresh.log_in("alice", "wonderland").await;
    assert_eq!(fresh.query().await, 0);
    assert_eq!(gateway.unix().await.code("rpc", "auth", "{}").await, 0);
}

#[tokio::test]
async fn a_login_under_way_fails_when_authd_dies() {
    let mut gateway = Gateway::start().await;
    let mut client = gateway.unix().await;
    client.send(auth("slow", "x")).await;
    gateway.authd.received_at_least("begin", 1).await;
    gateway.authd.kill().await;
    assert_eq!(code(&client.reply().await), 503);
    gateway.authd.resume();
    client.log_in("alice", "wonderland").await;
}

#[tokio::test]
async fn logging_out_without_authd_is_said_to_have_failed() {
    let mut gateway = Gateway::start().await;
    let (mut client, _) = gateway.alice().await;
    gateway.authd.kill().await;
    assert_eq!(client.code("rpc", "auth_clear", r#"{"reply":true}"#).await, 503);
    assert_eq!(client.query().await, 401);
}

#[tokio::test]
async fn somebody_else_on_authds_sockets_is_told_nothing() {
    let directory = tempfile::TempDir::new().expect("a directory");
    let authd = FakeAuthd::start(directory.path());
    let gateway = Gateway::start_in(directory, authd, |config| {
        config.authd.user = (Identity::current().uid + 1).to_string();
    })
    .await;
    let mut client = gateway.unix().await;
    assert_eq!(code(&client.call(auth("alice", "wonderland")).await), 503);
    assert_eq!(client.code("rpc", "auth", "{}").await, 503);
    assert!(gateway.authd.received("begin").is_empty());
    assert!(gateway.authd.received("peer").is_empty());
}
