//! `[[jwt]]`: whose tokens are believed, and of whom.

use std::path::PathBuf;

use doorward_launch::{Misconfigured, registrations::is_word};
use serde::{Deserialize, Serialize};

use super::authenticator::{RESERVED, check_maximum};
use crate::{
    jwt::{Issuer, KeyFile, Signing},
    session::USER,
};

/// The most entries.
const ISSUERS_MAX: usize = 32;
/// The longest issuer, audience or name of a claim.
const TEXT_MAX: usize = 256;

/// One `[[jwt]]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Jwt {
    /// What sort of identities: `user` for the users of this host.
    pub kind: String,
    /// What `iss` must be.
    pub issuer: Option<String>,
    /// What `aud` must be or have among others.
    pub audience: Option<String>,
    /// How it signs.
    pub algorithm: Signing,
    /// One key.
    pub key_file: Option<PathBuf>,
    /// A set of keys.
    pub jwks_file: Option<PathBuf>,
    /// The claim that names the identity.
    #[serde(default = "subject")]
    pub user_claim: String,
    /// The claim with the ACL entries; absent: all of `acl_max`.
    pub acl_claim: Option<String>,
    /// The most that its identities may do; absent: `ws.#` for users, nothing for others.
    pub acl_max: Option<Vec<String>>,
}

fn subject() -> String {
    "sub".to_owned()
}

impl Jwt {
    fn file(&self) -> Option<KeyFile> {
        match (&self.key_file, &self.jwks_file) {
            (Some(path), None) => Some(KeyFile::Key(path.clone())),
            (None, Some(path)) => Some(KeyFile::Set(path.clone())),
            (None, None) | (Some(_), Some(_)) => None,
        }
    }

    fn maximum(&self) -> Vec<String> {
        let of_users = || if self.kind == USER { vec!["ws.#".to_owned()] } else { Vec::new() };
        self.acl_max.clone().unwrap_or_else(of_users)
    }

    fn check(&self) -> Result<(), Misconfigured> {
        if !is_word(&self.kind) || (self.kind != USER && RESERVED.contains(&self.kind.as_str())) {
            return Err(Misconfigured::at("jwt.kind", format!("{:?} cannot be one, or is taken", self.kind)));
        }
        let path = match self.file() {
            Some(KeyFile::Key(path) | KeyFile::Set(path)) => path,
            None => {
                return Err(Misconfigured::at("jwt.key_file", "there must be either key_file or jwks_file"));
            }
        };
        if !path.is_absolute() {
            return Err(Misconfigured::at("jwt.key_file", "key_file and jwks_file must be absolute paths"));
        }
        let texts = [
            ("jwt.issuer", self.issuer.as_ref()),
            ("jwt.audience", self.audience.as_ref()),
            ("jwt.user_claim", Some(&self.user_claim)),
            ("jwt.acl_claim", self.acl_claim.as_ref()),
        ];
        for (key, text) in texts {
            if text.is_some_and(|text| text.is_empty() || text.len() > TEXT_MAX) {
                return Err(Misconfigured::at(key, format!("must have 1 to {TEXT_MAX} bytes")));
            }
        }
        check_maximum("jwt.acl_max", &self.maximum())
    }
}

/// What must hold of all together. An issuer has one entry, or a key of it could speak for two; and a kind has one
/// entry, or two issuers could speak for the same somebody. Users of the host are the exception: they are known
/// by the host.
pub(super) fn check(all: &[Jwt]) -> Result<(), Misconfigured> {
    if all.len() > ISSUERS_MAX {
        return Err(Misconfigured::at("jwt", format!("has more than {ISSUERS_MAX} entries")));
    }
    for (place, entry) in all.iter().enumerate() {
        entry.check()?;
        let before = all.get(..place).unwrap_or_default();
        if before.iter().any(|other| other.issuer == entry.issuer) {
            let sentence = match &entry.issuer {
                Some(issuer) => format!("{issuer:?} has two entries"),
                None => "two entries have none: nobody could tell whose token it is".to_owned(),
            };
            return Err(Misconfigured::at("jwt.issuer", sentence));
        }
        if entry.kind != USER && before.iter().any(|other| other.kind == entry.kind) {
            return Err(Misconfigured::at("jwt.kind", format!("{:?} has two entries", entry.kind)));
        }
    }
    Ok(())
}

/// What decides about tokens.
pub(crate) fn issuers(all: &[Jwt]) -> Vec<Issuer> {
    let issuer = |entry: &Jwt| {
        Some(Issuer {
            kind: entry.kind.clone(),
            issuer: entry.issuer.clone(),
            audience: entry.audience.clone(),
            signing: entry.algorithm,
            file: entry.file()?,
            user_claim: entry.user_claim.clone(),
            acl_claim: entry.acl_claim.clone(),
            acl_max: entry.maximum().into(),
        })
    };
    all.iter().filter_map(issuer).collect()
}
