//! TLS 1.2 and 1.3, without client certificates.

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

use super::certificate::Served;

/// Makes TLS of TCP.
#[derive(Clone)]
pub struct Tls(TlsAcceptor);

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
    /// does not set TCP_NODELAY waits for a delayed acknowledgement after each handshake.
    ///
    /// # Errors
    /// If the library does not know its own versions.
    pub fn new(served: &Served) -> Result<Self, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(One(Arc::clone(&served.certified))));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    pub(super) async fn accept(
        &self,
        tcp: TcpStream,
        deadline: Duration,
    ) -> io::Result<TlsStream<TcpStream>> {
        timeout(deadline, self.0.accept(tcp)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}
