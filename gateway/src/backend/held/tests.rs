//! Who hears of an end, also when it comes in the same moment as the grant.

use uuid::Uuid;

use super::*;
use crate::call::Secret;

fn session(n: u16) -> SessionId {
    SessionId(Uuid::from_u128(n.into()))
}

fn token() -> Token {
    Token::parse(Secret::new(Uuid::nil().to_string())).expect("the form of a token")
}

fn identity(n: u16) -> Identity {
    Identity {
        session: session(n),
        token: token(),
        who: crate::call::Who::alice(),
        has_access: true,
        is_token: false,
        is_channel: false,
        turn: 0,
        issued: 0,
        expires: 0,
        acl: Vec::new(),
        idle: Some(crate::call::Idle { after: Duration::from_secs(300), left: Duration::from_secs(300) }),
        absolute_left: Duration::from_secs(3_600),
        rights: Duration::from_secs(60),
    }
}

fn table() -> Arc<Table> {
    let table = Table::new();
    table.up();
    Arc::new(table)
}

#[test]
fn every_holder_hears_of_the_end_and_nobody_else() {
    let table = table();
    let asked = table.moment();
    let holders = [1, 1, 2].map(|n| table.hold(&identity(n), 0, asked));
    table.ended(session(1), EndReason::Revoked);
    assert_eq!(
        holders.each_ref().map(Holding::ended),
        [Some(EndReason::Revoked), Some(EndReason::Revoked), None]
    );
}

#[test]
fn a_waiting_task_is_woken() {
    let table = table();
    let holding = table.hold(&identity(1), 0, table.moment());
    let mut task = sleeper(&holding);
    assert!(task().is_pending());
    table.ended(session(1), EndReason::Expired);
    assert_eq!(task(), Poll::Ready(EndReason::Expired));
}

/// Polls, and fails where a task would sleep on although there is news.
fn sleeper(holding: &Holding) -> impl FnMut() -> Poll<EndReason> + '_ {
    struct Woken(AtomicBool);
    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let woken = Arc::new(Woken(AtomicBool::new(true)));
    let waker = Arc::clone(&woken).into();
    move || {
        assert!(woken.0.swap(false, Ordering::SeqCst), "nobody woke the task");
        holding.poll_ended(&mut Context::from_waker(&waker))
    }
}

#[test]
fn an_end_that_overtakes_its_grant_is_heard() {
    let table = table();
    table.ended(session(1), EndReason::Revoked);
    let asked = table.moment();
    let earlier = table.hold(&identity(1), 0, asked);
    assert_eq!(earlier.ended(), None, "what was told before the question is about another life");
    table.ended(session(1), EndReason::Idle);
    let late = table.hold(&identity(1), 0, asked);
    assert_eq!((late.ended(), late.complete()), (Some(EndReason::Idle), true));
}

#[test]
fn when_too_much_ended_meanwhile_the_grant_is_not_complete() {
    for (others, complete) in [(REMEMBERED - 1, true), (REMEMBERED, true), (REMEMBERED + 1, false)] {
        let table = table();
        let asked = table.moment();
        for n in 0..others {
            table.ended(session(u16::try_from(n + 2).expect("few")), EndReason::Idle);
        }
        assert_eq!(table.hold(&identity(1), 0, asked).complete(), complete, "{others}");
    }
}

#[test]
fn the_last_holder_is_told_so() {
    let table = table();
    let asked = table.moment();
    let (first, second) = (table.hold(&identity(1), 0, asked), table.hold(&identity(1), 0, asked));
    assert!(!first.release());
    assert!(second.release());
    assert!(lock(&table.inner).held.is_empty());
}

#[test]
fn a_watch_that_was_down_is_another_watch() {
    let table = Arc::new(Table::new());
    assert_eq!(table.watch(), None);
    table.up();
    let first = table.watch();
    table.down();
    assert_eq!(table.watch(), None);
    table.up();
    assert!(first.is_some() && table.watch().is_some() && table.watch() != first);
}

#[test]
fn a_use_is_reported_once_and_kept_when_it_was_not_taken() {
    let table = table();
    let asked = table.moment();
    let (first, second) = (table.hold(&identity(1), 0, asked), table.hold(&identity(1), 0, asked));
    first.used();
    second.used();
    assert!(second.unreported_use().is_some());
    let used = table.take_used();
    assert_eq!(used.len(), 1, "one entry for a session");
    assert!(first.unreported_use().is_none() && table.take_used().is_empty());
    table.put_back(&used);
    assert!(first.unreported_use().is_some());
    first.used();
    assert_eq!(table.take_used().len(), 1);
    drop((first, second));
    table.put_back(&used);
    assert_eq!(table.take_used().len(), 1, "also when nobody holds it any more");
}

