//! Logins by password, with whatever else PAM asks, and by token.

use std::sync::mpsc;

use doorward_proto::{
    authd::v1::{self as wire, begin_request::Method},
    pam::v1::{Result as Verdict, Style},
};
use tonic::Code;

use crate::bench::{Bench, ONE, TWO, begin, code, granted, is_denied, password, prompts, respond, until};

#[tokio::test]
async fn a_password_opens_a_session_with_the_rights_of_the_groups() {
    let bench = Bench::start(|_| ()).await;
    bench.pam_with_passwords();
    let alice = bench.session_of("alice").await;
    let session = alice.session.expect("a session");
    assert_eq!((session.user.as_str(), session.uid, session.auth_id.as_str()), ("alice", Some(1000), "1000"));
    assert_eq!((session.access(), session.acl), (wire::Access::Full, vec!["#".to_owned()]));
    assert_eq!((session.idle_seconds, session.idle_left_ms), (300, 300_000));
    assert_eq!((session.absolute_left_ms, session.rights_ms), (43_200_000, 59_000));
    assert_eq!(session.method, "password");
    assert_eq!(bench.check(&alice.token).await.expect("alive").session, session.session);

    let bob = bench.session_of("bob").await.session.expect("a session");
    assert_eq!(bob.access(), wire::Access::Limited);
    assert_eq!(bob.acl.first().map(String::as_str), Some("sysadm.rpc.query.#"));
    assert_ne!(bob.session, session.session);
}

#[tokio::test]
async fn root_logs_in_by_password() {
    let bench = Bench::start(|_| ()).await;
    bench.pam_with_passwords();
    assert_eq!(bench.session_of("root").await.session.expect("a session").access(), wire::Access::Full);
}

#[tokio::test]
async fn pam_asks_more_and_the_client_answers_only_what_is_missing() {
    let bench = Bench::start(|_| ()).await;
    bench.pam(|worker| {
        worker.round(&[(Style::Info, "Welcome")]);
        worker.round(&[
            (Style::Hidden, "Password: "),
            (Style::Error, "Soon expired"),
            (Style::Visible, "Code: "),
        ]);
        let first = worker.answers() == Some(vec!["pw".into(), "42".into()]);
        worker.round(&[(Style::Hidden, "New password: ")]);
        let second = worker.answers() == Some(vec!["new".into()]);
        worker.verdict(if first && second { Verdict::Success } else { Verdict::Denied });
    });
    let mut login = bench.login().await;
    let first = prompts(login.begin(password(ONE, "alice", "pw")).await);
    let shown: Vec<_> = first.prompts.iter().map(|prompt| (prompt.style(), prompt.text.as_str())).collect();
    assert_eq!(
        shown,
        [
            (wire::Style::Info, "Welcome"),
            (wire::Style::Error, "Soon expired"),
            (wire::Style::Visible, "Code: ")
        ]
    );
    let second = prompts(login.respond(respond(ONE, &first.conversation, &["42"])).await);
    assert_eq!(second.prompts.len(), 1);
    granted(login.respond(respond(ONE, &second.conversation, &["new"])).await);
    let again = login.respond(respond(ONE, &second.conversation, &["new"])).await;
    assert_eq!(code(again), Code::Unauthenticated);
}

fn asks_a_code(bench: &Bench) {
    bench.pam(|worker| {
        worker.password();
        worker.round(&[(Style::Visible, "Code: ")]);
        let right = worker.answers() == Some(vec!["42".into()]);
        worker.verdict(if right { Verdict::Success } else { Verdict::Denied });
    });
}

#[tokio::test]
async fn a_conversation_belongs_to_its_connection_and_a_wrong_try_changes_nothing() {
    let bench = Bench::start(|_| ()).await;
    asks_a_code(&bench);
    let mut login = bench.login().await;
    let asked = prompts(login.begin(password(ONE, "alice", "pw")).await).conversation;
    for (connection, conversation, answers, wrong) in [
        (TWO, asked.as_str(), &["42"][..], Code::Unauthenticated),
        (ONE, ONE, &["42"], Code::Unauthenticated),
        (ONE, "x", &["42"], Code::Unauthenticated),
        (ONE, &asked, &[], Code::InvalidArgument),
        (ONE, &asked, &["4", "2"], Code::InvalidArgument),
        (ONE, &asked, &["4\0"], Code::InvalidArgument),
    ] {
        let answer = login.respond(respond(connection, conversation, answers)).await;
        assert_eq!(code(answer), wrong, "{connection} {conversation} {answers:?}");
    }
    granted(login.respond(respond(ONE, &asked, &["42"])).await);
}

