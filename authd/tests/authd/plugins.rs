//! Plug-in authenticators: what one may say, and what one that is broken or hostile costs.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use doorward_authd::{
    config::{Authenticator, Config},
    session,
};
use doorward_proto::{
    authd::v1::{self as wire, begin_request::Method, outcome},
    authenticator::v1 as plugin,
};
use serde_json::json;
use tonic::{Code, Status};

use crate::{
    bench::{Bench, ONE, TWO, begin, code, granted, is_denied, kind, password, until},
    fakes::authenticator::{Does, serve, serve_bytes},
};

const CHANNEL: wire::Dialect = wire::Dialect::Channel;

fn terminals(bench_socket: std::path::PathBuf) -> Authenticator {
    Authenticator {
        kind: "terminal".into(),
        socket: bench_socket,
        user: doorward_launch::Identity::current().uid.to_string(),
        acl_max: vec!["ws.group.#".into(), "confd.#".into()],
        seconds: 10,
        concurrent: 8,
    }
}

async fn started(change: impl FnOnce(&mut Config)) -> Bench {
    Bench::start(|config| {
        let socket = config.state_dir.with_file_name("terminals.sock");
        config.authenticator = vec![terminals(socket)];
        change(config);
    })
    .await
}

fn socket(bench: &Bench) -> std::path::PathBuf {
    bench.path("terminals.sock")
}

fn terminal() -> plugin::Identity {
    plugin::Identity {
        pk: "7".into(),
        uuid: "t-7".into(),
        name: "Terminal 7".into(),
        acl: vec!["ws.group.3.subscribe".into()],
        expires: 0,
        only_one: false,
    }
}

fn login_from(address: &str, kind: &str, credentials: &str) -> wire::BeginRequest {
    let method = Method::Model(wire::Model { kind: kind.into(), credentials: credentials.into() });
    wire::BeginRequest { dialect: CHANNEL.into(), ..begin(ONE, address, method) }
}

