//! The end of a login that is granted: a session, and who hears of it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    super::{Outcome, Purpose, Reply},
    Run,
};
use crate::{
    account::Account,
    error::AuthError,
    method::Cause,
    rights::Seen,
    secret::Token,
    session::{EndReason, Fingerprint, Holder, Identity, Proven},
    vouched::{Limit, Newcomer},
};

impl Run {
    pub(super) async fn grant(
        &mut self,
        account: Account,
        (key, limit): (Option<Proven>, Option<Limit>),
        mut reply: Reply,
        end: &CancellationToken,
    ) {
        // The worker has nothing more to say; what it left behind is ended while the client goes on.
        self.end_conversation();
        if !self.waited(None, &mut reply, end).await {
            return;
        }
        let name = account.name.as_str().to_owned();
        let holder = self.holder(Identity::User { name, uid: account.uid.as_u32() });
        if !account.may_use(holder.dialect) {
            return self.refuse(Cause::NoAccessGroup, Some(Duration::ZERO), reply, end).await;
        }
        let now = self.logins.parts.holders.sessions.now();
        if limit.as_ref().is_some_and(|limit| limit.ends <= now) {
            // It was over before PAM or the wait about the account were.
            return self.refuse(Cause::JwtTime, Some(Duration::ZERO), reply, end).await;
        }
        let by_key = key.zip(self.key_login.as_ref());
        let holders = &self.logins.parts.holders;
        let opened = match &self.asker.purpose {
            Purpose::Channel => holders.grant_channel(holder, &account, limit).await,
            // Only channels know such logins: one would have more than the issuer's word is good for.
            Purpose::Sysadm | Purpose::Token(_) if limit.is_some() => Err(AuthError::Gone("the login")),
            Purpose::Sysadm => holders.grant(holder, &account, by_key).await,
            Purpose::Token(wish) => match self.logins.parts.token_rules.get().life(wish.seconds) {
                Ok(life) => holders.grant_token(holder, &account, life).await,
                Err(cause) => return self.invalid(cause, reply).await,
            },
        };
        match opened {
            Err(AuthError::KeyRevoked) => {
                self.refuse(Cause::KeyRevoked, Some(Duration::ZERO), reply, end).await;
            }
            opened => self.opened(opened, key.map(|key| key.fingerprint), reply).await,
        }
    }

    /// Somebody who has no account.
    pub(super) async fn welcome(&mut self, newcomer: Newcomer, reply: Reply) {
        let holder = self.holder(newcomer.who.clone());
        let holders = &self.logins.parts.holders;
        let opened = match &self.asker.purpose {
            Purpose::Channel => holders.grant_other(holder, &newcomer, None).await,
            Purpose::Token(wish) => match self.logins.parts.token_rules.get().life(wish.seconds) {
                Ok(life) => holders.grant_other(holder, &newcomer, Some(life)).await,
                Err(cause) => return self.invalid(cause, reply).await,
            },
            Purpose::Sysadm => Err(AuthError::Gone("the login")),
        };
        self.opened(opened, None, reply).await;
    }

    fn holder(&self, who: Identity) -> Holder {
        let (dialect, source) = (self.asker.purpose.dialect(), self.asker.source());
        Holder { who, method: self.method.to_owned(), dialect, source }
    }

    /// Tells of a session, or of none.
    async fn opened(
        &mut self,
        opened: Result<(Token, Seen), AuthError>,
        key: Option<Fingerprint>,
        reply: Reply,
    ) {
        let (token, seen) = match opened {
            Ok(opened) => opened,
            Err(failure) => {
                self.failed(&failure);
                return drop(reply.send(Err(failure)));
            }
        };
        (self.share, self.plugin_share) = (None, None);
        self.attempts.clear();
        if let Err(failure) = self.granted(&seen, key) {
            self.failed(&failure);
            self.end_untold(&token, EndReason::Unrecorded).await;
            return drop(reply.send(Err(failure)));
        }
        let granted = Outcome::Granted { token, seen: Box::new(seen) };
        if let Err(Ok(Outcome::Granted { token, .. })) = reply.send(Ok(granted)) {
            self.end_untold(&token, EndReason::Untaken).await;
        }
    }

    /// Whose credentials are right is told what is wrong with the rest of the request. It was no guess.
    async fn invalid(&mut self, cause: Cause, reply: Reply) {
        (self.share, self.plugin_share) = (None, None);
        self.attempts.clear();
        self.refused(cause).await;
        drop(reply.send(Ok(Outcome::InvalidExpiration)));
    }

    /// Nobody has the token, so nobody else can end it.
    async fn end_untold(&self, token: &Token, reason: EndReason) {
        if let Err(failure) = self.logins.parts.holders.sessions.end(token, reason).await {
            warn!(cause = %failure, "a session that nobody took is not yet removed");
        }
    }

    pub(super) async fn take_up(&mut self, token: Token, reply: Reply) {
        let seen = self.logins.parts.holders.take_up(&token, self.asker.purpose.dialect()).await;
        let seen = seen.and_then(|seen| self.taken_up(&seen).map(|()| seen));
        // Who is recorded has it, and takes it from another connection. Should that fail, the record stays the one.
        let seen = match seen {
            Ok(seen) => self.logins.parts.holders.take_turn(seen, self.asker.connection.name()).await,
            Err(failure) => Err(failure),
        };
        drop(reply.send(match seen {
            Ok(seen) => Ok(Outcome::Granted { token, seen: Box::new(seen) }),
            Err(AuthError::NoSuchToken) => {
                self.refused(Cause::NoSuchToken).await;
                Ok(self.denied())
            }
            Err(failure) => {
                self.failed(&failure);
                Err(failure)
            }
        }));
    }
}
