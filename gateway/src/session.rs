//! One connection's state machine: who is logged in here, what waits for what, and when it is over.
//!
//! Takes events (a request, an outcome, the end of a session, a moment), says what to do next. No
//! I/O, no clock. The caller keeps what replies repeat and finds it again by ticket.

mod answer;
mod channels;
mod clock;
mod event;
mod held;
mod login;
mod unasked;

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use self::{channels::Ears, clock::Countdown, held::Held, login::Answers};
pub use self::{
    clock::Timers,
    event::{
        Action, Again, Event, Hopeless, Known, Login, Outcome, Question, Refusal, Settings, Ticket, Watch,
    },
};
use crate::{
    call::{Answer, AuthSsl, Call, EndReason, Error, EventName, Identity, Purpose, Reply, SessionId, Token},
    namespace::{Needs, Subject},
    router::Router,
};

/// Why a connection is closed that nobody logged in on.
pub const LOGIN_TIMEOUT: &str = "login timeout";
/// Why one is closed whose session has ended.
pub const SESSION_ENDED: &str = "session ended";
/// So many requests more may be in flight if they end others, or say what there is.
const TO_MAKE_ROOM: usize = 4;
/// When somebody is warned who has not logged in.
const WARNING: Duration = Duration::from_secs(8);

/// The machine.
#[derive(Debug)]
pub struct Session {
    settings: Settings,
    state: State,
    busy: Busy,
    queue: VecDeque<Waiting>,
    /// Requests that others answer meanwhile.
    under_way: Vec<UnderWay>,
    clock: Countdown,
    prompted: bool,
    /// Refused logins in a row.
    refusals: u8,
    /// authd gave no answer, or one that cannot be relied upon for long, to a question that nobody's request
    /// asked for; the next comes not before this.
    not_before: Option<Instant>,
    /// When it is told that nobody has logged in yet.
    warning: Option<Instant>,
    /// Only of those that have to do with events or channels.
    ears: Option<Box<Ears>>,
    /// The session that was opened here by the dialect of channels, if it is the one that is held.
    opened: Option<Token>,
}

#[derive(Debug)]
enum State {
    /// Nobody, or nobody any more.
    Anonymous,
    /// Somebody, as far as is known here.
    Held(Box<Held>),
    /// The connection is to be closed; nothing is answered any more.
    Closed,
}

/// What authd is being asked. One thing at a time: later requests wait.
#[derive(Debug)]
enum Busy {
    No,
    /// A login, with what it answers, and what the session is for; whether that is a new one.
    Login(Ticket, Answers, Purpose, bool),
    /// For a challenge.
    Challenge(Ticket),
    /// Whether the session still lives, and what waits for it.
    Check(Waits),
    /// The end of the session, and what is answered then; nothing is answered to who wants no reply.
    Clear(Ticket, Option<Answer>),
    /// The end of the session that a login replaced. Only then is the login answered, with this: a
    /// client that reads its new token may rely on the old one's being dead.
    Retire(Ticket, Answer),
}

#[derive(Debug)]
struct UnderWay {
    ticket: Ticket,
    /// The session that it was allowed to, if not to anyone.
    session: Option<SessionId>,
    /// What rights were asked of, if it can be stopped: it is when that session is held here no more, or may do
    /// this no more.
    stops: Option<Arc<str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    /// The first request in the queue.
    Request,
    /// Events, reports of progress, and calls of which nothing is heard yet.
    Others,
}

#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    subject: Option<Subject>,
    call: Call,
}

impl Session {
    /// For a connection that was accepted at `start`.
    pub fn new(settings: Settings, start: Instant) -> Self {
        Self {
            settings,
            state: State::Anonymous,
            busy: Busy::No,
            queue: VecDeque::new(),
            under_way: Vec::new(),
            clock: Countdown::new(settings.timers, start),
            prompted: false,
            refusals: 0,
            not_before: None,
            warning: settings.warns.then(|| start + WARNING),
            ears: None,
            opened: None,
        }
    }

    /// For one request of somebody whose session authd told of a while ago.
    pub fn resumed(settings: Settings, start: Instant, known: Known) -> Self {
        let mut session = Self::new(settings, start);
        session.state = State::Held(Box::new(Held::known(known)));
        session.clock.logged_in();
        session
    }

    /// The session that is held here, as far as is known.
    pub fn holds(&self) -> Option<SessionId> {
        match &self.state {
            State::Held(held) => Some(held.identity.session),
            State::Anonymous | State::Closed => None,
        }
    }

    /// The session that nobody can take up any more when this connection has closed, if no other holds it: it was opened
    /// here, and nobody was told its token.
    pub fn orphan(&mut self) -> Option<Token> {
        self.opened.take()
    }

    /// Whether somebody is logged in here.
    pub fn authenticated(&self) -> bool {
        matches!(self.state, State::Held(_))
    }

    /// Whether nothing is answered any more.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Whether authd may still hold a login or a conversation of this connection.
    pub fn may_be_logging_in(&self) -> bool {
        self.prompted || matches!(self.busy, Busy::Login(..))
    }

