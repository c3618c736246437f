//! SysAdm envelopes over plain HTTP: the path is the row, the body is the args, the status is the code.

use std::borrow::Cow;

use base64::{Engine, alphabet, engine};
use hyper::{
    Method,
    header::{self, HeaderMap, HeaderValue},
};
use percent_encoding::percent_decode_str;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::{
    Request,
    json::{self, NoMembers, members},
    sysadm::{bad, request_of, write_args},
};
use crate::{
    call::{Credentials, Error, Reply, Secret, Token},
    namespace::{self, Target},
};

/// With or without its padding, as clients write it.
const BASE64: engine::GeneralPurpose = engine::GeneralPurpose::new(
    &alphabet::STANDARD,
    engine::GeneralPurposeConfig::new().with_decode_padding_mode(engine::DecodePaddingMode::Indifferent),
);

/// What a request's method lets it do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Look: actions that read.
    Read,
    /// Anything.
    Write,
    /// Hear which methods there are.
    Options,
}

/// The methods, as `Allow` tells them (RFC 9110, 10.2.1).
pub const METHODS: &str = "GET, HEAD, POST, PUT, OPTIONS";
/// Those that reach actions that write.
pub const WRITING: &str = "POST, PUT, OPTIONS";

/// None: there is no such method here.
pub fn verb(method: &Method) -> Option<Verb> {
    match *method {
        Method::GET | Method::HEAD => Some(Verb::Read),
        Method::POST | Method::PUT => Some(Verb::Write),
        Method::OPTIONS => Some(Verb::Options),
        _ => None,
    }
}

/// What a path means. None: nothing can have such a path.
pub fn target(path: &str) -> Option<Target> {
    let (namespace, name) = path.strip_prefix('/')?.split_once('/')?;
    // What is below /ws/ is for WebSockets of another dialect.
    if matches!(namespace, "" | "ws") || name.is_empty() || name.contains('/') {
        return None;
    }
    Some(namespace::target(&percent_decoded(namespace)?, &percent_decoded(name)?))
}

/// RFC 3986, 2.1. None where it is no UTF-8.
fn percent_decoded(text: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(text).decode_utf8().ok()
}

/// Who a request says it is from.
#[derive(Debug)]
pub enum Authorization {
    /// Nothing is said.
    Nobody,
    /// A login for this one request (RFC 7617).
    Basic(Credentials),
    /// A session (RFC 6750); nothing where the text given cannot be a token.
    Bearer(Option<Token>),
    /// Something else, which lets nobody in.
    Unusable,
}

/// What the headers say of it.
///
/// # Errors
/// When it is said twice: two readers could read two different users.
pub fn authorization(headers: &HeaderMap) -> Result<Authorization, Error> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(Authorization::Nobody) };
    if values.next().is_some() {
        return bad("Authorization is given twice");
    }
    let Ok(value) = value.to_str() else { return Ok(Authorization::Unusable) };
    let Some((scheme, rest)) = value.split_once(' ') else { return Ok(Authorization::Unusable) };
    let rest = rest.trim_matches(' ');
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(Authorization::Bearer(Token::parse(Secret::new(rest.to_owned()))));
    }
    if scheme.eq_ignore_ascii_case("basic") {
        return Ok(basic(rest).map_or(Authorization::Unusable, Authorization::Basic));
    }
    Ok(Authorization::Unusable)
}

/// The password may hold colons, the name may not.
fn basic(text: &str) -> Option<Credentials> {
    let bytes = Zeroizing::new(BASE64.decode(text).ok()?);
    let text = match std::str::from_utf8(&bytes) {
        Ok(text) => Zeroizing::new(text.to_owned()),
        // ISO 8859-1: every byte is the character of that number.
        Err(_) => Zeroizing::new(bytes.iter().copied().map(char::from).collect()),
    };
    let (username, password) = text.split_once(':')?;
    Some(Credentials { username: username.to_owned(), password: Secret::new(password.to_owned()) })
}

/// Whether a page that can only send forms could not have sent this.
pub fn is_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next().map(HeaderValue::as_bytes), values.next()) else { return false };
    let essence = value.split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

/// What a body asks of a row or a subsystem: it is the args, or an object that has `args`; none is `{}`.
///
/// # Errors
/// What is wrong with it.
pub fn decode(target: Target, body: &[u8], depth: usize) -> Result<Request, Error> {
    let Ok(text) = std::str::from_utf8(body) else { return bad("the body is not UTF-8") };
    if json::deeper_than(text, depth) {
        return bad("nested too deeply");
    }
    if text.trim_ascii().is_empty() {
        return request_of(target, "{}");
    }
    match members(text, &["args"]) {
        Ok(found) if found.twice.is_some() => bad("args is given twice"),
        Ok(found) => request_of(target, found.values[0].map_or(text.trim_ascii(), |args| args.get())),
        Err(NoMembers::NotObject) if serde_json::from_str::<&RawValue>(text).is_ok() => {
            request_of(target, text.trim_ascii())
        }
        Err(NoMembers::NotObject | NoMembers::NotJson) => bad("the body is not JSON"),
    }
}

