//! Sessions of others: who may see and end which, and what happens to those whose user has gone.
//!
//! A caller is named by a token and by nothing else: a gateway that was taken over reaches no further than
//! the sessions whose tokens pass through it.

use std::{collections::BTreeSet, mem, time::Duration};

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    account::{Access, Username, Who},
    error::AuthError,
    rights::{Holders, Seen, still_has},
    secret::Token,
    session::{Dialect, Identity, Scope, Session, SessionId},
};

/// Rights count for 60 s at most; users are looked up twice in that time, since one answer that there is no
/// such user is not believed.
const LOOK_AGAIN_MS: u64 = 25_000;
/// How often the clock is looked at.
const PAUSE: Duration = Duration::from_secs(1);

/// What a caller wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// See them.
    List,
    /// End one.
    End,
    /// End all of the same account but the caller's own.
    EndOthers,
    /// Read what is recorded about them.
    ReadLogs,
}

impl Action {
    fn acl(self) -> &'static str {
        match self {
            Self::List => "sysadm.rpc.sessions.list",
            Self::End => "sysadm.rpc.sessions.end",
            Self::EndOthers => "sysadm.rpc.sessions.end_others",
            Self::ReadLogs => "sysadm.rpc.logs.read_logs",
        }
    }
}

/// Which sessions a caller may do that with.
///
/// # Errors
/// [`AuthError::Forbidden`] for a session that may not do it at all.
pub fn scope(caller: &Seen, action: Action) -> Result<Scope, AuthError> {
    let holder = &caller.session.holder;
    // Sessions of the token API are handed to other programs: they show nobody's sessions and end none.
    if holder.dialect == Dialect::Token || !caller.grants(action.acl()) {
        return Err(AuthError::Forbidden);
    }
    match (&holder.who, caller.access) {
        (Identity::User { .. }, Some(Access::Full)) => Ok(Scope::Everybody),
        (Identity::User { name, uid }, Some(Access::Limited) | None) => {
            Ok(Scope::Account { user: name.clone(), uid: *uid })
        }
        (Identity::Other { .. }, _) => Err(AuthError::Forbidden),
    }
}

impl Holders {
    /// The bearer of a token, and which sessions it may do this with.
    ///
    /// # Errors
    /// [`AuthError::NoSession`] for a token that opens nothing, [`AuthError::Forbidden`], and the user
    /// database's failures.
    pub async fn caller(&self, token: &Token, action: Action) -> Result<(Seen, Scope), AuthError> {
        // By every live token: one of the token API is not allowed to, rather than unknown.
        let caller = self.see(token, None, Dialect::Token).await.map_err(|failure| match failure {
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
        let Identity::User { name, uid } = &caller.session.holder.who else {
            return Err(AuthError::Forbidden);
        };
        let ended = self.sessions.end_others(name, *uid, caller.session.id).await?;
        said(&caller, ended);
        Ok(ended)
    }

    /// Ends the sessions of users who are gone or lost their access, also where no request comes that
    /// would tell; until `stop`.
    pub async fn keep(&self, stop: &CancellationToken) {
        let (mut last, mut round) = (self.sessions.now(), Round::default());
        let mut stirred = self.sessions.stirring();
        while self.sessions.rest(&mut stirred, PAUSE, stop).await {
            if self.sessions.now().saturating_sub(last) < LOOK_AGAIN_MS {
                continue;
            }
            last = self.sessions.now();
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.look_after_users(&mut round) => {}
            }
        }
    }

    /// Goes on with a round to its end. A user database that fails ends nothing; the next time it goes on
    /// after the user it failed at.
    async fn look_after_users(&self, round: &mut Round) {
        while let Some(user) = self.sessions.user_after(round.after.as_deref()) {
            round.after = Some(user.clone());
            let who = Username::parse(user.clone()).map(Who::Name);
            let found = match who {
                Some(who) => self.accounts.find(who).await,
                None => Ok(None),
            };
            let account = match found {
                Ok(account) => account,
                Err(failure) => {
                    warn!(cause = %doorward_launch::chain(&failure), "users cannot be looked up; their sessions stay");
                    return;
                }
            };
            if !round.believes(&user, account.is_some()) {
                warn!(user, "there is no such user, it is said; sessions stay until it is said once more");
                continue;
            }
            let stay =
                |session: &Session| account.as_ref().is_some_and(|account| still_has(session, account));
            // A failing store is logged where it fails, and tried again.
            let _ = self.sessions.end_departed(&user, stay).await;
        }
        round.over();
    }
}

/// Where a round over all users is, and who is said not to exist. Directories say so of everybody now and
/// then, while they begin or lose their server; the sessions of a host are not to end by that. Any other
/// answer counts at once.
#[derive(Debug, Default)]
struct Round {
    /// The last user that was asked about.
    after: Option<String>,
    missing_before: BTreeSet<String>,
    missing: BTreeSet<String>,
}

impl Round {
    /// Whether an answer about a user counts.
    fn believes(&mut self, user: &str, exists: bool) -> bool {
        if exists {
            return true;
        }
        self.missing.insert(user.to_owned());
        self.missing_before.contains(user)
    }

