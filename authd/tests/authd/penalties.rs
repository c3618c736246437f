//! Penalties over the sockets: who gets one, who does not, and what a gateway hears of it.

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

use doorward_proto::{
    authd::v1::{self as wire, begin_request::Method, outcome::Kind, source_standing},
    pam::v1::{Result as Verdict, Style},
};
use tonic::Code;

use crate::bench::{
    Bench, ONE, TWO, begin, code, granted, is_denied, kind, password, prompts, respond, until,
};

const MINUTE: u64 = 60_000;

/// As shipped, but that nothing waits.
async fn bench() -> Bench {
    Bench::start(|config| config.penalty.failures = 5).await
}

fn from(address: &str, user: &str, word: &str) -> wire::BeginRequest {
    let method = wire::Password { username: user.into(), password: word.into() };
    begin(ONE, address, Method::Password(method))
}

/// What is left of the penalty that it is refused for.
fn penalty(answer: Result<tonic::Response<wire::Outcome>, tonic::Status>) -> u64 {
    match kind(answer) {
        Kind::Penalised(penalised) => penalised.left_ms,
        other => panic!("{other:?}"),
    }
}

async fn fail(bench: &Bench, times: usize) {
    let mut login = bench.login().await;
    for _ in 0..times {
        assert!(is_denied(login.begin(password(ONE, "alice", "wrong")).await));
    }
}

#[tokio::test]
async fn the_sixth_login_is_not_tried_from_there_and_is_from_elsewhere() {
    let bench = bench().await;
    let (tell, told) = mpsc::channel();
    bench.pam(move |worker| {
        let right = worker.password().as_deref() == Some("pw");
        tell.send(()).expect("the test listens");
        worker.verdict(if right { Verdict::Success } else { Verdict::Denied });
        worker.await_end();
    });
    fail(&bench, 4).await;
    let mut login = bench.login().await;
    // A success in between forgives nothing.
    granted(login.begin(password(ONE, "alice", "pw")).await);
    fail(&bench, 1).await;
    assert_eq!(told.try_iter().count(), 6);
    assert_eq!(penalty(login.begin(password(ONE, "alice", "pw")).await), MINUTE);
    assert_eq!(penalty(login.begin(password(TWO, "nobody-here", "pw")).await), MINUTE);
    assert_eq!(told.try_iter().count(), 0, "PAM is not asked");
    granted(login.begin(from("192.0.2.2", "alice", "pw")).await);
    bench.forward(MINUTE - 1);
    assert_eq!(penalty(login.begin(password(ONE, "alice", "pw")).await), 1);
    bench.forward(1);
    granted(login.begin(password(ONE, "alice", "pw")).await);
    fail(&bench, 5).await;
    assert_eq!(penalty(login.begin(password(ONE, "alice", "pw")).await), 2 * MINUTE);
}

#[tokio::test]
async fn a_penalty_is_recorded_with_its_length_and_so_is_each_login_that_is_not_tried() {
    let bench = Bench::start(|config| config.penalty.failures = 2).await;
    bench.pam_with_passwords();
    fail(&bench, 2).await;
    let mut login = bench.login().await;
    penalty(login.begin(password(ONE, "alice", "pw")).await);
    let records = bench.records();
    let of = |event: &str| -> Vec<_> {
        records
            .iter()
            .filter(|record| record["event"] == event)
            .map(|record| record["reason"].clone())
            .collect()
    };
    assert_eq!(of("login_refused"), ["pam-denied", "pam-denied", "penalty"]);
    assert_eq!(of("penalty"), ["too-many-failures"]);
    let record = records.iter().find(|record| record["event"] == "penalty").expect("one");
    assert_eq!((&record["seconds"], &record["reported_source"]), (&60.into(), &"192.0.2.1".into()));
}

#[tokio::test]
async fn every_refusal_of_a_guess_counts_alike() {
    for (user, word) in [
        ("alice", "wrong"),
        ("nobody-here", "pw"),
        ("eve", "pw"),
        ("alice", ""),
        ("alice", "p\0w"),
        ("a/b", "pw"),
    ] {
        let bench = bench().await;
        bench.pam_with_passwords();
        let mut login = bench.login().await;
        for number in 0..5 {
            assert!(is_denied(login.begin(password(ONE, user, word)).await), "{user} {word:?} {number}");
        }
        assert_eq!(penalty(login.begin(password(ONE, "alice", "pw")).await), MINUTE, "{user} {word:?}");
    }
}

