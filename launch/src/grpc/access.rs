//! The closed table: no row, no call.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::future::{Either, Ready, ready};
use http::{Request, Response};
use tonic::Status;
use tower::{Layer, Service};

use super::Caller;
use crate::log::Sparingly;

/// Lines in a second about calls that no row allows; the others are counted.
const LINES: u32 = 20;

/// What kind of peer a uid is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// The gateway.
    Gateway,
    /// authd.
    Authd,
    /// root: an operator on this host.
    Root,
}

type Rows = HashMap<&'static str, &'static [Peer]>;
type Classify = dyn Fn(u32) -> Option<Peer> + Send + Sync;

/// Refuses, before the service sees it, every call that no row allows.
#[derive(Clone)]
pub struct AccessLayer {
    rows: Arc<Rows>,
    classify: Arc<Classify>,
    lines: Arc<Mutex<Sparingly>>,
}

impl AccessLayer {
    /// `rows` are paths (`/package.Service/Method`) and who may call them; `classify` says what a
    /// uid is, and `None` for strangers.
    pub fn new(
        rows: &'static [(&'static str, &'static [Peer])],
        classify: impl Fn(u32) -> Option<Peer> + Send + Sync + 'static,
    ) -> AccessLayer {
        AccessLayer {
            rows: Arc::new(rows.iter().copied().collect()),
            classify: Arc::new(classify),
            lines: Arc::new(Mutex::new(Sparingly::of(LINES))),
        }
    }

    fn allows(&self, path: &str, uid: Option<u32>) -> bool {
        let peer = uid.and_then(|uid| (self.classify)(uid));
        let allowed = match (self.rows.get(path), peer) {
            (Some(peers), Some(peer)) => peers.contains(&peer),
            _ => false,
        };
        if !allowed && let Some(unsaid) = self.lines.lock().unwrap_or_else(PoisonError::into_inner).now() {
            tracing::warn!(path, uid, ?peer, unsaid, "a call that no row allows");
        }
        allowed
    }
}

impl<S> Layer<S> for AccessLayer {
    type Service = Access<S>;

    fn layer(&self, inner: S) -> Access<S> {
        Access { inner, layer: self.clone() }
    }
}

/// A service behind an [`AccessLayer`].
#[derive(Clone)]
pub struct Access<S> {
    inner: S,
    layer: AccessLayer,
}

impl<S, B, R> Service<Request<B>> for Access<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Default,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Response<R>, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let uid = request.extensions().get::<Caller>().map(|caller| caller.uid);
        if self.layer.allows(request.uri().path(), uid) {
            Either::Left(self.inner.call(request))
        } else {
            Either::Right(ready(Ok(Status::permission_denied("not for you").into_http())))
        }
    }
}
