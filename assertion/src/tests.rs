//! An assertion is believed when it is authd's, in time, and for this audience; never otherwise.

use std::fs;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use super::*;

const NOW: i64 = 1_800_000_000;

fn own() -> u32 {
    doorward_launch::Identity::current().uid
}

struct Authd {
    public: [u8; 32],
    private: EncodingKey,
}

fn authd() -> Authd {
    let pair = Ed25519KeyPair::generate().expect("a key");
    let private = pair.to_pkcs8().expect("encoded");
    Authd {
        public: pair.public_key().as_ref().try_into().expect("32 bytes"),
        private: EncodingKey::from_ed_der(private.as_ref()),
    }
}

impl Authd {
    fn sign(&self, claims: &Value) -> String {
        jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), claims, &self.private).expect("signed")
    }

    fn pem(&self) -> String {
        let spki = [ED25519_HEAD, &self.public].concat();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(spki))
    }
}

fn claims() -> Value {
    json!({
        "iss": "doorward-authd", "aud": "certd", "sub": "alice", "uid": 1000, "auth_id": "1000",
        "access": "limited", "acl": ["sysadm.rpc.settings.#"], "sid": "5c1f", "method": "password",
        "auth_time": NOW - 100, "iat": NOW, "exp": NOW + 60, "jti": "x",
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

#[test]
fn what_authd_signs_is_believed() {
    let authd = authd();
    let caller = read(&authd.sign(&claims()), &authd.public, "certd", NOW + 59).expect("believed");
    assert_eq!(
        caller,
        Caller {
            user: "alice".into(),
            uid: Some(1000),
            kind: "user".into(),
            pk: None,
            name: None,
            full: false,
            auth_id: "1000".into(),
            acl: vec!["sysadm.rpc.settings.#".into()],
            session: "5c1f".into(),
            method: "password".into(),
            login_time: NOW - 100,
            assertion: "x".into(),
            issued: NOW,
            expires: NOW + 60,
        }
    );
}

#[test]
fn anything_else_is_not() {
    let signer = authd();
    for changed in [
        with("iss", json!("doorward-gateway")),
        with("aud", json!("sysinfo")),
        with("aud", json!("Certd")),
        with("aud", json!(["certd", "sysinfo"])),
        with("exp", json!(NOW)),
        with("exp", json!(NOW - 1)),
        with("exp", json!(NOW + 61)),
        with("exp", json!(i64::MAX)),
        with("exp", json!("soon")),
        with("exp", Value::Null),
        with("iat", json!(NOW + 6)),
        with("iat", json!(NOW + 60)),
        with("iat", json!(i64::MIN)),
        with("iat", Value::Null),
        with("iss", Value::Null),
        with("aud", Value::Null),
        with("sub", Value::Null),
        with("sub", json!("")),
        with("sub", json!("-rf")),
        with("sub", json!("../etc")),
        with("sub", json!("a\nb")),
        with("sub", json!("x".repeat(257))),
        with("uid", json!(-1)),
        with("uid", Value::Null),
        with("pk", json!("7")),
        with("kind", json!("terminal")),
        with("access", json!("admin")),
        with("sid", json!("")),
        with("sid", json!("a b")),
        with("method", json!("x".repeat(65))),
        with("auth_id", json!("")),
        with("jti", json!("a b")),
        with("jti", Value::Null),
        with("acl", json!("#")),
        with("auth_time", Value::Null),
    ] {
        assert!(read(&signer.sign(&changed), &signer.public, "certd", NOW).is_err(), "{changed}");
    }
    assert!(read(&authd().sign(&claims()), &signer.public, "certd", NOW).is_err(), "another key");
    assert!(matches!(read(&"x".repeat(JWT_MAX + 1), &signer.public, "certd", NOW), Err(Refused::TooLong)));
    // Anybody's header is parsed before the signature, so it has room for authd's own and not for more.
    let header = Header { kid: Some("x".repeat(64)), ..Header::new(Algorithm::EdDSA) };
    let long = jsonwebtoken::encode(&header, &claims(), &signer.private).expect("signed");
    assert!(matches!(read(&long, &signer.public, "certd", NOW), Err(Refused::TooLong)));
    for text in ["", ".", "..", "...", "a.b.c", "\0"] {
        assert!(read(text, &signer.public, "certd", NOW).is_err(), "{text:?}");
    }
}

fn terminal() -> Value {
    let mut claims = claims();
    claims["sub"] = json!("terminal/t-7");
    claims["uid"] = Value::Null;
    claims["auth_id"] = json!("t-7");
    claims["kind"] = json!("terminal");
    claims["pk"] = json!("7");
    claims["name"] = json!("root");
    claims
}

#[test]
fn who_is_no_user_of_the_host_is_told_apart_by_everything() {
    let authd = authd();
    let caller = read(&authd.sign(&terminal()), &authd.public, "certd", NOW).expect("believed");
    assert_eq!((caller.user.as_str(), caller.uid, caller.kind.as_str()), ("terminal/t-7", None, "terminal"));
    assert_eq!((caller.pk.as_deref(), caller.name.as_deref()), (Some("7"), Some("root")));
    for (name, value) in [
        ("sub", json!("root")),
        ("sub", json!("terminal/t-8")),
        ("sub", json!("user/t-7")),
        ("uid", json!(0)),
        ("kind", json!("user")),
        ("kind", Value::Null),
        ("kind", json!("")),
        ("pk", Value::Null),
        ("pk", json!("")),
        ("pk", json!("a\nb")),
        ("pk", json!("x".repeat(129))),
    ] {
        let mut claims = terminal();
        claims[name] = value;
        let refused = read(&authd.sign(&claims), &authd.public, "certd", NOW);
        assert!(matches!(refused, Err(Refused::Claim(_))), "{claims}");
    }
}

#[test]
fn a_service_for_users_refuses_everybody_else() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("assertion.pub");
    let authd = authd();
    fs::write(&path, authd.pem()).expect("written");
    let verifier = Verifier::new(path, own(), "certd");
    assert!(verifier.user(&authd.sign(&claims()), NOW).is_ok());
    assert!(matches!(verifier.user(&authd.sign(&terminal()), NOW), Err(Refused::NoUser)));
}

#[test]
fn the_header_chooses_no_algorithm() {
    let authd = authd();
    let good = authd.sign(&claims());
    let mut parts = good.split('.');
    let (_, body, signature) = (parts.next(), parts.next().expect("body"), parts.next().expect("signature"));
    let head = |json: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json);
    for header in [r#"{"alg":"none"}"#, r#"{"alg":"HS256"}"#, r#"{"alg":"RS256"}"#, r#"{"alg":"ES256"}"#] {
        for tail in ["", signature] {
            let forged = format!("{}.{body}.{tail}", head(header));
            assert!(read(&forged, &authd.public, "certd", NOW).is_err(), "{header}");
        }
    }
    // RS to HS confusion: the public key as an HMAC secret.
    let secret = EncodingKey::from_secret(&authd.public);
    let forged = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims(), &secret).expect("signed");
    assert!(read(&forged, &authd.public, "certd", NOW).is_err());
    let swapped = format!(
        "{}.{}.{signature}",
        head(r#"{"alg":"EdDSA"}"#),
        head(&with("sub", json!("root")).to_string())
    );
    assert!(read(&swapped, &authd.public, "certd", NOW).is_err());
}

#[test]
fn the_key_file_may_come_later_and_change() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("assertion.pub");
    let verifier = Verifier::new(path.clone(), own(), "certd");
    let (first, second) = (authd(), authd());
    let by = |authd: &Authd| verifier.caller(&authd.sign(&claims()), NOW);
    assert!(matches!(by(&first), Err(Refused::NoKey(_))));
    fs::write(&path, first.pem()).expect("written");
    assert!(by(&first).is_ok());
    assert!(matches!(by(&second), Err(Refused::Invalid(_))));
    fs::write(&path, second.pem()).expect("written");
    // Whoever stole the old key may be the first to come.
    assert!(by(&first).is_err(), "the old key is not believed any more");
    assert!(by(&second).is_ok());
}

