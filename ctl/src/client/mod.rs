//! A connection to the gateway: a WebSocket with one request and its reply on it, or HTTP (`http`).

mod http;
mod listen;
mod tls;
mod unix;

use std::{
    future::Future,
    io,
    net::IpAddr,
    path::PathBuf,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{self, Message, http::Uri, protocol::WebSocketConfig},
};

use crate::error::Error;

pub(crate) use http::{Answer, Http};
pub(crate) use listen::{Incoming, Listener, Said};
pub(crate) use tls::{Fingerprint, Identity, Trust};

/// Name lookup, TCP, TLS and the upgrade together.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// An ordinary reply. The gateway gives up on its back ends long before.
pub(crate) const REPLY_DEADLINE: Duration = Duration::from_secs(60);
/// A reply to a login: PAM may take 300 s in all.
pub(crate) const LOGIN_DEADLINE: Duration = Duration::from_secs(310);
/// Saying goodbye is a courtesy.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);
/// A reply is read up to here: the gateway sends no list that is larger.
const MESSAGE_MAX: usize = 17 * 1024 * 1024;
const DEFAULT_PORT: u16 = 12150;

/// Where the gateway is, and for TLS what makes it the right one and what we show of ourselves.
#[derive(Debug, Clone)]
pub(crate) enum Endpoint {
    /// Its Unix socket.
    Unix(PathBuf),
    /// Its TLS listener.
    Tls { uri: Uri, host: String, port: u16, trust: Trust, identity: Option<Identity> },
}

impl Endpoint {
    /// A `wss://` address.
    pub(crate) fn tls(url: &str, trust: Trust, identity: Option<Identity>) -> Result<Self, Error> {
        let problem = |why: &str| Error::Usage(format!("`{url}` is no address of a gateway: {why}"));
        let uri: Uri = url.parse().map_err(|_| problem("write wss://HOST:PORT"))?;
        if uri.scheme_str() != Some("wss") {
            return Err(problem("it must begin with wss://"));
        }
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(problem("a user is named after `login`, not in the address"));
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| problem("it names no host"))?;
        // The library's own reading of the port takes one out of range for none.
        let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        let port = match authority.strip_prefix(host).and_then(|rest| rest.strip_prefix(':')) {
            Some(port) => port.parse().map_err(|_| problem("its port is no number up to 65535"))?,
            None => DEFAULT_PORT,
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = bare.unwrap_or(host).to_owned();
        Ok(Self::Tls { uri, host, port, trust, identity })
    }

    /// Whether the kernel can tell the gateway who we are.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tls { host, .. } => {
                host.eq_ignore_ascii_case("localhost")
                    || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
            }
        }
    }

    /// Whether the server can be shown a certificate of ours.
    pub(crate) fn has_certificate(&self) -> bool {
        matches!(self, Self::Tls { identity: Some(_), .. })
    }

    /// The name under which a session is kept, and which people read.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Unix(path) => path.display().to_string(),
            Self::Tls { host, port, .. } if host.contains(':') => format!("wss://[{host}]:{port}"),
            Self::Tls { host, port, .. } => format!("wss://{}:{port}", host.to_ascii_lowercase()),
        }
    }
}

impl Endpoint {
    /// Connects: the address as a URI, the stream, and who is at its other end.
    async fn open(&self) -> Result<(Uri, Stream, Server), Error> {
        Ok(match self {
            Self::Unix(path) => {
                let (stream, uid) = unix::connect(path).await?;
                (Uri::from_static("ws://localhost/"), Stream::Unix(stream), Server::Uid(uid))
            }
            Self::Tls { uri, host, port, trust, identity } => {
                let (stream, key) = tls::connect(host, *port, trust, identity.as_ref()).await?;
                (uri.clone(), Stream::Tls(Box::new(stream)), Server::Key(key))
            }
        })
    }
}

/// Connecting has a deadline of its own.
async fn in_time<T>(
    endpoint: &Endpoint,
    opening: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let late = || Error::unreachable(format!("{} did not answer within 10 seconds", endpoint.name()));
    timeout(CONNECT_DEADLINE, opening).await.map_err(|_| late())?
}

/// Who is at the other end, from what cannot be claimed.
#[derive(Debug, Clone)]
pub(crate) enum Server {
    /// The uid that listens on the Unix socket.
    Uid(u32),
    /// The TLS key that the server proved to hold.
    Key(Fingerprint),
}

