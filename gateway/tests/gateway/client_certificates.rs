//! TLS client certificates: who passes the handshake, and what authd and certd are told of it.

use std::{path::Path, process::Command, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{CertificateParams, KeyPair, PublicKeyData, SignatureAlgorithm};
use rustls::{
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};

use crate::{
    fake_authd::hex,
    fake_certd::Received,
    support::{Client, Gateway},
};

/// A certificate, the private key that is used with it, and the public key in it.
struct Made {
    shown: Arc<CertifiedKey>,
    spki: Vec<u8>,
}

impl Made {
    fn new(certificate: CertificateDer<'static>, key: &KeyPair, spki: Vec<u8>) -> Self {
        let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let private = any_supported_type(&private).expect("a key that rustls signs with");
        Self { shown: Arc::new(CertifiedKey::new(vec![certificate], private)), spki }
    }

    fn of(algorithm: &'static SignatureAlgorithm) -> Self {
        let key = KeyPair::generate_for(algorithm).expect("a key");
        let certificate = params(&[]).self_signed(&key).expect("a certificate").der().clone();
        Self::new(certificate, &key, key.subject_public_key_info())
    }

    fn der(&self) -> &[u8] {
        self.shown.cert[0].as_ref()
    }
}

fn params(names: &[String]) -> CertificateParams {
    CertificateParams::new(names).expect("names")
}

/// X.509 v1, as the openssl program still makes where no extension is asked for.
fn of_version_1(directory: &Path) -> Made {
    let file = |name: &str| directory.join(name).to_str().expect("UTF-8").to_owned();
    let key = KeyPair::generate().expect("a key");
    std::fs::write(file("v1.key"), key.serialize_pem()).expect("written");
    for args in [
        vec!["req", "-new", "-key", &file("v1.key"), "-subj", "/CN=v1", "-out", &file("v1.csr")],
        vec!["x509", "-req", "-in", &file("v1.csr"), "-signkey", &file("v1.key"), "-out", &file("v1.crt")],
    ] {
        let done = Command::new("openssl").args(&args).output().expect("openssl is installed");
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    }
    let certificate = CertificateDer::from_pem_file(file("v1.crt")).expect("a certificate");
    let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).expect("a certificate");
    assert_eq!(parsed.version().0, 0, "v1 is what is to be tested");
    Made::new(certificate, &key, key.subject_public_key_info())
}

type Version = &'static rustls::SupportedProtocolVersion;

/// A WebSocket of a client that shows this; none if it is refused.
async fn client(gateway: &Gateway, version: Version, made: &Made) -> Option<Client> {
    let shown = Some(Arc::clone(&made.shown));
    // In TLS 1.3 a client learns only when it reads that it was refused.
    let (stream, _) = gateway.tls_stream_showing(&[version], shown).await.ok()?;
    Client::over(stream, "ws://localhost/").await.ok()
}

const ALICE: &str = r#"{"username":"alice","password":""}"#;

