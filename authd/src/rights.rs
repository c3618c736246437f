//! A live session together with what its holder may do now.

use std::sync::Arc;

use doorward_launch::Current;

use crate::{
    account::{Access, Account, Accounts, Username, Who},
    error::AuthError,
    secret::Token,
    session::{EndReason, Fingerprint, Holder, KeyLogin, Session, Sessions, Standing},
};

/// How long the rights that were just looked up may be relied upon.
pub const RIGHTS_MS: u64 = 60_000;

/// What each access class may do: ACL entries.
#[derive(Debug, Clone)]
pub struct Acls {
    /// Of full access.
    pub full: Arc<[String]>,
    /// Of limited access.
    pub limited: Arc<[String]>,
}

impl Acls {
    /// Full access is everything; limited access is what is configured.
    pub fn new(limited: Vec<String>) -> Self {
        Self { full: Arc::from([String::from("#")]), limited: limited.into() }
    }
}

/// A session as its token's bearer sees it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The session.
    pub session: Session,
    /// What is left of its idle clock, in milliseconds.
    pub idle_left: u64,
    /// What is left of its life, in milliseconds.
    pub absolute_left: u64,
    /// Its holder's access class now.
    pub access: Access,
    /// Its ACL entries.
    pub acl: Arc<[String]>,
}

/// Sessions and the accounts of those who hold them.
#[derive(Debug)]
pub struct Holders {
    /// The sessions.
    pub sessions: Arc<Sessions>,
    /// The accounts.
    pub accounts: Accounts,
    /// What access classes may do.
    pub acls: Current<Acls>,
}

impl Holders {
    /// Opens a session for an account that has been let in, `by_key` if that was how.
    ///
    /// # Errors
    /// At a bound, when the store fails, and when the key was revoked meanwhile.
    pub async fn grant(
        &self,
        holder: Holder,
        access: Access,
        by_key: Option<(Fingerprint, &KeyLogin)>,
    ) -> Result<(Token, Seen), AuthError> {
        let (token, session) = match by_key {
            Some((key, login)) => self.sessions.grant_by_key(holder, key, login).await?,
            None => self.sessions.grant(holder).await?,
        };
        let life = session.ends - session.started;
        let idle_left = if session.idle_ms == 0 { life } else { session.idle_ms };
        let seen = Seen { idle_left, absolute_left: life, access, acl: self.acl(access), session };
        Ok((token, seen))
    }

    /// The live session of a token, after asking whether its user still is who they were and may do
    /// anything; if not, the session ends here.
    ///
    /// # Errors
    /// [`AuthError::NoSuchToken`] for every token that opens nothing; the user database's failures.
    pub async fn see(&self, token: &Token, used_ms_ago: Option<u64>) -> Result<Seen, AuthError> {
        let (session, _) = self.sessions.check(token, used_ms_ago).ok_or(AuthError::NoSuchToken)?;
        let who = Username::parse(session.holder.user.clone()).map(Who::Name);
        let account = match who {
            Some(who) => self.accounts.find(who).await?,
            None => None,
        };
        let still = |account: &Account| account.uid.as_u32() == session.holder.uid;
        let Some(access) = account.filter(still).and_then(|account| account.access) else {
            self.sessions.end(token, EndReason::UserGone).await?;
            return Err(AuthError::NoSuchToken);
        };
        // Again: it may have ended while the user was looked up, and an end counts at once.
        let (session, standing) = self.sessions.check(token, None).ok_or(AuthError::NoSuchToken)?;
        let Standing::Live { idle_left, absolute_left } = standing else {
            return Err(AuthError::NoSuchToken);
        };
        Ok(Seen { session, idle_left, absolute_left, access, acl: self.acl(access) })
    }

    /// The same, counted as a successful request.
    ///
    /// # Errors
    /// Like [`Holders::see`].
    pub async fn take_up(&self, token: &Token) -> Result<Seen, AuthError> {
        let seen = self.see(token, None).await?;
        match self.sessions.check(token, Some(0)) {
            Some((session, Standing::Live { idle_left, absolute_left })) => {
                Ok(Seen { session, idle_left, absolute_left, ..seen })
            }
            _ => Err(AuthError::NoSuchToken),
        }
    }

    fn acl(&self, access: Access) -> Arc<[String]> {
        match access {
            Access::Full => self.acls.get().full.clone(),
            Access::Limited => self.acls.get().limited.clone(),
        }
    }
}
