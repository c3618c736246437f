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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, PublicKeyData};

    use super::*;

    fn made() -> (Vec<u8>, Vec<u8>) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["a.example".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("a certificate");
        (certificate.der().to_vec(), key.subject_public_key_info())
    }

    #[test]
    fn the_key_is_that_of_the_certificate() {
        let (certificate, spki) = made();
        assert_eq!(key_of(&certificate.as_slice().into()), Ok(spki.as_slice()));
        for length in 0..certificate.len() {
            let cut = CertificateDer::from(&certificate[..length]);
            assert!(key_of(&cut).is_err(), "{length}");
        }
    }

    #[test]
    fn nobody_must_show_a_certificate_and_anybody_may() {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let verifier = Anybody::new(provider.signature_verification_algorithms);
        assert!(verifier.offer_client_auth() && !verifier.client_auth_mandatory());
        assert!(verifier.root_hint_subjects().is_empty());
        let (certificate, _) = made();
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::MAX >> 2));
        let leaf = CertificateDer::from(certificate);
        assert!(verifier.verify_client_cert(&leaf, &[], now).is_ok(), "the time is certd's business");
        let others = |bytes: usize| [CertificateDer::from(vec![0; bytes])];
        let most = CHAIN_MAX - leaf.len();
        assert!(verifier.verify_client_cert(&leaf, &others(most), now).is_ok(), "others are not read");
        assert!(verifier.verify_client_cert(&leaf, &others(most + 1), now).is_err());
    }

    proptest! {
        #[test]
        fn changed_certificates_are_read_or_refused(
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)
        ) {
            let (mut certificate, _) = made();
            for (place, byte) in changes {
                let length = certificate.len();
                if let Some(changed) = certificate.get_mut(place.index(length)) {
                    *changed = byte;
                }
            }
            let certificate = CertificateDer::from(certificate);
            if let Ok(key) = key_of(&certificate) {
                prop_assert!(key.len() < certificate.len());
            }
        }
    }
}
