//! A subsystem for tests: what it says of itself and what it answers is the test's.
//!
//! It believes every assertion and notes it. Actions that it has from the start, all of them called by whoever
//! calls the gateway; args are JSON:
//! - `_` and `echo` (read): what was asked, as `{"action", "args", "assertion", "request", "deadline"}`.
//! - `change` (write): the same.
//! - `say` (read): the bytes of [`FakeSubsystem::say`], as they are, as the result.
//! - `fail` (read): the failure whose code is args' `code`, with the message `so it is`.
//! - `hang` (read): nothing, until it is dropped, which is counted.
//! - `wait` (read): `{}`, when the test says so ([`FakeSubsystem::hold`]); counted as what hangs.
//! - `die` (read): every connection breaks at once.
//! - `count` (read, streams): args' `parts` reports of progress `{"n": N}`, with `pad` bytes more each, then `{}`;
//!   after the last report nothing comes if `hang` is there.
//!
//! It runs on a thread and a runtime of its own, so that stopping it is as sudden as a kill.

use std::{
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use doorward_proto::subsystem::v1::{self as proto, call_part, call_reply, subsystem_server};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::{
    net::UnixListener,
    runtime::Runtime,
    sync::{mpsc, watch},
};
use tokio_stream::{
    Stream,
    wrappers::{UnboundedReceiverStream, UnixListenerStream},
};
use tonic::{Request, Response, Status};

use crate::support::until;

/// What the fake knows and what it was told to do.
pub(crate) struct State {
    description: Mutex<proto::Description>,
    said: Mutex<Vec<u8>>,
    received: Mutex<Vec<proto::CallRequest>>,
    refused: Mutex<Option<String>>,
    deaf: watch::Sender<bool>,
    held: watch::Sender<bool>,
    under_way: AtomicUsize,
    dropped: AtomicUsize,
    parts: AtomicUsize,
    listeners: AtomicUsize,
    events: Mutex<Vec<mpsc::UnboundedSender<Result<proto::Event, Status>>>>,
    die: watch::Sender<u64>,
}

/// A running fake.
pub(crate) struct FakeSubsystem {
    socket: PathBuf,
    runtime: Option<Runtime>,
    state: Arc<State>,
}

fn action(name: &str, right: proto::Right, streams: bool) -> proto::Action {
    proto::Action {
        name: name.into(),
        right: right.into(),
        help: format!("Does {name}"),
        streams,
        args_schema: String::new(),
    }
}

impl FakeSubsystem {
    /// Serves `NAME.sock` in this directory, and calls itself `example/NAME`.
    pub(crate) fn start(directory: &Path, name: &str) -> Self {
        use proto::Right::{Read, Write};
        let mut actions: Vec<_> =
            ["_", "echo", "say", "fail", "hang", "wait", "die"].map(|name| action(name, Read, false)).into();
        actions.extend([action("change", Write, false), action("count", Read, true)]);
        let description = proto::Description {
            namespace: "example".into(),
            name: name.into(),
            version: "1".into(),
            help: "An example".into(),
            actions,
            events: vec![proto::EventKind { name: format!("{name}-ticked"), help: "A tick".into() }],
        };
        let state = State {
            description: Mutex::new(description),
            said: Mutex::default(),
            received: Mutex::default(),
            refused: Mutex::default(),
            deaf: watch::Sender::new(false),
            held: watch::Sender::new(false),
            under_way: AtomicUsize::default(),
            dropped: AtomicUsize::default(),
            parts: AtomicUsize::default(),
            listeners: AtomicUsize::new(0),
            events: Mutex::default(),
            die: watch::Sender::new(0),
        };
        let socket = directory.join(format!("{name}.sock"));
        let mut fake = Self { socket, runtime: None, state: Arc::new(state) };
        fake.resume();
        fake
    }

    /// The file that registers it, with more lines.
    pub(crate) fn file(&self, more: &str) -> String {
        let uid = doorward_launch::Identity::current().uid;
        self.file_of(uid, more)
    }

    /// The same for another uid.
    pub(crate) fn file_of(&self, uid: u32, more: &str) -> String {
        let name = self.socket.file_stem().expect("a name").to_string_lossy();
        format!(
            "namespace = \"example\"\nname = \"{name}\"\nsocket = \"{}\"\nuser = \"{uid}\"\n{more}\n",
            self.socket.display()
        )
    }

    /// Dies as suddenly as after SIGKILL: every connection breaks.
    pub(crate) async fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            let down = move || runtime.shutdown_timeout(Duration::from_secs(5));
            tokio::task::spawn_blocking(down).await.expect("it goes down");
        }
        self.state.events.lock().expect("not poisoned").clear();
        std::fs::remove_file(&self.socket).expect("the socket was there");
    }

    /// Comes back with what it knew.
    pub(crate) fn resume(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let _inside = runtime.enter();
        let listener = UnixListener::bind(&self.socket).expect("bind");
        let state = Arc::clone(&self.state);
        runtime.spawn(async move {
            let mut die = state.die.subscribe();
            let mut incoming = UnixListenerStream::new(listener);
            loop {
                // Each death takes all connections along, and the next ones find it alive.
                let service = subsystem_server::SubsystemServer::new(Service(Arc::clone(&state)));
                let (give, taken) = mpsc::unbounded_channel();
                let serving = tokio::spawn(
                    tonic::transport::Server::builder()
                        .add_service(service)
                        .serve_with_incoming(UnboundedReceiverStream::new(taken)),
                );
                loop {
                    tokio::select! {
                        stream = incoming.next() => {
                            let Some(Ok(stream)) = stream else { return };
                            let mut die = die.clone();
                            die.mark_unchanged();
                            let mortal = Mortal { stream, death: Box::pin(async move { drop(die.changed().await) }) };
                            drop(give.send(Ok::<_, std::io::Error>(mortal)));
                        }
                        _ = die.changed() => break,
                    }
                }
                state.events.lock().expect("not poisoned").clear();
                serving.abort();
            }
        });
        self.runtime = Some(runtime);
    }

    /// Changes what it says of itself.
    pub(crate) fn describe(&self, change: impl FnOnce(&mut proto::Description)) {
        change(&mut self.state.description.lock().expect("not poisoned"));
    }

    /// What `say` answers from now on.
    pub(crate) fn say(&self, bytes: impl Into<Vec<u8>>) {
        *self.state.said.lock().expect("not poisoned") = bytes.into();
    }

    /// Refuses assertions that begin with this from now on.
    pub(crate) fn refuse(&self, beginning: &str) {
        *self.state.refused.lock().expect("not poisoned") = Some(beginning.to_owned());
    }

    /// Does not describe itself any more, or does again.
    pub(crate) fn deafen(&self, deaf: bool) {
        self.state.deaf.send_replace(deaf);
    }

    /// What `wait` answers waits from now on, or does no more.
    pub(crate) fn hold(&self, wait: bool) {
        self.state.held.send_replace(wait);
    }

    /// The calls so far.
    pub(crate) fn received(&self) -> Vec<proto::CallRequest> {
        self.state.received.lock().expect("not poisoned").clone()
    }

    /// Calls that hang, and calls that hung until they were dropped.
    pub(crate) fn hanging(&self) -> (usize, usize) {
        (self.state.under_way.load(Ordering::SeqCst), self.state.dropped.load(Ordering::SeqCst))
    }

    /// Waits until so many calls hang.
    pub(crate) async fn hang(&self, count: usize) {
        until(|| (self.hanging().0 == count).then_some(())).await;
    }

    /// Reports of progress that were taken from it.
    pub(crate) fn parts(&self) -> usize {
        self.state.parts.load(Ordering::SeqCst)
    }

    /// Tells an event to whoever listens.
    pub(crate) fn tell(&self, name: &str, args: impl Into<Vec<u8>>) {
        let event = proto::Event { name: name.into(), args: args.into() };
        for listener in self.state.events.lock().expect("not poisoned").iter() {
            drop(listener.send(Ok(event.clone())));
        }
    }

    /// How many have begun to listen to its events, since ever.
    pub(crate) fn listeners(&self) -> usize {
        self.state.listeners.load(Ordering::SeqCst)
    }

    /// Waits until somebody listens to its events.
    pub(crate) async fn heard(&self) {
        let heard = || {
            let mut events = self.state.events.lock().expect("not poisoned");
            events.retain(|listener| !listener.is_closed());
            (!events.is_empty()).then_some(())
        };
        until(heard).await;
    }
}

