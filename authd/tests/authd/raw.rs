//! Requests that are taken back at once, or never finished.

use crate::{
    bench::{Bench, PATIENCE, password},
    http2::{ACK, DATA, HEADERS, Head, PING, RESET, Raw},
};

const BEGIN: &str = "/doorward.authd.v1.Login/Begin";

#[tokio::test]
async fn a_gateway_whose_clients_leave_at_once_keeps_its_connection() {
    let bench = Bench::start(|_| ()).await;
    let mut raw = Raw::connect(&bench.config.socket.path).await;
    for request in 0..1000 {
        raw.request(2 * request + 1, BEGIN);
        raw.frame(RESET, 0, 2 * request + 1, &8_u32.to_be_bytes());
    }
    raw.frame(PING, 0, 0, b"are you?");
    raw.send().await;
    assert_eq!(raw.next_of(PING).await, Some(Head { kind: PING, flags: ACK, stream: 0 }));
}

#[tokio::test]
async fn requests_that_are_never_finished_are_few() {
    let bench = Bench::start(|_| ()).await;
    bench.pam_with_passwords();
    let mut raw = Raw::connect(&bench.config.socket.path).await;
    for request in 0..256 {
        raw.request(2 * request + 1, BEGIN);
        // A byte of the five in front of every message.
        raw.frame(DATA, 0, 2 * request + 1, &[0]);
    }
    // Answered in order, so whatever became of the requests is told before it.
    raw.frame(PING, 0, 0, b"are you?");
    raw.send().await;
    raw.next_of(PING).await.expect("alive");
    raw.request(513, BEGIN);
    raw.send().await;
    // Refused at once; the deadline of the others is far.
    let began = std::time::Instant::now();
    raw.next_of(HEADERS).await.expect("one is too many");
    assert!(began.elapsed() < PATIENCE / 4, "{:?}", began.elapsed());
    drop(raw);
    // Their places are free when their connection has ended.
    crate::bench::until(async || {
        let mut login = bench.login().await;
        login.begin(password(crate::bench::ONE, "alice", "pw")).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn one_uid_has_few_connections() {
    let bench = Bench::start(|_| ()).await;
    let mut held = Vec::new();
    for _ in 0..16 {
        let mut raw = Raw::connect(&bench.config.socket.path).await;
        raw.send().await;
        raw.next().await.expect("served");
        held.push(raw);
    }
    let mut one_more = Raw::connect(&bench.config.socket.path).await;
    // It may be closed already.
    let _ = one_more.try_send().await;
    assert_eq!(one_more.next().await, None);
}
