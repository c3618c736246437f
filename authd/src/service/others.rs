//! Lists of sessions, page by page, and ends of sessions that are not the caller's.

use doorward_proto::authd::v1::{self as wire, end_other_request::Which};

use super::Shared;
use crate::{
    error::AuthError,
    others::Action,
    secret::Token,
    session::{Listed, SessionId},
};

/// Sessions of one page: at most 64 KiB, whatever their names.
const PAGE: usize = 64;

pub(super) async fn list(
    shared: &Shared,
    request: wire::ListRequest,
) -> Result<wire::SessionList, AuthError> {
    let wire::ListRequest { token, after } = request;
    let token = Token::parse(token).map_err(|_| AuthError::NoSession)?;
    let after = match after.as_str() {
        "" => None,
        name => Some(named(name).ok_or(AuthError::BadRequest("after: not a session's name"))?),
    };
    let (caller, scope) = shared.holders.caller(&token, Action::List).await?;
    let page = shared.holders.sessions.page(&scope, after, PAGE);
    let more = page.len() == PAGE;
    let entries = page.into_iter().map(|listed| entry(listed, caller.session.id)).collect();
    Ok(wire::SessionList { sessions: entries, more })
}

fn named(session: &str) -> Option<SessionId> {
    uuid::Uuid::try_parse(session).ok().map(|name| SessionId(name.into_bytes()))
}

fn entry(listed: Listed, caller: SessionId) -> wire::SessionEntry {
    let Listed { session, started_utc, last_used_utc } = listed;
    wire::SessionEntry {
        session: session.id.to_string(),
        current: session.id == caller,
        user: session.holder.who.shown(),
        method: session.holder.method.clone(),
        dialect: session.holder.dialect.name().to_owned(),
        source: session.holder.source.clone(),
        started: started_utc,
        last_used: last_used_utc,
    }
}

pub(super) async fn end(shared: &Shared, request: wire::EndOtherRequest) -> Result<usize, AuthError> {
    let wire::EndOtherRequest { token, which } = request;
    let token = Token::parse(token).map_err(|_| AuthError::NoSession)?;
    match which {
        Some(Which::Session(name)) => {
            // What is no name is nobody's.
            shared.holders.end_one(&token, named(&name)).await
        }
        Some(Which::Others(wire::Others {})) => shared.holders.end_others(&token).await,
        None => Err(AuthError::BadRequest("which: none")),
    }
}
