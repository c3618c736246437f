//! Logins by an issuer's token: what they open, when that ends, and what they cost whoever guesses.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, sync::atomic::Ordering};

use doorward_authd::{config::Config, session};
use doorward_proto::authd::v1::{self as wire, begin_request::Method, outcome};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tonic::Code;

use crate::bench::{Bench, ONE, begin, code, granted, is_denied, kind, users};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const CHANNEL: wire::Dialect = wire::Dialect::Channel;

fn key_file(directory: &Path) -> String {
    let path = directory.join("jwt.key");
    fs::write(&path, SECRET).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
    path.display().to_string()
}

/// An issuer of users of the host, and one of terminals.
async fn started(change: impl FnOnce(&mut Config)) -> (Bench, tempfile::TempDir) {
    let (bench, directory) = started_without_pam(change).await;
    bench.pam_with_passwords();
    (bench, directory)
}

async fn started_without_pam(change: impl FnOnce(&mut Config)) -> (Bench, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("temp dir");
    let text = format!(
        "[[jwt]]
         kind = \"user\"
         issuer = \"people\"
         algorithm = \"HS256\"
         key_file = {file:?}
         acl_max = [\"ws.#\", \"confd.#\"]
         [[jwt]]
         kind = \"terminal\"
         issuer = \"terminals\"
         audience = \"doorward\"
         algorithm = \"HS256\"
         key_file = {file:?}
         acl_claim = \"acl\"
         acl_max = [\"ws.group.#\"]",
        file = key_file(directory.path())
    );
    let with: Config = toml::from_str(&text).expect("understood");
    let all = users().user("toor", 0, 0, "/bin/sh", &[27]).user("daemon", 2, 2, "/bin/sh", &[27]).user(
        "noshell",
        1004,
        1004,
        "/bin/false",
        &[27],
    );
    let bench = Bench::start_for(doorward_launch::Identity::current(), all, |config| {
        config.jwt = with.jwt;
        change(config);
    })
    .await;
    (bench, directory)
}

fn sign(claims: &Value) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key).expect("signed")
}

fn person(name: &str, seconds: u64) -> String {
    sign(&json!({"iss": "people", "sub": name, "exp": session::utc() + seconds}))
}

fn terminal(seconds: u64, acl: &[&str]) -> String {
    let exp = session::utc() + seconds;
    sign(&json!({"iss": "terminals", "aud": "doorward", "sub": "t-7", "exp": exp, "acl": acl}))
}

fn login(jwt: String) -> wire::BeginRequest {
    let method = Method::Jwt(wire::Jwt { jwt });
    wire::BeginRequest { dialect: CHANNEL.into(), ..begin(ONE, "192.0.2.1", method) }
}

#[tokio::test]
async fn a_user_of_the_host_has_what_both_grant_and_no_longer_than_the_token() {
    let (bench, _directory) = started(|_| ()).await;
    let opened = granted(bench.login().await.begin(login(person("alice", 600))).await);
    let session = opened.session.expect("a session");
    assert_eq!((session.user.as_str(), session.uid, session.kind.as_str()), ("alice", Some(1000), "user"));
    // alice has full access.
    assert_eq!(session.acl, ["ws.#", "confd.#"]);
    assert_eq!((session.access(), session.method.as_str()), (wire::Access::Limited, "jwt"));
    assert!((598_000..=600_000).contains(&session.absolute_left_ms), "{}", session.absolute_left_ms);
    let sysadm = bench.check(&opened.token).await.expect("alive");
    assert_eq!(sysadm.acl, ["ws.#", "confd.#"], "nothing of the host in any dialect");
    let request = wire::ListRequest { token: opened.token.clone(), ..Default::default() };
    assert_eq!(code(bench.sessions().await.list(request).await), Code::PermissionDenied);
    // What she has no more she has not by a token either.
    bench.users.set_groups("alice", &[37]);
    assert_eq!(bench.check_for(&opened.token, CHANNEL).await.expect("alive").acl, Vec::<String>::new());
    bench.forward(600_000);
    assert_eq!(bench.check_for(&opened.token, CHANNEL).await, Err(Code::NotFound));
    let long = granted(bench.login().await.begin(login(person("bob", 1_000_000))).await);
    assert_eq!(long.session.expect("a session").absolute_left_ms, 43_200_000, "12 hours at most");
}

