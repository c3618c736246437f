//! Requests that are taken back at once, never finished, or slow, at both of certd's sockets.

use std::time::{Duration, Instant};

use doorward_proto::certd::v1::Entry;
use tonic::Code;

use crate::{
    fixture::{Fixture, PATIENCE, code, start},
    http2::{ACK, DATA, HEADERS, Head, PING, RESET, Raw},
    openssl::Key,
    store::not_root,
};

/// As much as a uid may leave unfinished.
const UNFINISHED: u32 = 256;
const DOORS: [(&str, &str); 2] = [
    ("certd.sock", "/doorward.certd.v1.Registry/Register"),
    ("authd.sock", "/doorward.certd.v1.Proofs/Verify"),
];

/// Whether certd answers at a door.
async fn answers(certd: &Fixture, door: &str) -> bool {
    match door {
        "certd.sock" => certd.gateway().await.challenge(&certd.as_user("alice"), "c").await.is_ok(),
        _ => certd.asker().await.try_challenge("c").await.is_ok(),
    }
}

async fn ping(raw: &mut Raw) {
    raw.frame(PING, 0, 0, b"are you?");
    raw.send().await;
    assert_eq!(raw.next_of(PING).await, Some(Head { kind: PING, flags: ACK, stream: 0 }));
}

#[tokio::test]
async fn a_peer_whose_clients_leave_at_once_keeps_its_connection() {
    let certd = start("").await;
    for (door, path) in DOORS {
        let mut raw = Raw::connect(&certd.socket(door)).await;
        for request in 0..1000 {
            raw.request(2 * request + 1, path);
            raw.frame(RESET, 0, 2 * request + 1, &8_u32.to_be_bytes());
        }
        ping(&mut raw).await;
        assert!(answers(&certd, door).await, "{door}");
    }
}

#[tokio::test]
async fn requests_that_are_never_finished_are_few_and_end_in_time() {
    let certd = start("").await;
    let mut held = Vec::new();
    for (door, path) in DOORS {
        let mut raw = Raw::connect(&certd.socket(door)).await;
        for request in 0..UNFINISHED {
            raw.request(2 * request + 1, path);
            // A byte of the five in front of every message.
            raw.frame(DATA, 0, 2 * request + 1, &[0]);
        }
        // Answered in order, so whatever became of the requests is told before it.
        ping(&mut raw).await;
        let one_too_many = 2 * UNFINISHED + 1;
        raw.request(one_too_many, path);
        raw.send().await;
        // Refused at once; the deadline of the others is far.
        let began = Instant::now();
        assert_eq!(raw.next_of(HEADERS).await.map(|head| head.stream), Some(one_too_many));
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert!(!answers(&certd, door).await, "a place was left at {door}");
        held.push((door, raw));
    }
    for (door, mut raw) in held {
        // A slow peer goes on; that gives it no time.
        raw.frame(DATA, 0, 1, &[0]);
        raw.send().await;
        let ended = raw.next_of(HEADERS).await.expect("an answer");
        assert!(ended.stream < 2 * UNFINISHED);
        until_it_answers(&certd, door).await;
    }
}

async fn until_it_answers(certd: &Fixture, door: &str) {
    let began = Instant::now();
    while !answers(certd, door).await {
        assert!(began.elapsed() < PATIENCE, "{door}");
        tokio::task::yield_now().await;
    }
}

/// An import is a stream: it may take longer than a request, and weigh more.
#[tokio::test]
async fn an_import_goes_on_while_the_operator_is_slow() {
    if not_root("an_import_goes_on_while_the_operator_is_slow") {
        return;
    }
    let certd = start("").await;
    let entry =
        |_| Entry { key: Key::ed25519().der(), user: "alice".into(), registered: 5, ..Entry::default() };
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let mut store = certd.store().await;
    let importing =
        tokio::spawn(
            async move { store.import(tokio_stream::wrappers::ReceiverStream::new(receiver)).await },
        );
    for number in 0..3 {
        sender.send(entry(number)).await.expect("taken");
    }
    drop(sender);
    let reply = importing.await.expect("no panic");
    assert_eq!(code(&reply), Code::Ok);
    assert_eq!(reply.expect("imported").into_inner().added, 3);
}
