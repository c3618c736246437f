//! The client of both sides: TLS without a look at the certificate, WebSocket, or plain HTTP.

use std::{io, sync::Arc, time::Duration};

use futures_util::{SinkExt, StreamExt};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};

/// No answer takes as long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Believes everybody: it measures, it trusts nobody with anything.
#[derive(Debug)]
struct Anybody(CryptoProvider);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// TLS to an address of this host. Nothing is resumed: each connection is a new client's.
#[derive(Clone)]
pub(crate) struct Door {
    address: Arc<str>,
    tls: TlsConnector,
}

impl Door {
    pub(crate) fn new(address: &str) -> Self {
        let provider = aws_lc_rs::default_provider();
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider.clone()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider knows TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
            .with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        Self { address: address.into(), tls: TlsConnector::from(Arc::new(config)) }
    }

    pub(crate) async fn connect(&self) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(&*self.address).await?;
        stream.set_nodelay(true)?;
        self.tls.connect(ServerName::from(stream.peer_addr()?.ip()), stream).await
    }

    pub(crate) async fn websocket(&self) -> io::Result<Socket> {
        upgrade(format!("wss://{}/", self.address), self.connect().await?).await
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) async fn http(&self) -> io::Result<Http> {
        Ok(Http { stream: self.connect().await?, buffer: Vec::with_capacity(1 << 10) })
    }
}

/// One WebSocket.
pub(crate) struct Socket<S = TlsStream<TcpStream>>(WebSocketStream<S>);

/// Makes a WebSocket of a connection.
pub(crate) async fn upgrade<S>(url: String, stream: S) -> io::Result<Socket<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = WebSocketConfig::default().read_buffer_size(4 << 10).write_buffer_size(0);
    let opened = client_async_with_config(url, stream, Some(config)).await;
    Ok(Socket(opened.map_err(io::Error::other)?.0))
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// What it is made of. Nothing may have been read that was not asked for.
    pub(crate) fn into_stream(self) -> S {
        self.0.into_inner()
    }

    /// Sends a text and waits for the next one.
    pub(crate) async fn ask(&mut self, text: &str) -> io::Result<String> {
        self.0.send(Message::text(text)).await.map_err(io::Error::other)?;
        loop {
            let next = timeout(PATIENCE, self.0.next()).await.map_err(io::Error::other)?;
            match next.ok_or(io::ErrorKind::UnexpectedEof)?.map_err(io::Error::other)? {
                Message::Text(text) => return Ok(text.as_str().to_owned()),
                Message::Close(_) => return Err(io::ErrorKind::ConnectionAborted.into()),
                _ => {}
            }
        }
    }

    /// A success, or what was said instead.
    pub(crate) async fn succeed(&mut self, text: &str) -> io::Result<String> {
        let reply = self.ask(text).await?;
        match reply.contains(r#""name":"response""#) {
            true => Ok(reply),
            false => Err(io::Error::other(reply)),
        }
    }
}

/// One connection of HTTP/1.1 that is kept.
pub(crate) struct Http {
    stream: TlsStream<TcpStream>,
    buffer: Vec<u8>,
}

impl Http {
    /// Sends a request whose answer has no body; its status.
    pub(crate) async fn ask(&mut self, request: &str) -> io::Result<u16> {
        self.stream.write_all(request.as_bytes()).await?;
        self.buffer.clear();
        while !self.buffer.ends_with(b"\r\n\r\n") {
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await;
            if read.map_err(io::Error::other)?? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let status = self.buffer.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
        status.and_then(|digits| digits.parse().ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}
