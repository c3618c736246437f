//! HTTP/1.1 to the gateway: one connection, one request, one answer.

use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    Method, Request, StatusCode,
    body::Bytes,
    client::conn::http1,
    header::{self, HeaderValue},
};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::{Endpoint, HUNG_UP, in_time, is_hang_up};
use crate::error::Error;

/// An answer is read up to here: a token has a list of entries, and no more.
const ANSWER_MAX: usize = 1024 * 1024;

/// A connection that no request was sent on.
pub(crate) struct Http {
    sender: http1::SendRequest<Full<Bytes>>,
    connection: http1::Connection<TokioIo<super::Stream>, Full<Bytes>>,
    host: HeaderValue,
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
    /// So many seconds later it may be tried again.
    pub(crate) retry_after: Option<u64>,
}

impl Http {
    /// Connects within the deadline.
    pub(crate) async fn connect(endpoint: &Endpoint) -> Result<Self, Error> {
        in_time(endpoint, Self::open(endpoint)).await
    }

    async fn open(endpoint: &Endpoint) -> Result<Self, Error> {
        // Whom we reached was checked when the connection was made; nothing is kept of it here.
        let (uri, stream, _server) = endpoint.open().await?;
        let host = uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
        let host = host.ok_or_else(|| Error::Usage("the address names no host".to_owned()))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broke)?;
        Ok(Self { sender, connection, host })
    }

    /// Sends a request, with JSON or nothing in it, and reads the answer. No error of this names the path or a
    /// header: there are secrets in both.
    pub(crate) async fn ask(
        mut self,
        method: Method,
        path: &str,
        authorization: Option<HeaderValue>,
        json: Option<String>,
        deadline: Duration,
    ) -> Result<Answer, Error> {
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, self.host);
        if let Some(mut value) = authorization {
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        if json.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = Full::from(json.unwrap_or_default());
        let request = request.body(body).map_err(|_| Error::refused("this cannot be asked over HTTP"))?;
        let exchange = async {
            let answer = self.sender.send_request(request).await.map_err(broke)?;
            let status = answer.status();
            let retry_after = answer.headers().get(header::RETRY_AFTER);
            let retry_after = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
            let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
            let body = body.map_err(|error| match error.is::<LengthLimitError>() {
                true => Error::unreachable("the answer is longer than 1 MiB"),
                false => Error::unreachable("the connection to the gateway broke in the middle of an answer"),
            })?;
            Ok(Answer { status, body: body.to_bytes(), retry_after })
        };
        let both = async {
            tokio::pin!(exchange);
            tokio::select! {
                biased;
                answer = &mut exchange => answer,
                ended = self.connection => match ended {
                    // It has closed after the answer, which is read to its end.
                    Ok(()) => exchange.await,
                    Err(error) => Err(broke(error)),
                },
            }
        };
        timeout(deadline, both).await.map_err(|_| {
            Error::unreachable(format!("no answer from the gateway within {} seconds", deadline.as_secs()))
        })?
    }
}

fn broke(error: hyper::Error) -> Error {
    let io = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<std::io::Error>());
    if error.is_closed()
        || error.is_canceled()
        || error.is_incomplete_message()
        || io.is_some_and(|io| is_hang_up(io.kind()))
    {
        return Error::unreachable(HUNG_UP);
    }
    match io {
        Some(io) => Error::unreachable(format!("the connection to the gateway broke: {io}")),
        None => Error::unreachable(format!("what answers there is no doorward gateway: {error}")),
    }
}
