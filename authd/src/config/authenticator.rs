//! `[[authenticator]]`: who else knows somebody, and of whom.

use std::path::PathBuf;

use doorward_launch::{Misconfigured, registrations::is_word};
use serde::{Deserialize, Serialize};

use super::access::check_sum;
use crate::rights::beyond;

/// The most entries.
const AUTHENTICATORS_MAX: usize = 32;
/// What all entries of a maximum may weigh: an assertion carries them.
const ENTRIES_MAX: usize = 8_192;
/// What clients or channels call something else.
pub(super) const RESERVED: [&str; 10] =
    ["channel", "facility", "jwt", "member", "model", "password", "sysadm", "system", "token", "user"];

/// One `[[authenticator]]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Authenticator {
    /// What sort of identities it knows.
    pub kind: String,
    /// Its socket.
    pub socket: PathBuf,
    /// The user that must listen there, by name or number.
    pub user: String,
    /// The most that its identities may do.
    #[serde(default)]
    pub acl_max: Vec<String>,
    /// How long it may take for an answer.
    #[serde(default = "seconds")]
    pub seconds: u32,
    /// Questions at a time.
    #[serde(default = "concurrent")]
    pub concurrent: usize,
}

fn seconds() -> u32 {
    5
}

fn concurrent() -> usize {
    16
}

/// What must hold of all together; `taken` are kinds of other identities, and names of back ends.
pub(super) fn check<'a>(
    all: &[Authenticator],
    taken: impl Iterator<Item = &'a str> + Clone,
) -> Result<(), Misconfigured> {
    if all.len() > AUTHENTICATORS_MAX {
        let sentence = format!("has more than {AUTHENTICATORS_MAX} entries");
        return Err(Misconfigured::at("authenticator", sentence));
    }
    for (place, entry) in all.iter().enumerate() {
        let kind = entry.kind.as_str();
        let before = all.get(..place).unwrap_or_default();
        let again = before.iter().any(|other| other.kind == kind) || taken.clone().any(|name| name == kind);
        if !is_word(kind) || RESERVED.contains(&kind) || again {
            let sentence = format!("{kind:?} cannot be one, or is taken");
            return Err(Misconfigured::at("authenticator.kind", sentence));
        }
        if !entry.socket.is_absolute() {
            return Err(Misconfigured::at("authenticator.socket", "must be an absolute path"));
        }
        if !(1..=60).contains(&entry.seconds) {
            return Err(Misconfigured::at("authenticator.seconds", "must be 1 to 60"));
        }
        if !(1..=1024).contains(&entry.concurrent) {
            return Err(Misconfigured::at("authenticator.concurrent", "must be 1 to 1024"));
        }
        check_maximum("authenticator.acl_max", &entry.acl_max)?;
    }
    Ok(())
}

/// What somebody who is no user of the host may do at most never reaches the host.
pub(super) fn check_maximum(key: &str, entries: &[String]) -> Result<(), Misconfigured> {
    for entry in entries {
        if let Some(what) = beyond(entry) {
            return Err(Misconfigured::at(key, format!("the entry {entry:?} {what}")));
        }
    }
    check_sum(key, entries, &std::collections::BTreeMap::new(), ENTRIES_MAX)
}