#[tokio::test]
async fn nobody_is_root_or_a_service_or_comes_in_who_may_not() {
    let (bench, _directory) = started(|_| ()).await;
    let mut logins = bench.login().await;
    for name in ["root", "toor", "daemon", "noshell", "eve", "nobody-here", "0", "alice/x"] {
        assert!(is_denied(logins.begin(login(person(name, 600))).await), "{name}");
    }
    let number = sign(&json!({"iss": "people", "sub": 0, "exp": session::utc() + 600}));
    assert!(is_denied(logins.begin(login(number)).await), "uid 0 is no name");
    let reasons: Vec<_> = bench.records().iter().map(|record| record["reason"].clone()).collect();
    let expected = [
        "root",
        "root",
        "system-uid",
        "shell",
        "no-access-group",
        "unknown-user",
        "unknown-user",
        "malformed-user",
        "unknown-user",
    ];
    assert_eq!(reasons, expected);
}

#[tokio::test]
async fn account_management_has_its_say() {
    let (bench, _directory) = started_without_pam(|_| ()).await;
    bench.pam(|worker| {
        assert_eq!(worker.start.task(), doorward_proto::pam::v1::Task::Account);
        worker.verdict(doorward_proto::pam::v1::Result::Denied);
        worker.await_end();
    });
    assert!(is_denied(bench.login().await.begin(login(person("alice", 600))).await), "locked");
}

#[tokio::test]
async fn somebody_else_has_its_own_kind_and_nothing_of_the_host() {
    let (mut bench, _directory) = started(|_| ()).await;
    let acl = ["ws.group.3.subscribe", "#", "sysadm.#", "ws.other.#"];
    let opened = granted(bench.login().await.begin(login(terminal(600, &acl))).await);
    let session = opened.session.expect("a session");
    assert_eq!((session.user.as_str(), session.uid), ("terminal/t-7", None));
    assert_eq!((session.kind.as_str(), session.auth_id.as_str()), ("terminal", "t-7"));
    assert_eq!((session.acl, session.access), (vec!["ws.group.3.subscribe".to_owned()], 1));
    bench.restart().await;
    let found = bench.check_for(&opened.token, CHANNEL).await.expect("alive");
    assert_eq!((found.user.as_str(), found.acl.len()), ("terminal/t-7", 1), "it was on disk");
    assert!(bench.check(&opened.token).await.is_ok(), "rpc/* answers it that it may not");
    let mut sessions = bench.sessions().await;
    for (audience, expected) in [
        ("certd", Code::PermissionDenied),
        ("sysadm/systemmanager", Code::PermissionDenied),
        ("channel/group", Code::Ok),
    ] {
        let request = wire::AssertRequest { token: opened.token.clone(), audience: audience.into() };
        assert_eq!(code(sessions.assert(request).await), expected, "{audience}");
    }
    let list = wire::ListRequest { token: opened.token.clone(), ..Default::default() };
    assert_eq!(code(sessions.list(list).await), Code::PermissionDenied);
    let which = Some(wire::end_other_request::Which::Others(wire::Others {}));
    let others = wire::EndOtherRequest { token: opened.token.clone(), which };
    assert_eq!(code(sessions.end_other(others).await), Code::PermissionDenied);

    // Full access sees and ends it.
    let alice = bench.session_of("alice").await.token;
    let list = wire::ListRequest { token: alice.clone(), ..Default::default() };
    let page = sessions.list(list).await.expect("a list").into_inner();
    let entry = page.sessions.iter().find(|entry| entry.user == "terminal/t-7").expect("listed");
    assert_eq!((entry.method.as_str(), entry.dialect.as_str()), ("jwt", "channel"));
    let which = Some(wire::end_other_request::Which::Session(entry.session.clone()));
    let one = wire::EndOtherRequest { token: alice, which };
    assert_eq!(code(sessions.end_other(one).await), Code::Ok);
    assert_eq!(bench.check_for(&opened.token, CHANNEL).await, Err(Code::NotFound));
    let records = bench.records();
    let end = records.last().expect("records");
    assert_eq!((&end["user"], &end["uid"]), (&json!("terminal/t-7"), &Value::Null));
}

