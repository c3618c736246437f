//! Which topics are wanted here, and what Redis has confirmed of them. No I/O, no clock but as an argument.
//!
//! A topic has one command under way at most: a topic that is left and entered again while Redis has not answered is
//! brought in order when it has. So a confirmation says of a topic what it seems to say, whatever happened in between.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

/// Why messages of a topic may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotSure {
    /// There is no connection to Redis. When there is one again, the topic is subscribed to without being asked for.
    #[error("there is no connection to Redis")]
    Interrupted,
    /// Redis has a connection and refuses this topic.
    #[error("Redis refuses the subscription")]
    Refused,
}

/// How it is with a topic that somebody has just entered.
#[derive(Debug)]
pub(super) enum Entered {
    /// Messages arrive already.
    Sure,
    /// They may be missing until further notice.
    Not(NotSure),
    /// This tells when Redis has answered.
    Asked(oneshot::Receiver<Result<(), NotSure>>),
}

/// What is sent to Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    Subscribe(Arc<str>),
    Unsubscribe(Arc<str>),
    Ping,
}

/// An answer to something that was not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it answered what nobody asked")]
pub struct Unasked;

#[derive(Debug)]
pub(super) struct Table<A> {
    topics: HashMap<Arc<str>, Topic<A>>,
    /// Topics whose state is to be compared with what is wanted.
    dirty: VecDeque<Arc<str>>,
    /// What Redis has not answered yet, in order.
    asked: VecDeque<(Command, Instant)>,
    up: bool,
    /// Wanted topics of which nothing is confirmed on this connection, that were wanted when it began.
    restoring: usize,
}

#[derive(Debug)]
struct Topic<A> {
    at: Arc<A>,
    wanted: bool,
    dirty: bool,
    /// It was wanted when the connection began, and is waited for before the interruption is over.
    restoring: bool,
    wire: Wire,
    waiting: Vec<oneshot::Sender<Result<(), NotSure>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wire {
    /// Redis sends nothing of it.
    Absent,
    /// SUBSCRIBE is under way.
    Asked,
    /// Redis has confirmed it.
    Sure,
    /// UNSUBSCRIBE is under way.
    Leaving,
    /// Redis has refused it; asked again on the next connection.
    Refused,
}

impl<A> Table<A> {
    pub(super) fn new() -> Self {
        Self {
            topics: HashMap::new(),
            dirty: VecDeque::new(),
            asked: VecDeque::new(),
            up: false,
            restoring: 0,
        }
    }

    /// Somebody here wants the messages of a topic. Of no consequence if somebody did already, but for the answer.
    pub(super) fn enter(&mut self, key: &str, at: A) -> Entered {
        let key: Arc<str> = match self.topics.get_key_value(key) {
            Some((key, _)) => Arc::clone(key),
            None => key.into(),
        };
        let topic = self.topics.entry(Arc::clone(&key)).or_insert_with(|| Topic {
            at: Arc::new(at),
            wanted: false,
            dirty: false,
            restoring: false,
            wire: Wire::Absent,
            waiting: Vec::new(),
        });
        topic.wanted = true;
        if !self.up {
            return Entered::Not(NotSure::Interrupted);
        }
        match topic.wire {
            Wire::Sure => Entered::Sure,
            Wire::Refused => Entered::Not(NotSure::Refused),
            Wire::Absent | Wire::Asked | Wire::Leaving => {
                let (tell, told) = oneshot::channel();
                // Whoever does not wait any more makes room.
                topic.waiting.retain(|waiting| !waiting.is_closed());
                topic.waiting.push(tell);
                self.touch(&key);
                Entered::Asked(told)
            }
        }
    }

    /// Nobody here wants them any more.
    pub(super) fn leave(&mut self, key: &str) {
        let Some((key, _)) = self.topics.get_key_value(key) else { return };
        let key = Arc::clone(key);
        if let Some(topic) = self.topics.get_mut(&key) {
            topic.wanted = false;
            topic.waiting.clear();
        }
        let untold = self.topics.get(&key).is_some_and(|topic| topic.wire == Wire::Absent);
        if self.up && !untold {
            self.touch(&key);
            return;
        }
        // Redis was never told of it, and while it does not answer nobody is to make this grow.
        self.forget(&key);
        if let Some(place) = self.dirty.iter().rposition(|dirty| *dirty == key) {
            self.dirty.remove(place);
        }
    }

    /// What a message of this topic is delivered to, if it is wanted.
    pub(super) fn at(&self, key: &str) -> Option<Arc<A>> {
        self.topics.get(key).filter(|topic| topic.wanted).map(|topic| Arc::clone(&topic.at))
    }