#[tokio::test]
async fn what_is_no_guess_is_not_counted() {
    let bench = Bench::start(|config| {
        config.penalty.failures = 1;
        config.pam.silent_seconds = 3;
    })
    .await;
    let mut login = bench.login().await;
    // Nobody listens for PAM; then a module that says nothing.
    assert_eq!(code(login.begin(password(ONE, "alice", "pw")).await), Code::Unavailable);
    bench.pam(|worker| match worker.password().as_deref() {
        Some("pw") => worker.verdict(Verdict::Success),
        Some("slow") => worker.await_end(),
        _ => worker.verdict(Verdict::Denied),
    });
    assert_eq!(code(login.begin(password(ONE, "alice", "slow")).await), Code::DeadlineExceeded);
    // Tokens that have ended, and handles that stand for nothing.
    let token = |token: &str| begin(ONE, "192.0.2.1", Method::Token(wire::Token { token: token.into() }));
    assert!(is_denied(login.begin(token("f81d4fae-7dec-41d0-a765-00a0c91e6bf6")).await));
    assert!(is_denied(login.begin(token("x")).await));
    let local = wire::LocalPeer { handle: vec![7; 16], ..wire::LocalPeer::default() };
    assert!(is_denied(login.begin(begin(ONE, "192.0.2.1", Method::LocalPeer(local.clone()))).await));
    let session = granted(login.begin(password(ONE, "alice", "pw")).await);
    // One guess, and all but a live session is refused.
    assert!(is_denied(login.begin(password(ONE, "alice", "wrong")).await));
    assert_eq!(penalty(login.begin(begin(ONE, "192.0.2.1", Method::LocalPeer(local))).await), MINUTE);
    granted(login.begin(token(&session.token)).await);
    assert_eq!(penalty(login.begin(token("f81d4fae-7dec-41d0-a765-00a0c91e6bf6")).await), MINUTE);
    assert_eq!(penalty(login.begin(token("x")).await), MINUTE);
    assert!(bench.check(&session.token).await.is_ok());
}

#[tokio::test]
async fn sources_are_users_of_this_host_networks_and_what_a_proxy_says() {
    let bench = Bench::start(|config| config.penalty.failures = 1).await;
    bench.pam_with_passwords();
    let mut login = bench.login().await;
    let mut from = async |address: &str, uid: Option<u32>, forwarded: &str, word: &str| {
        let source = wire::Source { address: address.into(), local_uid: uid, forwarded: forwarded.into() };
        let request = wire::BeginRequest { source: Some(source), ..password(ONE, "alice", word) };
        match kind(login.begin(request).await) {
            Kind::Penalised(_) => "penalised",
            Kind::Denied(_) => "denied",
            Kind::Granted(_) => "granted",
            Kind::Prompts(_) | Kind::InvalidExpiration(_) | Kind::NoSuchKind(_) => "something else",
        }
    };
    for (address, uid, forwarded) in [
        ("2001:db8::1", None, ""),
        ("", Some(1000), ""),
        ("127.0.0.1", Some(1001), ""),
        ("", Some(0), ""),
        ("10.0.0.1", None, "198.51.100.7"),
    ] {
        assert_eq!(from(address, uid, forwarded, "wrong").await, "denied");
        assert_eq!(from(address, uid, forwarded, "pw").await, "penalised", "{address} {uid:?} {forwarded}");
    }
    for (address, uid, forwarded, expected) in [
        ("2001:db8::ffff", None, "", "penalised"),
        ("2001:db8:0:1::1", None, "", "granted"),
        ("127.0.0.1", Some(1000), "", "penalised"),
        ("127.0.0.1", Some(1002), "", "granted"),
        ("10.0.0.1", None, "", "granted"),
        ("10.0.0.2", Some(5), "198.51.100.7", "penalised"),
        ("198.51.100.7", None, "", "penalised"),
    ] {
        assert_eq!(from(address, uid, forwarded, "pw").await, expected, "{address} {uid:?} {forwarded}");
    }
    let source = wire::Source { address: String::new(), local_uid: None, forwarded: "localhost".into() };
    let wrong = wire::BeginRequest { source: Some(source), ..password(ONE, "alice", "pw") };
    assert_eq!(code(login.begin(wrong).await), Code::InvalidArgument);
}

