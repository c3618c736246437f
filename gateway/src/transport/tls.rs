//! TLS 1.2 and 1.3. A client certificate is asked for and may be missing.

mod client;

use std::{io, sync::Arc, time::Duration};

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::ResolvesServerCert,
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use self::client::Anybody;
use super::certificate::Served;
use crate::call::{ClientCertificate, ServerKey};

/// Makes TLS of TCP, with one certificate for as long as it lives. A new certificate gets a new one of
/// these, its resumable sessions and its key's hash with it: a connection never has the handshake of one
/// key and, in what a client signs for it, the hash of another.
pub struct Tls {
    acceptor: TlsAcceptor,
    server_key: [u8; 32],
}

/// What a handshake showed.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// Of the server to the client.
    pub(super) server_key: ServerKey,
    /// Of the client to the server, which holds the private key.
    pub(super) certificate: Option<Box<ClientCertificate>>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

#[derive(Debug)]
struct One(Arc<CertifiedKey>);

impl ResolvesServerCert for One {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

impl Tls {
    /// With this certificate. Session tickets stay as rustls has them: without any, a client that
    /// does not set TCP_NODELAY waits for a delayed acknowledgement after each handshake. A session
    /// that is resumed has the client certificate of the handshake that began it.
    ///
    /// # Errors
    /// If the library does not know its own versions.
    pub fn new(served: &Served) -> Result<Self, rustls::Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = Arc::new(Anybody::new(provider.signature_verification_algorithms));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(One(Arc::clone(&served.certified))));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), server_key: served.key_hash })
    }

    pub(super) async fn accept(
        &self,
        tcp: TcpStream,
        deadline: Duration,
    ) -> io::Result<(TlsStream<TcpStream>, Shown)> {
        let stream = timeout(deadline, self.acceptor.accept(tcp))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let first = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let certificate = match first {
            None => None,
            Some(first) => {
                let key = client::key_of(first).map_err(io::Error::other)?.to_vec();
                Some(Box::new(ClientCertificate { key, certificate: first.to_vec() }))
            }
        };
        Ok((stream, Shown { server_key: Some(self.server_key), certificate }))
    }
}
