//! Sessions as others see them: listed, ended by their names, followed user by user.

use std::{collections::BTreeSet, ops::Bound};

use super::{
    super::{
        Identity, Owner,
        keys::{Moment, SLACK},
    },
    EndReason, Holder, Session, SessionId, Sessions, Standing,
};
use crate::error::AuthError;

/// Which sessions somebody may see and end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Those of one local user.
    Account {
        /// Its name.
        user: String,
        /// Its uid: whoever has the name now need not be who had it.
        uid: u32,
    },
    /// All.
    Everybody,
}

/// Whether it is this user, the uid included.
fn is(who: &Identity, user: &str, number: u32) -> bool {
    matches!(who, Identity::User { name, uid } if name == user && *uid == number)
}

impl Scope {
    fn holds(&self, session: &Session) -> bool {
        match self {
            Self::Account { user, uid } => is(&session.holder.who, user, *uid),
            Self::Everybody => true,
        }
    }
}

/// A session as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The session.
    pub session: Session,
    /// Its beginning, in seconds of UTC by the clock as it goes now.
    pub started_utc: u64,
    /// Its last use, likewise.
    pub last_used_utc: u64,
}

impl Listed {
    /// What was noted at the beginning holds unless the clock was set since: then both times are
    /// counted back from now, so that they fit each other and today's clock.
    fn new(session: &Session, now: Moment) -> Self {
        let started_utc = started_utc(session, now);
        let last_used_utc = now.utc_at(session.last_used).max(started_utc);
        Self { session: session.clone(), started_utc, last_used_utc }
    }
}

fn started_utc(session: &Session, now: Moment) -> u64 {
    let counted = now.utc_at(session.started);
    let noted = session.started_utc;
    if counted.abs_diff(noted) <= SLACK { noted } else { counted }
}

impl Sessions {
    /// When a session began and when it ends if nobody uses it, in seconds of UTC by the clock as it goes now.
    pub fn times_utc(&self, session: &Session) -> (u64, u64) {
        let began = started_utc(session, self.moment());
        (began, began.saturating_add(session.ends_unused().saturating_sub(session.started) / 1000))
    }

    /// Up to `most` live sessions of a scope whose names come after `after`, in the order of names.
    /// Empty: there are no more.
    pub fn page(&self, scope: &Scope, after: Option<SessionId>, most: usize) -> Vec<Listed> {
        let now = self.moment();
        let table = self.table();
        let from = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let live = |session: &&Session| {
            scope.holds(session) && matches!(session.standing(now.at), Standing::Live { .. })
        };
        let listed = |session: &Session| Listed::new(session, now);
        match scope {
            Scope::Account { user, .. } => {
                let owner = Owner::User(user.clone());
                let ids = table.by_owner.get(&owner).into_iter().flat_map(|ids| ids.range(from));
                ids.filter_map(|id| table.named(*id)).filter(live).take(most).map(listed).collect()
            }
            Scope::Everybody => {
                let ids = table.by_id.range(from);
                let sessions = ids.filter_map(|(_, hash)| table.by_token.get(hash));
                sessions.filter(live).take(most).map(listed).collect()
            }
        }
    }

    /// Whether a session is there and alive.
    pub fn lives(&self, id: SessionId) -> bool {
        let now = self.clock.now();
        self.table().named(id).is_some_and(|session| matches!(session.standing(now), Standing::Live { .. }))
    }

    /// Ends a live session of a scope; whether there was one. On disk when this returns.
    ///
    /// # Errors
    /// When the store fails; the session is ended all the same and the store is tried again.
    pub async fn end_named(&self, scope: &Scope, id: SessionId) -> Result<bool, AuthError> {
        let now = self.clock.now();
        let ends = |session: &Session| {
            session.id == id && scope.holds(session) && matches!(session.standing(now), Standing::Live { .. })
        };
        Ok(self.revoke(&BTreeSet::from([id]), ends, EndReason::Revoked).await? == 1)
    }

    /// Ends all sessions of an account but one; how many there were. On disk when this returns.
    ///
    /// # Errors
    /// As with [`Sessions::end_named`].
    pub async fn end_others(&self, user: &str, uid: u32, but: SessionId) -> Result<usize, AuthError> {
        let ends = |session: &Session| session.id != but && is(&session.holder.who, user, uid);
        self.revoke(&self.of_user(user), ends, EndReason::Revoked).await
    }

    /// Ends the sessions of a user's name, except those that `stay`; how many there were. On disk
    /// when this returns.
    ///
    /// # Errors
    /// As with [`Sessions::end_named`].
    pub async fn end_departed(
        &self,
        user: &str,
        stay: impl Fn(&Session) -> bool,
    ) -> Result<usize, AuthError> {
        self.revoke(&self.of_user(user), |session| !stay(session), EndReason::UserGone).await
    }

    /// Ends every session whose holder does not `stay`, whoever it is; how many there were. On disk when this
    /// returns.
    ///
    /// # Errors
    /// As with [`Sessions::end_named`].
    pub async fn end_unless(&self, stays: impl Fn(&Holder) -> bool) -> Result<usize, AuthError> {
        let all: BTreeSet<_> = self.table().by_id.keys().copied().collect();
        self.revoke(&all, |session| !stays(&session.holder), EndReason::UserGone).await
    }

    /// The first local user with a session whose name comes after this one.
    pub fn user_after(&self, user: Option<&str>) -> Option<String> {
        let from = user.map_or(Bound::Unbounded, |user| Bound::Excluded(Owner::User(user.to_owned())));
        match self.table().by_owner.range((from, Bound::Unbounded)).next() {
            Some((Owner::User(user), _)) => Some(user.clone()),
            // Of others no database is asked.
            Some((Owner::Other { .. }, _)) | None => None,
        }
    }

    /// Now, on the clock of sessions.
    pub fn now(&self) -> u64 {
        self.clock.now()
    }

    fn of_user(&self, user: &str) -> BTreeSet<SessionId> {
        self.table().by_owner.get(&Owner::User(user.to_owned())).cloned().unwrap_or_default()
    }

    async fn revoke(
        &self,
        ids: &BTreeSet<SessionId>,
        ends: impl Fn(&Session) -> bool,
        reason: EndReason,
    ) -> Result<usize, AuthError> {
        let ended: Vec<_> = {
            let mut table = self.table();
            let due: Vec<_> =
                ids.iter().filter_map(|id| table.named(*id)).filter(|s| ends(s)).map(|s| s.token).collect();
            due.iter().filter_map(|hash| table.take(hash)).collect()
        };
        for session in &ended {
            self.tell(session, reason);
        }
        self.forget(ended.iter().map(|session| session.id).collect()).await?;
        Ok(ended.len())
    }
}