    /// When a [`Event::Tick`] is due.
    pub fn deadline(&self) -> Instant {
        let warning = match &self.state {
            State::Held(held) => held.warning(),
            State::Anonymous | State::Closed => None,
        };
        let others = [warning, self.not_before, self.looks_at_calls(), self.warning];
        others.into_iter().flatten().fold(self.clock.deadline(self.works()), Instant::min)
    }

    /// The session that may be subscribed to events. Subscriptions are its own and end with it.
    pub fn listener(&self) -> Option<SessionId> {
        match &self.state {
            State::Held(held) if held.may_listen => Some(held.identity.session),
            State::Held(_) | State::Anonymous | State::Closed => None,
        }
    }

    /// Whether the session that is held here may hear an event.
    pub fn may_hear(&self, router: &Router, event: &EventName) -> bool {
        match &self.state {
            State::Held(held) => router.may_hear(&held.identity, event),
            State::Anonymous | State::Closed => false,
        }
    }

    /// What is to be done after this event. Actions are added to `actions` in their order.
    pub fn on(
        &mut self,
        event: Event,
        now: Instant,
        watch: Watch,
        router: &Router,
        actions: &mut Vec<Action>,
    ) {
        self.clock.advance(now);
        match event {
            _ if matches!(self.state, State::Closed) => return,
            Event::Request { ticket, subject, call } => {
                self.clock.heard(now);
                self.request(Waiting { ticket, subject, call }, now, watch, router, actions);
            }
            Event::Heard => self.clock.heard(now),
            Event::LoggedIn(outcome, asked) => self.logged_in(outcome, asked, now, actions),
            Event::Checked(result, asked) => self.checked(result, asked, now, watch, router, actions),
            Event::Retired => self.retired(actions),
            Event::Cleared(result) => self.cleared(result, actions),
            Event::Challenged(result) => self.challenged(result, now, actions),
            Event::Answered(ticket, result) => self.answered(ticket, result, now, actions),
            Event::Cancel(ticket, which) => self.cancel(ticket, &which, now, actions),
            Event::Ended(reason) => self.ended(reason, now, actions),
            Event::Published => self.published(now, watch, router, actions),
            Event::Penalised(seconds) => self.penalised(seconds, actions),
            Event::Tick => {
                self.not_before.take_if(|then| *then <= now);
                if self.warning.take_if(|then| *then <= now).is_some() && !self.may_be_logging_in() {
                    actions.push(Action::TellNoCredentials);
                }
                if let State::Held(held) = &mut self.state {
                    actions.extend(held.warn(now).map(Action::TellExpiring));
                }
                if let Some(reason) = self.clock.over(now, self.works()) {
                    self.close(Action::Close(reason), actions);
                }
                self.look_at_calls(now, watch, actions);
            }
        }
        // Between two logins that came together there is no tick.
        if !self.waits_for_authd() && self.clock.ran_out() && !matches!(self.state, State::Closed) {
            self.close(Action::Close(LOGIN_TIMEOUT), actions);
        }
        self.go_on(now, watch, router, actions);
        self.stop_what_nobody_holds(actions);
        self.clock.stand_still(matches!(self.busy, Busy::Login(..) | Busy::Challenge(_)), now);
    }

    /// Whether the end of a session is under way that is held here no more.
    pub fn is_logging_out(&self) -> bool {
        matches!(self.busy, Busy::Clear(..))
    }

    /// Whether somebody has to log in here in some time: not after a session that went idle, elsewhere than on the path of
    /// channels.
    pub fn awaits_login(&self) -> bool {
        self.clock.awaits_login()
    }

    fn waits_for_authd(&self) -> bool {
        !matches!(self.busy, Busy::No)
    }

    /// Something is done for the client, which need not speak meanwhile.
    fn works(&self) -> bool {
        self.waits_for_authd() || !self.under_way.is_empty()
    }

    fn close(&mut self, how: Action, actions: &mut Vec<Action>) {
        self.state = State::Closed;
        self.queue.clear();
        self.under_way.clear();
        actions.push(how);
    }

    fn request(
        &mut self,
        request: Waiting,
        now: Instant,
        watch: Watch,
        router: &Router,
        actions: &mut Vec<Action>,
    ) {
        // A check keeps the request it is for in the queue, so it is not counted twice.
        let busy = match self.busy {
            Busy::Login(..) | Busy::Challenge(_) | Busy::Clear(..) | Busy::Retire(..) => 1,
            Busy::No | Busy::Check(_) => 0,
        };
        // What hangs can be ended however much of it there is.
        let more = if !self.under_way.is_empty() && request.call.makes_room() { TO_MAKE_ROOM } else { 0 };
        if self.queue.len() + self.under_way.len() + busy >= self.settings.in_flight + more {
            actions.push(Action::Reply(request.ticket, Reply::Error(Error::TooMany)));
        } else if self.waits_for_authd() || !self.queue.is_empty() {
            self.queue.push_back(request);
        } else {
            self.start(request, now, watch, router, actions);
        }
    }

