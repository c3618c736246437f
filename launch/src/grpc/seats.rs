//! How many connections, or unfinished requests, each uid has.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Who holds how many.
#[derive(Clone, Default)]
pub(super) struct Seats(Arc<Mutex<HashMap<u32, usize>>>);

impl Seats {
    /// A place for one more of this uid's, if there is one.
    pub(super) fn take(&self, uid: u32, per_uid: usize, total: usize) -> Option<Slot> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Bounded by the sum, so no uid is in the table for nothing.
        let all: usize = taken.values().sum();
        let of_uid = taken.get(&uid).copied().unwrap_or(0);
        if all >= total || of_uid >= per_uid {
            return None;
        }
        taken.insert(uid, of_uid + 1);
        Some(Slot { seats: self.clone(), uid })
    }
}

/// One place, given back when it is dropped.
pub(super) struct Slot {
    seats: Seats,
    uid: u32,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.seats.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.uid);
            }
        }
    }
}
