//! How much is said on channels: by one connection, by one identity over all of its connections, and by handlers in
//! answer to messages. No I/O, no clock.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    time::{Duration, Instant},
};

use super::{HandlerPlace, Policies};
use crate::{
    call::{Address, ChannelName, Payload},
    hub::{Owner, PAYLOAD_MAX},
    rate::Rate,
};

/// Of what is published, for each of the messages that may be in a second: so few that what waits for a reader is not
/// filled by one publisher within a second or two.
const BYTES: u32 = 10 << 10;
/// One identity may say as much as so many connections: what waits for Redis, 4,096 messages and 32 MiB, is not filled
/// by one within seconds.
const CONNECTIONS: u32 = 4;
/// What a handler says is not the client's whose message it answers, and many clients' messages are answered: on one
/// channel it may say as much as so many connections, and on all of its channels together as so many. A client that
/// has a message answered by 16 others, as often as it may, is far below that; one handler alone does not fill what
/// waits for Redis at once.
const ON_A_CHANNEL: u32 = 10;
const OF_A_HANDLER: u32 = 4 * ON_A_CHANNEL;
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
        let may = self.may((1, bytes), now);
        if may {
            self.said((1, bytes), now);
        }
        may
    }

    /// Whether so many messages of so many bytes together may be said now.
    fn may(&self, (messages, bytes): (u32, u32), now: Instant) -> bool {
        self.messages.has(messages, now) && self.bytes.has(bytes, now)
    }

    fn said(&mut self, (messages, bytes): (u32, u32), now: Instant) {
        self.messages.charge(messages, now);
        self.bytes.charge(bytes, now);
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

/// What handlers said of late. There is no more of it than the table has channels.
#[derive(Debug, Default)]
pub struct Voices {
    channels: HashMap<ChannelName, Speech>,
    /// By the socket and who listens there.
    handlers: HashMap<(PathBuf, u32), Speech>,
}

impl Voices {
    /// All of these publications of a handler, which are on channels that it has, if all may be said now: `publishes` is
    /// what one connection may in a second.
    pub fn say(
        &mut self,
        place: &HandlerPlace,
        publications: &[(Address, Payload)],
        publishes: u32,
        now: Instant,
    ) -> bool {
        let mut all = (0_u32, 0_u32);
        let mut each: BTreeMap<&ChannelName, (u32, u32)> = BTreeMap::new();
        for (at, payload) in publications {
            let bytes = u32::try_from(payload.0.len()).unwrap_or(u32::MAX);
            for (messages, sum) in [&mut all, each.entry(&at.channel).or_default()] {
                (*messages, *sum) = (*messages + 1, sum.saturating_add(bytes));
            }
        }
        let of = |times: u32| Speech::new(publishes.saturating_mul(times), now);
        let service = (place.socket.clone(), place.uid);
        let handler = self.handlers.entry(service).or_insert_with(|| of(OF_A_HANDLER));
        let mut may = handler.may(all, now);
        for (channel, much) in &each {
            let speech = self.channels.entry((*channel).clone()).or_insert_with(|| of(ON_A_CHANNEL));
            may = may && speech.may(*much, now);
        }
        if may {
            handler.said(all, now);
            for (channel, much) in each {
                self.channels.entry(channel.clone()).or_insert_with(|| of(ON_A_CHANNEL)).said(much, now);
            }
        }
        may
    }

    /// What the table has no more is forgotten.
    pub fn renew(&mut self, policies: &Policies) {
        self.channels.retain(|channel, _| policies.handlers().any(|place| place.channel == *channel));
        self.handlers.retain(|(socket, uid), _| {
            policies.handlers().any(|place| place.socket == *socket && place.uid == *uid)
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{call::Facility, gate::Source};

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

    fn place(channel: &str, socket: &str) -> HandlerPlace {
        HandlerPlace {
            channel: ChannelName::parse(channel).expect("a name"),
            socket: socket.into(),
            uid: 1,
            deadline: Duration::from_secs(1),
        }
    }

    fn said(channels: &[&str], bytes: usize) -> Vec<(Address, Payload)> {
        let facility = Facility::parse("events").expect("a name");
        let at = |channel: &&str| Address {
            channel: ChannelName::parse(channel).expect("a name"),
            pk: None,
            facility: facility.clone(),
        };
        channels.iter().map(|channel| (at(channel), Payload(vec![b'1'; bytes].into()))).collect()
    }

    #[test]
    fn a_handler_says_as_much_on_a_channel_as_ten_connections_and_on_all_as_forty() {
        let start = Instant::now();
        let mut voices = Voices::default();
        let one = place("a", "/one");
        let mut count = |place: &HandlerPlace, channels: &[&str], bytes, now| {
            (0..10_000).filter(|_| voices.say(place, &said(channels, bytes), 100, now)).count()
        };
        assert_eq!(count(&one, &["a"], 1, start), 1_000);
        assert_eq!(count(&one, &["b"], 1, start), 1_000, "another channel has its own");
        // All or nothing: what cannot be said on one of them costs nothing on another.
        assert_eq!(count(&one, &["a", "c"], 1, start), 0);
        assert_eq!(count(&one, &["c", "c"], 1, start), 500);
        assert_eq!(count(&one, &["d"], 1, start), 1_000);
        assert_eq!(count(&one, &["e"], 1, start), 0, "four times that in all");
        assert_eq!(count(&place("x", "/two"), &["x"], 1, start), 1_000, "another handler is not hindered");
        let later = start + Duration::from_millis(100);
        assert_eq!(count(&one, &["a"], 1, later), 100);
        // By bytes: 10 MB a second, twice that at once.
        let rested = start + Duration::from_secs(60);
        assert_eq!(count(&one, &["a"], 64 << 10, rested), 312);
    }

    #[test]
    fn what_the_table_has_no_more_is_forgotten() {
        let mut voices = Voices::default();
        assert!(voices.say(&place("a", "/one"), &said(&["a"], 1), 100, Instant::now()));
        voices.renew(&Policies::default());
        assert!(voices.channels.is_empty() && voices.handlers.is_empty());
    }
}
