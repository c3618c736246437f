//! A client of plain HTTP that sends what it is told to, byte by byte.

use std::collections::HashMap;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::support::{Io, PATIENCE};

/// One connection.
pub(crate) struct Web(pub(crate) Io);

/// One answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// By lower-case names; the last of each.
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// Base64 of a name and a password, as a header.
pub(crate) fn basic(user: &str, password: &str) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("{user}:{password}")))
}

pub(crate) fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

impl Web {
    /// A request with a body, if it is one that has any.
    pub(crate) async fn ask(&mut self, request: &str, headers: &str, body: &str) -> Answer {
        self.begin(request, headers, body).await;
        self.answer(request.starts_with("HEAD")).await
    }

    /// The same, without waiting for the answer.
    pub(crate) async fn begin(&mut self, request: &str, headers: &str, body: &str) {
        let length =
            if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let text = format!("{request} HTTP/1.1\r\nHost: localhost\r\n{headers}{length}\r\n{body}");
        self.send(&text).await;
    }

    pub(crate) async fn send(&mut self, text: &str) {
        // Whoever is refused may be closed before.
        let _ = self.0.write_all(text.as_bytes()).await;
    }

    /// The next answer; `head`: to a request that is answered without a body.
    pub(crate) async fn answer(&mut self, head: bool) -> Answer {
        let mut read = Vec::new();
        while !read.ends_with(b"\r\n\r\n") {
            read.push(
                self.byte().await.unwrap_or_else(|| panic!("closed: {}", String::from_utf8_lossy(&read))),
            );
        }
        let text = String::from_utf8(read).expect("UTF-8");
        let mut lines = text.lines();
        let status = lines.next().expect("a status line")[9..12].parse().expect("a status");
        let pairs = lines.filter_map(|line| line.split_once(": "));
        let headers: HashMap<_, _> =
            pairs.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        let length = headers.get("content-length").map_or(0, |length| length.parse().expect("a length"));
        let mut body = vec![0; if head { 0 } else { length }];
        timeout(PATIENCE, self.0.read_exact(&mut body)).await.expect("in time").expect("the body");
        Answer { status, headers, body: String::from_utf8(body).expect("UTF-8") }
    }

    /// Whether it is closed without a word.
    pub(crate) async fn byte_or_end(&mut self) -> bool {
        self.send("GET /rpc/identify HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        self.byte().await.is_none()
    }

    /// None at the end.
    pub(crate) async fn byte(&mut self) -> Option<u8> {
        let mut byte = [0];
        let read = timeout(PATIENCE, self.0.read(&mut byte)).await.expect("something in time");
        (read.unwrap_or(0) == 1).then_some(byte[0])
    }
}
