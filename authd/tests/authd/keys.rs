//! Logins by registered keys, which certd verifies.

mod revocations;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use doorward_proto::{
    Reason,
    authd::v1::{self as wire, begin_request::Method},
    certd::v1::Verified,
    pam::v1::{Result as Verdict, Style, Task},
};
use tonic::{Code, Status};

use crate::{
    bench::{Bench, ONE, PATIENCE, TWO, begin, code, granted, is_denied, prompts, respond, until},
    fakes::certd::{self, Asked, Running, signature},
};

const ALICES: [u8; 32] = [1; 32];
const BOBS: [u8; 32] = [2; 32];
const EVES: [u8; 32] = [3; 32];
const ROOTS: [u8; 32] = [4; 32];
const GHOSTS: [u8; 32] = [5; 32];
const STRANGERS: [u8; 32] = [6; 32];

struct Keys {
    bench: Bench,
    certd: certd::Fake,
    running: Option<Running>,
}

impl Keys {
    async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    /// alice, bob, eve, root and somebody who is no user have a key each; PAM lets everybody in.
    async fn start_with(change: impl FnOnce(&mut doorward_authd::config::Config)) -> Self {
        let certd = certd::Fake::new();
        let named = [(ALICES, "alice"), (BOBS, "bob"), (EVES, "eve"), (ROOTS, "root"), (GHOSTS, "ghost")];
        for (key, user) in named {
            certd.register(key, user);
        }
        let mut running = None;
        let bench = Bench::start(|config| {
            config.certd.socket = config.state_dir.with_file_name("certd.sock");
            running = Some(certd.serve(&config.certd.socket));
            change(config);
        })
        .await;
        let keys = Self { bench, certd, running };
        keys.watched().await;
        keys
    }

    fn socket(&self) -> PathBuf {
        self.bench.path("certd.sock")
    }

    async fn challenge(&self, connection: &str) -> Result<wire::ChallengeReply, Status> {
        let request = wire::ChallengeRequest { connection: connection.into(), server_key: Vec::new() };
        self.bench.login().await.challenge(request).await.map(tonic::Response::into_inner)
    }

    /// Waits until authd hears of revocations.
    async fn watched(&self) {
        until(async || self.challenge(ONE).await.is_ok()).await;
        self.certd.asked();
    }

    async fn stop_certd(&mut self) {
        self.running.take().expect("running").stop().await;
        until(async || self.challenge(ONE).await.is_err()).await;
    }

    async fn start_certd(&mut self) {
        self.running = Some(self.certd.serve(&self.socket()));
        self.watched().await;
    }

    async fn answer(&self, connection: &str, key: [u8; 32], hints: (&str, &[u8])) -> wire::BeginRequest {
        let asked = self.challenge(connection).await.expect("a challenge");
        proof(connection, signature(key, &asked.test_string), hints)
    }

    /// A session by this key.
    async fn session_by(&self, key: [u8; 32]) -> wire::Granted {
        let request = self.answer(ONE, key, ("", &[])).await;
        granted(self.bench.login().await.begin(request).await)
    }

    /// Waits until authd has heard of everything that was told of until now.
    async fn heard(&self, marker: &wire::Granted, key: [u8; 32], user: &str) {
        self.certd.tell(key, user, certd::now());
        until(async || self.bench.check(&marker.token).await == Err(Code::NotFound)).await;
    }
}

fn proof(connection: &str, signature: Vec<u8>, (username, fingerprint): (&str, &[u8])) -> wire::BeginRequest {
    let proof =
        wire::CertificateProof { signature, username: username.into(), fingerprint: fingerprint.to_vec() };
    begin(connection, "192.0.2.1", Method::CertificateProof(proof))
}

fn tls(username: &str, key: [u8; 32]) -> wire::BeginRequest {
    let certificate =
        wire::TlsCertificate { username: username.into(), key: key.to_vec(), certificate: vec![0x30; 9] };
    begin(ONE, "192.0.2.1", Method::TlsCertificate(certificate))
}

/// PAM is asked for account management alone, and lets everybody in.
fn account_management(bench: &Bench) {
    bench.pam(|worker| {
        let right = worker.start.task() == Task::Account;
        worker.verdict(if right { Verdict::Success } else { Verdict::Denied });
        worker.await_end();
    });
}

