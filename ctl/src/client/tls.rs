//! TLS to a gateway whose key was named beforehand: by its fingerprint, or by who certifies it.
//!
//! There is no trust on first use and no falling back to the system's list of authorities: a password
//! goes to the server that was named, or nowhere.

use std::{fmt, fs::File, io::Read, path::Path, str::FromStr, sync::Arc};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs as provider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    sign::{CertifiedKey, SingleCertAndKey},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{error::Error, key::PrivateKey};

/// A file of certificates is read up to here.
const CERTIFICATES_MAX: u64 = 1024 * 1024;

/// SHA-256 of a public key (the DER of its SubjectPublicKeyInfo), written as `SHA256:<base64>`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Fingerprint([u8; 32]);

impl Fingerprint {
    fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        Some(Self::of_spki(parsed.tbs_certificate.subject_pki.raw))
    }

    /// Of the DER of a SubjectPublicKeyInfo.
    pub(crate) fn of_spki(spki: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, spki).as_ref());
        Self(bytes)
    }

    /// The base64 alone, as it stands in the context of a challenge.
    pub(crate) fn base64(&self) -> String {
        STANDARD.encode(self.0)
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl FromStr for Fingerprint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let problem = || "a fingerprint is SHA256: and the base64 of 32 bytes".to_owned();
        let base64 = text.strip_prefix("SHA256:").ok_or_else(problem)?;
        let bytes =
            STANDARD_NO_PAD.decode(base64.strip_suffix('=').unwrap_or(base64)).map_err(|_| problem())?;
        Ok(Self(bytes.try_into().map_err(|_| problem())?))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SHA256:{}", self.base64())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What makes a server the right one.
#[derive(Debug, Clone)]
pub(crate) enum Trust {
    /// It holds this key. Names and dates in its certificate then say nothing more.
    Key(Fingerprint),
    /// One of these certifies its key for the host name, today.
    Authorities(Vec<CertificateDer<'static>>),
}

impl Trust {
    /// Reads the certificates of a PEM file.
    pub(crate) fn from_file(path: &Path) -> Result<Self, Error> {
        let failed = |why: &str| Error::Failed(format!("cannot use {}: {why}", path.display()));
        let mut pem = Vec::new();
        let file = File::open(path).map_err(|error| failed(&error.to_string()))?;
        file.take(CERTIFICATES_MAX + 1).read_to_end(&mut pem).map_err(|error| failed(&error.to_string()))?;
        if pem.len() as u64 > CERTIFICATES_MAX {
            return Err(failed("it is longer than 1 MiB"));
        }
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<_, _>>()
            .map_err(|error| failed(&error.to_string()))?;
        if certificates.is_empty() {
            return Err(failed("it holds no PEM certificate"));
        }
        Ok(Self::Authorities(certificates))
    }

    fn verifier(&self, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, Error> {
        match self {
            Self::Key(fingerprint) => Ok(Arc::new(Pinned { fingerprint: fingerprint.clone(), provider })),
            Self::Authorities(certificates) => {
                let failed =
                    |why: String| Error::Failed(format!("cannot use the certificates of --cacert: {why}"));
                let mut roots = RootCertStore::empty();
                for certificate in certificates {
                    roots.add(certificate.clone()).map_err(|error| failed(error.to_string()))?;
                }
                let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .map_err(|error| failed(error.to_string()))?;
                Ok(verifier)
            }
        }
    }
}

/// What we show to a server that asks who we are: a certificate, and that its key is ours.
#[derive(Debug, Clone)]
pub(crate) struct Identity(Arc<CertifiedKey>);

impl Identity {
    /// A certificate with its key.
    pub(crate) fn new(certificate: CertificateDer<'static>, key: &PrivateKey) -> Self {
        Self(Arc::new(CertifiedKey::new(vec![certificate], key.for_tls())))
    }
}

/// Connects, checks the server, and says which key it proved to hold.
pub(super) async fn connect(
    host: &str,
    port: u16,
    trust: &Trust,
    identity: Option<&Identity>,
) -> Result<(TlsStream<TcpStream>, Fingerprint), Error> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| Error::Usage(format!("`{host}` is neither a host name nor an address")))?;
    let provider = Arc::new(provider::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Failed(format!("TLS is not usable here: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(trust.verifier(provider)?);
    let config = match identity {
        Some(Identity(certified)) => {
            config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified.clone())))
        }
        None => config.with_no_client_auth(),
    };

    let unreachable =
        |error: std::io::Error| Error::unreachable(format!("no gateway at {host}:{port}: {error}"));
    let tcp = TcpStream::connect((host, port)).await.map_err(unreachable)?;
    tcp.set_nodelay(true).map_err(unreachable)?;
    let stream =
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map_err(|error| {
            match refusal(&error) {
                Some(refusal) => refusal,
                None if super::is_hang_up(error.kind()) => Error::unreachable(super::HUNG_UP),
                None => unreachable(error),
            }
        })?;
    let seen =
        stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).and_then(Fingerprint::of);
    let seen = seen.ok_or_else(|| Error::unreachable("the server's certificate cannot be read"))?;
    Ok((stream, seen))
}

/// The sentence for a server that is there but is not the one that was named.
fn refusal(error: &std::io::Error) -> Option<Error> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(why))) => {
            Some(Error::refused(why.to_string()))
        }
        rustls::Error::InvalidCertificate(why) => {
            Some(Error::refused(format!("the server's certificate is not acceptable: {why}")))
        }
        _ => None,
    }
}

/// The server proved a key, but not the one that was named.
#[derive(Debug, thiserror::Error)]
#[error(
    "the server has the key {seen}, not the one of --fingerprint: another server answers here, or its key was changed"
)]
struct WrongKey {
    seen: Fingerprint,
}

/// Accepts one public key. That the server holds its private half is checked by the handshake
/// signatures as always.
#[derive(Debug)]
struct Pinned {
    fingerprint: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let seen = Fingerprint::of(end_entity)
            .ok_or(rustls::Error::InvalidCertificate(CertificateError::BadEncoding))?;
        if seen == self.fingerprint {
            return Ok(ServerCertVerified::assertion());
        }
        let why = OtherError(Arc::new(WrongKey { seen }));
        Err(rustls::Error::InvalidCertificate(CertificateError::Other(why)))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_it_is_written() {
        let written = Fingerprint([7; 32]).to_string();
        assert_eq!(written.parse::<Fingerprint>(), Ok(Fingerprint([7; 32])));
        assert_eq!(written.trim_end_matches('=').parse::<Fingerprint>(), Ok(Fingerprint([7; 32])));
    }

    #[test]
    fn anything_else_is_no_fingerprint() {
        let written = Fingerprint([7; 32]).to_string();
        let short = format!("SHA256:{}", STANDARD.encode([7; 31]));
        for text in
            ["", "SHA256:", "SHA256:x", &written.replace("SHA256", "sha1"), &short, &format!("{written}=")]
        {
            assert!(text.parse::<Fingerprint>().is_err(), "{text}");
        }
    }
}
