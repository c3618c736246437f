//! Refused logins look alike, in what is answered and when; failures are told apart.

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

use doorward_proto::{
    authd::v1::{self as wire, begin_request::Method},
    pam::v1::{Result as Verdict, Style},
};
use tonic::Code;

use crate::bench::{Bench, ONE, TWO, begin, code, granted, is_denied, password, until};
use crate::events::Events;

#[tokio::test]
async fn every_refusal_is_the_same_answer_no_sooner_than_its_delay() {
    let bench = Bench::start(|config| {
        config.pam.refusal_delay_ms = 400;
        config.pam.per_source = 64;
    })
    .await;
    bench.pam_with_passwords();
    let login = bench.login().await;
    let long = "x".repeat(513);
    let cases = [
        ("alice", "wrong"),
        ("nobody-here", "pw"),
        ("eve", "pw"),
        ("alice", ""),
        ("alice", "p\0w"),
        ("alice", &long),
        ("", "pw"),
        ("-alice", "pw"),
        ("a/b", "pw"),
        ("al\nice", "pw"),
    ];
    let tries = cases.map(|(user, word)| {
        let mut login = login.clone();
        async move {
            let began = Instant::now();
            assert!(is_denied(login.begin(password(ONE, user, word)).await), "{user:?}");
            (user, began.elapsed())
        }
    });
    for (user, took) in futures_util::future::join_all(tries).await {
        assert!(took >= Duration::from_millis(300), "{user:?}: {took:?}");
    }
}

#[tokio::test]
async fn a_modules_delay_holds_and_its_conversation_ends_before_it() {
    let bench = Bench::start(|_| ()).await;
    let (tell, ended) = mpsc::channel();
    bench.pam(move |worker| {
        worker.verdict_on(Verdict::Denied, &worker.start.user, 3_000_000);
        worker.await_end();
        tell.send(Instant::now()).expect("the test listens");
    });
    let mut login = bench.login().await;
    let began = Instant::now();
    assert!(is_denied(login.begin(password(ONE, "alice", "pw")).await));
    let answered = Instant::now();
    assert!(answered - began >= Duration::from_secs(3), "{:?}", answered - began);
    let ended = ended.recv().expect("ended");
    assert!(ended < answered, "waiting for a refusal holds no process");
    // A refusal without any wish of a module now waits as long: which modules ask tells the cause.
    let began = Instant::now();
    assert!(is_denied(login.begin(password(ONE, "a/b", "pw")).await));
    assert!(began.elapsed() >= Duration::from_secs(3));
}

#[tokio::test]
async fn verdicts_that_are_no_success_are_refusals() {
    for (verdict, user, answer) in [
        (Verdict::Denied, "alice", None),
        (Verdict::UserChanged, "bob", None),
        (Verdict::Success, "bob", None),
        (Verdict::Success, "", None),
        (Verdict::Fault, "alice", None),
        (Verdict::Protocol, "alice", None),
        (Verdict::PasswordExpired, "alice", None),
        (Verdict::Unspecified, "alice", None),
        (Verdict::ServiceRefused, "alice", Some(Code::Unavailable)),
    ] {
        let bench = Bench::start(|_| ()).await;
        bench.pam(move |worker| worker.verdict_on(verdict, user, 0));
        let outcome = bench.login().await.begin(password(ONE, "alice", "pw")).await;
        match answer {
            None => assert!(is_denied(outcome), "{verdict:?} {user:?}"),
            Some(expected) => assert_eq!(code(outcome), expected),
        }
    }
}

#[tokio::test]
async fn a_worker_that_misbehaves_is_a_refusal_and_one_that_is_not_there_a_failure() {
    let too_many = vec![(Style::Info, "x"); 33];
    type Script = Box<dyn Fn(crate::fakes::pam::Worker) + Send + Sync>;
    let cases: Vec<(&str, Script, Option<Code>)> = vec![
        ("garbage", Box::new(|worker| worker.raw(&[0xff; 9])), None),
        ("oversized", Box::new(|worker| worker.raw(&[0x0a; 4097])), None),
        ("too many messages", Box::new(move |worker| worker.round(&too_many)), None),
        ("no messages", Box::new(|worker| worker.round(&[])), None),
        ("crash", Box::new(|worker| drop(worker.password())), None),
        ("no word", Box::new(drop), Some(Code::Unavailable)),
        ("silence", Box::new(|worker| worker.await_end()), Some(Code::DeadlineExceeded)),
    ];
    for (name, script, answer) in cases {
        let bench = Bench::start(|config| config.pam.silent_seconds = 1).await;
        bench.pam(script);
        let outcome = bench.login().await.begin(password(ONE, "alice", "pw")).await;
        match answer {
            None => assert!(is_denied(outcome), "{name}"),
            Some(expected) => assert_eq!(code(outcome), expected, "{name}"),
        }
    }
}