#[tokio::test]
async fn a_challenge_is_certds_for_the_connection_and_the_server() {
    let keys = Keys::start().await;
    let mut login = keys.bench.login().await;
    let request = wire::ChallengeRequest { connection: ONE.into(), server_key: vec![7; 32] };
    let reply = login.challenge(request).await.expect("a challenge").into_inner();
    assert_eq!((reply.test_string.len(), reply.context.as_str()), (128, "doorward auth_ssl v1 local"));
    let [Asked::Challenge(asked)] = &keys.certd.asked()[..] else { panic!("one question") };
    assert_eq!((asked.connection.as_str(), asked.server_key.as_slice()), (ONE, &[7; 32][..]));
    for (connection, server_key) in [("x", vec![]), ("", vec![]), (ONE, vec![7; 31]), (ONE, vec![7; 33])] {
        let request = wire::ChallengeRequest { connection: connection.into(), server_key };
        assert_eq!(code(login.challenge(request).await), Code::InvalidArgument);
    }
    assert_eq!(keys.certd.asked(), []);
}

#[tokio::test]
async fn a_key_opens_a_session_of_its_owner_with_the_rights_of_the_groups() {
    let keys = Keys::start().await;
    account_management(&keys.bench);
    for hints in [("", &[][..]), ("alice", &[]), ("", &ALICES), ("alice", &ALICES)] {
        let request = keys.answer(ONE, ALICES, hints).await;
        keys.certd.asked();
        let granted = granted(keys.bench.login().await.begin(request).await);
        let session = granted.session.expect("a session");
        assert_eq!((session.user.as_str(), session.uid), ("alice", Some(1000)));
        assert_eq!(
            (session.method.as_str(), session.access()),
            ("certificate_challenge", wire::Access::Full)
        );
        assert_eq!(keys.bench.check(&granted.token).await.expect("alive").session, session.session);
        let [Asked::Verify(asked)] = &keys.certd.asked()[..] else { panic!("one question") };
        assert_eq!((asked.user.as_str(), asked.fingerprint.as_slice()), hints);
        assert_eq!((asked.connection.as_str(), asked.source.as_str()), (ONE, "192.0.2.1"));
    }
    let root = keys.session_by(ROOTS).await.session.expect("a session");
    assert_eq!((root.uid, root.access()), (Some(0), wire::Access::Full), "as far as certd has keys of root");
}

#[tokio::test]
async fn a_loaded_certificate_opens_a_session_of_limited_access_or_as_certd_says() {
    let keys = Keys::start().await;
    account_management(&keys.bench);
    let mut login = keys.bench.login().await;
    let session = granted(login.begin(tls("bob", BOBS)).await).session.expect("a session");
    assert_eq!((session.user.as_str(), session.method.as_str()), ("bob", "tls_certificate"));
    let [Asked::Loaded(asked)] = &keys.certd.asked()[..] else { panic!("one question") };
    assert_eq!((asked.user.as_str(), asked.key.as_slice()), ("bob", &BOBS[..]));
    assert_eq!((asked.certificate.len(), asked.source.as_str()), (9, "192.0.2.1"));
    assert!(is_denied(login.begin(tls("alice", ALICES)).await), "full access");
    keys.certd.set_full_access(true);
    granted(login.begin(tls("alice", ALICES)).await);
    assert!(is_denied(login.begin(tls("root", ROOTS)).await), "never root");
}

/// Whoever had the name before keeps their private key; the account is somebody else's by now.
#[tokio::test]
async fn a_key_that_another_account_of_the_same_name_registered_opens_nothing() {
    let keys = Keys::start().await;
    account_management(&keys.bench);
    keys.certd.set_uid(BOBS, 4711);
    let signed = keys.answer(ONE, BOBS, ("", &[])).await;
    let mut login = keys.bench.login().await;
    assert!(is_denied(login.begin(signed).await));
    assert!(is_denied(login.begin(tls("bob", BOBS)).await));
    let records = keys.bench.records();
    let refused = records.iter().filter(|record| record["event"] == "login_refused");
    let told: Vec<_> = refused.map(|record| (&record["reason"], &record["user"], &record["uid"])).collect();
    let expected = (&"other-account".into(), &"bob".into(), &1001.into());
    assert_eq!(told, [expected, expected]);
    keys.certd.set_uid(BOBS, 1001);
    keys.session_by(BOBS).await;
    granted(login.begin(tls("bob", BOBS)).await);
}

