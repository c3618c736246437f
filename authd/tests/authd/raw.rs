//! HTTP/2 as no library speaks it: requests that are taken back at once, or never finished.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

use crate::bench::{Bench, PATIENCE, password};

const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const BEGIN: &str = "/doorward.authd.v1.Login/Begin";

/// Frames, written together, and the head of each that comes back.
struct Raw {
    socket: UnixStream,
    written: Vec<u8>,
}

#[derive(Debug, PartialEq)]
struct Head {
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Raw {
    async fn connect(bench: &Bench) -> Self {
        let socket = UnixStream::connect(&bench.config.socket.path).await.expect("connected");
        let mut raw = Self { socket, written: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec() };
        raw.frame(SETTINGS, 0, 0, &[]);
        raw
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
        self.written.extend_from_slice(&length[1..]);
        self.written.extend_from_slice(&[kind, flags]);
        self.written.extend_from_slice(&stream.to_be_bytes());
        self.written.extend_from_slice(payload);
    }

    /// The head of a request (RFC 7541: static table, literals not indexed), and no body.
    fn request(&mut self, stream: u32) {
        let mut block = vec![0x83, 0x86];
        let literal = |block: &mut Vec<u8>, name: &[u8], value: &str| {
            block.extend_from_slice(name);
            block.push(u8::try_from(value.len()).expect("short"));
            block.extend_from_slice(value.as_bytes());
        };
        literal(&mut block, &[0x04], BEGIN);
        literal(&mut block, &[0x01], "authd");
        literal(&mut block, &[0x0f, 0x10], "application/grpc");
        literal(&mut block, b"\x00\x02te", "trailers");
        self.frame(HEADERS, END_HEADERS, stream, &block);
    }

    async fn send(&mut self) {
        self.socket.write_all(&std::mem::take(&mut self.written)).await.expect("sent");
    }

    /// The next frame; None at the end of the connection.
    async fn next(&mut self) -> Option<Head> {
        let read = async {
            let mut head = [0; 9];
            self.socket.read_exact(&mut head).await.ok()?;
            let [a, b, c, kind, flags, stream @ ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            self.socket.read_exact(&mut payload).await.ok()?;
            Some(Head { kind, flags, stream: u32::from_be_bytes(stream) })
        };
        tokio::time::timeout(PATIENCE, read).await.expect("something comes")
    }

    /// The first frame of this kind, unless the connection ends before.
    async fn next_of(&mut self, kind: u8) -> Option<Head> {
        loop {
            let head = self.next().await?;
            if head.kind == kind {
                return Some(head);
            }
            assert_ne!(head.kind, GOAWAY, "the connection is given up");
        }
    }
}

#[tokio::test]
async fn a_gateway_whose_clients_leave_at_once_keeps_its_connection() {
    let bench = Bench::start(|_| ()).await;
    let mut raw = Raw::connect(&bench).await;
    for request in 0..1000 {
        raw.request(2 * request + 1);
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
    let mut raw = Raw::connect(&bench).await;
    for request in 0..256 {
        raw.request(2 * request + 1);
    }
    // Answered in order, so whatever became of the requests is told before it.
    raw.frame(PING, 0, 0, b"are you?");
    raw.send().await;
    raw.next_of(PING).await.expect("alive");
    raw.request(513);
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
        let mut raw = Raw::connect(&bench).await;
        raw.send().await;
        raw.next().await.expect("served");
        held.push(raw);
    }
    let mut one_more = Raw::connect(&bench).await;
    // It may be closed already.
    let _ = one_more.socket.write_all(&std::mem::take(&mut one_more.written)).await;
    assert_eq!(one_more.next().await, None);
}
