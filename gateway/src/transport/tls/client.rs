//! Client certificates: anybody's is taken, and nobody is believed for it.
//!
//! What counts is that the client holds the private key: the signature of the handshake is always
//! verified. Whose key it is, and whether it is still good, is certd's to say.

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature_with_raw_key},
    pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use x509_parser::{nom::Parser as _, prelude::X509CertificateParser};

/// The largest certificate.
const CERTIFICATE_MAX: usize = 16 << 10;
/// The largest chain: only its first certificate is used, but the connection keeps all of it.
const CHAIN_MAX: usize = 32 << 10;

/// Takes every certificate whose key it can read.
#[derive(Debug)]
pub(super) struct Anybody {
    algorithms: WebPkiSupportedAlgorithms,
}

impl Anybody {
    pub(super) fn new(algorithms: WebPkiSupportedAlgorithms) -> Self {
        Self { algorithms }
    }
}

impl ClientCertVerifier for Anybody {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // No hints: every certificate that a client has will do.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let others: usize = intermediates.iter().map(|certificate| certificate.len()).sum();
        if end_entity.len() > CERTIFICATE_MAX || end_entity.len() + others > CHAIN_MAX {
            return Err(Error::InvalidCertificate(CertificateError::BadEncoding));
        }
        key_of(end_entity)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    /// By the key alone: the library reads no certificates of X.509 v1, which many tools still make.
    /// For TLS 1.2 it has no such function, so there they are refused.
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = SubjectPublicKeyInfoDer::from(key_of(certificate)?);
        verify_tls13_signature_with_raw_key(message, &key, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The SPKI of a certificate, DER.
pub(super) fn key_of<'a>(certificate: &'a CertificateDer<'_>) -> Result<&'a [u8], Error> {
    // Extensions decide nothing here, so they are not parsed.
    let mut parser = X509CertificateParser::new().with_deep_parse_extensions(false);
    match parser.parse(certificate.as_ref()) {
        Ok(([], parsed)) => Ok(parsed.tbs_certificate.subject_pki.raw),
        Ok(_) | Err(_) => Err(Error::InvalidCertificate(CertificateError::BadEncoding)),
    }
}
