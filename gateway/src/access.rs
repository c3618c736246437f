//! What a session may call: its ACL entries against the canonical subject of a row.
//!
//! Rights are worked out once, when authd tells an identity, so that a request costs one bit.

use doorward_proto::acl::{Holder, granted};

use crate::{
    call::Identity,
    namespace::{Needs, Subject, subjects},
};

/// What a session may call: one bit for each subject of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights(u64);

impl Rights {
    /// The rights that these ACL entries grant.
    pub fn of(acl: &[String]) -> Self {
        let granted = subjects().filter(|subject| granted(acl, &in_words(subject), NOBODY));
        Self(granted.map(|subject| bit(&subject)).fold(0, |all, one| all | one))
    }

    /// Whether this may be called.
    pub fn allow(self, subject: &Subject) -> bool {
        match subject.row.needs {
            Needs::Nothing | Needs::AnySession => true,
            Needs::Session => self.0 & bit(subject) != 0,
        }
    }
}

/// Whether somebody may do what a subsystem calls so: `sysadm.NAMESPACE.NAME.ACTION`.
pub fn may(identity: &Identity, subject: &str) -> bool {
    let mut session = [0; uuid::fmt::Hyphenated::LENGTH];
    let session = identity.session.0.hyphenated().encode_lower(&mut session);
    granted(&identity.acl, subject, Holder { auth_id: &identity.who.auth_id, session })
}

/// Whether a token of the token API takes up a session of the SysAdm dialect, too.
pub fn takes_up(identity: &Identity) -> bool {
    identity.has_access && may(identity, "sysadm.rpc.auth_token._")
}

/// No word of our own subjects is the name of a person or a session.
const NOBODY: Holder<'_> = Holder { auth_id: "", session: "" };

/// A subject beyond the last bit is granted to nobody; a test sees to it that there is none.
fn bit(subject: &Subject) -> u64 {
    u32::try_from(subject.place).ok().and_then(|place| 1_u64.checked_shl(place)).unwrap_or(0)
}

fn in_words(subject: &Subject) -> String {
    format!("sysadm.{}.{}.{}", subject.row.namespace, subject.row.name, subject.action.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::{Row, find};

    fn may_query(acl: &[&str]) -> bool {
        let acl: Vec<String> = acl.iter().map(|entry| (*entry).to_owned()).collect();
        Rights::of(&acl).allow(&find("rpc", "query").and_then(Row::plain).expect("in the table"))
    }

    #[test]
    fn every_subject_has_a_bit_of_its_own() {
        let all = subjects().map(|subject| bit(&subject)).fold(0_u64, |all, one| all | one);
        assert_eq!(usize::try_from(all.count_ones()).expect("small"), subjects().count());
    }

    #[test]
    fn actions_are_granted_one_by_one() {
        let settings = find("rpc", "settings").expect("in the table");
        let may = |acl: &[&str], action: &str| {
            let acl: Vec<String> = acl.iter().map(|entry| (*entry).to_owned()).collect();
            Rights::of(&acl).allow(&settings.subject(action).expect("in the table"))
        };
        assert!(may(&["sysadm.rpc.settings.#"], "revoke_ssl_cert"));
        assert!(may(&["sysadm.rpc.settings.list_*"], "list_ssl_certificates"));
        assert!(!may(&["sysadm.rpc.settings.list_*"], "register_ssl_cert"));
        assert!(!may(&["#", "!sysadm.rpc.settings.revoke_ssl_cert"], "revoke_ssl_certificate"));
        assert!(!may(&["sysadm.sysadm.settings.#"], "list_ssl_certs"), "an alias is no subject");
    }

    #[test]
    fn a_deny_beats_every_grant() {
        assert!(may_query(&["#"]));
        assert!(may_query(&["sysadm.rpc.settings.#", "sysadm.rpc.query.#"]));
        assert!(!may_query(&["sysadm.rpc.settings.#"]));
        assert!(!may_query(&[]));
        assert!(!may_query(&["#", "!sysadm.rpc.query.#"]));
        assert!(!may_query(&["!sysadm.rpc.query._", "#"]));
        assert!(may_query(&["!sysadm.rpc.other.#", "#"]));
    }

    #[test]
    fn rows_that_need_no_right_are_open_whatever_the_acl() {
        let nobody = Rights::of(&["!#".to_owned()]);
        for subject in subjects() {
            assert_eq!(nobody.allow(&subject), subject.row.needs != Needs::Session);
        }
    }
}
