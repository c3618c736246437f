//! How many records a second can be had for nothing. No I/O, no clock.
//!
//! Events that cost their source nothing, such as a wrong token, could fill the disk. The first ones of
//! each second are recorded one by one, the others in one record for all that are alike, with their
//! count. None is left out: the counts add up to what happened.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use super::record::Record;

/// Records of their own in one second, of one source and of all.
const OF_ONE: u32 = 20;
const OF_ALL: u32 = 100;
/// Kinds of events that are counted by themselves. Those beyond are counted by event, reason and method.
const KINDS: usize = 100;
/// What is counted together.
pub(super) const SPAN: Duration = Duration::from_secs(1);

/// The events of this second.
#[derive(Debug, Default)]
pub(super) struct Flood {
    since: Option<Instant>,
    of_source: HashMap<Option<String>, u32>,
    of_all: u32,
    sums: HashMap<Record, (u64, SystemTime)>,
}

impl Flood {
    /// Counts an event; whether it gets a record of its own. What is [`Flood::due`] must be taken first.
    pub(super) fn count(&mut self, record: &Record, now: Instant, time: SystemTime) -> bool {
        self.since.get_or_insert(now);
        if self.of_all < OF_ALL {
            // A subsystem knows no source; there a session is one.
            let source = record.reported_source.as_ref().or(record.session.as_ref());
            let of_source = self.of_source.entry(source.cloned()).or_default();
            if *of_source < OF_ONE {
                *of_source += 1;
                self.of_all += 1;
                return true;
            }
        }
        // Connections, keys and requests are as many as somebody likes.
        let mut kind = Record { connection: None, key: None, request: None, ..record.clone() };
        if self.sums.len() >= KINDS && !self.sums.contains_key(&kind) {
            let Record { reason, method, .. } = kind;
            kind = Record { reason, method, ..Record::of(record.event) };
        }
        self.sums.entry(kind).or_insert((0, time)).0 += record.count.unwrap_or(1);
        false
    }

    /// Whether something was counted that no record tells of.
    pub(super) fn is_owing(&self) -> bool {
        !self.sums.is_empty()
    }

    /// The records for what was counted, once the second is over; `None`: whether it is over or not.
    pub(super) fn due(&mut self, now: Option<Instant>) -> Vec<Record> {
        let over = |since: Instant| now.is_none_or(|now| now.saturating_duration_since(since) >= SPAN);
        if !self.since.is_some_and(over) {
            return Vec::new();
        }
        let sums = std::mem::take(self).sums;
        sums.into_iter()
            .map(|(kind, (count, since))| Record { count: Some(count), since: Some(since), ..kind })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Event;
    use super::*;

    fn from(source: &str, user: usize) -> Record {
        Record {
            reason: Some("no-such-token"),
            user: Some(user.to_string()),
            reported_source: Some(source.into()),
            connection: Some("c".into()),
            ..Record::of(Event::LoginRefused)
        }
    }

    #[test]
    fn the_first_of_a_second_are_records_and_the_others_one_with_their_count() {
        let (mut flood, now, time) = (Flood::default(), Instant::now(), SystemTime::now());
        let own = (0..50).filter(|_| flood.count(&from("a", 1), now, time)).count();
        assert_eq!(own, 20);
        assert!(flood.count(&from("b", 1), now, time), "another source");
        assert!(flood.is_owing());
        assert!(flood.due(Some(now + SPAN / 2)).is_empty());
        let due = flood.due(Some(now + SPAN));
        let expected = Record { connection: None, count: Some(30), since: Some(time), ..from("a", 1) };
        assert_eq!(due, [expected]);
        assert!(!flood.is_owing() && flood.due(None).is_empty());
        assert!(flood.count(&from("a", 1), now + SPAN, time), "the next second");
    }

    #[test]
    fn however_many_sources_and_users_there_are_the_records_of_a_second_are_bounded_and_add_up() {
        let (mut flood, now, time) = (Flood::default(), Instant::now(), SystemTime::now());
        let events = 100_000;
        let own = (0..events)
            .filter(|event| flood.count(&from(&(event % 5_000).to_string(), *event), now, time))
            .count();
        let due = flood.due(None);
        let summed: u64 = due.iter().filter_map(|record| record.count).sum();
        assert_eq!(own as u64 + summed, events as u64);
        assert!(own + due.len() <= 201, "{own} and {}", due.len());
    }
}
