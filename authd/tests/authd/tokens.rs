//! Logins of the token API, what their sessions may do, and what they may not.

use doorward_proto::{
    authd::v1::{
        self as wire, begin_request::Method, end_other_request::Which, ended_event, outcome,
        rights_client::RightsClient,
    },
    pam::v1::{Result as Verdict, Style},
};
use tonic::{Code, Status};

use crate::bench::{
    Bench, ONE, PATIENCE, TWO, begin, code, granted, is_denied, kind, password, until, users,
};

const SYSADM: wire::Dialect = wire::Dialect::Sysadm;
const TOKEN: wire::Dialect = wire::Dialect::Token;

/// A login of the token API, with the default back end.
fn login(user: &str, word: &str, seconds: Option<u64>) -> wire::BeginRequest {
    login_by("", user, word, seconds)
}

fn login_by(backend: &str, user: &str, word: &str, seconds: Option<u64>) -> wire::BeginRequest {
    let wish = wire::TokenWish { backend: backend.into(), expiration_seconds: seconds };
    wire::BeginRequest { dialect: TOKEN.into(), wish: Some(wish), ..password(ONE, user, word) }
}

/// robots (51) may have tokens, of which dan (1003) is a member and nothing else.
async fn start(change: impl FnOnce(&mut doorward_authd::config::Config)) -> Bench {
    let bench = start_without_pam(change).await;
    bench.pam_with_passwords();
    bench
}

async fn start_without_pam(change: impl FnOnce(&mut doorward_authd::config::Config)) -> Bench {
    let users = users().group("robots", 51).user("dan", 1003, 1003, "/bin/sh", &[51]);
    Bench::start_for(doorward_launch::Identity::current(), users, |config| {
        config.token_api.acl = owned(&["confd.users.me.#"]);
        config.token_api.group_acl.insert("robots".into(), owned(&["dird.#", "!dird.secret"]));
        change(config);
    })
    .await
}

