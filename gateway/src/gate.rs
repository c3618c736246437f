//! How many connections there may be: in all, and from one source.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Where a connection comes from, as far as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// One IPv4 address, or all of loopback.
    V4(Ipv4Addr),
    /// One IPv6 network of 64 bits: one host can have all of its addresses.
    V6([u8; 8]),
    /// A user of this host; of subordinate uids the first of their user.
    Uid(u32),
}

impl Source {
    /// Of a user of this host.
    pub fn of_uid(uid: u32) -> Self {
        Self::Uid(doorward_launch::counted_uid(uid))
    }

    /// Of a remote address.
    pub fn of_address(address: IpAddr) -> Self {
        match doorward_launch::counted(address) {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(address) => address.fmt(f),
            Self::V6([a, b, c, d, e, g, h, i]) => {
                let octets = [*a, *b, *c, *d, *e, *g, *h, *i, 0, 0, 0, 0, 0, 0, 0, 0];
                write!(f, "{}/64", std::net::Ipv6Addr::from(octets))
            }
            Self::Uid(uid) => write!(f, "uid {uid}"),
        }
    }
}

/// What is known of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Past {
    /// Nothing.
    Clean,
    /// It failed to log in, not long ago.
    Failed,
}

/// Counts who is in.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    total: AtomicUsize,
    per_source: AtomicUsize,
    /// This part of the places is not for those who failed; 0: none.
    part: usize,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    all: usize,
    sources: HashMap<Source, usize>,
}

/// A place inside, given back when it is dropped.
#[derive(Debug)]
pub struct Permit {
    gate: Gate,
    counted: bool,
    source: Option<Source>,
}

impl Gate {
    /// For so many in all, and so many from one source.
    pub fn new(total: usize, per_source: usize) -> Self {
        Self::keeping(0, total, per_source)
    }

    /// The same, but whoever failed lately finds room only while more than the `part`-th part of all places is
    /// free: what such sources can take, all of them together, leaves room for everybody else.
    pub fn keeping(part: usize, total: usize, per_source: usize) -> Self {
        let (total, per_source) = (total.into(), per_source.into());
        Self(Arc::new(Counts { total, per_source, part, inside: Mutex::default() }))
    }

    /// From now on for so many. Whoever is inside stays, also when there are more.
    pub fn resize(&self, total: usize, per_source: usize) {
        self.0.total.store(total, Ordering::Relaxed);
        self.0.per_source.store(per_source, Ordering::Relaxed);
    }

    /// A place for somebody whose source is not known yet.
    pub fn enter(&self) -> Option<Permit> {
        let mut inside = self.lock();
        if inside.all >= self.0.total.load(Ordering::Relaxed) {
            return None;
        }
        inside.all += 1;
        Some(Permit { gate: self.clone(), counted: true, source: None })
    }

    /// A place for somebody from this source.
    pub fn enter_from(&self, source: Source) -> Option<Permit> {
        self.enter_as(source, Past::Clean)
    }

    /// A place for somebody from this source, of which this is known.
    pub fn enter_as(&self, source: Source, past: Past) -> Option<Permit> {
        let mut permit = self.enter()?;
        permit.claim_as(source, past).then_some(permit)
    }

