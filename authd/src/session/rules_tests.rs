//! When a session is alive, to the millisecond.

use super::*;

fn session() -> Session {
    Session {
        id: SessionId([1; 16]),
        token: TokenHash([2; 32]),
        key: None,
        holder: Arc::new(Holder {
            who: Identity::User { name: "alice".into(), uid: 1000 },
            method: "password".into(),
            dialect: Dialect::Sysadm,
            source: String::new(),
        }),
        acl: None,
        started_utc: 1,
        started: 1_000,
        last_used: 1_000,
        idle_ms: 300_000,
        ends: 43_201_000,
    }
}

#[test]
fn the_idle_deadline_is_exact() {
    let session = session();
    for (now, standing) in [
        (1_000, Standing::Live { idle_left: 300_000, absolute_left: 43_200_000 }),
        (300_999, Standing::Live { idle_left: 1, absolute_left: 42_900_001 }),
        (301_000, Standing::Idle),
        (43_201_000, Standing::Expired),
    ] {
        assert_eq!(session.standing(now), standing, "{now}");
    }
}

#[test]
fn a_session_is_forgotten_two_seconds_after_it_went_idle_and_at_once_when_expired() {
    let session = session();
    for (now, due) in [
        (301_000, None),
        (302_999, None),
        (303_000, Some(EndReason::Idle)),
        (43_201_000, Some(EndReason::Expired)),
    ] {
        assert_eq!(session.due(now), due, "{now}");
    }
}

#[test]
fn only_a_request_made_while_alive_counts_and_the_clock_never_goes_back() {
    for (ago, now, last_used) in [
        (0, 2_000, 2_000),
        (500, 2_000, 1_500),
        (u64::MAX, 2_000, 1_000),
        // Told late, made in time.
        (1_500, 302_000, 300_500),
        // Made after the deadline.
        (500, 302_000, 1_000),
        (0, 301_000, 1_000),
        (1, 301_000, 300_999),
    ] {
        let mut session = session();
        assert_eq!(session.used(ago, now), last_used != 1_000, "{ago} {now}");
        assert_eq!(session.last_used, last_used, "{ago} {now}");
    }
}

#[test]
fn activity_never_extends_the_whole_life() {
    let mut session = session();
    session.last_used = session.ends - 10;
    assert!(!session.used(0, session.ends));
    assert_eq!(session.standing(session.ends), Standing::Expired);
}

#[test]
fn a_session_without_idle_clock_lives_to_its_end() {
    let session = Session { idle_ms: 0, ..session() };
    assert_eq!(
        session.standing(40_000_000),
        Standing::Live { idle_left: 3_201_000, absolute_left: 3_201_000 }
    );
    assert_eq!(session.due(43_200_999), None);
}

#[test]
fn nothing_is_due_before_it_says_so() {
    let mut session = session();
    for idle_ms in [300_000, 0] {
        session.idle_ms = idle_ms;
        let first = session.not_due_before();
        assert_eq!(session.due(first - 1), None);
        assert!(session.due(first).is_some());
        session.used(0, 2_000);
        assert!(session.not_due_before() >= first);
        assert_eq!(session.due(first - 1), None);
    }
}
