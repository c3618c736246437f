//! What says who somebody is and what they may do.

use std::{str, sync::LazyLock};

use doorward_authd::{
    jwt::{Issuer, Issuers, KeyFile, Signing},
    secret::Jwt,
    session::Moment,
};
use doorward_launch::Plain;
use doorward_proto::acl::{Holder, deciding, granted, well_formed};

use crate::texts;

pub(crate) const ACLS: &[&[u8]] = &[
    b"ws.group.3.subscribe\x001001\0s\0ws.group.*.#\0!ws.group.3.#\0#",
    b"sysadm.rpc.auth_token._\0a\0b\0sysadm.#\0me.*\0*.my_session",
    b"a.b\nc\0\0\0a.#",
];

/// A subject, a holder and entries, all as strangers might send them. A newline is matched by nothing.
pub(crate) fn acl(input: &[u8]) {
    let mut texts = texts(input);
    let mut next = || texts.next().unwrap_or_default().to_owned();
    let (subject, auth_id, session) = (next(), next(), next());
    let entries: Vec<String> = texts.take(64).map(str::to_owned).collect();
    let holder = Holder { auth_id: &auth_id, session: &session };
    let decides = deciding(&entries, &subject, holder);
    assert!(decides.is_none_or(|place| place < entries.len()));
    let allows = decides.and_then(|place| entries.get(place)).is_some_and(|entry| !entry.starts_with('!'));
    assert_eq!(granted(&entries, &subject, holder), allows);
    assert!(!subject.contains('\n') || decides.is_none());
    for entry in &entries {
        // What can be configured and holds nothing but letters grants itself.
        let plain = entry.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.');
        if plain && well_formed(entry).is_ok() {
            assert!(granted(std::slice::from_ref(entry), entry, holder));
        }
    }
}

pub(crate) const JWTS: &[&[u8]] = &[
    // {"alg":"EdDSA","kid":"1"}.{"iss":"https://id.example","aud":["doorward"],"sub":"7","exp":1800000100}
    b"eyJhbGciOiJFZERTQSIsImtpZCI6IjEifQ.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUiLCJhdWQiOlsiZG9vcndhcmQiXSwic3ViIjoiNyIsImV4cCI6MTgwMDAwMDEwMH0.AAAA",
    b"eyJhbGciOiJub25lIn0.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUifQ.",
    b"e30.e30.",
];

/// Issuers whose keys nobody has the other half of.
static ISSUERS: LazyLock<Issuers> = LazyLock::new(|| {
    let issuer = Issuer {
        kind: "terminal".into(),
        issuer: Some("https://id.example".into()),
        audience: Some("doorward".into()),
        signing: Signing::EdDsa,
        file: KeyFile::Key(concat!(env!("CARGO_MANIFEST_DIR"), "/keys/ed25519.pem").into()),
        user_claim: "sub".into(),
        acl_claim: Some("acl".into()),
        acl_max: vec!["ws.group.#".to_owned()].into(),
    };
    Issuers::open(vec![issuer]).expect("a good key")
});

/// A JWT as a client logs in by it; nobody here could sign one. The bytes are one, or its header and its claims.
pub(crate) fn jwt(input: &[u8]) {
    for text in jwts(input) {
        let Ok(jwt) = Jwt::parse(text) else { continue };
        ISSUERS.verify(&jwt, Moment { at: 1, utc: 1_800_000_000 }).expect_err("a forged one");
    }
}

pub(crate) const ASSERTIONS: &[&[u8]] = &[
    b"eyJ0eXAiOiJKV1QiLCJhbGciOiJFZERTQSJ9.eyJpc3MiOiJkb29yd2FyZC1hdXRoZCIsImF1ZCI6ImNlcnRkIn0.AAAA",
    br#"{"typ":"JWT","alg":"EdDSA"}.{"iss":"doorward-authd","aud":"certd","sub":"bob","uid":1001,"auth_id":"1001","access":"limited","acl":["a.#"],"sid":"s","method":"password","auth_time":1800000000,"iat":1800000000,"exp":1800000060,"jti":"j"}"#,
];

/// authd's word on who calls, as a subsystem gets it; nobody here could sign one.
pub(crate) fn assertion(input: &[u8]) {
    for text in jwts(input) {
        doorward_assertion::read(&text, &[7; 32], "certd", 1_800_000_000).expect_err("a forged one");
    }
}

/// The text itself, and what it says as header and claims, encoded.
fn jwts(input: &[u8]) -> Vec<String> {
    let Ok(text) = str::from_utf8(input) else { return Vec::new() };
    let mut jwts = vec![text.to_owned()];
    if let Some((header, claims)) = text.split_once("}.") {
        jwts.push(format!(
            "{}.{}.AAAA",
            base64url(format!("{header}}}").as_bytes()),
            base64url(claims.as_bytes())
        ));
    }
    jwts
}

/// RFC 4648, 5, without padding.
fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits =
            three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for digit in 0..=three.len() {
            let at = bits >> (18 - 6 * digit) & 63;
            text.push(DIGITS.get(at as usize).copied().map_or('A', char::from));
        }
    }
    text
}

pub(crate) const ARGS: &[&[u8]] = &[
    br#"{"action":"list","x":[1,-2,3.5e7,null,true,"\u00e9"],"y":{"z":{}}}"#,
    br#"{"$serde_json::private::RawValue":"{\"$serde_json::private::RawValue\":\"[1]\"}"}"#,
    b"[[[[[[[[]]]]]]]]",
];

/// Args as a subsystem reads them. What is read is read again when it is written, and nothing that looks like
/// serde_json's own is in it.
pub(crate) fn args(input: &[u8]) {
    if let Ok(value) = Plain::read(input) {
        let written = serde_json::to_vec(&value).expect("it is JSON");
        assert_eq!(Plain::read(&written).expect("what was written"), value);
        assert!(!String::from_utf8_lossy(&written).contains("{\"$serde_json::"));
    }
}
