//! TLS as a client that pins the server's key, the way that `doorward --fingerprint` does.

use std::sync::Arc;

use ::aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme, SupportedProtocolVersion};

use crate::keys::{Key, der};

/// Accepts one key and nothing else.
#[derive(Debug)]
struct Pinned {
    fingerprint: String,
    provider: Arc<CryptoProvider>,
}

/// A client configuration that accepts the key with this fingerprint (`SHA256:<base64>`) only, and shows the
/// certificate of a key of its own.
pub(crate) fn pinned(
    fingerprint: &str,
    versions: &[&'static SupportedProtocolVersion],
    own: Option<&Key>,
) -> Arc<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(Pinned { fingerprint: fingerprint.to_owned(), provider: Arc::clone(&provider) });
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .expect("the provider knows these versions")
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let Some(key) = own else { return Arc::new(config.with_no_client_auth()) };
    let chain = vec![CertificateDer::from(der(&key.certificate()))];
    let private = PrivatePkcs8KeyDer::from(key.private());
    let signing = provider.key_provider.load_private_key(private.into()).expect("a key of a known kind");
    let certified = SingleCertAndKey::from(CertifiedKey::new(chain, signing));
    Arc::new(config.with_client_cert_resolver(Arc::new(certified)))
}

/// The fingerprint of a certificate's public key.
fn fingerprint(certificate: &CertificateDer<'_>) -> Result<String, Error> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
        .map_err(|e| Error::General(format!("the server's certificate: {e}")))?;
    let digest = digest(&SHA256, parsed.public_key().raw);
    Ok(format!("SHA256:{}", STANDARD.encode(digest)))
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let seen = fingerprint(certificate)?;
        if seen == self.fingerprint {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::General(format!("the key is {seen}, not {}", self.fingerprint)))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
