//! A connection whose user has logged out.

use super::{Close, Connection};

impl Connection {
    /// Where somebody has to log in again, in the time that a newcomer has, it counts as it did before the login, and where
    /// there is no room for one more the connection ends. Who asked for that hears the answer first.
    ///
    /// One whose session went idle may stay as it is for as long as it likes, and counts as it did while somebody was
    /// logged in, as one of all connections: a few that are left open must not shut their source out.
    pub(super) fn newcomes(&mut self) {
        let awaited = self.session.awaits_login() && !self.session.is_logging_out();
        if self.permit.is_none() && awaited && self.close.is_none() {
            self.permit = self.client.newcomer(&self.shared);
            if self.permit.is_none() {
                self.close = Some(Close::Policy("too many are not logged in"));
            }
        }
    }
}
