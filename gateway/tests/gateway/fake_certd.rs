//! A certd for tests: it believes every assertion of the fake authd, checks no key and no rights.
//!
//! It lists what a test put in ([`FakeCertd::put`]). A registration or revocation of the key
//! `reason-<Reason>` fails for that reason; the key `slow` is answered when the test says so
//! ([`FakeCertd::let_go`]).

use std::{
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use doorward_proto::certd::v1::{self as proto, registry_server};
use tokio::{net::UnixListener, runtime::Runtime, sync::watch};
use tokio_stream::{Stream, wrappers::UnixListenerStream};
use tonic::{Request, Response, Status};

use crate::{fake_authd::failure, support::until};

/// One call, as it was received.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Received {
    List(proto::ListRequest),
    Logs(proto::LogsRequest),
    Challenge(proto::RegisterChallengeRequest),
    Register(proto::RegisterRequest),
    Revoke(proto::RevokeRequest),
}

#[derive(Debug)]
struct State {
    entries: Mutex<Vec<proto::Entry>>,
    received: Mutex<Vec<Received>>,
    /// Assertions that begin so are refused.
    refused: Mutex<Option<String>>,
    gate: watch::Sender<bool>,
}

/// A running fake.
pub(crate) struct FakeCertd {
    directory: PathBuf,
    runtime: Option<Runtime>,
    state: Arc<State>,
}

impl FakeCertd {
    /// Serves `certd.sock` in this directory.
    pub(crate) fn start(directory: &Path) -> Self {
        let state = State {
            entries: Mutex::default(),
            received: Mutex::default(),
            refused: Mutex::default(),
            gate: watch::Sender::new(false),
        };
        let mut fake = Self { directory: directory.to_owned(), runtime: None, state: Arc::new(state) };
        fake.resume();
        fake
    }

    /// The socket for the gateway.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join("certd.sock")
    }

    /// Dies as suddenly as after SIGKILL: every connection breaks.
    pub(crate) async fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            let down = move || runtime.shutdown_timeout(Duration::from_secs(5));
            tokio::task::spawn_blocking(down).await.expect("it goes down");
        }
        std::fs::remove_file(self.socket()).expect("the socket was there");
    }

    /// Comes back with what it knew.
    pub(crate) fn resume(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let _inside = runtime.enter();
        let listener = UnixListener::bind(self.socket()).expect("bind");
        let service = Service(Arc::clone(&self.state));
        runtime.spawn(
            tonic::transport::Server::builder()
                .add_service(registry_server::RegistryServer::new(service))
                .serve_with_incoming(UnixListenerStream::new(listener)),
        );
        self.runtime = Some(runtime);
    }

    /// Puts an entry in.
    pub(crate) fn put(&self, entry: proto::Entry) {
        self.state.entries.lock().expect("not poisoned").push(entry);
    }

    /// Refuses assertions that begin with this from now on.
    pub(crate) fn refuse(&self, beginning: &str) {
        *self.state.refused.lock().expect("not poisoned") = Some(beginning.to_owned());
    }

    /// Answers what is slow, now and from now on.
    pub(crate) fn let_go(&self) {
        self.state.gate.send_replace(true);
    }

    /// The calls so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.state.received.lock().expect("not poisoned").clone()
    }

    /// Waits until there were so many calls.
    pub(crate) async fn received_at_least(&self, count: usize) -> Vec<Received> {
        until(|| Some(self.received()).filter(|calls| calls.len() >= count)).await
    }
}

impl Drop for FakeCertd {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl State {
    fn take(&self, assertion: &str, call: Received) -> Result<(), Status> {
        self.received.lock().expect("not poisoned").push(call);
        match &*self.refused.lock().expect("not poisoned") {
            Some(refused) if assertion.starts_with(refused) => Err(failure("Unauthenticated")),
            Some(_) | None => Ok(()),
        }
    }

    async fn outcome(&self, key: &[u8]) -> Result<(), Status> {
        match std::str::from_utf8(key).ok() {
            Some("slow") => {
                let mut gate = self.gate.subscribe();
                gate.wait_for(|open| *open).await.expect("the state outlives this");
                Ok(())
            }
            Some(text) => text.strip_prefix("reason-").map_or(Ok(()), |reason| Err(failure(reason))),
            None => Ok(()),
        }
    }
}

#[derive(Clone)]
struct Service(Arc<State>);

#[tonic::async_trait]
impl registry_server::Registry for Service {
    type ListStream = Pin<Box<dyn Stream<Item = Result<proto::Entry, Status>> + Send>>;

    async fn list(&self, request: Request<proto::ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        let request = request.into_inner();
        self.0.take(&request.assertion.clone(), Received::List(request))?;
        let entries = self.0.entries.lock().expect("not poisoned").clone();
        Ok(Response::new(Box::pin(tokio_stream::iter(entries.into_iter().map(Ok)))))
    }

    type LogsStream = Pin<Box<dyn Stream<Item = Result<proto::LogsPart, Status>> + Send>>;

    async fn logs(&self, request: Request<proto::LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        let request = request.into_inner();
        self.0.take(&request.assertion.clone(), Received::Logs(request))?;
        let lines =
            vec![r#"{"time":"2026-11-23T10:11:12.001Z","id":"c-1","event":"key_revoked","service":"doorward-certd"}"#.to_owned()];
        let end = Some(proto::LogsEnd { more: false, unread: true });
        Ok(Response::new(Box::pin(tokio_stream::iter([Ok(proto::LogsPart { lines, end })]))))
    }

    async fn register_challenge(
        &self,
        request: Request<proto::RegisterChallengeRequest>,
    ) -> Result<Response<proto::ChallengeReply>, Status> {
        let request = request.into_inner();
        self.0.take(&request.assertion.clone(), Received::Challenge(request))?;
        let (test_string, context) = ("r".repeat(128), "for registration".to_owned());
        Ok(Response::new(proto::ChallengeReply { test_string, context }))
    }

    async fn register(
        &self,
        request: Request<proto::RegisterRequest>,
    ) -> Result<Response<proto::RegisterReply>, Status> {
        let request = request.into_inner();
        self.0.take(&request.assertion.clone(), Received::Register(request.clone()))?;
        self.0.outcome(&request.public_key).await?;
        Ok(Response::new(proto::RegisterReply { entry: Some(proto::Entry::default()) }))
    }

    async fn revoke(
        &self,
        request: Request<proto::RevokeRequest>,
    ) -> Result<Response<proto::RevokeReply>, Status> {
        let request = request.into_inner();
        self.0.take(&request.assertion.clone(), Received::Revoke(request.clone()))?;
        self.0.outcome(&request.public_key).await?;
        Ok(Response::new(proto::RevokeReply {}))
    }
}