#[tokio::test]
async fn a_session_of_limited_access_ends_when_its_user_gets_full_access() {
    let mut keys = Keys::start().await;
    account_management(&keys.bench);
    let mut login = keys.bench.login().await;
    let loaded = granted(login.begin(tls("bob", BOBS)).await);
    let unused = granted(login.begin(tls("bob", BOBS)).await);
    let signed = keys.session_by(BOBS).await;
    keys.certd.set_full_access(true);
    let of_all = granted(login.begin(tls("bob", BOBS)).await);
    drop(login);
    keys.bench.restart().await;
    keys.watched().await;
    for token in [&loaded.token, &unused.token, &signed.token, &of_all.token] {
        assert_eq!(keys.bench.check(token).await.expect("alive").access(), wire::Access::Limited);
    }
    keys.bench.users.set_groups("bob", &[27]);
    // What was looked up lately counts for a moment.
    until(async || keys.bench.check(&loaded.token).await == Err(Code::NotFound)).await;
    for token in [&signed.token, &of_all.token] {
        assert_eq!(keys.bench.check(token).await.expect("alive").access(), wire::Access::Full);
    }
    // Nobody asks about the other: it ends all the same.
    keys.bench.forward(26_000);
    let ended = |session: &wire::Granted| {
        let id = session.session.as_ref().expect("a session").session.clone();
        keys.bench.records().iter().any(|record| {
            record["event"] == "session_ended" && record["session"] == id && record["reason"] == "user-gone"
        })
    };
    until(async || ended(&unused)).await;
    assert!(ended(&loaded) && !ended(&signed) && !ended(&of_all));
}

#[tokio::test]
async fn every_refusal_is_the_same_answer_no_sooner_than_its_delay() {
    let keys = Keys::start_with(|config| config.pam.refusal_delay_ms = 400).await;
    keys.bench.pam(|worker| {
        let known = worker.start.user != "bob";
        worker.verdict(if known { Verdict::Success } else { Verdict::Denied });
        worker.await_end();
    });
    let connection = |number: usize| format!("{number:08}-1111-4111-8111-111111111111");
    let mut requests = Vec::new();
    for (key, hints) in [
        (STRANGERS, ("", &[][..])),
        (STRANGERS, ("alice", &[])),
        (STRANGERS, ("nobody-here", &[])),
        (STRANGERS, ("", &ALICES)),
        (ALICES, ("bob", &[])),
        (ALICES, ("", &BOBS)),
        (ALICES, ("", &[1, 2, 3])),
        (ALICES, ("a/b", &[])),
        (EVES, ("", &[])),
        (GHOSTS, ("", &[])),
        (BOBS, ("", &[])),
    ] {
        requests.push(keys.answer(&connection(requests.len()), key, hints).await);
    }
    requests.push(proof(TWO, signature(ALICES, "no challenge"), ("", &[])));
    requests.push(proof(TWO, Vec::new(), ("", &[])));
    requests.push(proof(TWO, vec![1; 8_000], ("", &[])));
    requests.extend([tls("alice", ALICES), tls("root", ROOTS), tls("bob", ALICES), tls("", BOBS)]);
    let login = keys.bench.login().await;
    let tries = requests.into_iter().enumerate().map(|(number, request)| {
        let mut login = login.clone();
        async move {
            let began = Instant::now();
            assert!(is_denied(login.begin(request).await), "{number}");
            (number, began.elapsed())
        }
    });
    for (number, took) in futures_util::future::join_all(tries).await {
        assert!(took >= Duration::from_millis(300), "{number}: {took:?}");
    }
}

#[tokio::test]
async fn an_answer_is_used_up_and_belongs_to_its_connection() {
    let keys = Keys::start().await;
    account_management(&keys.bench);
    let mut login = keys.bench.login().await;
    let request = keys.answer(ONE, ALICES, ("", &[])).await;
    let elsewhere = wire::BeginRequest { connection: TWO.into(), ..request.clone() };
    assert!(is_denied(login.begin(elsewhere).await));
    granted(login.begin(request.clone()).await);
    assert!(is_denied(login.begin(request).await));
}

#[tokio::test]
async fn without_a_certd_there_is_no_challenge_and_no_login_by_key() {
    let bench = Bench::start(|_| ()).await;
    let mut login = bench.login().await;
    let request = wire::ChallengeRequest { connection: ONE.into(), server_key: Vec::new() };
    assert_eq!(code(login.challenge(request).await), Code::Unavailable);
    assert!(is_denied(login.begin(proof(ONE, vec![1; 64], ("", &[]))).await));
    assert!(is_denied(login.begin(tls("bob", BOBS)).await));
}

#[tokio::test]
async fn while_certd_is_away_nobody_logs_in_by_key_and_afterwards_all_is_well() {
    let mut keys = Keys::start().await;
    account_management(&keys.bench);
    let before = keys.session_by(ALICES).await;
    let request = keys.answer(ONE, ALICES, ("", &[])).await;
    keys.stop_certd().await;
    let mut login = keys.bench.login().await;
    assert_eq!(code(keys.challenge(ONE).await), Code::Unavailable);
    assert_eq!(code(login.begin(request).await), Code::Unavailable);
    assert_eq!(code(login.begin(tls("bob", BOBS)).await), Code::Unavailable);
    assert!(keys.bench.check(&before.token).await.is_ok(), "a session does not depend on it");
    keys.start_certd().await;
    keys.session_by(ALICES).await;
}

