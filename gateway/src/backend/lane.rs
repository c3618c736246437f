//! Calls and questions that wait for their turn: so many at a time, and so few of them of one identity, which has the rest
//! of its own wait behind each other, so that no identity with many of them keeps others waiting.

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
    own: Option<Own>,
}

/// What of a turn is the identity's own: kept with what has come of it, it has the next wait until that was taken.
#[derive(Debug)]
pub(crate) struct Own {
    _permit: OwnedSemaphorePermit,
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
    pub(crate) fn turn(
        self: &Arc<Self>,
        who: &str,
    ) -> impl Future<Output = Option<Turn>> + Send + 'static + use<> {
        let (entry, all) = (self.enter(who), Arc::clone(&self.all));
        async move {
            let own = Own { _permit: Arc::clone(&entry.own).acquire_owned().await.ok()?, _entry: entry };
            Some(Turn { _all: all.acquire_owned().await.ok()?, own: Some(own) })
        }
    }

    /// The same for what is nobody's, and seldom more than one of a connection.
    pub(crate) fn turn_of_nobody(&self) -> impl Future<Output = Option<Turn>> + Send + 'static + use<> {
        let all = Arc::clone(&self.all);
        async move { Some(Turn { _all: all.acquire_owned().await.ok()?, own: None }) }
    }

    fn enter(self: &Arc<Self>, who: &str) -> Entry {
        let mut each = self.each.lock().unwrap_or_else(PoisonError::into_inner);
        let (own, count) =
            each.entry(who.into()).or_insert_with(|| (Arc::new(Semaphore::new(self.of_one)), 0));
        *count += 1;
        Entry { lane: Arc::clone(self), who: who.into(), own: Arc::clone(own) }
    }
}

impl Turn {
    /// It is over for all others.
    pub(crate) fn over(self) -> Option<Own> {
        self.own
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
        let mut nobody = Box::pin(lane.turn_of_nobody());
        assert!((&mut carol).now_or_never().is_none(), "all are taken");
        drop(bob);
        assert!((&mut nobody).now_or_never().is_none(), "carol is before it");
        drop((&mut carol).now_or_never().flatten().expect("it is hers"));
        assert!(nobody.now_or_never().is_some());
        let own: Vec<_> = first.into_iter().flatten().map(Turn::over).collect();
        assert_eq!(lane.all.available_permits(), 3, "nobody else waits for what alice has not taken");
        assert!(alice.last_mut().expect("fifty").now_or_never().is_none(), "she does");
        drop((own, alice, carol));
        assert!(lane.each.lock().expect("not poisoned").is_empty(), "nobody is known any more");
        assert_eq!(lane.all.available_permits(), 3);
    }
}
