//! The sessions by what their tokens hash to: one pointer for each, as there may be a million.

use hashbrown::HashTable;

use super::{Session, TokenHash};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct ByToken(HashTable<Box<Session>>);

/// A cryptographic hash of what authd drew itself is as good as random: no second hash is needed.
fn spread(token: &TokenHash) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = token.0;
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

impl ByToken {
    pub(super) fn get(&self, token: &TokenHash) -> Option<&Session> {
        self.0.find(spread(token), |session| session.token == *token).map(Box::as_ref)
    }

    pub(super) fn get_mut(&mut self, token: &TokenHash) -> Option<&mut Session> {
        self.0.find_mut(spread(token), |session| session.token == *token).map(Box::as_mut)
    }

    /// Its token is nobody else's.
    pub(super) fn insert(&mut self, session: Session) {
        self.0.insert_unique(spread(&session.token), Box::new(session), |session| spread(&session.token));
    }

    pub(super) fn remove(&mut self, token: &TokenHash) -> Option<Session> {
        let place = self.0.find_entry(spread(token), |session| session.token == *token).ok()?;
        Some(*place.remove().0)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Session> {
        self.0.iter().map(Box::as_ref)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