#[tokio::test]
async fn somebody_else_on_certds_socket_is_told_nothing() {
    let other = rustix::process::geteuid().as_raw() + 1;
    let certd = certd::Fake::new();
    let mut running = None;
    let bench = Bench::start(|config| {
        config.certd.socket = config.state_dir.with_file_name("certd.sock");
        config.certd.user = other.to_string();
        running = Some(certd.serve(&config.certd.socket));
    })
    .await;
    let mut login = bench.login().await;
    let request = wire::ChallengeRequest { connection: ONE.into(), server_key: Vec::new() };
    assert_eq!(code(login.challenge(request).await), Code::Unavailable);
    assert_eq!(code(login.begin(proof(ONE, vec![1; 64], ("", &[]))).await), Code::Unavailable);
    assert_eq!(certd.asked(), []);
    running.expect("running").stop().await;
}

#[tokio::test]
async fn a_verdict_that_is_none_is_a_failure_and_one_about_another_user_a_refusal() {
    let keys = Keys::start().await;
    account_management(&keys.bench);
    let verified = |user: &str, fingerprint: Vec<u8>| {
        Ok(Verified { user: user.into(), fingerprint, full_access: true, uid: None })
    };
    for (verdict, answer) in [
        (Err(Reason::TooMany.to_wire("busy")), Code::ResourceExhausted),
        (Err(Reason::TimedOut.to_wire("late")), Code::DeadlineExceeded),
        (Err(Reason::Unavailable.to_wire("stopping")), Code::Unavailable),
        (Err(Reason::Fault.to_wire("fault")), Code::Unavailable),
        (Err(Reason::Forbidden.to_wire("no row")), Code::Unavailable),
        (Err(Status::unimplemented("older")), Code::Unavailable),
        (verified("alice", vec![1; 31]), Code::Unavailable),
        (verified("", ALICES.to_vec()), Code::Unavailable),
        (verified("al/ice", ALICES.to_vec()), Code::Unavailable),
    ] {
        keys.certd.set_verdict(Some(verdict));
        let mut login = keys.bench.login().await;
        assert_eq!(code(login.begin(proof(ONE, vec![1; 64], ("", &[]))).await), answer);
        assert_eq!(code(login.begin(tls("alice", ALICES)).await), answer);
    }
    keys.certd.set_verdict(Some(verified("alice", ALICES.to_vec())));
    let mut login = keys.bench.login().await;
    assert!(is_denied(login.begin(proof(ONE, vec![1; 64], ("bob", &[]))).await));
    assert!(is_denied(login.begin(tls("bob", ALICES)).await));
}

#[tokio::test]
async fn account_management_may_ask_and_its_answers_are_the_clients() {
    let keys = Keys::start().await;
    keys.bench.pam(|worker| {
        worker.round(&[(Style::Visible, "Which site? ")]);
        let right = worker.answers() == Some(vec!["north".into()]);
        worker.verdict(if right { Verdict::Success } else { Verdict::Denied });
    });
    let mut login = keys.bench.login().await;
    let asked = prompts(login.begin(keys.answer(ONE, ALICES, ("", &[])).await).await);
    let answered = login.respond(respond(ONE, &asked.conversation, &["north"])).await;
    assert_eq!(granted(answered).session.expect("a session").method, "certificate_challenge");
}

#[tokio::test]
async fn local_users_are_counted_by_the_uid_that_the_gateway_reports() {
    let keys = Keys::start_with(|config| config.pam.per_source = 1).await;
    keys.bench.pam(|worker| {
        worker.round(&[(Style::Visible, "Which site? ")]);
        worker.await_end();
    });
    let local = async |connection: &str, key, uid| {
        let source = wire::Source { address: String::new(), local_uid: Some(uid), forwarded: String::new() };
        let request = keys.answer(connection, key, ("", &[])).await;
        wire::BeginRequest { source: Some(source), ..request }
    };
    let mut login = keys.bench.login().await;
    let request = local(ONE, ALICES, 1000).await;
    keys.certd.asked();
    prompts(login.begin(request).await);
    let [Asked::Verify(asked)] = &keys.certd.asked()[..] else { panic!("one question") };
    assert_eq!(asked.source, "uid:1000");
    assert_eq!(code(login.begin(local(TWO, BOBS, 1000).await).await), Code::ResourceExhausted);
    prompts(login.begin(local(TWO, BOBS, 1001).await).await);
}
