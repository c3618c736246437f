//! The table at its edges, and against a slow one that goes over everything.

use proptest::prelude::*;

use super::*;

const RULES: Rules = Rules { failures: 5, within_ms: 600_000, first_ms: 60_000, longest_ms: 3_600_000 };
const MINUTE: u64 = 60_000;

fn source(number: u32) -> SourceKey {
    SourceKey::Uid(number)
}

/// A try that fails at once.
fn fail(table: &mut Table, number: u32, now: u64) -> Result<Standing, Refused> {
    table.begin(&source(number), now)?;
    Ok(table.end(&source(number), true, now).expect("there are penalties"))
}

fn left(table: &mut Table, number: u32, now: u64) -> u64 {
    match table.begin(&source(number), now) {
        Ok(()) => {
            table.end(&source(number), false, now);
            0
        }
        Err(Refused::Penalised { left_ms }) => left_ms,
        Err(Refused::Busy) => panic!("nothing is under way"),
    }
}

#[test]
fn five_failures_within_ten_minutes_are_a_penalty_and_four_are_none() {
    for (last, penalty) in [(599_900, 60_000), (600_000, 0)] {
        let mut table = Table::new(RULES, 10);
        for now in [0, 1, 2, 3] {
            assert_eq!(fail(&mut table, 1, now).expect("a try").penalty_ms, 0);
        }
        assert_eq!(fail(&mut table, 1, last).expect("a try").penalty_ms, penalty, "{last}");
        assert_eq!(left(&mut table, 1, last), penalty);
        assert_eq!(left(&mut table, 2, last), 0, "another source is not concerned");
    }
}