/// The status and the body that tell a reply.
pub fn encode(reply: &Reply) -> (u16, Vec<u8>) {
    let mut body = br#"{"args":"#.to_vec();
    write_args(&mut body, reply);
    body.push(b'}');
    let status = match reply {
        Reply::Answer(_) => 200,
        Reply::Error(error) => error.code(),
    };
    (status, body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{call::Call, namespace::Handler};

    #[test]
    fn two_parts_of_a_path_are_a_row() {
        let handler = |path| target(path).map(|target| target.row().map(|row| row.handler));
        for path in ["/rpc/query", "/RPC/Query", "/%72pc/quer%79"] {
            assert_eq!(handler(path), Some(Some(Handler::Query)), "{path}");
        }
        assert_eq!(handler("/settings/sysadm"), Some(Some(Handler::Settings)));
        for path in
            ["/rpc/nothing", "/a/b", "/rpc/query%2F", "/rpc%2Fquery/x", "/rpc/query%00", "/rpc/quer%2579"]
        {
            assert_eq!(handler(path), Some(None), "{path}");
        }
        for path in
            ["", "/", "/rpc", "/rpc/", "//query", "/rpc/query/", "/rpc/query/x", "/ws/query", "*", "/rpc/%ff"]
        {
            assert_eq!(handler(path), None, "{path}");
        }
    }

    fn said(values: &[&str]) -> Result<Authorization, Error> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers
                .append(header::AUTHORIZATION, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
        }
        authorization(&headers)
    }

    fn user_and_password(value: &str) -> Option<(String, String)> {
        match said(&[value]) {
            Ok(Authorization::Basic(found)) => Some((found.username, found.password.expose().to_owned())),
            _ => None,
        }
    }

    #[test]
    fn basic_is_a_name_and_a_password_with_colons() {
        let pair = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        assert_eq!(user_and_password("Basic YWxpY2U6YTpiOmM="), pair("alice", "a:b:c"));
        assert_eq!(user_and_password("bASIC   YWxpY2U6YTpiOmM"), pair("alice", "a:b:c"));
        assert_eq!(user_and_password("Basic YTrDqQ=="), pair("a", "é"));
        assert_eq!(user_and_password("Basic YTrp"), pair("a", "é"), "ISO 8859-1");
        assert_eq!(user_and_password("Basic Og=="), pair("", ""));
        for wrong in ["Basic", "Basic ", "Basic YWxpY2U=", "Basic !!!!", "Digest YTpi", "basic:YTpi", "YTpi"]
        {
            assert!(matches!(said(&[wrong]), Ok(Authorization::Unusable)), "{wrong}");
        }
    }

    #[test]
    fn a_bearer_has_a_token_or_nothing() {
        let token = "0af6c1a8-9c4d-4f0a-9a53-0123456789ab";
        assert!(matches!(said(&[&format!("bearer {token}")]), Ok(Authorization::Bearer(Some(_)))));
        assert!(matches!(said(&["Bearer x"]), Ok(Authorization::Bearer(None))));
        assert!(matches!(said(&[]), Ok(Authorization::Nobody)));
        assert!(said(&["Basic YTpi", "Basic YTpi"]).is_err());
    }

    #[test]
    fn a_body_is_args_or_has_them_or_is_none() {
        let auth = || target("/rpc/auth").expect("a path");
        for body in [
            r#"{"username":"a","password":"b"}"#,
            r#" {"args":{"username":"a","password":"b"},"namespace":"x"} "#,
        ] {
            let request = decode(auth(), body.as_bytes(), 32).expect("args");
            assert!(matches!(request.call, Call::Auth(found) if found.username == "a"), "{body}");
        }
        for body in ["", " \r\n", "{}"] {
            assert!(
                matches!(decode(auth(), body.as_bytes(), 32).expect("args").call, Call::Auth(_)),
                "{body:?}"
            );
        }
        for body in ["[]", "1", "{", "{} {}", "[] x", r#"{"args":{},"args":{}}"#, "\u{ff}", &"[".repeat(40)] {
            assert!(decode(auth(), body.as_bytes(), 32).is_err(), "{body}");
        }
        assert!(decode(auth(), b"\xff", 32).is_err());
        let nothing = decode(target("/rpc/nothing").expect("a path"), b"{", 32);
        assert!(nothing.is_err(), "what is no JSON is wrong wherever it goes");
    }

    #[test]
    fn only_json_is_json() {
        let type_of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, value.parse().expect("a value"));
            is_json(&headers)
        };
        assert!(type_of("application/json") && type_of("Application/JSON ; charset=utf-8"));
        assert!(!type_of("text/plain") && !type_of("application/json-seq") && !type_of(""));
        assert!(!is_json(&HeaderMap::new()));
    }
}
