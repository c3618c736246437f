//! The certificate, its fingerprint and the protocol versions.

use std::os::unix::fs::PermissionsExt;

use base64::{Engine, engine::general_purpose::STANDARD};

use doorward_gateway::config::Config;

use crate::support::{Client, Gateway};

fn fingerprint(certificate: &[u8]) -> String {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).expect("a certificate");
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, parsed.public_key().raw);
    format!("SHA256:{}", STANDARD.encode(hash))
}

#[tokio::test]
async fn an_own_certificate_is_made_once() {
    let gateway = Gateway::start().await;
    let (_, shown) = gateway.tls_stream_with(&[&rustls::version::TLS13]).await.expect("TLS");
    assert_eq!(fingerprint(&shown), gateway.fingerprint);
    let key = gateway.directory.path().join("state/tls.key");
    assert_eq!(std::fs::metadata(&key).expect("a key").permissions().mode() & 0o777, 0o600);

    let before = gateway.fingerprint.clone();
    let (directory, authd) = gateway.stopped().await;
    let again = Gateway::start_in(directory, authd, |_| {}).await;
    let (_, shown_again) = again.tls_stream_with(&[&rustls::version::TLS13]).await.expect("TLS");
    assert_eq!(again.fingerprint, before);
    assert_eq!(shown_again, shown);
    let (directory, authd) = again.stopped().await;

    std::fs::remove_file(directory.path().join("state/tls.crt")).expect("removed");
    let renewed = Gateway::start_in(directory, authd, |_| {}).await;
    assert_eq!(renewed.fingerprint, before, "the key is what clients pin");
    renewed.stopped().await;
}

#[tokio::test]
async fn an_own_certificate_is_renewed_before_it_runs_out() {
    let gateway = Gateway::start().await;
    let before = gateway.fingerprint.clone();
    let (directory, authd) = gateway.stopped().await;
    let state = directory.path().join("state");
    let key = std::fs::read_to_string(state.join("tls.key")).expect("a key");
    let pair = rcgen::KeyPair::from_pem(&key).expect("a key");
    let mut params = rcgen::CertificateParams::new(vec!["old.example".to_owned()]).expect("names");
    params.not_after = (std::time::SystemTime::now() + std::time::Duration::from_secs(29 * 86_400)).into();
    let old = params.self_signed(&pair).expect("a certificate");
    std::fs::write(state.join("tls.crt"), old.pem()).expect("written");

    let renewed = Gateway::start_in(directory, authd, |_| {}).await;
    let (_, shown) = renewed.tls_stream_with(&[&rustls::version::TLS13]).await.expect("TLS");
    assert_ne!(shown.as_ref(), old.der().as_ref());
    assert_eq!((fingerprint(&shown), &renewed.fingerprint), (before.clone(), &before));
}

#[tokio::test]
async fn a_configured_certificate_is_used() {
    let directory = tempfile::TempDir::new().expect("a directory");
    let (certificate, key) = (directory.path().join("c.pem"), directory.path().join("k.pem"));
    let pair = rcgen::KeyPair::generate().expect("a key");
    let made = rcgen::CertificateParams::new(vec!["example".to_owned()]).expect("names").self_signed(&pair);
    let made = made.expect("a certificate");
    std::fs::write(&certificate, made.pem()).expect("written");
    std::fs::write(&key, pair.serialize_pem()).expect("written");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("mode");
    std::fs::set_permissions(&certificate, std::fs::Permissions::from_mode(0o644)).expect("mode");

    let gateway = Gateway::start_with(|config| {
        config.tls.certificate = Some(certificate.clone());
        config.tls.key = Some(key.clone());
    })
    .await;
    let (_, shown) = gateway.tls_stream_with(&[&rustls::version::TLS13]).await.expect("TLS");
    assert_eq!(shown.as_ref(), made.der().as_ref());
    assert_eq!(gateway.fingerprint, fingerprint(made.der()));

    // A key of another certificate is found out before anybody connects.
    std::fs::write(&key, rcgen::KeyPair::generate().expect("a key").serialize_pem()).expect("written");
    let mut config = Config { state_dir: directory.path().join("state"), ..Config::default() };
    config.listen.tls.clear();
    config.listen.unix = directory.path().join("g.sock");
    config.tls.certificate = Some(certificate);
    config.tls.key = Some(key);
    assert!(
        doorward_gateway::bind(
            &config,
            &doorward_launch::Identity::current(),
            &mut doorward_launch::socket::Sockets::default()
        )
        .is_err()
    );
}

#[tokio::test]
async fn both_versions_of_tls_are_spoken() {
    let gateway = Gateway::start().await;
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let (stream, _) = gateway.tls_stream_with(&[version]).await.expect("TLS");
        let mut client = Client::over(stream, "ws://localhost/").await.expect("a WebSocket");
        client.log_in("alice", "wonderland").await;
        assert_eq!(client.query().await, 0);
    }
}
