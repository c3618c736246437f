//! SysAdm requests over plain HTTP.

use doorward_proto::authd::v1::EndReason;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::{
    support::Gateway,
    web::{Web, basic, bearer},
};

const JSON: &str = "Content-Type: application/json\r\n";

#[tokio::test]
async fn a_token_is_asked_for_used_and_given_back() {
    let gateway = Gateway::start().await;
    for stream in [gateway.unix_stream().await, gateway.tls_stream().await] {
        let mut web = Web(stream);
        let body = r#"{"username":"alice","password":"wonderland"}"#;
        let granted = web.ask("PUT /rpc/auth", JSON, body).await;
        assert_eq!(granted.status, 200, "{granted:?}");
        let (token, seconds) = (&granted.json()["args"][0], &granted.json()["args"][1]);
        assert_eq!(*seconds, json!(300));
        let token = token.as_str().expect("a token").to_owned();
        for request in ["GET /rpc/query", "POST /RPC/Query", "PUT /rpc/query"] {
            let answer = web.ask(request, &bearer(&token), "").await;
            assert_eq!(
                (answer.status, answer.json()),
                (200, json!({"args": {"rpc/logs": "read"}})),
                "{request}"
            );
            assert_eq!(answer.header("cache-control"), Some("no-store"));
        }
        let head = web.ask("HEAD /rpc/query", &bearer(&token), "").await;
        assert_eq!((head.status, head.body.as_str()), (200, ""));
        let cleared = web.ask("PUT /rpc/auth_clear", &bearer(&token), "{}").await;
        assert_eq!((cleared.status, cleared.json()), (200, json!({"args": {}})));
        assert!(!gateway.authd.lives(&token));
        assert_eq!(web.ask("GET /rpc/query", &bearer(&token), "").await.status, 401);
    }
}

#[tokio::test]
async fn many_requests_of_one_session_are_one_question_and_are_reported() {
    let gateway = Gateway::start().await;
    let (_client, token) = gateway.alice().await;
    let mut web = Web(gateway.tls_stream().await);
    for _ in 0..50 {
        assert_eq!(web.ask("GET /rpc/query", &bearer(&token), "").await.status, 200);
    }
    assert_eq!(gateway.authd.received("check").len(), 1);
    let reports = gateway.authd.received_at_least("report", 1).await;
    assert!(reports.iter().any(|report| report.about.contains(&token)), "{reports:?}");
}

