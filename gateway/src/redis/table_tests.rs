//! The table against a Redis that is a list of commands.

use proptest::prelude::*;

use super::*;

fn table() -> Table<&'static str> {
    let mut table = Table::new();
    table.up();
    table
}

fn enter(table: &mut Table<&'static str>, key: &'static str) -> Entered {
    table.enter(key, key)
}

/// What is to be sent now.
fn sent(table: &mut Table<&'static str>) -> Vec<Command> {
    std::iter::from_fn(|| table.next(Instant::now())).collect()
}

fn subscribe(key: &str) -> Command {
    Command::Subscribe(key.into())
}

fn unsubscribe(key: &str) -> Command {
    Command::Unsubscribe(key.into())
}

fn told(entered: Entered) -> Option<Result<(), NotSure>> {
    match entered {
        Entered::Sure => Some(Ok(())),
        Entered::Not(why) => Some(Err(why)),
        Entered::Asked(mut told) => told.try_recv().ok(),
    }
}

#[test]
fn whoever_enters_is_told_when_redis_has_confirmed() {
    let mut table = table();
    let Entered::Asked(mut first) = enter(&mut table, "a") else { panic!("nobody asked Redis") };
    assert_eq!(sent(&mut table), [subscribe("a")]);
    let Entered::Asked(mut second) = enter(&mut table, "a") else { panic!("Redis has not answered") };
    assert_eq!(sent(&mut table), [], "it is asked once");
    assert!(first.try_recv().is_err() && second.try_recv().is_err());
    table.confirmed(&subscribe("a")).expect("it was asked");
    assert_eq!((first.try_recv(), second.try_recv()), (Ok(Ok(())), Ok(Ok(()))));
    assert_eq!(told(enter(&mut table, "a")), Some(Ok(())));
    assert_eq!(table.at("a").as_deref(), Some(&"a"));
}

#[test]
fn who_leaves_and_enters_in_time_has_lost_nothing() {
    let mut table = table();
    let _ = enter(&mut table, "a");
    sent(&mut table);
    table.confirmed(&subscribe("a")).expect("it was asked");
    table.leave("a");
    assert_eq!(table.at("a"), None, "nobody wants it");
    assert_eq!(told(enter(&mut table, "a")), Some(Ok(())), "Redis never heard of it");
    assert_eq!(sent(&mut table), []);
}

#[test]
fn who_enters_while_redis_is_told_to_stop_waits_for_a_new_subscription() {
    let mut table = table();
    let _ = enter(&mut table, "a");
    sent(&mut table);
    table.confirmed(&subscribe("a")).expect("it was asked");
    table.leave("a");
    assert_eq!(sent(&mut table), [unsubscribe("a")]);
    let Entered::Asked(mut again) = enter(&mut table, "a") else { panic!("Redis is about to stop") };
    assert_eq!(sent(&mut table), [], "one command of a topic at a time");
    table.confirmed(&unsubscribe("a")).expect("it was asked");
    assert!(again.try_recv().is_err(), "not yet");
    assert_eq!(sent(&mut table), [subscribe("a")]);
    table.confirmed(&subscribe("a")).expect("it was asked");
    assert_eq!(again.try_recv(), Ok(Ok(())));
}

#[test]
fn who_leaves_before_the_answer_is_unsubscribed_after_it_and_forgotten() {
    let mut table = table();
    let _ = enter(&mut table, "a");
    sent(&mut table);
    table.leave("a");
    assert_eq!(sent(&mut table), []);
    table.confirmed(&subscribe("a")).expect("it was asked");
    assert_eq!(sent(&mut table), [unsubscribe("a")]);
    table.confirmed(&unsubscribe("a")).expect("it was asked");
    assert_eq!(sent(&mut table), []);
    assert!(table.topics.is_empty() && table.dirty.is_empty() && table.asked.is_empty());
}

#[test]
fn an_interruption_is_over_when_all_is_confirmed_that_was_wanted() {
    let mut table = Table::new();
    for key in ["a", "b", "c"] {
        assert_eq!(told(enter(&mut table, key)), Some(Err(NotSure::Interrupted)), "there is no connection");
    }
    table.leave("c");
    assert!(!table.is_restored());
    table.up();
    table.leave("b");
    let _ = enter(&mut table, "d");
    let commands = sent(&mut table);
    assert_eq!(commands.len(), 2, "{commands:?}");
    for command in commands {
        assert!(command == subscribe("d") || !table.is_restored());
        table.confirmed(&command).expect("it was asked");
    }
    assert!(table.is_restored());
}

#[test]
fn a_connection_that_breaks_tells_those_who_wait_and_is_made_good_on_the_next_one() {
    let mut table = table();
    let _ = enter(&mut table, "a");
    sent(&mut table);
    table.confirmed(&subscribe("a")).expect("it was asked");
    let Entered::Asked(mut waiting) = enter(&mut table, "b") else { panic!("not answered") };
    sent(&mut table);
    let _ = enter(&mut table, "c");
    table.leave("c");
    table.down();
    assert_eq!(waiting.try_recv(), Ok(Err(NotSure::Interrupted)));
    assert_eq!(told(enter(&mut table, "a")), Some(Err(NotSure::Interrupted)));
    assert_eq!(sent(&mut table), [], "there is nobody to send to");
    table.up();
    let mut again = sent(&mut table);
    again.sort_by_key(|command| format!("{command:?}"));
    assert_eq!(again, [subscribe("a"), subscribe("b")]);
}

