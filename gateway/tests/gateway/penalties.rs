//! Penalties, as authd tells them.

use doorward_launch::Identity;
use doorward_proto::authd::v1::{SourceStanding, source_standing::Source};
use tokio::{io::AsyncReadExt, net::UnixStream};

use crate::support::{Client, Gateway, PATIENCE, auth, code};

const MINUTE: u64 = 60_000;

fn own_uid() -> Source {
    Source::Uid(Identity::current().uid)
}

fn standing(source: Source, penalty_ms: u64, known_ms: u64) -> Vec<SourceStanding> {
    vec![SourceStanding { source: Some(source), penalty_ms, known_ms }]
}

async fn upgraded(gateway: &Gateway, headers: &[(&'static str, &str)]) -> bool {
    let Ok(stream) = UnixStream::connect(&gateway.unix).await else { return false };
    Client::with_headers(Box::new(stream), "ws://localhost/", headers).await.is_ok()
}

/// Waits until a new connection is served, or is not.
async fn served(gateway: &Gateway, headers: &[(&'static str, &str)], wanted: bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while upgraded(gateway, headers).await != wanted {
        assert!(std::time::Instant::now() < deadline, "{wanted}");
    }
}

#[tokio::test]
async fn a_login_under_a_penalty_is_403_and_the_end() {
    let gateway = Gateway::start().await;
    for mut client in [gateway.unix().await, gateway.tls().await] {
        let reply = client.call(auth("penalised", "x")).await;
        assert_eq!((code(&reply), reply["args"]["message"].as_str()), (403, Some("Forbidden")));
        let told = "too many failed logins, try again in 60 s".to_owned();
        assert_eq!(client.closed().await, (1008, told));
    }
}

#[tokio::test]
async fn whoever_is_under_a_penalty_is_not_let_in_while_it_lasts() {
    let gateway = Gateway::start().await;
    let (mut inside, _) = gateway.alice().await;
    let mut waiting = gateway.unix().await;
    gateway.authd.tell(standing(own_uid(), MINUTE, MINUTE));
    served(&gateway, &[], false).await;
    // Closed at once, before TLS.
    let mut tcp = tokio::net::TcpStream::connect(gateway.tls).await.expect("connect");
    let end = tokio::time::timeout(PATIENCE, tcp.read(&mut [0; 1])).await.expect("in time");
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    // Whoever is logged in goes on; whoever wants a challenge is told.
    assert_eq!(inside.query().await, 0);
    assert_eq!(waiting.code("rpc", "auth_ssl", r#"{"action":"request"}"#).await, 403);
    assert_eq!(waiting.closed().await.0, 1008);
    assert!(gateway.authd.received("challenge").is_empty());
    gateway.authd.tell(standing(own_uid(), 0, MINUTE));
    served(&gateway, &[], true).await;
    gateway.tls().await;
}

#[tokio::test]
async fn what_authd_told_holds_while_it_is_away_and_is_told_again_when_it_is_back() {
    let mut gateway = Gateway::start().await;
    gateway.authd.tell(standing(own_uid(), MINUTE, MINUTE));
    served(&gateway, &[], false).await;
    gateway.authd.kill().await;
    assert!(!upgraded(&gateway, &[]).await);
    gateway.authd.tell(Vec::new());
    gateway.authd.resume();
    served(&gateway, &[], true).await;
}

#[tokio::test]
async fn others_are_not_concerned() {
    let gateway = Gateway::start().await;
    let network = |text: &str| standing(Source::Address(text.to_owned()), MINUTE, MINUTE);
    let mut all = standing(Source::Uid(Identity::current().uid + 1), MINUTE, MINUTE);
    // On loopback the user counts, not the address.
    all.extend([network("127.0.0.1"), network("::1"), network("192.0.2.1"), network("2001:db8::")].concat());
    gateway.authd.tell(all);
    let mut told = standing(own_uid(), MINUTE, MINUTE);
    gateway.unix().await;
    gateway.tls().await;
    // They were heard, for what came after them is.
    gateway.authd.tell(std::mem::take(&mut told));
    served(&gateway, &[], false).await;
}

#[tokio::test]
async fn a_quarter_of_the_places_is_not_for_those_who_failed() {
    let gateway = Gateway::start_with(|config| {
        config.limits.connections_before_login = 8;
        config.limits.per_source = 8;
    })
    .await;
    let mut inside = Vec::new();
    for _ in 0..6 {
        inside.push(gateway.unix().await);
    }
    gateway.authd.tell(standing(own_uid(), 0, MINUTE));
    served(&gateway, &[], false).await;
    assert!(gateway.tls_stream_with(&[&rustls::version::TLS13]).await.is_err());
    gateway.authd.tell(standing(own_uid(), 0, 0));
    served(&gateway, &[], true).await;
    drop(inside);
}

#[tokio::test]
async fn a_trusted_proxy_says_whose_penalty_it_is() {
    let uid = Identity::current().uid;
    for (proxies, trusted) in [(format!(r#"["uid:{uid}"]"#), true), (r#"["192.0.2.0/24"]"#.to_owned(), false)]
    {
        let gateway = Gateway::start_with(|config| {
            config.http.trusted_proxies = serde_json::from_str(&proxies).expect("proxies");
        })
        .await;
        let bad = standing(Source::Address("198.51.100.7".to_owned()), MINUTE, MINUTE);
        gateway.authd.tell(bad);
        let header = [("x-forwarded-for", "203.0.113.1, 198.51.100.7")];
        if trusted {
            served(&gateway, &header, false).await;
        }
        assert_eq!(upgraded(&gateway, &header).await, !trusted);
        let other = [("x-forwarded-for", "198.51.100.7, 198.51.100.8")];
        let stream = gateway.unix_stream().await;
        let mut client = Client::with_headers(stream, "ws://localhost/", &other).await.expect("served");
        client.log_in("alice", "wonderland").await;
        let told = gateway.authd.received("forwarded").pop().expect("a login").about;
        assert_eq!(told, if trusted { "198.51.100.8" } else { "" });
        // For identity and shares it is who connects that counts, as before.
        let source = gateway.authd.received("source").pop().expect("a login").about;
        assert_eq!(source, format!(" Some({uid})"));
        // Without the header it is the proxy itself.
        gateway.authd.tell(standing(own_uid(), MINUTE, MINUTE));
        served(&gateway, &[], false).await;
        if trusted {
            assert!(upgraded(&gateway, &other).await);
        }
    }
}
