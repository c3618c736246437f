//! HTTP/1.1 on a connection: who may, what each request is, and when the connection becomes a WebSocket.

mod answer;
mod facility;
mod rest;
mod token;
mod upgrade;

use std::{
    convert::Infallible,
    future::poll_fn,
    io,
    net::IpAddr,
    os::fd::OwnedFd,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use hyper::{
    HeaderMap, Request, StatusCode,
    body::{Body, Incoming},
    server::conn::http1,
    service::Service,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};

use self::answer::{Answer, failure, last};
use super::{
    Client, STOP_PATIENCE, Serves, Shared, Way,
    origin::{self, Admitted},
    phase::{Phase, Watched},
    rare::Rare,
    stream::Stream,
    tls::Shown,
};
use crate::{
    backend::Caller,
    call::{Error, Origin},
    dialect::token as tokens,
    gate::{Permit, Source},
};

/// The largest head.
const HEAD_MAX: usize = 8 << 10;
/// So much of a body that was not wanted is taken from the client, for so long, so that it reads the answer.
const UNWANTED: usize = 8 << 20;
const UNWANTED_FOR: Duration = Duration::from_secs(5);
/// For saying goodbye to a client.
const SHUTDOWN: Duration = Duration::from_secs(1);

/// What becomes of a connection.
pub(super) enum Next {
    /// It speaks frames from now on.
    WebSocket(Box<Opened>),
    /// It is closed.
    Over,
}

/// A connection that was just upgraded.
pub(super) struct Opened {
    pub(super) stream: Stream,
    /// What came together with the upgrade.
    pub(super) leftover: Bytes,
    pub(super) shown: Shown,
    pub(super) client: Client,
    /// Its place among those who are not logged in.
    pub(super) permit: Permit,
    /// The kernel may be asked who the client is.
    pub(super) local: bool,
    /// What its path says.
    pub(super) way: Way,
}

/// Serves HTTP on a connection.
pub(super) async fn serve(
    stream: Stream,
    path: origin::Path,
    shown: Shown,
    client: Client,
    permit: Permit,
    shared: &Arc<Shared>,
) -> Next {
    let phase = Phase::new(shared.timers.handshake, shared.timers.keep_alive, shared.timers.write);
    // Requests are answered while hyper has the stream, so what proves a local user is taken before.
    let descriptor = match path {
        origin::Path::Unix => stream.descriptor().ok(),
        origin::Path::Remote | origin::Path::Loopback | origin::Path::Plain => None,
    };
    let front = Arc::new(Front {
        shared: Arc::clone(shared),
        phase: Arc::clone(&phase),
        path,
        client,
        shown,
        descriptor,
        requests: AtomicU32::new(0),
        logging_in: AtomicBool::new(false),
        unread: AtomicBool::new(false),
        overdue: AtomicBool::new(false),
        place: Mutex::new(Place { permit: Some(permit), plain: false, upgraded: None, forwarded: None }),
    });
    let io = TokioIo::new(Watched::new(stream, Arc::clone(&phase)));
    // The phase has the deadlines: hyper's own would be the same inside a head and between requests.
    let mut connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(HEAD_MAX)
        .serve_connection(io, Requests(Arc::clone(&front)));
    let mut over = Rare::new(async move { phase.over().await });
    let mut stop = Rare::new(shared.stop.clone().cancelled_owned());
    let mut stopping = None;
    let finished = poll_fn(|context| {
        if stopping.is_none() && stop.poll(context).is_ready() {
            stopping = Some(Box::pin(sleep(STOP_PATIENCE)));
            Pin::new(&mut connection).graceful_shutdown();
        }
        if stopping.as_mut().is_some_and(|patience| patience.as_mut().poll(context).is_ready()) {
            front.overdue.store(true, Ordering::Relaxed);
        }
        match connection.poll_without_shutdown(context) {
            Poll::Ready(result) => Poll::Ready(result.is_ok()),
            Poll::Pending => over.poll(context).map(|()| false),
        }
    })
    .await;
    let parts = connection.into_parts();
    let mut stream = parts.io.into_inner().stream;
    drop(parts.service);
    let unread = front.unread.load(Ordering::Relaxed);
    if front.logging_in.load(Ordering::Acquire) {
        drop(shared.backend.abandon(front.client.id));
    }
    // Whatever answered requests is gone with the connection, so this is the last one.
    let mut counted = None;
    if let Some(front) = Arc::into_inner(front) {
        let Front { mut client, shown, place, .. } = front;
        let Place { permit, upgraded, forwarded, .. } =
            place.into_inner().unwrap_or_else(PoisonError::into_inner);
        match (upgraded, permit) {
            (Some((Admitted { direct }, way)), Some(permit)) if finished => {
                // authd decides; not to ask is to spare it questions that it would refuse.
                let local = direct && path != origin::Path::Remote && stream.is_within_host();
                client.forwarded = forwarded;
                let leftover = parts.read_buf;
                return Next::WebSocket(Box::new(Opened {
                    stream,
                    leftover,
                    shown,
                    client,
                    permit,
                    local,
                    way,
                }));
            }
            // Who goes on sending is counted until the end of it; whoever sees an end has given the place back.
            (_, permit) => counted = (finished && unread).then_some((client, permit)),
        }
    }
    // The client may be gone; then these fail and there is nobody to tell.
    let _ = timeout(SHUTDOWN, stream.shutdown()).await;
    if counted.is_some() {
        // Boxed: the task is as large as the largest thing that it ever waits for.
        let _ = Box::pin(timeout(UNWANTED_FOR, take_unwanted(&mut stream))).await;
    }
    Next::Over
}

/// Takes what the client goes on to send of a body that was not read: closing with unread input would reset the
/// connection, and the answer might be lost.
async fn take_unwanted(stream: &mut Stream) -> io::Result<()> {
    let (mut unwanted, mut left) = ([0; 4096], UNWANTED);
    while left > 0 {
        match stream.read(&mut unwanted).await? {
            0 => break,
            length => left = left.saturating_sub(length),
        }
    }
    Ok(())
}

/// What answers the requests of one connection, one after the other.
struct Front {
    shared: Arc<Shared>,
    phase: Arc<Phase>,
    path: origin::Path,
    client: Client,
    shown: Shown,
    /// The connection itself, where it came by the Unix socket.
    descriptor: Option<OwnedFd>,
    requests: AtomicU32,
    /// authd may hold a login of this connection.
    logging_in: AtomicBool,
    /// The last request has a body that was not read.
    unread: AtomicBool,
    /// The gateway stops, and the answer was waited for long enough.
    overdue: AtomicBool,
    place: Mutex<Place>,
}

/// Where the connection is counted, and what it has become.
struct Place {
    permit: Option<Permit>,
    plain: bool,
    upgraded: Option<(Admitted, Way)>,
    /// For whom a trusted proxy asks.
    forwarded: Option<IpAddr>,
}

/// The answer to a request: mostly there at once.
enum Answering {
    Now(Option<Answer>),
    Later(Pin<Box<dyn Future<Output = Answer> + Send>>),
}

impl Future for Answering {
    type Output = Result<Answer, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Now(answer) => answer.take().map_or(Poll::Pending, |answer| Poll::Ready(Ok(answer))),
            Self::Later(answer) => answer.as_mut().poll(context).map(Ok),
        }
    }
}

