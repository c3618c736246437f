//! The task of one login: its steps carried out one after the other, and its end.

mod granting;
mod telling;

use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    time::{Duration, Instant},
};

use doorward_launch::audit;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

pub use self::telling::Abandoned;
use super::{Asker, Logins, Outcome, Reply, Turn, lock};
use crate::{
    conversation::{Conversation, Share, SourceKey, Start, Word},
    error::AuthError,
    login::{Event, Login, Step, refusal_delay},
    method::{Cause, Tries},
    penalty::Try,
    plugin,
    secret::{self, Credentials},
    session::KeyLogin,
    vouched::{Newcomer, Vouched},
};

/// One login's task.
pub(super) struct Run {
    logins: Arc<Logins>,
    id: Uuid,
    asker: Asker,
    /// Whom they say to be, for the log.
    claimed: String,
    method: &'static str,
    login: Arc<Mutex<Login>>,
    conversation: Option<Conversation>,
    /// What the conversation takes of its source's bounds, for as long as a failure is not to be known.
    share: Option<Arc<Share>>,
    /// What it takes of a plug-in authenticator's bounds, likewise.
    plugin_share: Option<Arc<plugin::Share>>,
    /// When the login began or, after its conversation, when a module last began to compute.
    computed_since: Instant,
    /// When its refusal would have been answered, if that is known.
    due: Option<Instant>,
    /// The uid that the kernel named, for local logins: what their conversations are counted against.
    peer: Option<u32>,
    /// For logins by key: what is revoked meanwhile is remembered for it.
    key_login: Option<KeyLogin>,
    /// There was a conversation with PAM.
    conversed: bool,
    /// The user's uid, when it was asked for after a refusal.
    uid: Option<u32>,
    /// Its audit record is written.
    told: bool,
    tries: Tries,
    /// As how many guesses it is counted unless it succeeds.
    attempts: Vec<Try>,
    /// How long answers about this account wait.
    wait: Duration,
    _place: OwnedSemaphorePermit,
}

impl Run {
    /// The task of a login that is in the table under `id`; its end takes it out.
    pub(super) fn new(
        logins: Arc<Logins>,
        id: Uuid,
        asker: Asker,
        claimed: String,
        login: Arc<Mutex<Login>>,
        (tries, attempt): (Tries, Option<Try>),
        place: OwnedSemaphorePermit,
    ) -> Self {
        let method = lock(&login).method();
        let wait = match tries {
            Tries::Guess { account: true } => logins.parts.penalties.wait(&claimed),
            Tries::Guess { account: false } | Tries::Certain | Tries::Free => Duration::ZERO,
        };
        Self {
            logins,
            id,
            asker,
            claimed,
            method,
            login,
            conversation: None,
            share: None,
            plugin_share: None,
            computed_since: Instant::now(),
            due: None,
            peer: None,
            key_login: None,
            conversed: false,
            uid: None,
            told: false,
            tries,
            attempts: attempt.into_iter().collect(),
            wait,
            _place: place,
        }
    }

    /// Runs it; `reply` takes the first outcome, the turns bring who waits for the next.
    pub(super) async fn run(mut self, turns: mpsc::Receiver<Turn>, reply: Reply, end: CancellationToken) {
        self.steps(turns, reply, end).await;
        self.linger().await;
    }

    async fn steps(&mut self, mut turns: mpsc::Receiver<Turn>, mut reply: Reply, end: CancellationToken) {
        let mut step = lock(&self.login).begin();
        loop {
            step = match step {
                Step::Prompt(prompts) => {
                    let since = self.conversation.as_ref().map(Conversation::computing_since);
                    if !self.waited(since, &mut reply, &end).await {
                        return;
                    }
                    if lock(&self.login).authenticated() {
                        self.attempts.clear();
                    }
                    let prompts = Outcome::Prompts { conversation: self.id, prompts };
                    if reply.send(Ok(prompts)).is_err() {
                        return self.left(Abandoned::NobodyWaits);
                    }
                    match self.await_answers(&mut turns, &end).await {
                        Some(turn) => {
                            reply = turn.reply;
                            self.attempts.extend(turn.attempt);
                            turn.step
                        }
                        None => return,
                    }
                }
                Step::Grant(account, key, limit) => {
                    return self.grant(account, (key, limit), reply, &end).await;
                }
                Step::Welcome(newcomer) => return self.welcome(*newcomer, reply).await,
                Step::TakeUp(token) => return self.take_up(token, reply).await,
                Step::Refuse { cause, after } => {
                    return self.refuse(cause, after, reply, &end).await;
                }
                Step::Fail(failure) => {
                    self.failed(&failure);
                    match failure {
                        // A question that keeps a plug-in busy until its deadline is not to be had for nothing.
                        AuthError::AuthenticatorTimedOut => self.guessed(),
                        _ => self.attempts.clear(),
                    }
                    return drop(reply.send(Err(failure)));
                }
                other => tokio::select! {
                    () = end.cancelled() => return self.left(Abandoned::ConnectionEnded),
                    // Nobody waits for the outcome any more: the client or the gateway has gone.
                    () = reply.closed() => return self.left(Abandoned::NobodyWaits),
                    next = self.perform(other) => next,
                },
            };
        }
    }