#[tokio::test]
async fn of_two_answers_that_race_one_is_taken() {
    let bench = Bench::start(|_| ()).await;
    asks_a_code(&bench);
    let mut login = bench.login().await;
    let asked = prompts(login.begin(password(ONE, "alice", "pw")).await).conversation;
    let mut other = login.clone();
    let (one, two) = tokio::join!(
        login.respond(respond(ONE, &asked, &["42"])),
        other.respond(respond(ONE, &asked, &["42"]))
    );
    let codes = [code(one), code(two)];
    assert!(codes.contains(&Code::Ok) && codes.contains(&Code::Unauthenticated), "{codes:?}");
}

#[tokio::test]
async fn a_prompt_that_nobody_answers_is_gone_after_its_deadline() {
    let bench = Bench::start(|config| config.pam.answer_seconds = 1).await;
    let (tell, ended) = mpsc::channel();
    bench.pam(move |worker| {
        worker.round(&[(Style::Visible, "Code: ")]);
        worker.await_end();
        tell.send(()).expect("the test listens");
    });
    let mut login = bench.login().await;
    let asked = prompts(login.begin(password(ONE, "alice", "pw")).await).conversation;
    tokio::task::spawn_blocking(move || ended.recv()).await.expect("ran").expect("ended");
    let late = async || {
        let mut login = login.clone();
        code(login.respond(respond(ONE, &asked, &["42"])).await) == Code::Unauthenticated
    };
    until(late).await;
}

/// PAM asks for a code; told are the users whose conversation ended without one.
fn asks_for_a_code(bench: &Bench) -> mpsc::Receiver<String> {
    let (tell, ended) = mpsc::channel();
    bench.pam(move |worker| {
        worker.round(&[(Style::Visible, "Code: ")]);
        if worker.answers().is_none() {
            tell.send(worker.start.user.clone()).expect("the test listens");
        }
        worker.verdict(Verdict::Success);
    });
    ended
}

#[tokio::test]
async fn abandoning_a_connection_ends_its_conversations_and_no_others() {
    let bench = Bench::start(|_| ()).await;
    let ended = asks_for_a_code(&bench);
    let mut login = bench.login().await;
    let given_up = prompts(login.begin(password(ONE, "alice", "pw")).await).conversation;
    let kept = prompts(login.begin(password(TWO, "bob", "pw")).await).conversation;
    login.abandon(wire::AbandonRequest { connection: ONE.into() }).await.expect("abandoned");
    let user = tokio::task::spawn_blocking(move || ended.recv()).await.expect("ran").expect("ended");
    assert_eq!(user, "alice");
    assert_eq!(code(login.respond(respond(ONE, &given_up, &["42"])).await), Code::Unauthenticated);
    granted(login.respond(respond(TWO, &kept, &["42"])).await);
}

#[tokio::test]
async fn a_gateway_that_is_gone_takes_its_conversations_along_and_no_others() {
    let bench = Bench::start(|_| ()).await;
    let ended = asks_for_a_code(&bench);
    let (mut killed, mut other) = (bench.login().await, bench.login().await);
    prompts(killed.begin(password(ONE, "alice", "pw")).await);
    let kept = prompts(other.begin(password(TWO, "bob", "pw")).await).conversation;
    // No word of it, as when a gateway is killed: its connection ends.
    drop(killed);
    let user = tokio::task::spawn_blocking(move || ended.recv()).await.expect("ran").expect("ended");
    assert_eq!(user, "alice");
    granted(other.respond(respond(TWO, &kept, &["42"])).await);
}

