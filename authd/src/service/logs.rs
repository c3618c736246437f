//! Audit records of authd's, for whom they are about and for full access.

use std::pin::Pin;

use doorward_launch::audit::{Found, Wanted, Whose};
use doorward_proto::authd::v1 as wire;
use futures_util::{Stream, stream};
use tonic::Status;

use super::Shared;
use crate::{error::AuthError, others::Action, secret::Token, session::Scope};

/// Records of one part: at most 64 KiB, whatever is in them.
const PART: usize = 31;

pub(super) type Parts = Pin<Box<dyn Stream<Item = Result<wire::LogsPart, Status>> + Send>>;

pub(super) async fn read(shared: &Shared, request: wire::LogsRequest) -> Result<Parts, AuthError> {
    let wire::LogsRequest { token, from, until, skip, most } = request;
    let token = Token::parse(token).map_err(|_| AuthError::NoSession)?;
    let (caller, scope) = shared.holders.caller(&token, Action::ReadLogs).await?;
    let (whose, mut end) = match scope {
        Scope::Everybody => (Whose::All, wire::LogsEnd { everybody: true, ..Default::default() }),
        Scope::Account { user, uid } => {
            let end = wire::LogsEnd { user: user.clone(), uid, ..Default::default() };
            (Whose::One { user, uid: Some(uid) }, end)
        }
    };
    let (skip, most) = (skip as usize, most as usize);
    let Found { lines, more, unread } = shared.audit.read(Wanted { from, until, skip, most, whose }).await?;
    // Whose session ended meanwhile sees nothing more.
    if !shared.holders.sessions.lives(caller.session.id) {
        return Err(AuthError::NoSession);
    }
    (end.more, end.unread) = (more, unread);
    let mut parts: Vec<_> =
        lines.chunks(PART).map(|lines| Ok(wire::LogsPart { lines: lines.to_vec(), end: None })).collect();
    parts.push(Ok(wire::LogsPart { lines: Vec::new(), end: Some(end) }));
    Ok(Box::pin(stream::iter(parts)))
}
