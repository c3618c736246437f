//! Identity assertions: authd's signed word on who a session is, for one audience and one minute.
//!
//! The key pair is made at first start; the public half is published for every local service.

use std::path::{Path, PathBuf};

use aws_lc_rs::{
    encoding::AsDer as _,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use doorward_launch::{
    Identity,
    file::{self, FileError},
    registrations::is_word,
};
use doorward_proto::ASSERTION_MAX;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::secret;

/// The longest validity of an assertion.
pub const VALID_MS: u64 = 60_000;

/// What stands before the name of a channel whose handler an assertion is for. No subsystem has that namespace.
const CHANNEL: &str = "channel";

/// Who an assertion is for: `certd`, a subsystem as `NAMESPACE/NAME`, or the handler of a channel as
/// `channel/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audience(String);

impl Audience {
    /// One or two words, as registrations have them. Names of channels may have capital letters.
    pub fn parse(text: String) -> Option<Self> {
        let fits = match text.split_once('/') {
            Some((CHANNEL, name)) => is_word(&name.to_ascii_lowercase()),
            Some((namespace, name)) => is_word(namespace) && is_word(name),
            None => is_word(&text),
        };
        fits.then_some(Self(text))
    }

    /// Whether it is the registry of keys.
    pub fn is_of_keys(&self) -> bool {
        self.0 == "certd"
    }

    /// Whether it is the handler of a channel.
    pub fn is_of_channels(&self) -> bool {
        self.0.strip_prefix(CHANNEL).is_some_and(|rest| rest.starts_with('/'))
    }
}

/// What an assertion says of its subject.
#[derive(Debug)]
pub struct Subject<'a> {
    /// The user's name, or the kind and the id.
    pub user: &'a str,
    /// The uid, for local users.
    pub uid: Option<u32>,
    /// What else is known of somebody who is none.
    pub other: Option<Other<'a>>,
    /// The id that ACL entries mean by `me`.
    pub auth_id: &'a str,
    /// The access class: "full" or "limited".
    pub access: &'a str,
    /// The ACL entries.
    pub acl: &'a [String],
    /// The session.
    pub session: String,
    /// How the user logged in.
    pub method: &'a str,
    /// When, in seconds of UTC.
    pub login_time: u64,
}

/// What an assertion says of somebody who is no local user.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Other<'a> {
    /// What sort of identity it is; never `user`.
    pub kind: &'a str,
    /// Its authenticator's own key of it.
    pub pk: &'a str,
    /// For people. It may be anybody's.
    pub name: &'a str,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'static str,
    aud: &'a str,
    sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(flatten)]
    other: Option<Other<'a>>,
    auth_id: &'a str,
    access: &'a str,
    acl: &'a [String],
    sid: &'a str,
    method: &'a str,
    auth_time: u64,
    iat: u64,
    exp: u64,
    jti: String,
}

/// A signed assertion.
#[derive(Debug)]
pub struct Signed {
    /// The JWT.
    pub jwt: Zeroizing<String>,
    /// How long it is valid, in milliseconds.
    pub valid_ms: u64,
}

/// Why the key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or made, or can be read by others.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file holds something else.
    #[error("{} is no Ed25519 private key: remove it, and a new one is made at the next start", .0.display())]
    NoKey(PathBuf),
    /// No random bytes, or the key cannot be made.
    #[error("the signing key cannot be made")]
    Unmade,
}

/// Signs assertions.
pub struct Signer {
    header: Header,
    key: EncodingKey,
    public_pem: String,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer [redacted]")
    }
}

impl Signer {
    /// Reads the private key of `path` (PEM, PKCS#8), or makes one there.
    ///
    /// # Errors
    /// When the file is no key, or can be read by others.
    pub fn open(path: &Path) -> Result<Self, KeyError> {
        match file::read_key(path) {
            Ok(pem) => {
                der_of(&pem).and_then(|der| Self::of(&der)).ok_or_else(|| KeyError::NoKey(path.to_owned()))
            }
            Err(absent) if absent.is_missing() => {
                let pair = Ed25519KeyPair::generate().map_err(|_| KeyError::Unmade)?;
                let der = pair.to_pkcs8v1().map_err(|_| KeyError::Unmade)?;
                let signer = Self::of(der.as_ref()).ok_or(KeyError::Unmade)?;
                file::create_key(path, pem_of(der.as_ref()).as_bytes(), Identity::current())?;
                Ok(signer)
            }
            Err(failure) => Err(failure.into()),
        }
    }

