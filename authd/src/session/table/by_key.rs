//! Sessions that a registered key opens, and how a revocation ends them.

use std::sync::Arc;

use super::{
    super::{Proven, Revoked},
    EndReason, Holder, Session, Sessions, Token, TokenHash,
};
use crate::error::AuthError;

/// A login by key that is under way: what is revoked meanwhile is remembered for it.
#[derive(Debug)]
pub struct KeyLogin {
    sessions: Arc<Sessions>,
    number: u64,
}

impl Drop for KeyLogin {
    fn drop(&mut self) {
        self.sessions.table().openings.end(self.number);
    }
}

impl Sessions {
    /// [`Sessions::grant`], by a key.
    ///
    /// # Errors
    /// Its own, and [`AuthError::KeyRevoked`] when the key was revoked since the login began.
    pub async fn grant_by_key(
        &self,
        holder: Holder,
        key: Proven,
        login: &KeyLogin,
    ) -> Result<(Token, Session), AuthError> {
        self.open_session(holder, Some((key, login.number)), None).await
    }

    /// Begins a login by key: before certd is asked, so that no revocation is lost in between.
    pub fn key_login(self: &Arc<Self>) -> KeyLogin {
        let number = self.table().openings.begin(self.moment());
        KeyLogin { sessions: self.clone(), number }
    }

    /// Ends every session that this key opened for this user until it was revoked, and lets no login that
    /// is under way open another. On disk when this returns; how many there were.
    ///
    /// # Errors
    /// When the store fails; the sessions are ended all the same and the store is tried again.
    pub async fn end_by_key(&self, revoked: &Revoked) -> Result<usize, AuthError> {
        let ended: Vec<_> = {
            let now = self.moment();
            let mut table = self.table();
            table.openings.tell(revoked);
            let hashes = table.by_key.get(&revoked.fingerprint).cloned().unwrap_or_default();
            let ends =
                |hash: &TokenHash| table.by_token.get(hash).is_some_and(|s| s.is_ended_by(revoked, now));
            let due: Vec<_> = hashes.into_iter().filter(ends).collect();
            due.iter().filter_map(|hash| table.take(hash)).collect()
        };
        for session in &ended {
            self.tell(session, EndReason::KeyRevoked);
        }
        self.forget(ended.iter().map(|session| session.id).collect()).await?;
        Ok(ended.len())
    }

    /// Since when (seconds of UTC) a revocation may concern a session, or a login that is under way or
    /// begins now.
    pub fn revocable_since(&self) -> u64 {
        let now = self.moment();
        let table = self.table();
        let sessions = table.by_key.values().flatten().filter_map(|hash| table.by_token.get(hash));
        let oldest = sessions.filter_map(|session| session.revocable_from(now)).min();
        let login = table.openings.revocable_from(now);
        [oldest, login].into_iter().flatten().min().map_or(now.utc, |oldest| oldest.min(now.utc))
    }
}
