//! `[access]`: whose members may do what.

use std::collections::BTreeMap;

use doorward_launch::Misconfigured;
use serde::{Deserialize, Serialize};

use crate::rights::weight;

/// What all entries of the table may weigh: an assertion carries them, with those of subsystems.
const ENTRIES_MAX: usize = 8_192;

/// `[access]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Access {
    /// Groups with full access.
    pub full_groups: Vec<String>,
    /// Groups with limited access.
    pub limited_groups: Vec<String>,
    /// What limited access may do.
    pub limited_acl: Vec<String>,
    /// Further groups with limited access, and what their members may do.
    pub group_acl: BTreeMap<String, Vec<String>>,
}

impl Default for Access {
    fn default() -> Self {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            full_groups: owned(&["wheel", "sudo"]),
            limited_groups: owned(&["operator"]),
            limited_acl: owned(&[
                "sysadm.rpc.query.#",
                "sysadm.rpc.settings.#",
                "sysadm.rpc.sessions.#",
                "sysadm.rpc.logs.read_logs",
                "sysadm.events.#",
            ]),
            group_acl: BTreeMap::new(),
        }
    }
}

impl Access {
    pub(super) fn check(&self) -> Result<(), Misconfigured> {
        let Self { full_groups, limited_groups, limited_acl, group_acl } = self;
        check_entries("access.limited_acl", limited_acl)?;
        check_group_entries("access.group_acl", group_acl)?;
        check_sum("access.limited_acl", limited_acl, group_acl, ENTRIES_MAX)?;
        for (key, groups) in [("access.full_groups", full_groups), ("access.limited_groups", limited_groups)]
        {
            if groups.iter().any(|name| name.is_empty() || name.contains('\0')) {
                return Err(Misconfigured::at(key, "a group's name is empty or has a NUL in it"));
            }
        }
        Ok(())
    }
}

/// Every entry can be meant.
pub(super) fn check_entries(key: &str, entries: &[String]) -> Result<(), Misconfigured> {
    for entry in entries {
        doorward_proto::acl::well_formed(entry)
            .map_err(|what| Misconfigured::at(key, format!("the entry {entry:?} {what}")))?;
    }
    Ok(())
}

/// The same for those of groups.
pub(super) fn check_group_entries(
    key: &str,
    groups: &BTreeMap<String, Vec<String>>,
) -> Result<(), Misconfigured> {
    for (group, entries) in groups {
        if group.is_empty() || group.contains('\0') {
            return Err(Misconfigured::at(key, "a group's name is empty or has a NUL in it"));
        }
        check_entries(&format!("{key}.{group}"), entries)?;
    }
    Ok(())
}

/// Who is in all the groups has all the entries: what carries them has a bound.
pub(super) fn check_sum(
    key: &str,
    entries: &[String],
    groups: &BTreeMap<String, Vec<String>>,
    most: usize,
) -> Result<(), Misconfigured> {
    let bytes: usize = entries.iter().chain(groups.values().flatten()).map(|entry| weight(entry)).sum();
    if bytes > most {
        let sentence = format!("has, with group_acl, more entries than fit into {most} bytes");
        return Err(Misconfigured::at(key, sentence));
    }
    Ok(())
}
