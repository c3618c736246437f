//! What a login leaves behind of itself: exactly one audit record, and a line in the log if its source
//! may write one.

use std::time::Instant;

use doorward_launch::{
    audit::{Event, Record},
    chain,
};
use tracing::{error, info, warn};

use super::{super::lines::Say, Run};
use crate::{driver::lock, error::AuthError, method::Cause, rights::Seen, session::Fingerprint};

/// How long a refused login waits for the uid of its user, which is for the record alone.
const UID_WITHIN: std::time::Duration = std::time::Duration::from_secs(1);

/// Why a login ended before it came to anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abandoned {
    /// The gateway says that the connection ended.
    ConnectionEnded,
    /// The gateway took its request back, as it does when the client leaves.
    NobodyWaits,
    /// The worker ended while the client was to answer.
    WorkerEnded,
    /// The worker spoke while the client was to answer.
    Protocol,
    /// The client did not answer in time, or within the longest time of a conversation.
    NoAnswer,
    /// authd is stopping.
    Stopping,
    /// The login's task broke off: a defect, or the end of authd.
    BrokenOff,
}

impl Abandoned {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::ConnectionEnded,
        Self::NobodyWaits,
        Self::WorkerEnded,
        Self::Protocol,
        Self::NoAnswer,
        Self::Stopping,
        Self::BrokenOff,
    ];

    /// Its word in audit records and in the log. Stable: programs look for it.
    pub fn code(self) -> &'static str {
        match self {
            Self::ConnectionEnded => "connection-ended",
            Self::NobodyWaits => "nobody-waits",
            Self::WorkerEnded => "worker-ended",
            Self::Protocol => "protocol",
            Self::NoAnswer => "no-answer",
            Self::Stopping => "stopping",
            Self::BrokenOff => "broken-off",
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.logins.open().remove(&self.id);
        if !self.told {
            self.record(Event::LoginAbandoned, Abandoned::BrokenOff.code());
        }
    }
}

impl Run {
    /// Before anybody hears of it.
    pub(super) fn granted(&mut self, seen: &Seen, key: Option<Fingerprint>) -> Result<(), AuthError> {
        let who = &seen.session.holder.who;
        self.logins.parts.audit.demand(Record {
            user: Some(who.shown()),
            uid: who.uid(),
            session: Some(seen.session.id.to_string()),
            key: key.map(|key| key.to_string()),
            ..self.known(Event::Login)
        })?;
        self.told = true;
        info!(
            user = who.shown(), uid = who.uid(), method = self.method,
            source = self.asker.source(), connection = %self.asker.connection,
            session = %seen.session.id, key = key.map(tracing::field::display), "login granted"
        );
        Ok(())
    }

    /// Before anybody hears of it. Whoever holds a token can do this as often as they like.
    pub(super) fn taken_up(&mut self, seen: &Seen) -> Result<(), AuthError> {
        let holder = &seen.session.holder;
        self.logins.parts.audit.demand_bounded(Record {
            user: Some(holder.who.shown()),
            uid: holder.who.uid(),
            session: Some(seen.session.id.to_string()),
            ..self.known(Event::SessionTakenUp)
        })?;
        self.told = true;
        info!(
            user = holder.who.shown(), method = self.method, source = self.asker.source(),
            connection = %self.asker.connection, session = %seen.session.id, "session taken up"
        );
        Ok(())
    }

    pub(super) async fn refused(&mut self, cause: Cause) {
        if self.conversed {
            self.look_for_uid().await;
        }
        self.record(Event::LoginRefused, cause.code());
        if self.may_log() {
            info!(
                user = self.user(), method = self.method, source = self.asker.source(),
                connection = %self.asker.connection, %cause, "login refused"
            );
        }
    }

    pub(super) fn failed(&mut self, failure: &AuthError) {
        self.record(Event::LoginFailed, failure.code());
        if !self.may_log() {
            return;
        }
        let (user, source, cause) = (self.user(), self.asker.source(), chain(failure));
        let (method, connection) = (self.method, &self.asker.connection);
        if failure.is_grave() {
            error!(user, method, source, %connection, %cause, "login failed");
        } else {
            warn!(user, method, source, %connection, %cause, "login failed");
        }
    }

    pub(super) fn abandoned(&mut self, why: Abandoned) {
        let stopping = self.logins.stop.is_cancelled();
        let why = if stopping { Abandoned::Stopping } else { why };
        self.record(Event::LoginAbandoned, why.code());
        if self.may_log() {
            info!(
                user = self.user(), method = self.method, source = self.asker.source(),
                connection = %self.asker.connection, why = why.code(), "login ended without an outcome"
            );
        }
    }

    /// A refusal by PAM leaves open whether there is such a user: an auditor wants to know. Who waits for
    /// the refusal does not wait longer by it, as all are answered at their time.
    async fn look_for_uid(&mut self) {
        let user = {
            let login = lock(&self.login);
            if login.uid().is_some() { None } else { login.user().cloned() }
        };
        if let Some(user) = user {
            let found = self.logins.parts.holders.accounts.uid_aside(user);
            if let Ok(Ok(uid)) = tokio::time::timeout(UID_WITHIN, found).await {
                self.uid = uid;
            }
        }
    }

    /// Unless it has its record: one that takes a session up is recorded before it takes the turn of another
    /// connection, and what goes wrong then is in the log alone.
    fn record(&mut self, event: Event, reason: &'static str) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        let record = {
            let login = lock(&self.login);
            Record {
                reason: Some(reason),
                uid: login.uid().or(self.uid),
                key: login.key().map(|key| key.to_string()),
                ..self.known(event)
            }
        };
        let record = Record { user: Some(self.user()).filter(|user| !user.is_empty()), ..record };
        // A conversation is a process, of which there are few: nobody has many of those a second.
        if self.conversed {
            self.logins.parts.audit.record(record);
        } else {
            self.logins.parts.audit.record_bounded(record);
        }
    }

    fn known(&self, event: Event) -> Record {
        Record { method: Some(self.method.to_owned()), ..self.asker.known(event) }
    }

    fn user(&self) -> String {
        lock(&self.login).user().map_or_else(|| self.claimed.clone(), |user| user.as_str().to_owned())
    }

    /// Whether this source may write a line; if not, how many were not written is told later.
    fn may_log(&self) -> bool {
        let (key, when) = match self.logins.lines.count(self.asker.share(), Instant::now()) {
            Say::Line => return true,
            Say::Nothing => return false,
            Say::SumUp(key, when) => (key, when),
        };
        let logins = self.logins.clone();
        let source = if key.is_some() { self.asker.share_text() } else { "others".to_owned() };
        self.logins.tasks.spawn(async move {
            tokio::select! {
                () = logins.stop.cancelled() => {}
                () = tokio::time::sleep_until(when.into()) => {}
            }
            warn!(source, count = logins.lines.unsaid(&key), "more logins came to nothing");
        });
        false
    }
}
