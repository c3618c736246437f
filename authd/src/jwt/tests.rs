//! A token is believed when its issuer signed it, in time, for us and for this; never otherwise.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;

use super::*;
use crate::{session::Identity, vouched::Newcomer};

#[path = "../../../examples/python.rs"]
mod python;
// A part of it is used.
#[allow(dead_code)]
#[path = "../../../launch/src/skip.rs"]
mod skip;

const NOW: u64 = 1_800_000_000;
const AT: u64 = 77_000;
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
/// What stands before the 32 bytes of an Ed25519 key (RFC 8410).
const HEAD: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";

fn owned(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

fn write(path: &Path, content: impl AsRef<[u8]>, mode: u32) {
    fs::write(path, content).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

fn issuer(signing: Signing, file: KeyFile) -> Issuer {
    Issuer {
        kind: "terminal".into(),
        issuer: Some("https://id.example".into()),
        audience: Some("doorward".into()),
        signing,
        file,
        user_claim: "sub".into(),
        acl_claim: Some("acl".into()),
        acl_max: owned(&["ws.group.#"]).into(),
    }
}

/// An issuer with a key of Ed25519.
struct Ed {
    public: Vec<u8>,
    private: EncodingKey,
}

impl Ed {
    fn new() -> Self {
        let pair = Ed25519KeyPair::generate().expect("a key");
        let private = EncodingKey::from_ed_der(pair.to_pkcs8().expect("encoded").as_ref());
        Self { public: pair.public_key().as_ref().to_vec(), private }
    }

    fn pem(&self) -> String {
        let spki = [HEAD, &self.public].concat();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(spki))
    }

    fn jwk(&self, kid: &str) -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": URL_SAFE_NO_PAD.encode(&self.public)})
    }

    fn sign(&self, claims: &Value) -> String {
        self.sign_as(claims, None)
    }

    fn sign_as(&self, claims: &Value, kid: Option<&str>) -> String {
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::EdDSA) };
        jsonwebtoken::encode(&header, claims, &self.private).expect("signed")
    }
}

fn claims() -> Value {
    json!({"iss": "https://id.example", "aud": "doorward", "sub": "t-7", "exp": NOW + 600,
           "iat": NOW, "nbf": NOW, "token_type": "access", "acl": ["ws.group.3.subscribe"]})
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().expect("an object").remove(name);
    claims
}

struct Bed {
    directory: tempfile::TempDir,
    ed: Ed,
}

