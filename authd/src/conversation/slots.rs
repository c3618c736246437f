//! How many conversations there may be: in all, of one source, about one account.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::error::AuthError;

/// Whom a conversation is counted against.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SourceKey {
    /// An IPv4 address, or the /64 of an IPv6 address: one subscriber has as many of the rest as they like.
    Address(IpAddr),
    /// A local user, as the kernel says.
    Uid(u32),
    /// The Unix socket, with no uid known.
    Local,
}

impl SourceKey {
    /// The key of an address as reported.
    pub fn of(address: Option<IpAddr>) -> Self {
        match address.map(|address| address.to_canonical()) {
            None => Self::Local,
            Some(IpAddr::V6(address)) => {
                let [a, b, c, d, ..] = address.segments();
                Self::Address(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into())
            }
            Some(v4) => Self::Address(v4),
        }
    }
}

/// The bounds and what is taken of them.
#[derive(Debug)]
pub(super) struct Slots {
    total: usize,
    per_source: usize,
    per_account: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    count: usize,
    of_source: HashMap<SourceKey, usize>,
    of_account: HashMap<String, usize>,
}

/// A place for one conversation, given back when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<Slots>,
    source: SourceKey,
    account: String,
}

impl Slots {
    pub(super) fn new(total: usize, per_source: usize, per_account: usize) -> Self {
        Self { total, per_source, per_account, taken: Mutex::default() }
    }

    /// A place, or which bound is reached.
    pub(super) fn take(self: Arc<Self>, source: SourceKey, account: &str) -> Result<Slot, AuthError> {
        {
            let mut taken = self.taken();
            if taken.count >= self.total {
                return Err(AuthError::TooManyLogins("in all"));
            }
            if taken.of_source.get(&source).is_some_and(|count| *count >= self.per_source) {
                return Err(AuthError::TooManyLogins("of one source"));
            }
            if taken.of_account.get(account).is_some_and(|count| *count >= self.per_account) {
                return Err(AuthError::TooManyLogins("about one account"));
            }
            taken.count += 1;
            *taken.of_source.entry(source.clone()).or_default() += 1;
            *taken.of_account.entry(account.to_owned()).or_default() += 1;
        }
        Ok(Slot { slots: self, source, account: account.to_owned() })
    }

    pub(super) fn count(&self) -> usize {
        self.taken().count
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken();
        taken.count = taken.count.saturating_sub(1);
        release(&mut taken.of_source, &self.source);
        release(&mut taken.of_account, &self.account);
    }
}

/// Counts down and forgets what is at 0, so that the maps hold no more than the live conversations.
fn release<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> SourceKey {
        SourceKey::of(text.parse().ok())
    }

    #[test]
    fn each_bound_holds_at_its_number_and_a_freed_place_counts() {
        let slots = Arc::new(Slots::new(4, 2, 2));
        let take = |source: &str, account: &str| slots.clone().take(key(source), account);
        let first = take("192.0.2.1", "a").expect("free");
        let _second = take("192.0.2.1", "b").expect("free");
        assert!(matches!(take("192.0.2.1", "c"), Err(AuthError::TooManyLogins("of one source"))));
        let _third = take("192.0.2.2", "a").expect("free");
        assert!(matches!(take("192.0.2.3", "a"), Err(AuthError::TooManyLogins("about one account"))));
        let _fourth = take("192.0.2.4", "d").expect("free");
        assert!(matches!(take("192.0.2.5", "e"), Err(AuthError::TooManyLogins("in all"))));
        drop(first);
        assert_eq!(slots.count(), 3);
        let _fifth = take("192.0.2.1", "a").expect("free again");
    }

    #[test]
    fn nothing_stays_in_the_maps_when_all_is_over() {
        let slots = Arc::new(Slots::new(4, 4, 4));
        drop((slots.clone().take(key(""), "a"), slots.clone().take(SourceKey::Uid(1), "a")));
        let taken = slots.taken();
        assert_eq!((taken.count, taken.of_source.len(), taken.of_account.len()), (0, 0, 0));
    }

    #[test]
    fn a_source_is_an_ipv4_address_or_an_ipv6_64() {
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff"));
        assert_ne!(key("2001:db8:0:1::1"), key("2001:db8::1"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key(""), SourceKey::Local);
    }
}
