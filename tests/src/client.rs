//! A WebSocket client of the gateway, over TLS or the Unix socket, as any local user.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::cast::Person;
use crate::door::{Kind, connect_as, connect_tcp_as};
use crate::keys::Key;
use crate::stack::Stack;
use crate::{secrets, tls};

/// How long any one reply may take; a failure, not a wait, when it is reached.
pub const PATIENCE: Duration = Duration::from_secs(20);

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// One connection.
pub struct Client {
    socket: WebSocketStream<Box<dyn Stream>>,
    sent: u64,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("sent", &self.sent).finish_non_exhaustive()
    }
}

/// What came from the gateway.
#[derive(Debug, Clone, PartialEq)]
pub enum Received {
    /// A text frame with JSON.
    Json(Value),
    /// A close frame with this code, or none; or the end of the stream.
    Closed(Option<u16>),
}

impl Client {
    /// Over TLS, the key pinned.
    ///
    /// # Panics
    /// When the connection fails.
    pub async fn tls(stack: &Stack) -> Self {
        Self::try_tls(stack).await.expect("a WebSocket over TLS")
    }

    /// The same, at this path.
    ///
    /// # Panics
    /// When the connection fails.
    pub async fn tls_at(stack: &Stack, path: &str) -> Self {
        let stream = raw_tls(stack, rustls::ALL_VERSIONS, None).await.expect("a TLS connection");
        let url = format!("wss://{}{path}", stack.tls_address());
        Self::upgrade(url, Box::new(stream)).await.expect("a WebSocket over TLS")
    }

    /// Over TLS, when that may fail.
    ///
    /// # Errors
    /// What went wrong at connecting, in the TLS handshake or in the upgrade.
    pub async fn try_tls(stack: &Stack) -> io::Result<Self> {
        let stream = raw_tls(stack, rustls::ALL_VERSIONS, None).await?;
        Self::upgrade(format!("wss://{}/", stack.tls_address()), Box::new(stream)).await
    }

    /// Over TLS with the certificate of a key of the client's own.
    ///
    /// # Panics
    /// When the connection fails.
    pub async fn tls_with(stack: &Stack, own: &Key) -> Self {
        Self::tls_with_of(stack, own, rustls::ALL_VERSIONS).await
    }

