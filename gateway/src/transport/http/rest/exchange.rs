//! One request and whoever makes it: the session machine's actions, done one after the other.

use std::{future::poll_fn, io, sync::Arc};

use serde_json::value::RawValue;
use tokio::time::{Instant, sleep_until};

use super::Front;
use crate::{
    backend::{self, Failure, Holding, Known},
    call::{Answer, Call, Credentials, Error, Purpose, Reply, Token},
    namespace::{self, Row, Subject},
    session::{self, Action, Event, Login, Session, Settings, Ticket},
    subsystem::{Asked, Step},
    transport::asking,
};

/// What is spoken here, for audit records: requests of either kind share sessions.
const DIALECT: &str = "sysadm";
/// So many steps answer a request, more than any takes; those that wait for a subsystem are not counted.
const STEPS: usize = 8;

pub(super) struct Exchange {
    front: Arc<Front>,
    session: Session,
    holding: Option<Holding>,
    /// The holding of the session that a login replaces.
    replaced: Option<Holding>,
    /// What was known of the session that the request brought.
    known: Option<Arc<Known>>,
    /// The token of the session that was opened for this request alone.
    own: Option<Token>,
    penalty: Option<u64>,
    ticket: Ticket,
    /// The request's number, for the log.
    number: u32,
}

impl Exchange {
    pub(super) fn new(front: Arc<Front>, direct: bool, number: u32) -> Self {
        let session = Session::new(settings(&front, direct), Instant::now().into_std());
        Self {
            front,
            session,
            holding: None,
            replaced: None,
            known: None,
            own: None,
            penalty: None,
            ticket: 0,
            number,
        }
    }

    pub(super) fn authenticated(&self) -> bool {
        self.session.authenticated()
    }

    /// The penalty that was found, in seconds.
    pub(super) fn penalty(&self) -> Option<u64> {
        self.penalty
    }

    /// Asks with the session of a token.
    pub(super) async fn take_up(&mut self, token: &Token) -> Result<(), Error> {
        let backend = Arc::clone(&self.front.shared.backend);
        let asked = backend.moment();
        let looked = backend.look(token, Purpose::Act).await;
        let known = looked.map_err(|failure| self.front.client.told_of(failure, self.number))?;
        let known = known.ok_or(Error::Unauthorized)?;
        let holding = backend.hold(&known, asked);
        let resumed = session::Known {
            identity: known.identity.clone(),
            watch: known.watch.filter(|_| holding.complete()),
            asked: known.asked,
            used: known.last_use(),
        };
        self.holding = Some(holding);
        self.known = Some(known);
        self.session = Session::resumed(settings(&self.front, false), Instant::now().into_std(), resumed);
        Ok(())
    }

    /// Asks as somebody who shows it with the request.
    pub(super) async fn log_in(&mut self, credentials: Credentials) -> Reply {
        let auth = namespace::find("rpc", "auth").and_then(Row::plain);
        let reply = self.ask(auth, Call::Auth(credentials)).await;
        if let Reply::Answer(Answer::Granted { token, .. }) = &reply {
            self.own = Some(token.clone());
        }
        reply
    }

    /// Ends what was opened for this request alone.
    pub(super) async fn close(&mut self) {
        let Some(token) = self.own.take() else { return };
        if let Err(failure) = self.front.shared.backend.end(token).await {
            tracing::warn!(error = %failure.detail, "the session of a single request is left to its idle clock");
        }
    }

