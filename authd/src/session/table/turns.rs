//! Sessions that one connection may hold at a time: whose turn it is.
//!
//! authd numbers the connections that take such a session up; the highest number holds it. Gateways are told each
//! number, and end connections with lower ones: so of several that come at once, here or there, exactly one stays.

use std::sync::atomic::Ordering;

use uuid::Uuid;

use super::{SessionId, Sessions};
use crate::error::AuthError;

/// Whose turn it is to hold a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    /// Higher than that of everybody who held the session before; never 0.
    pub(super) number: u64,
    /// The connection; None: nobody's yet, or it was before authd started.
    by: Option<Uuid>,
}

impl Turn {
    pub(super) fn nobodys(number: u64) -> Self {
        Self { number, by: None }
    }

    /// A connection has come to hold it; whether its number is the highest.
    fn passes_to(&mut self, number: u64, by: Uuid) -> bool {
        let passes = number > self.number;
        if passes {
            *self = Self { number, by: Some(by) };
        }
        passes
    }
}

impl Sessions {
    /// The number of the connection that took a session up last; 0: any number of them may hold it.
    pub fn turn(&self, id: SessionId) -> u64 {
        self.table().turns.get(&id).map_or(0, |turn| turn.number)
    }

    /// A connection takes a session up. Its number, which is on disk and told when this returns: a gateway that hears of
    /// it late, or after authd was killed, finds the same. 0: any number of connections may hold the session.
    ///
    /// # Errors
    /// [`AuthError::NoSuchToken`] when the session has ended meanwhile, and when the store fails.
    pub async fn take_turn(&self, id: SessionId, by: Uuid) -> Result<u64, AuthError> {
        match self.table().turns.get(&id) {
            None => return Ok(0),
            // Who holds it already takes it from nobody.
            Some(turn) if turn.by == Some(by) => return Ok(turn.number),
            Some(_) => {}
        }
        let number = self.next_turn();
        self.with_store(async |store| store.turn(id, number).await).await?;
        let mut table = self.table();
        let turn = table.turns.get_mut(&id).ok_or(AuthError::NoSuchToken)?;
        if turn.passes_to(number, by) {
            // Nobody watching is fine.
            let _ = self.news.send(super::News::TakenUp { session: id, turn: number });
        }
        Ok(number)
    }

    /// Higher than every other.
    pub(super) fn next_turn(&self) -> u64 {
        self.turns.fetch_add(1, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_number_holds_it_whichever_is_told_last() {
        let [one, two] = [1, 2].map(Uuid::from_u128);
        let mut turn = Turn::nobodys(1);
        assert!(turn.passes_to(3, two));
        assert!(!turn.passes_to(2, one));
        assert_eq!(turn, Turn { number: 3, by: Some(two) });
    }
}