/// A connection to the gateway.
pub(crate) struct Client {
    websocket: WebSocketStream<Stream>,
    /// Who answered.
    pub(crate) server: Server,
    /// How long the session that was taken up lasts without a request.
    pub(crate) idle: Option<Duration>,
    requests: u32,
    /// Whether there was a sign of life since somebody asked.
    heard: bool,
}

/// What the gateway sends.
#[derive(Deserialize)]
struct Reply {
    #[serde(default)]
    id: Value,
    /// Deliveries of a channel have none.
    #[serde(default)]
    name: String,
    #[serde(default)]
    args: Value,
    /// Only what is of a channel has this and what follows.
    channel: Option<String>,
    pk: Option<String>,
    #[serde(default)]
    message: Value,
}

impl Client {
    /// Connects within the deadline.
    pub(crate) async fn connect(endpoint: &Endpoint) -> Result<Self, Error> {
        in_time(endpoint, Self::open(endpoint)).await
    }

    async fn open(endpoint: &Endpoint) -> Result<Self, Error> {
        let (uri, stream, server) = endpoint.open().await?;
        // No Origin: that header is for browsers, and a program has nothing to put there.
        let mut config = WebSocketConfig::default();
        config.max_message_size = Some(MESSAGE_MAX);
        config.max_frame_size = Some(MESSAGE_MAX);
        let (websocket, _) =
            client_async_with_config(uri, stream, Some(config)).await.map_err(upgrade_failed)?;
        Ok(Self { websocket, server, idle: None, requests: 0, heard: true })
    }

    /// Sends one request and waits for its reply: `args` of a response, or the error it carries.
    pub(crate) async fn request(
        &mut self,
        namespace: &str,
        name: &str,
        args: &Value,
        deadline: Duration,
    ) -> Result<Value, Error> {
        let id = self.next_id();
        let text = json!({ "namespace": namespace, "name": name, "id": id, "args": args }).to_string();
        let exchange = async {
            self.websocket.send(Message::text(text)).await.map_err(connection_lost)?;
            loop {
                let reply = self.receive().await?;
                // An error without an id is the answer to a request whose id could not be read; only one
                // of ours is under way. Anything else that is not for us is an event.
                let answers = matches!(reply.name.as_str(), "response" | "error");
                let ours = (answers && reply.id == id.as_str())
                    || (reply.name == "error" && reply.id == "" && reply.channel.is_none());
                if ours {
                    return outcome(reply);
                }
            }
        };
        let answered = timeout(deadline, exchange).await.map_err(|_| {
            let seconds = deadline.as_secs();
            Error::unreachable(format!("no reply to {namespace}/{name} within {seconds} seconds"))
        })?;
        match answered {
            // No login is forbidden but by a penalty; how long it lasts is said with the close that follows.
            Err(Error::Refused { code: Some(403), message }) if name.starts_with("auth") => {
                let why = self.closing_reason().await;
                let why =
                    why.unwrap_or_else(|| "too many failed logins from here, try again later".to_owned());
                Err(Error::Refused { code: Some(403), message: format!("{message}: {why}") })
            }
            answered => answered,
        }
    }

    fn next_id(&mut self) -> String {
        self.requests = self.requests.wrapping_add(1);
        format!("doorward-{}", self.requests)
    }

    /// Why the gateway closes, if it does so now and says it.
    async fn closing_reason(&mut self) -> Option<String> {
        let closing = async {
            loop {
                match self.websocket.next().await? {
                    Ok(Message::Close(frame)) => {
                        return frame
                            .map(|frame| frame.reason.as_str().to_owned())
                            .filter(|why| !why.is_empty());
                    }
                    Ok(_) => {}
                    Err(_) => return None,
                }
            }
        };
        timeout(CLOSE_DEADLINE, closing).await.ok().flatten()
    }

    /// Asks what answers here, as every SysAdm client does first. Returns the host's name.
    pub(crate) async fn identify(&mut self) -> Result<String, Error> {
        let reply = self.request("rpc", "identify", &json!({}), REPLY_DEADLINE).await?;
        if reply.get("type").and_then(Value::as_str) != Some("server") {
            return Err(Error::unreachable("what answers there is no doorward gateway"));
        }
        Ok(reply.get("hostname").and_then(Value::as_str).unwrap_or_default().to_owned())
    }