#[test]
fn a_topic_that_redis_refuses_costs_that_topic_alone() {
    let mut table = Table::new();
    let (a, _) = (enter(&mut table, "a"), enter(&mut table, "b"));
    assert_eq!(told(a), Some(Err(NotSure::Interrupted)));
    table.up();
    for command in sent(&mut table) {
        if command == subscribe("a") {
            let (key, lost) = table.refused().expect("it was asked");
            assert_eq!(
                (&*key, lost.as_deref().copied()),
                ("a", Some("a")),
                "who had it hears that it is lost"
            );
        } else {
            table.confirmed(&command).expect("it was asked");
        }
    }
    assert!(table.is_restored());
    assert_eq!(told(enter(&mut table, "a")), Some(Err(NotSure::Refused)));
    assert_eq!(sent(&mut table), [], "and is not asked again on this connection");
    table.leave("a");
    sent(&mut table);
    assert!(!table.topics.contains_key("a"));
}

#[test]
fn answers_that_nobody_asked_for_are_noticed() {
    let mut table = table();
    let _ = enter(&mut table, "a");
    for wrong in [subscribe("a"), Command::Ping] {
        assert_eq!(table.confirmed(&wrong), Err(Unasked), "nothing was sent yet");
    }
    assert_eq!(table.refused(), Err(Unasked));
    sent(&mut table);
    for wrong in [subscribe("b"), unsubscribe("a"), Command::Ping] {
        assert_eq!(table.confirmed(&wrong), Err(Unasked));
    }
    table.confirmed(&subscribe("a")).expect("that was asked");
    assert_eq!(table.confirmed(&subscribe("a")), Err(Unasked), "once");
}

#[test]
fn a_question_waits_since_it_was_asked_and_there_is_one_ping() {
    let (mut table, start) = (table(), Instant::now());
    assert_eq!(table.ping(start), Some(Command::Ping));
    assert_eq!(table.ping(start), None);
    let later = start + Duration::from_secs(3);
    let _ = enter(&mut table, "a");
    assert_eq!(table.next(later), Some(subscribe("a")));
    assert_eq!(table.waited(later), Some(Duration::from_secs(3)));
    table.confirmed(&Command::Ping).expect("it was asked");
    assert_eq!(table.waited(later), Some(Duration::ZERO));
}

proptest! {
    /// Whatever the order of entering, leaving, answers and broken connections: what Redis sends in the end is what is
    /// wanted, nobody who was told `Ok` lacks the topic on the wire, and nothing is left over.
    #[test]
    fn in_the_end_redis_sends_what_is_wanted(steps in proptest::collection::vec((0..6_u8, 0..3_usize), 0..200)) {
        const KEYS: [&str; 3] = ["a", "b", "c"];
        let (mut table, mut wanted) = (table(), [false; 3]);
        let (mut redis, mut under_way) = (std::collections::BTreeSet::new(), VecDeque::new());
        let answer = |table: &mut Table<_>, redis: &mut std::collections::BTreeSet<Arc<str>>, command: Command| {
            match &command {
                Command::Subscribe(key) => prop_assert!(redis.insert(Arc::clone(key))),
                Command::Unsubscribe(key) => prop_assert!(redis.remove(key)),
                Command::Ping => {}
            }
            prop_assert_eq!(table.confirmed(&command), Ok(()));
            Ok(())
        };
        for (step, which) in steps {
            let key = KEYS[which];
            match step {
                0 | 1 => {
                    wanted[which] = true;
                    if let Entered::Sure = enter(&mut table, key) {
                        prop_assert!(redis.contains(key));
                    }
                }
                2 => {
                    wanted[which] = false;
                    table.leave(key);
                }
                3 => under_way.extend(table.next(Instant::now())),
                4 => if let Some(command) = under_way.pop_front() { answer(&mut table, &mut redis, command)?; },
                _ => {
                    table.down();
                    redis.clear();
                    under_way.clear();
                    table.up();
                }
            }
        }
        loop {
            under_way.extend(sent(&mut table));
            let Some(command) = under_way.pop_front() else { break };
            answer(&mut table, &mut redis, command)?;
        }
        let expected: std::collections::BTreeSet<Arc<str>> =
            KEYS.iter().zip(wanted).filter(|(_, wanted)| *wanted).map(|(key, _)| (*key).into()).collect();
        prop_assert_eq!(&redis, &expected);
        prop_assert_eq!(table.topics.len(), expected.len());
        prop_assert!(table.is_restored());
    }
}

#[test]
fn who_comes_and_goes_while_redis_hangs_leaves_nothing() {
    let mut table = table();
    for key in ["a", "b", "a", "c"] {
        let _ = enter(&mut table, key);
        table.leave(key);
    }
    assert_eq!((table.topics.len(), table.dirty.len()), (0, 0));
}
