//! How much is said on channels: by one connection, and by one identity over all of its connections. No I/O, no clock.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::{
    hub::{Owner, PAYLOAD_MAX},
    rate::Rate,
};

/// Of what is published, for each of the messages that may be in a second: so few that what waits for a reader is not
/// filled by one publisher within a second or two.
const BYTES: u32 = 10 << 10;
/// One identity may say as much as so many connections: what waits for Redis, 4,096 messages and 32 MiB, is not filled
/// by one within seconds.
const CONNECTIONS: u32 = 4;
/// The most that are known at once. Each is forgotten two seconds after it said something last, or a little more.
const SPEAKERS_MAX: usize = 1 << 16;
/// So many are not worth a look at who can be forgotten.
const FEW: usize = 256;
/// Between two such looks, at least: when nobody can be forgotten, one more costs no look at all the others.
const PAUSE: Duration = Duration::from_millis(100);

/// What one of them said of late.
#[derive(Debug)]
pub struct Speech {
    messages: Rate,
    bytes: Rate,
}

impl Speech {
    /// Of a connection, which may publish so many messages in a second.
    pub fn new(publishes: u32, now: Instant) -> Self {
        let bytes = publishes.saturating_mul(BYTES);
        let largest = u32::try_from(PAYLOAD_MAX).unwrap_or(u32::MAX);
        Self {
            messages: Rate::new(publishes, publishes, now),
            bytes: Rate::new(bytes, bytes.saturating_mul(2).max(largest), now),
        }
    }

    /// A message of so many bytes, if it may be said now. What is larger than any may be is refused for that.
    pub fn says(&mut self, bytes: usize, now: Instant) -> bool {
        let bytes = if bytes > PAYLOAD_MAX { 0 } else { u32::try_from(bytes).unwrap_or(u32::MAX) };
        // What is refused for its bytes does not cost a message.
        self.messages.has(1, now) && self.bytes.take(bytes, now) && self.messages.take(1, now)
    }

    /// It is as if nothing had been said.
    fn rests(&self, now: Instant) -> bool {
        self.messages.rests(now) && self.bytes.rests(now)
    }
}

/// Everybody who said something of late.
#[derive(Debug)]
pub struct Speakers {
    speeches: HashMap<Owner, Speech>,
    /// With so many it is looked who can be forgotten.
    look_at: usize,
    looked: Option<Instant>,
    most: usize,
}

impl Default for Speakers {
    fn default() -> Self {
        Self { speeches: HashMap::new(), look_at: FEW, looked: None, most: SPEAKERS_MAX }
    }
}

impl Speakers {
    /// A message of so many bytes of this one, if it may be said now: `publishes` is what one connection may in a
    /// second.
    pub fn says(&mut self, owner: &Owner, bytes: usize, publishes: u32, now: Instant) -> bool {
        if let Some(speech) = self.speeches.get_mut(owner) {
            return speech.says(bytes, now);
        }
        let rested = self.looked.is_none_or(|then| now.saturating_duration_since(then) >= PAUSE);
        if self.speeches.len() >= self.look_at && rested {
            self.looked = Some(now);
            self.speeches.retain(|_, speech| !speech.rests(now));
            self.look_at = self.speeches.len().saturating_mul(2).clamp(FEW, self.most.max(FEW));
        }
        if self.speeches.len() >= self.most {
            return false;
        }
        let speech = Speech::new(publishes.saturating_mul(CONNECTIONS), now);
        self.speeches.entry(owner.clone()).or_insert(speech).says(bytes, now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::gate::Source;

    fn somebody(name: &str) -> Owner {
        Owner::Identity(name.into())
    }

    #[test]
    fn one_identity_says_as_much_as_four_connections_and_others_are_not_hindered() {
        let start = Instant::now();
        let mut speakers = Speakers::default();
        let alice = somebody("user/1000");
        let said = (0..1_000).filter(|_| speakers.says(&alice, 10, 100, start)).count();
        assert_eq!(said, 400);
        assert!(speakers.says(&somebody("user/1001"), 10, 100, start));
        assert!(speakers.says(&Owner::Source(Source::Uid(1000)), 10, 100, start), "nobody is somebody else");
        let later = start + Duration::from_millis(500);
        assert_eq!((0..1_000).filter(|_| speakers.says(&alice, 10, 100, later)).count(), 200);
        // The same by bytes: about 4 MB a second, twice that at once.
        let bob = somebody("user/1002");
        let said = (0..1_000).filter(|_| speakers.says(&bob, 100 << 10, 100, start)).count();
        assert_eq!(said, 80);
        assert!(!speakers.says(&bob, 100 << 10, 100, start));
        assert!(speakers.says(&bob, PAYLOAD_MAX + 1, 100, start), "that is refused for its size");
    }

    #[test]
    fn who_says_nothing_is_forgotten_and_there_is_a_bound() {
        let start = Instant::now();
        let mut speakers = Speakers { most: 2 * FEW, ..Speakers::default() };
        let mut come = |from: usize, count: usize, now| {
            (from..from + count)
                .filter(|number| speakers.says(&somebody(&format!("user/{number}")), 1, 1, now))
                .count()
        };
        assert_eq!(come(0, 3 * FEW, start), 2 * FEW, "no more than the bound");
        assert_eq!(come(0, FEW, start), FEW, "who is known goes on");
        let later = start + Duration::from_secs(10);
        assert_eq!(come(10 * FEW, FEW, later), FEW);
        assert!(speakers.speeches.len() <= 2 * FEW);
        assert!(!speakers.speeches.contains_key(&somebody("user/0")), "it had nothing left to pay");
    }
}