#[test]
fn a_key_file_that_others_can_write_or_that_is_none_is_not_used() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("assertion.pub");
    let authd = authd();
    let verdict = || Verifier::new(path.clone(), own(), "certd").caller(&authd.sign(&claims()), NOW);
    fs::write(&path, authd.pem()).expect("written");
    assert!(verdict().is_ok());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("chmod");
    assert!(matches!(verdict(), Err(Refused::NoKey(_))));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("chmod");
    for content in
        ["", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", &authd.pem().repeat(2)]
    {
        fs::write(&path, content).expect("written");
        assert!(matches!(verdict(), Err(Refused::NoKey(_))), "{content:?}");
    }
}

#[test]
fn the_acl_is_the_callers_own() {
    let authd = authd();
    let claims = with(
        "acl",
        json!(["sysadm.sysadm.systemmanager.*", "!sysadm.sysadm.systemmanager.halt", "sysadm.homes.me.#"]),
    );
    let caller = read(&authd.sign(&claims), &authd.public, "certd", NOW).expect("believed");
    assert!(caller.may("sysadm.sysadm.systemmanager.memory_stats"));
    assert!(!caller.may("sysadm.sysadm.systemmanager.halt"));
    assert!(!caller.may("sysadm.sysadm.users.list"));
    assert!(caller.may("sysadm.homes.1000.list") && !caller.may("sysadm.homes.1001.list"));
}
