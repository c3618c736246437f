//! `[redis]`: where it is, and who the gateway is there.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use doorward_launch::{Misconfigured, StartError, account, file};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::redis::{Address, Login, Settings, Timing, Trust};

/// Where nothing else is said.
const PORT: u16 = 6379;
/// The longest password, prefix and name of a user, in bytes.
const PASSWORD_MAX: usize = 1_024;
const NAME_MAX: usize = 64;

/// `[redis]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Redis {
    /// Its Unix socket.
    pub socket: Option<PathBuf>,
    /// Who must listen there.
    pub socket_user: String,
    /// Or its address: `redis://` on loopback, `rediss://` anywhere.
    pub url: Option<String>,
    /// Who may say who it is, PEM.
    pub tls_ca: Option<PathBuf>,
    /// The name in its certificate; absent: its address.
    pub tls_name: Option<String>,
    /// The user; absent: Redis's default one.
    pub user: Option<String>,
    /// The password.
    pub password_file: Option<PathBuf>,
    /// What all keys begin with.
    pub prefix: Option<String>,
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            socket: None,
            socket_user: "redis".to_owned(),
            url: None,
            tls_ca: None,
            tls_name: None,
            user: None,
            password_file: None,
            prefix: None,
        }
    }
}

/// What a URL says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    at: SocketAddr,
    tls: bool,
}

