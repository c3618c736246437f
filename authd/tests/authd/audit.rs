//! Each login and each end of a session is recorded exactly once, with its reason.

use std::collections::{BTreeMap, BTreeSet};

use doorward_authd::{driver::Abandoned, error::AuthError, method::Cause, session::EndReason};
use doorward_proto::{
    authd::v1::{
        self as wire, begin_request::Method, login_client::LoginClient, outcome,
        sessions_client::SessionsClient,
    },
    pam::v1::Style,
};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use tonic::{Code, transport::Channel};

use crate::{
    bench::{Bench, ONE, TWO, begin, code, granted, is_denied, kind, password, prompts, until},
    events::Events,
};

fn token(token: &str) -> wire::BeginRequest {
    begin(ONE, "192.0.2.1", Method::Token(wire::Token { token: token.into() }))
}

/// The last records, each as its event and its reason.
fn reasons(records: &[Value]) -> Vec<(&str, &str)> {
    records
        .iter()
        .map(|record| (record["event"].as_str().expect("an event"), record["reason"].as_str().unwrap_or("")))
        .collect()
}

#[test]
fn the_page_lists_every_reason_and_no_other() {
    let page = include_str!("../../../docs/audit.md");
    let listed = |heading: &str| -> BTreeSet<&str> {
        let (_, rest) = page.split_once(&format!("### Reasons of {heading}\n")).expect(heading);
        let section = rest.split("\n#").next().unwrap_or_default();
        section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect()
    };
    assert_eq!(listed("login_refused"), Cause::ALL.map(Cause::code).into());
    assert_eq!(listed("login_failed"), AuthError::OF_LOGINS.into());
    assert_eq!(listed("login_abandoned"), Abandoned::ALL.map(Abandoned::code).into());
    assert_eq!(
        listed("session_ended"),
        EndReason::RECORDED.iter().filter_map(|reason| reason.code()).collect::<BTreeSet<_>>()
    );
}

#[tokio::test]
async fn each_login_has_one_record_with_its_reason_and_its_user() {
    let bench = Bench::start(|_| ()).await;
    let mut login = bench.login().await;
    assert_eq!(code(login.begin(password(ONE, "alice", "pw")).await), Code::Unavailable);
    bench.pam_with_passwords();
    let session = granted(login.begin(password(ONE, "alice", "pw")).await);
    for (user, word) in
        [("alice", "wrong"), ("nobody-here", "pw"), ("eve", "pw"), ("a/b\n", "pw"), ("bob", "p\0w")]
    {
        assert!(is_denied(login.begin(password(TWO, user, word)).await), "{user}");
    }
    assert!(is_denied(login.begin(token("x")).await));
    granted(login.begin(token(&session.token)).await);
    let mut broken = password(ONE, "alice", "pw");
    broken.connection = "no connection".into();
    assert_eq!(code(login.begin(broken).await), Code::InvalidArgument);
    let records = bench.records();
    let expected = [
        ("login_failed", "pam-unreachable"),
        ("login", ""),
        ("login_refused", "pam-denied"),
        ("login_refused", "unknown-user"),
        ("login_refused", "no-access-group"),
        ("login_refused", "malformed-user"),
        ("login_refused", "malformed-password"),
        ("login_refused", "no-such-token"),
        ("session_taken_up", ""),
        ("login_failed", "bad-request"),
    ];
    assert_eq!(reasons(&records), expected);
    let of = |key: &str| records.iter().map(|record| record[key].clone()).collect::<Vec<_>>();
    let null = Value::Null;
    let uids = [
        null.clone(),
        json!(1000),
        json!(1000),
        null.clone(),
        json!(1002),
        null.clone(),
        null.clone(),
        null.clone(),
        json!(1000),
        null.clone(),
    ];
    assert_eq!(of("uid"), uids);
    let users = of("user");
    assert_eq!(users[1..7], ["alice", "alice", "nobody-here", "eve", "a/b\n", "bob"].map(|name| json!(name)));
    assert_eq!((&users[7], &users[8]), (&null, &json!("alice")));
    let id = session.session.expect("a session").session;
    assert_eq!((&of("session")[1], &of("session")[8]), (&json!(id), &json!(id)));
    assert_eq!(records[1]["reported_source"], "192.0.2.1");
    assert_eq!((&records[1]["connection"], &records[2]["connection"]), (&json!(ONE), &json!(TWO)));
    assert_eq!((&records[1]["method"], &records[8]["method"]), (&json!("password"), &json!("token")));
    assert_eq!(records[1]["dialect"], "sysadm");
    let ids: BTreeSet<_> = of("id").iter().map(ToString::to_string).collect();
    assert_eq!(ids.len(), records.len());
    let text = std::fs::read_to_string(bench.path("state/audit.jsonl")).expect("the records");
    assert!(!text.contains(&session.token), "a token is in it");
}

#[tokio::test]
async fn a_login_that_comes_to_nothing_is_recorded_with_what_ended_it() {
    let bench = Bench::start(|config| config.pam.answer_seconds = 5).await;
    bench.pam(|worker| {
        worker.round(&[(Style::Visible, "Code: ")]);
        worker.await_end();
    });
    let mut login = bench.login().await;
    prompts(login.begin(password(ONE, "alice", "pw")).await);
    login.abandon(wire::AbandonRequest { connection: ONE.into() }).await.expect("abandoned");
    until(async || bench.records().len() == 1).await;
    prompts(login.begin(password(TWO, "alice", "pw")).await);
    until(async || bench.records().len() == 2).await;
    let expected = [("login_abandoned", "connection-ended"), ("login_abandoned", "no-answer")];
    assert_eq!(reasons(&bench.records()), expected);
}