#[tokio::test]
async fn without_a_guard_logins_fail_and_heal_when_it_is_back() {
    let bench = Bench::start(|_| ()).await;
    let mut login = bench.login().await;
    assert_eq!(code(login.begin(password(ONE, "alice", "pw")).await), Code::Unavailable);
    bench.pam_with_passwords();
    bench.session_of("alice").await;
}

#[tokio::test]
async fn an_expired_password_tells_nothing_of_an_account_that_may_not_log_in() {
    let bench = Bench::start(|config| config.pam.refusal_delay_ms = 400).await;
    bench.pam(|worker| {
        if worker.password().as_deref() == Some("pw") {
            worker.round_after_authentication(&[(Style::Hidden, "New password: ")]);
            worker.answers();
            worker.verdict(Verdict::Success);
        } else {
            worker.verdict(Verdict::Denied);
        }
    });
    let mut login = bench.login().await;
    crate::bench::prompts(login.begin(password(ONE, "alice", "pw")).await);
    for (user, word) in [("eve", "pw"), ("eve", "wrong"), ("nobody-here", "pw")] {
        let began = Instant::now();
        assert!(is_denied(login.begin(password(ONE, user, word)).await), "{user} {word}");
        assert!(began.elapsed() >= Duration::from_millis(300), "{user} {word}");
    }
}

fn from_elsewhere(user: &str, word: &str) -> wire::BeginRequest {
    let method = wire::Password { username: user.into(), password: word.into() };
    begin(TWO, "198.51.100.7", Method::Password(method))
}

/// PAM says "denied" to "wrong", nothing at all to "slow", and tells the test when the password is there.
fn pam_that_tells(bench: &Bench) -> mpsc::Receiver<()> {
    let (tell, told) = mpsc::channel();
    bench.pam(move |worker| {
        let word = worker.password();
        // The test may have heard enough.
        let _ = tell.send(());
        match word.as_deref() {
            Some("pw") => worker.verdict(Verdict::Success),
            Some("slow") => {}
            _ => worker.verdict(Verdict::Denied),
        }
        worker.await_end();
    });
    told
}

#[tokio::test]
async fn hanging_up_makes_no_room_for_the_next_guess() {
    for word in ["wrong", "slow"] {
        let bench = Bench::start(|config| {
            config.pam.refusal_delay_ms = 10_000;
            config.pam.per_source = 2;
        })
        .await;
        let mut told = pam_that_tells(&bench);
        for user in ["alice", "bob"] {
            let mut login = bench.login().await;
            let guess = tokio::spawn(async move { login.begin(password(ONE, user, word)).await });
            let heard = tokio::task::spawn_blocking(move || told.recv().map(|()| told)).await;
            told = heard.expect("ran").expect("PAM has the password");
            guess.abort();
            assert!(guess.await.is_err_and(|end| end.is_cancelled()), "answered before its time");
            let gone = wire::AbandonRequest { connection: ONE.into() };
            bench.login().await.abandon(gone).await.expect("abandoned");
        }
        let mut login = bench.login().await;
        let third = login.begin(password(TWO, "root", "pw")).await;
        assert_eq!(code(third), Code::ResourceExhausted, "{word}");
        granted(login.begin(from_elsewhere("alice", "pw")).await);
    }
}

