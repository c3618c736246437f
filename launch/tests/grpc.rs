//! The entrance of a gRPC service, with a real tonic server behind it.

use std::convert::Infallible;
use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use doorward_launch::grpc::{Accept, AccessLayer, Caller, Limits, Peer, incoming, incoming_from};
use http::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::UnixStream;
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint, Server, Uri};
use tower::{Layer, Service, ServiceExt, service_fn};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An empty SETTINGS frame, which must follow.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

const ROWS: &[(&str, &[Peer])] = &[
    ("/test.Service/ForGateway", &[Peer::Gateway]),
    ("/test.Service/ForBoth", &[Peer::Gateway, Peer::Root]),
    ("/test.Service/ForNobody", &[]),
];

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn permission_denied() -> String {
    (tonic::Code::PermissionDenied as i32).to_string()
}

fn grpc_status<B>(response: &Response<B>) -> Option<&str> {
    response.headers().get("grpc-status").map(|value| value.to_str().expect("ASCII"))
}

/// A server whose service counts its calls and answers with the uid it was told.
struct Running {
    _directory: tempfile::TempDir,
    path: PathBuf,
    calls: Arc<AtomicUsize>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    fn start(allow: impl Fn(u32) -> bool + Send + 'static, limits: Limits) -> Running {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("service.sock");
        let listener = UnixListener::bind(&path).expect("bound");
        let calls = Arc::new(AtomicUsize::new(0));
        let stop = CancellationToken::new();
        let counted = calls.clone();
        let service = service_fn(move |request: Request<Body>| {
            counted.fetch_add(1, Ordering::SeqCst);
            let uid = request.extensions().get::<Caller>().map(|caller| caller.uid);
            async move {
                let mut response = Status::ok("").into_http::<Body>();
                let uid = uid.expect("a uid").to_string().parse().expect("a header");
                response.headers_mut().insert("uid", uid);
                Ok::<_, Infallible>(response)
            }
        });
        let access = AccessLayer::new(ROWS, |uid| (uid == own_uid()).then_some(Peer::Gateway));
        let incoming = incoming(listener, allow, limits).expect("a listener");
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            Server::builder()
                .layer(access)
                .serve_with_incoming_shutdown(service, incoming, stopped.cancelled_owned())
                .await
                .expect("served");
        });
        Running { _directory: directory, path, calls, stop, task }
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.path).await.expect("connected")
    }

    async fn stop(self) -> usize {
        self.stop.cancel();
        self.task.await.expect("ended");
        self.calls.load(Ordering::SeqCst)
    }
}

async fn channel(path: &Path) -> Channel {
    let path = path.to_owned();
    Endpoint::from_static("http://service.invalid")
        .connect_with_connector(service_fn(move |_: Uri| {
            let path = path.clone();
            async move { Ok::<_, io::Error>(hyper_util::rt::TokioIo::new(UnixStream::connect(path).await?)) }
        }))
        .await
        .expect("a channel")
}

async fn call(channel: &mut Channel, path: &str) -> Response<Body> {
    let request = Request::post(format!("http://service.invalid{path}"))
        .header("content-type", "application/grpc")
        .body(Body::empty())
        .expect("a request");
    channel.ready().await.expect("ready").call(request).await.expect("an answer")
}

/// All that comes until the other side ends it; a reset ends it too.
async fn read_to_end(stream: &mut UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut bytes));
    match read.await.expect("ended in time") {
        Ok(_) => (),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
    bytes
}

fn soon() -> Limits {
    Limits { preface: Duration::from_millis(100), ..Limits::default() }
}

#[tokio::test]
async fn a_stranger_gets_no_byte_and_a_peer_does() {
    for (allowed, expected) in [(false, false), (true, true)] {
        let server = Running::start(move |_| allowed, Limits::default());
        let mut stream = server.connect().await;
        // A refused peer may find the connection closed already.
        let _ = stream.write_all(PREFACE).await;
        let _ = stream.write_all(SETTINGS).await;
        let _ = stream.shutdown().await;
        assert_eq!(!read_to_end(&mut stream).await.is_empty(), expected, "allowed: {allowed}");
        drop(stream);
        assert_eq!(server.stop().await, 0);
    }
}

