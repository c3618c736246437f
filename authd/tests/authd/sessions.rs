//! Sessions, their ends, and assertions.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use doorward_proto::authd::v1::{self as wire, ended_event};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use tonic::{Code, Streaming};

use crate::bench::{Bench, ONE, PATIENCE, code, is_denied, password, until};

async fn watch(bench: &Bench) -> Streaming<wire::EndedEvent> {
    let mut sessions = bench.sessions().await;
    let mut events = sessions.watch_ended(wire::WatchEndedRequest {}).await.expect("watching").into_inner();
    assert!(matches!(next(&mut events).await, Ok(ended_event::Kind::Ready(_))));
    events
}

async fn next(events: &mut Streaming<wire::EndedEvent>) -> Result<ended_event::Kind, Code> {
    let event = tokio::time::timeout(PATIENCE, events.message()).await.expect("told in time");
    event.map(|event| event.expect("no end without an error").kind.expect("a kind")).map_err(|s| s.code())
}

async fn ended(events: &mut Streaming<wire::EndedEvent>) -> (String, wire::EndReason) {
    match next(events).await {
        Ok(ended_event::Kind::Ended(ended)) => (ended.session.clone(), ended.reason()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_end_is_told_and_counts_at_once_and_over_a_restart() {
    let mut bench = Bench::start(|_| ()).await;
    bench.pam_with_passwords();
    let (kept, cleared) = (bench.session_of("alice").await, bench.session_of("alice").await);
    let mut events = watch(&bench).await;
    let mut sessions = bench.sessions().await;
    sessions.end(wire::EndRequest { token: cleared.token.clone() }).await.expect("ended");
    let name = cleared.session.expect("a session").session;
    assert_eq!(ended(&mut events).await, (name, wire::EndReason::Cleared));
    assert_eq!(bench.check(&cleared.token).await, Err(Code::NotFound));
    for nothing in [cleared.token.as_str(), "x", ""] {
        sessions.end(wire::EndRequest { token: nothing.into() }).await.expect("fine");
    }
    drop((sessions, events));
    bench.restart().await;
    assert_eq!(bench.check(&cleared.token).await, Err(Code::NotFound));
    let found = bench.check(&kept.token).await.expect("alive");
    assert_eq!(found.session, kept.session.expect("a session").session);
}

#[tokio::test]
async fn tokens_that_open_nothing_are_not_found() {
    let bench = Bench::start(|_| ()).await;
    for token in ["", "x", ONE, &"x".repeat(36)] {
        assert_eq!(bench.check(token).await, Err(Code::NotFound), "{token}");
    }
}

#[tokio::test]
async fn activity_keeps_a_session_and_the_lack_of_it_ends_it() {
    let bench = Bench::start(|_| ()).await;
    bench.pam_with_passwords();
    let (used, unused) = (bench.session_of("alice").await, bench.session_of("bob").await);
    let mut events = watch(&bench).await;
    bench.forward(299_000);
    let mut sessions = bench.sessions().await;
    let report = wire::ActivityReport {
        activities: vec![
            wire::Activity { token: used.token.clone(), used_ms_ago: 1_000 },
            wire::Activity { token: "no token".into(), used_ms_ago: 0 },
            wire::Activity { token: ONE.into(), used_ms_ago: 0 },
        ],
    };
    sessions.report_activity(report).await.expect("taken");
    assert_eq!(bench.check(&used.token).await.expect("alive").idle_left_ms, 299_000);
    bench.forward(1_000);
    assert_eq!(bench.check(&unused.token).await, Err(Code::NotFound), "idle to the millisecond");
    let check = wire::CheckRequest { token: used.token.clone(), used_ms_ago: Some(0), dialect: 1 };
    let session = sessions.check(check).await.expect("alive").into_inner();
    assert_eq!(session.idle_left_ms, 300_000);
    bench.forward(2_000);
    let name = unused.session.expect("a session").session;
    assert_eq!(ended(&mut events).await, (name, wire::EndReason::Idle));
    bench.forward(43_200_000);
    let name = used.session.expect("a session").session;
    assert_eq!(ended(&mut events).await, (name, wire::EndReason::Expired));
}

#[tokio::test]
async fn a_change_of_groups_counts_and_who_lost_all_access_loses_the_session() {
    let bench = Bench::start(|_| ()).await;
    bench.pam_with_passwords();
    let (alice, bob) = (bench.session_of("alice").await, bench.session_of("bob").await);
    let mut events = watch(&bench).await;
    bench.users.set_groups("alice", &[37]);
    assert_eq!(bench.check(&alice.token).await.expect("alive").access(), wire::Access::Limited);
    bench.users.set_groups("alice", &[]);
    assert_eq!(bench.check(&alice.token).await, Err(Code::NotFound));
    let name = alice.session.expect("a session").session;
    assert_eq!(ended(&mut events).await, (name, wire::EndReason::Revoked));
    bench.users.set_groups("alice", &[27]);
    assert_eq!(bench.check(&alice.token).await, Err(Code::NotFound), "it does not come back");

    bench.users.remove_user("bob");
    let _ = bench.users.clone().user("bob", 2001, 2001, "/bin/sh", &[37]);
    assert_eq!(bench.check(&bob.token).await, Err(Code::NotFound), "another account of the same name");
    let name = bob.session.expect("a session").session;
    assert_eq!(ended(&mut events).await, (name, wire::EndReason::Revoked));
}

#[tokio::test]
async fn groups_that_the_user_database_lost_for_one_answer_end_nothing() {
    let bench = Bench::start(|_| ()).await;
    bench.pam_with_passwords();
    let alice = bench.session_of("alice").await;
    bench.users.lose_groups(1);
    assert_eq!(bench.check(&alice.token).await.expect("alive").access(), wire::Access::Full);
    bench.users.lose_groups(2);
    assert_eq!(bench.check(&alice.token).await, Err(Code::NotFound), "said twice");
}

#[tokio::test]
async fn a_failing_user_database_denies_but_ends_nothing() {
    let bench = Bench::start(|_| ()).await;
    bench.pam_with_passwords();
    let alice = bench.session_of("alice").await;
    bench.users.set_broken(true);
    assert_eq!(bench.check(&alice.token).await, Err(Code::Unavailable));
    let mut login = bench.login().await;
    assert_eq!(code(login.begin(password(ONE, "alice", "pw")).await), Code::Unavailable);
    assert!(is_denied(login.begin(password(ONE, "alice", "wrong")).await));
    bench.users.set_broken(false);
    assert!(bench.check(&alice.token).await.is_ok());
}

#[tokio::test]
async fn streams_of_ended_sessions_are_bounded_and_end_when_authd_stops() {
    let mut bench = Bench::start(|_| ()).await;
    let mut streams = Vec::new();
    for _ in 0..15 {
        streams.push(watch(&bench).await);
    }
    // One uid has no more connections than there may be streams, so the last two share one.
    let mut sessions = bench.sessions().await;
    streams.push(sessions.watch_ended(wire::WatchEndedRequest {}).await.expect("watching").into_inner());
    let last = streams.last_mut().expect("pushed");
    assert!(matches!(next(last).await, Ok(ended_event::Kind::Ready(_))));
    let refused = sessions.watch_ended(wire::WatchEndedRequest {}).await;
    assert_eq!(code(refused), Code::ResourceExhausted);
    streams.remove(0);
    let room = async || {
        let mut sessions = sessions.clone();
        sessions.watch_ended(wire::WatchEndedRequest {}).await.is_ok()
    };
    until(room).await;
    bench.stop().await;
    for mut stream in streams {
        assert!(next(&mut stream).await.is_err());
    }
}

#[derive(serde::Deserialize)]
struct Claims {
    sub: String,
    uid: u32,
    auth_id: String,
    access: String,
    acl: Vec<String>,
    sid: String,
    method: String,
    auth_time: u64,
    iat: u64,
    exp: u64,
}

#[tokio::test]
async fn an_assertion_is_verified_by_the_published_key() {
    let mut bench = Bench::start(|_| ()).await;
    bench.pam_with_passwords();
    let bob = bench.session_of("bob").await;
    let published = std::fs::read_to_string(bench.path("authd/assertion.pub")).expect("published");
    let body: String = published.lines().filter(|line| !line.starts_with('-')).collect();
    let spki = STANDARD.decode(body).expect("base64");
    // RFC 8410: the structure ends in the 32 bytes of the key.
    let key = DecodingKey::from_ed_der(&spki[spki.len() - 32..]);
    let mut rules = Validation::new(Algorithm::EdDSA);
    rules.set_issuer(&["doorward-authd"]);
    rules.set_audience(&["certd"]);

    let mut sessions = bench.sessions().await;
    let request =
        |token: &str, audience: &str| wire::AssertRequest { token: token.into(), audience: audience.into() };
    let signed = sessions.assert(request(&bob.token, "certd")).await.expect("signed").into_inner();
    let claims = jsonwebtoken::decode::<Claims>(&signed.jwt, &key, &rules).expect("verified").claims;
    assert_eq!((claims.sub.as_str(), claims.uid, claims.auth_id.as_str()), ("bob", 1001, "1001"));
    assert_eq!((claims.access.as_str(), claims.acl.len()), ("limited", 5));
    assert_eq!((claims.sid, claims.method.as_str()), (bob.session.expect("a session").session, "password"));
    assert_eq!((claims.exp - claims.iat, signed.valid_ms), (60, 60_000));
    assert!(claims.iat.abs_diff(claims.auth_time) <= 2, "{} {}", claims.iat, claims.auth_time);

    // The session's clock goes on and the time of day does not: that is a clock set back. A login of then must
    // not be one of now, which may change keys.
    bench.forward(240_000);
    let signed = sessions.assert(request(&bob.token, "certd")).await.expect("signed").into_inner();
    let claims = jsonwebtoken::decode::<Claims>(&signed.jwt, &key, &rules).expect("verified").claims;
    assert!((238..=242).contains(&claims.iat.saturating_sub(claims.auth_time)), "{}", claims.auth_time);

    assert_eq!(code(sessions.assert(request(&bob.token, "Cert d")).await), Code::InvalidArgument);
    assert_eq!(code(sessions.assert(request(ONE, "certd")).await), Code::NotFound);
    drop(sessions);
    bench.restart().await;
    let again = std::fs::read_to_string(bench.path("authd/assertion.pub")).expect("published");
    assert_eq!(again, published);
}

#[tokio::test]
async fn a_request_over_the_limit_is_refused() {
    let bench = Bench::start(|_| ()).await;
    let mut sessions = bench.sessions().await;
    let activity = wire::Activity { token: ONE.into(), used_ms_ago: u64::MAX };
    let report = wire::ActivityReport { activities: vec![activity; 2_000] };
    assert_eq!(code(sessions.report_activity(report).await), Code::OutOfRange);
}
