//! One line for each thing a browser, a client or an attacker may say.

use super::*;

const ORIGINS: &[&str] = &["https://console.example:8443", "app://doorward"];
const HOSTS: &[&str] = &["Box.example", "named.example:9000"];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Expected {
    /// Admitted, and nothing stands between.
    Direct,
    /// Admitted.
    Yes,
    No,
}
use Expected::{Direct, No, Yes};

fn judge(path: Path, uri: &str, pairs: &[(&'static str, &str)]) -> Expected {
    judge_for(Pages::Own, path, uri, pairs)
}

fn judge_for(pages: Pages, path: Path, uri: &str, pairs: &[(&'static str, &str)]) -> Expected {
    let rules = Rules {
        origins: ORIGINS.iter().map(|origin| (*origin).to_owned()).collect(),
        hosts: HOSTS.iter().map(|host| (*host).to_owned()).collect(),
        token_origins: vec!["https://phones.example".to_owned()],
    };
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
    }
    match rules.judge(path, pages, &uri.parse().expect("a URI"), &headers) {
        Ok(Admitted { direct: true }) => Direct,
        Ok(Admitted { direct: false }) => Yes,
        Err(Refused) => No,
    }
}

#[test]
fn origins_from_another_host() {
    for (host, origin, expected) in [
        ("host.example:12150", None, Direct),
        ("host.example:12150", Some("sysadm-client"), Direct),
        ("host.example:12150", Some("SYSADM-CLIENT"), No),
        ("host.example:12150", Some("sysadm-client "), No),
        ("host.example:12150", Some("https://host.example:12150"), Yes),
        ("host.example:12150", Some("https://HOST.example:12150"), Yes),
        ("HOST.example:12150", Some("https://host.example:12150"), Yes),
        ("host.example:12150", Some("https://host.example:12151"), No),
        ("host.example:12150", Some("https://host.example"), No),
        ("host.example", Some("https://host.example"), Yes),
        ("host.example", Some("https://host.example:443"), Yes),
        ("host.example:443", Some("https://host.example"), Yes),
        ("host.example:12150", Some("http://host.example:12150"), No),
        ("host.example:12150", Some("wss://host.example:12150"), No),
        ("host.example:12150", Some("HTTPS://host.example:12150"), No),
        ("host.example:12150", Some("https://host.example:12150/"), No),
        ("host.example:12150", Some("https://host.example:12150/x"), No),
        ("host.example:12150", Some("https://u@host.example:12150"), No),
        ("host.example:12150", Some("https://host.example.:12150"), No),
        ("host.example:12150", Some("https://host.example:012150"), Yes),
        ("host.example:12150", Some("https://host.example:99999"), No),
        ("host.example:12150", Some("https://host.example:"), No),
        ("host.example:12150", Some("https://evil.example"), No),
        ("host.example:12150", Some("https://host.example.evil.example:12150"), No),
        ("host.example:12150", Some("https://evil.example/https://host.example:12150"), No),
        ("host.example:12150", Some("null"), No),
        ("host.example:12150", Some(""), No),
        ("host.example:12150", Some("*"), No),
        ("host.example:12150", Some("https://console.example:8443"), Direct),
        ("host.example:12150", Some("https://console.example"), No),
        ("host.example:12150", Some("https://CONSOLE.example:8443"), No),
        ("host.example:12150", Some("app://doorward"), Direct),
        ("host.example:12150", Some("\u{fc}"), No),
        ("[2001:db8::1]:12150", Some("https://[2001:db8::1]:12150"), Yes),
        ("[2001:db8::1]:12150", Some("https://[2001:db8::2]:12150"), No),
    ] {
        let mut headers = vec![("host", host)];
        headers.extend(origin.map(|origin| ("origin", origin)));
        assert_eq!(judge(Path::Remote, "/", &headers), expected, "{host} {origin:?}");
    }
}

#[test]
fn hosts_on_loopback_are_loopback_or_configured() {
    for (host, expected) in [
        ("localhost", Direct),
        ("localhost:12150", Direct),
        ("LocalHost:1", Direct),
        ("127.0.0.1", Direct),
        ("127.0.0.1:12150", Direct),
        ("127.255.0.3:12150", Direct),
        ("[::1]", Direct),
        ("[::1]:12150", Direct),
        ("[0:0:0:0:0:0:0:1]:12150", Direct),
        ("box.example", Direct),
        ("box.example:1", Direct),
        ("BOX.EXAMPLE:2", Direct),
        ("named.example:9000", Direct),
        ("named.example:9001", No),
        ("named.example", No),
        ("localhost.", No),
        ("localhost.evil.example", No),
        ("127.0.0.1.evil.example", No),
        ("127.1", No),
        ("2130706433", No),
        ("0x7f.0.0.1", No),
        ("128.0.0.1", No),
        ("0.0.0.0", No),
        ("[::]", No),
        ("[::ffff:127.0.0.1]", No),
        ("evil@localhost", No),
        ("localhost:port", No),
        ("localhost:99999", No),
        ("localhost:", No),
        ("", No),
        ("a b", No),
    ] {
        for path in [Path::Loopback, Path::Unix] {
            assert_eq!(judge(path, "/", &[("host", host)]), expected, "{path:?} {host}");
        }
    }
    assert_eq!(judge(Path::Loopback, "/", &[]), No);
    assert_eq!(judge(Path::Unix, "/", &[]), Direct);
    assert_eq!(judge(Path::Remote, "/", &[]), Direct);
    assert_eq!(judge(Path::Remote, "/", &[("host", "anything.example")]), Direct);
}

#[test]
fn what_is_said_twice_is_refused() {
    assert_eq!(judge(Path::Remote, "/", &[("origin", "sysadm-client"), ("origin", "sysadm-client")]), No);
    assert_eq!(judge(Path::Loopback, "/", &[("host", "localhost"), ("host", "localhost")]), No);
    assert_eq!(judge(Path::Loopback, "https://localhost/", &[("host", "localhost")]), Direct);
    assert_eq!(judge(Path::Loopback, "https://localhost/", &[("host", "evil.example")]), No);
    assert_eq!(judge(Path::Loopback, "https://evil.example/", &[("host", "localhost")]), No);
    assert_eq!(judge(Path::Loopback, "https://evil.example/", &[]), No);
}

#[test]
fn a_page_of_another_site_is_refused_whatever_its_origin() {
    for (site, expected) in [
        ("cross-site", No),
        ("Cross-Site", No),
        ("same-site", Direct),
        ("same-origin", Direct),
        ("none", Direct),
    ] {
        let headers = [("host", "h.example"), ("origin", "sysadm-client"), ("sec-fetch-site", site)];
        assert_eq!(judge(Path::Remote, "/", &headers), expected, "{site}");
    }
    let twice = [("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")];
    assert_eq!(judge(Path::Remote, "/", &twice), No);
}

#[test]
fn same_origin_over_the_unix_socket_is_http() {
    let judge = |origin| judge(Path::Unix, "/", &[("host", "localhost"), ("origin", origin)]);
    assert_eq!(judge("http://localhost"), Yes);
    assert_eq!(judge("http://localhost:80"), Yes);
    assert_eq!(judge("https://localhost"), No);
    assert_eq!(judge("http://evil.example"), No);
}

#[test]
fn a_proxy_is_not_the_local_user() {
    for name in [
        "forwarded",
        "via",
        "x-real-ip",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded",
        "x-original-forwarded-for",
        "x-client-ip",
        "true-client-ip",
        "cf-connecting-ip",
        "x-envoy-external-address",
        "proxy-connection",
        "x-ssl-client-verify",
    ] {
        for path in [Path::Unix, Path::Loopback] {
            assert_eq!(judge(path, "/", &[("host", "localhost"), (name, "")]), Yes, "{name}");
        }
    }
    for name in ["x-request-id", "user-agent", "sec-websocket-protocol"] {
        assert_eq!(judge(Path::Loopback, "/", &[("host", "localhost"), (name, "x")]), Direct, "{name}");
    }
}

#[test]
fn pages_of_other_sites_may_use_the_token_api_alone() {
    let cross = ("sec-fetch-site", "cross-site");
    for (origin, token_api, own) in [
        ("https://phones.example", Yes, No),
        ("https://phones.example.", No, No),
        ("https://evil.example", No, No),
        ("sysadm-client", No, No),
    ] {
        let pairs = [("host", "host.example"), ("origin", origin), cross];
        assert_eq!(judge_for(Pages::Token, Path::Remote, "/", &pairs), token_api, "{origin}");
        assert_eq!(judge(Path::Remote, "/", &pairs), own, "{origin}");
    }
    let shared = ("origin", "https://phones.example");
    assert_eq!(judge_for(Pages::Token, Path::Loopback, "/", &[("host", "evil.example"), shared]), No);
    assert_eq!(judge_for(Pages::Token, Path::Loopback, "/", &[("host", "localhost"), shared]), Yes);
    assert_eq!(
        judge_for(Pages::Token, Path::Remote, "/", &[cross]),
        No,
        "a page that says nothing of itself"
    );
    assert_eq!(judge_for(Pages::Token, Path::Remote, "/", &[shared, shared]), No);
}
