//! The gRPC services: decode, call, encode.

mod login;
mod logs;
mod others;
mod rights;
mod sessions;

use std::{net::IpAddr, sync::Arc};

use doorward_proto::authd::v1 as wire;
pub use login::LoginService;
pub use rights::RightsService;
pub use sessions::SessionsService;

use crate::{
    account::Access,
    error::AuthError,
    peer::Connection,
    rights::{RIGHTS_MS, Seen},
    session::{Dialect, EndReason, Sessions},
};

fn connection(text: &str) -> Result<Connection, AuthError> {
    Connection::parse(text).ok_or(AuthError::BadRequest("connection: must be a UUID"))
}

/// An address literal, never a name: PAM modules take what they are given for a host and ask DNS.
fn source(address: &str) -> Result<Option<IpAddr>, AuthError> {
    if address.is_empty() {
        return Ok(None);
    }
    address
        .parse()
        .map(Some)
        .map_err(|_| AuthError::BadRequest("source: must be an address literal or empty"))
}

/// A dialect that there is.
fn dialect(number: i32) -> Result<Dialect, AuthError> {
    match wire::Dialect::try_from(number) {
        Ok(wire::Dialect::Sysadm) => Ok(Dialect::Sysadm),
        Ok(wire::Dialect::Token) => Ok(Dialect::Token),
        Ok(wire::Dialect::Channel) => Ok(Dialect::Channel),
        Ok(wire::Dialect::Unspecified) | Err(_) => Err(AuthError::BadRequest("dialect: unknown")),
    }
}

fn dialect_to_wire(dialect: Dialect) -> wire::Dialect {
    match dialect {
        Dialect::Sysadm => wire::Dialect::Sysadm,
        Dialect::Token => wire::Dialect::Token,
        Dialect::Channel => wire::Dialect::Channel,
    }
}

fn session(seen: &Seen, sessions: &Sessions) -> wire::Session {
    let session = &seen.session;
    let (issued, expires) = sessions.times_utc(session);
    wire::Session {
        session: session.id.to_string(),
        user: session.holder.who.shown(),
        uid: session.holder.who.uid(),
        auth_id: seen.auth_id(),
        access: access(seen.access).into(),
        acl: seen.acl.to_vec(),
        method: session.holder.method.clone(),
        // Rounded up: 0 means that there is no idle clock.
        idle_seconds: u32::try_from(session.idle_ms.div_ceil(1000)).unwrap_or(u32::MAX),
        idle_left_ms: seen.idle_left,
        absolute_left_ms: seen.absolute_left,
        rights_ms: RIGHTS_MS.min(seen.absolute_left),
        dialect: dialect_to_wire(session.holder.dialect).into(),
        issued,
        expires,
        kind: session.holder.who.kind().to_owned(),
        only_one: seen.turn,
    }
}

fn access(access: Option<Access>) -> wire::Access {
    match access {
        Some(Access::Limited) => wire::Access::Limited,
        Some(Access::Full) => wire::Access::Full,
        None => wire::Access::Unspecified,
    }
}

fn end_reason(reason: EndReason) -> wire::EndReason {
    match reason {
        EndReason::Idle => wire::EndReason::Idle,
        EndReason::Expired => wire::EndReason::Expired,
        // Of those that nobody took nobody asks.
        EndReason::Cleared | EndReason::Untaken | EndReason::Unrecorded => wire::EndReason::Cleared,
        // Those of another boot are over before anybody can watch.
        EndReason::Revoked
        | EndReason::KeyRevoked
        | EndReason::UserGone
        | EndReason::Replaced
        | EndReason::Reboot => wire::EndReason::Revoked,
    }
}

/// What all these services need.
#[derive(Debug, Clone)]
pub struct Shared {
    /// Logins.
    pub logins: Arc<crate::driver::Logins>,
    /// Sessions and their holders.
    pub holders: Arc<crate::rights::Holders>,
    /// Signs assertions.
    pub signer: Arc<crate::assertion::Signer>,
    /// What was recorded.
    pub audit: doorward_launch::Audit,
    /// Ends streams.
    pub stop: tokio_util::sync::CancellationToken,
}