#[tokio::test(start_paused = true)]
async fn an_end_that_was_missed_is_an_idle_one_if_it_can_be() {
    let table = table();
    let (idle, used) =
        (table.hold(&identity(1), 0, table.moment()), table.hold(&identity(2), 0, table.moment()));
    tokio::time::advance(Duration::from_secs(300)).await;
    used.used();
    for (session, held) in table.all() {
        table.missed(session, &held);
    }
    assert_eq!((idle.ended(), used.ended()), (Some(EndReason::Idle), Some(EndReason::Revoked)));
}

#[test]
fn a_stream_that_comes_back_wakes_everybody() {
    let table = table();
    let holding = table.hold(&identity(1), 0, table.moment());
    table.down();
    let waker = futures_util::task::noop_waker();
    assert!(holding.poll_ended(&mut Context::from_waker(&waker)).is_pending());
    let (flag, woken) = (Arc::new(Flag::default()), |flag: &Flag| flag.0.load(Ordering::SeqCst));
    let waker = futures_util::task::waker(Arc::clone(&flag));
    assert!(holding.poll_ended(&mut Context::from_waker(&waker)).is_pending());
    assert!(!woken(&flag));
    table.up();
    assert!(woken(&flag));
}

#[derive(Default)]
struct Flag(AtomicBool);

impl futures_util::task::ArcWake for Flag {
    fn wake_by_ref(flag: &Arc<Self>) {
        flag.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn whoever_takes_a_session_up_is_the_only_one_whatever_comes_first() {
    let revoked = Some(EndReason::Revoked);
    // Each is asked for by one and by another, whose numbers are 2 and 3; what authd tells of them comes at any time.
    for order in
        ["one other", "other one", "one told other", "told one other", "other told one", "one other told"]
    {
        let (table, mut holders) = (table(), [None, None]);
        let asked = table.moment();
        for what in order.split(' ') {
            match what {
                "one" => holders[0] = Some(table.hold(&identity(1), 2, asked)),
                "other" => holders[1] = Some(table.hold(&identity(1), 3, asked)),
                _ => [2, 3].map(|turn| table.taken_up(session(1), turn)).into_iter().collect(),
            }
        }
        let ended = holders.map(|holding| holding.expect("held").ended());
        assert_eq!(ended, [revoked, None], "{order}");
    }
}

#[test]
fn a_session_that_another_gateway_takes_up_is_held_here_no_more() {
    let table = table();
    let asked = table.moment();
    let here = table.hold(&identity(1), 2, asked);
    let other = table.hold(&identity(2), 2, asked);
    let mut task = sleeper(&here);
    assert!(task().is_pending());
    table.taken_up(session(1), 2);
    assert!(here.ended().is_none(), "that was itself");
    table.taken_up(session(1), 3);
    assert_eq!(task(), Poll::Ready(EndReason::Revoked));
    assert!(other.ended().is_none());
    // What was told while nobody held it counts for who was asking, and for nobody who asks later.
    let asked = table.moment();
    table.taken_up(session(3), 9);
    assert_eq!(table.hold(&identity(3), 8, asked).ended(), Some(EndReason::Revoked));
    assert!(table.hold(&identity(3), 10, table.moment()).ended().is_none());
    // What the stream did not tell is found when authd is asked.
    let missed = table.hold(&identity(4), 2, asked);
    table.passed_to(session(4), 5);
    assert_eq!(missed.ended(), Some(EndReason::Revoked));
}

#[test]
fn requests_and_those_who_may_share_a_session_take_it_from_nobody_and_keep_it() {
    let table = table();
    let asked = table.moment();
    let connection = table.hold(&identity(1), 2, asked);
    let requests = [0, 0].map(|turn| table.hold(&identity(1), turn, asked));
    assert!(connection.ended().is_none());
    table.taken_up(session(1), 3);
    assert_eq!(requests.map(|holding| holding.ended()), [None, None]);
    assert!(connection.ended().is_some());
}

#[test]
fn who_takes_up_again_what_it_holds_does_not_lose_it() {
    let table = table();
    let asked = table.moment();
    let before = table.hold(&identity(1), 2, asked);
    let again = table.hold(&identity(1), 2, asked);
    assert_eq!([before, again].map(|holding| holding.ended()), [None, None]);
}