fn login() -> wire::BeginRequest {
    login_from("192.0.2.1", "terminal", r#"{"token":"a"}"#)
}

#[tokio::test]
async fn somebody_who_is_known_gets_a_session_of_its_kind() {
    let bench = started(|_| ()).await;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let script = asked.clone();
    serve(&socket(&bench), move |request| {
        script.lock().expect("no panic").push(request);
        Does::Knows(plugin::Identity { expires: session::utc() + 600, ..terminal() })
    });
    let opened = granted(bench.login().await.begin(login()).await);
    let session = opened.session.expect("a session");
    assert_eq!((session.user.as_str(), session.kind.as_str()), ("terminal/t-7", "terminal"));
    assert_eq!((session.uid, session.auth_id.as_str(), session.method.as_str()), (None, "t-7", "model"));
    assert_eq!(session.acl, ["ws.group.3.subscribe"]);
    assert!((590_000..=600_000).contains(&session.absolute_left_ms));
    let asked = asked.lock().expect("no panic").remove(0);
    assert_eq!((asked.kind.as_str(), asked.credentials.as_slice()), ("terminal", &br#"{"token":"a"}"#[..]));
    assert_eq!((asked.peer.expect("a peer").address.as_str(), asked.deadline_ms), ("192.0.2.1", 10_000));
    let record = bench.records().remove(0);
    assert_eq!((&record["event"], &record["user"]), (&json!("login"), &json!("terminal/t-7")));
    assert_eq!((&record["method"], &record["uid"]), (&json!("model"), &json!(null)));

    let request = wire::AssertRequest { token: opened.token.clone(), audience: "channel/group".into() };
    let jwt = bench.sessions().await.assert(request).await.expect("signed").into_inner().jwt;
    let body = jwt.split('.').nth(1).expect("a body");
    let claims = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, body);
    let claims: serde_json::Value = serde_json::from_slice(&claims.expect("base64")).expect("JSON");
    assert_eq!((&claims["sub"], &claims["kind"]), (&json!("terminal/t-7"), &json!("terminal")));
    assert_eq!((&claims["pk"], &claims["name"]), (&json!("7"), &json!("Terminal 7")));
    assert_eq!(claims["uid"], json!(null));
}

#[tokio::test]
async fn a_refusal_is_a_guess_and_a_kind_that_there_is_not_is_none() {
    let bench = started(|config| config.penalty.failures = 3).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    serve(&socket(&bench), move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        Does::Refuses
    });
    let mut logins = bench.login().await;
    for unknown in ["user", "Terminal", "root", "", "../terminal"] {
        let outcome = kind(logins.begin(login_from("192.0.2.1", unknown, "{}")).await);
        assert!(matches!(outcome, outcome::Kind::NoSuchKind(_)), "{unknown}");
    }
    for _ in 0..3 {
        assert!(is_denied(logins.begin(login()).await));
    }
    assert!(matches!(kind(logins.begin(login()).await), outcome::Kind::Penalised(_)), "they were guesses");
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    let records = bench.records();
    let last = &records[records.len() - 2];
    assert_eq!((&last["reason"], &last["user"]), (&json!("authenticator-denied"), &json!("terminal/")));
}

#[tokio::test]
async fn credentials_that_are_no_object_or_too_long_never_reach_it() {
    let bench = started(|_| ()).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    serve(&socket(&bench), move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        Does::Refuses
    });
    let mut logins = bench.login().await;
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(8_192));
    for wrong in ["", "[]", "7", "{", "{}x", "\u{1}", &long] {
        assert!(is_denied(logins.begin(login_from("192.0.2.2", "terminal", wrong)).await), "{wrong:.10}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    assert!(is_denied(logins.begin(login()).await));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_it_says_of_the_host_or_beyond_its_maximum_is_not_believed() {
    let bench = started(|_| ()).await;
    let says = Arc::new(Mutex::new(terminal()));
    let script = says.clone();
    serve(&socket(&bench), move |_| Does::Knows(script.lock().expect("no panic").clone()));
    let mut logins = bench.login().await;
    let long = "x".repeat(10 << 20);
    for (what, wrong) in [
        ("a user", plugin::Identity { uuid: "user/root".into(), ..terminal() }),
        ("no id", plugin::Identity { uuid: String::new(), ..terminal() }),
        ("no pk", plugin::Identity { pk: String::new(), ..terminal() }),
        ("10 MiB", plugin::Identity { name: long, ..terminal() }),
        ("300 entries", plugin::Identity { acl: vec!["ws.group.1.x".into(); 300], ..terminal() }),
        ("milliseconds", plugin::Identity { expires: session::utc() * 1000, ..terminal() }),
    ] {
        *says.lock().expect("no panic") = wrong;
        assert_eq!(code(logins.begin(login()).await), Code::Unavailable, "{what}");
    }
    *says.lock().expect("no panic") = plugin::Identity { expires: session::utc() - 1, ..terminal() };
    assert!(is_denied(logins.begin(login()).await), "it is over");

    let acl = ["#", "sysadm.#", "*.rpc.query._", "ws.#", "me.rpc.query._"].map(str::to_owned).to_vec();
    *says.lock().expect("no panic") =
        plugin::Identity { uuid: "root".into(), pk: "0".into(), name: "root".into(), acl, ..terminal() };
    let session = granted(logins.begin(login()).await).session.expect("a session");
    assert_eq!((session.user.as_str(), session.uid), ("terminal/root", None));
    assert_eq!((session.access(), session.acl), (wire::Access::Limited, vec!["ws.group.#".to_owned()]));
}

#[tokio::test]
async fn garbage_a_crash_and_a_status_are_unavailable_and_the_next_that_works_is_taken() {
    let bench = started(|_| ()).await;
    let mut logins = bench.login().await;
    assert_eq!(code(logins.begin(login()).await), Code::Unavailable, "nobody listens");
    for bytes in [&b""[..], b"HTTP/1.1 200 OK\r\n\r\n", &[0xff; 64]] {
        serve_bytes(&socket(&bench), bytes);
        assert_eq!(code(logins.begin(login()).await), Code::Unavailable, "{bytes:?}");
    }
    let told = Arc::new(AtomicUsize::new(0));
    let script = told.clone();
    serve(&socket(&bench), move |_| match script.fetch_add(1, Ordering::SeqCst) {
        0 => Does::Fails(Status::internal("secret \u{1b}[2J".repeat(100))),
        1 => Does::Fails(Status::unauthenticated("no")),
        2 => Does::Says(plugin::AuthenticateReply { outcome: None }),
        _ => Does::Knows(terminal()),
    });
    for _ in 0..3 {
        assert_eq!(code(logins.begin(login()).await), Code::Unavailable);
    }
    granted(logins.begin(login()).await);
}

#[tokio::test]
async fn one_of_another_uid_is_sent_nothing() {
    let mut bench = started(|_| ()).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    serve(&socket(&bench), move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        Does::Knows(terminal())
    });
    bench.stop().await;
    bench.config.authenticator[0].user = "4242".into();
    bench.run().await;
    assert_eq!(code(bench.login().await.begin(login()).await), Code::Unavailable);
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn one_that_hangs_is_waited_for_and_then_left_alone() {
    let bench = started(|config| config.authenticator[0].seconds = 1).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    serve(&socket(&bench), move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        Does::Hangs(Duration::from_secs(60))
    });
    let mut all = Vec::new();
    for number in 0..5 {
        let mut logins = bench.login().await;
        let request = login_from(&format!("192.0.2.{number}"), "terminal", "{}");
        all.push(tokio::spawn(async move { code(logins.begin(request).await) }));
    }
    let began = Instant::now();
    for one in all {
        assert_eq!(one.await.expect("no panic"), Code::Unavailable);
    }
    assert!(began.elapsed() >= Duration::from_millis(900), "its deadline");
    // Nobody asks it for a while.
    assert_eq!(code(bench.login().await.begin(login()).await), Code::Unavailable);
    assert_eq!(asked.load(Ordering::SeqCst), 5);
    let reasons: Vec<_> = bench.records().iter().map(|record| record["reason"].clone()).collect();
    assert_eq!(reasons[..5], vec![json!("authenticator-timed-out"); 5]);
    assert_eq!(reasons[5], "authenticator-unavailable");
}