#[tokio::test]
async fn racing_makes_no_further_guess() {
    let bench = Bench::start(|config| {
        config.penalty.failures = 3;
        config.pam.per_source = 64;
        config.pam.per_account = 64;
    })
    .await;
    let (tell, told) = mpsc::channel();
    bench.pam(move |worker| {
        let _ = worker.password();
        let _ = tell.send(());
        worker.verdict(Verdict::Denied);
        worker.await_end();
    });
    let login = bench.login().await;
    let tries = (0..40).map(|_| {
        let mut login = login.clone();
        async move { login.begin(password(ONE, "alice", "wrong")).await }
    });
    let mut counts = [0; 3];
    for answer in futures_util::future::join_all(tries).await {
        let kind = match answer.map(|outcome| outcome.into_inner().kind) {
            Ok(Some(Kind::Denied(_))) => 0,
            Ok(Some(Kind::Penalised(_))) => 1,
            Err(status) if status.code() == Code::ResourceExhausted => 2,
            other => panic!("{other:?}"),
        };
        counts[kind] += 1;
    }
    assert_eq!(counts[0], 3, "{counts:?}");
    assert_eq!(told.try_iter().count(), 3);
}

#[tokio::test]
async fn hanging_up_on_a_guess_does_not_make_it_undone() {
    let bench = Bench::start(|config| {
        config.penalty.failures = 2;
        config.pam.per_source = 64;
    })
    .await;
    let (tell, told) = mpsc::channel();
    bench.pam(move |worker| {
        let _ = worker.password();
        let _ = tell.send(());
        worker.await_end();
    });
    let mut told = told;
    for _ in 0..2 {
        let mut login = bench.login().await;
        let guess = tokio::spawn(async move { login.begin(password(ONE, "alice", "wrong")).await });
        let heard = tokio::task::spawn_blocking(move || told.recv().map(|()| told)).await;
        told = heard.expect("ran").expect("PAM has the password");
        guess.abort();
        let gone = wire::AbandonRequest { connection: ONE.into() };
        bench.login().await.abandon(gone).await.expect("abandoned");
    }
    let penalised = async || {
        let mut login = bench.login().await;
        let other = begin(TWO, "192.0.2.1", Method::Token(wire::Token { token: "x".into() }));
        matches!(kind(login.begin(other).await), Kind::Penalised(_))
    };
    until(penalised).await;
}

#[tokio::test]
async fn a_login_with_questions_is_one_guess_whether_it_is_answered_wrong_or_left() {
    let bench = Bench::start(|config| {
        config.penalty.failures = 3;
        config.pam.per_source = 64;
        config.pam.per_account = 64;
    })
    .await;
    bench.pam(|worker| {
        let _ = worker.password();
        worker.round(&[(Style::Visible, "Code: ")]);
        let right = worker.answers().is_some_and(|answers| answers == ["424242"]);
        worker.verdict(if right { Verdict::Success } else { Verdict::Denied });
        worker.await_end();
    });
    let mut login = bench.login().await;
    let watch = login.watch_penalties(wire::WatchPenaltiesRequest {}).await.expect("a stream");
    let mut watch = watch.into_inner();
    let asked = prompts(login.begin(password(ONE, "alice", "pw")).await).conversation;
    assert!(is_denied(login.respond(respond(ONE, &asked, &["000000"])).await));
    prompts(login.begin(password(ONE, "alice", "pw")).await);
    login.abandon(wire::AbandonRequest { connection: ONE.into() }).await.expect("abandoned");
    let mut told = 0;
    while told < 2 {
        told += watch.message().await.expect("no failure").expect("an event").sources.len();
    }
    // The last one that is allowed can have questions, too.
    let asked = prompts(login.begin(password(ONE, "alice", "pw")).await).conversation;
    granted(login.respond(respond(ONE, &asked, &["424242"])).await);
    let open = prompts(login.begin(password(TWO, "alice", "pw")).await).conversation;
    assert_eq!(code(login.begin(password(ONE, "alice", "pw")).await), Code::ResourceExhausted);
    // Its source comes under a penalty while the question is open.
    login.abandon(wire::AbandonRequest { connection: ONE.into() }).await.expect("abandoned");
    assert!(is_denied(login.respond(respond(TWO, &open, &["000000"])).await));
    assert_eq!(penalty(login.begin(password(ONE, "alice", "pw")).await), MINUTE);
}