#[tokio::test]
async fn a_registered_certificate_logs_in_without_a_password() {
    let gateway = Gateway::start().await;
    for algorithm in [
        &rcgen::PKCS_RSA_SHA256,
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ED25519,
    ] {
        let made = Made::of(algorithm);
        for version in [&TLS13, &TLS12] {
            let mut client = client(&gateway, version, &made).await.expect("self-signed ones pass");
            assert_eq!(client.query().await, 401, "a certificate alone is no login");
            let args = r#"{"username":"alice"}"#;
            assert_eq!(client.code("rpc", "auth", args).await, 401, "not registered yet");
        }
        gateway.authd.register(&made.spki);
        for version in [&TLS13, &TLS12] {
            let mut client = client(&gateway, version, &made).await.expect("self-signed ones pass");
            assert_eq!(client.code("rpc", "auth", r#"{"username":"bob"}"#).await, 401);
            assert_eq!(client.code("rpc", "auth", ALICE).await, 0, "{algorithm:?}");
            assert_eq!(client.query().await, 0);
        }
        let begun = gateway.authd.received("begin").pop().expect("begun");
        assert_eq!(begun.about, format!("alice {}", hex(made.der())));
    }
}

#[tokio::test]
async fn version_1_is_taken_in_tls_1_3() {
    let gateway = Gateway::start().await;
    let made = of_version_1(gateway.directory.path());
    gateway.authd.register(&made.spki);
    let mut found = client(&gateway, &TLS13, &made).await.expect("v1 passes");
    assert_eq!(found.code("rpc", "auth", ALICE).await, 0);
    // The library cannot verify its signature in TLS 1.2, so nobody is let in unverified.
    assert!(client(&gateway, &TLS12, &made).await.is_none());
}

#[tokio::test]
async fn a_certificate_without_its_key_is_refused() {
    let gateway = Gateway::start().await;
    let owner = Made::of(&rcgen::PKCS_ECDSA_P256_SHA256);
    gateway.authd.register(&owner.spki);
    let thief = KeyPair::generate().expect("a key");
    let stolen = Made::new(owner.shown.cert[0].clone(), &thief, owner.spki.clone());
    for version in [&TLS13, &TLS12] {
        assert!(client(&gateway, version, &stolen).await.is_none());
        assert!(client(&gateway, version, &owner).await.is_some());
    }
    // Of version 1 too, where the key alone is looked at.
    let owner = of_version_1(gateway.directory.path());
    let stolen = Made::new(owner.shown.cert[0].clone(), &thief, owner.spki.clone());
    assert!(client(&gateway, &TLS13, &stolen).await.is_none());
    assert!(gateway.authd.received("begin").is_empty());
}

#[tokio::test]
async fn what_is_no_certificate_or_too_large_is_refused() {
    let gateway = Gateway::start().await;
    let key = KeyPair::generate().expect("a key");
    let sized = |names: usize| {
        let names: Vec<_> = (0..names).map(|n| format!("{n:03}{}.example", "x".repeat(50))).collect();
        params(&names).self_signed(&key).expect("a certificate").der().clone()
    };
    let fits = sized(200);
    assert!((10_000..16_384).contains(&fits.len()), "{}", fits.len());
    let large = sized(300);
    assert!(large.len() > 16_384, "{}", large.len());
    let mut longer = fits.to_vec();
    longer.push(0);
    let no_certificate = b"no certificate".to_vec();
    for (shown, passes) in
        [(fits, true), (large, false), (longer.into(), false), (no_certificate.into(), false)]
    {
        let made = Made::new(shown, &key, Vec::new());
        for version in [&TLS13, &TLS12] {
            assert_eq!(
                client(&gateway, version, &made).await.is_some(),
                passes,
                "{} bytes",
                made.der().len()
            );
        }
    }
    let mut still = gateway.tls().await;
    assert_eq!(still.query().await, 401, "others are served on");
}

#[tokio::test]
async fn a_password_is_a_password_whatever_is_loaded() {
    let gateway = Gateway::start().await;
    let made = Made::of(&rcgen::PKCS_ED25519);
    let mut client = client(&gateway, &TLS13, &made).await.expect("a WebSocket");
    assert_eq!(client.code("rpc", "auth", r#"{"username":"alice","password":"wrong"}"#).await, 401);
    client.log_in("alice", "wonderland").await;
    let begun: Vec<_> = gateway.authd.received("begin").into_iter().map(|call| call.about).collect();
    assert_eq!(begun, ["alice", "alice"]);
}

#[tokio::test]
async fn certd_is_told_which_key_is_loaded() {
    let (gateway, certd) = Gateway::start_with_certd().await;
    let made = Made::of(&rcgen::PKCS_ECDSA_P256_SHA256);
    let mut client = client(&gateway, &TLS13, &made).await.expect("a WebSocket");
    client.log_in("alice", "wonderland").await;
    let args = format!(r#"{{"action":"register_ssl_cert","pub_key":"{}"}}"#, STANDARD.encode(&made.spki));
    assert_eq!(client.code("rpc", "settings", &args).await, 0);
    let Some(Received::Register(registered)) = certd.received().pop() else { panic!("no registration") };
    assert_eq!((registered.public_key, registered.loaded_key), (made.spki.clone(), made.spki));
}
