//! Calls and questions that wait for their turn: so many at a time, and so few of them of one identity, which has the rest of its
//! own wait behind each other, so that no identity with many of them keeps others waiting.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Who has its turn, and who waits for it.
#[derive(Debug)]
pub(crate) struct Lane {
    all: Arc<Semaphore>,
    of_one: usize,
    /// Of those who have something here, and how many they are.
    each: Mutex<HashMap<Box<str>, Known>>,
}

/// An identity's own, and how many of its questions there are.
type Known = (Arc<Semaphore>, usize);

/// It is over when this is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _all: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
    _entry: Entry,
}

/// Keeps an identity known.
#[derive(Debug)]
struct Entry {
    lane: Arc<Lane>,
    who: Box<str>,
    own: Arc<Semaphore>,
}

impl Lane {
    /// So many at a time, and so many of one identity.
    pub(crate) fn new(all: usize, of_one: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), of_one, each: Mutex::default() }
    }

    /// Waits for a turn, as long as it takes. None: there will be none.
    pub(crate) async fn turn(self: &Arc<Self>, who: &str) -> Option<Turn> {
        let entry = self.enter(who);
        let own = Arc::clone(&entry.own).acquire_owned().await.ok()?;
        let all = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some(Turn { _all: all, _own: own, _entry: entry })
    }

    fn enter(self: &Arc<Self>, who: &str) -> Entry {
        let mut each = self.each.lock().unwrap_or_else(PoisonError::into_inner);
        let (own, count) =
            each.entry(who.into()).or_insert_with(|| (Arc::new(Semaphore::new(self.of_one)), 0));
        *count += 1;
        Entry { lane: Arc::clone(self), who: who.into(), own: Arc::clone(own) }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut each = self.lane.each.lock().unwrap_or_else(PoisonError::into_inner);
        match each.get_mut(&self.who) {
            Some((_, count)) if *count > 1 => *count -= 1,
            _ => drop(each.remove(&self.who)),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn who_has_many_questions_keeps_nobody_else_waiting() {
        let lane = Arc::new(Lane::new(3, 2));
        let mut alice: Vec<_> = (0..50).map(|_| Box::pin(lane.turn("alice"))).collect();
        let first: Vec<_> = alice.iter_mut().filter_map(|turn| turn.now_or_never()).collect();
        assert_eq!(first.len(), 2);
        let bob = lane.turn("bob").now_or_never().flatten().expect("there is one left");
        let mut carol = Box::pin(lane.turn("carol"));
        assert!((&mut carol).now_or_never().is_none(), "all are taken");
        drop(bob);
        assert!((&mut carol).now_or_never().is_some());
        drop((first, alice, carol));
        assert!(lane.each.lock().expect("not poisoned").is_empty(), "nobody is known any more");
        assert_eq!(lane.all.available_permits(), 3);
    }
}