    fn of(der: &[u8]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_pkcs8(der).ok()?;
        let spki = pair.public_key().as_der().ok()?;
        let public_pem = format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            STANDARD.encode(spki.as_ref())
        );
        Some(Self { header: Header::new(Algorithm::EdDSA), key: EncodingKey::from_ed_der(der), public_pem })
    }

    /// The public half, PEM.
    pub fn public_pem(&self) -> &str {
        &self.public_pem
    }

    /// Signs for `at_most_ms`, never more than a minute, from `now` (seconds of UTC) on.
    ///
    /// # Errors
    /// When the system gives no random bytes, the key fails, or it would be longer than services read.
    pub fn sign(
        &self,
        subject: &Subject<'_>,
        audience: &Audience,
        now: u64,
        at_most_ms: u64,
    ) -> Result<Signed, SignError> {
        let jti = uuid::Builder::from_random_bytes(secret::random()?).into_uuid().to_string();
        // JWT times are whole seconds; rounding down never makes it outlive its session.
        let seconds = at_most_ms.min(VALID_MS) / 1000;
        let claims = Claims {
            iss: "doorward-authd",
            aud: &audience.0,
            sub: subject.user,
            uid: subject.uid,
            other: subject.other,
            auth_id: subject.auth_id,
            access: subject.access,
            acl: subject.acl,
            sid: &subject.session,
            method: subject.method,
            auth_time: subject.login_time,
            iat: now,
            exp: now + seconds,
            jti,
        };
        let jwt = Zeroizing::new(jsonwebtoken::encode(&self.header, &claims, &self.key)?);
        // Every service would refuse it, and nobody would know why.
        if jwt.len() > ASSERTION_MAX {
            return Err(SignError::TooLong(jwt.len()));
        }
        Ok(Signed { jwt, valid_ms: seconds * 1000 })
    }
}