    /// Has a request answered.
    pub(super) async fn ask(&mut self, subject: Option<Subject>, call: Call) -> Reply {
        // Who takes long over a body does not take a session along that ended meanwhile.
        if self.holding.as_ref().is_some_and(|holding| holding.ended().is_some()) {
            return Reply::Error(Error::Unauthorized);
        }
        self.ticket = self.ticket.wrapping_add(1);
        let ticket = self.ticket;
        let mut event = Event::Request { ticket, subject, call };
        let mut running = None;
        let mut steps = 0;
        while steps < STEPS {
            let mut actions = Vec::new();
            let (now, backend) = (Instant::now().into_std(), &self.front.shared.backend);
            self.session.on(event, now, backend.watch(), &self.front.shared.router, &mut actions);
            let mut next = None;
            let mut answered = None;
            for action in actions {
                match action {
                    Action::Reply(to, reply) if to == ticket => answered = Some(reply),
                    Action::NoReply(to) if to == ticket => answered = Some(Reply::Answer(Answer::Done)),
                    Action::Penalty(seconds) => self.penalty = Some(seconds),
                    Action::Used => self.used(),
                    Action::Refused(refusal) => {
                        self.front.client.refused(&self.front.shared.audit, refusal, DIALECT);
                    }
                    // The session is gone, and nobody tells those who wait for a subsystem.
                    Action::Close(_) if running.is_some() => {
                        answered = Some(Reply::Error(Error::Unauthorized));
                    }
                    Action::Subsystem(_, asked) => running = Some(Box::pin(self.run(*asked))),
                    other => next = self.perform(other).await.or(next),
                }
            }
            event = match (answered, next, &mut running) {
                (Some(reply), _, _) => return reply,
                (None, Some(told), _) => told,
                // Each of these steps waits for something; how long, the call's deadline says.
                (None, None, Some(running)) => {
                    steps = 0;
                    self.wait(ticket, running).await
                }
                (None, None, None) => break,
            };
            steps += 1;
        }
        tracing::error!(connection = %self.front.client.id, request = self.number, "a request has no answer");
        Reply::Error(Error::Fault)
    }

    fn used(&self) {
        let Some(holding) = &self.holding else { return };
        match &self.known {
            Some(known) if Some(known.identity.session) == self.session.holds() => {
                known.used(holding, Instant::now().into_std());
            }
            Some(_) | None => holding.used(),
        }
    }

    /// Does what takes others, and says what came of it.
    async fn perform(&mut self, action: Action) -> Option<Event> {
        let backend = Arc::clone(&self.front.shared.backend);
        Some(match action {
            Action::Login(login) => self.logged_in(login).await,
            Action::Challenge => {
                // authd is not told here for whom it is, so what it has told before decides.
                match backend.penalties().left(self.front.charged(), std::time::Instant::now()) {
                    Some(left) => Event::Penalised(asking::whole_seconds(left)),
                    None => {
                        let server_key = self.front.shown.server_key;
                        let challenge = backend.challenge(self.front.caller(), server_key).await;
                        Event::Challenged(challenge.map_err(|failure| self.told_of(failure)))
                    }
                }
            }
            Action::Check(token, purpose) => {
                let asked = backend.moment();
                let used = self.holding.as_ref().and_then(Holding::unreported_use);
                let checked = backend.check(&token, used, purpose).await;
                Event::Checked(checked.map_err(|failure| self.told_of(failure)), asked.watch)
            }
            Action::Settings(ticket, request) => {
                let connection = self.front.client.connection(&self.front.shown);
                let pass = self.holding.as_ref().map(Holding::pass);
                let answer = backend.settings(connection, pass, request).await;
                Event::Answered(ticket, answer.map_err(|failure| self.told_of(failure)))
            }
            Action::Sessions(ticket, request) => {
                let pass = self.holding.as_ref().map(Holding::pass);
                let answer = backend.sessions(pass, request).await;
                Event::Answered(ticket, answer.map_err(|failure| self.told_of(failure)))
            }
            Action::Logs(ticket, request) => {
                let pass = self.holding.as_ref().map(Holding::pass);
                let answer = backend.logs(self.front.shared.audit.clone(), pass, request).await;
                Event::Answered(ticket, answer.map_err(|failure| self.told_of(failure)))
            }
            // There is no other request on this connection now.
            Action::Cancel(ticket, _) => Event::Cancel(ticket, Vec::new()),
            Action::Listen(ticket, ..)
            | Action::Join(ticket, ..)
            | Action::Ask(ticket, _)
            | Action::Part(ticket, _)
            | Action::Publish(ticket, ..) => {
                let error = Error::BadRequest("events come over a WebSocket".into());
                Event::Answered(ticket, Err(error))
            }
            Action::Clear(token) => {
                Event::Cleared(backend.end(token).await.map(|_| ()).map_err(|failure| self.told_of(failure)))
            }
            Action::Retire(token) => {
                // Whoever brought a session of their own keeps it: it is not this connection's.
                if let Some(holding) = self.replaced.take().filter(|_| self.own.is_some()) {
                    backend.retire(token, holding).await;
                }
                Event::Retired
            }
            Action::Reply(..)
            | Action::NoReply(_)
            | Action::Refused(_)
            | Action::Deliver
            | Action::Report
            | Action::HearAgain(_)
            | Action::Stop(_)
            | Action::Subsystem(..)
            | Action::Used
            | Action::TellNoCredentials
            | Action::TellExpiring(_)
            | Action::TellEnded(_)
            | Action::Close(_)
            | Action::SendAway(_)
            | Action::Penalty(_) => return None,
        })
    }

