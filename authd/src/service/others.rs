//! Lists of sessions, part by part, and ends of sessions that are not the caller's.

use std::pin::Pin;

use doorward_proto::authd::v1::{self as wire, end_other_request::Which};
use futures_util::{Stream, stream};
use tonic::Status;

use super::Shared;
use crate::{
    error::AuthError,
    others::Action,
    secret::Token,
    session::{Listed, Scope, SessionId},
};

/// Sessions of one part: at most 64 KiB, whatever their names.
const PART: usize = 64;

pub(super) type Parts = Pin<Box<dyn Stream<Item = Result<wire::SessionList, Status>> + Send>>;

/// A list under way. Nothing is kept of the table in between: a reader that stands still costs nothing.
struct Listing {
    shared: Shared,
    scope: Scope,
    caller: SessionId,
    after: Option<SessionId>,
}

pub(super) async fn list(shared: &Shared, request: wire::ListRequest) -> Result<Parts, AuthError> {
    let token = Token::parse(request.token).map_err(|_| AuthError::NoSession)?;
    let (caller, scope) = shared.holders.caller(&token, Action::List).await?;
    let listing = Listing { shared: shared.clone(), scope, caller: caller.session.id, after: None };
    Ok(Box::pin(stream::unfold(Some(listing), next_part)))
}

async fn next_part(listing: Option<Listing>) -> Option<(Result<wire::SessionList, Status>, Option<Listing>)> {
    let mut listing = listing?;
    let sessions = &listing.shared.holders.sessions;
    if listing.shared.stop.is_cancelled() {
        return Some((Err(AuthError::Gone("the list of sessions").into()), None));
    }
    // Whose session ends in the middle sees no more.
    if !sessions.lives(listing.caller) {
        return Some((Err(AuthError::NoSession.into()), None));
    }
    let part = sessions.page(&listing.scope, listing.after, PART);
    listing.after = Some(part.last()?.session.id);
    let entries = part.into_iter().map(|listed| entry(listed, listing.caller)).collect();
    Some((Ok(wire::SessionList { sessions: entries }), Some(listing)))
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
            let name = uuid::Uuid::try_parse(&name).ok().map(|name| SessionId(name.into_bytes()));
            shared.holders.end_one(&token, name).await
        }
        Some(Which::Others(wire::Others {})) => shared.holders.end_others(&token).await,
        None => Err(AuthError::BadRequest("which: none")),
    }
}