    /// A place that is not counted.
    pub fn enter_exempt(&self) -> Permit {
        Permit { gate: self.clone(), counted: false, source: None }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.0.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// Says where the holder comes from. False if too many from there are inside.
    #[must_use]
    pub fn claim(&mut self, source: Source) -> bool {
        self.claim_as(source, Past::Clean)
    }

    /// The same, where this is known of the source. False, too, if what is left is not for it.
    #[must_use]
    pub fn claim_as(&mut self, source: Source, past: Past) -> bool {
        if !self.counted || self.source.is_some() {
            return true;
        }
        let mut inside = self.gate.lock();
        // The holder is one of all.
        let total = self.gate.0.total.load(Ordering::Relaxed);
        let kept = total.checked_div(self.gate.0.part).unwrap_or(0);
        if past == Past::Failed && inside.all > total.saturating_sub(kept) {
            return false;
        }
        let count = inside.sources.entry(source).or_default();
        if *count >= self.gate.0.per_source.load(Ordering::Relaxed) {
            // An entry is made for sources that are inside only, and this one has some.
            return false;
        }
        *count += 1;
        drop(inside);
        self.source = Some(source);
        true
    }

    /// The holder need not be counted.
    pub fn exempt(&mut self) {
        self.leave();
    }

    fn leave(&mut self) {
        if !std::mem::take(&mut self.counted) {
            return;
        }
        let mut inside = self.gate.lock();
        inside.all = inside.all.saturating_sub(1);
        if let Some(source) = self.source.take()
            && let Some(count) = inside.sources.get_mut(&source)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                inside.sources.remove(&source);
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Source = Source::Uid(1);
    const B: Source = Source::Uid(2);

    #[test]
    fn a_source_has_its_share_and_gets_it_back() {
        let gate = Gate::new(10, 2);
        let first = gate.enter_from(A);
        let second = gate.enter_from(A);
        assert!(first.is_some() && second.is_some());
        assert!(gate.enter_from(A).is_none());
        assert!(gate.enter_from(B).is_some(), "another source is not hindered");
        drop(first);
        assert!(gate.enter_from(A).is_some());
        drop(second);
        assert!(gate.lock().sources.is_empty());
        assert_eq!(gate.lock().all, 0);
    }

    #[test]
    fn there_is_a_total() {
        let gate = Gate::new(3, 2);
        let inside = [gate.enter_from(A), gate.enter_from(A), gate.enter()];
        assert!(inside.iter().all(Option::is_some));
        assert!(gate.enter().is_none() && gate.enter_from(B).is_none());
        let exempt = gate.enter_exempt();
        drop(exempt);
        assert!(gate.enter().is_none(), "who was not counted gives nothing back");
        drop(inside);
        assert!(gate.enter().is_some());
    }

    #[test]
    fn a_gate_that_gets_narrower_throws_nobody_out() {
        let gate = Gate::new(3, 3);
        let inside: Vec<_> = std::iter::from_fn(|| gate.enter_from(A)).collect();
        assert_eq!(inside.len(), 3);
        gate.resize(2, 1);
        assert!(gate.enter_from(B).is_none());
        drop(inside);
        let first = gate.enter_from(A);
        assert!(first.is_some() && gate.enter_from(A).is_none() && gate.enter_from(B).is_some());
        gate.resize(3, 2);
        assert!(gate.enter_from(A).is_some());
    }

    #[test]
    fn who_turns_out_to_be_exempt_gives_the_place_back_once() {
        let gate = Gate::new(1, 1);
        let mut permit = gate.enter().expect("room");
        permit.exempt();
        assert!(permit.claim(A));
        let other = gate.enter_from(A);
        assert!(other.is_some());
        drop(permit);
        assert!(gate.enter().is_none());
    }

    #[test]
    fn a_part_is_kept_for_those_who_have_not_failed() {
        let gate = Gate::keeping(4, 8, 8);
        let failed: Vec<_> = std::iter::from_fn(|| gate.enter_as(A, Past::Failed)).collect();
        assert_eq!(failed.len(), 6);
        let clean: Vec<_> = std::iter::from_fn(|| gate.enter_as(B, Past::Clean)).collect();
        assert_eq!(clean.len(), 2);
        // Whoever fills the place: what is left of it is not for them.
        drop(failed);
        let others: Vec<_> = (0..4).filter_map(|_| gate.enter_from(B)).collect();
        assert_eq!(others.len(), 4);
        assert!(gate.enter_as(A, Past::Failed).is_none());
        drop(clean);
        assert!(gate.enter_as(A, Past::Failed).is_some());
        assert!(!gate.lock().sources.contains_key(&A), "who was refused leaves nothing behind");
    }

    #[test]
    fn sources_are_hosts() {
        let of = |text: &str| Source::of_address(text.parse().expect("an address"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("2001:db8:1:2:3::1").to_string(), "2001:db8:1:2::/64");
        assert_eq!((of("127.0.0.2"), of("::1")), (of("127.0.0.1"), of("127.0.0.1")));
    }
}