#[tokio::test]
async fn basic_is_a_login_for_one_request() {
    let gateway = Gateway::start().await;
    let mut web = Web(gateway.tls_stream().await);
    for (count, request) in ["PUT /rpc/query", "GET /rpc/query", "GET /rpc/sessions"].into_iter().enumerate()
    {
        let body = if request.ends_with("sessions") { r#"{"action":"list"}"# } else { "" };
        let answer = web.ask(request, &basic("alice", "wonderland"), body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(gateway.authd.received("begin").len(), count + 1);
        let ended = gateway.authd.received_at_least("end", count + 1).await;
        assert_eq!(ended.len(), count + 1);
        assert!(!gateway.authd.lives(&ended[count].about));
    }
}

#[tokio::test]
async fn who_is_not_let_in_hears_one_thing() {
    let gateway = Gateway::start().await;
    let mut web = Web(gateway.tls_stream().await);
    let unknown = bearer("0af6c1a8-9c4d-4f0a-9a53-0123456789ab");
    for headers in [
        String::new(),
        basic("alice", "wrong"),
        basic("carol", "first"),
        basic("alice", ""),
        basic("", ""),
        basic(&"a".repeat(300), "x"),
        bearer("x"),
        unknown,
        "Authorization: Basic ????\r\n".to_owned(),
        "Authorization: Negotiate YTpi\r\n".to_owned(),
    ] {
        for request in ["GET /rpc/query", "PUT /no/thing"] {
            let answer = web.ask(request, &headers, "").await;
            assert_eq!(answer.status, 401, "{headers}");
            assert_eq!(answer.json(), json!({"args": {"code": 401, "message": "Unauthorized"}}));
            let challenge = answer.header("www-authenticate").expect("a challenge");
            assert!(challenge.starts_with(r#"Basic realm="doorward""#), "{challenge}");
            for page in ["Origin: https://localhost\r\n", "Sec-Fetch-Mode: cors\r\n"] {
                let answer = web.ask("GET /rpc/query", &format!("{headers}{page}"), "").await;
                assert_eq!((answer.status, answer.header("www-authenticate")), (401, None), "{page}");
            }
        }
    }
    // What PAM asked carol cannot be answered here.
    assert!(!gateway.authd.received_at_least("abandon", 1).await.is_empty());
    let twice = format!("{}{}", basic("alice", "wonderland"), basic("bob", "builder"));
    assert_eq!(web.ask("GET /rpc/query", &twice, "").await.status, 400);
}

#[tokio::test]
async fn a_local_user_needs_no_password_on_the_unix_socket_and_one_over_tcp() {
    let gateway = Gateway::start().await;
    let mut web = Web(gateway.unix_stream().await);
    let answer = web.ask("PUT /rpc/auth", "", "{}").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(web.ask("GET /rpc/identify", &basic("", ""), "").await.status, 200);
    let behind = "X-Forwarded-For: 192.0.2.1\r\n";
    assert_eq!(web.ask("PUT /rpc/auth", behind, "{}").await.status, 401);
    let mut tls = Web(gateway.tls_stream().await);
    assert_eq!(tls.ask("PUT /rpc/auth", "", "{}").await.status, 401);
}

#[tokio::test]
async fn a_penalty_is_told_and_ends_the_connection() {
    let gateway = Gateway::start().await;
    for (request, headers, body) in [
        ("GET /rpc/query", basic("penalised", "x"), ""),
        ("PUT /rpc/auth", String::new(), r#"{"username":"penalised","password":"x"}"#),
    ] {
        let mut web = Web(gateway.tls_stream().await);
        let answer = web.ask(request, &headers, body).await;
        assert_eq!((answer.status, answer.header("retry-after")), (403, Some("60")), "{answer:?}");
        assert_eq!(web.byte().await, None);
    }
}

#[tokio::test]
async fn rights_hold_and_what_is_not_there_is_not_found() {
    let gateway = Gateway::start().await;
    let mut web = Web(gateway.tls_stream().await);
    let bob = basic("bob", "builder");
    assert_eq!(web.ask("GET /rpc/query", &bob, "").await.status, 403);
    let alice = basic("alice", "wonderland");
    assert_eq!(web.ask("GET /no/thing", &alice, "").await.status, 404);
    assert_eq!(web.ask("PUT /rpc/sessions", &alice, r#"{"action":"nothing"}"#).await.status, 404);
    assert_eq!(web.ask("PUT /rpc/sessions", &alice, "{}").await.status, 400);
    let events = web.ask("PUT /events/subscribe", &alice, r#""x""#).await;
    assert_eq!(events.status, 400, "{events:?}");
    for path in ["/", "/rpc", "/rpc/query/", "/rpc/query/x", "/ws/rpc/query"] {
        assert_eq!(web.ask(&format!("GET {path}"), &alice, "").await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn methods_are_told_and_reading_ones_only_read() {
    let gateway = Gateway::start().await;
    let mut web = Web(gateway.tls_stream().await);
    let options = web.ask("OPTIONS /rpc/query", "", "").await;
    assert_eq!((options.status, options.header("allow")), (200, Some("GET, HEAD, POST, PUT, OPTIONS")));
    for method in ["DELETE", "PATCH", "TRACE", "BREW"] {
        let answer = web.ask(&format!("{method} /rpc/query"), "", "").await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD, POST, PUT, OPTIONS")));
    }
    let (_client, token) = gateway.alice().await;
    for (request, body) in [("GET /rpc/auth", ""), ("GET /rpc/sessions", r#"{"action":"end_others"}"#)] {
        let answer = web.ask(request, &bearer(&token), body).await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST, PUT, OPTIONS")), "{request}");
    }
    let listed = web.ask("GET /rpc/sessions", &bearer(&token), r#"{"action":"list"}"#).await;
    assert_eq!(listed.status, 200, "{listed:?}");
}

#[tokio::test]
async fn a_page_must_say_that_it_sends_json() {
    let gateway = Gateway::start().await;
    let mut web = Web(gateway.tls_stream().await);
    let origin = "Origin: sysadm-client\r\n";
    for (headers, expected) in [
        (format!("{origin}Content-Type: text/plain\r\n"), 415),
        (origin.to_owned(), 415),
        (format!("{origin}{JSON}"), 200),
        ("Content-Type: text/plain\r\n".to_owned(), 200),
    ] {
        assert_eq!(web.ask("POST /rpc/identify", &headers, "{}").await.status, expected, "{headers}");
    }
    assert_eq!(web.ask("GET /rpc/identify", origin, "").await.status, 200);
}

#[tokio::test]
async fn bodies_have_a_limit_and_a_form() {
    let gateway = Gateway::start_with(|config| config.timers.body_seconds = 5).await;
    let (_client, token) = gateway.alice().await;
    let filled = |length: usize| format!(r#"{{"x":"{}"}}"#, "x".repeat(length - 8));
    for (headers, length, expected) in [
        (String::new(), 8 << 10, 200),
        (String::new(), (8 << 10) + 1, 413),
        (bearer(&token), 128 << 10, 200),
        (bearer(&token), (128 << 10) + 1, 413),
    ] {
        let mut web = Web(gateway.tls_stream().await);
        let answer = web.ask("PUT /rpc/identify", &headers, &filled(length)).await;
        assert_eq!(answer.status, expected, "{length}");
        let mut web = Web(gateway.tls_stream().await);
        let chunked = format!(
            "PUT /rpc/identify HTTP/1.1\r\nHost: localhost\r\n{headers}Transfer-Encoding: chunked\r\n\r\n\
             {length:x}\r\n{}\r\n0\r\nTrailer: x\r\n\r\n",
            filled(length)
        );
        web.send(&chunked).await;
        let answer = web.answer(false).await;
        assert_eq!(answer.status, expected, "{length} in chunks");
        assert_eq!(answer.header("connection"), Some("close"), "how long it was could be read in two ways");
    }
    for body in ["{", "\u{feff}{}", &"[".repeat(40), r#"{"args":1,"args":2}"#] {
        let mut web = Web(gateway.tls_stream().await);
        assert_eq!(web.ask("PUT /rpc/identify", "", body).await.status, 400, "{body}");
    }
    let mut web = Web(gateway.tls_stream().await);
    web.send("PUT /rpc/identify HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{").await;
    let late = web.answer(false).await;
    assert_eq!((late.status, late.header("connection")), (408, Some("close")));
    assert_eq!(web.byte().await, None);
}

#[tokio::test]
async fn whoever_sends_far_too_much_can_read_the_answer() {
    const LENGTH: usize = 6 << 20;
    let gateway = Gateway::start().await;
    for stream in [gateway.unix_stream().await, gateway.tls_stream().await] {
        let mut web = Web(stream);
        let head =
            format!("PUT /rpc/identify HTTP/1.1\r\nHost: localhost\r\nContent-Length: {LENGTH}\r\n\r\n");
        web.0.write_all(head.as_bytes()).await.expect("the head is taken");
        web.0.write_all(&vec![b' '; LENGTH]).await.expect("all of the body is taken");
        assert_eq!(web.answer(false).await.status, 413);
    }
}

#[tokio::test]
async fn a_body_that_comes_byte_by_byte_is_one_body() {
    let gateway = Gateway::start_with(|config| config.limits.message_before_login = 300).await;
    for (length, expected) in [(300, 200), (301, 413)] {
        let mut web = Web(gateway.tls_stream().await);
        let body = format!(r#"{{"x":"{}"}}"#, "x".repeat(length - 8));
        let chunks: String = body.chars().map(|byte| format!("1\r\n{byte}\r\n")).collect();
        web.send(&format!(
            "PUT /rpc/identify HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
             {chunks}0\r\nX-Trailer: x\r\n\r\n"
        ))
        .await;
        assert_eq!(web.answer(false).await.status, expected, "{length}");
    }
}

#[tokio::test]
async fn a_body_is_asked_for_only_when_it_will_be_read() {
    let gateway = Gateway::start().await;
    let mut web = Web(gateway.tls_stream().await);
    let head = |authorization: &str| {
        format!(
            "PUT /rpc/query HTTP/1.1\r\nHost: localhost\r\n{authorization}Expect: 100-continue\r\n\
             Content-Length: 2\r\n\r\n"
        )
    };
    web.send(&head(&basic("alice", "wonderland"))).await;
    assert_eq!(web.answer(true).await.status, 100);
    web.send("{}").await;
    assert_eq!(web.answer(false).await.status, 200);
    web.send(&head("")).await;
    assert_eq!(web.answer(false).await.status, 401);
}

#[tokio::test]
async fn requests_have_names_and_come_one_after_the_other() {
    let gateway = Gateway::start().await;
    let mut web = Web(gateway.tls_stream().await);
    let request = "GET /rpc/identify HTTP/1.1\r\nHost: localhost\r\n\r\n";
    web.send(&request.repeat(20)).await;
    let mut names = Vec::new();
    for _ in 0..20 {
        let answer = web.answer(false).await;
        assert_eq!(answer.status, 200);
        names.push(answer.header("x-request-id").expect("a name").to_owned());
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 20);
}

#[tokio::test]
async fn old_and_odd_requests_are_answered_or_refused() {
    let gateway = Gateway::start().await;
    for (head, expected) in [
        ("GET /rpc/identify HTTP/1.0\r\n\r\n", "200"),
        ("GET http://localhost/rpc/identify HTTP/1.1\r\nHost: localhost\r\n\r\n", "200"),
        ("GET http://evil.example/rpc/identify HTTP/1.1\r\nHost: localhost\r\n\r\n", "403"),
        ("GET /%72pc/identify HTTP/1.1\r\nHost: localhost\r\n\r\n", "200"),
        ("GET /rpc%2Fidentify HTTP/1.1\r\nHost: localhost\r\n\r\n", "404"),
        ("GET /rpc/identify?x=1 HTTP/1.1\r\nHost: localhost\r\n\r\n", "200"),
        ("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", "404"),
        ("CONNECT localhost:1 HTTP/1.1\r\nHost: localhost:1\r\n\r\n", "404"),
        (
            "PUT /rpc/identify HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
            "400",
        ),
        ("PUT /rpc/identify HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"),
        ("PUT /rpc/identify HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: x\r\n\r\n", "400"),
        ("GET /rpc/identify HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", "403"),
        ("GET /rpc/identify\r\n\r\n", "400"),
    ] {
        let mut web = Web(gateway.unix_stream().await);
        web.send(head).await;
        assert_eq!(web.answer(false).await.status.to_string(), expected, "{head}");
    }
}

#[tokio::test]
async fn a_length_beside_chunks_does_not_smuggle_a_request() {
    let gateway = Gateway::start().await;
    for both in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    ] {
        let mut web = Web(gateway.unix_stream().await);
        web.send(&format!(
            "PUT /rpc/identify HTTP/1.1\r\nHost: localhost\r\n{both}\r\n0\r\n\r\nGET /rpc/identify HTTP/1.1\r\n\
             Host: localhost\r\n\r\n"
        ))
        .await;
        let answer = web.answer(false).await;
        assert_eq!(answer.header("connection"), Some("close"), "{answer:?}");
        assert_eq!(web.byte().await, None, "nothing more is answered");
    }
}

#[tokio::test]
async fn nothing_is_answered_from_memory_while_ends_are_not_told() {
    let gateway = Gateway::start().await;
    let (_client, token) = gateway.alice().await;
    let mut web = Web(gateway.tls_stream().await);
    assert_eq!(web.ask("GET /rpc/query", &bearer(&token), "").await.status, 200);
    gateway.authd.fall_silent();
    crate::support::until_async(async || web.ask("GET /rpc/query", &bearer(&token), "").await.status == 503)
        .await;
    gateway.authd.end_silently(&token);
    gateway.authd.speak();
    crate::support::until_async(async || web.ask("GET /rpc/query", &bearer(&token), "").await.status != 503)
        .await;
    assert_eq!(web.ask("GET /rpc/query", &bearer(&token), "").await.status, 401);
}

#[tokio::test]
async fn whoever_hangs_up_abandons_the_login() {
    let gateway = Gateway::start().await;
    let mut web = Web(gateway.tls_stream().await);
    web.send(&format!("GET /rpc/query HTTP/1.1\r\nHost: localhost\r\n{}\r\n", basic("slow", "x"))).await;
    gateway.authd.received_at_least("begin", 1).await;
    drop(web);
    assert_eq!(gateway.authd.received_at_least("abandon", 1).await.len(), 1);
    gateway.authd.let_go();
    let ended = gateway.authd.received_at_least("end", 1).await;
    assert!(!gateway.authd.lives(&ended[0].about), "nobody has its token");
}

#[tokio::test]
async fn whoever_hangs_up_while_the_body_is_awaited_leaves_no_session() {
    let gateway = Gateway::start().await;
    let mut web = Web(gateway.tls_stream().await);
    let alice = basic("alice", "wonderland");
    web.send(&format!("PUT /rpc/query HTTP/1.1\r\nHost: localhost\r\n{alice}Content-Length: 9\r\n\r\n{{"))
        .await;
    gateway.authd.received_at_least("begin", 1).await;
    drop(web);
    let ended = gateway.authd.received_at_least("end", 1).await;
    assert!(!gateway.authd.lives(&ended[0].about));
}

#[tokio::test]
async fn a_session_that_ends_while_the_body_is_awaited_answers_nothing() {
    let (gateway, certd) = Gateway::start_with_certd().await;
    let (_client, token) = gateway.alice().await;
    let list = r#"{"action":"list_ssl_checksums"}"#;
    let mut other = Web(gateway.tls_stream().await);
    // authd's word for certd is kept from here on.
    assert_eq!(other.ask("PUT /rpc/settings", &bearer(&token), list).await.status, 200);
    let mut waiting = Vec::new();
    for (request, body) in [("PUT /rpc/query", "{}"), ("PUT /rpc/settings", list)] {
        let mut web = Web(gateway.tls_stream().await);
        web.send(&format!(
            "{request} HTTP/1.1\r\nHost: localhost\r\n{}Expect: 100-continue\r\nContent-Length: {}\r\n\r\n",
            bearer(&token),
            body.len()
        ))
        .await;
        assert_eq!(web.answer(true).await.status, 100, "it is somebody's, and the body is awaited");
        waiting.push((web, request, body));
    }
    let asked = certd.received().len();
    gateway.authd.end(&token, EndReason::Revoked);
    crate::support::until_async(async || {
        other.ask("GET /rpc/query", &bearer(&token), "").await.status == 401
    })
    .await;
    for (mut web, request, body) in waiting {
        web.send(body).await;
        assert_eq!(web.answer(false).await.status, 401, "{request}");
    }
    assert_eq!(certd.received().len(), asked, "certd was not asked");
}
