//! What a revocation ends, and what is believed while none is told of.

use std::sync::mpsc;

use doorward_proto::authd::v1::ended_event;

use super::*;

#[tokio::test]
async fn a_revocation_ends_the_sessions_of_its_key_at_once_and_for_good() {
    let mut keys = Keys::start().await;
    account_management(&keys.bench);
    let (alice, bob) = (keys.session_by(ALICES).await, keys.session_by(BOBS).await);
    let mut sessions = keys.bench.sessions().await;
    let mut events = sessions.watch_ended(wire::WatchEndedRequest {}).await.expect("watching").into_inner();
    assert!(matches!(
        events.message().await.expect("told").expect("ready").kind,
        Some(ended_event::Kind::Ready(_))
    ));
    keys.certd.revoke(ALICES, "alice");
    let event = tokio::time::timeout(PATIENCE, events.message()).await.expect("in time").expect("told");
    let Some(ended_event::Kind::Ended(ended)) = event.expect("an event").kind else { panic!("an end") };
    assert_eq!(ended.session, alice.session.expect("a session").session);
    assert_eq!(ended.reason(), wire::EndReason::Revoked);
    assert_eq!(keys.bench.check(&alice.token).await, Err(Code::NotFound));
    drop((events, sessions));
    keys.bench.restart().await;
    keys.watched().await;
    assert_eq!(keys.bench.check(&alice.token).await, Err(Code::NotFound));
    assert!(keys.bench.check(&bob.token).await.is_ok());
}

#[tokio::test]
async fn what_is_revoked_while_nobody_listens_is_heard_of_afterwards() {
    let mut keys = Keys::start().await;
    account_management(&keys.bench);
    let (alice, bob) = (keys.session_by(ALICES).await, keys.session_by(BOBS).await);
    let opened = certd::now();
    keys.stop_certd().await;
    keys.certd.revoke(ALICES, "alice");
    assert!(keys.bench.check(&alice.token).await.is_ok(), "nobody could tell");
    keys.running = Some(keys.certd.serve(&keys.socket()));
    until(async || keys.bench.check(&alice.token).await == Err(Code::NotFound)).await;
    let since = keys.certd.asked().into_iter().find_map(|asked| match asked {
        Asked::Watch(since) => Some(since),
        _ => None,
    });
    assert!((1..=opened).contains(&since.expect("it watches")), "{since:?} {opened}");

    keys.bench.stop().await;
    keys.certd.revoke(BOBS, "bob");
    keys.bench.run().await;
    until(async || keys.bench.check(&bob.token).await == Err(Code::NotFound)).await;
}

#[tokio::test]
async fn a_key_that_is_revoked_during_the_login_opens_no_session() {
    let keys = Keys::start().await;
    let (tell, started) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let may_go_on = std::sync::Mutex::new(may_go_on);
    keys.bench.pam(move |worker| {
        if worker.start.user == "alice" {
            tell.send(()).expect("the test listens");
            may_go_on.lock().expect("alone").recv().expect("told");
        }
        worker.verdict(Verdict::Success);
        worker.await_end();
    });
    let marker = keys.session_by(BOBS).await;
    let request = keys.answer(ONE, ALICES, ("", &[])).await;
    let mut login = keys.bench.login().await;
    let answer = tokio::spawn(async move { login.begin(request).await });
    tokio::task::spawn_blocking(move || started.recv()).await.expect("ran").expect("started");
    keys.certd.revoke(ALICES, "alice");
    keys.heard(&marker, BOBS, "bob").await;
    go_on.send(()).expect("PAM waits");
    assert!(is_denied(answer.await.expect("no panic")));
}

#[tokio::test]
async fn an_old_revocation_told_again_does_not_end_what_a_new_registration_opened() {
    let keys = Keys::start().await;
    account_management(&keys.bench);
    let (alice, marker) = (keys.session_by(ALICES).await, keys.session_by(BOBS).await);
    keys.certd.tell(ALICES, "alice", certd::now() - 60);
    keys.certd.tell(ALICES, "bob", certd::now());
    keys.heard(&marker, BOBS, "bob").await;
    assert!(keys.bench.check(&alice.token).await.is_ok());
}

#[tokio::test]
async fn while_revocations_are_not_told_no_key_opens_anything() {
    let keys = Keys::start().await;
    account_management(&keys.bench);
    let alice = keys.session_by(ALICES).await;
    let request = keys.answer(ONE, ALICES, ("", &[])).await;
    keys.certd.asked();
    keys.certd.refuse_watches(true);
    // What is no fingerprint ends the watch.
    keys.certd.tell_raw(vec![1; 31]);
    until(async || keys.certd.asked().iter().any(|asked| matches!(asked, Asked::Watch(_)))).await;
    let mut login = keys.bench.login().await;
    assert_eq!(code(keys.challenge(ONE).await), Code::Unavailable);
    assert_eq!(code(login.begin(request).await), Code::Unavailable);
    assert_eq!(code(login.begin(tls("bob", BOBS)).await), Code::Unavailable);
    assert!(keys.certd.asked().iter().all(|asked| matches!(asked, Asked::Watch(_))));
    keys.certd.refuse_watches(false);
    keys.watched().await;
    keys.certd.revoke(ALICES, "alice");
    until(async || keys.bench.check(&alice.token).await == Err(Code::NotFound)).await;
}
