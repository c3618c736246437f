//! How many questions a plug-in is asked at a time: in all, and for one source.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::conversation::SourceKey;

/// The places of one plug-in.
#[derive(Debug)]
pub(super) struct Seats {
    total: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    count: usize,
    of_source: HashMap<SourceKey, usize>,
}

/// A question under way. It is its source's for as long as it is, whether or not the source waits for the answer.
#[derive(Debug)]
pub(super) struct Seat(Arc<Seats>, #[expect(dead_code, reason = "it is held")] Arc<Share>);

/// What a login takes of what its source may have, until its answer is out and the question is none any more.
#[derive(Debug)]
pub struct Share(Arc<Seats>, SourceKey);

impl Seats {
    pub(super) fn new(total: usize) -> Self {
        Self { total, taken: Mutex::default() }
    }

    /// A place, if there is one; one source has a quarter of them at most.
    pub(super) fn take(self: &Arc<Self>, source: SourceKey) -> Result<(Seat, Arc<Share>), &'static str> {
        let mut taken = self.taken();
        if taken.count >= self.total {
            return Err("with one authenticator");
        }
        let of_source = taken.of_source.entry(source.clone()).or_default();
        if *of_source >= (self.total / 4).max(1) {
            return Err("of one source with one authenticator");
        }
        *of_source += 1;
        taken.count += 1;
        let share = Arc::new(Share(self.clone(), source));
        Ok((Seat(self.clone(), share.clone()), share))
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.taken().count -= 1;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.0.taken();
        if let Some(count) = taken.of_source.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                taken.of_source.remove(&self.1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_has_a_quarter_and_all_have_so_many() {
        let seats = Arc::new(Seats::new(8));
        let one = || seats.take(SourceKey::Uid(1));
        let held = (one().expect("room"), one().expect("room"));
        assert!(one().is_err());
        let others: Vec<_> = (2..8).map(|uid| seats.take(SourceKey::Uid(uid)).expect("room")).collect();
        assert_eq!(seats.take(SourceKey::Uid(9)).err(), Some("with one authenticator"));
        // A question that is answered makes room in all; its source is let in when its answer is out.
        let ((seat, share), _other) = held;
        drop(seat);
        assert!(one().is_err());
        drop(share);
        assert!(one().is_ok());
        drop(others);
        let alone = Arc::new(Seats::new(1));
        assert!(alone.take(SourceKey::Local).is_ok(), "one at least");
    }
}
