//! Sessions of others: who may see and end which, and what happens to those whose user has gone.
//!
//! A caller is named by a token and by nothing else: a gateway that was taken over reaches no further than
//! the sessions whose tokens pass through it.

use std::time::Duration;

use doorward_proto::acl;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    account::{Access, Account, Username, Who},
    error::AuthError,
    rights::{Holders, Seen},
    secret::Token,
    session::{Scope, SessionId},
};

/// Rights count for 60 s at most; users are looked up twice in that time.
const LOOK_AGAIN_MS: u64 = 30_000;
/// How often the clock is looked at.
const PAUSE: Duration = Duration::from_secs(1);
/// Sessions of other dialects are handed to other programs: they show nobody's sessions and end none.
const DIALECT: &str = "sysadm";

/// What a caller wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// See them.
    List,
    /// End one.
    End,
    /// End all of the same account but the caller's own.
    EndOthers,
}

impl Action {
    fn acl(self) -> &'static str {
        match self {
            Self::List => "sysadm.rpc.sessions.list",
            Self::End => "sysadm.rpc.sessions.end",
            Self::EndOthers => "sysadm.rpc.sessions.end_others",
        }
    }
}

/// Which sessions a caller may do that with.
///
/// # Errors
/// [`AuthError::Forbidden`] for a session that may not do it at all.
pub fn scope(caller: &Seen, action: Action) -> Result<Scope, AuthError> {
    let holder = &caller.session.holder;
    if holder.dialect != DIALECT || !acl::granted(&caller.acl, action.acl()) {
        return Err(AuthError::Forbidden);
    }
    Ok(match caller.access {
        Access::Full => Scope::Everybody,
        Access::Limited => Scope::Account { user: holder.user.clone(), uid: holder.uid },
    })
}

impl Holders {
    /// The bearer of a token, and which sessions it may do this with.
    ///
    /// # Errors
    /// [`AuthError::NoSession`] for a token that opens nothing, [`AuthError::Forbidden`], and the user
    /// database's failures.
    pub async fn caller(&self, token: &Token, action: Action) -> Result<(Seen, Scope), AuthError> {
        let caller = self.see(token, None).await.map_err(|failure| match failure {
            AuthError::NoSuchToken => AuthError::NoSession,
            other => other,
        })?;
        let scope = scope(&caller, action)?;
        Ok((caller, scope))
    }

    /// Ends a session by its name.
    ///
    /// # Errors
    /// Those of [`Holders::caller`], [`AuthError::NoSuchSession`], and the store's.
    pub async fn end_one(&self, token: &Token, session: Option<SessionId>) -> Result<usize, AuthError> {
        let (caller, scope) = self.caller(token, Action::End).await?;
        let session = session.ok_or(AuthError::NoSuchSession)?;
        if !self.sessions.end_named(&scope, session).await? {
            return Err(AuthError::NoSuchSession);
        }
        said(&caller, 1);
        Ok(1)
    }

    /// Ends every session of the caller's account but the caller's; how many there were.
    ///
    /// # Errors
    /// Those of [`Holders::caller`], and the store's.
    pub async fn end_others(&self, token: &Token) -> Result<usize, AuthError> {
        let (caller, _) = self.caller(token, Action::EndOthers).await?;
        let holder = &caller.session.holder;
        let ended = self.sessions.end_others(&holder.user, holder.uid, caller.session.id).await?;
        said(&caller, ended);
        Ok(ended)
    }

    /// Ends the sessions of users who are gone or lost their access, also where no request comes that
    /// would tell; until `stop`.
    pub async fn keep(&self, stop: &CancellationToken) {
        let (mut last, mut after) = (self.sessions.now(), None);
        let mut stirred = self.sessions.stirring();
        while self.sessions.rest(&mut stirred, PAUSE, stop).await {
            if self.sessions.now().saturating_sub(last) < LOOK_AGAIN_MS {
                continue;
            }
            last = self.sessions.now();
            after = tokio::select! {
                () = stop.cancelled() => None,
                rest = self.look_after_users(after.take()) => rest,
            };
        }
    }

    /// One round over all users. A user database that fails ends nothing and the round; the next one goes
    /// on after the user that is given back.
    async fn look_after_users(&self, mut after: Option<String>) -> Option<String> {
        while let Some(user) = self.sessions.user_after(after.as_deref()) {
            let who = Username::parse(user.clone()).map(Who::Name);
            let found = match who {
                Some(who) => self.accounts.find(who).await,
                None => Ok(None),
            };
            let account = match found {
                Ok(account) => account,
                Err(failure) => {
                    warn!(cause = %crate::error::chain(&failure), "users cannot be looked up; their sessions stay");
                    return Some(user);
                }
            };
            let still = account.filter(|account: &Account| account.access.is_some());
            // A failing store is logged where it fails, and tried again.
            let _ = self.sessions.end_departed(&user, still.map(|account| account.uid.as_u32())).await;
            after = Some(user);
        }
        None
    }
}

fn said(caller: &Seen, ended: usize) {
    let by = &caller.session;
    info!(session = %by.id, user = %by.holder.user, ended, "a session ended others");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        secret::TokenHash,
        session::{Holder, Session},
    };

    fn caller(access: Access, acl: &[&str], dialect: &str) -> Seen {
        let holder = Holder {
            user: "bob".into(),
            uid: 1001,
            method: "password".into(),
            dialect: dialect.into(),
            source: String::new(),
        };
        Seen {
            session: Session {
                id: SessionId([1; 16]),
                token: TokenHash([2; 32]),
                key: None,
                holder,
                started_utc: 1,
                started: 1,
                last_used: 1,
                idle_ms: 1,
                ends: 1,
            },
            idle_left: 1,
            absolute_left: 1,
            access,
            acl: acl.iter().map(|entry| (*entry).to_owned()).collect(),
        }
    }

    #[test]
    fn full_access_reaches_everybody_and_all_others_their_own_account() {
        let own = Scope::Account { user: "bob".into(), uid: 1001 };
        for (access, acl, action, expected) in [
            (Access::Full, &["#"][..], Action::List, Some(Scope::Everybody)),
            (Access::Full, &["#"], Action::End, Some(Scope::Everybody)),
            (Access::Limited, &["sysadm.rpc.sessions.#"], Action::List, Some(own.clone())),
            (Access::Limited, &["sysadm.rpc.sessions.#"], Action::EndOthers, Some(own.clone())),
            (Access::Limited, &["sysadm.rpc.sessions.list"], Action::List, Some(own)),
            (Access::Limited, &["sysadm.rpc.sessions.list"], Action::End, None),
            (Access::Limited, &["sysadm.rpc.sessions.end"], Action::EndOthers, None),
            (Access::Full, &["#", "!sysadm.rpc.sessions.end"], Action::End, None),
            (Access::Limited, &[], Action::List, None),
        ] {
            assert_eq!(scope(&caller(access, acl, "sysadm"), action).ok(), expected, "{acl:?} {action:?}");
        }
    }

    #[test]
    fn a_session_of_another_dialect_reaches_nobody() {
        for action in [Action::List, Action::End, Action::EndOthers] {
            let refused = scope(&caller(Access::Full, &["#"], "token"), action);
            assert!(matches!(refused, Err(AuthError::Forbidden)));
        }
    }
}
