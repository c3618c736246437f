//! One WebSocket: frames in, the session's actions out. One small task, one flush for each wake-up.

mod again;
mod asks;
mod channels;
mod flushing;
mod frames;
mod handled;
mod listen;
mod newcomer;
mod opening;
mod running;
mod told;

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, Sleep, sleep};
use tokio_tungstenite::tungstenite::{
    Message,
    error::{CapacityError, Error as Broken},
};
use tokio_util::sync::WaitForCancellationFutureOwned;

use self::{
    channels::Sitting,
    frames::{Close, Frames},
    running::Running,
    told::Told,
};
use super::{Client, STOP_PATIENCE, Shared, Way, http::Opened, rare::Rare, tls::Shown};
use crate::{
    backend::Holding,
    call::{Answer, Error, Reply},
    dialect::{self, Decoded, Echo, Place, channel},
    gate::Permit,
    session::{Action, Event, LOGIN_TIMEOUT, SESSION_ENDED, Session, Ticket},
};

/// So many messages are handled before their replies are flushed.
const BATCH: usize = 32;

/// Serves a WebSocket until it is closed.
///
/// What begins and what ends it is boxed: the task is as large as the largest thing that it ever waits for, and most of its
/// life it waits for the next message.
pub(super) async fn serve(opened: Box<Opened>, shared: Arc<Shared>) {
    let mut connection = match Connection::open(opened, shared) {
        Ok(connection) => connection,
        Err(refused) => return refused.await,
    };
    connection.run().await;
    connection.over().await;
}

type Asking = Pin<Box<dyn Future<Output = Told> + Send>>;

/// Why the task woke up.
enum Wake {
    Frame(Result<Message, Broken>),
    /// Something is to be flushed.
    Unsent,
    Told(Told),
    Ended(crate::call::EndReason),
    Published,
    Tick,
    /// The gateway stops.
    Stop,
    /// What is under way has had its time to be answered.
    Overdue,
}

struct Connection {
    shared: Arc<Shared>,
    client: Client,
    /// Held while somebody has to log in.
    permit: Option<Permit>,
    frames: Frames,
    session: Session,
    holding: Option<Holding>,
    /// The holding of the session that a new login replaces.
    replaced: Option<Holding>,
    /// What the handshake showed.
    shown: Shown,
    /// What the session waits for.
    asking: Option<Asking>,
    /// What it does not wait for; the session has the bound.
    calls: FuturesUnordered<Asking>,
    /// Calls of subsystems, which can be dropped one by one.
    running: Running,
    /// Subscriptions, if there are any.
    sitting: Option<Box<Sitting>>,
    handled: handled::Handled,
    /// Requests that were done at once.
    finished: VecDeque<(Ticket, Result<Answer, Error>)>,
    place: Place,
    /// What the replies to waiting requests repeat; at most twice as many as may be in flight.
    echoes: Vec<(Ticket, Echo<'static>)>,
    ticket: Ticket,
    actions: Vec<Action>,
    sleep: Rare<Sleep>,
    stop: Rare<WaitForCancellationFutureOwned>,
    /// Nothing more is taken from the client; how long what it has asked for is waited for.
    stopping: Option<Pin<Box<Sleep>>>,
    close: Option<Close>,
}

impl Connection {
    async fn run(&mut self) {
        // What its opening has said goes first: the client may wait for it, and say nothing.
        loop {
            if self.close.is_some() {
                // Nobody will hear what they bring, and a goodbye takes as long as the client likes, in its bound.
                self.running.clear();
            }
            let flushed = self.flush_in_time().await;
            match (flushed, self.close.take()) {
                (Ok(Ok(())), None) => {}
                (Ok(Ok(())), Some(close)) => return Box::pin(self.frames.goodbye(close)).await,
                (Ok(Err(_)) | Err(_), _) => return,
            }
            let wake = poll_fn(|context| self.poll_wake(context)).await;
            let more = if matches!(wake, Wake::Frame(_)) { BATCH } else { 1 };
            self.handle(wake);
            for _ in 1..more {
                if self.close.is_some() {
                    break;
                }
                match self.frames.read_now() {
                    Some(frame) => self.frame(frame),
                    None => break,
                }
            }
            if self.stopping.is_some() && self.close.is_none() && self.echoes.is_empty() {
                self.close = Some(Close::ShuttingDown);
            }
        }
    }