    /// The same, of one of these versions of TLS.
    ///
    /// # Panics
    /// When the connection fails.
    pub async fn tls_with_of(
        stack: &Stack,
        own: &Key,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Self {
        let stream = raw_tls(stack, versions, Some(own)).await.expect("a TLS connection");
        let url = format!("wss://{}/", stack.tls_address());
        Self::upgrade(url, Box::new(stream)).await.expect("a WebSocket over TLS")
    }

    /// Over TLS on a TCP connection that is there already, with these headers and perhaps a certificate.
    ///
    /// # Errors
    /// When the handshake or the upgrade fails.
    pub async fn tls_over(
        stack: &Stack,
        descriptor: OwnedFd,
        headers: &[(&'static str, &str)],
        own: Option<&Key>,
    ) -> io::Result<Self> {
        let stream = std::net::TcpStream::from(descriptor);
        stream.set_nonblocking(true)?;
        let stream = tls_on(stack, TcpStream::from_std(stream)?, rustls::ALL_VERSIONS, own).await?;
        let mut request =
            format!("wss://{}/", stack.tls_address()).into_client_request().map_err(io::Error::other)?;
        for (name, value) in headers {
            // In place of what the library says, where it says something.
            request.headers_mut().insert(*name, value.parse().map_err(io::Error::other)?);
        }
        let upgraded = timeout(PATIENCE, client_async(request, Box::new(stream) as Box<dyn Stream>)).await;
        let (socket, _) = upgraded.map_err(io::Error::other)?.map_err(io::Error::other)?;
        Ok(Self { socket, sent: 0 })
    }

    /// Over TLS on loopback as another user.
    ///
    /// # Panics
    /// When the connection fails.
    pub async fn tls_as(stack: &Stack, uid: u32) -> Self {
        let descriptor = connect_tcp_as(uid, stack.tls_address()).expect("the port is open to everybody");
        Self::tls_over(stack, descriptor, &[], None).await.expect("a WebSocket over TLS")
    }

    /// Over the Unix socket as the user who runs the tests.
    ///
    /// # Panics
    /// When the connection fails.
    pub async fn unix(stack: &Stack) -> Self {
        Self::unix_at(stack, "/").await
    }

    /// The same, at this path.
    ///
    /// # Panics
    /// When the connection fails.
    pub async fn unix_at(stack: &Stack, path: &str) -> Self {
        let stream = UnixStream::connect(stack.path("run/gateway.sock")).await.expect("the gateway's socket");
        let upgraded = Self::upgrade(format!("ws://localhost{path}"), Box::new(stream)).await;
        upgraded.expect("a WebSocket over the Unix socket")
    }

    /// Over the Unix socket as the user who runs the tests, with the word of a proxy that this is somebody else.
    ///
    /// # Errors
    /// When the gateway does not take it.
    pub async fn unix_from(stack: &Stack, client: &str) -> io::Result<Self> {
        let stream = UnixStream::connect(stack.path("run/gateway.sock")).await?;
        Self::upgrade(forwarded(client)?, Box::new(stream)).await
    }

    /// Over the Unix socket as another user.
    ///
    /// # Panics
    /// When the connection fails.
    pub async fn unix_as(stack: &Stack, uid: u32) -> Self {
        let descriptor = connect_as(uid, Kind::Stream, &stack.path("run/gateway.sock"))
            .expect("the gateway's socket is open to everybody");
        Self::unix_over(descriptor).await.expect("a WebSocket over the Unix socket")
    }

    /// Over the Unix socket as a proxy that runs as this user would connect for somebody.
    ///
    /// # Errors
    /// When the gateway does not take it.
    ///
    /// # Panics
    /// When there is no connection at all.
    pub async fn unix_for(stack: &Stack, uid: u32, client: &str) -> io::Result<Self> {
        let descriptor = connect_as(uid, Kind::Stream, &stack.path("run/gateway.sock"))
            .expect("the gateway's socket is open to everybody");
        let stream = std::os::unix::net::UnixStream::from(descriptor);
        stream.set_nonblocking(true)?;
        Self::upgrade(forwarded(client)?, Box::new(UnixStream::from_std(stream)?)).await
    }

    /// Over a connection that is there already.
    ///
    /// # Errors
    /// When the upgrade fails.
    pub async fn unix_over(descriptor: OwnedFd) -> io::Result<Self> {
        let stream = std::os::unix::net::UnixStream::from(descriptor);
        stream.set_nonblocking(true)?;
        Self::upgrade("ws://localhost/", Box::new(UnixStream::from_std(stream)?)).await
    }

    async fn upgrade(request: impl IntoClientRequest + Unpin, stream: Box<dyn Stream>) -> io::Result<Self> {
        let upgraded = timeout(PATIENCE, client_async(request, stream)).await.map_err(io::Error::other)?;
        let (socket, _) = upgraded.map_err(io::Error::other)?;
        Ok(Self { socket, sent: 0 })
    }

    /// Sends a text frame.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn try_send(&mut self, text: &str) -> io::Result<()> {
        self.try_message(Message::text(text)).await
    }

    /// Sends a text frame.
    ///
    /// # Panics
    /// When the connection is gone.
    pub async fn send(&mut self, text: &str) {
        self.try_send(text).await.expect("the connection is open");
    }

    /// Sends a binary frame.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn try_send_binary(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.try_message(Message::binary(bytes.to_vec())).await
    }

    async fn try_message(&mut self, message: Message) -> io::Result<()> {
        timeout(PATIENCE, self.socket.send(message))
            .await
            .map_err(io::Error::other)?
            .map_err(io::Error::other)
    }

    /// The next thing from the gateway.
    ///
    /// # Panics
    /// When nothing comes in time, or a frame is not JSON text.
    pub async fn receive(&mut self) -> Received {
        self.receive_within(PATIENCE).await.expect("something from the gateway in time")
    }

    /// The next thing from the gateway, if it comes in time.
    ///
    /// # Panics
    /// When a frame is not JSON text.
    pub async fn receive_within(&mut self, most: Duration) -> Option<Received> {
        loop {
            let received = match timeout(most, self.socket.next()).await.ok()? {
                Some(Ok(Message::Text(text))) => {
                    let value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
                    Received::Json(value)
                }
                Some(Ok(Message::Close(frame))) => Received::Closed(frame.map(|frame| frame.code.into())),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(other)) => panic!("unexpected frame: {other:?}"),
                None
                | Some(Err(
                    Error::ConnectionClosed | Error::AlreadyClosed | Error::Io(_) | Error::Protocol(_),
                )) => Received::Closed(None),
                Some(Err(e)) => panic!("{e}"),
            };
            return Some(received);
        }
    }

