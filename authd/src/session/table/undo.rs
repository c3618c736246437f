//! What is undone, or done later, unless it is finished: whatever becomes of the caller.

use super::{SessionId, Sessions, live::Counted};
use crate::secret::TokenHash;

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

/// Sessions whose use is not on disk, whatever becomes of the caller: the next that writes writes it.
pub(super) struct Owed<'a> {
    sessions: &'a Sessions,
    hashes: Vec<TokenHash>,
}

impl<'a> Owed<'a> {
    pub(super) fn of(sessions: &'a Sessions, hashes: Vec<TokenHash>) -> Self {
        Self { sessions, hashes }
    }

    pub(super) fn written(mut self) {
        self.hashes.clear();
    }
}

impl Drop for Owed<'_> {
    fn drop(&mut self) {
        if !self.hashes.is_empty() {
            self.sessions.table().unsaved.extend(self.hashes.drain(..));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use crate::session::{
        Standing, Used,
        tests::{hand, holder, open},
    };

    #[tokio::test]
    async fn a_use_is_written_although_nobody_waits_for_it_any_more() {
        let (directory, hand) = (tempfile::tempdir().expect("temp dir"), hand());
        let sessions = open(directory.path(), &hand);
        let (token, _) = sessions.grant(holder("alice")).await.expect("granted");
        hand.forward(100_000);
        // The store has no time for it, and the gateway that told of it goes away.
        let busy = sessions.store.write().await;
        let told = sessions.report(vec![Used { token: token.clone(), ago_ms: 0 }]).now_or_never();
        assert!(told.is_none());
        drop(busy);
        sessions.close().await;
        let sessions = open(directory.path(), &hand);
        let (_, standing) = sessions.check(&token, None).expect("alive");
        assert_eq!(standing, Standing::Live { idle_left: 300_000, absolute_left: 43_100_000 });
        sessions.close().await;
    }
}