#[tokio::test]
async fn who_asks_what_is_not_answered_in_time_comes_under_a_penalty() {
    let bench = started(|config| {
        config.penalty.failures = 2;
        config.authenticator[0].seconds = 1;
    })
    .await;
    serve(&socket(&bench), |_| Does::Hangs(Duration::from_secs(60)));
    let mut logins = bench.login().await;
    for _ in 0..2 {
        assert_eq!(code(logins.begin(login()).await), Code::Unavailable);
    }
    assert!(matches!(kind(logins.begin(login()).await), outcome::Kind::Penalised(_)));
}

#[tokio::test]
async fn a_plug_in_has_a_bound_of_which_one_source_has_a_quarter_also_when_it_hangs_up() {
    let bench = started(|config| config.authenticator[0].seconds = 30).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    serve(&socket(&bench), move |request| {
        count.fetch_add(1, Ordering::SeqCst);
        match request.peer.expect("a peer").address.as_str() {
            "192.0.2.9" => Does::Knows(terminal()),
            _ => Does::Hangs(Duration::from_secs(60)),
        }
    });
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut logins = bench.login().await;
        open.push(tokio::spawn(async move { code(logins.begin(login()).await) }));
    }
    until(async || asked.load(Ordering::SeqCst) == 2).await;
    // Whoever hangs up has asked all the same: the plug-in still works on it.
    open.iter().for_each(tokio::task::JoinHandle::abort);
    let mut logins = bench.login().await;
    for _ in 0..5 {
        assert_eq!(code(logins.begin(login()).await), Code::ResourceExhausted);
    }
    granted(logins.begin(login_from("192.0.2.9", "terminal", "{}")).await);
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn the_only_one_ends_the_older_one() {
    let bench = started(|_| ()).await;
    serve(&socket(&bench), |request| {
        let uuid = String::from_utf8_lossy(&request.credentials).replace(['{', '}', '"', ':'], "");
        Does::Knows(plugin::Identity { uuid, only_one: true, ..terminal() })
    });
    let mut logins = bench.login().await;
    let mut by = async |id: &str| {
        let credentials = format!(r#"{{"{id}":""}}"#);
        granted(logins.begin(login_from("192.0.2.1", "terminal", &credentials)).await).token
    };
    let (first, other, second) = (by("t-7").await, by("t-8").await, by("t-7").await);
    assert_eq!(bench.check_for(&first, CHANNEL).await, Err(Code::NotFound));
    assert!(bench.check_for(&other, CHANNEL).await.is_ok());
    assert!(bench.check_for(&second, CHANNEL).await.is_ok());
    let replaced = bench.records().iter().filter(|record| record["reason"] == "replaced").count();
    assert_eq!(replaced, 1);
}

#[tokio::test]
async fn a_taking_up_that_fails_after_its_record_has_no_second_one() {
    let bench = started(|_| ()).await;
    serve(&socket(&bench), |_| Does::Knows(plugin::Identity { only_one: true, ..terminal() }));
    let mut logins = bench.login().await;
    let token = granted(logins.begin(login()).await).token;
    let database = rusqlite::Connection::open(bench.path("state/sessions.sqlite")).expect("opened");
    database
        .execute_batch(
            "CREATE TRIGGER full BEFORE UPDATE OF turn ON session BEGIN SELECT RAISE(ABORT, 'full'); END",
        )
        .expect("made");
    let again = begin(TWO, "192.0.2.1", Method::Token(wire::Token { token: token.clone() }));
    let again = wire::BeginRequest { dialect: CHANNEL.into(), ..again };
    assert_eq!(code(logins.begin(again.clone()).await), Code::Unavailable);
    let events = |bench: &Bench| -> Vec<String> {
        let word = |record: &serde_json::Value| record["event"].as_str().expect("an event").to_owned();
        bench.records().iter().map(word).collect()
    };
    assert_eq!(events(&bench), ["login", "session_taken_up"]);
    database.execute_batch("DROP TRIGGER full").expect("dropped");
    granted(logins.begin(again).await);
    assert_eq!(events(&bench), ["login", "session_taken_up", "session_taken_up"]);
}

#[tokio::test]
async fn a_reload_takes_no_back_end_that_is_not_there_before_a_restart() {
    let bench = started(|_| ()).await;
    let names = async || {
        let told = bench.login().await.backends(wire::BackendsRequest {}).await;
        told.expect("told").into_inner().names
    };
    let before = names().await;
    let mut config = bench.config.clone();
    config.authenticator[0].kind = "gate".into();
    bench.reload(config.clone()).await.expect("the rest of it is taken");
    assert_eq!(names().await, before);
    config.token_api.default_backend = "gate".into();
    config.check().expect("good for a start");
    let refused = bench.reload(config).await.expect_err("nobody could log in");
    assert!(refused.contains("token_api.default_backend"), "{refused}");
    assert_eq!(names().await, before);
}

#[tokio::test]
async fn it_is_a_back_end_of_the_token_api() {
    let bench = started(|_| ()).await;
    serve(&socket(&bench), |request| {
        let right = request.credentials == br#"{"username":"t-7","password":"pw"}"#;
        let acl = vec!["confd.users.read".to_owned(), "dird.#".to_owned()];
        if right { Does::Knows(plugin::Identity { acl, ..terminal() }) } else { Does::Refuses }
    });
    let api = |word: &str, seconds| {
        let wish = Some(wire::TokenWish { backend: "terminal".into(), expiration_seconds: seconds });
        wire::BeginRequest { dialect: wire::Dialect::Token.into(), wish, ..password(ONE, "t-7", word) }
    };
    let mut logins = bench.login().await;
    let names = logins.backends(wire::BackendsRequest {}).await.expect("told").into_inner().names;
    assert!(names.contains(&"terminal".to_owned()), "{names:?}");
    assert!(is_denied(logins.begin(api("wrong", None)).await));
    let outcome = kind(logins.begin(api("pw", Some(0))).await);
    assert!(matches!(outcome, outcome::Kind::InvalidExpiration(_)), "{outcome:?}");
    let opened = granted(logins.begin(api("pw", Some(100))).await);
    let session = opened.session.expect("a session");
    assert_eq!((session.auth_id.as_str(), session.absolute_left_ms), ("t-7", 100_000));
    assert_eq!((session.dialect(), session.acl), (wire::Dialect::Token, vec!["confd.users.read".to_owned()]));
    assert!(bench.check_for(&opened.token, wire::Dialect::Token).await.is_ok());
    for dialect in [CHANNEL, wire::Dialect::Sysadm] {
        assert_eq!(bench.check_for(&opened.token, dialect).await, Err(Code::NotFound), "{dialect:?}");
    }
    let nothing = login_from("192.0.2.1", "terminal", "{}");
    let sysadm = wire::BeginRequest { dialect: wire::Dialect::Sysadm.into(), ..nothing };
    assert_eq!(code(logins.begin(sysadm).await), Code::InvalidArgument);
}