    /// Waits for as long as answers about this account do; false if the client went meanwhile. A right
    /// password waits like a wrong one: a client that hangs up before learns nothing, and is counted.
    async fn waited(&mut self, since: Option<Instant>, reply: &mut Reply, end: &CancellationToken) -> bool {
        if self.wait.is_zero() {
            return true;
        }
        let when = since.unwrap_or(self.computed_since) + self.wait;
        tokio::select! {
            () = end.cancelled() => self.left(Abandoned::ConnectionEnded),
            () = reply.closed() => self.left(Abandoned::NobodyWaits),
            () = tokio::time::sleep_until(when.into()) => return true,
        }
        false
    }

    /// A client that does not wait for the outcome of its guess has made it all the same, also one that leaves
    /// a question open: that PAM asks once more can tell that the password was wrong. Where authd stops nobody
    /// had the choice.
    fn left(&mut self, why: Abandoned) {
        if !self.logins.stop.is_cancelled() {
            self.guessed();
        }
        self.abandoned(why);
    }

    /// It was a guess, and wrong.
    fn guessed(&mut self) {
        if self.attempts.is_empty() {
            return;
        }
        for attempt in self.attempts.drain(..) {
            if let Some(seconds) = attempt.fail() {
                let record = self.asker.known(audit::Event::Penalty);
                let reason = Some("too-many-failures");
                self.logins.parts.audit.record_bounded(audit::Record {
                    reason,
                    seconds: Some(seconds),
                    ..record
                });
            }
        }
        if self.tries == (Tries::Guess { account: true }) {
            self.logins.parts.penalties.fail_account(&self.claimed);
        }
    }

    /// What is answered to a refused login. A source that is under a penalty hears so also where the login was
    /// made all the same.
    fn denied(&self) -> Outcome {
        let left = match self.tries {
            Tries::Free => self.logins.parts.penalties.left(&self.asker.charged()),
            Tries::Guess { .. } | Tries::Certain => None,
        };
        left.map_or(Outcome::Denied, |left| Outcome::Penalised { left })
    }

    /// Carries out a step that leads to another.
    async fn perform(&mut self, step: Step) -> Step {
        match step {
            Step::Identify(handle) => {
                let uid = self.logins.parts.peers.redeem(&handle, self.asker.connection, Instant::now());
                self.peer = uid.map(|uid| uid.as_u32());
                self.tell(Event::Peer(uid))
            }
            Step::Prove(proof, user) => {
                let Some(certd) = &self.logins.parts.certd else {
                    return Step::Refuse { cause: Cause::NoCertd, after: Some(Duration::ZERO) };
                };
                // The login may have begun as another's, whom the kernel named.
                self.method = lock(&self.login).method();
                self.peer = None;
                // Before certd is asked: what is revoked after its answer counts, too.
                self.key_login = Some(self.logins.parts.holders.sessions.key_login());
                let source = self.asker.share_text();
                match certd.verify(proof, user.as_ref(), self.asker.connection, source).await {
                    Ok(verified) => self.tell(Event::Proof(verified)),
                    Err(failure) => Step::Fail(failure),
                }
            }
            Step::Verify(jwt) => self.tell(Event::Vouched(
                self.logins.parts.issuers.verify(&jwt, self.logins.parts.holders.sessions.moment()),
            )),
            Step::Ask(kind, credentials) => match self.ask(&kind, credentials).await {
                Ok(found) => {
                    self.tell(Event::Vouched(found.map(Vouched::Other).ok_or(Cause::AuthenticatorDenied)))
                }
                Err(failure) => Step::Fail(failure),
            },
            Step::Resolve(who) => match self.logins.parts.holders.accounts.find(who).await {
                Ok(account) => self.tell(Event::Account(account)),
                Err(failure) => Step::Fail(failure),
            },
            Step::Converse(user, task) => {
                let source = self.peer.map_or_else(|| self.asker.share(), SourceKey::of_uid);
                let start = Start { user, vouched: self.peer.is_some(), rhost: self.asker.source(), task };
                match self.logins.parts.conversations.open(source, start).await {
                    Ok(conversation) => {
                        self.conversed = true;
                        self.share = conversation.share();
                        self.conversation = Some(conversation);
                        self.word().await
                    }
                    Err(failure) => Step::Fail(failure),
                }
            }
            Step::Listen => self.word().await,
            Step::Answer(answers) => {
                let Some(conversation) = &mut self.conversation else {
                    return Step::Fail(AuthError::Gone("the conversation"));
                };
                match conversation.answer(&answers).await {
                    Ok(()) => self.word().await,
                    Err(failure) => Step::Fail(failure),
                }
            }
            // The others end the task or wait for the client; see `steps`.
            Step::Prompt(_)
            | Step::Grant(..)
            | Step::Welcome(_)
            | Step::TakeUp(_)
            | Step::Refuse { .. }
            | Step::Fail(_) => step,
        }
    }

