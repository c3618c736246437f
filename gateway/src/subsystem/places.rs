//! The calls of one subsystem under way: so many in all, and so many of one user, that no user takes all.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// The most calls under way.
const CALLS: usize = 256;
/// The most of them of one user, however many sessions he has.
const OF_ONE: usize = 64;

/// Who has how many.
#[derive(Debug)]
pub(crate) struct Places {
    taken: Mutex<Taken>,
    /// How many there are, and the most of them of one user.
    all: usize,
    of_one: usize,
}

impl Default for Places {
    fn default() -> Self {
        Self::new(CALLS, OF_ONE)
    }
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// By the user's number; whoever has none is not there.
    of: HashMap<Box<str>, usize>,
}

/// One place. It is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    user: Box<str>,
    over: AtomicBool,
}

impl Places {
    /// So many, and so many of one user.
    pub(crate) fn new(all: usize, of_one: usize) -> Self {
        Self { taken: Mutex::default(), all, of_one }
    }

    /// A place for a call of this user, unless he has too many, or all have.
    pub(crate) fn take(self: &Arc<Self>, user: &str) -> Option<Place> {
        let mut taken = self.lock();
        let his = taken.of.get(user).copied().unwrap_or(0);
        if taken.all >= self.all || his >= self.of_one {
            return None;
        }
        taken.all += 1;
        taken.of.insert(user.into(), his + 1);
        Some(Place { places: Arc::clone(self), user: user.into(), over: AtomicBool::new(false) })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// It is over for all others. Kept with what has come of it, it is one of its user's until that was taken.
    pub(crate) fn over(&self) {
        let mut taken = self.places.lock();
        if !self.over.swap(true, Ordering::Relaxed) {
            taken.all -= 1;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.over();
        let mut taken = self.places.lock();
        match taken.of.get_mut(&self.user) {
            Some(his) if *his > 1 => *his -= 1,
            _ => drop(taken.of.remove(&self.user)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_has_a_quarter_and_all_have_the_whole() {
        let places = Arc::new(Places::default());
        let mut held = Vec::new();
        for user in ["1", "2", "3", "4"] {
            for _ in 0..OF_ONE {
                held.push(places.take(user).expect("a place"));
            }
            assert!(places.take(user).is_none(), "{user} has his");
        }
        assert!(places.take("5").is_none(), "there are no more");
        held.remove(0);
        assert!(places.take("2").is_none(), "it was not his");
        let fifth = places.take("5").expect("the free one");
        assert!(places.take("1").is_none(), "it is taken");
        let answered = held.last().expect("a place of 4");
        answered.over();
        answered.over();
        assert!(places.take("4").is_none(), "he has not taken what came of it");
        let other = places.take("5").expect("nobody else waits for that");
        assert!(places.take("5").is_none(), "there was one");
        drop((held, fifth, other));
        let left = places.lock();
        assert_eq!((left.all, left.of.len()), (0, 0), "nothing is kept of who has none");
    }
}
