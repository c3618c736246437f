//! What the fake gateway does with keys: challenges, registered keys, TLS client certificates.
//!
//! It verifies signatures with the library, whatever the key's type, and keeps one owner for a key.

use std::{collections::BTreeMap, sync::Arc};

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey,
    VerificationAlgorithm,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime, pem::PemObject},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use serde_json::{Value, json};

/// What the fake says for an outcome: args, or code and message.
pub(crate) type Outcome = Result<Value, (u16, &'static str)>;

/// One key.
pub(crate) struct Registered {
    pub(crate) user: String,
    pub(crate) certificate: Option<String>,
    text: String,
}

/// Every key, by base64 of its PEM.
#[derive(Default)]
pub(crate) struct Keys {
    pub(crate) registered: BTreeMap<String, Registered>,
    /// A key may be registered without a proof.
    pub(crate) unproven: bool,
    /// In place of the server's own key in the context of a challenge.
    pub(crate) relayed: Option<String>,
}

/// What is known of one connection.
pub(crate) struct Peer {
    /// As the context of a challenge names this server.
    pub(crate) server: String,
    /// SubjectPublicKeyInfo of the certificate that the client showed.
    pub(crate) shown: Option<Vec<u8>>,
    pub(crate) user: Option<String>,
    challenge: Option<(String, String)>,
}

impl Peer {
    pub(crate) fn new(server: &str, shown: Option<Vec<u8>>) -> Self {
        Self { server: server.to_owned(), shown, user: None, challenge: None }
    }
}

fn spki(key: &str) -> Option<Vec<u8>> {
    let pem = STANDARD.decode(key).ok()?;
    Some(SubjectPublicKeyInfoDer::from_pem_slice(&pem).ok()?.as_ref().to_vec())
}

fn fingerprint(spki: &[u8]) -> String {
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, spki);
    format!("SHA256:{}", STANDARD.encode(sum))
}

fn verifies(spki: &[u8], message: &str, signature: &[u8]) -> bool {
    let algorithms: [&'static dyn VerificationAlgorithm; 4] =
        [&ED25519, &ECDSA_P256_SHA256_ASN1, &ECDSA_P384_SHA384_ASN1, &RSA_PSS_2048_8192_SHA256];
    algorithms.into_iter().any(|algorithm| {
        UnparsedPublicKey::new(algorithm, spki).verify(message.as_bytes(), signature).is_ok()
    })
}

impl Keys {
    fn challenge(&self, peer: &mut Peer, label: &str) -> Outcome {
        let server = self.relayed.as_ref().unwrap_or(&peer.server);
        let (text, context) = ("Ab3".repeat(43)[..128].to_owned(), format!("doorward {label} v1 {server}"));
        peer.challenge = Some((text.clone(), context.clone()));
        Ok(json!({"test_string": text, "context": context}))
    }

    fn answers(peer: &mut Peer, label: &str, spki: &[u8], proof: &Value) -> bool {
        let signature = proof.as_str().and_then(|proof| STANDARD.decode(proof).ok()).unwrap_or_default();
        let Some((text, context)) = peer.challenge.take() else { return false };
        context.contains(label) && verifies(spki, &format!("{context}\n{text}"), &signature)
    }

    /// `rpc/auth_ssl`; a success sets the user.
    pub(crate) fn auth_ssl(&self, peer: &mut Peer, args: &Value) -> Outcome {
        if args.get("encrypted_string").is_none() {
            return self.challenge(peer, "auth_ssl");
        }
        for (key, entry) in &self.registered {
            let spki = spki(key).unwrap();
            let named = args["username"].as_str().is_none_or(|user| user == entry.user);
            if named
                && args["fingerprint"].as_str() == Some(&*fingerprint(&spki))
                && Self::answers(peer, "auth_ssl", &spki, &args["encrypted_string"])
            {
                peer.user = Some(entry.user.clone());
                return Ok(json!({}));
            }
        }
        Err((401, "Unauthorized"))
    }

    /// Whether the certificate that the client showed is registered for `user`.
    pub(crate) fn shown_is_of(&self, peer: &Peer, user: &str) -> bool {
        let owner = |(key, entry): (&String, &Registered)| {
            entry.user == user && peer.shown.is_some() && spki(key) == peer.shown
        };
        self.registered.iter().any(owner)
    }

    /// `rpc/settings`
    pub(crate) fn settings(&mut self, peer: &mut Peer, args: &Value) -> Outcome {
        let user = peer.user.clone().unwrap();
        let key = args["pub_key"].as_str().unwrap_or_default();
        match args["action"].as_str().unwrap_or_default() {
            "list_ssl_certs" => {
                let mut list: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
                for (key, entry) in &self.registered {
                    list.entry(&entry.user).or_default().insert(key, &entry.text);
                }
                Ok(json!(list))
            }
            "register_challenge" => self.challenge(peer, "register"),
            "register_ssl_cert" => {
                let Some(spki) = spki(key) else { return Err((400, "Bad Request")) };
                let proven = Self::answers(peer, "register", &spki, &args["proof"]);
                let waived = self.unproven && args.get("proof").is_none();
                if !proven && !waived {
                    return Err((403, "Forbidden"));
                }
                let text = format!(
                    "Nickname: {}\nEmail: {}\nDate Registered: 2026-11-23T00:00:00Z\nFingerprint: {}\nProven: {}",
                    args["nickname"].as_str().unwrap_or_default(),
                    args["email"].as_str().unwrap_or_default(),
                    fingerprint(&spki),
                    if proven { "yes" } else { "no" },
                );
                let certificate = args["certificate"].as_str().map(str::to_owned);
                self.registered.insert(key.to_owned(), Registered { user, certificate, text });
                Ok(json!({}))
            }
            "revoke_ssl_cert" => {
                let owner = args["user"].as_str().unwrap_or(&user);
                match self.registered.get(key).is_some_and(|entry| entry.user == owner) {
                    true => {
                        self.registered.remove(key);
                        Ok(json!({}))
                    }
                    false => Err((404, "Not Found")),
                }
            }
            _ => Err((404, "Not Found")),
        }
    }
}

/// Takes any certificate, if the client holds its key.
#[derive(Debug)]
pub(crate) struct AnyCertificate(pub(crate) Arc<CryptoProvider>);

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