struct Requests(Arc<Front>);

impl Service<Request<Incoming>> for Requests {
    type Response = Answer;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Answering {
        let front = &self.0;
        let number = front.requests.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        front.phase.begun();
        // RFC 9112, 6.1: what may have been framed in two ways ends the connection.
        let ambiguous = request.headers().contains_key(hyper::header::TRANSFER_ENCODING);
        // RFC 9110, 10.1.1: whoever waited to be asked for a body and was not may send it or not.
        let expects = request.headers().contains_key(hyper::header::EXPECT);
        front.unread.store(!request.body().is_end_stream(), Ordering::Relaxed);
        let finish = move |front: &Front, answer: Answer| {
            let answer = answer::finished(answer, front.client.id, number);
            tracing::debug!(
                connection = %front.client.id, request = number, status = answer.status().as_u16(), "HTTP answer"
            );
            front.phase.answered();
            let unread = front.unread.load(Ordering::Relaxed);
            if ambiguous || expects && unread { last(answer) } else { answer }
        };
        match Front::receive(front, request, number) {
            Answering::Now(answer) => Answering::Now(answer.map(|answer| finish(front, answer))),
            Answering::Later(answer) => {
                let front = Arc::clone(front);
                Answering::Later(Box::pin(async move { finish(&front, answer.await) }))
            }
        }
    }
}

