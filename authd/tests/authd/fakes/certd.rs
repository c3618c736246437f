//! A certd in this process: `Proofs` over a socket, with a registry that the test writes.
//!
//! No key is behind it. A "signature" is the key's fingerprint and then the challenge, as bytes: see
//! [`signature`]. Challenges belong to a connection and are used up by the first answer. A test may put a
//! status or a verdict in place of the next ones.

use std::{
    collections::HashMap,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use doorward_launch::grpc::{Limits, incoming};
use doorward_proto::{
    Reason,
    certd::v1::{
        ChallengeReply, ChallengeRequest, LoadedRequest, RevokedEvent, Verified, VerifyRequest,
        WatchRevokedRequest,
        proofs_server::{Proofs, ProofsServer},
    },
};
use futures_util::{Stream, StreamExt as _, stream};
use tokio::{sync::broadcast, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, transport::Server};

/// What answers a challenge.
pub(crate) fn signature(key: [u8; 32], test_string: &str) -> Vec<u8> {
    [&key[..], test_string.as_bytes()].concat()
}

/// What authd asked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Asked {
    Challenge(ChallengeRequest),
    Verify(VerifyRequest),
    Loaded(LoadedRequest),
    Watch(i64),
}

#[derive(Debug, Default)]
struct Content {
    keys: Vec<([u8; 32], String)>,
    /// Of which accounts certd says that they registered the keys.
    uids: HashMap<[u8; 32], u32>,
    /// Whether loaded keys open sessions with full access.
    full_access: bool,
    challenges: HashMap<String, String>,
    made: u64,
    deaf: bool,
    history: Vec<RevokedEvent>,
    verdict: Option<Result<Verified, Status>>,
    asked: Vec<Asked>,
}

/// The registry; clones are the same. It stays when the server stops.
#[derive(Debug, Clone)]
pub(crate) struct Fake {
    content: Arc<Mutex<Content>>,
    revoked: broadcast::Sender<RevokedEvent>,
}

/// The server.
#[derive(Debug)]
pub(crate) struct Running {
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Running {
    /// Ends it with all its connections.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.serving.await.expect("no panic");
    }
}

impl Fake {
    pub(crate) fn new() -> Self {
        Self { content: Arc::default(), revoked: broadcast::Sender::new(64) }
    }

    /// Serves at `path` from now on.
    pub(crate) fn serve(&self, path: &Path) -> Running {
        let _ = std::fs::remove_file(path);
        let listener = std::os::unix::net::UnixListener::bind(path).expect("bound");
        let incoming = incoming(listener, |_| true, Limits::default()).expect("listening");
        let stop = CancellationToken::new();
        let service = Service { fake: self.clone(), stop: stop.clone() };
        let server = Server::builder().add_service(ProofsServer::new(service));
        let serving = server.serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
        Running { stop, serving: tokio::spawn(async move { serving.await.expect("served") }) }
    }

    pub(crate) fn register(&self, key: [u8; 32], user: &str) {
        self.content().keys.push((key, user.into()));
    }

    pub(crate) fn set_uid(&self, key: [u8; 32], uid: u32) {
        self.content().uids.insert(key, uid);
    }

    pub(crate) fn set_full_access(&self, full_access: bool) {
        self.content().full_access = full_access;
    }

    /// Takes the key out, now.
    pub(crate) fn revoke(&self, key: [u8; 32], user: &str) {
        self.content().keys.retain(|(known, owner)| *known != key || owner != user);
        self.tell(key, user, now());
    }

    /// Tells of a revocation at a time, without taking the key out.
    pub(crate) fn tell(&self, key: [u8; 32], user: &str, revoked: i64) {
        let event = RevokedEvent { fingerprint: key.to_vec(), user: user.into(), revoked };
        self.content().history.push(event.clone());
        let _ = self.revoked.send(event);
    }

    /// Lets nobody watch, or everybody again.
    pub(crate) fn refuse_watches(&self, refuse: bool) {
        self.content().deaf = refuse;
    }