#[test]
fn penalties_double_up_to_the_longest_and_last_to_the_millisecond() {
    let (mut table, mut now, mut penalties) = (Table::new(RULES, 10), 0, Vec::new());
    for _ in 0..9 {
        for _ in 0..4 {
            fail(&mut table, 1, now).expect("a try");
        }
        let penalty = fail(&mut table, 1, now).expect("the last one").penalty_ms;
        assert_eq!(left(&mut table, 1, now + penalty - 1), 1);
        assert_eq!(left(&mut table, 1, now + penalty), 0);
        now += penalty;
        penalties.push(penalty / MINUTE);
    }
    assert_eq!(penalties, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    // However many there were.
    for _ in 0..300 {
        for _ in 0..5 {
            fail(&mut table, 1, now).expect("a try");
        }
        now += 60 * MINUTE;
    }
    assert_eq!(left(&mut table, 1, now - 1), 1);
}

#[test]
fn a_source_makes_at_most_sixty_guesses_an_hour() {
    // As fast as it is let, and with pauses of all lengths.
    for pause in [0, 1_000, MINUTE, 2 * MINUTE, 10 * MINUTE] {
        let (mut table, mut guesses) = (Table::new(RULES, 10), Vec::new());
        let mut now = 0;
        while now < 100 * 60 * MINUTE {
            match fail(&mut table, 1, now) {
                Ok(_) => guesses.push(now),
                Err(_) => now += 1_000,
            }
            now += pause;
        }
        let most = guesses
            .iter()
            .map(|from| guesses.iter().filter(|at| (*from..from + 60 * MINUTE).contains(at)).count());
        let most = most.max().expect("some");
        assert!(most <= 60, "{most} in an hour, {pause}");
    }
}

#[test]
fn a_quiet_hour_after_a_penalty_forgives_it_and_less_does_not() {
    for (quiet, penalty) in [(60 * MINUTE - 1, 2 * MINUTE), (60 * MINUTE, MINUTE)] {
        let mut table = Table::new(RULES, 10);
        for _ in 0..5 {
            fail(&mut table, 1, 0).expect("a try");
        }
        let now = MINUTE + quiet;
        table.sweep(now);
        for _ in 0..4 {
            fail(&mut table, 1, now).expect("a try");
        }
        assert_eq!(fail(&mut table, 1, now).expect("a try").penalty_ms, penalty, "{quiet}");
    }
}

#[test]
fn racing_makes_no_further_try() {
    let mut table = Table::new(RULES, 10);
    for _ in 0..3 {
        fail(&mut table, 1, 0).expect("a try");
    }
    assert_eq!((0..4).filter(|_| table.begin(&source(1), 0).is_ok()).count(), 2);
    assert_eq!(table.begin(&source(1), 0), Err(Refused::Busy));
    table.end(&source(1), false, 0);
    assert_eq!(table.begin(&source(1), 0), Ok(()), "one that came to nothing gives its place back");
    table.end(&source(1), true, 0);
    table.end(&source(1), true, 0);
    assert!(matches!(table.begin(&source(1), 0), Err(Refused::Penalised { .. })));
    assert!(table.under_way.is_empty());
}

#[test]
fn without_a_number_of_failures_there_are_no_penalties() {
    let mut table = Table::new(Rules { failures: 0, ..RULES }, 10);
    for _ in 0..100 {
        assert_eq!(table.begin(&source(1), 0), Ok(()));
        assert_eq!(table.end(&source(1), true, 0), None);
    }
    assert!(table.is_empty() && !table.has_changes());
}

#[test]
fn the_table_holds_so_many_and_no_more_and_the_worst_stay() {
    const MOST: usize = 64;
    for (others, known) in [(MOST - 2, MOST - 1), (MOST - 1, MOST), (MOST, MOST), (10 * MOST, MOST)] {
        let mut table = Table::new(RULES, MOST);
        for _ in 0..5 {
            fail(&mut table, 1, 0).expect("a try");
        }
        // A network full of addresses that fail once or four times washes no penalty out.
        for other in 0..others {
            for _ in 0..(if other % 2 == 0 { 1 } else { 4 }) {
                fail(&mut table, 1_000 + u32::try_from(other).expect("small"), 1_000).expect("never refused");
            }
            assert!(table.records.len() <= MOST);
        }
        assert_eq!(table.records.len(), known, "{others}");
        assert_eq!(left(&mut table, 1, 1_000), 59_000, "{others}");
    }
}

#[test]
fn a_table_full_of_penalties_refuses_nobody_and_the_longest_stay() {
    const MOST: usize = 64;
    let mut table = Table::new(RULES, MOST);
    let mut now = 0;
    for _ in 0..2 {
        for _ in 0..5 {
            fail(&mut table, 1, now).expect("a try");
        }
        now += 2 * MINUTE;
    }
    let now = now - 2 * MINUTE;
    for other in 2..500 {
        for _ in 0..5 {
            fail(&mut table, other, now).expect("a new source is heard");
        }
        assert!(table.records.len() <= MOST);
    }
    assert_eq!(left(&mut table, 1, now), 2 * MINUTE);
    assert_eq!(left(&mut table, 499, now), MINUTE);
}

#[test]
fn the_full_table_and_what_belongs_to_it_fit_into_sixteen_mebibytes() {
    fn bytes<T>(capacity: usize) -> usize {
        // A table of this library has a power of two of places, seven eighths of which are used, and one
        // byte more for each.
        let places = (capacity * 8).div_ceil(7).next_power_of_two();
        places * (size_of::<T>() + 1)
    }
    let mut table = Table::new(RULES, SOURCES_MAX);
    let before = table.records.capacity();
    let most = u32::try_from(SOURCES_MAX).expect("small");
    for number in 0..most + 2_000 {
        fail(&mut table, number, 0).expect("a try");
        assert!(table.records.len() <= SOURCES_MAX);
    }
    assert!(table.records.capacity() <= before, "it was never moved");
    assert!(table.all_changed && table.changed.capacity() == 0);
    let records = bytes::<(SourceKey, Record)>(before);
    let changed = bytes::<SourceKey>(CHANGES_MAX);
    let accounts = bytes::<(u64, [u64; 2])>(super::super::accounts::ACCOUNTS_MAX);
    // While room is made: a rank for each.
    let ranks = SOURCES_MAX * size_of::<(bool, u8, u32)>();
    let all = records + changed + accounts + ranks;
    assert!(all <= 16 << 20, "{records} + {changed} + {accounts} + {ranks} = {all}");
}

#[test]
fn what_is_taken_up_cannot_be_more_than_the_rules_allow() {
    let mut table = Table::new(RULES, 10);
    let record = |until, level, last, failed: &[u32]| {
        Record::from_parts(until, level, last, failed).expect("can have been written")
    };
    table.restore(source(1), record(u64::MAX, 255, u32::MAX, &[]), 0);
    assert_eq!(left(&mut table, 1, 0), RULES.longest_ms);
    table.restore(source(2), record(0, 0, 0, &[0; 4]), 600_000);
    assert_eq!(table.records.len(), 1, "what is over is not taken up");
    table.restore(source(3), record(0, 0, 0, &[0; 4]), 599_000);
    assert!(fail(&mut table, 3, 599_000).expect("a try").penalty_ms > 0);
    assert!(Record::from_parts(0, 0, 0, &[0; FAILURES_MAX + 1]).is_none());
}

#[test]
fn what_is_taken_up_is_bounded_and_goes_on_counting() {
    let mut table = Table::new(RULES, 64);
    for number in 0..100 {
        let record = Record::from_parts(20_000, 1, 0, &[]).expect("a record");
        table.restore(source(number), record, 1_000);
    }
    assert_eq!(table.standings(1_000).len(), 64, "a file with more, as of a larger table");
    assert!(left(&mut table, 0, 1_000) > 0, "what is taken up holds");
    // A full table refuses nobody that is new.
    fail(&mut table, 1_000, 1_000).expect("a try");
    assert!(table.standings(1_000).len() <= 64);
}

#[test]
fn what_changes_is_written_once() {
    let mut table = Table::new(RULES, 10);
    fail(&mut table, 1, 0).expect("a try");
    fail(&mut table, 1, 0).expect("a try");
    let (changes, all) = table.take_changes();
    assert!(matches!(changes.as_slice(), [(SourceKey::Uid(1), Some(_))]) && !all);
    assert!(!table.has_changes());
    table.sweep(600_000);
    assert_eq!(table.take_changes(), (vec![(source(1), None)], false));
    fail(&mut table, 2, 600_000).expect("a try");
    table.write_all();
    let (changes, all) = table.take_changes();
    assert!(matches!(changes.as_slice(), [(SourceKey::Uid(2), Some(_))]) && all);
}

/// The same by going over all that ever happened.
#[derive(Default)]
struct Slow {
    /// Times of failures by source, and a mark where a penalty began: when it ends.
    log: Vec<(u32, u64, Option<u64>)>,
}

impl Slow {
    fn of(&self, number: u32) -> impl DoubleEndedIterator<Item = &(u32, u64, Option<u64>)> {
        self.log.iter().filter(move |(who, ..)| *who == number)
    }

    fn left(&self, number: u32, now: u64) -> u64 {
        self.of(number).filter_map(|(_, _, until)| *until).max().unwrap_or(0).saturating_sub(now)
    }

    fn fail(&mut self, number: u32, now: u64, rules: &Rules) -> u64 {
        let round: Vec<u64> =
            self.of(number).rev().take_while(|(_, _, until)| until.is_none()).map(|(_, at, _)| *at).collect();
        let recent = round.iter().filter(|at| *at + rules.within_ms > now).count() + 1;
        let mut until = None;
        if recent >= rules.failures {
            // Penalties in a row: from the newest back to a quiet time.
            let (mut row, mut quiet_from) = (0, 0);
            for (_, at, ended) in self.of(number) {
                if row > 0 && *at >= quiet_from + rules.longest_ms {
                    row = 0;
                }
                quiet_from = quiet_from.max(*at);
                if let Some(ended) = ended {
                    row += 1;
                    quiet_from = quiet_from.max(*ended);
                }
            }
            if row > 0 && now >= quiet_from + rules.longest_ms {
                row = 0;
            }
            until = Some(now + (rules.first_ms << row.min(20)).min(rules.longest_ms));
        }
        self.log.push((number, now, until));
        until.map_or(0, |until| until - now)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_table_says_what_going_over_everything_says(
        failures in 1_usize..=FAILURES_MAX,
        within in 1_u64..40, first in 1_u64..20, factor in 1_u64..40,
        events in prop::collection::vec((0_u32..4, 0_u64..30, any::<bool>()), 0..200),
    ) {
        // In ticks, as failures are dated.
        let ms = |ticks: u64| ticks * TICK_MS;
        let rules = Rules { failures, within_ms: ms(within), first_ms: ms(first), longest_ms: ms(first * factor) };
        let (mut table, mut slow, mut now) = (Table::new(rules, 100), Slow::default(), 0);
        for (number, later, sweeps) in events {
            now += ms(later * later / 20);
            if sweeps {
                table.sweep(now);
            }
            let expected = slow.left(number, now);
            match table.begin(&source(number), now) {
                Err(Refused::Penalised { left_ms }) => prop_assert_eq!(left_ms, expected),
                Err(Refused::Busy) => prop_assert!(false, "nothing is under way"),
                Ok(()) => {
                    prop_assert_eq!(expected, 0);
                    let standing = table.end(&source(number), true, now).expect("penalties");
                    prop_assert_eq!(standing.penalty_ms, slow.fail(number, now, &rules));
                    prop_assert!(standing.known_ms >= standing.penalty_ms.max(rules.within_ms.min(1)));
                }
            }
        }
    }

    #[test]
    fn a_small_table_never_holds_more_and_never_refuses_the_new(
        most in 1_usize..100,
        events in prop::collection::vec((any::<u32>(), 0_u64..2_000), 0..300),
    ) {
        let (mut table, mut now) = (Table::new(RULES, most), 0);
        for (number, later) in events {
            now += later;
            let known = table.standing(&source(number), now).known_ms > 0;
            let tried = fail(&mut table, number, now);
            prop_assert!(known || tried.is_ok());
            prop_assert!(table.records.len() <= most);
            prop_assert!(table.standing(&source(number), now).known_ms > 0);
        }
    }
}