impl Bed {
    fn new() -> Self {
        let (directory, ed) = (tempfile::tempdir().expect("temp dir"), Ed::new());
        write(&directory.path().join("ed.pem"), ed.pem(), 0o644);
        Self { directory, ed }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn issuer(&self) -> Issuer {
        issuer(Signing::EdDsa, KeyFile::Key(self.path("ed.pem")))
    }

    fn open(&self, all: Vec<Issuer>) -> Issuers {
        Issuers::open(all).expect("good keys")
    }

    fn verdict(&self, claims: &Value) -> Result<Vouched, Cause> {
        verify(&self.open(vec![self.issuer()]), &self.ed.sign(claims))
    }
}

fn verify(issuers: &Issuers, jwt: &str) -> Result<Vouched, Cause> {
    issuers.verify(&Jwt::parse(jwt.to_owned()).map_err(|_| Cause::MalformedJwt)?, Moment { at: AT, utc: NOW })
}

fn somebody(vouched: Result<Vouched, Cause>) -> Newcomer {
    match vouched {
        Ok(Vouched::Other(newcomer)) => newcomer,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_token_says_who_it_is_about_and_for_how_long() {
    let bed = Bed::new();
    let newcomer = somebody(bed.verdict(&claims()));
    let text = |text: &str| text.to_owned();
    let who = Identity::Other { kind: text("terminal"), id: text("t-7"), pk: text("t-7"), name: text("t-7") };
    assert_eq!((newcomer.who, newcomer.life), (who, Some(Duration::from_secs(600))));
    assert_eq!(*newcomer.acl, owned(&["ws.group.3.subscribe"]));
    for good in [
        with("aud", json!(["other", "doorward"])),
        with("exp", json!((NOW as f64) + 600.7)),
        with("nbf", json!(NOW + 30)),
        with("iat", json!(NOW + 30)),
        without("nbf"),
        without("iat"),
        without("token_type"),
        with("sub", json!("7a")),
        with("acl", heavy(25)),
    ] {
        assert!(bed.verdict(&good).is_ok(), "{good}");
    }
}

/// Entries of 190 bytes.
fn heavy(count: usize) -> Value {
    let entry = |n: usize| json!(format!("ws.group.{n:02}{}", "x".repeat(179)));
    Value::Array((0..count).map(entry).collect())
}

#[test]
fn claims_that_are_wrong_in_one_thing_are_refused() {
    let bed = Bed::new();
    for (wrong, cause) in [
        (without("exp"), Cause::JwtTime),
        (with("exp", Value::Null), Cause::JwtTime),
        (with("exp", json!(NOW)), Cause::JwtTime),
        (with("exp", json!(NOW - 1)), Cause::JwtTime),
        (with("exp", json!(-1)), Cause::JwtTime),
        (with("exp", json!("soon")), Cause::JwtTime),
        // In milliseconds it would last for ever.
        (with("exp", json!((NOW + 600) * 1000)), Cause::JwtTime),
        (with("exp", json!(1e300)), Cause::JwtTime),
        (with("exp", json!(u64::MAX)), Cause::JwtTime),
        (with("nbf", json!(NOW + 31)), Cause::JwtTime),
        (with("nbf", json!("now")), Cause::JwtTime),
        (with("iat", json!(NOW + 31)), Cause::JwtTime),
        (with("aud", json!("other")), Cause::JwtClaims),
        (with("aud", json!(["other"])), Cause::JwtClaims),
        (with("aud", json!({"doorward": true})), Cause::JwtClaims),
        (without("aud"), Cause::JwtClaims),
        (with("iss", json!("https://evil.example")), Cause::NoSuchIssuer),
        (without("iss"), Cause::NoSuchIssuer),
        (with("token_type", json!("refresh")), Cause::JwtClaims),
        (with("token_type", Value::Null), Cause::JwtClaims),
        (without("sub"), Cause::JwtClaims),
        (with("sub", json!("")), Cause::JwtClaims),
        (with("sub", json!("user/root")), Cause::JwtClaims),
        (with("sub", json!("*")), Cause::JwtClaims),
        (with("sub", json!(-7)), Cause::JwtClaims),
        (with("sub", json!(1000)), Cause::JwtClaims),
        (with("sub", json!("1000")), Cause::JwtClaims),
        // What no JWT may have there (RFC 7519, 4.1.2) the library does not read at all.
        (with("sub", json!(["t-7"])), Cause::ForgedJwt),
        (with("acl", json!({"ws.#": true})), Cause::JwtClaims),
        (with("acl", json!([1])), Cause::JwtClaims),
        (with("acl", json!(vec!["ws.group.1.x"; 257])), Cause::JwtClaims),
    ] {
        assert_eq!(bed.verdict(&wrong), Err(cause), "{wrong}");
    }
}

#[test]
fn entries_beyond_the_maximum_are_not_given() {
    let bed = Bed::new();
    for (acl, left) in [
        (json!(["#", "sysadm.#", "ws.other.#", "ws.group.1.x"]), &["ws.group.1.x"][..]),
        (json!("ws.# confd.#"), &["ws.group.#"]),
        (json!(["ws.group.#", "!ws.group.9.#"]), &["ws.group.#", "!ws.group.9.#"]),
        (Value::Null, &[]),
    ] {
        assert_eq!(*somebody(bed.verdict(&with("acl", acl.clone()))).acl, owned(left), "{acl}");
    }
    assert!(somebody(bed.verdict(&without("acl"))).acl.is_empty());
    let issuers = bed.open(vec![Issuer { acl_claim: None, ..bed.issuer() }]);
    let whole = somebody(verify(&issuers, &bed.ed.sign(&without("acl"))));
    assert_eq!(*whole.acl, owned(&["ws.group.#"]), "the issuer says nothing of it");
}

#[test]
fn users_of_the_host_are_named_and_nothing_more() {
    let bed = Bed::new();
    let acl_max = owned(&["ws.#"]).into();
    let of_users = Issuer { kind: "user".into(), acl_claim: None, acl_max, ..bed.issuer() };
    let issuers = bed.open(vec![of_users]);
    match verify(&issuers, &bed.ed.sign(&with("sub", json!("alice")))) {
        Ok(Vouched::User(user, limit)) => {
            assert_eq!((user.as_str(), limit.ends), ("alice", AT + 600_000));
            assert_eq!(*limit.acl, owned(&["ws.#"]));
        }
        other => panic!("{other:?}"),
    }
    let refused = verify(&issuers, &bed.ed.sign(&with("sub", json!("a/b"))));
    assert_eq!(refused, Err(Cause::MalformedUser));
}

#[test]
fn the_token_chooses_no_algorithm_and_no_key() {
    let bed = Bed::new();
    let issuers = bed.open(vec![bed.issuer()]);
    let good = bed.ed.sign(&claims());
    let (_, rest) = good.split_once('.').expect("a header");
    let (body, signature) = rest.split_once('.').expect("a body");
    let head = |header: Value| URL_SAFE_NO_PAD.encode(header.to_string());
    for (header, cause) in [
        (json!({"alg": "none"}), Cause::ForgedJwt),
        (json!({"alg": "None"}), Cause::ForgedJwt),
        (json!({"alg": "HS256"}), Cause::ForgedJwt),
        (json!({"alg": "RS256"}), Cause::ForgedJwt),
        (json!({}), Cause::ForgedJwt),
        (json!({"alg": "EdDSA", "crit": ["exp"]}), Cause::MalformedJwt),
        (json!({"alg": "EdDSA", "crit": []}), Cause::MalformedJwt),
        (json!({"alg": "EdDSA", "kid": 7}), Cause::MalformedJwt),
        (json!({"alg": "EdDSA", "kid": "x".repeat(129)}), Cause::MalformedJwt),
        // It is a name among those of the set, and no path.
        (json!({"alg": "EdDSA", "kid": "../../../etc/passwd"}), Cause::ForgedJwt),
        (json!({"alg": "EdDSA", "jwk": bed.ed.jwk("a"), "jku": "https://evil.example"}), Cause::ForgedJwt),
    ] {
        for tail in ["", signature] {
            let forged = format!("{}.{body}.{tail}", head(header.clone()));
            assert_eq!(verify(&issuers, &forged), Err(cause), "{header}");
        }
    }
    // What everybody can read taken for a shared secret.
    for secret in [bed.ed.pem().into_bytes(), bed.ed.pem().trim().into(), bed.ed.public.clone()] {
        let key = EncodingKey::from_secret(&secret);
        let forged = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims(), &key).expect("signed");
        assert_eq!(verify(&issuers, &forged), Err(Cause::ForgedJwt));
    }
    assert_eq!(verify(&issuers, &Ed::new().sign(&claims())), Err(Cause::ForgedJwt), "another key");
    let other = head(with("sub", json!("t-8")));
    let swapped = format!("{}.{other}.{signature}", head(json!({"alg": "EdDSA"})));
    assert_eq!(verify(&issuers, &swapped), Err(Cause::ForgedJwt));
    let padded = with("more", json!("x".repeat(16_384)));
    for text in ["", ".", "..", "...", "a.b.c", "e30.e30", "e30.e30.e30.e30", "ä.b.c", &bed.ed.sign(&padded)]
    {
        assert_eq!(verify(&issuers, text), Err(Cause::MalformedJwt), "{:.20}", text);
    }
    assert_eq!(verify(&issuers, "e30.e30.e30"), Err(Cause::NoSuchIssuer));
    assert!(verify(&bed.open(Vec::new()), &good).is_err(), "nobody is believed");
}

#[test]
fn an_issuer_speaks_for_itself_and_one_without_a_name_for_no_other() {
    let (bed, second) = (Bed::new(), Ed::new());
    write(&bed.path("second.pem"), second.pem(), 0o644);
    let second_issuer = Issuer {
        kind: "gate".into(),
        issuer: None,
        audience: None,
        file: KeyFile::Key(bed.path("second.pem")),
        ..bed.issuer()
    };
    let issuers = bed.open(vec![second_issuer, bed.issuer()]);
    let kind = |jwt: &str| verify(&issuers, jwt).map(|found| somebody(Ok(found)).who.kind().to_owned());
    assert_eq!(kind(&bed.ed.sign(&claims())).as_deref(), Ok("terminal"));
    assert_eq!(kind(&second.sign(&claims())), Err(Cause::ForgedJwt), "that is the other's name");
    assert_eq!(kind(&second.sign(&without("iss"))).as_deref(), Ok("gate"));
    assert_eq!(kind(&second.sign(&with("iss", json!("x")))).as_deref(), Ok("gate"));
    assert_eq!(kind(&bed.ed.sign(&without("iss"))), Err(Cause::ForgedJwt));
}

#[test]
fn keys_of_a_set_are_known_by_their_names_and_can_be_rotated() {
    let (bed, new) = (Bed::new(), Ed::new());
    let path = bed.path("keys.json");
    let set = |keys: Vec<Value>| json!({ "keys": keys }).to_string();
    let foreign = json!({"kty": "RSA", "kid": "rsa", "n": "AQAB", "e": "AQAB"});
    let for_others = json!({"kty": "OKP", "crv": "Ed25519", "use": "enc", "x": "AAAA"});
    write(&path, set(vec![bed.ed.jwk("old"), foreign, for_others]), 0o644);
    let by_set = || issuer(Signing::EdDsa, KeyFile::Set(path.clone()));
    let issuers = bed.open(vec![by_set()]);
    let believed = |issuers: &Issuers, ed: &Ed, kid| verify(issuers, &ed.sign_as(&claims(), kid)).is_ok();
    assert!(believed(&issuers, &bed.ed, Some("old")) && believed(&issuers, &bed.ed, None));
    assert!(!believed(&issuers, &bed.ed, Some("new")), "it is not that one");
    assert!(!believed(&issuers, &new, Some("old")));
    // While it rotates both hold, each under its name.
    write(&path, set(vec![bed.ed.jwk("old"), new.jwk("new")]), 0o644);
    let issuers = bed.open(vec![by_set()]);
    assert!(believed(&issuers, &bed.ed, Some("old")) && believed(&issuers, &new, Some("new")));
    assert!(!believed(&issuers, &new, None) && !believed(&issuers, &new, Some("old")), "nobody tries keys");
    write(&path, set(Vec::new()), 0o644);
    assert!(!believed(&bed.open(vec![by_set()]), &bed.ed, Some("old")), "none is left");
}

#[tokio::test]
async fn a_new_file_is_taken_over_and_a_broken_one_leaves_what_there_was() {
    let (bed, second) = (Bed::new(), Ed::new());
    let issuers = bed.open(vec![bed.issuer()]);
    let mut seen = watch::Seen::default();
    let believed = |ed: &Ed| verify(&issuers, &ed.sign(&claims())).is_ok();
    issuers.look(&mut seen).await;
    assert!(believed(&bed.ed));
    // Whole or not at all, as it should be done.
    write(&bed.path("new"), second.pem(), 0o644);
    fs::rename(bed.path("new"), bed.path("ed.pem")).expect("renamed");
    issuers.look(&mut seen).await;
    assert!(believed(&second) && !believed(&bed.ed), "the old key is believed no more");
    let broken: [&dyn Fn(); 3] = [
        &|| write(&bed.path("ed.pem"), "-----BEGIN PUBLIC KEY-----\nAAAA\n", 0o644),
        &|| write(&bed.path("ed.pem"), bed.ed.pem(), 0o666),
        &|| fs::remove_file(bed.path("ed.pem")).expect("removed"),
    ];
    for breaks in broken {
        breaks();
        for _ in 0..2 {
            issuers.look(&mut seen).await;
            assert!(believed(&second) && !believed(&bed.ed));
        }
    }
    write(&bed.path("ed.pem"), bed.ed.pem(), 0o644);
    issuers.look(&mut seen).await;
    assert!(believed(&bed.ed) && !believed(&second));
}

#[test]
fn files_that_others_can_change_or_read_and_keys_that_are_none_are_refused() {
    let bed = Bed::new();
    let path = bed.path("key");
    let refused = |signing, file: fn(PathBuf) -> KeyFile, content: &[u8], mode| {
        write(&path, content, mode);
        Issuers::open(vec![issuer(signing, file(path.clone()))]).err().map(|failure| failure.to_string())
    };
    let pem = bed.ed.pem();
    let oct =
        |bytes: &[u8]| json!({"keys": [{"kty": "oct", "k": URL_SAFE_NO_PAD.encode(bytes)}]}).to_string();
    let two = json!({"keys": [bed.ed.jwk("a"), bed.ed.jwk("a")]}).to_string();
    let nobodys = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}]}).to_string();
    let small = json!({"keys": [{"kty": "RSA", "e": "AQAB", "n": URL_SAFE_NO_PAD.encode([0xff; 128])}]});
    let many = json!({"keys": vec![json!({}); 65]}).to_string();
    for (signing, file, content, mode, says) in [
        (Signing::EdDsa, KeyFile::Key as fn(PathBuf) -> KeyFile, pem.as_bytes(), 0o646, Some("can write")),
        (Signing::EdDsa, KeyFile::Key, pem.as_bytes(), 0o664, Some("can write")),
        (Signing::EdDsa, KeyFile::Key, b"", 0o644, Some("no public key")),
        (Signing::EdDsa, KeyFile::Key, pem.repeat(2).as_bytes(), 0o644, Some("no public key")),
        (Signing::Rs256, KeyFile::Key, pem.as_bytes(), 0o644, Some("no public key for RS256")),
        (Signing::Es256, KeyFile::Key, pem.as_bytes(), 0o644, Some("no public key for ES256")),
        (Signing::EdDsa, KeyFile::Set, pem.as_bytes(), 0o644, Some("no JSON")),
        (Signing::EdDsa, KeyFile::Set, b"{}", 0o644, Some("no list")),
        (Signing::EdDsa, KeyFile::Set, two.as_bytes(), 0o644, Some("the same kid")),
        (Signing::EdDsa, KeyFile::Set, nobodys.as_bytes(), 0o644, Some("no key of Ed25519")),
        (Signing::EdDsa, KeyFile::Set, many.as_bytes(), 0o644, Some("more than 64")),
        (Signing::Rs256, KeyFile::Set, small.to_string().as_bytes(), 0o644, Some("2048 bits")),
        (Signing::Hs256, KeyFile::Key, &SECRET[1..], 0o600, Some("31 bytes")),
        (Signing::Hs256, KeyFile::Key, &[&SECRET[1..], b"\n"].concat(), 0o600, Some("31 bytes")),
        (Signing::Hs256, KeyFile::Set, oct(&SECRET[1..]).as_bytes(), 0o600, Some("31 bytes")),
        (Signing::Hs256, KeyFile::Key, SECRET, 0o644, Some("can read")),
        (Signing::Hs256, KeyFile::Key, SECRET, 0o640, Some("group can read")),
        (Signing::Hs256, KeyFile::Set, oct(SECRET).as_bytes(), 0o604, Some("can read")),
        (Signing::Hs256, KeyFile::Key, SECRET, 0o600, None),
        (Signing::Hs256, KeyFile::Set, oct(SECRET).as_bytes(), 0o400, None),
    ] {
        let told = refused(signing, file, content, mode);
        assert!(
            told.as_deref().map_or(says.is_none(), |told| says.is_some_and(|says| told.contains(says))),
            "{signing:?} {mode:o} {says:?}: {told:?}"
        );
        fs::remove_file(&path).expect("removed");
    }
    std::os::unix::fs::symlink(bed.path("ed.pem"), &path).expect("linked");
    assert!(Issuers::open(vec![issuer(Signing::EdDsa, KeyFile::Key(path.clone()))]).is_err(), "a link");
    assert!(Issuers::open(vec![issuer(Signing::EdDsa, KeyFile::Key(bed.path("none")))]).is_err());
}

