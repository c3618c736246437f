//! A live session together with what its holder may do now.

mod entries;
mod maximum;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use doorward_launch::Current;
use doorward_proto::acl;

use self::entries::cut_down;
pub use self::{
    entries::{Acls, ENTRIES_MAX, Given, OfSubsystem, too_heavy, weight},
    maximum::{beyond, common, either, too_many},
};
use crate::{
    account::{Access, Account, Accounts, GOOD_FOR_MS, Username, Who},
    error::AuthError,
    secret::Token,
    session::{
        BY_JWT, Dialect, EndReason, Holder, Identity, KeyLogin, Proven, Session, Sessions, Standing, Terms,
    },
    vouched::{Limit, Newcomer},
};

/// How long rights may be relied upon whose look may have been kept already: a minute in all.
pub const RIGHTS_MS: u64 = 60_000 - GOOD_FOR_MS;

/// The longest life of a session of channels.
const CHANNEL_LIFE: Duration = Duration::from_secs(12 * 3600);

/// What takes a session up in the SysAdm dialect: a token of the token API that is not granted this opens
/// nothing there.
const TAKES_UP: &str = "sysadm.rpc.auth_token._";

/// A session as its token's bearer sees it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The session.
    pub session: Session,
    /// What is left of its idle clock, in milliseconds.
    pub idle_left: u64,
    /// What is left of its life, in milliseconds.
    pub absolute_left: u64,
    /// Its access class now; None: it has tokens and nothing else.
    pub access: Option<Access>,
    /// Its ACL entries.
    pub acl: Arc<[String]>,
    /// The number of the connection that holds it, where one may at a time; else 0.
    pub turn: u64,
}

impl Seen {
    /// Whether its entries grant this.
    pub fn grants(&self, subject: &str) -> bool {
        let (auth_id, session) = (self.auth_id(), self.session.id.to_string());
        acl::granted(&self.acl, subject, acl::Holder { auth_id: &auth_id, session: &session })
    }

    /// What entries mean by `me`.
    pub fn auth_id(&self) -> String {
        self.session.holder.who.auth_id()
    }

    /// Whether it may be used in this dialect. Every live session can be looked at through the token API;
    /// one that was opened there is no key to the host unless an entry makes it one.
    pub fn may_use(&self, dialect: Dialect) -> bool {
        match (self.session.holder.dialect, dialect) {
            (Dialect::Sysadm | Dialect::Channel, _) | (Dialect::Token, Dialect::Token) => true,
            (Dialect::Token, Dialect::Channel) => {
                self.acl.iter().any(|entry| maximum::reaches_channels(entry))
            }
            (Dialect::Token, Dialect::Sysadm) => self.access.is_some() && self.grants(TAKES_UP),
        }
    }
}

/// Why somebody may do something or may not.
#[derive(Debug)]
pub struct Explained {
    /// The access class.
    pub access: Option<Access>,
    /// The entries, with where they come from.
    pub given: Vec<Given>,
    /// Whether they grant it.
    pub allowed: bool,
    /// Which of them says so; None: none says anything.
    pub decided_by: Option<usize>,
}

/// Sessions and the accounts of those who hold them.
#[derive(Debug)]
pub struct Holders {
    /// The sessions.
    pub sessions: Arc<Sessions>,
    /// The accounts.
    pub accounts: Accounts,
    /// Which entries accounts have.
    pub acls: Current<Acls>,
    /// The kinds of identities that are no local users, and the most that each of them may do.
    pub kinds: BTreeMap<String, Arc<[String]>>,
    /// The most that users of the host may do by an issuer's word; None: no issuer speaks for them.
    pub users_by_jwt: Option<Arc<[String]>>,
}

impl Holders {
    /// Opens a session for an account that has been let in, `by_key` if that was how.
    ///
    /// # Errors
    /// At a bound, when the store fails, and when the key was revoked meanwhile.
    pub async fn grant(
        &self,
        holder: Holder,
        account: &Account,
        by_key: Option<(Proven, &KeyLogin)>,
    ) -> Result<(Token, Seen), AuthError> {
        let (token, session) = match by_key {
            Some((key, login)) => self.sessions.grant_by_key(holder, key, login).await?,
            None => self.sessions.grant(holder).await?,
        };
        Ok((token, self.begun(session, account)))
    }

    /// Opens a session of the token API, with the entries that the account has now.
    ///
    /// # Errors
    /// At a bound, and when the store fails.
    pub async fn grant_token(
        &self,
        holder: Holder,
        account: &Account,
        life: Duration,
    ) -> Result<(Token, Seen), AuthError> {
        let acl = self.acls.get().entries(account, Dialect::Token);
        let terms = Terms { life, acl: Some(acl), only_one: false };
        let (token, session) = self.sessions.grant_on(holder, terms).await?;
        Ok((token, self.begun(session, account)))
    }