#[tokio::test]
async fn a_silent_peer_and_half_a_preface_are_closed() {
    let server = Running::start(|_| true, soon());
    for length in [0, 1, 12, 23] {
        let mut stream = server.connect().await;
        stream.write_all(&PREFACE[..length]).await.expect("written");
        read_to_end(&mut stream).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn the_service_knows_the_uid() {
    let server = Running::start(|uid| uid == own_uid(), Limits::default());
    let mut channel = channel(&server.path).await;
    let response = call(&mut channel, "/test.Service/ForGateway").await;
    assert_eq!(grpc_status(&response), Some("0"));
    assert_eq!(response.headers().get("uid").expect("a uid"), own_uid().to_string().as_str());
    drop(channel);
    assert_eq!(server.stop().await, 1);
}

#[tokio::test]
async fn what_no_row_allows_is_refused_and_never_reaches_the_service() {
    let server = Running::start(|_| true, Limits::default());
    let mut channel = channel(&server.path).await;
    for path in [
        "/test.Service/ForNobody",
        "/test.Service/Unknown",
        "/",
        "/test.service/forgateway",
        "/test.Service/ForGateway/",
    ] {
        let response = call(&mut channel, path).await;
        assert_eq!(grpc_status(&response), Some(permission_denied().as_str()), "{path}");
    }
    drop(channel);
    assert_eq!(server.stop().await, 0);
}

#[tokio::test]
async fn a_uid_has_so_many_connections_and_gets_one_back_when_it_closes_one() {
    let server = Running::start(|_| true, Limits { per_uid: 2, ..Limits::default() });
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = server.connect().await;
        stream.write_all(PREFACE).await.expect("written");
        stream.write_all(SETTINGS).await.expect("written");
        assert_ne!(stream.read(&mut [0]).await.expect("served"), 0);
        held.push(stream);
    }
    let mut third = server.connect().await;
    let _ = third.write_all(PREFACE).await;
    assert_eq!(read_to_end(&mut third).await, b"");
    held.pop();
    // The server sees the close when it comes to it; until then it refuses.
    let served = async {
        loop {
            let mut again = server.connect().await;
            let _ = again.write_all(PREFACE).await;
            let _ = again.write_all(SETTINGS).await;
            if again.read(&mut [0]).await.unwrap_or(0) == 1 {
                break again;
            }
        }
    };
    let again = tokio::time::timeout(Duration::from_secs(30), served).await.expect("a free place");
    drop((held, again));
    server.stop().await;
}

/// Whose every accept fails, as without free descriptors.
struct OutOfDescriptors(Arc<AtomicUsize>);

impl Accept for OutOfDescriptors {
    type Stream = DuplexStream;

    async fn accept(&mut self) -> io::Result<(DuplexStream, u32)> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Err(io::Error::from_raw_os_error(24))
    }
}

#[tokio::test(start_paused = true)]
async fn failing_accepts_are_waited_out_and_never_yielded() {
    let tried = Arc::new(AtomicUsize::new(0));
    let mut stream = pin!(incoming_from(OutOfDescriptors(tried.clone()), |_| true, Limits::default()));
    tokio::time::timeout(Duration::from_secs(10), stream.next()).await.expect_err("yields nothing");
    let tried = tried.load(Ordering::SeqCst);
    assert!((150..=201).contains(&tried), "{tried} in 10 s");
}

/// Hands out the connections it was given, then waits for ever.
struct Given(Vec<(DuplexStream, u32)>);

impl Accept for Given {
    type Stream = DuplexStream;