impl Front {
    fn receive(front: &Arc<Self>, request: Request<Incoming>, number: u32) -> Answering {
        let everything = front.client.serves == Serves::Everything;
        let wants_websocket = everything && upgrade::wanted(request.headers());
        let token_route = tokens::find(request.uri().path()).filter(|_| !wants_websocket);
        let path = match &token_route {
            Some(found) => found.template.into(),
            None => answer::loggable(request.uri().path()),
        };
        tracing::debug!(
            connection = %front.client.id,
            request = number,
            method = %request.method(),
            path = &*path,
            "HTTP request"
        );
        // In the words of the dialect that was asked.
        let refused = |status| match token_route.is_some() || !everything {
            true => token::refused(status, request.method()),
            false => failure(status),
        };
        let pages = if token_route.is_some() { origin::Pages::Token } else { origin::Pages::Own };
        let admitted = match front.shared.rules.judge(front.path, pages, request.uri(), request.headers()) {
            Ok(admitted) => admitted,
            // Whoever is refused is not kept: the connection is still counted as a newcomer's.
            Err(origin::Refused) => return now(last(refused(StatusCode::FORBIDDEN))),
        };
        if !front.may_come(request.headers()) {
            return now(last(refused(StatusCode::FORBIDDEN)));
        }
        if wants_websocket {
            return now(front.upgrade(&request, admitted));
        }
        if !front.plain() {
            return now(last(refused(StatusCode::TOO_MANY_REQUESTS)));
        }
        match token_route {
            Some(found) => token::answer(front, request, found, number),
            None if everything => {
                let front = Arc::clone(front);
                Answering::Later(Box::pin(async move {
                    let answer = rest::answer(Arc::clone(&front), request, admitted, number);
                    front.unless_overdue(answer, || failure(StatusCode::SERVICE_UNAVAILABLE)).await
                }))
            }
            None => now(token::refused(StatusCode::NOT_FOUND, request.method())),
        }
    }

    /// Whether nobody for whom this is asked is under a penalty. Others than proxies were looked at when they
    /// were accepted.
    fn may_come(&self, headers: &HeaderMap) -> bool {
        if !self.client.proxy {
            return true;
        }
        let forwarded = self.shared.proxies.client(headers);
        self.lock().forwarded = forwarded;
        // Whoever only looks at tokens is heard also then.
        if self.client.serves == Serves::TokenApi {
            return true;
        }
        let source = self.charged();
        let penalty = self.shared.backend.penalties().left(source, Instant::now());
        if let Some(left) = penalty {
            tracing::debug!(connection = %self.client.id, %source, ?left, "refused: under a penalty");
        }
        penalty.is_none()
    }

    /// The connection stays what it is, and has to be counted as such; whether there is room.
    fn plain(&self) -> bool {
        let mut place = self.lock();
        if !place.plain {
            let gate = &self.shared.gates(self.client.serves).plain;
            let client = &self.client;
            let permit =
                if client.exempt { Some(gate.enter_exempt()) } else { gate.enter_from(client.source) };
            let Some(permit) = permit else { return false };
            place.permit = Some(permit);
            place.plain = true;
        }
        true
    }

    fn upgrade<B: Body>(&self, request: &Request<B>, admitted: Admitted) -> Answer {
        let accept = match upgrade::handshake(request) {
            Ok(accept) => accept,
            Err(refusal) => return *refusal,
        };
        let mut place = self.lock();
        if place.plain {
            let Some(permit) = self.client.newcomer(&self.shared) else {
                return last(failure(StatusCode::TOO_MANY_REQUESTS));
            };
            place.permit = Some(permit);
            place.plain = false;
        }
        let way = facility::way(&self.shared, request.uri().path(), request.uri().query());
        place.upgraded = Some((admitted, way));
        accept
    }

    /// Who asks authd for a login.
    fn caller(&self) -> Caller {
        let caller = self.client.caller();
        Caller { origin: Origin { forwarded: self.lock().forwarded, ..caller.origin }, ..caller }
    }

    /// Whose penalties and misses are its own.
    fn charged(&self) -> Source {
        self.lock().forwarded.map_or(self.client.source, Source::of_address)
    }

    /// A login at authd: if the client hangs up meanwhile, authd is told.
    async fn logging_in<T>(&self, login: impl Future<Output = T>) -> T {
        self.logging_in.store(true, Ordering::Release);
        let outcome = login.await;
        self.logging_in.store(false, Ordering::Release);
        outcome
    }

    /// An answer, or a refusal when the gateway stops and has waited for it long enough. The connection's task
    /// polls the answer again then.
    async fn unless_overdue(
        &self,
        answer: impl Future<Output = Answer>,
        refused: impl Fn() -> Answer,
    ) -> Answer {
        let mut answer = pin!(answer);
        poll_fn(|context| match answer.as_mut().poll(context) {
            Poll::Pending if self.overdue.load(Ordering::Relaxed) => Poll::Ready(last(refused())),
            polled => polled,
        })
        .await
    }

    /// Reads the body of the request.
    async fn read(&self, request: Request<Incoming>, most: usize) -> Result<Bytes, Error> {
        let until = tokio::time::Instant::now() + self.shared.timers.body;
        let whole = answer::read(request.into_body(), most, until).await?;
        self.unread.store(false, Ordering::Relaxed);
        Ok(whole)
    }

    fn lock(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now(answer: Answer) -> Answering {
    Answering::Now(Some(answer))
}
