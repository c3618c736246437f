//! The HTTP token API.

use doorward_proto::authd::v1 as proto;
use serde_json::json;

use crate::{
    support::{Gateway, until_async},
    web::{Answer, Web, basic, bearer},
};

const UNKNOWN: &str = "0af6c1a8-9c4d-4f0a-9a53-0123456789ab";

async fn issue(web: &mut Web, body: &str) -> Answer {
    web.ask("POST /0.1/token", &basic("alice", "wonderland"), body).await
}

async fn token(web: &mut Web) -> String {
    let answer = issue(web, "{}").await;
    answer.json()["data"]["token"].as_str().expect("a token").to_owned()
}

fn reason(answer: &Answer) -> String {
    let body = answer.json();
    assert_eq!(body["status_code"], json!(answer.status), "{body}");
    assert!(body["timestamp"][0].as_f64().expect("seconds") > 1e9, "{body}");
    body["reason"][0].as_str().expect("a reason").to_owned()
}

#[tokio::test]
async fn a_token_is_issued_looked_at_checked_and_revoked_everywhere() {
    let gateway = Gateway::start_with(|config| {
        config.token_api.server_uuid = Some("6d0a8b7e-6f5f-4c1c-9d0a-0123456789ab".to_owned());
    })
    .await;
    let plain = tokio::net::TcpStream::connect(gateway.token_plain).await.expect("connect");
    let streams: [crate::support::Io; 4] = [
        Box::new(plain),
        gateway.token_stream().await,
        gateway.tls_stream().await,
        gateway.unix_stream().await,
    ];
    for stream in streams {
        let mut web = Web(stream);
        for prefix in ["/0.1", "/api/auth/0.1"] {
            let body = r#"{"backend":"pam","expiration":3600,"unknown":[1]}"#;
            let issued = web.ask(&format!("POST {prefix}/token"), &basic("alice", "wonderland"), body).await;
            assert_eq!(issued.status, 200, "{issued:?}");
            let data = &issued.json()["data"];
            let token = data["token"].as_str().expect("a token").to_owned();
            assert_eq!(
                *data,
                json!({
                    "token": token, "auth_id": "1000", "xivo_user_uuid": null,
                    "xivo_uuid": "6d0a8b7e-6f5f-4c1c-9d0a-0123456789ab",
                    "issued_at": "2026-11-22T03:47:02.000000", "expires_at": "2026-11-22T04:47:02.000000",
                    "utc_issued_at": "2026-11-22T03:47:02.000000", "utc_expires_at": "2026-11-22T04:47:02.000000",
                    "acls": ["confd.#", "sysadm.rpc.query.#"], "acl": ["confd.#", "sysadm.rpc.query.#"],
                    "session_uuid": data["session_uuid"], "metadata": {},
                })
            );
            let path = format!("{prefix}/token/{token}");
            for _ in 0..2 {
                let found = web.ask(&format!("GET {path}"), &basic("what", "ever"), "").await;
                assert_eq!((found.status, &found.json()["data"]), (200, data));
                let checked = web.ask(&format!("HEAD {path}?scope=confd.users.read"), "", "").await;
                assert_eq!((checked.status, checked.header("content-length")), (204, None));
            }
            let revoked = web.ask(&format!("DELETE {path}"), "", "").await;
            assert_eq!((revoked.status, revoked.json()), (200, json!({"data": {"message": "success"}})));
            assert!(!gateway.authd.lives(&token));
            assert_eq!(web.ask(&format!("HEAD {path}"), "", "").await.status, 404);
        }
    }
}

#[tokio::test]
async fn a_token_that_is_asked_about_again_is_known() {
    let gateway = Gateway::start().await;
    let mut web = Web(gateway.tls_stream().await);
    let token = token(&mut web).await;
    for _ in 0..100 {
        assert_eq!(web.ask(&format!("HEAD /0.1/token/{token}"), "", "").await.status, 204);
    }
    assert_eq!(gateway.authd.received("check").len(), 1);
    gateway.authd.end(&token, proto::EndReason::Revoked);
    until_async(async || web.ask(&format!("HEAD /0.1/token/{token}"), "", "").await.status == 404).await;
}

