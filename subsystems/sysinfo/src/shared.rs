//! One look of a kind at a time, whose result everybody has who asks meanwhile.
//!
//! A file system that does not answer holds up one thread; who asks for it waits a bounded time, and does not take
//! the answer away from others. No I/O.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A look that takes longer does not answer. A result that is younger is as good as a new one while somebody looks.
pub(crate) const WITHIN: Duration = Duration::from_secs(5);

/// Somebody is looking, and has been for [`WITHIN`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Busy;

/// Looks of one kind; `S` is what a look compares with the one before, `T` what is seen.
#[derive(Debug)]
pub(crate) struct Shared<S, T> {
    turn: Mutex<Turn<T>>,
    over: Condvar,
    /// Only who looks has it.
    before: Mutex<S>,
}

#[derive(Debug)]
struct Turn<T> {
    looking: Option<Instant>,
    looks: u64,
    last: Option<(Instant, Arc<T>)>,
}

impl<S: Default, T> Default for Shared<S, T> {
    fn default() -> Self {
        let turn = Turn { looking: None, looks: 0, last: None };
        Self { turn: Mutex::new(turn), over: Condvar::new(), before: Mutex::default() }
    }
}

/// Ends a look however it ends: one that panics must not leave the others waiting.
struct Looking<'a, S, T>(&'a Shared<S, T>);

impl<S, T> Drop for Looking<'_, S, T> {
    fn drop(&mut self) {
        self.0.turn().looking = None;
        self.0.over.notify_all();
    }
}

impl<S, T> Shared<S, T> {
    /// One that panicked left nothing half done that the next would not mend.
    fn turn(&self) -> MutexGuard<'_, Turn<T>> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks, or has what somebody else sees who is looking now, or has just seen.
    pub(crate) fn see(&self, look: impl FnOnce(&mut S) -> T) -> Result<Arc<T>, Busy> {
        let mut turn = self.turn();
        let looks = turn.looks;
        while let Some(began) = turn.looking {
            if let Some((at, seen)) = turn.last.as_ref()
                && at.elapsed() < WITHIN
            {
                return Ok(Arc::clone(seen));
            }
            let left = WITHIN.checked_sub(began.elapsed()).filter(|left| !left.is_zero()).ok_or(Busy)?;
            turn = self.over.wait_timeout(turn, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        if turn.looks > looks
            && let Some((_, seen)) = &turn.last
        {
            return Ok(Arc::clone(seen));
        }
        turn.looking = Some(Instant::now());
        drop(turn);
        let _ends = Looking(self);
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = Arc::new(look(&mut before));
        drop(before);
        let mut turn = self.turn();
        turn.looks += 1;
        turn.last = Some((Instant::now(), Arc::clone(&seen)));
        Ok(seen)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn who_asks_meanwhile_has_what_the_other_sees() {
        let shared = Shared::<u32, u32>::default();
        let (began, is_began) = mpsc::channel();
        let (go, may_go) = mpsc::channel::<()>();
        thread::scope(|scope| {
            let first = scope.spawn(|| {
                shared.see(move |before| {
                    began.send(()).expect("awaited");
                    may_go.recv().expect("told to go on");
                    *before += 1;
                    *before
                })
            });
            is_began.recv().expect("it began");
            let others: Vec<_> = (0..8).map(|_| scope.spawn(|| shared.see(|_| 100))).collect();
            go.send(()).expect("it waits");
            assert_eq!(first.join().expect("no panic").as_deref(), Ok(&1));
            for other in others {
                // One that came when all was over looked itself.
                let seen = other.join().expect("no panic").expect("never busy");
                assert!([1, 100].contains(&*seen), "{seen}");
            }
        });
    }

    #[test]
    fn a_look_that_hangs_makes_the_others_wait_so_long_and_no_longer() {
        let shared = Shared::<(), u32>::default();
        let (began, is_began) = mpsc::channel();
        let (go, may_go) = mpsc::channel::<()>();
        thread::scope(|scope| {
            let first = scope.spawn(|| {
                shared.see(move |()| {
                    began.send(()).expect("awaited");
                    may_go.recv().expect("told to go on");
                    7
                })
            });
            is_began.recv().expect("it began");
            let asked = Instant::now();
            assert_eq!(shared.see(|()| 8), Err(Busy));
            assert!(asked.elapsed() > WITHIN - Duration::from_secs(1), "{:?}", asked.elapsed());
            let asked = Instant::now();
            assert_eq!(shared.see(|()| 8), Err(Busy));
            assert!(asked.elapsed() < WITHIN, "nobody waits for it again");
            go.send(()).expect("it waits");
            assert_eq!(first.join().expect("no panic").as_deref(), Ok(&7));
        });
        assert_eq!(shared.see(|()| 8).as_deref(), Ok(&8));
    }

    #[test]
    fn one_that_panics_leaves_the_place_to_the_next() {
        let shared = Shared::<(), u32>::default();
        thread::scope(|scope| {
            scope.spawn(|| shared.see(|()| panic!("on purpose"))).join().expect_err("it panics");
        });
        assert_eq!(shared.see(|()| 8).as_deref(), Ok(&8));
    }
}
