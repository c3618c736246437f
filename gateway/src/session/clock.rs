//! How long a connection may take to log in, and how long it may stay silent.

use std::time::{Duration, Instant};

/// Durations of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Timers {
    /// From connecting to the first login, and from a logout to the next.
    pub login: Duration,
    /// Without a word from the client.
    pub idle: Duration,
    /// The longest that a conversation can be open in authd; after it the login clock runs again
    /// even if nobody said that the conversation has ended.
    pub conversation: Duration,
}

/// How long a challenge can be answered.
const CHALLENGE: Duration = Duration::from_secs(30);
/// So many challenges of a connection stop the login clock; a client that asks for ever more of them
/// would never be sent away.
const CHALLENGES: u8 = 8;
/// So many conversations do.
const CONVERSATIONS: u8 = 8;
/// How long, in all, work that comes to nothing may stop it: wrong passwords take time on purpose, but
/// who sends one after the other would never be sent away.
const FOR_NOTHING: Duration = Duration::from_secs(60);

/// The login clock stands still while authd works on a login and while a conversation or a challenge
/// is open.
#[derive(Debug)]
pub(super) struct Countdown {
    timers: Timers,
    /// What is left for a login; `None` where there was one.
    left: Option<Duration>,
    /// Up to when `left` is accounted for.
    at: Instant,
    still: bool,
    /// When the work began for which the clock stands still.
    still_since: Option<Instant>,
    /// What is left of [`FOR_NOTHING`].
    for_nothing: Duration,
    conversations: u8,
    conversation: Option<(String, Instant)>,
    /// When the youngest challenge lapses.
    challenge: Option<Instant>,
    challenges: u8,
    heard: Instant,
}

impl Countdown {
    pub(super) fn new(timers: Timers, start: Instant) -> Self {
        Self {
            timers,
            left: Some(timers.login),
            at: start,
            still: false,
            still_since: None,
            for_nothing: FOR_NOTHING,
            conversations: 0,
            conversation: None,
            challenge: None,
            challenges: 0,
            heard: start,
        }
    }

    /// Accounts for the time until `now`.
    pub(super) fn advance(&mut self, now: Instant) {
        let from = self.open_until().map_or(self.at, |until| self.at.max(until.min(now)));
        if let Some(left) = &mut self.left
            && !self.still
        {
            *left = left.saturating_sub(now.saturating_duration_since(from));
        }
        self.at = now;
        self.conversation.take_if(|(_, until)| *until <= now);
        self.challenge.take_if(|until| *until <= now);
    }

    /// How long something is open that the client has to answer.
    fn open_until(&self) -> Option<Instant> {
        let conversation = self.conversation.as_ref().map(|(_, until)| *until);
        conversation.max(self.challenge)
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    pub(super) fn logged_in(&mut self) {
        self.left = None;
    }

    /// Nobody is logged in any more: the time for a login begins anew.
    pub(super) fn logged_out(&mut self, now: Instant) {
        self.left = Some(self.timers.login);
        self.at = now;
    }

    /// Whether there has to be a login in some time.
    pub(super) fn awaits_login(&self) -> bool {
        self.left.is_some()
    }

    pub(super) fn stand_still(&mut self, still: bool, now: Instant) {
        // While it works for the client, the client need not speak.
        if self.still && !still {
            self.heard = now;
        }
        self.still = still;
        self.still_since = still.then(|| self.still_since.unwrap_or(now));
    }

    /// What authd worked on is done; what comes next begins now.
    pub(super) fn worked(&mut self, now: Instant) -> Duration {
        let since = self.still_since.replace(now);
        since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// The same, but nobody is nearer to being logged in: only so much of that is given for free.
    pub(super) fn worked_for_nothing(&mut self, now: Instant) {
        let worked = self.worked(now);
        let free = worked.min(self.for_nothing);
        self.for_nothing -= free;
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(worked - free);
        }
    }

    pub(super) fn conversation_opened(&mut self, name: &str, now: Instant) {
        if self.conversation.as_ref().is_some_and(|(open, _)| open == name) {
            return;
        }
        self.conversation = None;
        if self.conversations < CONVERSATIONS {
            self.conversations += 1;
            self.conversation = Some((name.to_owned(), now + self.timers.conversation));
        }
    }

    /// A conversation is over, if `name` is the one that is open.
    pub(super) fn conversation_ended(&mut self, name: &str) {
        self.conversation.take_if(|(open, _)| open == name);
    }

    pub(super) fn challenge_opened(&mut self, now: Instant) {
        if self.challenges < CHALLENGES {
            self.challenges += 1;
            self.challenge = Some(now + CHALLENGE);
        }
    }

    /// An answer closes every challenge of the connection.
    pub(super) fn challenges_ended(&mut self) {
        self.challenge = None;
    }

    /// When something can be over.
    pub(super) fn deadline(&self, busy: bool) -> Instant {
        let idle = self.heard + self.timers.idle;
        let login = match (self.open_until(), self.left) {
            (_, None) => None,
            _ if self.still => None,
            (Some(until), Some(left)) => Some(until + left),
            (None, Some(left)) => Some(self.at + left),
        };
        match login {
            Some(login) if busy => login,
            Some(login) => login.min(idle),
            // A question to authd has its own deadline; until then silence is not counted.
            None if busy => self.at + self.timers.idle,
            None => idle,
        }
    }

    /// There is no time left for a login but that of work under way.
    pub(super) fn ran_out(&self) -> bool {
        self.left == Some(Duration::ZERO) && self.open_until().is_none()
    }

    /// What is over.
    pub(super) fn over(&self, now: Instant, busy: bool) -> Option<&'static str> {
        if self.ran_out() && !self.still {
            Some(super::LOGIN_TIMEOUT)
        } else if !busy && now.saturating_duration_since(self.heard) >= self.timers.idle {
            Some("idle")
        } else {
            None
        }
    }
}