    fn poll_wake(&mut self, context: &mut Context<'_>) -> Poll<Wake> {
        if let Some(holding) = &self.holding
            && let Poll::Ready(reason) = holding.poll_ended(context)
        {
            return Poll::Ready(Wake::Ended(reason));
        }
        // Before the frames: they can come without a pause.
        let stop = match &mut self.stopping {
            None => self.stop.poll(context).map(|()| Wake::Stop),
            Some(patience) => patience.as_mut().poll(context).map(|()| Wake::Overdue),
        };
        if stop.is_ready() {
            return stop;
        }
        // A deadline that moves later is looked at only when the earlier one has passed.
        let due = Instant::from_std(self.session.deadline());
        if self.sleep.get().deadline() > due {
            self.sleep.change().reset(due);
        }
        while self.sleep.poll(context).is_ready() {
            if Instant::now() >= due {
                // It is looked at again, whatever comes of it.
                self.sleep.change();
                return Poll::Ready(Wake::Tick);
            }
            self.sleep.change().reset(due);
        }
        if let Some(asking) = &mut self.asking
            && let Poll::Ready(told) = asking.as_mut().poll(context)
        {
            self.asking = None;
            return Poll::Ready(Wake::Told(told));
        }
        if !self.calls.is_empty()
            && let Poll::Ready(Some(told)) = self.calls.poll_next_unpin(context)
        {
            return Poll::Ready(Wake::Told(told));
        }
        // After the reply to a subscription, and after what was found out about the session.
        let waits = self.running.keeps_back() || self.sitting.is_some();
        if waits
            && self.session.takes_events(Instant::now().into_std(), self.shared.backend.watch())
            && (self.running.keeps_back()
                || self.sitting.as_ref().is_some_and(|one| one.seat.poll_stirred(context).is_ready()))
        {
            return Poll::Ready(Wake::Published);
        }
        // After the events, which do not wait for a subsystem that reports more than can be sent. The next report
        // is read only when the last was flushed.
        if let Poll::Ready(told) = self.running.poll_next(context) {
            return Poll::Ready(Wake::Told(told));
        }
        if self.stopping.is_none()
            && let Poll::Ready(frame) = self.frames.poll_read(context)
        {
            return Poll::Ready(Wake::Frame(frame));
        }
        if self.frames.stuck() {
            return Poll::Ready(Wake::Unsent);
        }
        Poll::Pending
    }

    fn handle(&mut self, wake: Wake) {
        match wake {
            Wake::Frame(frame) => self.frame(frame),
            Wake::Unsent => {}
            Wake::Told(told) => self.told(told),
            Wake::Ended(reason) => self.step(Event::Ended(reason), None),
            Wake::Published => self.step(Event::Published, None),
            Wake::Tick => self.step(Event::Tick, None),
            Wake::Stop => self.stopping = Some(Box::pin(sleep(STOP_PATIENCE))),
            Wake::Overdue => {
                for (_, echo) in std::mem::take(&mut self.echoes) {
                    self.reply(echo, &Reply::Error(Error::Unavailable));
                }
            }
        }
    }

    fn frame(&mut self, frame: Result<Message, Broken>) {
        match frame {
            Ok(Message::Text(text)) => self.message(&text),
            Ok(Message::Binary(bytes)) => match std::str::from_utf8(&bytes) {
                Ok(text) => self.message(text),
                Err(_) => {
                    let error = Error::BadRequest("the message is not UTF-8".into());
                    self.step(Event::Heard, None);
                    self.reply(Echo::unread(&self.place), &Reply::Error(error));
                }
            },
            Ok(Message::Ping(_) | Message::Pong(_)) => self.step(Event::Heard, None),
            Ok(Message::Close(_)) => self.close = Some(Close::ByPeer),
            // The parser gives out no bare frames.
            Ok(Message::Frame(_)) => {}
            Err(Broken::Capacity(CapacityError::MessageTooLong { .. })) => {
                self.reply(Echo::unread(&self.place), &Reply::Error(Error::TooLarge));
                self.close = Some(Close::TooLarge);
            }
            Err(Broken::Utf8(_)) => self.close = Some(Close::NotText),
            Err(Broken::Protocol(_)) => self.close = Some(Close::Protocol),
            Err(_) => self.close = Some(Close::Gone),
        }
    }

    fn message(&mut self, text: &str) {
        // A session that has ended is not used once more, however fast its messages come.
        if let Some(reason) = self.holding.as_ref().and_then(Holding::ended) {
            self.step(Event::Ended(reason), None);
            if self.close.is_some() {
                return;
            }
        }
        if text == self.shared.channels.heartbeat && !text.is_empty() {
            self.step(Event::Heard, None);
            self.send(text.to_owned());
            return;
        }
        let Decoded { echo, request } = dialect::decode(text, self.shared.limits.depth, &self.place);
        match request {
            Ok(request) => {
                self.ticket = self.ticket.wrapping_add(1);
                let ticket = self.ticket;
                tracing::trace!(connection = %self.client.id, ticket, row = request.subject.map(|subject| subject.row.name), "request");
                self.step(
                    Event::Request { ticket, subject: request.subject, call: request.call },
                    Some((ticket, echo)),
                );
            }
            Err(error) => {
                self.step(Event::Heard, None);
                self.reply(echo, &Reply::Error(error));
            }
        }
    }

