//! Subscriptions that a handler has allowed and has to allow anew, since rights or the table have changed.
//!
//! Only its own no ends them at once: one that is being started anew, or has too much to do, throws nobody out. But who
//! has no answer for as long as rights are relied upon without being looked at has lost them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use tokio::time::{Instant, sleep};

use super::{Connection, Told, handled::AT_ONCE};
use crate::{
    call::{Address, ChannelName, SessionId},
    channels::{Asker, Decision, HandlerPlace, Handlers, No},
};

/// What was allowed before a change may be heard so long without an answer.
const DOUBT: Duration = Duration::from_secs(60);
/// So many questions bring one answer, so that what is refused does not wait for all the others.
const ROUND: usize = 16;
/// Before a handler that was silent is asked again; then twice as long each time.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(8);

/// What has to be allowed anew.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    /// How often something has changed. An answer to what was asked before the last change allows nothing.
    pub(super) changes: u64,
    of: BTreeMap<ChannelName, Doubted>,
}

/// The same of one channel, and so of one handler.
#[derive(Debug, Default)]
struct Doubted {
    all: BTreeMap<Address, Doubt>,
    asking: bool,
    /// The last pause, if it was silent.
    pause: Duration,
}

#[derive(Debug)]
struct Doubt {
    until: Instant,
    /// How often no answer came. One address without an answer does not keep the others from theirs.
    silent: u32,
}

/// What is asked next.
#[derive(Debug, PartialEq, Eq)]
struct Round {
    all: Vec<Address>,
    pause: Duration,
    until: Instant,
}

/// What a handler has said about each.
pub(super) type Answers = Vec<(Address, Result<(), No>)>;

impl Doubts {
    /// Something has changed: all of these are to be allowed anew. Those that are waiting for that already have no more
    /// time than before.
    pub(super) fn doubt(&mut self, all: impl IntoIterator<Item = Address>, now: Instant) {
        for at in all {
            let doubted = self.of.entry(at.channel.clone()).or_default();
            doubted.all.entry(at).or_insert(Doubt { until: now + DOUBT, silent: 0 });
        }
    }

    /// It was allowed anew.
    pub(super) fn allowed(&mut self, at: &Address) {
        if let Some(doubted) = self.of.get_mut(&at.channel) {
            doubted.all.remove(at);
        }
    }

    /// The channels about which nothing is being asked.
    fn resting(&self) -> Vec<ChannelName> {
        let resting = self.of.iter().filter(|(_, doubted)| !doubted.asking);
        resting.map(|(channel, _)| channel.clone()).collect()
    }

    /// What of a channel is to be asked, of what is subscribed to still. None: nothing; then nothing is kept of it.
    fn round(
        &mut self,
        channel: &ChannelName,
        is_in: impl Fn(&Address) -> bool,
        now: Instant,
    ) -> Option<Round> {
        let doubted = self.of.get_mut(channel)?;
        doubted.all.retain(|at, _| is_in(at));
        let Some(until) = doubted.all.values().map(|doubt| doubt.until).min() else {
            self.of.remove(channel);
            return None;
        };
        let mut all: Vec<_> = doubted.all.iter().collect();
        all.sort_by_key(|(_, doubt)| doubt.silent);
        let all = all.into_iter().take(ROUND).map(|(at, _)| at.clone()).collect();
        doubted.asking = true;
        Some(Round { all, pause: doubted.pause.min(until.saturating_duration_since(now)), until })
    }

    /// What is over now: what was refused, and what has had no answer for too long. `for_now`: the session that was
    /// asked about is held still. `changes`: as they were when it was asked.
    fn answered(
        &mut self,
        channel: &ChannelName,
        answers: Answers,
        (for_now, changes): (bool, u64),
        now: Instant,
    ) -> Vec<Address> {
        let Some(doubted) = self.of.get_mut(channel) else { return Vec::new() };
        doubted.asking = false;
        let (mut over, mut silent) = (Vec::new(), false);
        for (at, answer) in answers {
            match answer {
                Ok(()) if for_now && changes == self.changes => drop(doubted.all.remove(&at)),
                Err(No::Refused(_)) if for_now => over.push(at),
                Ok(()) | Err(No::Refused(_)) => {}
                Err(No::Unsaid(_) | No::Late) => {
                    silent = true;
                    if let Some(doubt) = doubted.all.get_mut(&at) {
                        doubt.silent += 1;
                    }
                }
            }
        }
        doubted.pause = match silent {
            true => (doubted.pause * 2).clamp(PAUSE, PAUSE_MAX),
            false => Duration::ZERO,
        };
        over.extend(doubted.all.iter().filter(|(_, doubt)| doubt.until <= now).map(|(at, _)| at.clone()));
        for at in &over {
            doubted.all.remove(at);
        }
        over
    }
}

impl Connection {
    /// The rights or the table have changed. These are allowed by handlers.
    pub(super) fn ask_again(&mut self, all: Vec<Address>) {
        self.handled.doubts.doubt(all, Instant::now());
        for channel in self.handled.doubts.resting() {
            self.next_round(channel);
        }
    }

    fn next_round(&mut self, channel: ChannelName) {
        let (session, router) = (&self.session, &self.shared.router);
        let asks = |at: &Address| match session.may_hear_at(router, at) {
            Decision::Ask(place) => Some(place),
            // What is denied has ended, or is about to.
            Decision::Allow | Decision::Deny | Decision::Unsupported => None,
        };
        let is_in = |at: &Address| {
            self.sitting.as_ref().is_some_and(|sitting| sitting.seat.is_in(at)) && asks(at).is_some()
        };
        let Some(round) = self.handled.doubts.round(&channel, is_in, Instant::now()) else { return };
        let place = round.all.first().and_then(asks);
        let (Some(place), Some((asker, session))) = (place, self.asker()) else { return };
        let (handlers, changes) = (self.shared.handlers.clone(), self.handled.doubts.changes);
        self.calls.push(Box::pin(async move {
            sleep(round.pause).await;
            let answers = still(&handlers, &asker, &place, round).await;
            Told::Again(session, changes, channel, answers)
        }));
    }

