//! What many sessions have alike, once in memory.

use std::{collections::HashMap, hash::Hash, sync::Arc};

/// Values, and how many use each.
#[derive(Debug)]
pub(super) struct Shared<T: ?Sized>(HashMap<Arc<T>, usize>);

impl<T: ?Sized> Default for Shared<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: ?Sized + Eq + Hash> Shared<T> {
    /// The one that is there already, or this one; it has one user more.
    pub(super) fn one(&mut self, value: Arc<T>) -> Arc<T> {
        let shared = self.0.get_key_value(&value).map_or(value, |(shared, _)| shared.clone());
        *self.0.entry(shared.clone()).or_default() += 1;
        shared
    }

    /// It has one user less, and is gone with the last.
    pub(super) fn leave(&mut self, value: &Arc<T>) {
        if let Some(users) = self.0.get_mut(value) {
            *users -= 1;
            if *users == 0 {
                self.0.remove(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alike_is_the_same_and_nothing_stays_behind() {
        let mut shared: Shared<str> = Shared::default();
        let (first, second) = (shared.one("a".into()), shared.one("a".into()));
        assert!(Arc::ptr_eq(&first, &second));
        assert!(!Arc::ptr_eq(&first, &shared.one("b".into())));
        shared.leave(&first);
        assert!(Arc::ptr_eq(&first, &shared.one("a".into())), "another still uses it");
        for value in ["a", "a", "b"] {
            shared.leave(&value.into());
        }
        assert!(shared.0.is_empty());
        shared.leave(&"c".into());
    }
}
