//! What says who somebody is and what they may do.

use std::{str, sync::LazyLock};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
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
pub(crate) fn acl(input: &[u8]) -> bool {
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
    allows
}

/// The half that signs, for whoever is believed here.
static SIGNER: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("32 bytes"));

pub(crate) const JWTS: &[&[u8]] = &[
    br#"{"alg":"EdDSA"}.{"iss":"https://id.example","aud":["doorward"],"sub":"7","exp":1800000100,"acl":["ws.group.3.subscribe"]}"#,
    br#"{"alg":"EdDSA","kid":"1"}.{"iss":"https://id.example","aud":"doorward","sub":"x","exp":1800000100,"nbf":1,"iat":1}"#,
    b"eyJhbGciOiJub25lIn0.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUifQ.",
    b"e30.e30.",
];

/// The issuer of that key, which is in fuzz/keys/signer.pem.
static ISSUERS: LazyLock<Issuers> = LazyLock::new(|| {
    let issuer = Issuer {
        kind: "terminal".into(),
        issuer: Some("https://id.example".into()),
        audience: Some("doorward".into()),
        signing: Signing::EdDsa,
        file: KeyFile::Key(concat!(env!("CARGO_MANIFEST_DIR"), "/keys/signer.pem").into()),
        user_claim: "sub".into(),
        acl_claim: Some("acl".into()),
        acl_max: vec!["ws.group.#".to_owned()].into(),
    };
    Issuers::open(vec![issuer]).expect("a good key")
});

/// A JWT as a client logs in by it: what nobody signed, and header and claims that the issuer did.
pub(crate) fn jwt(input: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(input) else { return false };
    let verify = |text: String| {
        let jwt = Jwt::parse(text).ok()?;
        ISSUERS.verify(&jwt, Moment { at: 1, utc: 1_800_000_000 }).ok()
    };
    assert!(verify(text.to_owned()).is_none(), "a forged one");
    signed(text).and_then(verify).is_some()
}

pub(crate) const ASSERTIONS: &[&[u8]] = &[
    b"eyJ0eXAiOiJKV1QiLCJhbGciOiJFZERTQSJ9.eyJpc3MiOiJkb29yd2FyZC1hdXRoZCIsImF1ZCI6ImNlcnRkIn0.AAAA",
    br#"{"typ":"JWT","alg":"EdDSA"}.{"iss":"doorward-authd","aud":"certd","sub":"bob","uid":1001,"auth_id":"1001","access":"limited","acl":["a.#"],"sid":"s","method":"password","auth_time":1800000000,"iat":1800000000,"exp":1800000060,"jti":"j"}"#,
    br#"{"alg":"EdDSA"}.{"iss":"doorward-authd","aud":"certd","sub":"terminal/t","kind":"terminal","pk":"7","name":"T","auth_id":"t","access":"limited","acl":[],"sid":"s","method":"model","auth_time":1800000000,"iat":1800000000,"exp":1800000060,"jti":"j"}"#,
];

/// authd's word on who calls, as a subsystem gets it: what nobody signed, and header and claims that authd did.
pub(crate) fn assertion(input: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(input) else { return false };
    let key: &[u8; 32] = SIGNER.public_key().as_ref().try_into().expect("32 bytes");
    let read = |text: &str| doorward_assertion::read(text, key, "certd", 1_800_000_000).ok();
    assert!(read(text).is_none(), "a forged one");
    let Some(caller) = signed(text).and_then(|text| read(&text)) else { return false };
    assert!(caller.uid.is_none() || doorward_assertion::is_user(&caller.user), "{caller:?}");
    true
}

/// Header and claims, as the signer's JWT (RFC 7515, 3.1).
fn signed(text: &str) -> Option<String> {
    let (header, claims) = text.split_once("}.")?;
    let input = format!("{}.{}", base64url(format!("{header}}}").as_bytes()), base64url(claims.as_bytes()));
    let signature = base64url(SIGNER.sign(input.as_bytes()).as_ref());
    Some(format!("{input}.{signature}"))
}

/// RFC 4648, 5, without padding.
fn base64url(bytes: &[u8]) -> String {
    base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, bytes)
}

pub(crate) const ARGS: &[&[u8]] = &[
    br#"{"action":"list","x":[1,-2,3.5e7,null,true,"\u00e9"],"y":{"z":{}}}"#,
    br#"{"$serde_json::private::RawValue":"{\"$serde_json::private::RawValue\":\"[1]\"}"}"#,
    b"[[[[[[[[]]]]]]]]",
];

/// Args as a subsystem reads them. What is read is read again when it is written, and nothing that looks like
/// serde_json's own is in it.
pub(crate) fn args(input: &[u8]) -> bool {
    let Ok(value) = Plain::read(input) else { return false };
    let written = serde_json::to_vec(&value).expect("it is JSON");
    assert_eq!(Plain::read(&written).expect("what was written"), value);
    assert!(!String::from_utf8_lossy(&written).contains("{\"$serde_json::"));
    true
}