    /// The next message, which must be JSON.
    ///
    /// # Panics
    /// When the connection was closed.
    pub async fn json(&mut self) -> Value {
        match self.receive().await {
            Received::Json(value) => value,
            Received::Closed(code) => panic!("closed with {code:?}"),
        }
    }

    /// Sends a request and takes the next message, which must answer it; its `args` and whether it
    /// is an error.
    ///
    /// # Panics
    /// When anything else comes.
    pub async fn ask(&mut self, name: &str, args: Value) -> Result<Value, u64> {
        let id = self.request(name, args).await;
        let reply = self.json().await;
        assert_eq!(reply["id"], json!(id), "{reply}");
        outcome(&reply)
    }

    /// The same with a server that may go away at any time: None when it did so before it answered.
    ///
    /// # Panics
    /// When anything else comes than the answer.
    pub async fn try_ask(&mut self, name: &str, args: Value) -> Option<Result<Value, u64>> {
        let id = self.try_request(name, args).await.ok()?;
        let Received::Json(reply) = self.receive().await else { return None };
        assert_eq!(reply["id"], json!(id), "{reply}");
        Some(outcome(&reply))
    }

    /// Sends a request `namespace/name` and returns its id.
    ///
    /// # Panics
    /// When the connection is gone.
    pub async fn request(&mut self, name: &str, args: Value) -> String {
        self.try_request(name, args).await.expect("the connection is open")
    }

    /// The same, when the connection may be gone.
    ///
    /// # Errors
    /// When it is.
    ///
    /// # Panics
    /// When the name has no namespace.
    pub async fn try_request(&mut self, name: &str, args: Value) -> io::Result<String> {
        self.sent += 1;
        let id = format!("q{}", self.sent);
        let (namespace, name) = name.split_once('/').expect("namespace/name");
        let request = json!({"namespace": namespace, "name": name, "id": id, "args": args});
        self.try_send(&request.to_string()).await?;
        Ok(id)
    }

    /// Logs in with the password; the token, or the code of the refusal.
    ///
    /// # Panics
    /// When the reply is neither.
    pub async fn login(&mut self, person: &Person) -> Result<String, u64> {
        let args = json!({"username": person.name, "password": person.password});
        self.ask("rpc/auth", args).await.map(|args| token_of(&args))
    }

    /// Begins a login that PAM asks more for; the conversation's name.
    ///
    /// # Panics
    /// When nothing is asked.
    pub async fn login_prompts(&mut self, person: &Person) -> String {
        let args = json!({"username": person.name, "password": person.password});
        let reply = self.ask("rpc/auth", args).await.expect("prompts");
        reply["conversation"].as_str().unwrap_or_else(|| panic!("no prompts: {reply}")).to_owned()
    }

    /// Answers the prompts of a conversation; the token, or the code of the refusal.
    pub async fn respond(&mut self, conversation: &str, answers: &[&str]) -> Result<String, u64> {
        let args = json!({"conversation": conversation, "answers": answers});
        self.ask("rpc/auth_respond", args).await.map(|args| token_of(&args))
    }