    /// Feeds the session and does what it says. `asked` is the request of this event.
    fn step(&mut self, event: Event, asked: Option<(Ticket, Echo<'_>)>) {
        let mut next = Some((event, asked));
        while let Some((event, mut asked)) = next.take() {
            let now = Instant::now().into_std();
            let watch = self.shared.backend.watch();
            let mut actions = std::mem::take(&mut self.actions);
            self.session.on(event, now, watch, &self.shared.router, &mut actions);
            self.settle();
            for action in actions.drain(..) {
                self.act(action, &mut asked);
            }
            self.actions = actions;
            if let Some((ticket, echo)) = asked {
                self.echoes.push((ticket, echo.into_owned()));
            }
            let finished = self.finished.pop_front();
            next = finished.map(|(ticket, answer)| (Event::Answered(ticket, answer), None));
        }
        if self.session.authenticated() {
            self.permit = None;
            self.frames.limit(self.shared.limits.after_login, true);
        } else if !self.session.is_over() {
            self.holding = None;
            self.frames.limit(self.shared.limits.before_login, false);
            self.newcomes();
        }
    }

    fn act(&mut self, action: Action, asked: &mut Option<(Ticket, Echo<'_>)>) {
        match action {
            Action::Reply(ticket, reply) => match asked.take_if(|(asked, _)| *asked == ticket) {
                Some((_, echo)) => self.reply(echo, &reply),
                None => {
                    if let Some(echo) = self.echo(ticket) {
                        self.reply(echo, &reply);
                    }
                }
            },
            Action::NoReply(ticket) => {
                if asked.take_if(|(asked, _)| *asked == ticket).is_none() {
                    self.echo(ticket);
                }
            }
            Action::Login(login) => self.log_in(login),
            Action::Refused(refusal) => {
                let dialect = match asked {
                    Some((_, Echo::Channel(_))) => "channel",
                    Some((_, Echo::Envelope(_))) => "sysadm",
                    None if self.place.channels => "channel",
                    None => "sysadm",
                };
                self.client.refused(&self.shared.audit, refusal, dialect);
            }
            Action::Check(token, purpose) => {
                let (backend, asked) = (Arc::clone(&self.shared.backend), self.shared.backend.moment());
                let used = self.holding.as_ref().and_then(Holding::unreported_use);
                self.asking = Some(Box::pin(async move {
                    Told::Checked(backend.check(&token, used, purpose).await, asked)
                }));
            }
            Action::Challenge => {
                let (backend, caller) = (Arc::clone(&self.shared.backend), self.client.caller());
                let server_key = self.shown.server_key;
                // authd is not told here for whom it is, so what it has told before decides.
                let penalty = backend.penalties().left(self.client.charged(), Instant::now().into_std());
                self.asking = Some(Box::pin(async move {
                    match penalty {
                        Some(left) => Told::Penalised(left),
                        None => Told::Challenged(backend.challenge(caller, server_key).await),
                    }
                }));
            }
            Action::Settings(ticket, request) => self.settings(ticket, request),
            Action::Sessions(ticket, request) => self.sessions(ticket, request),
            Action::Logs(ticket, request) => self.logs(ticket, request),
            Action::Listen(ticket, listen, names) => self.listen(ticket, listen, names),
            Action::Join(ticket, decided_for, all) => self.join(ticket, decided_for, all),
            Action::Ask(ticket, question) => self.ask_handlers(ticket, *question),
            Action::Part(ticket, at) => self.part(ticket, at),
            Action::Publish(ticket, at, payload) => self.publish(ticket, &at, payload),
            Action::Subsystem(ticket, asked) => self.run_for(ticket, *asked),
            Action::Stop(ticket) => self.running.stop(ticket),
            Action::Cancel(ticket, id) => self.find(ticket, &id),
            Action::HearAgain(again) => self.hear_again(again),
            Action::Deliver => self.deliver(),
            Action::Report => self.running.release(),
            Action::Clear(token) => {
                let ended = self.shared.backend.end(token);
                self.asking = Some(Box::pin(async move { Told::Cleared(ended.await.map(|_| ())) }));
            }
            Action::Retire(token) => {
                let retired = self.replaced.take().map(|held| self.shared.backend.retire(token, held));
                self.asking = Some(Box::pin(async move {
                    if let Some(retired) = retired {
                        retired.await;
                    }
                    Told::Retired
                }));
            }
            Action::Used => {
                if let Some(holding) = &self.holding {
                    holding.used();
                }
            }
            Action::TellNoCredentials => self.send(channel::encode_no_credentials()),
            Action::TellExpiring(left) => self.tell_expiring(left),
            Action::TellEnded(reason) => self.tell_ended(reason),
            Action::Close(reason) => {
                self.close = Some(match reason {
                    SESSION_ENDED if self.place.channels => Close::Ended,
                    LOGIN_TIMEOUT if self.place.channels => Close::Away(reason),
                    reason => Close::Normal(reason),
                });
            }
            Action::SendAway(reason) => self.close = Some(Close::Policy(reason)),
            Action::Penalty(seconds) => self.close = Some(Close::Penalty(seconds)),
        }
    }

    fn echo(&mut self, ticket: Ticket) -> Option<Echo<'static>> {
        let place = self.echoes.iter().position(|(waiting, _)| *waiting == ticket)?;
        Some(self.echoes.swap_remove(place).1)
    }

    fn send(&mut self, message: impl Into<Bytes>) {
        if self.frames.write(message).is_err() {
            self.close = Some(Close::Gone);
        }
    }
}
