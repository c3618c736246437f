//! What is undone, or done later, unless it is finished: whatever becomes of the caller.

use super::{SessionId, Sessions, live::Counted};

/// A place in the table that is given back unless the session takes it.
pub(super) struct Place<'a> {
    sessions: &'a Sessions,
    taken: Option<(Counted, SessionId)>,
}

impl<'a> Place<'a> {
    pub(super) fn taken(sessions: &'a Sessions, one: Counted, id: SessionId) -> Self {
        Self { sessions, taken: Some((one, id)) }
    }

    pub(super) fn keep(mut self) {
        self.taken = None;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some((one, id)) = self.taken.take() {
            let mut table = self.sessions.table();
            table.release(&one);
            table.undeleted.push(id);
            self.sessions.stirred.send_replace(());
        }
    }
}

/// Ended sessions whose removal from disk is not confirmed, whatever becomes of the caller.
pub(super) struct Grave<'a> {
    sessions: &'a Sessions,
    ids: Vec<SessionId>,
}

impl<'a> Grave<'a> {
    pub(super) fn of(sessions: &'a Sessions, ids: Vec<SessionId>) -> Self {
        Self { sessions, ids }
    }

    pub(super) fn empty(mut self) {
        self.ids.clear();
    }
}

impl Drop for Grave<'_> {
    fn drop(&mut self) {
        if !self.ids.is_empty() {
            self.sessions.table().undeleted.append(&mut self.ids);
            self.sessions.stirred.send_replace(());
        }
    }
}