    /// Whether the connection is logged in, by asking `rpc/query`.
    pub async fn logged_in(&mut self) -> bool {
        self.ask("rpc/query", json!({})).await.is_ok()
    }

    /// Sends a close frame and waits until the gateway has closed too.
    pub async fn close(mut self) {
        if self.socket.close(None).await.is_ok() {
            while let Some(Received::Json(_)) = self.receive_within(PATIENCE).await {}
        }
    }
}

/// The `args` of a reply, or the code of an error.
///
/// # Panics
/// When it is neither.
pub fn outcome(reply: &Value) -> Result<Value, u64> {
    match reply["name"].as_str() {
        Some("response") => Ok(reply["args"].clone()),
        Some("error") => Err(reply["args"]["code"].as_u64().expect("a numeric code")),
        _ => panic!("{reply}"),
    }
}

/// An upgrade to a WebSocket with what a proxy says of its client.
fn forwarded(client: &str) -> io::Result<Request> {
    let mut request = "ws://localhost/".into_client_request().map_err(io::Error::other)?;
    request.headers_mut().insert("x-forwarded-for", client.parse().map_err(io::Error::other)?);
    Ok(request)
}

/// The token of a successful login's `args`, remembered as a secret.
///
/// # Panics
/// When it is not `[TOKEN, SECONDS]`.
pub fn token_of(args: &Value) -> String {
    let token = args[0].as_str().unwrap_or_else(|| panic!("not a granted login: {args}"));
    assert!(is_uuid4(token), "{token:?} is no UUIDv4");
    assert!(args[1].as_u64().is_some_and(|seconds| seconds > 0), "{args}");
    assert_eq!(args.as_array().map(Vec::len), Some(2), "{args}");
    secrets::register(token).to_owned()
}

/// Whether a text is a UUIDv4 in lower case.
pub fn is_uuid4(text: &str) -> bool {
    let shape: String =
        text.chars().map(|c| if matches!(c, '0'..='9' | 'a'..='f') { 'x' } else { c }).collect();
    shape == "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"
        && text.get(14..15) == Some("4")
        && matches!(text.get(19..20), Some("8" | "9" | "a" | "b"))
}

/// A TLS connection without anything in it yet.
///
/// # Errors
/// When connecting or the handshake fails.
pub async fn raw_tls(
    stack: &Stack,
    versions: &[&'static rustls::SupportedProtocolVersion],
    own: Option<&Key>,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    tls_on(stack, TcpStream::connect(stack.tls_address()).await?, versions, own).await
}

/// The same on a connection that is there already.
pub(crate) async fn raw_tls_on(
    stack: &Stack,
    stream: TcpStream,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    tls_on(stack, stream, rustls::ALL_VERSIONS, None).await
}

async fn tls_on(
    stack: &Stack,
    stream: TcpStream,
    versions: &[&'static rustls::SupportedProtocolVersion],
    own: Option<&Key>,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    stream.set_nodelay(true)?;
    let connector = TlsConnector::from(tls::pinned(stack.fingerprint(), versions, own));
    let name = "localhost".try_into().expect("a server name");
    timeout(PATIENCE, connector.connect(name, stream)).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::is_uuid4;

    #[test]
    fn only_version_4_in_lower_case_is_a_token() {
        assert!(is_uuid4("0f9d5f2c-1b7e-4c55-9a0e-2a6a4f0c9b11"));
        assert!(!is_uuid4("0f9d5f2c-1b7e-1c55-9a0e-2a6a4f0c9b11"));
        assert!(!is_uuid4("0f9d5f2c-1b7e-4c55-1a0e-2a6a4f0c9b11"));
        assert!(!is_uuid4("0F9D5F2C-1B7E-4C55-9A0E-2A6A4F0C9B11"));
        assert!(!is_uuid4("0f9d5f2c1b7e4c559a0e2a6a4f0c9b11"));
    }
}