#[tokio::test]
async fn a_login_ends_when_nobody_waits_for_it() {
    let bench = Bench::start(|_| ()).await;
    let (tell, told) = mpsc::channel();
    bench.pam(move |worker| {
        tell.send("started").expect("the test listens");
        worker.await_end();
        tell.send("ended").expect("the test listens");
    });
    let mut login = bench.login().await;
    let waiting = tokio::spawn(async move { login.begin(password(ONE, "alice", "pw")).await });
    let next = move || told.recv().map(|what| (what, told));
    let (what, told) = tokio::task::spawn_blocking(next).await.expect("ran").expect("told");
    assert_eq!(what, "started");
    waiting.abort();
    let what = tokio::task::spawn_blocking(move || told.recv()).await.expect("ran").expect("told");
    assert_eq!(what, "ended");
}

#[tokio::test]
async fn a_token_takes_up_its_session_and_resets_its_clock() {
    let bench = Bench::start(|_| ()).await;
    bench.pam_with_passwords();
    let first = bench.session_of("alice").await;
    bench.forward(200_000);
    let token = |text: &str| begin(TWO, "", Method::Token(wire::Token { token: text.into() }));
    let mut login = bench.login().await;
    let taken = granted(login.begin(token(&first.token)).await);
    assert_eq!(taken.token, first.token);
    let session = taken.session.expect("a session");
    assert_eq!(session.session, first.session.expect("a session").session);
    assert_eq!((session.idle_left_ms, session.absolute_left_ms), (300_000, 43_000_000));
    for wrong in ["", "x", ONE, &first.token.to_uppercase()] {
        assert!(is_denied(login.begin(token(wrong)).await), "{wrong}");
    }
    bench.forward(300_000);
    assert!(is_denied(login.begin(token(&first.token)).await), "idle");
}

#[tokio::test]
async fn what_is_no_request_is_refused_with_the_field() {
    let bench = Bench::start(|_| ()).await;
    let good = || password(ONE, "alice", "pw");
    let mut login = bench.login().await;
    for (request, field) in [
        (wire::BeginRequest { connection: "x".into(), ..good() }, "connection"),
        (wire::BeginRequest { connection: String::new(), ..good() }, "connection"),
        (wire::BeginRequest { dialect: 0, ..good() }, "dialect"),
        (wire::BeginRequest { dialect: 77, ..good() }, "dialect"),
        (wire::BeginRequest { method: None, ..good() }, "method"),
        (
            wire::BeginRequest {
                source: Some(wire::Source {
                    address: "host.example".into(),
                    local_uid: None,
                    forwarded: String::new(),
                }),
                ..good()
            },
            "source",
        ),
    ] {
        let status = login.begin(request).await.expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(field), "{status}");
    }
}

#[tokio::test]
async fn a_user_holds_so_many_sessions_and_no_more() {
    let bench = Bench::start(|config| config.sessions.per_user = 2).await;
    bench.pam_with_passwords();
    let first = bench.session_of("alice").await;
    bench.session_of("alice").await;
    let mut login = bench.login().await;
    assert_eq!(code(login.begin(password(ONE, "alice", "pw")).await), Code::ResourceExhausted);
    let mut sessions = bench.sessions().await;
    sessions.end(wire::EndRequest { token: first.token }).await.expect("ended");
    bench.session_of("alice").await;
}

#[tokio::test]
async fn conversations_are_bounded_by_account_source_and_in_all() {
    for (per_account, per_source, total) in [(1, 8, 8), (8, 1, 8), (8, 8, 1)] {
        let bench = Bench::start(|config| {
            config.pam.per_account = per_account;
            config.pam.per_source = per_source;
            config.pam.conversations = total;
        })
        .await;
        asks_a_code(&bench);
        let mut login = bench.login().await;
        let asked = prompts(login.begin(password(ONE, "alice", "pw")).await).conversation;
        assert_eq!(code(login.begin(password(TWO, "alice", "pw")).await), Code::ResourceExhausted);
        granted(login.respond(respond(ONE, &asked, &["42"])).await);
        // The slot is free when the guard has closed its end.
        let free = async || {
            let mut login = login.clone();
            code(login.begin(password(TWO, "alice", "pw")).await) == Code::Ok
        };
        until(free).await;
    }
}
