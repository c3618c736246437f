//! What a session may call: its ACL entries against the canonical subject of a row.
//!
//! Rights are worked out once, when authd tells an identity, so that a request costs one bit.

use crate::namespace::{Needs, Subject, subjects};

/// What a session may call: one bit for each subject of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights(u64);

impl Rights {
    /// The rights that these ACL entries grant.
    pub fn of(acl: &[String]) -> Self {
        let granted = subjects().filter(|subject| allowed(acl, &in_words(subject)));
        Self(granted.map(|subject| bit(&subject)).fold(0, |all, one| all | one))
    }

    /// Whether this may be called.
    pub fn allow(self, subject: &Subject) -> bool {
        match subject.row.needs {
            Needs::Nothing => true,
            Needs::Session => self.0 & bit(subject) != 0,
        }
    }
}

/// A subject beyond the last bit is granted to nobody; a test sees to it that there is none.
fn bit(subject: &Subject) -> u64 {
    u32::try_from(subject.place).ok().and_then(|place| 1_u64.checked_shl(place)).unwrap_or(0)
}

fn in_words(subject: &Subject) -> String {
    format!("sysadm.{}.{}.{}", subject.row.namespace, subject.row.name, subject.action.name)
}

/// One grant and no deny.
fn allowed(acl: &[String], subject: &str) -> bool {
    let denied =
        acl.iter().filter_map(|entry| entry.strip_prefix('!')).any(|pattern| matches(pattern, subject));
    !denied && acl.iter().filter(|entry| !entry.starts_with('!')).any(|pattern| matches(pattern, subject))
}

/// Whether the whole subject matches: `*` is zero or more characters of one word, `#` one or more
/// characters. Every place in the pattern that the subject read so far can have reached is kept, so
/// the time is bounded by the product of the lengths whatever the pattern is.
///
/// Subjects are canonical names of rows: words of `[a-z0-9_-]`, none empty.
fn matches(pattern: &str, subject: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let mut reached = vec![false; pattern.len() + 1];
    if let Some(start) = reached.first_mut() {
        *start = true;
    }
    skip_stars(&pattern, &mut reached);
    for c in subject.chars() {
        let mut next = vec![false; pattern.len() + 1];
        for (place, _) in reached.iter().enumerate().filter(|(_, here)| **here) {
            let (stays, goes_on) = match pattern.get(place) {
                Some('*') => (c != '.' && c != '#', false),
                Some('#') => (c != '\n', c != '\n'),
                Some(literal) => (false, *literal == c),
                None => (false, false),
            };
            for (to, yes) in [(place, stays), (place + 1, goes_on)] {
                if yes && let Some(state) = next.get_mut(to) {
                    *state = true;
                }
            }
        }
        skip_stars(&pattern, &mut next);
        reached = next;
    }
    reached.last().copied().unwrap_or(false)
}

/// A `*` may match nothing.
fn skip_stars(pattern: &[char], reached: &mut [bool]) {
    for (place, c) in pattern.iter().enumerate() {
        if *c == '*'
            && reached.get(place).copied().unwrap_or(false)
            && let Some(after) = reached.get_mut(place + 1)
        {
            *after = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::{Row, find};

    #[test]
    fn patterns_match_whole_subjects() {
        for (pattern, subject, expected) in [
            ("#", "sysadm.rpc.query._", true),
            ("sysadm.rpc.query.#", "sysadm.rpc.query._", true),
            ("sysadm.rpc.query.*", "sysadm.rpc.query._", true),
            ("sysadm.rpc.query", "sysadm.rpc.query._", false),
            ("sysadm.rpc.*", "sysadm.rpc.query._", false),
            ("sysadm.rpc.#", "sysadm.rpc.query._", true),
            ("sysadm.*.query._", "sysadm.rpc.query._", true),
            ("sysadm.r*c.query._", "sysadm.rpc.query._", true),
            ("sysadm.rpc*.query._", "sysadm.rpc.query._", true),
            ("*.*.*.*", "sysadm.rpc.query._", true),
            ("*.*.*", "sysadm.rpc.query._", false),
            ("*", "confd", true),
            ("*", "confd.users", false),
            ("confd.#", "confd", false),
            ("foo.bar.#.titi", "foo.bar.a.b.titi", true),
            ("foo.bar.#.titi", "foo.bar.titi", false),
            ("", "a", false),
            ("SYSADM.rpc.query._", "sysadm.rpc.query._", false),
            ("#", "a\nb", false),
            ("confd.*", "confd.#", false),
            ("**********************#####", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", true),
        ] {
            assert_eq!(matches(pattern, subject), expected, "{pattern} {subject}");
        }
    }

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
    fn rows_that_need_nothing_are_open_to_everybody() {
        let nobody = Rights::of(&["!#".to_owned()]);
        for subject in subjects() {
            assert_eq!(nobody.allow(&subject), subject.row.needs == Needs::Nothing);
        }
    }
}