    /// Waits for `work` while the connection stays open; pings are answered meanwhile.
    pub(crate) async fn while_open<T>(
        &mut self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                received = self.receive() => { received?; }
            }
        }
    }

    /// The next message that is a reply or an event.
    async fn receive(&mut self) -> Result<Reply, Error> {
        loop {
            let next = self.websocket.next().await;
            self.heard = true;
            let text = match next {
                Some(Ok(Message::Text(text))) => text.as_str().to_owned().into_bytes(),
                Some(Ok(Message::Binary(bytes))) => bytes.to_vec(),
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                Some(Ok(Message::Close(frame))) => {
                    let why = frame.map_or_else(String::new, |frame| {
                        format!(": {} {}", u16::from(frame.code), frame.reason.as_str())
                    });
                    return Err(Error::unreachable(format!("the gateway closed the connection{why}")));
                }
                Some(Err(error)) => return Err(connection_lost(error)),
                None => return Err(Error::unreachable("the gateway closed the connection")),
            };
            let read = serde_json::from_slice(&text).ok();
            let reply = read.filter(|reply: &Reply| !reply.name.is_empty() || reply.channel.is_some());
            return reply
                .ok_or_else(|| Error::unreachable("what answers there does not speak SysAdm envelopes"));
        }
    }

    /// Says goodbye; how it ends is of no consequence any more.
    pub(crate) async fn close(mut self) {
        let _ = timeout(CLOSE_DEADLINE, self.websocket.close(None)).await;
    }
}

fn outcome(reply: Reply) -> Result<Value, Error> {
    if reply.name != "error" {
        return Ok(reply.args);
    }
    let code = reply.args.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
    let message = reply.args.get("message").and_then(Value::as_str).unwrap_or("an error without a message");
    match code {
        Some(code) => Err(Error::from_wire(code, format!("{message} ({code})"))),
        None => Err(Error::refused(message)),
    }
}

fn connection_lost(error: tungstenite::Error) -> Error {
    Error::unreachable(format!("the connection to the gateway broke: {error}"))
}

fn upgrade_failed(error: tungstenite::Error) -> Error {
    match error {
        tungstenite::Error::Http(response) if response.status().is_client_error() => {
            Error::refused(format!("the gateway refused the connection: HTTP {}", response.status()))
        }
        error if hung_up(&error) => Error::unreachable(HUNG_UP),
        error => Error::unreachable(format!("what answers there is no doorward gateway: {error}")),
    }
}

/// What a gateway does that takes no connection from here.
pub(crate) const HUNG_UP: &str = "the gateway closed the connection at once: it does so to whoever failed to log in too \
     often (the first time for a minute), and when there are too many connections";

fn hung_up(error: &tungstenite::Error) -> bool {
    match error {
        tungstenite::Error::ConnectionClosed
        | tungstenite::Error::Protocol(tungstenite::error::ProtocolError::HandshakeIncomplete) => true,
        tungstenite::Error::Io(error) => is_hang_up(error.kind()),
        _ => false,
    }
}

/// Whether the other end has gone, rather than said something wrong.
pub(crate) fn is_hang_up(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

/// Either way to the gateway. The WebSocket needs one type.
enum Stream {
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(url: &str) -> Result<String, Error> {
        Endpoint::tls(url, Trust::Authorities(Vec::new()), None).map(|endpoint| endpoint.name())
    }

    #[test]
    fn addresses_are_read() {
        for (url, name) in [
            ("wss://Host.example", "wss://host.example:12150"),
            ("wss://127.0.0.1:7/", "wss://127.0.0.1:7"),
            ("wss://[::1]:7/any/path", "wss://[::1]:7"),
            ("wss://[::1]", "wss://[::1]:12150"),
        ] {
            assert_eq!(named(url).expect(url), name);
        }
    }

    #[test]
    fn the_kernel_may_know_us_on_loopback_alone() {
        for (url, local) in [
            ("wss://127.0.0.1:7", true),
            ("wss://127.1.2.3", true),
            ("wss://[::1]:7", true),
            ("wss://LocalHost", true),
            ("wss://localhost.example", false),
            ("wss://192.0.2.1", false),
            ("wss://[2001:db8::1]", false),
        ] {
            let endpoint = Endpoint::tls(url, Trust::Authorities(Vec::new()), None).expect(url);
            assert_eq!(endpoint.is_local(), local, "{url}");
        }
        assert!(Endpoint::Unix("/x".into()).is_local());
    }

    #[test]
    fn what_is_no_address_of_a_gateway_is_a_usage_error() {
        for url in [
            "",
            "host",
            "host:12150",
            "ws://host",
            "https://host",
            "wss://",
            "wss://u:p@host",
            "wss://h:99999",
        ] {
            assert!(matches!(named(url), Err(Error::Usage(_))), "{url}");
        }
    }
}
