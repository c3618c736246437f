//! A connection to Redis, to the right one or to none: reached, known, logged in.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use bytes::BytesMut;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::{
    Settings, Unasked,
    resp::{Decoder, Frame, Garbage, Part, command},
};

/// From calling to being logged in.
const CONNECT: Duration = Duration::from_secs(5);
/// What is read at once, and what may wait to be written before more is taken on.
const CHUNK: usize = 64 << 10;
/// What is told of a sentence of Redis's.
const SENTENCE_MAX: usize = 160;

/// Where Redis is.
#[derive(Debug, Clone)]
pub enum Address {
    /// A Unix socket, and who must have called listen() there.
    Unix(PathBuf, u32),
    /// On loopback: nobody reads along.
    Plain(SocketAddr),
    /// Anywhere.
    Tls(SocketAddr, Trust),
}

/// Whose certificate it must show.
#[derive(Clone)]
pub struct Trust {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Trust({:?})", self.name)
    }
}

impl Trust {
    /// One for this name, from one of these authorities.
    ///
    /// # Errors
    /// When one of them is no certificate of an authority.
    pub fn new(name: ServerName<'static>, roots: RootCertStore) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { config: Arc::new(config), name })
    }
}

/// Who the gateway is to Redis.
#[derive(Clone, Default)]
pub struct Login {
    /// None: the default user.
    pub user: Option<String>,
    /// None: nothing is asked for.
    pub password: Option<Arc<Zeroizing<Vec<u8>>>>,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Login {{ user: {:?}, password: [redacted] }}", self.user)
    }
}

/// Why there is no connection, or no more.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Garbage(#[from] Garbage),
    #[error("{0}")]
    Unasked(#[from] Unasked),
    #[error("it does not answer")]
    Silent,
    #[error("it refuses: {0}")]
    Refused(String),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection that is logged in.
pub(super) struct Link {
    reader: ReadHalf<Box<dyn Stream>>,
    writer: WriteHalf<Box<dyn Stream>>,
    decoder: Decoder,
    incoming: BytesMut,
    /// To be written.
    out: BytesMut,
    unflushed: bool,
}

impl Link {
    pub(super) async fn connect(settings: &Settings) -> Result<Self, Broken> {
        let connected = async {
            let (reader, writer) = split(reach(&settings.address).await?);
            let decoder = Decoder::new(settings.payload_max);
            let mut link = Self {
                reader,
                writer,
                decoder,
                incoming: BytesMut::new(),
                out: BytesMut::new(),
                unflushed: false,
            };
            link.log_in(&settings.login).await?;
            Ok(link)
        };
        timeout(CONNECT, connected).await.map_err(|_| Broken::Silent)?
    }

    async fn log_in(&mut self, login: &Login) -> Result<(), Broken> {
        if let Some(password) = &login.password {
            match &login.user {
                Some(user) => self.send(&[b"AUTH", user.as_bytes(), password]),
                None => self.send(&[b"AUTH", password]),
            }
            self.must_say(b"OK", code).await?;
            // Nothing of it stays in a buffer that is used for the rest of the connection.
            self.out = BytesMut::new();
        }
        // A Redis that wants a password says so now and not at the first message.
        self.send(&[b"PING"]);
        self.must_say(b"PONG", sentence).await
    }

    /// `told` is what the log may have of an error.
    async fn must_say(&mut self, expected: &[u8], told: fn(&[u8]) -> String) -> Result<(), Broken> {
        loop {
            match self.frame()? {
                Some(Frame::One(Part::Status(said))) if *said == *expected => return Ok(()),
                Some(Frame::One(Part::Error(said))) => return Err(Broken::Refused(told(&said))),
                Some(Frame::One(_) | Frame::Many(_)) => return Err(Unasked.into()),
                None => self.progress().await?,
            }
        }
    }

    /// Takes a command to be written.
    pub(super) fn send(&mut self, words: &[&[u8]]) {
        command(&mut self.out, words);
    }

    /// Whether more may be taken on.
    pub(super) fn has_room(&self) -> bool {
        self.out.len() < CHUNK
    }

    /// The next frame of what has arrived.
    pub(super) fn frame(&mut self) -> Result<Option<Frame>, Garbage> {
        self.decoder.next(&mut self.incoming)
    }

    /// Until something was read or written. Nothing is lost when this is dropped.
    pub(super) async fn progress(&mut self) -> Result<(), Broken> {
        let Self { reader, writer, incoming, out, unflushed, .. } = self;
        incoming.reserve(CHUNK);
        let writing = !out.is_empty() || *unflushed;
        let write = async {
            if out.is_empty() {
                writer.flush().await?;
                return Ok((0, false));
            }
            writer.write_buf(out).await.map(|written| (written, true))
        };
        tokio::select! {
            read = reader.read_buf(incoming) => match read? {
                0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                _ => Ok(()),
            },
            wrote = write, if writing => match wrote? {
                (0, true) => Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                (_, more) => {
                    *unflushed = more;
                    Ok(())
                }
            },
        }
    }
}

async fn reach(address: &Address) -> Result<Box<dyn Stream>, Broken> {
    Ok(match address {
        Address::Unix(path, uid) => {
            let stream = UnixStream::connect(path).await?;
            // The kernel says who listens before a byte is sent: the password is for nobody else.
            let server = doorward_peercred::uid_of_peer(&stream)?.as_raw();
            if server != *uid {
                return Err(Broken::Refused(format!("uid {server} listens there, not uid {uid}")));
            }
            Box::new(stream)
        }
        Address::Plain(at) => Box::new(tcp(*at).await?),
        Address::Tls(at, trust) => {
            let connector = TlsConnector::from(Arc::clone(&trust.config));
            Box::new(connector.connect(trust.name.clone(), tcp(*at).await?).await?)
        }
    })
}

async fn tcp(at: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(at).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// What Redis has said, as the log may have it.
pub(super) fn printable(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    said.chars().filter(|c| !c.is_control()).take(SENTENCE_MAX).collect()
}

/// An error of Redis's up to where it may begin to repeat what it was sent, which it puts into quotes.
pub(super) fn sentence(said: &[u8]) -> String {
    let said = said.split(|byte| b"'\"`".contains(byte)).next();
    printable(said.unwrap_or_default())
}

/// The code that an error of Redis's begins with, as `WRONGPASS`: what answers a password is not repeated.
fn code(said: &[u8]) -> String {
    let code = said.split(u8::is_ascii_whitespace).next().unwrap_or_default();
    match (1..=16).contains(&code.len()) && code.iter().all(u8::is_ascii_uppercase) {
        true => printable(code),
        false => "the login, without a code".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_not_logged() {
        let unknown = b"ERR unknown command 'AUTH', with args beginning with: 'door' 'secret' ";
        assert_eq!((sentence(unknown), code(unknown)), ("ERR unknown command ".into(), "ERR".into()));
        assert_eq!(code(b"WRONGPASS invalid username-password pair or user is disabled."), "WRONGPASS");
        for hostile in [&b"secret"[..], b"SECRETSECRETSECRET", b"", b" x", b"S\xff", b"Secret x"] {
            assert_eq!(code(hostile), "the login, without a code", "{hostile:?}");
        }
        assert_eq!(sentence(b"LOADING Redis is\r\n loading"), "LOADING Redis is loading");
    }
}
