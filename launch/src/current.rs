//! What holds now: taken whole by whoever begins something, replaced whole by a reload.

use std::sync::{Arc, PoisonError, RwLock};

/// A value that is replaced now and then. Whoever took the old one goes on with it, so that nothing
/// that is under way sees half of a change.
#[derive(Debug)]
pub struct Current<T>(RwLock<Arc<T>>);

impl<T> Current<T> {
    /// Holds this value.
    pub fn new(value: T) -> Current<T> {
        Current(RwLock::new(Arc::new(value)))
    }

    /// The value that holds now.
    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on this value holds.
    pub fn set(&self, value: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
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
}