#[tokio::test]
async fn a_guess_counts_for_its_account_until_it_is_refused_and_a_success_no_longer() {
    let bench = Bench::start(|config| {
        config.pam.refusal_delay_ms = 4_000;
        config.pam.per_account = 1;
    })
    .await;
    let told = pam_that_tells(&bench);
    let mut login = bench.login().await;
    let mut other = login.clone();
    let guess = tokio::spawn(async move { other.begin(password(ONE, "alice", "wrong")).await });
    tokio::task::spawn_blocking(move || told.recv()).await.expect("ran").expect("PAM has the password");
    assert_eq!(code(login.begin(password(TWO, "alice", "pw")).await), Code::ResourceExhausted);
    granted(login.begin(password(TWO, "bob", "pw")).await);
    granted(login.begin(from_elsewhere("alice", "pw")).await);
    assert!(is_denied(guess.await.expect("ran")));
    let began = Instant::now();
    for _ in 0..4 {
        // The guard has to close its end before the next one.
        let free = async || {
            let mut login = login.clone();
            code(login.begin(password(TWO, "alice", "pw")).await) == Code::Ok
        };
        until(free).await;
    }
    // If successes counted as long, they would take 9 s and more.
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_source_that_keeps_an_account_busy_locks_nobody_out_elsewhere() {
    let bench = Bench::start(|config| config.pam.per_account = 1).await;
    bench.pam(|worker| {
        worker.round(&[(Style::Visible, "Code: ")]);
        worker.answers();
        worker.verdict(Verdict::Success);
    });
    let mut login = bench.login().await;
    crate::bench::prompts(login.begin(password(ONE, "alice", "pw")).await);
    assert_eq!(code(login.begin(password(TWO, "alice", "pw")).await), Code::ResourceExhausted);
    crate::bench::prompts(login.begin(from_elsewhere("alice", "pw")).await);
}

#[tokio::test]
async fn a_source_that_tries_tokens_writes_few_lines_and_is_counted_all_the_same() {
    const TRIES: u64 = 200;
    let events = Events::default();
    // Everything of this test runs on this thread.
    let _listening = events.listen();
    let bench = Bench::start(|_| ()).await;
    let mut login = bench.login().await;
    let began = Instant::now();
    for _ in 0..TRIES {
        let wrong = begin(ONE, "192.0.2.1", Method::Token(wire::Token { token: "x".into() }));
        assert!(is_denied(login.begin(wrong).await));
    }
    let seconds = began.elapsed().as_secs() + 1;
    until(async || events.lines() + events.summed_up() == TRIES).await;
    assert!(events.lines() <= 20 * seconds, "{} lines in {seconds} s", events.lines());
    let wrong = begin(TWO, "192.0.2.2", Method::Token(wire::Token { token: "x".into() }));
    let before = events.lines();
    assert!(is_denied(login.begin(wrong).await));
    assert_eq!(events.lines(), before + 1, "another source has its own lines");
}

#[tokio::test]
async fn what_anybody_can_cause_before_a_login_writes_few_lines_of_each_kind() {
    const TRIES: u64 = 200;
    let events = Events::default();
    let _listening = events.listen();
    // There is no certd, and nobody listens where PAM is asked.
    let bench = Bench::start(|_| ()).await;
    let mut login = bench.login().await;
    let began = Instant::now();
    for _ in 0..TRIES {
        let challenge = wire::ChallengeRequest { connection: ONE.into(), server_key: Vec::new() };
        assert_eq!(code(login.challenge(challenge).await), Code::Unavailable);
        let unread = wire::BeginRequest { method: None, ..password(ONE, "alice", "pw") };
        assert_eq!(code(login.begin(unread).await), Code::InvalidArgument);
    }
    let (failed, unread) = (events.said("a call failed"), events.said("login refused unread"));
    for _ in 0..TRIES {
        assert_eq!(code(login.begin(password(ONE, "alice", "pw")).await), Code::Unavailable);
    }
    let seconds = began.elapsed().as_secs() + 1;
    for (what, lines) in [("no challenge", failed), ("not read", unread)] {
        assert!((1..=20 * seconds).contains(&lines), "{what}: {lines} lines in {seconds} s");
    }
    assert_eq!(events.said("a call failed"), failed, "the login has its own line");
    until(async || events.said("login failed") + events.summed_up() == TRIES).await;
    assert!(events.said("login failed") <= 20 * seconds, "{} lines", events.said("login failed"));
}
