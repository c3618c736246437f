//! A connection on which nobody is logged in any more.

use super::{Close, Connection};

impl Connection {
    /// Where somebody was logged in and is no more, nobody is: it counts as it did before the login, and where there is
    /// no room for one more the connection ends. Who asked for that hears the answer first.
    pub(super) fn newcomes(&mut self) {
        if self.permit.is_none() && !self.session.is_logging_out() && self.close.is_none() {
            self.permit = self.client.newcomer(&self.shared);
            if self.permit.is_none() {
                self.close = Some(Close::Policy("too many are not logged in"));
            }
        }
    }
}