#[tokio::test]
async fn scopes_are_granted_by_the_tokens_own_list() {
    let gateway = Gateway::start().await;
    let mut web = Web(gateway.tls_stream().await);
    let token = token(&mut web).await;
    for (query, expected) in [
        ("", 200),
        ("?scope=confd.users", 200),
        ("?scope=confd", 403),
        ("?scope=", 403),
        ("?scope", 403),
        ("?scope=confd.users&scope=confd", 200),
        ("?other=confd", 200),
        ("?scope=conf%64.users", 200),
        ("?scope=dird.x", 403),
        ("?scope=%ff", 403),
    ] {
        let found = web.ask(&format!("GET /0.1/token/{token}{query}"), "", "").await;
        assert_eq!(found.status, expected, "{query}");
        let checked = web.ask(&format!("HEAD /0.1/token/{token}{query}"), "", "").await;
        assert_eq!(checked.status, if expected == 200 { 204 } else { 403 }, "{query}");
        let length = (expected != 200).then_some("0");
        assert_eq!(checked.header("content-length"), length, "curl -X HEAD would wait");
    }
    let refused = web.ask(&format!("GET /0.1/token/{token}?scope=dird.x"), "", "").await;
    assert_eq!(reason(&refused), "Unauthorized for dird.x");
    let path = format!("POST /0.1/token/{token}/scopes/check");
    let answer = web.ask(&path, "", r#"{"scopes":["confd.a","confd","dird.x","confd.a"]}"#).await;
    assert_eq!(answer.json(), json!({"scopes": {"confd.a": true, "confd": false, "dird.x": false}}));
    for body in ["", "{}", "[]", r#"{"scopes":[1]}"#] {
        assert_eq!(web.ask(&path, "", body).await.status, 400, "{body}");
    }
}

#[tokio::test]
async fn what_opens_nothing_is_told_in_one_way() {
    let gateway = Gateway::start().await;
    let mut web = Web(gateway.tls_stream().await);
    let revoked = token(&mut web).await;
    web.ask(&format!("DELETE /0.1/token/{revoked}"), "", "").await;
    for token in [revoked.as_str(), UNKNOWN, "x", "%00", &UNKNOWN.to_uppercase(), &"a".repeat(36)] {
        let found = web.ask(&format!("GET /0.1/token/{token}"), "", "").await;
        assert_eq!((found.status, reason(&found).as_str()), (404, "No such token"), "{token}");
        let checked = web.ask(&format!("HEAD /0.1/token/{token}?scope=a"), "", "").await;
        assert_eq!((checked.status, checked.header("content-length")), (404, Some("0")));
        let scopes = web.ask(&format!("POST /0.1/token/{token}/scopes/check"), "", r#"{"scopes":[]}"#).await;
        assert_eq!((scopes.status, reason(&scopes).as_str()), (404, "No such token"));
    }
    // What cannot be a token was not revoked; the text of a live one in other letters is none.
    let live = token(&mut web).await;
    for no_token in ["%00", &live.to_uppercase(), &live.replace('-', "0"), &"a".repeat(36), &"-".repeat(36)] {
        let answer = web.ask(&format!("DELETE /0.1/token/{no_token}"), "", "").await;
        assert_eq!((answer.status, reason(&answer).as_str()), (404, "No such token"), "{no_token}");
    }
    assert!(gateway.authd.lives(&live));
    assert_eq!(web.ask(&format!("DELETE /0.1/token/{UNKNOWN}"), "", "").await.status, 200);
    assert_eq!(web.ask("DELETE /0.1/token/x", "", "").await.status, 404);
}

#[tokio::test]
async fn who_gets_no_token_hears_why_after_the_credentials() {
    let gateway = Gateway::start().await;
    let mut web = Web(gateway.tls_stream().await);
    for expiration in ["0", "-1", "1.5", "true", r#""60""#, "1000001", "99999999999999999999"] {
        let body = format!(r#"{{"expiration":{expiration}}}"#);
        let answer = issue(&mut web, &body).await;
        assert_eq!((answer.status, reason(&answer).as_str()), (400, "Invalid expiration"), "{expiration}");
        let answer = web.ask("POST /0.1/token", &basic("alice", "wrong"), &body).await;
        assert_eq!((answer.status, reason(&answer).as_str()), (401, "Authentication Failed"), "{expiration}");
    }
    for (headers, body) in [
        (String::new(), "{}"),
        (basic("nobody", "x"), "{}"),
        (basic("alice", ""), "{}"),
        (basic("", "x"), "{}"),
        (bearer(UNKNOWN), "{}"),
        (basic("alice", "wonderland"), r#"{"backend":"unknown"}"#),
    ] {
        let answer = web.ask("POST /0.1/token", &headers, body).await;
        assert_eq!((answer.status, reason(&answer).as_str()), (401, "Authentication Failed"), "{headers}");
        assert_eq!(answer.header("www-authenticate"), None);
    }
    for body in ["", "{", "[]", r#"{"backend":1}"#] {
        let answer = issue(&mut web, body).await;
        assert_eq!(answer.status, 400, "{body}");
        assert!(!reason(&answer).is_empty());
    }
    for (user, expected) in [
        ("reason-TooMany", 429),
        ("reason-Unavailable", 503),
        ("reason-Fault", 500),
        ("reason-TimedOut", 503),
    ] {
        let answer = web.ask("POST /0.1/token", &basic(user, "x"), "{}").await;
        assert_eq!(answer.status, expected, "{user}");
        assert!(!reason(&answer).contains("sentence of a service"));
    }
    let answer = web.ask("POST /0.1/token", &basic("penalised", "x"), "{}").await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("60")));
    let large = format!(r#"{{"x":"{}"}}"#, "x".repeat(8 << 10));
    assert_eq!(issue(&mut web, &large).await.status, 413);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let gateway = Gateway::start_with(|config| config.timers.body_seconds = 5).await;
    let mut web = Web(gateway.tls_stream().await);
    let head = format!("{}Content-Length: 2\r\n", basic("alice", "wonderland"));
    web.send(&format!("POST /0.1/token HTTP/1.1\r\nHost: localhost\r\n{head}\r\n{{")).await;
    let answer = web.answer(false).await;
    assert_eq!((answer.status, answer.header("connection")), (408, Some("close")));
    assert_eq!(reason(&answer), "The body did not come in time");
    assert_eq!(web.byte().await, None);
}

#[tokio::test]
async fn whoever_is_under_a_penalty_can_still_ask_about_tokens() {
    let gateway = Gateway::start().await;
    let token = token(&mut Web(gateway.tls_stream().await)).await;
    let uid = rustix::process::getuid().as_raw();
    gateway.authd.tell(vec![proto::SourceStanding {
        source: Some(proto::source_standing::Source::Uid(uid)),
        penalty_ms: 60_000,
        known_ms: 60_000,
    }]);
    until_async(async || Web(gateway.unix_stream().await).byte_or_end().await).await;
    let mut web = Web(gateway.token_stream().await);
    assert_eq!(web.ask(&format!("HEAD /0.1/token/{token}"), "", "").await.status, 204);
}

#[tokio::test]
async fn misses_are_counted_and_hits_are_not() {
    let gateway = Gateway::start_with(|config| config.limits.token_misses = 3).await;
    let mut web = Web(gateway.tls_stream().await);
    let token = token(&mut web).await;
    let miss = format!("/0.1/token/{UNKNOWN}");
    for (request, expected) in [
        (format!("GET {miss}"), 404),
        (format!("HEAD {miss}"), 404),
        (format!("DELETE {miss}"), 200),
        (format!("GET {miss}"), 429),
        (format!("HEAD {miss}"), 429),
        (format!("HEAD /0.1/token/{token}"), 204),
        (format!("DELETE /0.1/token/{token}"), 200),
        (format!("HEAD /0.1/token/{token}"), 429),
    ] {
        let answer = web.ask(&request, "", "").await;
        assert_eq!(answer.status, expected, "{request}");
        assert_eq!(answer.header("retry-after").is_some(), expected == 429);
    }
    assert_eq!(issue(&mut web, "{}").await.status, 200, "no login is stopped by that");
}

#[tokio::test]
async fn the_rest_of_the_routes() {
    let gateway = Gateway::start().await;
    let mut web = Web(gateway.token_stream().await);
    let backends = web.ask("GET /0.1/backends", "", "").await;
    assert_eq!(backends.json(), json!({"data": ["pam", "other"]}));
    let document = web.ask("GET /0.1/api/api.yml", "", "").await;
    assert_eq!((document.status, document.header("content-type")), (200, Some("application/x-yaml")));
    assert!(document.body.starts_with("openapi: 3.0"));
    assert_eq!(web.ask("HEAD /0.1/status", "", "").await.status, 200);
    for (request, allow) in [
        ("GET /0.1/token", "POST, OPTIONS"),
        ("PUT /0.1/token/x", "GET, HEAD, DELETE, OPTIONS"),
        ("GET /0.1/status", "HEAD, OPTIONS"),
    ] {
        let answer = web.ask(request, "", "").await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allow)), "{request}");
        reason(&answer);
    }
    assert_eq!(web.ask("OPTIONS /0.1/token", "", "").await.header("allow"), Some("POST, OPTIONS"));
    for request in ["GET /", "GET /rpc/query", "PUT /rpc/auth", "GET /0.1/", "GET /0.2/token"] {
        let answer = web.ask(request, &basic("alice", "wonderland"), "").await;
        assert_eq!(answer.status, 404, "{request}: this listener has the token API alone");
    }
    gateway.authd.fall_silent();
    until_async(async || web.ask("HEAD /0.1/status", "", "").await.status == 503).await;
}

