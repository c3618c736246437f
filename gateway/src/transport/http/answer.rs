//! Responses, and the bodies of requests.

use std::borrow::Cow;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Response, StatusCode,
    body::{Body, Incoming},
    header::{self, HeaderName, HeaderValue},
};
use tokio::time::{Instant, timeout_at};

use crate::call::{ConnectionId, Error};

pub(super) type Answer = Response<Full<Bytes>>;

/// By which a client's report and our log are brought together.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A failure, in the form that the SysAdm documents have for it.
pub(super) fn failure(status: StatusCode) -> Answer {
    let message = status.canonical_reason().unwrap_or_default();
    let body = format!(r#"{{"args":{{"code":{},"message":"{message}"}}}}"#, status.as_u16());
    json(status, body.into_bytes())
}

pub(super) fn json(status: StatusCode, body: Vec<u8>) -> Answer {
    let mut answer = Response::new(Full::from(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

pub(super) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}

/// Nothing more is answered on this connection.
pub(super) fn last(mut answer: Answer) -> Answer {
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// What every answer says: its request's name, and that it is for nobody else.
pub(super) fn finished(mut answer: Answer, connection: ConnectionId, number: u32) -> Answer {
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let headers = answer.headers_mut();
        if let Ok(id) = HeaderValue::try_from(format!("{connection}/{number}")) {
            headers.insert(REQUEST_ID, id);
        }
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    answer
}

/// Reads a body of at most `most` bytes.
///
/// # Errors
/// What the client is told; the connection cannot be used for another request then.
pub(super) async fn read(mut body: Incoming, most: usize, until: Instant) -> Result<Bytes, Error> {
    if body.size_hint().lower() > u64::try_from(most).unwrap_or(u64::MAX) {
        return Err(Error::TooLarge);
    }
    let whole = async {
        // As one: a client that sends byte by byte would have each of them cost forty.
        let mut whole = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Error::BadRequest("the body is broken".into()))?;
            // What stands behind the body (RFC 9110, 6.5) means nothing here.
            let Ok(data) = frame.into_data() else { continue };
            if data.len() > most - whole.len() {
                return Err(Error::TooLarge);
            }
            whole.extend_from_slice(&data);
        }
        Ok(Bytes::from(whole))
    };
    timeout_at(until, whole).await.unwrap_or(Err(Error::TimedOut))
}

/// A path without what looks like a token.
pub(super) fn loggable(path: &str) -> Cow<'_, str> {
    /// A UUID.
    const LENGTH: usize = 36;
    let secret =
        |part: &str| part.len() >= LENGTH - 4 && part.bytes().filter(u8::is_ascii_hexdigit).count() >= 28;
    if !path.split('/').any(secret) {
        return Cow::Borrowed(path);
    }
    let parts: Vec<_> = path.split('/').map(|part| if secret(part) { "..." } else { part }).collect();
    Cow::Owned(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_token_is_not_logged() {
        for (path, expected) in [
            ("/rpc/query", "/rpc/query"),
            ("/", "/"),
            ("/x/0af6c1a8-9c4d-4f0a-9a53-0123456789ab", "/x/..."),
            ("/x/0AF6C1A8-9C4D-4F0A-9A53-0123456789AB/y", "/x/.../y"),
            ("/x/0af6c1a89c4d4f0a9a530123456789ab", "/x/..."),
            ("/x/%30af6c1a8-9c4d-4f0a-9a53-0123456789ab", "/x/..."),
        ] {
            assert_eq!(loggable(path), expected);
        }
    }
}