fn owned(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

async fn token_of(bench: &Bench, user: &str) -> wire::Granted {
    granted(bench.login().await.begin(login(user, "pw", None)).await)
}

fn reasons(bench: &Bench) -> Vec<String> {
    let word = |record: &serde_json::Value, key: &str| record[key].as_str().unwrap_or("").to_owned();
    let records = bench.records();
    records.iter().map(|record| format!("{} {}", word(record, "event"), word(record, "reason"))).collect()
}

async fn end_other(bench: &Bench, token: &str, which: Which) -> Code {
    let request = wire::EndOtherRequest { token: token.into(), which: Some(which) };
    code(bench.sessions().await.end_other(request).await)
}

async fn list(bench: &Bench, token: &str) -> Result<Vec<wire::SessionEntry>, Status> {
    let request = wire::ListRequest { token: token.into(), after: String::new() };
    Ok(bench.sessions().await.list(request).await?.into_inner().sessions)
}

async fn assert(bench: &Bench, token: &str, audience: &str) -> Code {
    let request = wire::AssertRequest { token: token.into(), audience: audience.into() };
    code(bench.sessions().await.assert(request).await)
}

#[tokio::test]
async fn a_token_lives_as_long_as_wished_has_its_entries_and_no_idle_clock() {
    let bench = start(|_| ()).await;
    let alice = token_of(&bench, "alice").await.session.expect("a session");
    assert_eq!((alice.dialect(), alice.method.as_str()), (TOKEN, "password"));
    assert_eq!(alice.acl, ["confd.users.me.#"], "nothing of full access");
    assert_eq!(alice.access(), wire::Access::Limited);
    assert_eq!((alice.idle_seconds, alice.absolute_left_ms), (0, 7_200_000));
    assert_eq!(alice.expires - alice.issued, 7_200);
    let mut logins = bench.login().await;
    let short = granted(logins.begin(login("alice", "pw", Some(1))).await);
    let long = granted(logins.begin(login("alice", "pw", Some(2_592_000))).await);
    bench.forward(999);
    assert!(bench.check_for(&short.token, TOKEN).await.is_ok());
    bench.forward(1);
    assert_eq!(bench.check_for(&short.token, TOKEN).await, Err(Code::NotFound), "to the millisecond");
    bench.forward(1_000_000_000);
    let found = bench.check_for(&long.token, TOKEN).await.expect("alive");
    assert_eq!(found.expires - found.issued, 2_592_000);
    let login = bench.records().into_iter().next().expect("a record");
    assert_eq!((&login["event"], &login["dialect"]), (&"login".into(), &"token".into()));
}

#[tokio::test]
async fn a_wish_that_cannot_be_is_told_to_right_credentials_alone() {
    let bench = start(|_| ()).await;
    let mut logins = bench.login().await;
    for seconds in [0, 2_592_001, u64::MAX] {
        let outcome = kind(logins.begin(login("alice", "pw", Some(seconds))).await);
        assert!(matches!(outcome, outcome::Kind::InvalidExpiration(_)), "{outcome:?}");
        assert!(is_denied(logins.begin(login("alice", "wrong", Some(seconds))).await));
        assert!(is_denied(logins.begin(login("eve", "pw", Some(seconds))).await), "eve may have no token");
    }
    let told =
        ["login_refused invalid-expiration", "login_refused pam-denied", "login_refused no-access-group"];
    assert_eq!(reasons(&bench), [told, told, told].concat(), "and there is no session");
    assert_eq!(bench.records()[0]["uid"], 1000);
}

#[tokio::test]
async fn a_backend_that_there_is_not_is_one_more_refused_login() {
    let bench = start(|config| {
        config.pam.refusal_delay_ms = 200;
        config.penalty.failures = 3;
    })
    .await;
    let mut logins = bench.login().await;
    let names = logins.backends(wire::BackendsRequest {}).await.expect("told").into_inner().names;
    assert_eq!(names, ["pam", "wazo_user", "xivo_user"]);
    for name in ["", "pam", "xivo_user", "wazo_user"] {
        granted(logins.begin(login_by(name, "alice", "pw", None)).await);
    }
    for name in ["ldap_user", "PAM", "pam "] {
        let began = std::time::Instant::now();
        assert!(is_denied(logins.begin(login_by(name, "alice", "pw", Some(0))).await), "{name}");
        // A quarter less, by chance.
        assert!(began.elapsed() >= std::time::Duration::from_millis(150), "{:?}", began.elapsed());
    }
    let outcome = kind(logins.begin(login("alice", "pw", None)).await);
    assert!(matches!(outcome, outcome::Kind::Penalised(_)), "three failures: {outcome:?}");
    let records = reasons(&bench);
    let failed = records.iter().filter(|record| *record == "login_refused no-such-backend").count();
    assert_eq!((failed, records.last().map(String::as_str)), (3, Some("login_refused penalty")));
}

#[tokio::test]
async fn nobody_is_asked_anything_by_a_login_of_the_token_api() {
    let bench = start_without_pam(|_| ()).await;
    bench.pam(|worker| {
        worker.password();
        worker.round(&[(Style::Visible, "Code: ")]);
        if worker.answers().is_some() {
            worker.verdict(Verdict::Success);
        }
    });
    assert!(is_denied(bench.login().await.begin(login("alice", "pw", None)).await));
    assert_eq!(reasons(&bench), ["login_refused asked-more"]);
}

#[tokio::test]
async fn what_no_gateway_of_ours_would_send_is_refused_unread() {
    let bench = start(|_| ()).await;
    let alice = bench.session_of("alice").await;
    let mut logins = bench.login().await;
    let wish = || Some(wire::TokenWish::default());
    let by = |method| wire::BeginRequest {
        dialect: TOKEN.into(),
        wish: wish(),
        ..begin(ONE, "192.0.2.1", method)
    };
    let taken_up = Method::Token(wire::Token { token: alice.token.clone() });
    for (request, field) in [
        (wire::BeginRequest { wish: wish(), ..password(ONE, "alice", "pw") }, "wish"),
        (wire::BeginRequest { dialect: TOKEN.into(), ..password(ONE, "alice", "pw") }, "wish"),
        (wire::BeginRequest { dialect: 3, wish: wish(), ..password(ONE, "alice", "pw") }, "wish"),
        (wire::BeginRequest { dialect: 4, wish: wish(), ..password(ONE, "alice", "pw") }, "dialect"),
        (by(taken_up), "method"),
        (by(Method::LocalPeer(wire::LocalPeer::default())), "method"),
        (by(Method::TlsCertificate(wire::TlsCertificate::default())), "method"),
        (by(Method::CertificateProof(wire::CertificateProof::default())), "method"),
        (wire::BeginRequest { method: None, ..login("alice", "pw", None) }, "method"),
    ] {
        let status = logins.begin(request).await.expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(field), "{status}");
    }
    let mut sessions = bench.sessions().await;
    for dialect in [0, 4, -1] {
        let check = wire::CheckRequest { token: alice.token.clone(), used_ms_ago: None, dialect };
        assert_eq!(code(sessions.check(check).await), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn a_token_is_no_key_to_the_host() {
    let bench = start(|_| ()).await;
    let (alice, robot) = (token_of(&bench, "alice").await, token_of(&bench, "dan").await);
    let open = bench.session_of("alice").await;
    for token in [&alice.token, &robot.token] {
        assert!(bench.check_for(token, TOKEN).await.is_ok());
        assert_eq!(bench.check(token).await, Err(Code::NotFound));
        let take_up = begin(TWO, "192.0.2.1", Method::Token(wire::Token { token: token.clone() }));
        assert!(is_denied(bench.login().await.begin(take_up).await));
        assert_eq!(assert(&bench, token, "certd").await, Code::NotFound);
        assert_eq!(assert(&bench, token, "sysinfo").await, Code::NotFound);
        assert_eq!(code(list(&bench, token).await), Code::PermissionDenied);
        assert_eq!(end_other(&bench, token, Which::Others(wire::Others {})).await, Code::PermissionDenied);
        let named = Which::Session(open.session.as_ref().expect("a session").session.clone());
        assert_eq!(end_other(&bench, token, named).await, Code::PermissionDenied);
    }
    // The other way round a session can be looked at.
    let found = bench.check_for(&open.token, TOKEN).await.expect("alive");
    assert_eq!((found.dialect(), found.acl), (SYSADM, vec!["#".to_owned()]));
    let taken = reasons(&bench).into_iter().filter(|record| record == "login_refused no-such-token").count();
    assert_eq!(taken, 2);
}

#[tokio::test]
async fn an_entry_opens_the_host_to_a_token_but_neither_keys_nor_others_sessions() {
    let bench = start(|config| {
        config.token_api.acl =
            owned(&["sysadm.rpc.auth_token._", "sysadm.rpc.settings.#", "sysadm.rpc.sessions.#"]);
    })
    .await;
    let (alice, robot) = (token_of(&bench, "alice").await, token_of(&bench, "dan").await);
    let found = bench.check(&alice.token).await.expect("of use");
    assert_eq!((found.dialect(), found.access()), (TOKEN, wire::Access::Limited));
    let take_up = |token: &str| begin(TWO, "192.0.2.1", Method::Token(wire::Token { token: token.into() }));
    granted(bench.login().await.begin(take_up(&alice.token)).await);
    assert_eq!(assert(&bench, &alice.token, "sysinfo").await, Code::Ok);
    assert_eq!(assert(&bench, &alice.token, "certd").await, Code::PermissionDenied);
    assert_eq!(code(list(&bench, &alice.token).await), Code::PermissionDenied);
    assert_eq!(end_other(&bench, &alice.token, Which::Others(wire::Others {})).await, Code::PermissionDenied);
    // Who is in no access group stays out of the SysAdm dialect, whatever the entries say.
    assert_eq!(bench.check(&robot.token).await, Err(Code::NotFound));
    assert!(is_denied(bench.login().await.begin(take_up(&robot.token)).await));
    assert_eq!(assert(&bench, &robot.token, "sysinfo").await, Code::NotFound);
}

#[tokio::test]
async fn whoever_may_have_tokens_alone_is_a_stranger_to_the_sysadm_dialect() {
    let bench = start(|_| ()).await;
    let mut logins = bench.login().await;
    assert!(is_denied(logins.begin(password(ONE, "dan", "pw")).await));
    let session = token_of(&bench, "dan").await.session.expect("a session");
    assert_eq!(session.access(), wire::Access::Unspecified);
    assert_eq!(session.acl, ["confd.users.me.#", "dird.#", "!dird.secret"]);
    assert_eq!(reasons(&bench), ["login_refused no-access-group", "login "]);
}

#[tokio::test]
async fn a_token_keeps_what_it_was_given_cut_down_to_what_its_holder_has_over_a_restart() {
    let mut bench = start(|_| ()).await;
    bench.users.set_groups("bob", &[37, 51]);
    let bob = token_of(&bench, "bob").await;
    let entries = async |bench: &Bench| bench.check_for(&bob.token, TOKEN).await.map(|session| session.acl);
    let all = owned(&["confd.users.me.#", "dird.#", "!dird.secret"]);
    assert_eq!(entries(&bench).await, Ok(all.clone()));
    bench.users.set_groups("bob", &[37]);
    let fewer = owned(&["confd.users.me.#", "!dird.secret"]);
    assert_eq!(entries(&bench).await, Ok(fewer.clone()), "what denied once denies for its life");
    bench.stop().await;
    bench.config.token_api.acl = owned(&["#", "confd.users.me.#", "!confd.users.me.password"]);
    bench.run().await;
    let since = owned(&["confd.users.me.#", "!dird.secret", "!confd.users.me.password"]);
    assert_eq!(entries(&bench).await, Ok(since), "nothing is gained but denials");
    bench.stop().await;
    bench.config.token_api.acl.clear();
    bench.run().await;
    assert_eq!(entries(&bench).await, Ok(owned(&["!dird.secret"])));
    bench.users.set_groups("bob", &[51]);
    assert!(entries(&bench).await.is_ok(), "who may have tokens keeps them");
    bench.users.set_groups("bob", &[]);
    assert_eq!(entries(&bench).await, Err(Code::NotFound));
    bench.users.set_groups("bob", &[37, 51]);
    assert_eq!(entries(&bench).await, Err(Code::NotFound), "it does not come back");
}

#[tokio::test]
async fn as_many_entries_as_may_be_configured_are_kept_and_told() {
    let entry = |number: usize| format!("{number:03}.{}.#", "a*".repeat(120));
    let entries: Vec<String> = (0..131).map(entry).collect();
    let mut bench = start(|config| {
        config.token_api.acl.clone_from(&entries);
        config.token_api.group_acl.clear();
    })
    .await;
    let alice = token_of(&bench, "alice").await;
    assert_eq!(alice.session.expect("a session").acl, entries);
    bench.restart().await;
    assert_eq!(bench.check_for(&alice.token, TOKEN).await.map(|session| session.acl), Ok(entries.clone()));
    // None of them takes the session up, which takes no longer than looking at them all.
    let began = std::time::Instant::now();
    assert_eq!(bench.check(&alice.token).await, Err(Code::NotFound));
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    bench.config.token_api.acl.push(entry(132));
    assert!(bench.config.check().is_err(), "one more is one too many");
}

/// Nobody asks about these: they end, or stay, because authd looks by itself.
#[tokio::test]
async fn silent_sessions_end_by_what_their_dialect_needs() {
    let bench = start(|_| ()).await;
    bench.users.set_groups("bob", &[37, 51]);
    let (session, token) = (bench.session_of("bob").await, token_of(&bench, "bob").await);
    bench.users.set_groups("bob", &[51]);
    bench.forward(30_000);
    until(async || reasons(&bench).contains(&"session_ended user-gone".to_owned())).await;
    assert!(bench.check_for(&token.token, TOKEN).await.is_ok());
    assert_eq!(bench.check_for(&session.token, TOKEN).await, Err(Code::NotFound));
}

#[tokio::test]
async fn the_token_api_moves_no_clock() {
    let bench = start(|_| ()).await;
    let (open, token) = (bench.session_of("alice").await, token_of(&bench, "alice").await);
    let mut sessions = bench.sessions().await;
    bench.forward(100_000);
    let check = |token: &str, dialect: wire::Dialect| wire::CheckRequest {
        token: token.into(),
        used_ms_ago: Some(0),
        dialect: dialect.into(),
    };
    let looked = sessions.check(check(&open.token, TOKEN)).await.expect("alive").into_inner();
    assert_eq!(looked.idle_left_ms, 200_000);
    assert_eq!((looked.dialect(), looked.expires - looked.issued), (SYSADM, 300));
    let report = wire::ActivityReport {
        activities: vec![wire::Activity { token: token.token.clone(), used_ms_ago: 0 }],
    };
    sessions.report_activity(report).await.expect("taken");
    let looked = sessions.check(check(&token.token, TOKEN)).await.expect("alive").into_inner();
    assert_eq!(looked.absolute_left_ms, 7_100_000);
    let used = sessions.check(check(&open.token, SYSADM)).await.expect("alive").into_inner();
    assert_eq!((used.idle_left_ms, used.expires - used.issued), (300_000, 400));
    let listed = list(&bench, &open.token).await.expect("a list");
    let of_token = listed.iter().find(|entry| entry.dialect == "token").expect("listed");
    assert_eq!(of_token.last_used, of_token.started);
    for (token, ended) in [(&token.token, true), (&token.token, false), (&"x".to_owned(), false)] {
        let reply = sessions.end(wire::EndRequest { token: token.clone() }).await.expect("fine");
        assert_eq!(reply.into_inner().ended, ended);
    }
}

#[tokio::test]
async fn the_next_login_at_the_bound_is_refused_or_ends_the_users_oldest() {
    for oldest in [false, true] {
        let bench = start(|config| {
            config.sessions.per_user = 2;
            if oldest {
                config.sessions.at_limit = doorward_authd::config::Limit::EndOldest;
            }
        })
        .await;
        let others = token_of(&bench, "bob").await;
        bench.forward(1_000);
        let first = bench.session_of("alice").await;
        bench.forward(1_000);
        let second = token_of(&bench, "alice").await;
        let watch = wire::WatchEndedRequest {};
        let mut events = bench.sessions().await.watch_ended(watch).await.expect("watching").into_inner();
        events.message().await.expect("told").expect("ready");
        let third = bench.login().await.begin(login("alice", "pw", None)).await;
        if !oldest {
            assert_eq!(code(third), Code::ResourceExhausted);
            assert!(bench.check(&first.token).await.is_ok());
            assert_eq!(reasons(&bench).last().expect("a record"), "login_failed too-many-sessions");
            continue;
        }
        let third = granted(third);
        let event = tokio::time::timeout(PATIENCE, events.message()).await.expect("told").expect("an event");
        let Some(ended_event::Kind::Ended(ended)) = event.expect("an event").kind else { panic!("an end") };
        let name = first.session.clone().expect("a session").session;
        assert_eq!((ended.session.clone(), ended.reason()), (name, wire::EndReason::Revoked));
        for (token, lives) in [(&first, false), (&second, true), (&third, true), (&others, true)]
            .map(|(granted, lives)| (granted.token.clone(), lives))
        {
            assert_eq!(bench.check_for(&token, TOKEN).await.is_ok(), lives);
        }
        let told = reasons(&bench);
        assert_eq!(told[told.len() - 2..], ["session_ended replaced", "login "]);
    }
}

#[tokio::test]
async fn root_is_told_which_entry_decides_and_nobody_else() {
    let bench = start(|_| ()).await;
    let explain = async |user: &str, subject: &str, dialect: i32| {
        let request = wire::ExplainRequest { user: user.into(), subject: subject.into(), dialect };
        let answer = RightsClient::new(bench.channel().await).explain(request).await;
        answer.map(tonic::Response::into_inner)
    };
    // Here the caller is the gateway, whoever runs the tests.
    assert_eq!(code(explain("alice", "a", 1).await), Code::PermissionDenied);
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let users = users().group("robots", 51).user("dan", 1003, 1003, "/bin/sh", &[51]);
    let gateway = doorward_launch::Identity { uid: 54_322, ..doorward_launch::Identity::current() };
    let bench = Bench::start_for(gateway, users, |config| {
        config.token_api.acl = owned(&["confd.users.me.#"]);
        config.token_api.group_acl.insert("robots".into(), owned(&["dird.#", "!dird.secret"]));
    })
    .await;
    let explain = async |user: &str, subject: &str, dialect: i32| {
        let request = wire::ExplainRequest { user: user.into(), subject: subject.into(), dialect };
        let answer = RightsClient::new(bench.channel().await).explain(request).await;
        answer.map(tonic::Response::into_inner)
    };
    for (user, subject, dialect, access, allowed, decides) in [
        ("alice", "sysadm.rpc.query._", SYSADM, 2, true, Some("# access.full_groups (group sudo)")),
        ("alice", "sysadm.rpc.query._", TOKEN, 2, false, None),
        ("root", "", SYSADM, 2, true, Some("# root")),
        (
            "bob",
            "sysadm.rpc.query._",
            SYSADM,
            1,
            true,
            Some("sysadm.rpc.query.# access.limited_acl (group operator)"),
        ),
        ("bob", "sysadm.rpc.power.off", SYSADM, 1, false, None),
        ("bob", "confd.users.1001.x", TOKEN, 1, true, Some("confd.users.me.# token_api.acl")),
        ("bob", "confd.users.1000.x", TOKEN, 1, false, None),
        ("dan", "dird.secret", TOKEN, 0, false, Some("!dird.secret token_api.group_acl (group robots)")),
        ("dan", "dird.x", TOKEN, 0, true, Some("dird.# token_api.group_acl (group robots)")),
        ("dan", "sysadm.rpc.query._", SYSADM, 0, false, None),
        ("eve", "dird.x", TOKEN, 0, false, None),
    ] {
        let explained = explain(user, subject, dialect.into()).await.expect("explained");
        assert_eq!((explained.access, explained.allowed), (access, allowed), "{user} {subject}");
        let decided = explained.decided_by.map(|place| {
            let given = &explained.entries[usize::try_from(place).expect("small")];
            format!("{} {}", given.entry, given.origin)
        });
        assert_eq!(decided.as_deref(), decides, "{user} {subject}");
    }
    assert_eq!(code(explain("nobody-here", "a", 1).await), Code::NotFound);
    assert_eq!(code(explain("a/b", "a", 1).await), Code::NotFound);
    assert_eq!(code(explain("alice", "a", 0).await), Code::InvalidArgument);
    assert_eq!(code(explain("alice", &"a".repeat(1_025), 1).await), Code::InvalidArgument);
}