impl Drop for FakeSubsystem {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A connection that breaks when the fake dies.
struct Mortal {
    stream: tokio::net::UnixStream,
    death: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl tonic::transport::server::Connected for Mortal {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl tokio::io::AsyncRead for Mortal {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        let this = self.get_mut();
        if this.death.as_mut().poll(context).is_ready() {
            return std::task::Poll::Ready(Err(std::io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut this.stream).poll_read(context, buffer)
    }
}

impl tokio::io::AsyncWrite for Mortal {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(
        self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(
        self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

/// Counts a call that is under way, and that it was dropped.
struct UnderWay(Arc<State>);

impl UnderWay {
    fn new(state: &Arc<State>) -> Self {
        state.under_way.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(state))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

impl State {
    /// None: the assertion is believed.
    fn take(&self, request: &proto::CallRequest) -> Option<proto::Failure> {
        self.received.lock().expect("not poisoned").push(request.clone());
        let refused = self.refused.lock().expect("not poisoned").clone();
        refused.filter(|beginning| request.assertion.starts_with(beginning)).map(|_| failure(401))
    }
}

fn failure(code: u32) -> proto::Failure {
    proto::Failure { code, message: "so it is".into() }
}

fn args(request: &proto::CallRequest) -> Value {
    serde_json::from_slice(&request.args).expect("JSON")
}

#[derive(Clone)]
struct Service(Arc<State>);

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl subsystem_server::Subsystem for Service {
    type CallStreamStream = Streamed<proto::CallPart>;
    type EventsStream = Streamed<proto::Event>;

    async fn describe(
        &self,
        _: Request<proto::DescribeRequest>,
    ) -> Result<Response<proto::Description>, Status> {
        let mut deaf = self.0.deaf.subscribe();
        deaf.wait_for(|deaf| !deaf).await.expect("the state outlives this");
        Ok(Response::new(self.0.description.lock().expect("not poisoned").clone()))
    }

    async fn call(&self, request: Request<proto::CallRequest>) -> Result<Response<proto::CallReply>, Status> {
        let request = request.into_inner();
        let outcome = match self.0.take(&request) {
            Some(failure) => call_reply::Outcome::Failure(failure),
            None => match request.action.as_str() {
                "say" => call_reply::Outcome::Result(self.0.said.lock().expect("not poisoned").clone()),
                "fail" => {
                    let code = args(&request)["code"].as_u64().expect("a number");
                    call_reply::Outcome::Failure(failure(u32::try_from(code).expect("small")))
                }
                "hang" => {
                    let _counted = UnderWay::new(&self.0);
                    std::future::pending().await
                }
                "wait" => {
                    let _counted = UnderWay::new(&self.0);
                    self.0.held.subscribe().wait_for(|wait| !wait).await.expect("the state outlives this");
                    call_reply::Outcome::Result(b"{}".to_vec())
                }
                "die" => {
                    self.0.die.send_modify(|deaths| *deaths += 1);
                    std::future::pending().await
                }
                _ => call_reply::Outcome::Result(
                    json!({
                        "action": request.action, "args": args(&request), "assertion": request.assertion,
                        "request": request.request_id, "deadline": request.deadline_ms,
                    })
                    .to_string()
                    .into(),
                ),
            },
        };
        Ok(Response::new(proto::CallReply { outcome: Some(outcome) }))
    }

    async fn call_stream(
        &self,
        request: Request<proto::CallRequest>,
    ) -> Result<Response<Self::CallStreamStream>, Status> {
        let request = request.into_inner();
        let part = |part| Ok(proto::CallPart { part: Some(part) });
        if let Some(failure) = self.0.take(&request) {
            let refused = tokio_stream::once(part(call_part::Part::Failure(failure)));
            return Ok(Response::new(Box::pin(refused)));
        }
        let args = args(&request);
        let number = |name: &str| usize::try_from(args[name].as_u64().unwrap_or(0)).expect("small");
        let (parts, pad, hangs) = (number("parts"), "x".repeat(number("pad")), args["hang"] == true);
        let (state, counted) = (Arc::clone(&self.0), UnderWay::new(&self.0));
        let stream = futures_util::stream::unfold((0, counted), move |(n, counted)| {
            let (state, pad) = (Arc::clone(&state), pad.clone());
            async move {
                let said = match n {
                    n if n < parts => {
                        state.parts.fetch_add(1, Ordering::SeqCst);
                        let args = if pad.is_empty() { json!({"n": n}) } else { json!({"n": n, "pad": pad}) };
                        call_part::Part::Progress(args.to_string().into())
                    }
                    n if n > parts => return None,
                    _ if hangs => std::future::pending().await,
                    _ => call_part::Part::Result(b"{}".to_vec()),
                };
                Some((Ok(proto::CallPart { part: Some(said) }), (n + 1, counted)))
            }
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn events(&self, _: Request<proto::EventsRequest>) -> Result<Response<Self::EventsStream>, Status> {
        let (tell, told) = mpsc::unbounded_channel();
        self.0.events.lock().expect("not poisoned").push(tell);
        self.0.listeners.fetch_add(1, Ordering::SeqCst);
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(told))))
    }
}
