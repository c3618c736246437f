//! The places of calls that are under way: so many of all, and a part of them of one user.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::bounds::{CALLS_BY_ONE, CALLS_MAX};

/// The places.
#[derive(Debug, Default)]
pub(crate) struct Seats(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    of_user: HashMap<String, usize>,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    user: String,
    of: Arc<Mutex<Taken>>,
}

impl Seats {
    /// A place for a call of this user, if there is one.
    pub(crate) fn take(&self, user: &str) -> Option<Seat> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_user = taken.of_user.get(user).copied().unwrap_or(0);
        if taken.all >= CALLS_MAX || of_user >= CALLS_BY_ONE {
            return None;
        }
        taken.all += 1;
        taken.of_user.insert(user.to_owned(), of_user + 1);
        Some(Seat { user: user.to_owned(), of: Arc::clone(&self.0) })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        if let Some(count) = taken.of_user.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                taken.of_user.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_leaves_places_for_others_and_all_come_back() {
        let seats = Seats::default();
        let mut held: Vec<Seat> = (0..CALLS_MAX).filter_map(|_| seats.take("u")).collect();
        assert_eq!(held.len(), CALLS_BY_ONE);
        held.extend((0..CALLS_MAX).filter_map(|n| seats.take(&format!("v{n}"))));
        assert_eq!(held.len(), CALLS_MAX);
        assert!(seats.take("w").is_none(), "there is no place at all");
        drop(held);
        let taken = seats.0.lock().expect("no panic");
        assert_eq!((taken.all, taken.of_user.len()), (0, 0));
    }
}
