//! What clients send to the gateway.

use std::str;

use doorward_gateway::{
    call::{Credentials, Reply, Secret},
    dialect::{self, Place, rest, sysadm, token},
    proxy::Proxies,
};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::{json, value::RawValue};

use crate::texts;

/// An object as RFC 8259 has it. What it repeats of the request may have a lone surrogate, as the request did.
fn is_object(told: &[u8]) -> bool {
    told.starts_with(b"{") && serde_json::from_slice::<&RawValue>(told).is_ok()
}

pub(crate) const ENVELOPES: &[&[u8]] = &[
    br#"{"namespace":"rpc","name":"auth","id":"a","args":{"username":"alice","password":"secret"}}"#,
    br#"{"namespace":"rpc","name":"auth_ssl","id":1,"args":{"encrypted_string":"AAAA","fingerprint":"SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"}}"#,
    br#"{"namespace":"rpc","name":"auth_respond","id":[],"args":{"conversation":"c","answers":["1","2"]}}"#,
    br#"{"namespace":"rpc","name":"settings","id":null,"args":{"action":"register_ssl_cert","pub_key":"AAAA","nickname":"n","email":"e"}}"#,
    br#"{"namespace":"rpc","name":"sessions","id":"s","args":{"action":"list","after":"0f9d5f2c-1b7e-4c55-9a0e-2a6a4f0c9b11"}}"#,
    br#"{"namespace":"rpc","name":"logs","args":{"action":"read_logs","start":"1700000000","end":"1700000100","logs":["events-state"]}}"#,
    br#"{"namespace":"sysadm","name":"systemmanager","id":{"x":1},"action":"memory","y":[1.50,true,"\u00e9"]}"#,
    br#"{"namespace":"events","name":"subscribe","args":["auth","system-state"]}"#,
    br#"{"namespace":"rpc","name":"cancel","args":{"id":"a"}}"#,
];

/// A message of a WebSocket. What is refused is told by one JSON object.
pub(crate) fn envelope(input: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(input) else { return false };
    let decoded = sysadm::decode(text, 32);
    let taken = decoded.request.is_ok();
    if let Err(error) = decoded.request {
        let reply = sysadm::encode(&decoded.echo, &Reply::Error(error));
        assert!(is_object(&reply), "{}", String::from_utf8_lossy(&reply));
    }
    taken
}

pub(crate) const CHANNELS: &[&[u8]] = &[
    br#"{"action":"auth","kind":"user","token":"0f9d5f2c-1b7e-4c55-9a0e-2a6a4f0c9b11"}"#,
    br#"{"action":"auth","kind":"terminal","token":"t","id":7,"channels":["a","b.c"]}"#,
    br#"{"action":"subscribe","channel":"group","pk":"3","id":"x"}"#,
    br#"{"action":"resubscribe","channels":[{"channel":"group","pk":"3"},{"channel":"news"}]}"#,
    br#"{"action":"publish","channel":"group","pk":3,"message":{"a":[1,2.5,"\ud83d\udca9"]}}"#,
    br#"{"action":"set_status","message":"away","channel":"group"}"#,
    br#"{"namespace":"rpc","name":"query","id":"q","args":{}}"#,
];

/// The same where channels are spoken, and where both are. Every reply is JSON.
pub(crate) fn channel(input: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(input) else { return false };
    let mut taken = false;
    for channels in [true, false] {
        let place = Place { facility: Default::default(), channels };
        let decoded = dialect::decode(text, 32, &place);
        taken |= decoded.request.is_ok();
        if let Err(error) = decoded.request {
            dialect::encode(&decoded.echo, &Reply::Error(error), |reply| {
                assert!(is_object(&reply), "{}", String::from_utf8_lossy(&reply));
            });
        }
    }
    taken
}

pub(crate) const HTTP: &[&[u8]] = &[
    b"/rpc/query\0\0Basic YWxpY2U6c2VjcmV0\0{}",
    b"/sysadm/systemmanager\0\0Bearer 0f9d5f2c-1b7e-4c55-9a0e-2a6a4f0c9b11\0{\"args\":{\"action\":\"memory\"}}",
    b"/0.1/token\0\0application/json; charset=utf-8\0{\"backend\":\"pam\",\"expiration\":60}",
    b"/0.1/token/0f9d5f2c-1b7e-4c55-9a0e-2a6a4f0c9b11\0scope=a.b.c&scope=%23\0Basic Og==\0",
    b"/0.1/token/0f9d5f2c-1b7e-4c55-9a0e-2a6a4f0c9b11/scopes/check\0\0x\0{\"scopes\":[\"a\",\"b.#\"]}",
];

/// A path, a query, a header and a body of plain HTTP. What is refused is told by JSON.
pub(crate) fn http(input: &[u8]) -> bool {
    let mut texts = texts(input);
    let mut next = || texts.next().unwrap_or_default();
    let (path, query, header, body) = (next(), next(), next(), next().as_bytes());
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_str(header) {
        headers.append(AUTHORIZATION, value.clone());
        headers.append(CONTENT_TYPE, value);
    }
    let _ = (rest::authorization(&headers), rest::is_json(&headers));
    let decoded = rest::target(path).map(|target| rest::decode(target, body, 32));
    let taken = decoded.as_ref().is_some_and(Result::is_ok);
    if let Some(Err(error)) = decoded {
        let (status, told) = rest::encode(&Reply::Error(error));
        assert!((400..600).contains(&status));
        assert!(is_object(&told), "{}", String::from_utf8_lossy(&told));
    }
    if let Some(found) = token::find(path) {
        // The log has the template alone.
        assert!(found.token.is_none() || found.template.contains("{token}"));
    }
    let _ = token::scope(Some(query));
    let credentials = Credentials { username: String::new(), password: Secret::new(String::new()) };
    let _ = token::wish(body, 32, credentials);
    if let Ok(scopes) = token::wished_scopes(body, 32) {
        let answers = scopes.into_iter().map(|scope| (scope, false)).collect();
        assert!(token::scopes(answers).ends_with(b"}"));
    }
    taken
}

pub(crate) const FORWARDED: &[&[u8]] = &[
    b"10.0.0.0/8\x00192.0.2.1, 10.1.2.3\0[2001:db8::1]:443",
    b"uid:33\0::1\0\"[::ffff:192.0.2.1]:7\"",
    b"fd00::/8\0unknown, , 10.0.0.1:99999\0fd00::2",
];

/// A proxy of the configuration, and two headers that one wrote. Whoever is trusted is not the client.
pub(crate) fn forwarded(input: &[u8]) -> bool {
    let mut texts = texts(input);
    let read = |proxies| serde_json::from_value::<Proxies>(proxies);
    let Ok(proxies) = read(json!([texts.next().unwrap_or_default()])) else { return false };
    let written = serde_json::to_value(&proxies).expect("JSON");
    let again = read(written.clone()).expect("it is read as it is written");
    assert_eq!(serde_json::to_value(&again).expect("JSON"), written);
    let mut headers = HeaderMap::new();
    for value in texts.take(4).filter_map(|text| HeaderValue::from_str(text).ok()) {
        headers.append(HeaderName::from_static("x-forwarded-for"), value);
    }
    let client = proxies.client(&headers);
    assert!(client.is_none_or(|client| !proxies.trust_address(client)));
    client.is_some()
}
