//! What is recorded: one event, its fields, its line.

use std::fmt::Write;
use std::time::SystemTime;

use super::json;
use crate::log::time;

/// The longest line, its newline included. The limits of the texts below add up to less.
pub const LINE_MAX: usize = 2048;
/// The longest name of a user, escaped.
const NAME_MAX: usize = 256;
/// The longest of the other texts, escaped.
const TEXT_MAX: usize = 128;
/// The longest of those that are one word by their grammar, escaped.
const WORD_MAX: usize = 64;

/// What happened. The words are stable: programs look for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// The service begins.
    Start,
    /// The service ends.
    Stop,
    /// The configuration was to be read again; the reason says what came of it.
    Reload,
    /// A session was opened.
    Login,
    /// A live session was taken up on another connection.
    SessionTakenUp,
    /// A login was refused.
    LoginRefused,
    /// A login failed: something that it needs was not there.
    LoginFailed,
    /// A login ended before it came to anything.
    LoginAbandoned,
    /// A session ended.
    SessionEnded,
    /// A source or an account has to wait because of what it did.
    Penalty,
    /// A key is registered.
    KeyRegistered,
    /// A key is not registered any more.
    KeyRevoked,
    /// A key was taken over from elsewhere by root.
    KeyImported,
    /// A registration or revocation was refused.
    KeyRefused,
    /// A subsystem did what somebody asked for, or began to.
    Call,
    /// A subsystem refused to begin.
    CallRefused,
    /// Records could not be written; the count says how many.
    RecordsLost,
}

impl Event {
    /// All of them.
    pub const ALL: [Event; 17] = [
        Event::Start,
        Event::Stop,
        Event::Reload,
        Event::Login,
        Event::SessionTakenUp,
        Event::LoginRefused,
        Event::LoginFailed,
        Event::LoginAbandoned,
        Event::SessionEnded,
        Event::Penalty,
        Event::KeyRegistered,
        Event::KeyRevoked,
        Event::KeyImported,
        Event::KeyRefused,
        Event::Call,
        Event::CallRefused,
        Event::RecordsLost,
    ];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Event::Start => "start",
            Event::Stop => "stop",
            Event::Reload => "reload",
            Event::Login => "login",
            Event::SessionTakenUp => "session_taken_up",
            Event::LoginRefused => "login_refused",
            Event::LoginFailed => "login_failed",
            Event::LoginAbandoned => "login_abandoned",
            Event::SessionEnded => "session_ended",
            Event::Penalty => "penalty",
            Event::KeyRegistered => "key_registered",
            Event::KeyRevoked => "key_revoked",
            Event::KeyImported => "key_imported",
            Event::KeyRefused => "key_refused",
            Event::Call => "call",
            Event::CallRefused => "call_refused",
            Event::RecordsLost => "records_lost",
        }
    }
}

/// Every field that a record may have, in the order in which they stand.
pub const FIELDS: [&str; 20] = [
    "time",
    "id",
    "event",
    "service",
    "reason",
    "user",
    "uid",
    "method",
    "reported_source",
    "connection",
    "session",
    "dialect",
    "key",
    "action",
    "request",
    "by",
    "seconds",
    "count",
    "since",
    "cut",
];

/// An event and what is known of it. Never a password, an answer, a token or a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Record {
    /// What happened.
    pub event: Event,
    /// Why, as a stable word.
    pub reason: Option<&'static str>,
    /// Whom it is about: as claimed, until the user database knew them.
    pub user: Option<String>,
    /// Their uid; only of a user whom the user database knows.
    pub uid: Option<u32>,
    /// The login method.
    pub method: Option<String>,
    /// Where from, as the gateway reports it. A gateway that is taken over reports what it likes.
    pub reported_source: Option<String>,
    /// The client's connection.
    pub connection: Option<String>,
    /// The session.
    pub session: Option<String>,
    /// The client dialect.
    pub dialect: Option<String>,
    /// The fingerprint of the public key.
    pub key: Option<String>,
    /// What a subsystem was asked to do: its action.
    pub action: Option<String>,
    /// The gateway's name of the request. A gateway that is taken over gives what names it likes.
    pub request: Option<String>,
    /// Who did it, if that is not the user.
    pub by: Option<String>,
    /// How long: a penalty lasts, a session lived.
    pub seconds: Option<u64>,
    /// How many events this one record stands for, if not for one.
    pub count: Option<u64>,
    /// When the first of them happened.
    pub since: Option<SystemTime>,
}

impl Record {
    /// An event of which nothing else is known yet: for `Record { user: ..., ..Record::of(event) }`.
    pub fn of(event: Event) -> Record {
        Record {
            event,
            reason: None,
            user: None,
            uid: None,
            method: None,
            reported_source: None,
            connection: None,
            session: None,
            dialect: None,
            key: None,
            action: None,
            request: None,
            by: None,
            seconds: None,
            count: None,
            since: None,
        }
    }
}

/// What the writer adds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp {
    pub(super) time: SystemTime,
    /// This run of the service.
    pub(super) run: u64,
    /// The number of the record in this run.
    pub(super) number: u64,
    pub(super) service: &'static str,
}

impl Record {
    /// The record as a line of at most [`LINE_MAX`] bytes.
    pub(super) fn line(&self, stamp: &Stamp) -> String {
        let mut line = Line { text: String::with_capacity(512), cut: false };
        line.time("time", Some(stamp.time));
        line.own(format_args!(",\"id\":\"{:016x}-{}\"", stamp.run, stamp.number));
        line.text("event", Some(self.event.word()), TEXT_MAX);
        line.text("service", Some(stamp.service), TEXT_MAX);
        line.text("reason", self.reason, TEXT_MAX);
        line.text("user", self.user.as_deref(), NAME_MAX);
        line.number("uid", self.uid.map(u64::from));
        line.text("method", self.method.as_deref(), TEXT_MAX);
        line.text("reported_source", self.reported_source.as_deref(), TEXT_MAX);
        line.text("connection", self.connection.as_deref(), TEXT_MAX);
        line.text("session", self.session.as_deref(), TEXT_MAX);
        line.text("dialect", self.dialect.as_deref(), TEXT_MAX);
        line.text("key", self.key.as_deref(), TEXT_MAX);
        line.text("action", self.action.as_deref(), WORD_MAX);
        line.text("request", self.request.as_deref(), WORD_MAX);
        line.text("by", self.by.as_deref(), NAME_MAX);
        line.number("seconds", self.seconds);
        line.number("count", self.count);
        line.time("since", self.since);
        if line.cut {
            line.own(format_args!(",\"cut\":true"));
        }
        line.text.push_str("}\n");
        line.text
    }
}

struct Line {
    text: String,
    cut: bool,
}

impl Line {
    fn own(&mut self, what: std::fmt::Arguments<'_>) {
        // A String takes everything.
        let _ = self.text.write_fmt(what);
    }

    fn name(&mut self, name: &str) {
        let before = if self.text.is_empty() { '{' } else { ',' };
        self.own(format_args!("{before}\"{name}\":"));
    }

    fn text(&mut self, name: &str, value: Option<&str>, limit: usize) {
        if let Some(value) = value {
            self.name(name);
            self.cut |= json::push(&mut self.text, value, limit);
        }
    }

    fn number(&mut self, name: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.name(name);
            self.own(format_args!("{value}"));
        }
    }

    fn time(&mut self, name: &str, value: Option<SystemTime>) {
        if let Some(value) = value {
            self.name(name);
            self.text.push('"');
            let _ = time::write(&mut self.text, value);
            self.text.push('"');
        }
    }
}
