//! Counts what authd logs about refused logins.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tracing::{
    Dispatch, Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
    subscriber::DefaultGuard,
};

/// Counts; clones count together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Events(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    lines: AtomicU64,
    summed_up: AtomicU64,
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
        self.0.lines.load(Ordering::SeqCst)
    }

    /// Refused logins that others tell of.
    pub(crate) fn summed_up(&self) -> u64 {
        self.0.summed_up.load(Ordering::SeqCst)
    }
}

#[derive(Default)]
struct Seen {
    refused: bool,
    summed_up: bool,
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
            let text = format!("{value:?}");
            self.refused = text == "login refused";
            self.summed_up = text == "more logins came to nothing";
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
        if seen.refused {
            self.0.lines.fetch_add(1, Ordering::SeqCst);
        }
        if seen.summed_up {
            self.0.summed_up.fetch_add(seen.count, Ordering::SeqCst);
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
