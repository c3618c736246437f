//! HTTP/2 as no library speaks it, for the tests of every daemon: requests that are taken back at once,
//! or never finished.

use std::{io, path::Path, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

/// No frame is waited for longer.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RESET: u8 = 3;
const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
const GOAWAY: u8 = 7;
pub(crate) const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// Frames, written together, and the head of each that comes back.
pub(crate) struct Raw {
    socket: UnixStream,
    written: Vec<u8>,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Head {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

impl Raw {
    pub(crate) async fn connect(socket: &Path) -> Self {
        let socket = UnixStream::connect(socket).await.expect("connected");
        let mut raw = Self { socket, written: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec() };
        raw.frame(SETTINGS, 0, 0, &[]);
        raw
    }

    pub(crate) fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
        self.written.extend_from_slice(&length[1..]);
        self.written.extend_from_slice(&[kind, flags]);
        self.written.extend_from_slice(&stream.to_be_bytes());
        self.written.extend_from_slice(payload);
    }

    /// The head of a request (RFC 7541: static table, literals not indexed), and no body.
    pub(crate) fn request(&mut self, stream: u32, path: &str) {
        let mut block = vec![0x83, 0x86];
        let literal = |block: &mut Vec<u8>, name: &[u8], value: &str| {
            block.extend_from_slice(name);
            block.push(u8::try_from(value.len()).expect("short"));
            block.extend_from_slice(value.as_bytes());
        };
        literal(&mut block, &[0x04], path);
        literal(&mut block, &[0x01], "service");
        literal(&mut block, &[0x0f, 0x10], "application/grpc");
        literal(&mut block, b"\x00\x02te", "trailers");
        self.frame(HEADERS, END_HEADERS, stream, &block);
    }

    pub(crate) async fn send(&mut self) {
        self.try_send().await.expect("sent");
    }

    pub(crate) async fn try_send(&mut self) -> io::Result<()> {
        self.socket.write_all(&std::mem::take(&mut self.written)).await
    }

    /// The next frame; None at the end of the connection.
    pub(crate) async fn next(&mut self) -> Option<Head> {
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
    pub(crate) async fn next_of(&mut self, kind: u8) -> Option<Head> {
        loop {
            let head = self.next().await?;
            if head.kind == kind {
                return Some(head);
            }
            assert_ne!(head.kind, GOAWAY, "the connection is given up");
        }
    }
}
