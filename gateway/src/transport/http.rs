//! HTTP/1.1 until a connection becomes a WebSocket: who may, and what everybody else is told.

use std::{
    convert::Infallible,
    future::{Ready, poll_fn, ready},
    net::IpAddr,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode, Version,
    body::{Body, Incoming},
    header::{self, HeaderMap, HeaderValue},
    server::conn::http1,
    service::Service,
};
use hyper_util::rt::TokioIo;
use tokio::{io::AsyncWriteExt, time::timeout};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{
    Client, Shared,
    origin::{self, Admitted},
    phase::{Phase, Watched},
    stream::Stream,
    tls::Shown,
};
use crate::gate::{Gate, Past, Permit, Source};

/// The largest head.
const HEAD_MAX: usize = 8 << 10;
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
    let phase = Phase::new(shared.timers.handshake, shared.timers.keep_alive);
    let front = Front {
        shared: Arc::clone(shared),
        phase: Arc::clone(&phase),
        path,
        client,
        place: Mutex::new(Place { permit: Some(permit), plain: false, upgraded: None, forwarded: None }),
    };
    let io = TokioIo::new(Watched { stream, phase: Arc::clone(&phase) });
    // The phase has the deadlines: hyper's own would be the same inside a head and between requests.
    let mut connection =
        http1::Builder::new().header_read_timeout(None).max_buf_size(HEAD_MAX).serve_connection(io, front);
    let mut over = pin!(phase.over());
    let mut stop = pin!(shared.stop.cancelled());
    let mut stopping = false;
    let finished = loop {
        tokio::select! {
            result = poll_fn(|context| connection.poll_without_shutdown(context)) => break result.is_ok(),
            () = &mut over => break false,
            () = &mut stop, if !stopping => {
                stopping = true;
                std::pin::Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    let parts = connection.into_parts();
    let mut stream = parts.io.into_inner().stream;
    let Front { mut client, place, .. } = parts.service;
    let place = place.into_inner().unwrap_or_else(PoisonError::into_inner);
    if finished && let (Some(Admitted { direct }), Some(permit)) = (place.upgraded, place.permit) {
        // authd decides; not to ask is to spare it questions that it would refuse.
        let local = direct && path != origin::Path::Remote && stream.is_within_host();
        client.forwarded = place.forwarded;
        let leftover = parts.read_buf;
        return Next::WebSocket(Box::new(Opened { stream, leftover, shown, client, permit, local }));
    }
    // The client may be gone; then this fails and there is nobody to tell.
    let _ = timeout(SHUTDOWN, stream.shutdown()).await;
    Next::Over
}

/// Answers the requests of one connection.
struct Front {
    shared: Arc<Shared>,
    phase: Arc<Phase>,
    path: origin::Path,
    client: Client,
    place: Mutex<Place>,
}

/// Where the connection is counted, and what it has become.
struct Place {
    permit: Option<Permit>,
    plain: bool,
    upgraded: Option<Admitted>,
    /// For whom a trusted proxy asks.
    forwarded: Option<IpAddr>,
}

type Answer = Response<Full<Bytes>>;

impl Service<Request<Incoming>> for Front {
    type Response = Answer;
    type Error = Infallible;
    type Future = Ready<Result<Answer, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let answer = self.answer(&request);
        tracing::debug!(
            connection = %self.client.id,
            method = %request.method(),
            path = request.uri().path(),
            status = answer.status().as_u16(),
            "HTTP request"
        );
        self.phase.answered();
        ready(Ok(answer))
    }
}

impl Front {
    fn answer<B: Body>(&self, request: &Request<B>) -> Answer {
        let admitted = match self.shared.rules.judge(self.path, request.uri(), request.headers()) {
            Ok(admitted) => admitted,
            // Whoever is refused is not kept: the connection is still counted as a newcomer's.
            Err(origin::Refused) => return last(failure(StatusCode::FORBIDDEN)),
        };
        if !self.may_come(request.headers()) {
            return last(failure(StatusCode::FORBIDDEN));
        }
        if wants_websocket(request.headers()) {
            if request.uri().path().starts_with("/ws/") {
                return self.plain(StatusCode::NOT_FOUND);
            }
            return self.upgrade(request, admitted);
        }
        self.plain(StatusCode::NOT_FOUND)
    }

    /// Whether nobody for whom this is asked is under a penalty. Others than proxies were looked at when they
    /// were accepted.
    fn may_come(&self, headers: &HeaderMap) -> bool {
        if !self.client.proxy {
            return true;
        }
        let forwarded = self.shared.proxies.client(headers);
        self.lock().forwarded = forwarded;
        let source = forwarded.map_or(self.client.source, Source::of_address);
        let penalty = self.shared.backend.penalties().left(source, Instant::now());
        if let Some(left) = penalty {
            tracing::debug!(connection = %self.client.id, %source, ?left, "refused: under a penalty");
        }
        penalty.is_none()
    }

    /// An answer on a connection that stays what it is, which has to be counted as such.
    fn plain(&self, status: StatusCode) -> Answer {
        let mut place = self.lock();
        if !place.plain {
            let Some(permit) = self.enter(&self.shared.plain, Past::Clean) else {
                return last(failure(StatusCode::TOO_MANY_REQUESTS));
            };
            place.permit = Some(permit);
            place.plain = true;
        }
        failure(status)
    }

    fn upgrade<B: Body>(&self, request: &Request<B>, admitted: Admitted) -> Answer {
        let accept = match handshake(request) {
            Ok(accept) => accept,
            Err(refusal) => return *refusal,
        };
        let mut place = self.lock();
        if place.plain {
            let past = match self.client.proxy {
                true => Past::Clean,
                false => self.shared.backend.penalties().past(self.client.source, Instant::now()),
            };
            let Some(permit) = self.enter(&self.shared.newcomers, past) else {
                return last(failure(StatusCode::TOO_MANY_REQUESTS));
            };
            place.permit = Some(permit);
            place.plain = false;
        }
        place.upgraded = Some(admitted);
        accept
    }

    fn enter(&self, gate: &Gate, past: Past) -> Option<Permit> {
        if self.client.exempt { Some(gate.enter_exempt()) } else { gate.enter_as(self.client.source, past) }
    }

    fn lock(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `Connection: upgrade` and `Upgrade: websocket`.
fn wants_websocket(headers: &HeaderMap) -> bool {
    let lists = |name, wanted: &[u8]| {
        headers
            .get_all(name)
            .iter()
            .flat_map(|value: &HeaderValue| value.as_bytes().split(|byte| *byte == b','))
            .any(|word| word.trim_ascii().eq_ignore_ascii_case(wanted))
    };
    lists(header::CONNECTION, b"upgrade") && lists(header::UPGRADE, b"websocket")
}

/// The rules of RFC 6455, 4.2.1. A body would be taken for frames, so there is none.
fn handshake<B: Body>(request: &Request<B>) -> Result<Answer, Box<Answer>> {
    let headers = request.headers();
    let one = |name| {
        let mut values = headers.get_all(name).iter();
        values.next().filter(|_| values.next().is_none())
    };
    if one(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        let mut refusal = last(failure(StatusCode::UPGRADE_REQUIRED));
        refusal.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        refusal.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        return Err(Box::new(refusal));
    }
    let key = one(header::SEC_WEBSOCKET_KEY).filter(|key| is_nonce(key.as_bytes()));
    let plain = request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && request.body().is_end_stream()
        && !headers.contains_key(header::TRANSFER_ENCODING);
    let accept = key.filter(|_| plain).map(|key| derive_accept_key(key.as_bytes()));
    let Some(accept) = accept.and_then(|accept| HeaderValue::try_from(accept).ok()) else {
        return Err(Box::new(last(failure(StatusCode::BAD_REQUEST))));
    };
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    Ok(answer)
}

/// Base64 of 16 bytes.
fn is_nonce(key: &[u8]) -> bool {
    use base64::{Engine, engine::general_purpose::STANDARD};
    key.len() == 24 && STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16)
}

fn failure(status: StatusCode) -> Answer {
    let message = status.canonical_reason().unwrap_or_default();
    let body = format!(r#"{{"args":{{"code":{},"message":"{message}"}}}}"#, status.as_u16());
    let mut answer = Response::new(Full::from(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// Nothing more is answered on this connection.
fn last(mut answer: Answer) -> Answer {
    answer.headers_mut().append(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}