    /// The next command, which is taken to be sent.
    pub(super) fn next(&mut self, now: Instant) -> Option<Command> {
        while let Some(key) = self.dirty.pop_front() {
            let Some(topic) = self.topics.get_mut(&key) else { continue };
            topic.dirty = false;
            let command = match (topic.wire, topic.wanted) {
                (Wire::Absent, true) => {
                    topic.wire = Wire::Asked;
                    Command::Subscribe(key)
                }
                (Wire::Sure, false) => {
                    topic.wire = Wire::Leaving;
                    Command::Unsubscribe(key)
                }
                (Wire::Absent | Wire::Refused, false) => {
                    self.forget(&key);
                    continue;
                }
                (Wire::Sure | Wire::Refused, true) | (Wire::Asked | Wire::Leaving, _) => continue,
            };
            self.asked.push_back((command.clone(), now));
            return Some(command);
        }
        None
    }

    /// A PING, unless one is under way.
    pub(super) fn ping(&mut self, now: Instant) -> Option<Command> {
        if self.asked.iter().any(|(command, _)| *command == Command::Ping) {
            return None;
        }
        self.asked.push_back((Command::Ping, now));
        Some(Command::Ping)
    }

    /// How long the oldest question has waited for its answer.
    pub(super) fn waited(&self, now: Instant) -> Option<Duration> {
        self.asked.front().map(|(_, since)| now.saturating_duration_since(*since))
    }

    /// Redis has done as it was told.
    pub(super) fn confirmed(&mut self, command: &Command) -> Result<(), Unasked> {
        if self.asked.front().is_none_or(|(asked, _)| asked != command) {
            return Err(Unasked);
        }
        self.asked.pop_front();
        match command {
            Command::Subscribe(key) => self.settled(key, Wire::Sure, Ok(())),
            Command::Unsubscribe(key) => self.settled(key, Wire::Absent, Ok(())),
            Command::Ping => {}
        }
        Ok(())
    }

    /// Redis refuses what it was asked first: which topic that is, and what it is to those who had it on an earlier
    /// connection, if somebody did. Nothing else can be refused to an honest client.
    pub(super) fn refused(&mut self) -> Result<(Arc<str>, Option<Arc<A>>), Unasked> {
        match self.asked.pop_front() {
            Some((Command::Subscribe(key), _)) => {
                let had = self.topics.get(&key).filter(|topic| topic.restoring && topic.wanted);
                let lost = had.map(|topic| Arc::clone(&topic.at));
                self.settled(&key, Wire::Refused, Err(NotSure::Refused));
                Ok((key, lost))
            }
            Some((Command::Unsubscribe(_) | Command::Ping, _)) | None => Err(Unasked),
        }
    }

    fn settled(&mut self, key: &Arc<str>, wire: Wire, result: Result<(), NotSure>) {
        let Some(topic) = self.topics.get_mut(key) else { return };
        topic.wire = wire;
        if std::mem::take(&mut topic.restoring) {
            self.restoring -= 1;
        }
        if wire != Wire::Absent {
            for waiting in topic.waiting.drain(..) {
                // Whoever waited may be gone.
                let _ = waiting.send(result);
            }
        }
        self.touch(key);
    }

    /// A connection begins: everything that is wanted is asked for.
    pub(super) fn up(&mut self) {
        self.up = true;
        for (key, topic) in &mut self.topics {
            (topic.dirty, topic.restoring) = (true, true);
            self.dirty.push_back(Arc::clone(key));
        }
        self.restoring = self.topics.len();
    }

    /// Whether all is confirmed that was wanted when the connection began.
    pub(super) fn is_restored(&self) -> bool {
        self.up && self.restoring == 0
    }

    /// The connection is gone, and with it all that was confirmed on it.
    pub(super) fn down(&mut self) {
        self.up = false;
        self.dirty.clear();
        self.asked.clear();
        self.restoring = 0;
        self.topics.retain(|_, topic| topic.wanted);
        for topic in self.topics.values_mut() {
            (topic.wire, topic.dirty, topic.restoring) = (Wire::Absent, false, false);
            for waiting in topic.waiting.drain(..) {
                let _ = waiting.send(Err(NotSure::Interrupted));
            }
        }
    }

    fn touch(&mut self, key: &Arc<str>) {
        if let Some(topic) = self.topics.get_mut(key).filter(|topic| !topic.dirty) {
            topic.dirty = true;
            self.dirty.push_back(Arc::clone(key));
        }
    }

    fn forget(&mut self, key: &Arc<str>) {
        if self.topics.remove(key).is_some_and(|topic| topic.restoring) {
            self.restoring -= 1;
        }
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