#[tokio::test]
async fn a_kind_that_is_configured_no_more_has_no_sessions() {
    let (mut bench, _directory) = started(|_| ()).await;
    let opened = granted(bench.login().await.begin(login(terminal(600, &[]))).await);
    bench.stop().await;
    bench.config.jwt.pop();
    bench.run().await;
    assert_eq!(bench.records().last().expect("records")["reason"], "user-gone", "before anybody asks");
    assert_eq!(bench.check_for(&opened.token, CHANNEL).await, Err(Code::NotFound));
}

#[tokio::test]
async fn what_an_issuer_may_say_of_users_no_more_their_sessions_have_no_more() {
    let (mut bench, _directory) = started(|_| ()).await;
    let opened = granted(bench.login().await.begin(login(person("alice", 600))).await);
    let by_password = bench.session_of("alice").await.token;
    bench.stop().await;
    bench.config.jwt[0].acl_max = Some(vec!["ws.a.#".into(), "!ws.a.x".into()]);
    bench.run().await;
    let left = bench.check_for(&opened.token, CHANNEL).await.expect("alive").acl;
    assert_eq!(left, ["ws.a.#", "!ws.a.x"]);
    bench.stop().await;
    bench.config.jwt.remove(0);
    bench.run().await;
    assert_eq!(bench.records().last().expect("records")["reason"], "user-gone", "before anybody asks");
    assert_eq!(bench.check_for(&opened.token, CHANNEL).await, Err(Code::NotFound));
    assert!(bench.check(&by_password).await.is_ok(), "no issuer spoke for this one");
}

#[tokio::test]
async fn a_session_ends_with_its_token_however_long_pam_takes() {
    let (bench, _directory) = started_without_pam(|_| ()).await;
    let clock = bench.clock();
    bench.pam(move |worker| {
        clock.fetch_add(250_000, Ordering::SeqCst);
        worker.verdict(doorward_proto::pam::v1::Result::Success);
        worker.await_end();
    });
    let opened = granted(bench.login().await.begin(login(person("alice", 600))).await);
    let left = opened.session.expect("a session").absolute_left_ms;
    assert!((348_000..=350_000).contains(&left), "{left}");
    assert!(is_denied(bench.login().await.begin(login(person("alice", 250))).await), "over meanwhile");
    assert_eq!(bench.records().last().expect("records")["reason"], "jwt-time");
}

#[tokio::test]
async fn a_token_that_is_over_was_none_the_less_a_token_and_no_guess() {
    let (bench, _directory) = started(|config| config.penalty.failures = 2).await;
    let mut logins = bench.login().await;
    for _ in 0..4 {
        assert!(is_denied(logins.begin(login(person("alice", 0))).await));
    }
    assert_eq!(bench.records().last().expect("records")["reason"], "jwt-time");
    granted(logins.begin(login(person("alice", 600))).await);
}

#[tokio::test]
async fn a_forged_token_is_a_guess_and_opens_nothing_in_other_dialects() {
    let (bench, _directory) = started(|config| config.penalty.failures = 3).await;
    let mut logins = bench.login().await;
    let sysadm = wire::BeginRequest { dialect: wire::Dialect::Sysadm.into(), ..login(person("alice", 600)) };
    assert_eq!(code(logins.begin(sysadm).await), Code::InvalidArgument);
    let wish = Some(wire::TokenWish::default());
    let token =
        wire::BeginRequest { dialect: wire::Dialect::Token.into(), wish, ..login(person("bob", 600)) };
    assert_eq!(code(logins.begin(token).await), Code::InvalidArgument);
    let good = person("alice", 600);
    for forged in [format!("{good}x"), "x".repeat(20_000), good.replace('.', "")] {
        assert!(is_denied(logins.begin(login(forged)).await));
    }
    assert!(matches!(kind(logins.begin(login(good)).await), outcome::Kind::Penalised(_)));
    let text = fs::read_to_string(bench.path("state/audit.jsonl")).expect("the records");
    for (what, reason) in [("forged", "forged-jwt"), ("too long", "malformed-jwt")] {
        assert!(text.contains(reason), "{what}: {text}");
    }
    assert!(!text.contains("eyJ"), "no token is recorded");
}
