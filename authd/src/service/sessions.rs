//! `doorward.authd.v1.Sessions`.

use std::pin::Pin;

use doorward_proto::authd::v1::{self as wire, sessions_server::Sessions};
use futures_util::{Stream, stream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tracing::debug;

use super::{Shared, end_reason, logs, others, session};
use crate::{
    account::Access,
    assertion::{Audience, Other, Subject},
    error::AuthError,
    secret::Token,
    session::{Dialect, EndReason, Identity, News, Used, Watch},
};

/// The service.
#[derive(Debug, Clone)]
pub struct SessionsService(pub Shared);

type Events = Pin<Box<dyn Stream<Item = Result<wire::EndedEvent, Status>> + Send>>;

#[tonic::async_trait]
impl Sessions for SessionsService {
    async fn check(&self, request: Request<wire::CheckRequest>) -> Result<Response<wire::Session>, Status> {
        let wire::CheckRequest { token, used_ms_ago, dialect } = request.into_inner();
        let dialect = super::dialect(dialect)?;
        let token = Token::parse(token).map_err(|_| AuthError::NoSuchToken)?;
        let seen = self.0.holders.see(&token, used_ms_ago, dialect).await?;
        Ok(Response::new(session(&seen, &self.0.holders.sessions)))
    }

    async fn end(&self, request: Request<wire::EndRequest>) -> Result<Response<wire::EndReply>, Status> {
        // What is no token opens nothing, so there is nothing to end: fine.
        let ended = match Token::parse(request.into_inner().token) {
            Ok(token) => self.0.holders.sessions.end(&token, EndReason::Cleared).await?,
            Err(_) => false,
        };
        Ok(Response::new(wire::EndReply { ended }))
    }

    async fn report_activity(
        &self,
        request: Request<wire::ActivityReport>,
    ) -> Result<Response<wire::ActivityReply>, Status> {
        let uses = request.into_inner().activities.into_iter().filter_map(|activity| {
            let token = Token::parse(activity.token).ok()?;
            Some(Used { token, ago_ms: activity.used_ms_ago })
        });
        self.0.holders.sessions.report(uses.collect()).await?;
        Ok(Response::new(wire::ActivityReply {}))
    }

    type WatchEndedStream = Events;

    async fn watch_ended(
        &self,
        _: Request<wire::WatchEndedRequest>,
    ) -> Result<Response<Self::WatchEndedStream>, Status> {
        // The watch is in place before `ready` is sent.
        let watch = self.0.holders.sessions.watch()?;
        let state = Watching { watch, told_ready: false, stop: self.0.stop.clone() };
        Ok(Response::new(Box::pin(stream::unfold(Some(state), next_event))))
    }

    async fn list(&self, request: Request<wire::ListRequest>) -> Result<Response<wire::SessionList>, Status> {
        Ok(Response::new(others::list(&self.0, request.into_inner()).await?))
    }

    async fn end_other(
        &self,
        request: Request<wire::EndOtherRequest>,
    ) -> Result<Response<wire::EndOtherReply>, Status> {
        let ended = others::end(&self.0, request.into_inner()).await?;
        Ok(Response::new(wire::EndOtherReply { ended: u32::try_from(ended).unwrap_or(u32::MAX) }))
    }

    type LogsStream = logs::Parts;

    async fn logs(&self, request: Request<wire::LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        Ok(Response::new(logs::read(&self.0, request.into_inner()).await?))
    }

    async fn assert(
        &self,
        request: Request<wire::AssertRequest>,
    ) -> Result<Response<wire::Assertion>, Status> {
        let wire::AssertRequest { token, audience } = request.into_inner();
        let token = Token::parse(token).map_err(|_| AuthError::NoSuchToken)?;
        let audience =
            Audience::parse(audience).ok_or(AuthError::BadRequest("audience: not a service's name"))?;
        // Only what is of use in the dialect of the audience has an identity there.
        let of_channels = audience.is_of_channels();
        let dialect = if of_channels { Dialect::Channel } else { Dialect::Sysadm };
        let seen = self.0.holders.see(&token, None, dialect).await?;
        let holder = &seen.session.holder;
        // Whoever a token was handed to must not become its holder for good by a key of their own.
        if holder.dialect == Dialect::Token && audience.is_of_keys() {
            return Err(AuthError::Forbidden.into());
        }
        let other = match &holder.who {
            Identity::User { .. } => None,
            Identity::Other { kind, pk, name, .. } if of_channels => Some(Other { kind, pk, name }),
            // Services of the host know its users alone.
            Identity::Other { .. } => return Err(AuthError::Forbidden.into()),
        };
        let subject = Subject {
            user: &holder.who.shown(),
            uid: holder.who.uid(),
            other,
            auth_id: &seen.auth_id(),
            access: match seen.access {
                Some(Access::Full) => "full",
                Some(Access::Limited) => "limited",
                // Who may have tokens and nothing else may use channels by them.
                None if of_channels => "limited",
                None => return Err(AuthError::Forbidden.into()),
            },
            acl: &seen.acl,
            session: seen.session.id.to_string(),
            method: &holder.method,
            // By the clock as it goes now: how long ago it was must not depend on a step of it.
            login_time: self.0.holders.sessions.times_utc(&seen.session).0,
        };
        let signed = self
            .0
            .signer
            .sign(&subject, &audience, crate::session::utc(), seen.absolute_left)
            .map_err(|failure| AuthError::Signing(doorward_launch::chain(&failure)))?;
        Ok(Response::new(wire::Assertion { jwt: signed.jwt.to_string(), valid_ms: signed.valid_ms }))
    }
}

/// A stream of ended sessions.
struct Watching {
    watch: Watch,
    told_ready: bool,
    stop: CancellationToken,
}

/// The next event; after an error the stream is over.
async fn next_event(state: Option<Watching>) -> Option<(Result<wire::EndedEvent, Status>, Option<Watching>)> {
    use wire::ended_event::Kind;
    let mut state = state?;
    let kind = if state.told_ready {
        tokio::select! {
            () = state.stop.cancelled() => None,
            news = state.watch.next() => news.map(|news| match news {
                News::Ended(ended) => Kind::Ended(wire::Ended {
                    session: ended.session.to_string(),
                    reason: end_reason(ended.reason).into(),
                }),
                News::TakenUp { session, turn } => {
                    Kind::TakenUp(wire::TakenUp { session: session.to_string(), only_one: turn })
                }
            }),
        }
    } else {
        state.told_ready = true;
        Some(Kind::Ready(wire::Ready {}))
    };
    match kind {
        Some(kind) => Some((Ok(wire::EndedEvent { kind: Some(kind) }), Some(state))),
        None => {
            debug!("a stream of ended sessions is over");
            Some((Err(AuthError::Gone("the stream of ended sessions").into()), None))
        }
    }
}
