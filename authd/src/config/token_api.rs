//! `[token_api]`: what tokens of the token API are good for, and how long.

use std::collections::BTreeMap;

use doorward_launch::Misconfigured;
use serde::{Deserialize, Serialize};

use super::access::{check_entries, check_group_entries, check_sum};
use crate::method::TokenRules;

/// What all entries of a table may come to, in bytes; a session carries its own.
const ENTRIES_MAX: usize = 32_768;
/// Ten years.
const LONGEST_SECONDS_MAX: u32 = 315_360_000;
/// Names of back ends.
const BACKENDS_MAX: usize = 64;

/// `[token_api]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenApi {
    /// The ACL entries of every token.
    pub acl: Vec<String>,
    /// A token's life where its client wishes none.
    pub default_seconds: u32,
    /// The longest that a client may wish.
    pub longest_seconds: u32,
    /// The back end of clients that name none.
    pub default_backend: String,
    /// What a client may call a back end, and what it is.
    pub backends: BTreeMap<String, Backend>,
    /// Groups whose members may have tokens, and the entries of those.
    pub group_acl: BTreeMap<String, Vec<String>>,
}

/// What checks the credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// PAM, by password.
    Password,
}

impl Default for TokenApi {
    fn default() -> Self {
        let names = ["pam", "wazo_user", "xivo_user"];
        Self {
            acl: Vec::new(),
            default_seconds: 7_200,
            longest_seconds: 2_592_000,
            default_backend: "pam".into(),
            backends: names.into_iter().map(|name| (name.to_owned(), Backend::Password)).collect(),
            group_acl: BTreeMap::new(),
        }
    }
}

impl TokenApi {
    /// The names of back ends that are no plug-ins.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.backends.keys().map(String::as_str)
    }

    /// `kinds` are those of plug-in authenticators, which are back ends, too.
    pub(super) fn check(&self, kinds: &[String]) -> Result<(), Misconfigured> {
        if !(1..=LONGEST_SECONDS_MAX).contains(&self.longest_seconds) {
            let sentence = format!("must be 1 to {LONGEST_SECONDS_MAX}");
            return Err(Misconfigured::at("token_api.longest_seconds", sentence));
        }
        if !(1..=self.longest_seconds).contains(&self.default_seconds) {
            let sentence = "must be 1 to longest_seconds";
            return Err(Misconfigured::at("token_api.default_seconds", sentence));
        }
        if self.backends.len() > BACKENDS_MAX {
            let sentence = format!("has more than {BACKENDS_MAX} names");
            return Err(Misconfigured::at("token_api.backends", sentence));
        }
        let fits = |name: &String| (1..=64).contains(&name.len()) && !name.contains(char::is_control);
        if !self.backends.keys().all(fits) {
            let sentence = "has a name that is empty, longer than 64 bytes, or with control characters";
            return Err(Misconfigured::at("token_api.backends", sentence));
        }
        self.rules(kinds)?;
        check_entries("token_api.acl", &self.acl)?;
        check_group_entries("token_api.group_acl", &self.group_acl)?;
        check_sum("token_api.acl", &self.acl, &self.group_acl, ENTRIES_MAX)
    }

    /// What decides about logins of the token API.
    pub(super) fn rules(&self, kinds: &[String]) -> Result<TokenRules, Misconfigured> {
        if !self.backends.contains_key(&self.default_backend) && !kinds.contains(&self.default_backend) {
            let sentence = format!("{:?} is no back end and no authenticator", self.default_backend);
            return Err(Misconfigured::at("token_api.default_backend", sentence));
        }
        let others = self.backends.keys().chain(kinds).filter(|name| **name != self.default_backend);
        Ok(TokenRules {
            backends: std::iter::once(&self.default_backend).chain(others).cloned().collect(),
            authenticators: kinds.to_owned(),
            default_seconds: self.default_seconds.into(),
            longest_seconds: self.longest_seconds.into(),
        })
    }
}
