//! From HTTP to a WebSocket: the rules of RFC 6455, 4.2.

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode, Version,
    body::Body,
    header::{self, HeaderMap, HeaderValue},
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::answer::{Answer, failure, last};

/// `Connection: upgrade` and `Upgrade: websocket`.
pub(super) fn wanted(headers: &HeaderMap) -> bool {
    let lists = |name, wanted: &[u8]| {
        headers
            .get_all(name)
            .iter()
            .flat_map(|value: &HeaderValue| value.as_bytes().split(|byte| *byte == b','))
            .any(|word| word.trim_ascii().eq_ignore_ascii_case(wanted))
    };
    lists(header::CONNECTION, b"upgrade") && lists(header::UPGRADE, b"websocket")
}

/// The answer that opens it. A body would be taken for frames, so there is none.
pub(super) fn handshake<B: Body>(request: &Request<B>) -> Result<Answer, Box<Answer>> {
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