    /// The next answer about anybody is another round's.
    fn over(&mut self) {
        self.after = None;
        self.missing_before = mem::take(&mut self.missing);
    }
}

fn said(caller: &Seen, ended: usize) {
    let by = &caller.session;
    info!(session = %by.id, user = by.holder.who.shown(), ended, "a session ended others");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{secret::TokenHash, session::Holder};

    #[test]
    fn no_such_user_is_believed_at_the_second_round_in_a_row() {
        let mut round = Round::default();
        let mut answers = |all: [(&str, bool); 2]| {
            let believed = all.map(|(user, exists)| round.believes(user, exists));
            round.over();
            believed
        };
        assert_eq!(answers([("ann", true), ("bob", false)]), [true, false]);
        assert_eq!(answers([("ann", false), ("bob", true)]), [false, true]);
        assert_eq!(answers([("ann", true), ("bob", false)]), [true, false], "not in a row");
        assert_eq!(answers([("ann", false), ("bob", false)]), [false, true]);
        assert_eq!(answers([("ann", false), ("bob", false)]), [true, true]);
    }

    fn caller(access: Access, acl: &[&str], dialect: Dialect) -> Seen {
        let holder = Holder {
            who: Identity::User { name: "bob".into(), uid: 1001 },
            method: "password".into(),
            dialect,
            source: String::new(),
        };
        Seen {
            session: Session {
                id: SessionId([1; 16]),
                token: TokenHash([2; 32]),
                key: None,
                holder: Arc::new(holder),
                acl: None,
                started_utc: 1,
                started: 1,
                last_used: 1,
                idle_ms: 1,
                ends: 1,
            },
            idle_left: 1,
            absolute_left: 1,
            access: Some(access),
            acl: acl.iter().map(|entry| (*entry).to_owned()).collect(),
            turn: 0,
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
            (Access::Limited, &["sysadm.rpc.sessions.#"], Action::ReadLogs, None),
            (Access::Full, &["#", "!sysadm.rpc.logs.#"], Action::ReadLogs, None),
        ] {
            assert_eq!(
                scope(&caller(access, acl, Dialect::Sysadm), action).ok(),
                expected,
                "{acl:?} {action:?}"
            );
        }
    }

    #[test]
    fn who_is_no_user_of_the_host_reaches_nobody() {
        let text = |text: &str| text.to_owned();
        let mut bob = caller(Access::Full, &["#"], Dialect::Channel);
        assert_eq!(scope(&bob, Action::List).ok(), Some(Scope::Everybody));
        Arc::make_mut(&mut bob.session.holder).who =
            Identity::Other { kind: text("terminal"), id: text("bob"), pk: text("1"), name: text("bob") };
        for action in [Action::List, Action::End, Action::EndOthers, Action::ReadLogs] {
            assert!(matches!(scope(&bob, action), Err(AuthError::Forbidden)), "{action:?}");
        }
    }

    #[test]
    fn a_session_of_the_token_api_reaches_nobody() {
        for action in [Action::List, Action::End, Action::EndOthers, Action::ReadLogs] {
            let refused = scope(&caller(Access::Full, &["#"], Dialect::Token), action);
            assert!(matches!(refused, Err(AuthError::Forbidden)));
        }
    }
}
