//! What holds now: taken whole by whoever begins something, replaced whole by a reload.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicU64, Ordering},
};

/// A value that is replaced now and then. Whoever took the old one goes on with it, so that nothing
/// that is under way sees half of a change.
#[derive(Debug)]
pub struct Current<T> {
    value: RwLock<Arc<T>>,
    changes: AtomicU64,
}

impl<T> Current<T> {
    /// Holds this value.
    pub fn new(value: T) -> Current<T> {
        Current { value: RwLock::new(Arc::new(value)), changes: AtomicU64::new(0) }
    }

    /// The value that holds now.
    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.value.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on this value holds.
    pub fn set(&self, value: T) {
        *self.value.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// How often it was replaced. Whoever takes the number first and the value then, and finds the same number later,
    /// has the value that holds: it is counted only when it can be taken.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_took_the_old_value_keeps_it() {
        let current = Current::new(1);
        let old = current.get();
        current.set(2);
        assert_eq!((*old, *current.get()), (1, 2));
    }

    #[test]
    fn a_change_is_counted() {
        let current = Current::new(1);
        let before = current.changes();
        assert_eq!(current.changes(), before);
        current.set(1);
        assert_ne!(current.changes(), before);
    }
}