    /// Opens a session of channels: it ends when it ends, however much it is used.
    ///
    /// # Errors
    /// At a bound, when the store fails, and when no assertion could carry its entries.
    pub async fn grant_channel(
        &self,
        holder: Holder,
        account: &Account,
        limit: Option<Limit>,
    ) -> Result<(Token, Seen), AuthError> {
        let (mut life, mut acl) = (self.channel_life(), None);
        if let Some(limit) = limit {
            let now = self.acls.get().entries(account, holder.dialect);
            life = life.min(Duration::from_millis(limit.ends.saturating_sub(self.sessions.now())));
            let both = common(&limit.acl, &now, &holder.who.auth_id());
            if too_heavy(&both) {
                return Err(AuthError::BadRequest(
                    "the token and the account give too many entries together",
                ));
            }
            acl = Some(both.into());
        }
        let (token, session) = self.sessions.grant_on(holder, Terms { life, acl, only_one: false }).await?;
        Ok((token, self.begun(session, account)))
    }

    /// Opens a session of somebody who has no account, for so long at most; None: as long as one of channels.
    ///
    /// # Errors
    /// At a bound, and when the store fails.
    pub async fn grant_other(
        &self,
        holder: Holder,
        newcomer: &Newcomer,
        wished: Option<Duration>,
    ) -> Result<(Token, Seen), AuthError> {
        let longest = wished.unwrap_or_else(|| self.channel_life());
        let life = newcomer.life.map_or(longest, |life| life.min(longest));
        let terms = Terms { life, acl: Some(newcomer.acl.clone()), only_one: newcomer.only_one };
        let (token, session) = self.sessions.grant_on(holder, terms).await?;
        let left = session.ends - session.started;
        let turn = self.sessions.turn(session.id);
        let seen = seen(session, (left, left), (Some(Access::Limited), newcomer.acl.clone()));
        Ok((token, Seen { turn, ..seen }))
    }

    /// How long a session of channels lives at most.
    fn channel_life(&self) -> Duration {
        self.sessions.bounds().absolute.min(CHANNEL_LIFE)
    }

    fn begun(&self, session: Session, account: &Account) -> Seen {
        let absolute_left = session.ends - session.started;
        let idle_left = if session.idle_ms == 0 { absolute_left } else { session.idle_ms };
        let rights = self.rights(&session, account);
        seen(session, (idle_left, absolute_left), rights)
    }

    /// What the session of a local user may do now.
    fn rights(&self, session: &Session, account: &Account) -> Rights {
        let dialect = session.holder.dialect;
        let now = self.acls.get().entries(account, dialect);
        let Some(given) = &session.acl else { return (account.access, now) };
        let auth_id = session.holder.who.auth_id();
        let acl = match dialect {
            Dialect::Token | Dialect::Sysadm => cut_down(given, &now),
            // An issuer's word was about some of what the user may do, and is good for what it is good for now.
            Dialect::Channel => {
                let most = self.users_by_jwt.as_deref().unwrap_or_default();
                common(&common(given, &now, &auth_id), most, &auth_id).into()
            }
        };
        // Its entries are all that it may do, whoever holds it: it is nobody's full access.
        (account.access.map(|_| Access::Limited), acl)
    }

    /// What the session of a local user may do by the user database; None: it is not the same user any more, has lost
    /// all access, or nobody speaks for them.
    async fn rights_of_user(&self, session: &Session, name: Username) -> Result<Option<Rights>, AuthError> {
        if !self.vouched(&session.holder) {
            return Ok(None);
        }
        // Directories say of everybody now and then that they are missing. It is the sweep that believes it, when it
        // is said twice; they lose groups as well, so that is asked twice here.
        let recent = self.accounts.recent(name.clone()).await?.ok_or(AuthError::UserMissing)?;
        if still_has(session, &recent) {
            return Ok(Some(self.rights(session, &recent)));
        }
        let again = self.accounts.find(Who::Name(name)).await?.ok_or(AuthError::UserMissing)?;
        Ok(still_has(session, &again).then(|| self.rights(session, &again)))
    }

    /// What the session of somebody else may do now; None: nobody is of that kind any more.
    fn rights_of_other(&self, session: &Session, kind: &str) -> Option<Rights> {
        let most = self.kinds.get(kind)?;
        let given = session.acl.as_deref().unwrap_or_default();
        let acl = common(given, most, &session.holder.who.auth_id());
        Some((Some(Access::Limited), acl.into()))
    }

    /// Whether the configuration still has somebody who speaks for such a holder, where one must.
    fn vouched(&self, holder: &Holder) -> bool {
        match &holder.who {
            Identity::User { .. } => holder.method != BY_JWT || self.users_by_jwt.is_some(),
            Identity::Other { kind, .. } => self.kinds.contains_key(kind),
        }
    }