    /// Tells an event with what is no fingerprint, to those who watch now.
    pub(crate) fn tell_raw(&self, fingerprint: Vec<u8>) {
        let _ = self.revoked.send(RevokedEvent { fingerprint, user: "alice".into(), revoked: now() });
    }

    /// Every verdict is this, until it is None again.
    pub(crate) fn set_verdict(&self, verdict: Option<Result<Verified, Status>>) {
        self.content().verdict = verdict;
    }

    /// What was asked since the last time.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.content().asked)
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_secs()).expect("in range")
}

fn refusal() -> Status {
    Reason::Unauthenticated.to_wire("not authenticated")
}

struct Service {
    fake: Fake,
    stop: CancellationToken,
}

#[tonic::async_trait]
impl Proofs for Service {
    async fn challenge(
        &self,
        request: Request<ChallengeRequest>,
    ) -> Result<Response<ChallengeReply>, Status> {
        let request = request.into_inner();
        let mut content = self.fake.content();
        content.made += 1;
        let test_string = format!("{:0128}", content.made);
        content.challenges.insert(request.connection.clone(), test_string.clone());
        content.asked.push(Asked::Challenge(request));
        Ok(Response::new(ChallengeReply { test_string, context: "doorward auth_ssl v1 local".into() }))
    }

    async fn verify(&self, request: Request<VerifyRequest>) -> Result<Response<Verified>, Status> {
        let request = request.into_inner();
        let mut content = self.fake.content();
        content.asked.push(Asked::Verify(request.clone()));
        if let Some(verdict) = &content.verdict {
            return verdict.clone().map(Response::new);
        }
        let open = content.challenges.remove(&request.connection).ok_or_else(refusal)?;
        let fits = |(key, user): &&([u8; 32], String)| {
            request.signature == signature(*key, &open)
                && (request.user.is_empty() || request.user == *user)
                && (request.fingerprint.is_empty() || request.fingerprint == key)
        };
        let (key, user) = content.keys.iter().find(fits).ok_or_else(refusal)?;
        let uid = content.uids.get(key).copied();
        let verified = Verified { user: user.clone(), fingerprint: key.to_vec(), full_access: true, uid };
        Ok(Response::new(verified))
    }

    async fn loaded(&self, request: Request<LoadedRequest>) -> Result<Response<Verified>, Status> {
        let request = request.into_inner();
        let mut content = self.fake.content();
        content.asked.push(Asked::Loaded(request.clone()));
        if let Some(verdict) = &content.verdict {
            return verdict.clone().map(Response::new);
        }
        let fits = |(key, user): &&([u8; 32], String)| request.key == key && request.user == *user;
        let (key, user) = content.keys.iter().find(fits).ok_or_else(refusal)?;
        let (full_access, uid) = (content.full_access, content.uids.get(key).copied());
        Ok(Response::new(Verified { user: user.clone(), fingerprint: key.to_vec(), full_access, uid }))
    }

    type WatchRevokedStream = Pin<Box<dyn Stream<Item = Result<RevokedEvent, Status>> + Send>>;

    async fn watch_revoked(
        &self,
        request: Request<WatchRevokedRequest>,
    ) -> Result<Response<Self::WatchRevokedStream>, Status> {
        let since = request.into_inner().since;
        let live = self.fake.revoked.subscribe();
        let mut content = self.fake.content();
        content.asked.push(Asked::Watch(since));
        if content.deaf {
            return Err(Reason::TooMany.to_wire("too many watch"));
        }
        let past: Vec<_> = content.history.iter().filter(|event| event.revoked >= since).cloned().collect();
        let head = std::iter::once(RevokedEvent::default()).chain(past).map(Ok);
        let tail = stream::unfold(Some((live, self.stop.clone())), |state| async move {
            let (mut live, stop) = state?;
            tokio::select! {
                event = live.recv() => Some((Ok(event.ok()?), Some((live, stop)))),
                () = stop.cancelled() => Some((Err(Reason::Unavailable.to_wire("stopping")), None)),
            }
        });
        Ok(Response::new(Box::pin(stream::iter(head).chain(tail))))
    }
}