#[tokio::test]
async fn a_question_that_is_open_for_too_long_or_that_the_worker_breaks_off_is_recorded_as_what_it_was() {
    let events = Events::default();
    let _listening = events.listen();
    let bench = Bench::start(|config| config.pam.total_seconds = 4).await;
    bench.pam(|worker| {
        worker.round(&[(Style::Visible, "Code: ")]);
        match worker.start.user.as_str() {
            "alice" => worker.await_end(),
            "bob" => {
                worker.raw(b"more");
                worker.await_end();
            }
            _ => (),
        }
    });
    let mut login = bench.login().await;
    for (number, user) in ["alice", "bob", "eve"].into_iter().enumerate() {
        prompts(login.begin(password(ONE, user, "pw")).await);
        until(async || bench.records().len() == number + 1).await;
    }
    let expected = ["no-answer", "protocol", "worker-ended"].map(|reason| ("login_abandoned", reason));
    assert_eq!(reasons(&bench.records()), expected);
    assert_eq!(events.said("a PAM worker broke the protocol"), 1);
}

#[tokio::test]
async fn each_end_of_a_session_has_one_record_with_its_reason() {
    let mut bench = Bench::start(|_| ()).await;
    bench.pam_with_passwords();
    let cleared = bench.session_of("alice").await;
    let lost = bench.session_of("bob").await;
    let idle = bench.session_of("alice").await;
    let mut sessions = bench.sessions().await;
    for _ in 0..2 {
        sessions.end(wire::EndRequest { token: cleared.token.clone() }).await.expect("ended");
    }
    bench.users.set_groups("bob", &[]);
    for _ in 0..2 {
        assert_eq!(bench.check(&lost.token).await, Err(Code::NotFound));
    }
    bench.forward(302_000);
    until(async || bench.records().len() == 6).await;
    let rebooted = bench.session_of("alice").await;
    drop(sessions);
    bench.stop().await;
    bench.boot = "22222222-2222-3333-4444-555555555555";
    bench.run().await;
    bench.restart().await;
    let records = bench.records();
    let ends: Vec<_> = records.iter().filter(|record| record["event"] == "session_ended").collect();
    let id = |granted: wire::Granted| granted.session.expect("a session").session;
    let expected = [
        (id(cleared), "cleared", "alice"),
        (id(lost), "user-gone", "bob"),
        (id(idle), "idle", "alice"),
        (id(rebooted), "reboot", "alice"),
    ];
    for (record, (session, reason, user)) in ends.iter().zip(&expected) {
        assert_eq!(record["session"], session.as_str());
        assert_eq!((&record["reason"], &record["user"]), (&json!(reason), &json!(user)));
        assert_eq!(record["reported_source"], "192.0.2.1");
    }
    assert_eq!(ends.len(), expected.len());
    assert_eq!(ends[2]["seconds"], 302);
}

type Clients = (LoginClient<Channel>, SessionsClient<Channel>);

/// What one of the tries below came to, as the client saw it.
async fn attempt(clients: &Clients, number: usize, held: &str) -> &'static str {
    let (mut login, mut sessions) = clients.clone();
    match number % 20 {
        0 => {
            let granted = granted(login.begin(password(ONE, "alice", "pw")).await);
            sessions.end(wire::EndRequest { token: granted.token }).await.expect("ended");
            "login and session_ended"
        }
        1 => {
            assert!(is_denied(login.begin(password(ONE, "bob", "wrong")).await));
            "login_refused"
        }
        2..5 => {
            granted(login.begin(token(held)).await);
            "session_taken_up"
        }
        5 => {
            let mut broken = password(ONE, "alice", "pw");
            broken.dialect = 99;
            assert_eq!(code(login.begin(broken).await), Code::InvalidArgument);
            "login_failed"
        }
        _ => {
            let source = format!("198.51.100.{}", number % 200);
            let wrong = begin(TWO, &source, Method::Token(wire::Token { token: "x".into() }));
            assert!(matches!(kind(login.begin(wrong).await), outcome::Kind::Denied(_)));
            "login_refused"
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_events_of_all_kinds_at_once_add_up_to_ten_thousand() {
    const TRIES: usize = 9_540;
    let bench = Bench::start(|config| {
        config.sessions.per_user = 1_000;
        config.pam.per_source = 64;
        config.pam.per_account = 64;
    })
    .await;
    bench.pam_with_passwords();
    let held = bench.session_of("alice").await.token;
    let clients = (bench.login().await, bench.sessions().await);
    let tries = stream::iter(0..TRIES).map(|number| attempt(&clients, number, &held));
    let done: Vec<_> = tries.buffer_unordered(24).collect().await;
    let mut expected = BTreeMap::from([("login", 1_u64)]);
    for outcome in done.iter().flat_map(|outcome| outcome.split(" and ")) {
        *expected.entry(outcome).or_default() += 1;
    }
    assert!(expected.values().sum::<u64>() > 10_000, "{expected:?}");
    let records = bench.records();
    let mut recorded: BTreeMap<&str, u64> = BTreeMap::new();
    for record in &records {
        let event = record["event"].as_str().expect("an event");
        *recorded.entry(event).or_default() += record["count"].as_u64().unwrap_or(1);
    }
    assert_eq!(recorded, expected);
    let times: Vec<_> = records.iter().map(|record| record["time"].as_str().expect("a time")).collect();
    assert!(times.is_sorted(), "readable by time");
    println!("{} events in {} records", expected.values().sum::<u64>(), records.len());
}