    /// Ends the sessions for whose holders nobody speaks any more. The configuration says who does when authd
    /// starts; later there are none.
    ///
    /// # Errors
    /// When the store fails; the sessions are ended all the same and the store is tried again.
    pub async fn end_unvouched(&self) -> Result<usize, AuthError> {
        self.sessions.end_unless(|holder| self.vouched(holder)).await
    }

    /// The live session of a token for use in a dialect, after asking whether its user still is who they
    /// were and may do anything; if not, the session ends here. A use through the token API moves no clock.
    ///
    /// # Errors
    /// [`AuthError::NoSuchToken`] for every token that opens nothing in the dialect; the user database's
    /// failures, and [`AuthError::UserMissing`].
    pub async fn see(
        &self,
        token: &Token,
        used_ms_ago: Option<u64>,
        dialect: Dialect,
    ) -> Result<Seen, AuthError> {
        let used_ms_ago = used_ms_ago.filter(|_| dialect != Dialect::Token);
        let (session, _) = self.sessions.check(token, used_ms_ago).ok_or(AuthError::NoSuchToken)?;
        let rights = match &session.holder.who {
            Identity::User { name, .. } => {
                let name = Username::parse(name.clone()).ok_or(AuthError::UserMissing)?;
                self.rights_of_user(&session, name).await?
            }
            Identity::Other { kind, .. } => self.rights_of_other(&session, kind),
        };
        let Some(rights) = rights else {
            self.sessions.end(token, EndReason::UserGone).await?;
            return Err(AuthError::NoSuchToken);
        };
        // Again: it may have ended while the user was looked up, and an end counts at once.
        let (session, standing) = self.sessions.check(token, None).ok_or(AuthError::NoSuchToken)?;
        let Standing::Live { idle_left, absolute_left } = standing else {
            return Err(AuthError::NoSuchToken);
        };
        let turn = self.sessions.turn(session.id);
        let seen = Seen { turn, ..seen(session, (idle_left, absolute_left), rights) };
        if seen.may_use(dialect) { Ok(seen) } else { Err(AuthError::NoSuchToken) }
    }

    /// The same, counted as a successful request.
    ///
    /// # Errors
    /// Like [`Holders::see`].
    pub async fn take_up(&self, token: &Token, dialect: Dialect) -> Result<Seen, AuthError> {
        let seen = self.see(token, None, dialect).await?;
        match self.sessions.check(token, Some(0)) {
            Some((session, Standing::Live { idle_left, absolute_left })) => {
                Ok(Seen { session, idle_left, absolute_left, ..seen })
            }
            _ => Err(AuthError::NoSuchToken),
        }
    }

    /// The same session, held by this connection alone from now on if one may hold it at a time.
    ///
    /// # Errors
    /// When it has ended, and when the store fails.
    pub async fn take_turn(&self, seen: Seen, by: uuid::Uuid) -> Result<Seen, AuthError> {
        let turn = self.sessions.take_turn(seen.session.id, by).await?;
        Ok(Seen { turn, ..seen })
    }

    /// What the entries of a user say of a subject, were there a session of this dialect now.
    ///
    /// # Errors
    /// [`AuthError::NoSuchUser`], and the user database's failures.
    pub async fn explain(
        &self,
        user: Username,
        subject: &str,
        dialect: Dialect,
    ) -> Result<Explained, AuthError> {
        let account = self.accounts.find(Who::Name(user)).await?.ok_or(AuthError::NoSuchUser)?;
        let given = self.acls.get().given(&account, dialect);
        let entries: Vec<String> = given.iter().map(|given| given.entry.clone()).collect();
        let auth_id = account.uid.as_u32().to_string();
        let holder = acl::Holder { auth_id: &auth_id, session: "" };
        let decided_by = acl::deciding(&entries, subject, holder);
        let allowed = acl::granted(&entries, subject, holder);
        Ok(Explained { access: account.access, given, allowed, decided_by })
    }
}

/// The access class and the entries.
type Rights = (Option<Access>, Arc<[String]>);

fn seen(session: Session, (idle_left, absolute_left): (u64, u64), (access, acl): Rights) -> Seen {
    Seen { session, idle_left, absolute_left, access, acl, turn: 0 }
}

/// Whether the account is the one that a session was opened for, and may still hold such a session: what opens
/// nothing for full access is no way to it by a group that comes later.
pub fn still_has(session: &Session, account: &Account) -> bool {
    let holder = &session.holder;
    let limited = session.key.as_ref().is_some_and(|key| !key.full_access);
    holder.who.uid() == Some(account.uid.as_u32())
        && account.may_use(holder.dialect)
        && !(limited && account.access == Some(Access::Full))
}