#[test]
fn what_another_library_signs_is_believed_with_each_algorithm() {
    let Some(python) = python::with(&["jwt", "cryptography"]) else { return };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/jwt/elsewhere.py");
    let made = std::process::Command::new(python).arg(script).arg(claims().to_string()).output();
    let made = made.expect("Python runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let made: Value = serde_json::from_slice(&made.stdout).expect("JSON");
    let directory = tempfile::tempdir().expect("temp dir");
    let text = |name: &str, member: &str| made[name][member].as_str().expect("made").to_owned();
    for (name, signing) in [
        ("HS256", Signing::Hs256),
        ("RS256", Signing::Rs256),
        ("ES256", Signing::Es256),
        ("EdDSA", Signing::EdDsa),
    ] {
        let (key, set) = (directory.path().join("key"), directory.path().join("set"));
        write(&key, text(name, "key"), 0o600);
        write(&set, json!({ "keys": [made[name]["jwk"]] }).to_string(), 0o600);
        for file in [KeyFile::Key(key), KeyFile::Set(set)] {
            let issuers = Issuers::open(vec![issuer(signing, file.clone())]).expect("good keys");
            let told = verify(&issuers, &text(name, "jwt"));
            assert!(told.is_ok(), "{name} {file:?}: {told:?}");
            for other in ["HS256", "RS256", "ES256", "EdDSA"].into_iter().filter(|other| *other != name) {
                assert_eq!(
                    verify(&issuers, &text(other, "jwt")),
                    Err(Cause::ForgedJwt),
                    "{other} for {name}"
                );
            }
            // The public key, which everybody can read, as the secret of HS256.
            assert_eq!(verify(&issuers, &text(name, "confused")), Err(Cause::ForgedJwt), "{name}");
        }
    }
}