    /// The result of a subsystem, without its progress.
    fn run(&self, asked: Asked) -> impl Future<Output = Result<Box<RawValue>, Failure>> + use<> {
        let backend = Arc::clone(&self.front.shared.backend);
        let pass = self.holding.as_ref().map(Holding::pass);
        let request = format!("{}/{}", self.front.client.id, self.number);
        async move {
            let mut step = asked.begin(backend, pass, request).await;
            loop {
                match step {
                    Step::Progress(_, rest) => step = rest.next().await,
                    Step::Done(result) => return result,
                }
            }
        }
    }

    /// Waits for it as long as the session lives, and no longer than until the session is to be looked at again.
    async fn wait(
        &self,
        ticket: Ticket,
        result: impl Future<Output = Result<Box<RawValue>, Failure>>,
    ) -> Event {
        let ended = poll_fn(|context| match &self.holding {
            Some(holding) => holding.poll_ended(context).map(|_| ()),
            None => std::task::Poll::Pending,
        });
        let result = tokio::select! {
            result = result => result.map(Answer::Result).map_err(|failure| self.told_of(failure)),
            () = ended => Err(Error::Unauthorized),
            () = sleep_until(Instant::from_std(self.session.deadline())) => return Event::Tick,
        };
        Event::Answered(ticket, result)
    }

    async fn logged_in(&mut self, login: Login) -> Event {
        let front = Arc::clone(&self.front);
        let backend = &front.shared.backend;
        let asked = backend.moment();
        let descriptor = || match &front.descriptor {
            Some(descriptor) => descriptor.try_clone(),
            None => Err(io::Error::other("not a connection of this host")),
        };
        let login = match asking::method(login, &front.shown, descriptor) {
            Ok(method) => front.logging_in(backend.log_in(front.caller(), method, asked)).await,
            Err(failure) => Err(failure),
        };
        match login {
            Ok(backend::Outcome::Granted(identity, holding)) => {
                let watch = asked.watch.filter(|_| holding.complete());
                self.replaced = self.holding.replace(holding);
                Event::LoggedIn(Ok(session::Outcome::Granted(identity)), watch)
            }
            Ok(backend::Outcome::Prompts(_)) => {
                // Nobody can answer here.
                backend.abandon(front.client.id).await;
                Event::LoggedIn(Ok(session::Outcome::Denied), asked.watch)
            }
            Ok(backend::Outcome::NoSuchKind) => {
                Event::LoggedIn(Ok(session::Outcome::NoSuchKind), asked.watch)
            }
            Ok(backend::Outcome::Denied) => Event::LoggedIn(Ok(session::Outcome::Denied), asked.watch),
            Ok(backend::Outcome::Penalised(left)) => Event::Penalised(asking::whole_seconds(left)),
            Err(failure) => Event::LoggedIn(Err(asking::of_login(self.told_of(failure))), asked.watch),
        }
    }

    fn told_of(&self, failure: Failure) -> Error {
        self.front.client.told_of(failure, self.number)
    }
}

fn settings(front: &Front, direct: bool) -> Settings {
    Settings {
        timers: front.shared.timers.session,
        in_flight: front.shared.limits.in_flight,
        // Over TCP plain HTTP never takes an empty password: see ARCHITECTURE.md.
        local: direct && front.descriptor.is_some(),
        certificate: false,
        warns: false,
        publishes: front.shared.limits.publishes,
    }
}

/// A client that hangs up in the middle of its request leaves no session behind.
impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(token) = self.own.take() {
            drop(self.front.shared.backend.end(token));
        }
    }
}