#[tokio::test]
async fn such_a_token_opens_no_session() {
    let gateway = Gateway::start().await;
    let mut web = Web(gateway.tls_stream().await);
    let token = token(&mut web).await;
    assert_eq!(
        web.ask(&format!("HEAD /0.1/token/{token}?scope=sysadm.rpc.query._"), "", "").await.status,
        204
    );
    for _ in 0..2 {
        assert_eq!(web.ask("GET /rpc/query", &bearer(&token), "").await.status, 401);
    }
    // And the other way round: a session's token can be looked at, which is no use of it.
    let (_client, session) = gateway.alice().await;
    assert_eq!(web.ask(&format!("HEAD /0.1/token/{session}?scope=x"), "", "").await.status, 204);
    let checks = gateway.authd.received("check");
    assert!(checks.iter().all(|check| check.connection == "unused"), "{checks:?}");
}

#[tokio::test]
async fn listed_pages_may_use_it() {
    let page = "Origin: https://phones.example\r\n";
    let gateway =
        Gateway::start_with(|config| config.token_api.origins = vec!["https://phones.example".to_owned()])
            .await;
    let mut web = Web(gateway.tls_stream().await);
    let cross = format!("{page}Sec-Fetch-Site: cross-site\r\n");
    let preflight =
        web.ask("OPTIONS /0.1/token", &format!("{cross}Access-Control-Request-Method: POST\r\n"), "").await;
    assert_eq!(preflight.status, 200);
    for (name, value) in [
        ("access-control-allow-origin", "https://phones.example"),
        ("access-control-allow-methods", "POST, OPTIONS"),
        ("access-control-allow-headers", "Content-Type, authorization, x-auth-token"),
        ("vary", "Origin"),
    ] {
        assert_eq!(preflight.header(name), Some(value), "{name}");
    }
    assert_eq!(preflight.header("access-control-allow-credentials"), None);
    let headers = format!("{cross}{}Content-Type: application/json\r\n", basic("alice", "wonderland"));
    let issued = web.ask("POST /0.1/token", &headers, "{}").await;
    assert_eq!(
        (issued.status, issued.header("access-control-allow-origin")),
        (200, Some("https://phones.example"))
    );
    let failed = web.ask("GET /0.1/token/x", &cross, "").await;
    assert_eq!(
        (failed.status, failed.header("access-control-allow-origin")),
        (404, Some("https://phones.example"))
    );
    assert_eq!(web.ask("GET /rpc/identify", &cross, "").await.status, 403, "the token API alone");
    let mut web = Web(gateway.tls_stream().await);
    let evil = "Origin: https://evil.example\r\n";
    let answer = web.ask("OPTIONS /0.1/token", evil, "").await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (403, None));
}