impl Redis {
    /// What must hold beyond the syntax, where it is used.
    pub(super) fn check(&self) -> Result<(), Misconfigured> {
        let wrong = |key: &str, sentence: &str| Err(Misconfigured::at(format!("redis.{key}"), sentence));
        match (&self.socket, &self.url) {
            (None, None) => return wrong("socket", "the engine needs either this or redis.url"),
            (Some(_), Some(_)) => return wrong("url", "there is either this or redis.socket"),
            (Some(socket), None) if !socket.is_absolute() => {
                return wrong("socket", "must be an absolute path");
            }
            (Some(_), None) | (None, Some(_)) => {}
        }
        let tls = match self.place()? {
            Some(place) if !place.tls && !place.at.ip().is_loopback() => {
                return wrong("url", "without TLS (rediss://) only an address on loopback is reached");
            }
            place => place.is_some_and(|place| place.tls),
        };
        match (&self.tls_ca, tls) {
            (None, true) => {
                return wrong("tls_ca", "rediss:// needs the certificates of who may say that it is Redis");
            }
            (Some(_), false) => return wrong("tls_ca", "there is TLS with rediss:// alone"),
            (None, false) | (Some(_), true) => {}
        }
        if self.tls_name.as_deref().is_some_and(|name| !tls || ServerName::try_from(name).is_err()) {
            return wrong("tls_name", "must be a name or an address, for rediss:// alone");
        }
        let plain =
            |text: &str| (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if self.user.as_deref().is_some_and(|user| !plain(user) || self.password_file.is_none()) {
            return wrong("user", "must be 1 to 64 visible ASCII characters, and needs redis.password_file");
        }
        let word = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        match self.prefix.as_deref() {
            // The original's default is the text None, by accident; whoever has that says so.
            None => wrong("prefix", "must say what the keys of these channels begin with"),
            Some(prefix) if !plain(prefix) || !prefix.bytes().all(word) => {
                wrong("prefix", "must be 1 to 64 of A-Z a-z 0-9 _ . -")
            }
            Some(_) => Ok(()),
        }
    }

    /// Where it is by TCP.
    pub(super) fn tcp(&self) -> Option<SocketAddr> {
        self.place().ok().flatten().map(|place| place.at)
    }

    fn place(&self) -> Result<Option<Place>, Misconfigured> {
        let Some(url) = self.url.as_deref() else { return Ok(None) };
        let tls = url.strip_prefix("rediss://").map(|rest| (rest, true));
        let parsed = tls.or_else(|| url.strip_prefix("redis://").map(|rest| (rest, false)));
        let at = |text: &str| {
            let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
            text.parse().ok().or_else(|| Some(SocketAddr::new(bare.parse().ok()?, PORT)))
        };
        match parsed.and_then(|(rest, tls)| Some(Place { at: at(rest)?, tls })) {
            Some(place) => Ok(Some(place)),
            // Names are looked up over the network, which the gateway does not have.
            None => Err(Misconfigured::at(
                "redis.url",
                "must be redis://ADDRESS:PORT or rediss://ADDRESS:PORT, with an IP address and nothing else",
            )),
        }
    }

    /// What the engine needs, with the files that only root may be able to read.
    pub(crate) fn settings(&self) -> Result<Settings, StartError> {
        let address = match (&self.socket, self.place()?) {
            (Some(socket), _) => {
                let owner = account::resolve(&self.socket_user)
                    .map_err(|error| Misconfigured::at("redis.socket_user", error.to_string()))?;
                Address::Unix(socket.clone(), owner.uid)
            }
            (None, Some(Place { at, tls: true })) => Address::Tls(at, self.trust(at)?),
            (None, Some(Place { at, tls: false })) => Address::Plain(at),
            (None, None) => return Err(Misconfigured::at("redis.socket", "nothing says where it is").into()),
        };
        let login = Login { user: self.user.clone(), password: self.password()? };
        Ok(Settings { address, login, payload_max: 0, timing: Timing::default() })
    }

    fn trust(&self, at: SocketAddr) -> Result<Trust, StartError> {
        let wrong = |error: &dyn std::fmt::Display| Misconfigured::at("redis.tls_ca", error.to_string());
        let pem = match &self.tls_ca {
            Some(path) => file::read_linked_public(path)?,
            None => Vec::new(),
        };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| wrong(&error))?;
            roots.add(certificate).map_err(|error| wrong(&error))?;
        }
        if roots.is_empty() {
            return Err(wrong(&"it holds no certificate").into());
        }
        let name = match &self.tls_name {
            Some(name) => ServerName::try_from(name.clone())
                .map_err(|error| Misconfigured::at("redis.tls_name", error.to_string()))?,
            None => ServerName::IpAddress(at.ip().into()),
        };
        Ok(Trust::new(name, roots).map_err(|error| wrong(&error))?)
    }

    /// The first line of the file.
    fn password(&self) -> Result<Option<Arc<Zeroizing<Vec<u8>>>>, StartError> {
        let Some(path) = &self.password_file else { return Ok(None) };
        let text = file::read_linked_key(path)?;
        let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if !(1..=PASSWORD_MAX).contains(&line.len()) {
            return Err(Misconfigured::at("redis.password_file", "its first line is no password").into());
        }
        Ok(Some(Arc::new(Zeroizing::new(line.to_vec()))))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn redis(text: &str) -> Redis {
        serde_json::from_str(text).expect("well formed")
    }

    #[test]
    fn what_cannot_work_or_is_not_safe_is_named() {
        for (text, key) in [
            (r#"{}"#, "socket"),
            (r#"{"socket":"/s","url":"redis://127.0.0.1","prefix":"p"}"#, "url"),
            (r#"{"socket":"s","prefix":"p"}"#, "socket"),
            (r#"{"socket":"/s"}"#, "prefix"),
            (r#"{"socket":"/s","prefix":""}"#, "prefix"),
            (r#"{"socket":"/s","prefix":"a:b"}"#, "prefix"),
            (r#"{"socket":"/s","prefix":"a b"}"#, "prefix"),
            (r#"{"url":"redis://192.0.2.1:6379","prefix":"p"}"#, "url"),
            (r#"{"url":"redis://localhost","prefix":"p"}"#, "url"),
            (r#"{"url":"redis://:secret@127.0.0.1","prefix":"p"}"#, "url"),
            (r#"{"url":"redis://127.0.0.1/0","prefix":"p"}"#, "url"),
            (r#"{"url":"127.0.0.1:6379","prefix":"p"}"#, "url"),
            (r#"{"url":"rediss://192.0.2.1","prefix":"p"}"#, "tls_ca"),
            (r#"{"url":"redis://127.0.0.1","tls_ca":"/c","prefix":"p"}"#, "tls_ca"),
            (r#"{"url":"redis://127.0.0.1","tls_name":"a","prefix":"p"}"#, "tls_name"),
            (r#"{"url":"rediss://127.0.0.1","tls_ca":"/c","tls_name":"a b","prefix":"p"}"#, "tls_name"),
            (r#"{"socket":"/s","prefix":"p","user":"u"}"#, "user"),
            (r#"{"socket":"/s","prefix":"p","user":"u v","password_file":"/p"}"#, "user"),
        ] {
            let wrong = redis(text).check().expect_err(text);
            assert_eq!(wrong.key(), Some(format!("redis.{key}").as_str()), "{text}");
        }
    }

    #[test]
    fn addresses_are_of_either_family_with_a_port_or_without() {
        for (url, expected) in [
            ("redis://127.0.0.1", "127.0.0.1:6379"),
            ("redis://127.0.0.1:1", "127.0.0.1:1"),
            ("redis://[::1]", "[::1]:6379"),
            ("redis://[::1]:2", "[::1]:2"),
            ("rediss://192.0.2.1:3", "192.0.2.1:3"),
        ] {
            let redis = Redis {
                url: Some(url.to_owned()),
                prefix: Some("p".to_owned()),
                tls_ca: url.starts_with("rediss").then(|| "/c".into()),
                ..Redis::default()
            };
            redis.check().expect(url);
            assert_eq!(redis.tcp(), Some(expected.parse().expect("an address")), "{url}");
        }
        assert_eq!(redis(r#"{"socket":"/s","prefix":"p"}"#).tcp(), None);
    }

    #[test]
    fn a_password_that_others_can_read_is_none_and_no_password_is_shown() {
        let place = tempfile::TempDir::new().expect("a directory");
        let path = place.path().canonicalize().expect("there").join("password");
        let password = |text: &str, mode: u32| {
            std::fs::write(&path, text).expect("written");
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("set");
            let redis = Redis { password_file: Some(path.clone()), ..Redis::default() };
            redis.password().map(|password| password.map(|password| password.to_vec()))
        };
        assert_eq!(password("secret word\n", 0o600).ok(), Some(Some(b"secret word".to_vec())));
        assert_eq!(password("x\r\ny\n", 0o640).ok(), Some(Some(b"x".to_vec())));
        assert!(password("x", 0o644).is_err() && password("x", 0o620).is_err());
        assert!(password("\n", 0o600).is_err() && password(&"x".repeat(1_025), 0o600).is_err());
        let login = Login { user: None, password: Some(Arc::new(Zeroizing::new(b"secret".to_vec()))) };
        assert!(!format!("{login:?}").contains("secret"));
    }
}