#[tokio::test]
async fn a_module_that_asks_again_and_again_gives_no_free_guesses() {
    let bench = Bench::start(|config| config.penalty.failures = 3).await;
    bench.pam(|worker| {
        let _ = worker.password();
        loop {
            worker.round(&[(Style::Hidden, "Password: ")]);
            match worker.answers() {
                Some(answers) if answers == ["pw"] => return worker.verdict(Verdict::Success),
                Some(_) => {}
                None => return,
            }
        }
    });
    let mut login = bench.login().await;
    let asked = prompts(login.begin(password(ONE, "alice", "wrong")).await).conversation;
    // The first question may be for something else; each further one is a second chance.
    for _ in 0..3 {
        prompts(login.respond(respond(ONE, &asked, &["wrong"])).await);
    }
    assert_eq!(code(login.respond(respond(ONE, &asked, &["pw"])).await), Code::ResourceExhausted);
    login.abandon(wire::AbandonRequest { connection: ONE.into() }).await.expect("abandoned");
    let penalised = async || {
        let mut login = bench.login().await;
        let other = begin(TWO, "192.0.2.1", Method::Token(wire::Token { token: "x".into() }));
        matches!(kind(login.begin(other).await), Kind::Penalised(_))
    };
    until(penalised).await;
}

#[tokio::test]
async fn a_restart_keeps_penalties_and_failures() {
    let mut bench = bench().await;
    bench.pam_with_passwords();
    fail(&bench, 5).await;
    let mut login = bench.login().await;
    for _ in 0..4 {
        assert!(is_denied(login.begin(from("192.0.2.2", "alice", "wrong")).await));
    }
    bench.restart().await;
    bench.forward(1_000);
    let mut login = bench.login().await;
    assert_eq!(penalty(login.begin(password(ONE, "alice", "pw")).await), 59_000);
    assert!(is_denied(login.begin(from("192.0.2.2", "alice", "wrong")).await));
    assert_eq!(penalty(login.begin(from("192.0.2.2", "alice", "pw")).await), MINUTE);
}

#[tokio::test]
async fn answers_about_an_account_wait_whoever_it_is_and_whatever_they_are() {
    let bench = Bench::start(|config| {
        config.penalty.account_delay_ms = 500;
        config.pam.per_source = 64;
        config.pam.per_account = 64;
    })
    .await;
    bench.pam_with_passwords();
    let mut login = bench.login().await;
    for user in ["alice", "nobody-here"] {
        for _ in 0..3 {
            assert!(is_denied(login.begin(password(ONE, user, "wrong")).await));
        }
        let began = Instant::now();
        assert!(is_denied(login.begin(password(ONE, user, "wrong")).await));
        assert!(began.elapsed() >= Duration::from_millis(500), "{user}");
    }
    // The right one from a clean source waits as long, and no longer.
    let began = Instant::now();
    granted(login.begin(from("192.0.2.2", "alice", "pw")).await);
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(500) && took < Duration::from_secs(5), "{took:?}");
    let mut least = Duration::MAX;
    for number in 2..7 {
        let began = Instant::now();
        granted(login.begin(from(&format!("192.0.2.{number}"), "bob", "pw")).await);
        least = least.min(began.elapsed());
    }
    assert!(least < Duration::from_millis(500), "another account waits for nothing: {least:?}");
}

#[tokio::test]
async fn a_gateway_hears_first_who_has_failed_and_then_of_every_change() {
    let bench = bench().await;
    bench.pam_with_passwords();
    fail(&bench, 1).await;
    let mut login = bench.login().await;
    let mut watch =
        login.watch_penalties(wire::WatchPenaltiesRequest {}).await.expect("a stream").into_inner();
    let first = watch.message().await.expect("no failure").expect("an event");
    assert!(first.ready);
    let address = Some(source_standing::Source::Address("192.0.2.1".into()));
    let standing = wire::SourceStanding { source: address, penalty_ms: 0, known_ms: 600_000 };
    assert_eq!(first.sources, std::slice::from_ref(&standing));
    fail(&bench, 4).await;
    let mut told = Vec::new();
    while told.len() < 4 {
        told.extend(watch.message().await.expect("no failure").expect("an event").sources);
    }
    let penalised = wire::SourceStanding { penalty_ms: MINUTE, known_ms: 61 * MINUTE, ..standing };
    assert_eq!(told.last(), Some(&penalised));
    // Four at a time, whoever asks.
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(login.watch_penalties(wire::WatchPenaltiesRequest {}).await.expect("a stream"));
    }
    let beyond = login.watch_penalties(wire::WatchPenaltiesRequest {}).await;
    assert_eq!(code(beyond), Code::ResourceExhausted);
}
