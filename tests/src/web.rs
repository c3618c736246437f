//! A client of plain HTTP that sends what it is told to, and waits for what it was promised.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::cast::Person;
use crate::client::{PATIENCE, is_uuid4, raw_tls_on};
use crate::door::{Kind, connect_as, connect_tcp_as};
use crate::secrets;
use crate::stack::Stack;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// One connection.
pub struct Web(Box<dyn Stream>);

impl fmt::Debug for Web {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Web")
    }
}

/// Where the token API is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The listeners of everything, with TLS.
    Door,
    /// The token API's own, with TLS.
    Token,
    /// The token API's own, on loopback.
    Plain,
    /// The Unix socket.
    Unix,
}

/// One answer.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// By lower-case names; the last of each.
    pub headers: HashMap<String, String>,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The reason of the token API's form of an error, whose other fields are right.
    ///
    /// # Panics
    /// When it has another form.
    pub fn reason(&self) -> String {
        let body = self.json();
        assert_eq!(body["status_code"], json!(self.status), "{body}");
        assert!(body["timestamp"][0].as_f64().is_some_and(|seconds| seconds > 1e9), "{body}");
        assert_eq!(body.as_object().map(serde_json::Map::len), Some(3), "{body}");
        body["reason"][0].as_str().expect("a reason").to_owned()
    }

    /// The new token of an answer that has one, remembered as a secret.
    ///
    /// # Panics
    /// When it has none.
    pub fn token(&self) -> String {
        assert_eq!(self.status, 200, "{self:?}");
        let body = self.json();
        let token = body["data"]["token"].as_str().unwrap_or_else(|| panic!("no token: {body}"));
        assert!(is_uuid4(token), "{token:?} is no UUIDv4");
        secrets::register(token).to_owned()
    }
}

/// A name and a password as a header.
pub fn basic(user: &str, password: &str) -> String {
    let encoded = STANDARD.encode(format!("{user}:{password}"));
    format!("Authorization: Basic {encoded}\r\n")
}

/// The same of somebody of the cast; what is sent is remembered as a secret.
pub fn basic_of(person: &Person) -> String {
    let header = basic(&person.name, &person.password);
    secrets::register(header.trim_end().rsplit(' ').next().unwrap_or_default());
    header
}

/// A session's token as a header.
pub fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

impl Web {
    /// Connects.
    ///
    /// # Panics
    /// When that fails.
    pub async fn connect(stack: &Stack, way: Way) -> Self {
        let tcp = |address: String| async { TcpStream::connect(address).await.expect("a connection") };
        match way {
            Way::Door => Self::over_tls(stack, tcp(stack.tls_address().to_owned()).await).await,
            Way::Token => Self::over_tls(stack, tcp(stack.token_address().to_owned()).await).await,
            Way::Plain => Self(Box::new(tcp(stack.plain_token_address().to_owned()).await)),
            Way::Unix => {
                let path = stack.path("run/gateway.sock");
                Self(Box::new(UnixStream::connect(path).await.expect("the gateway's socket")))
            }
        }
    }

    /// Connects as another user of this host; `None`: it was closed at once.
    ///
    /// # Panics
    /// When there is no connection at all.
    pub async fn connect_as(stack: &Stack, way: Way, uid: u32) -> Option<Self> {
        let tcp = |address: &str| {
            let stream = std::net::TcpStream::from(connect_tcp_as(uid, address).expect("open to all"));
            stream.set_nonblocking(true).expect("a socket");
            TcpStream::from_std(stream).expect("a socket")
        };
        match way {
            Way::Door => Some(Self(Box::new(raw_tls_on(stack, tcp(stack.tls_address())).await.ok()?))),
            Way::Token => Some(Self(Box::new(raw_tls_on(stack, tcp(stack.token_address())).await.ok()?))),
            Way::Plain => Some(Self(Box::new(tcp(stack.plain_token_address())))),
            Way::Unix => {
                let path = stack.path("run/gateway.sock");
                Some(Self(Box::new(unix(
                    connect_as(uid, Kind::Stream, Path::new(&path)).expect("open to all"),
                ))))
            }
        }
    }

    async fn over_tls(stack: &Stack, tcp: TcpStream) -> Self {
        Self(Box::new(raw_tls_on(stack, tcp).await.expect("TLS")))
    }

    /// Asks, with a body if it is not empty.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn ask(&mut self, request: &str, headers: &str, body: &str) -> Answer {
        self.try_ask(request, headers, body).await.unwrap_or_else(|| panic!("closed: {request}"))
    }

    /// The same; `None`: the connection was closed before a whole answer came.
    ///
    /// # Panics
    /// When nothing comes in time, or it is not HTTP.
    pub async fn try_ask(&mut self, request: &str, headers: &str, body: &str) -> Option<Answer> {
        let length =
            if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let text = format!("{request} HTTP/1.1\r\nHost: localhost\r\n{headers}{length}\r\n{body}");
        self.send(&text).await;
        self.answer().await
    }

    /// Sends this, be it whole or not.
    pub async fn send(&mut self, text: &str) {
        // Whoever is refused may be closed before.
        let _ = self.0.write_all(text.as_bytes()).await;
    }

    /// The next answer. Its body is as long as the head says, whatever the method was: a client that does not
    /// know that HEAD has none waits for it, and would fail here. What says nothing of its length ends with the
    /// connection.
    async fn answer(&mut self) -> Option<Answer> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.byte().await?);
        }
        let head = String::from_utf8(head).expect("UTF-8");
        let mut lines = head.lines();
        let status = lines.next().expect("a status line")[9..12].parse().expect("a status");
        let pairs = lines.filter_map(|line| line.split_once(": "));
        let headers: HashMap<_, _> =
            pairs.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        let mut body = Vec::new();
        let reading = async {
            match headers.get("content-length") {
                _ if status == 204 => Ok(0),
                Some(length) => {
                    body.resize(length.parse().expect("a length"), 0);
                    self.0.read_exact(&mut body).await
                }
                None => self.0.read_to_end(&mut body).await,
            }
        };
        timeout(PATIENCE, reading).await.unwrap_or_else(|_| panic!("no end of a body: {head}")).ok()?;
        Some(Answer { status, headers, body: String::from_utf8(body).expect("UTF-8") })
    }

    async fn byte(&mut self) -> Option<u8> {
        let mut byte = [0];
        let read = timeout(PATIENCE, self.0.read(&mut byte)).await.expect("something in time");
        (read.unwrap_or(0) == 1).then_some(byte[0])
    }

    /// A token for somebody of the cast.
    ///
    /// # Panics
    /// When none is given.
    pub async fn issue(&mut self, person: &Person, body: &str) -> String {
        self.ask("POST /0.1/token", &basic_of(person), body).await.token()
    }

    /// What HEAD says of a token.
    pub async fn check(&mut self, token: &str, query: &str) -> u16 {
        self.ask(&format!("HEAD /0.1/token/{token}{query}"), "", "").await.status
    }
}

fn unix(descriptor: OwnedFd) -> UnixStream {
    let stream = std::os::unix::net::UnixStream::from(descriptor);
    let stream: io::Result<UnixStream> =
        stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream));
    stream.expect("a socket")
}