#[tokio::test]
async fn whoever_fills_the_door_keeps_no_service_out() {
    // One source has a sixteenth.
    let gateway = Gateway::start_with(|config| config.limits.plain_http = 16).await;
    let mut first = Web(gateway.tls_stream().await);
    let token = token(&mut first).await;
    let check = format!("HEAD /0.1/token/{token}");
    let mut second = Web(gateway.tls_stream().await);
    let full = second.ask("GET /0.1/backends", "", "").await;
    assert_eq!((full.status, full.header("connection")), (429, Some("close")));
    assert!(!reason(&full).is_empty());
    assert_eq!(Web(gateway.token_stream().await).ask(&check, "", "").await.status, 204);
}

#[tokio::test]
async fn what_is_refused_unread_is_told_in_the_same_form() {
    let gateway = Gateway::start().await;
    for (request, headers, expected) in [
        ("GET /0.1/backends", "Origin: https://evil.example\r\n", 403),
        ("GET /nothing", "Origin: https://evil.example\r\n", 403),
        ("GET /nothing", "", 404),
    ] {
        let answer = Web(gateway.token_stream().await).ask(request, headers, "").await;
        assert_eq!(answer.status, expected, "{request}");
        assert!(!reason(&answer).is_empty());
        let head = Web(gateway.token_stream().await).ask(&request.replace("GET", "HEAD"), headers, "").await;
        assert_eq!((head.status, head.header("content-length")), (expected, Some("0")), "{request}");
    }
}