/// Why an assertion was not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The system gives no random bytes.
    #[error("no random bytes")]
    Random(#[from] getrandom::Error),
    /// The holder of the session has more ACL entries than an assertion takes: a token of the token API can.
    #[error("{0} bytes are more than an assertion may have: the session has too many ACL entries")]
    TooLong(usize),
    /// The key failed.
    #[error("the key failed")]
    Key(#[from] jsonwebtoken::errors::Error),
}

/// The DER between the lines of a PEM file.
fn der_of(pem: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let text = std::str::from_utf8(pem).ok()?;
    let body: Zeroizing<String> =
        Zeroizing::new(text.lines().filter(|line| !line.starts_with("-----")).collect());
    STANDARD.decode(body.as_bytes()).ok().map(Zeroizing::new)
}

/// The PEM file of a private key.
fn pem_of(der: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        Zeroizing::new(STANDARD.encode(der)).as_str()
    ))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use jsonwebtoken::{DecodingKey, Validation};

    use super::*;
    use crate::rights::{ENTRIES_MAX, weight};

    fn subject() -> Subject<'static> {
        Subject {
            user: "alice",
            uid: Some(1000),
            other: None,
            auth_id: "1000",
            access: "limited",
            acl: &[],
            session: "s".into(),
            method: "password",
            login_time: 5,
        }
    }

    #[test]
    fn an_assertion_is_verified_by_the_published_key_for_its_audience_only() {
        let directory = tempfile::tempdir().expect("temp dir");
        let signer = Signer::open(&directory.path().join("assertion.key")).expect("made");
        let now = jsonwebtoken::get_current_timestamp();
        let audience = Audience::parse("certd".into()).expect("fits");
        let signed = signer.sign(&subject(), &audience, now, 100_000).expect("signed");
        assert_eq!(signed.valid_ms, VALID_MS);

        let body: String = signer.public_pem().lines().filter(|line| !line.starts_with('-')).collect();
        let spki = STANDARD.decode(body).expect("base64");
        // RFC 8410: the last 32 bytes of the structure are the key.
        let key = DecodingKey::from_ed_der(&spki[spki.len() - 32..]);
        let mut rules = Validation::new(Algorithm::EdDSA);
        rules.set_issuer(&["doorward-authd"]);
        rules.set_audience(&["certd"]);
        let told =
            jsonwebtoken::decode::<Told>(signed.jwt.as_bytes(), &key, &rules).expect("verified").claims;
        assert_eq!((told.sub.as_str(), told.uid, told.exp), ("alice", 1000, now + 60));
        assert_eq!(told.jti.len(), 36);
        rules.set_audience(&["sysinfo"]);
        assert!(jsonwebtoken::decode::<Told>(signed.jwt.as_bytes(), &key, &rules).is_err());
    }

    /// What the bounds of configurations and registrations are for.
    #[test]
    fn the_largest_assertion_of_limited_access_is_one_that_services_read() {
        let directory = tempfile::tempdir().expect("temp dir");
        let signer = Signer::open(&directory.path().join("assertion.key")).expect("made");
        let word = "x".repeat(64);
        let audience = Audience::parse(format!("{word}/{word}")).expect("fits");
        let user = "\"".repeat(256);
        let id = u32::MAX.to_string();
        let signed = |acl: &[String]| {
            let subject = Subject {
                user: &user,
                uid: Some(u32::MAX),
                auth_id: &id,
                acl,
                session: uuid::Uuid::nil().to_string(),
                method: &word,
                login_time: u64::MAX >> 1,
                ..subject()
            };
            signer.sign(&subject, &audience, u64::MAX >> 1, 60_000).map(|signed| signed.jwt.len())
        };
        // Entries of one byte carry the most that is not text, quotes the most that is.
        for entry in ["a".to_owned(), "\"".repeat(256), "a".repeat(256)] {
            let count = ENTRIES_MAX / weight(&entry);
            assert!(signed(&vec![entry.clone(); count]).is_ok_and(|long| long <= ASSERTION_MAX), "{entry}");
            let refused = signed(&vec![entry; 2 * count]);
            assert!(matches!(refused, Err(SignError::TooLong(_))), "{refused:?}");
        }
    }

    #[derive(serde::Deserialize)]
    struct Told {
        sub: String,
        uid: u32,
        exp: u64,
        jti: String,
    }

    #[test]
    fn the_key_stays_the_same_over_restarts_and_is_0600() {
        let directory = tempfile::tempdir().expect("temp dir");
        let path = directory.path().join("assertion.key");
        let first = Signer::open(&path).expect("made").public_pem().to_owned();
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(Signer::open(&path).expect("read").public_pem(), first);
    }

    #[test]
    fn a_key_that_others_can_read_or_that_is_none_is_refused() {
        let directory = tempfile::tempdir().expect("temp dir");
        let path = directory.path().join("assertion.key");
        Signer::open(&path).expect("made");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).expect("chmod");
        assert!(matches!(Signer::open(&path), Err(KeyError::File(FileError::Readable(_)))));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
        for content in ["", "not PEM!", "-----BEGIN PRIVATE KEY-----\nAAAA\n"] {
            fs::write(&path, content).expect("written");
            assert!(matches!(Signer::open(&path), Err(KeyError::NoKey(_))), "{content:?}");
        }
    }

    #[test]
    fn an_audience_is_one_or_two_short_plain_words() {
        for (text, fits) in [
            ("certd", true),
            ("sysadm/systemmanager_2-x", true),
            ("channel/Group_3-x", true),
            ("channel/", false),
            ("channel/a/b", false),
            ("channel/a.b", false),
            ("Channel/a", false),
            ("sysadm/Systemmanager", false),
            ("a/b/c", false),
            ("/a", false),
            ("certd/", false),
            ("", false),
            ("Certd", false),
            ("a b", false),
            ("ä", false),
        ] {
            assert_eq!(Audience::parse(text.into()).is_some(), fits, "{text}");
        }
        assert!(Audience::parse("x".repeat(64)).is_some());
        assert!(Audience::parse("x".repeat(65)).is_none());
    }
}
