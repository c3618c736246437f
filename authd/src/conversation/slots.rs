//! How many conversations there may be: in all, of one source, of one source about one account.
//!
//! Nothing is counted per account alone: two conversations of anybody's would then lock its owner out.
//! Many sources together are bounded by the total.

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::error::AuthError;

/// Whom a conversation is counted against.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SourceKey {
    /// An IPv4 address, all of loopback as 127.0.0.1, or the /64 of an IPv6 address.
    Address(IpAddr),
    /// A local user, as the kernel says; of subordinate uids the first of their user.
    Uid(u32),
    /// The Unix socket, with no uid known.
    Local,
}

impl SourceKey {
    /// The key of an address as reported.
    pub fn of(address: Option<IpAddr>) -> Self {
        address.map_or(Self::Local, |address| Self::Address(doorward_launch::counted(address)))
    }

    /// The key of a local user.
    pub fn of_uid(uid: u32) -> Self {
        Self::Uid(doorward_launch::counted_uid(uid))
    }
}

impl fmt::Display for SourceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "{address}/64"),
            Self::Uid(uid) => write!(f, "uid:{uid}"),
            Self::Local => f.write_str("local"),
        }
    }
}

/// The bounds and what is taken of them.
#[derive(Debug)]
pub(super) struct Slots {
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    per_source: usize,
    per_account: usize,
    count: usize,
    of_source: HashMap<SourceKey, usize>,
    of_account: HashMap<(SourceKey, String), usize>,
}

/// A place for one conversation among all, given back when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<Slots>,
    /// The conversation counts against its source for as long as it counts at all.
    share: Arc<Share>,
}

/// What a login takes of the bounds of its source, given back when dropped.
#[derive(Debug)]
pub struct Share {
    slots: Arc<Slots>,
    source: SourceKey,
    account: Option<(SourceKey, String)>,
}

impl Slots {
    pub(super) fn new(total: usize, per_source: usize, per_account: usize) -> Self {
        let slots = Self { taken: Mutex::default() };
        slots.resize(total, per_source, per_account);
        slots
    }

    /// From now on so many; those that are there stay.
    pub(super) fn resize(&self, total: usize, per_source: usize, per_account: usize) {
        let mut taken = self.taken();
        (taken.total, taken.per_source, taken.per_account) = (total, per_source, per_account);
    }

    /// A place, or which bound is reached. No account: the source is known to be its owner.
    pub(super) fn take(self: Arc<Self>, source: SourceKey, account: Option<&str>) -> Result<Slot, AuthError> {
        // Databases that do not mind the case would give one account as many bounds as it has spellings.
        // Asking them for the one that is right takes a time that tells who is known.
        let account = account.map(|account| (source.clone(), account.to_lowercase()));
        {
            let mut taken = self.taken();
            if taken.count >= taken.total {
                return Err(AuthError::TooManyLogins("in all"));
            }
            if taken.of_source.get(&source).is_some_and(|count| *count >= taken.per_source) {
                return Err(AuthError::TooManyLogins("of one source"));
            }
            let of_account = account.as_ref().and_then(|account| taken.of_account.get(account));
            if of_account.is_some_and(|count| *count >= taken.per_account) {
                return Err(AuthError::TooManyLogins("of one source about one account"));
            }
            taken.count += 1;
            *taken.of_source.entry(source.clone()).or_default() += 1;
            if let Some(account) = &account {
                *taken.of_account.entry(account.clone()).or_default() += 1;
            }
        }
        let share = Arc::new(Share { slots: self.clone(), source, account });
        Ok(Slot { slots: self, share })
    }

    pub(super) fn count(&self) -> usize {
        self.taken().count
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    pub(super) fn share(&self) -> Arc<Share> {
        self.share.clone()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken();
        taken.count = taken.count.saturating_sub(1);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.slots.taken();
        release(&mut taken.of_source, &self.source);
        if let Some(account) = &self.account {
            release(&mut taken.of_account, account);
        }
    }
}

/// Counts down and forgets what is at 0, so that the maps hold no more than what is taken.
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
        let slots = Arc::new(Slots::new(5, 3, 2));
        let take = |source: &str, account: &str| slots.clone().take(key(source), Some(account));
        let first = take("192.0.2.1", "a").expect("free");
        let _second = take("192.0.2.1", "A").expect("free");
        let about_one = Err(AuthError::TooManyLogins("of one source about one account"));
        assert_eq!(refusal(take("192.0.2.1", "a")), refusal(about_one), "whatever the case");
        let _third = take("192.0.2.1", "b").expect("free");
        assert_eq!(refusal(take("192.0.2.1", "c")), Some("of one source".to_owned()));
        let _owner = take("192.0.2.2", "a").expect("free for every other source");
        let _fifth = take("192.0.2.3", "a").expect("free for every other source");
        assert_eq!(refusal(take("192.0.2.4", "e")), Some("in all".to_owned()));
        drop(first);
        assert_eq!(slots.count(), 4);
        let _sixth = take("192.0.2.1", "a").expect("free again");
    }

    fn refusal(taken: Result<Slot, AuthError>) -> Option<String> {
        match taken {
            Err(AuthError::TooManyLogins(bound)) => Some(bound.to_owned()),
            _ => None,
        }
    }

    #[test]
    fn whom_the_kernel_vouches_for_is_counted_as_a_source_alone() {
        let slots = Arc::new(Slots::new(4, 2, 1));
        let take = || slots.clone().take(SourceKey::Uid(1000), None);
        let _two = [take().expect("free"), take().expect("free")];
        assert_eq!(refusal(take()), Some("of one source".to_owned()));
    }

    #[test]
    fn a_share_outlives_its_conversation() {
        let slots = Arc::new(Slots::new(1, 1, 1));
        let slot = slots.clone().take(key("192.0.2.1"), Some("a")).expect("free");
        let share = slot.share();
        drop(slot);
        assert_eq!(slots.count(), 0);
        let again = slots.clone().take(key("192.0.2.1"), Some("b"));
        assert_eq!(refusal(again), Some("of one source".to_owned()));
        slots.clone().take(key("192.0.2.2"), Some("a")).expect("nothing for the others to notice");
        drop(share);
        slots.clone().take(key("192.0.2.1"), Some("a")).expect("free again");
    }

    #[test]
    fn nothing_stays_in_the_maps_when_all_is_over() {
        let slots = Arc::new(Slots::new(4, 4, 4));
        drop((slots.clone().take(key(""), Some("a")), slots.clone().take(SourceKey::Uid(1), None)));
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