    /// The source keeps its share of the plug-in until it may know what came of it.
    async fn ask(&mut self, kind: &str, credentials: Credentials) -> Result<Option<Newcomer>, AuthError> {
        let plugins = &self.logins.parts.plugins;
        let (question, share) = plugins.seat(kind, self.asker.charged())?;
        self.plugin_share = Some(share);
        plugins.ask(question, credentials, self.asker.client()).await
    }

    async fn word(&mut self) -> Step {
        match &mut self.conversation {
            Some(conversation) => {
                let word = conversation.word().await;
                self.tell(Event::Word(word))
            }
            None => Step::Fail(AuthError::Gone("the conversation")),
        }
    }

    fn tell(&self, event: Event) -> Step {
        lock(&self.login).on(event)
    }

    /// The client's answers; None when the conversation has ended without them.
    async fn await_answers(
        &mut self,
        turns: &mut mpsc::Receiver<Turn>,
        end: &CancellationToken,
    ) -> Option<Turn> {
        let conversation = self.conversation.as_ref()?;
        let why = tokio::select! {
            turn = turns.recv() => return turn,
            () = end.cancelled() => Abandoned::ConnectionEnded,
            word = conversation.gone() => match word {
                Word::Overdue => Abandoned::NoAnswer,
                Word::Malformed(what) => {
                    warn!(what, "a PAM worker broke the protocol");
                    Abandoned::Protocol
                }
                // It says nothing else while it is not to speak.
                Word::Gone { .. } | Word::Silent | Word::Round(_) | Word::Verdict(_) => Abandoned::WorkerEnded,
            },
            () = tokio::time::sleep(self.logins.parts.conversations.answer_within()) => Abandoned::NoAnswer,
        };
        self.left(why);
        None
    }

    /// Answers a refusal when it may be answered. The conversation ends first: waiting holds none.
    async fn refuse(&mut self, cause: Cause, after: Option<Duration>, reply: Reply, end: &CancellationToken) {
        match cause {
            // The signature has held: it was a token, and no guess.
            Cause::JwtTime => self.attempts.clear(),
            _ => self.guessed(),
        }
        self.end_conversation();
        self.refused(cause).await;
        if let Some(after) = after {
            let when = self.refusal(after);
            tokio::select! {
                // Nobody reads the answer. What was taken of the bounds stays taken: see `linger`.
                () = end.cancelled() => return self.due = Some(when),
                () = tokio::time::sleep_until(when.into()) => {}
            }
        }
        (self.share, self.plugin_share) = (None, None);
        drop(reply.send(Ok(self.denied())));
    }

    /// Keeps what a login without success took of its source's bounds until its refusal would be answered,
    /// whether or not anybody waits. A right password is answered at once, so whoever hears nothing for a
    /// moment knows enough: hanging up must not make the next guess come sooner.
    async fn linger(mut self) {
        self.end_conversation();
        // Nothing more can be said to it.
        self.logins.open().remove(&self.id);
        if self.share.is_none() && self.plugin_share.is_none() {
            return;
        }
        let when = self.due.unwrap_or_else(|| self.refusal(Duration::ZERO));
        tokio::select! {
            () = self.logins.stop.cancelled() => {}
            () = tokio::time::sleep_until(when.into()) => {}
        }
    }

    fn end_conversation(&mut self) {
        if let Some(ended) = self.conversation.take() {
            self.computed_since = ended.computing_since();
        }
    }

    /// When a refusal is answered; `after` is what a module asked for.
    fn refusal(&self, after: Duration) -> Instant {
        let asked = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        let longest = self.logins.longest_delay.fetch_max(asked, Ordering::Relaxed).max(asked);
        // Without random bytes the delay is the shortest that holds; nothing else depends on it.
        let random = secret::random().map_or(0, u32::from_ne_bytes);
        let delay =
            refusal_delay(*self.logins.parts.refusal_delay.get(), Duration::from_micros(longest), random);
        self.computed_since + delay + self.wait
    }
}
