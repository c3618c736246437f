//! What a session may call: its ACL entries against the canonical subject of a row.
//!
//! Rights are worked out once, when authd tells an identity, so that a request costs one bit.

use crate::namespace::{Needs, ROWS, Row};

/// The rows that a session may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights(u64);

const _: () = assert!(ROWS.len() <= 64, "Rights has one bit for each row");

impl Rights {
    /// The rights that these ACL entries grant.
    pub fn of(acl: &[String]) -> Self {
        let mut granted = 0;
        for (place, row) in ROWS.iter().enumerate() {
            // No row here has actions of its own yet, so the subject's last word is `_`.
            if allowed(acl, &subject(row, "_")) {
                granted |= 1 << place;
            }
        }
        Self(granted)
    }

    /// Whether this row may be called.
    pub fn allow(self, row: &Row) -> bool {
        match row.needs {
            Needs::Nothing => true,
            Needs::Session => ROWS
                .iter()
                .position(|other| std::ptr::eq(other, row))
                .is_some_and(|place| self.0 >> place & 1 == 1),
        }
    }
}

fn subject(row: &Row, action: &str) -> String {
    format!("sysadm.{}.{}.{action}", row.namespace, row.name)
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
    use crate::namespace::find;

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
        Rights::of(&acl).allow(find("rpc", "query").expect("in the table"))
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
        for row in ROWS {
            assert_eq!(nobody.allow(row), row.needs == Needs::Nothing);
        }
    }
}
