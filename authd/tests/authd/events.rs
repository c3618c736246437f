//! Counts what authd logs.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tracing::{
    Dispatch, Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
    subscriber::DefaultGuard,
};

/// Counts; clones count together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Events(Arc<Mutex<BTreeMap<String, Lines>>>);

/// Of one message.
#[derive(Debug, Clone, Copy, Default)]
struct Lines {
    written: u64,
    /// The sum of their field `count`.
    counted: u64,
}

/// As long as it lives, what happens on this thread is counted.
pub(crate) struct Listening {
    _guard: DefaultGuard,
    /// While there is one dispatcher alone, tracing judges a callsite by the thread that comes to it first: of a test
    /// beside this one, where nobody listens, and then it is silent here, too. With a second all are asked.
    _second: Dispatch,
}

impl Events {
    /// Counts from now on.
    pub(crate) fn listen(&self) -> Listening {
        let second = Dispatch::new(Self::default());
        Listening { _guard: tracing::subscriber::set_default(self.clone()), _second: second }
    }

    /// Lines that tell of one refused login.
    pub(crate) fn lines(&self) -> u64 {
        self.said("login refused")
    }

    /// Logins without a session that others tell of.
    pub(crate) fn summed_up(&self) -> u64 {
        self.all().get("more logins came to nothing").copied().unwrap_or_default().counted
    }

    /// Lines with this message.
    pub(crate) fn said(&self, message: &str) -> u64 {
        self.all().get(message).copied().unwrap_or_default().written
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Lines>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct Seen {
    message: String,
    count: u64,
}

impl Visit for Seen {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "count" {
            self.count = value;
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        }
    }
}

impl Subscriber for Events {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut seen = Seen::default();
        event.record(&mut seen);
        let mut all = self.all();
        let lines = all.entry(seen.message).or_default();
        lines.written += 1;
        lines.counted += seen.count;
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