    async fn accept(&mut self) -> io::Result<(DuplexStream, u32)> {
        match self.0.pop() {
            Some(connection) => Ok(connection),
            None => std::future::pending().await,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn after_the_preface_there_is_no_deadline_here() {
    let (mut client, server) = tokio::io::duplex(64);
    let mut stream = pin!(incoming_from(Given(vec![(server, 1)]), |_| true, Limits::default()));
    let mut connection = stream.next().await.expect("one").expect("no error");
    // In two parts, the second just in time.
    client.write_all(&PREFACE[..10]).await.expect("written");
    connection.read_exact(&mut [0; 10]).await.expect("read");
    tokio::time::advance(Duration::from_millis(4900)).await;
    client.write_all(&PREFACE[10..]).await.expect("written");
    connection.read_exact(&mut [0; 14]).await.expect("read");
    tokio::time::timeout(Duration::from_secs(3600), connection.read(&mut [0])).await.expect_err("still open");
}

#[tokio::test(start_paused = true)]
async fn the_deadline_is_for_the_whole_preface() {
    let (mut client, server) = tokio::io::duplex(64);
    let mut stream = pin!(incoming_from(Given(vec![(server, 1)]), |_| true, Limits::default()));
    let mut connection = stream.next().await.expect("one").expect("no error");
    for byte in &PREFACE[..4] {
        client.write_all(&[*byte]).await.expect("written");
        connection.read_exact(&mut [0]).await.expect("read");
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    let started = tokio::time::Instant::now();
    let error = connection.read(&mut [0]).await.expect_err("too late");
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(started.elapsed() <= Duration::from_millis(1100));
}

#[tokio::test(start_paused = true)]
async fn nobody_known_is_a_stranger_even_if_all_are_allowed() {
    let (_client, nobody) = tokio::io::duplex(64);
    let mut stream = pin!(incoming_from(Given(vec![(nobody, u32::MAX)]), |_| true, Limits::default()));
    tokio::time::timeout(Duration::from_secs(60), stream.next()).await.expect_err("refused");
}

#[tokio::test(start_paused = true)]
async fn all_uids_together_have_a_bound() {
    let given = |count: u32| Given((0..count).map(|uid| (tokio::io::duplex(1).0, uid)).collect());
    let limits = Limits { total: 3, ..Limits::default() };
    let stream = pin!(incoming_from(given(5), |_| true, limits));
    let mut held = Vec::new();
    let mut stream = stream;
    while let Ok(next) = tokio::time::timeout(Duration::from_secs(1), stream.next()).await {
        held.push(next.expect("endless").expect("no error"));
    }
    assert_eq!(held.len(), 3);
}

#[tokio::test]
async fn a_refused_call_leaves_its_body_unread_and_the_service_unasked() {
    let rows = [
        // No row, wrong peer, no peer known, row for nobody.
        ("/test.Service/Unknown", Some(7)),
        ("/test.Service/ForGateway", Some(0)),
        ("/test.Service/ForGateway", None),
        ("/test.Service/ForBoth", Some(9)),
        ("/test.Service/ForNobody", Some(7)),
    ];
    let layer = AccessLayer::new(ROWS, |uid| match uid {
        0 => Some(Peer::Root),
        7 => Some(Peer::Gateway),
        _ => None,
    });
    for (path, uid) in rows {
        let unasked =
            service_fn(|_: Request<Body>| async { Err::<Response<Body>, _>(io::Error::other("was asked")) });
        let mut request = Request::post(path).body(Body::new(Unread)).expect("a request");
        if let Some(uid) = uid {
            request.extensions_mut().insert(Caller::of(uid));
        }
        let response = layer.layer(unasked).oneshot(request).await.expect("not asked");
        assert_eq!(grpc_status(&response), Some(permission_denied().as_str()), "{path} {uid:?}");
    }
    for (path, uid) in
        [("/test.Service/ForGateway", 7), ("/test.Service/ForBoth", 7), ("/test.Service/ForBoth", 0)]
    {
        let asked =
            service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::empty())) });
        let mut request = Request::post(path).body(Body::empty()).expect("a request");
        request.extensions_mut().insert(Caller::of(uid));
        let response = layer.layer(asked).oneshot(request).await.expect("asked");
        assert_eq!(grpc_status(&response), None, "{path} {uid}");
    }
}

/// A request body that must not be read.
struct Unread;

impl tonic::codegen::Body for Unread {
    type Data = tonic::codegen::Bytes;
    type Error = Status;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Self::Data>, Status>>> {
        panic!("the body of a refused call is not read")
    }
}