    /// Handles what waits, until authd has to be asked again.
    fn go_on(&mut self, now: Instant, watch: Watch, router: &Router, actions: &mut Vec<Action>) {
        while !self.waits_for_authd()
            && let Some(next) = self.queue.pop_front()
        {
            self.start(next, now, watch, router, actions);
        }
    }

    /// Answers a request, or begins what its answer needs.
    fn start(
        &mut self,
        request: Waiting,
        now: Instant,
        watch: Watch,
        router: &Router,
        actions: &mut Vec<Action>,
    ) {
        let ticket = request.ticket;
        match request.call {
            Call::AuthSsl(AuthSsl::Challenge) => {
                self.busy = Busy::Challenge(ticket);
                actions.push(Action::Challenge);
            }
            Call::Auth(_)
            | Call::AuthRespond(_)
            | Call::AuthToken(_)
            | Call::ChannelAuth(_)
            | Call::AuthSsl(AuthSsl::Proof(_)) => {
                self.log_in(ticket, request.call, actions);
            }
            Call::AuthClear { reply } => self.clear(ticket, reply.then_some(Answer::Done), now, actions),
            Call::Identify
            | Call::Query
            | Call::Settings(_)
            | Call::Sessions(_)
            | Call::Logs(_)
            | Call::Listen(..)
            | Call::Subsystem(_)
            | Call::Describe(_)
            | Call::Cancel(_)
            | Call::Channel(_)
            | Call::Malformed(_)
            | Call::Absent => {
                if request.subject.is_some_and(|subject| subject.row.needs == Needs::Nothing) {
                    actions.push(Action::Reply(ticket, router.answer(&request.call)));
                    return;
                }
                match (&self.state, watch) {
                    (State::Held(_), None) => {
                        actions.push(Action::Reply(ticket, Reply::Error(Error::Unavailable)));
                    }
                    (State::Held(held), watch) if !held.fresh(watch, now) => {
                        actions.push(Action::Check(held.identity.token.clone(), held.purpose));
                        self.busy = Busy::Check(Waits::Request);
                        self.queue.push_front(request);
                    }
                    (State::Held(_), Some(_)) => self.answer(request, now, router, actions),
                    (State::Anonymous | State::Closed, _) => match request.call {
                        Call::Channel(call) => self.channel(ticket, call, now, router, actions),
                        _ => actions.push(Action::Reply(ticket, Reply::Error(Error::Unauthorized))),
                    },
                }
            }
        }
    }

    fn checked(
        &mut self,
        result: Result<Identity, Error>,
        asked: Watch,
        now: Instant,
        watch: Watch,
        router: &Router,
        actions: &mut Vec<Action>,
    ) {
        let Busy::Check(waits) = self.busy else { return };
        self.busy = Busy::No;
        // The session may have ended while the question was under way; then the answer is void.
        let State::Held(held) = &mut self.state else { return };
        match result {
            Ok(identity) => {
                if held.renew(identity, asked, now) && self.ears.is_some() {
                    actions.push(Action::HearAgain(Again::ALL));
                }
                self.stop_what_is_forbidden(actions);
                // What asked is answered by what authd said, however short its validity: asking again
                // would go round for ever.
                match waits {
                    Waits::Request if watch.is_some() => {
                        if let Some(first) = self.queue.pop_front() {
                            self.answer(first, now, router, actions);
                        }
                    }
                    Waits::Others if watch.is_some() => self.send(router, actions),
                    Waits::Request | Waits::Others => {}
                }
            }
            // Who only listens would not learn by a 401 that there is nothing more to come.
            Err(Error::Unauthorized | Error::NotFound) if waits == Waits::Others && !held.is_idle(now) => {
                self.ended(EndReason::Revoked, now, actions);
            }
            Err(Error::Unauthorized | Error::NotFound) => self.nobody_now(now),
            Err(_) if waits == Waits::Others => self.not_before = Some(now + unasked::AGAIN),
            Err(error) => {
                // Each of these would wait for the same deadline again.
                while self.queue.front().is_some_and(|next| !next.call.authenticates())
                    && let Some(next) = self.queue.pop_front()
                {
                    actions.push(Action::Reply(next.ticket, Reply::Error(error.clone())));
                }
            }
        }
    }

    /// The session is over; the connection is not. Elsewhere than on the path of channels, one that went idle is told so
    /// by the reply to its next request, which may come late.
    fn nobody_now(&mut self, now: Instant) {
        self.state = State::Anonymous;
        self.opened = None;
        if self.settings.warns {
            self.warning = Some(now + WARNING);
            self.clock.logged_out(now);
        }
    }

    fn ended(&mut self, reason: EndReason, now: Instant, actions: &mut Vec<Action>) {
        if !self.authenticated() {
            return;
        }
        match reason {
            EndReason::Idle => self.nobody_now(now),
            EndReason::Expired | EndReason::Cleared | EndReason::Revoked => {
                self.opened = None;
                actions.push(Action::TellEnded(reason));
                self.close(Action::Close(SESSION_ENDED), actions);
            }
        }
    }
}

#[cfg(test)]
mod tests;