    pub(super) fn heard_again(
        &mut self,
        session: SessionId,
        changes: u64,
        channel: ChannelName,
        answers: Answers,
    ) {
        let for_now = self.session.holds() == Some(session);
        let over = self.handled.doubts.answered(&channel, answers, (for_now, changes), Instant::now());
        if let Some(sitting) = &mut self.sitting
            && !over.is_empty()
        {
            let over = sitting.seat.keep_channels(|at| !over.contains(at));
            self.tell_unsubscribed(&over);
        }
        self.next_round(channel);
    }
}

/// After one answer that is late nothing more is asked in this round.
async fn still(handlers: &Handlers, asker: &Asker, place: &Arc<HandlerPlace>, round: Round) -> Answers {
    let late = Mutex::new(false);
    let is_late = || *late.lock().unwrap_or_else(PoisonError::into_inner);
    let each = round.all.into_iter().map(async |at| {
        let answer = match is_late() {
            true => Err(No::Late),
            false => handlers.may_still(place, asker, &at, round.until).await,
        };
        if answer == Err(No::Late) {
            *late.lock().unwrap_or_else(PoisonError::into_inner) = true;
        }
        (at, answer)
    });
    stream::iter(each).buffered(AT_ONCE).collect().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{Error, Facility, Pk};

    fn channel() -> ChannelName {
        ChannelName::parse("group").expect("a name")
    }

    fn at(pk: usize) -> Address {
        Address { channel: channel(), pk: Pk::parse(&format!("{pk:03}")), facility: Facility::default() }
    }

    fn answered(doubts: &mut Doubts, round: &Round, answer: &Result<(), No>, now: Instant) -> Vec<Address> {
        let answers = round.all.iter().map(|at| (at.clone(), answer.clone())).collect();
        doubts.answered(&channel(), answers, (true, doubts.changes), now)
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn who_has_no_answer_keeps_it_for_a_minute_however_often_rights_change() {
        let start = Instant::now();
        let mut doubts = Doubts::default();
        let silent = Err(No::Unsaid(Error::TooMany));
        doubts.doubt([at(1)], start);
        let (mut now, mut pauses) = (start, Vec::new());
        loop {
            let round = doubts.round(&channel(), |_| true, now).expect("it is asked again");
            assert_eq!(round.until, start + 60 * SECOND);
            pauses.push(round.pause.as_secs());
            now += round.pause;
            let over = answered(&mut doubts, &round, &silent, now);
            doubts.changes += 1;
            if !over.is_empty() {
                assert_eq!((over, now), (vec![at(1)], start + 60 * SECOND));
                break;
            }
            doubts.doubt([at(1)], now);
        }
        assert_eq!(pauses, [0, 1, 2, 4, 8, 8, 8, 8, 8, 8, 5]);
        assert_eq!(doubts.round(&channel(), |_| true, now), None);
    }

    #[test]
    fn what_is_refused_ends_at_once_and_what_is_allowed_stays() {
        let now = Instant::now();
        let mut doubts = Doubts::default();
        doubts.doubt((0..40).map(at), now);
        assert_eq!(doubts.resting(), [channel()]);
        let round = doubts.round(&channel(), |at| *at != self::at(0), now).expect("there is something");
        assert!(doubts.resting().is_empty());
        assert_eq!(round.all, (1..=ROUND).map(at).collect::<Vec<_>>(), "one was left by its client");
        let refused = Err(No::Refused(Error::Forbidden));
        assert_eq!(answered(&mut doubts, &round, &refused, now), round.all);
        let round = doubts.round(&channel(), |_| true, now).expect("there is more");
        assert!(answered(&mut doubts, &round, &Ok(()), now).is_empty());
        let round = doubts.round(&channel(), |_| true, now).expect("there is more");
        assert_eq!(round.all, (33..40).map(at).collect::<Vec<_>>());
    }

    #[test]
    fn an_answer_from_before_a_change_allows_nothing_and_one_to_another_session_ends_nothing() {
        let now = Instant::now();
        let mut doubts = Doubts::default();
        doubts.doubt([at(1)], now);
        let round = doubts.round(&channel(), |_| true, now).expect("there is something");
        let answers = vec![(at(1), Ok(()))];
        let before = doubts.changes;
        doubts.changes += 1;
        doubts.answered(&channel(), answers, (true, before), now);
        assert_eq!(doubts.round(&channel(), |_| true, now).expect("it is asked again").all, round.all);
        let refused = vec![(at(1), Err(No::Refused(Error::Forbidden)))];
        assert!(doubts.answered(&channel(), refused, (false, doubts.changes), now).is_empty());
        assert_eq!(doubts.round(&channel(), |_| true, now).expect("it is asked again").all, round.all);
    }

    #[test]
    fn one_address_without_an_answer_does_not_keep_the_others_from_theirs() {
        let now = Instant::now();
        let mut doubts = Doubts::default();
        doubts.doubt((0..=ROUND).map(at), now);
        let round = doubts.round(&channel(), |_| true, now).expect("there is something");
        answered(&mut doubts, &round, &Err(No::Late), now);
        let round = doubts.round(&channel(), |_| true, now).expect("there is something");
        assert_eq!(round.all.first(), Some(&at(ROUND)));
    }
}
