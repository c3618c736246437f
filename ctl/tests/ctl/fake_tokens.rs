//! A token API for tests of its clients: it knows one user, keeps what it was asked, and answers some tokens
//! as no server of ours would.

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rustls::{ServerConfig, crypto::aws_lc_rs::default_provider};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    runtime::Runtime,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    fake_gateway::{HOSTILE, fingerprint},
    listening::Listening,
};

/// The one that is live.
pub(crate) const LIVE: &str = "0af6c1a8-9c4d-4f0a-9a53-0123456789ab";
/// Nobody's.
pub(crate) const UNKNOWN: &str = "0af6c1a8-9c4d-4f0a-9a53-ffffffffffff";
/// Answered with more than a client reads.
pub(crate) const LONG: &str = "0af6c1a8-9c4d-4f0a-9a53-000000000001";
/// Answered with itself, and with commands to a terminal.
pub(crate) const ECHOED: &str = "0af6c1a8-9c4d-4f0a-9a53-000000000002";
/// Answered with a page.
pub(crate) const PAGE: &str = "0af6c1a8-9c4d-4f0a-9a53-000000000003";

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) request: String,
    pub(crate) host: String,
    pub(crate) authorization: String,
    pub(crate) body: String,
}

/// A running server; ends when dropped.
pub(crate) struct FakeTokens {
    pub(crate) socket: PathBuf,
    pub(crate) url: String,
    pub(crate) fingerprint: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    _runtime: Runtime,
}

impl FakeTokens {
    /// Listens before it returns.
    pub(crate) fn start(directory: &Path) -> Self {
        let Listening { runtime, socket, unix, url, tcp, certificate, key, .. } =
            Listening::start(directory.join("tokens.sock"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let fingerprint = fingerprint(&certificate);
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let shared = Arc::clone(&asked);
        runtime.spawn(async move {
            loop {
                let (stream, _) = unix.accept().await.unwrap();
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        let shared = Arc::clone(&asked);
        runtime.spawn(async move {
            loop {
                let (stream, _) = tcp.accept().await.unwrap();
                let (acceptor, shared) = (acceptor.clone(), Arc::clone(&shared));
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, shared).await;
                    }
                });
            }
        });
        Self { socket, url, fingerprint, asked, _runtime: runtime }
    }

    /// Every request so far, and none of them again.
    pub(crate) fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

async fn serve<S>(stream: S, asked: Arc<Mutex<Vec<Asked>>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let answering = service_fn(|request: Request<Incoming>| {
        let asked = Arc::clone(&asked);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let header =
                |name: &str| head.headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
            let request = Asked {
                request: format!("{} {}", head.method, head.uri),
                host: header("host"),
                authorization: header("authorization"),
                body: String::from_utf8(body.to_vec()).unwrap(),
            };
            let (status, retry, body) = answer(&request);
            asked.lock().unwrap().push(request);
            let mut answer = Response::builder().status(status);
            if retry {
                answer = answer.header("Retry-After", "60");
            }
            Ok::<_, Infallible>(answer.body(Full::<Bytes>::from(body)).unwrap())
        }
    });
    // A client that goes away is no error here.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answering).await;
}

fn token(expiration: u64) -> Value {
    json!({
        "token": LIVE, "auth_id": "1000", "xivo_user_uuid": null, "xivo_uuid": null,
        "issued_at": "2026-11-22T03:47:02.000000", "expires_at": "2026-11-22T04:47:02.000000",
        "utc_issued_at": "2026-11-22T03:47:02.000000", "utc_expires_at": "2026-11-22T04:47:02.000000",
        "acls": ["confd.#", "dird.me"], "acl": ["confd.#", "dird.me"], "session_uuid": UNKNOWN,
        "metadata": {"expiration": expiration},
    })
}

fn answer(asked: &Asked) -> (u16, bool, String) {
    let refused = |status: u16, reason: &str| {
        let body = json!({"reason": [reason], "timestamp": [1456.78], "status_code": status});
        (status, status == 429, body.to_string())
    };
    let body: Value = serde_json::from_str(&asked.body).unwrap_or_default();
    let (method, path) = asked.request.split_once(' ').unwrap();
    if (method, path) == ("POST", "/0.1/token") {
        let pair = asked.authorization.strip_prefix("Basic ").map(|text| STANDARD.decode(text).unwrap());
        let pair = pair.map(|pair| String::from_utf8(pair).unwrap()).unwrap_or_default();
        return match pair.as_str() {
            _ if body["backend"] == "none" => refused(401, "Authentication Failed"),
            _ if body["expiration"] == 1_000_000 => refused(400, "Invalid expiration"),
            "alice:right:colons" => {
                let expiration = body["expiration"].as_u64().unwrap_or(7200);
                (200, false, json!({ "data": token(expiration) }).to_string())
            }
            "hasty:right" => refused(429, "Too many failures: try again later"),
            "away:right" => refused(503, "A back end does not answer: try again later"),
            "odd:right" => (200, false, json!({"data": {"token": HOSTILE}}).to_string()),
            _ => refused(401, "Authentication Failed"),
        };
    }
    let of = |token: &str| path.strip_prefix("/0.1/token/").is_some_and(|rest| rest.starts_with(token));
    match method {
        _ if of(LONG) => (200, false, " ".repeat(2 << 20)),
        _ if of(ECHOED) => refused(403, &format!("{ECHOED}{HOSTILE}")),
        _ if of(PAGE) => (404, false, "<html>".to_owned()),
        "POST" if path == format!("/0.1/token/{LIVE}/scopes/check") => {
            let scopes = body["scopes"].as_array().unwrap();
            let scopes = scopes.iter().map(|scope| {
                let scope = scope.as_str().unwrap();
                (scope.to_owned(), Value::Bool(scope.starts_with("confd.")))
            });
            (200, false, json!({"scopes": scopes.collect::<serde_json::Map<_, _>>()}).to_string())
        }
        "GET" if of(LIVE) => (200, false, json!({ "data": token(7200) }).to_string()),
        "DELETE" if of(LIVE) || of(UNKNOWN) => {
            (200, false, json!({"data": {"message": "success"}}).to_string())
        }
        _ => refused(404, "No such token"),
    }
}
