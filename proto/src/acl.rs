//! Whether the ACL entries in a message grant an action (words with dots; `*` and `#` as wildcards).
//!
//! Only for subjects that we write ourselves, `sysadm.<namespace>.<name>.<action>`: they hold no word that
//! `me` or `my_session` could stand for, so these match literally.

/// Who holds the entries: what their words `me` and `my_session` stand for.
#[derive(Debug, Clone, Copy)]
pub struct Holder<'a> {
    /// Of a local user: the uid in decimal.
    pub auth_id: &'a str,
    /// The session's UUID.
    pub session: &'a str,
}

/// Whether `entries` grant `subject`: one allows, none denies.
pub fn granted(entries: &[String], subject: &str, _holder: Holder<'_>) -> bool {
    let mut allowed = false;
    for entry in entries {
        match entry.strip_prefix('!') {
            Some(denied) if matches(denied, subject) => return false,
            Some(_) => {}
            None => allowed |= matches(entry, subject),
        }
    }
    allowed
}

/// `*`: characters of one word, none of them `.` or `#`; `#`: one or more characters, dots included.
///
/// All places of the pattern that the subject can have reached are kept at once, so the time is the
/// product of both lengths at most, whatever the pattern.
fn matches(pattern: &str, subject: &str) -> bool {
    let pattern = pattern.as_bytes();
    let mut here = vec![false; pattern.len() + 1];
    let mut reached = here.clone();
    mark(&mut here, pattern, 0);
    for byte in subject.bytes() {
        reached.fill(false);
        for (place, symbol) in pattern.iter().enumerate().filter(|(place, _)| here.get(*place) == Some(&true))
        {
            match symbol {
                b'*' if !matches!(byte, b'.' | b'#' | b'\n') => mark(&mut reached, pattern, place),
                b'#' if byte != b'\n' => {
                    mark(&mut reached, pattern, place);
                    mark(&mut reached, pattern, place + 1);
                }
                b'*' | b'#' => {}
                literal if *literal == byte && byte != b'\n' => mark(&mut reached, pattern, place + 1),
                _ => {}
            }
        }
        std::mem::swap(&mut here, &mut reached);
    }
    // Our subjects have no empty words, so the rule that a lone `*` matches none needs no care.
    !subject.is_empty() && here.last() == Some(&true)
}

/// Marks a place as reached; past a `*` too, which may match nothing.
fn mark(places: &mut [bool], pattern: &[u8], from: usize) {
    for place in from..places.len() {
        if let Some(reached) = places.get_mut(place) {
            *reached = true;
        }
        if pattern.get(place) != Some(&b'*') {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_match_as_tokens_md_says() {
        for (pattern, subject, expected) in [
            ("#", "sysadm.rpc.settings.list_ssl_certs", true),
            ("sysadm.rpc.settings.#", "sysadm.rpc.settings.list_ssl_certs", true),
            ("sysadm.rpc.settings.#", "sysadm.rpc.settings", false),
            ("confd.#", "confd.users.read", true),
            ("confd.#", "confd", false),
            ("*", "confd", true),
            ("*", "confd.users", false),
            ("confd.*", "confd.users", true),
            ("confd.*", "confd.users.read", false),
            ("confd.*", "confd.#", false),
            ("foo.bar.#.titi", "foo.bar.a.b.titi", true),
            ("foo.bar.#.titi", "foo.bar.titi", false),
            ("sysadm.rpc.settings.*_ssl_cert*", "sysadm.rpc.settings.revoke_ssl_cert", true),
            ("sysadm.rpc.settings.list", "sysadm.rpc.settings.lists", false),
            ("Sysadm.#", "sysadm.x", false),
            ("a**b", "ab", true),
            ("", "a", false),
            ("sysadm.rpc.query", "sysadm.rpc.query._", false),
            ("sysadm.rpc.*", "sysadm.rpc.query._", false),
            ("sysadm.*.query._", "sysadm.rpc.query._", true),
            ("sysadm.r*c.query._", "sysadm.rpc.query._", true),
            ("sysadm.rpc*.query._", "sysadm.rpc.query._", true),
            ("*.*.*.*", "sysadm.rpc.query._", true),
            ("*.*.*", "sysadm.rpc.query._", false),
            ("#", "a\nb", false),
        ] {
            assert_eq!(matches(pattern, subject), expected, "{pattern} {subject}");
        }
    }

    #[test]
    fn a_denial_beats_every_grant() {
        let entries = |list: &[&str]| list.iter().map(|entry| (*entry).to_owned()).collect::<Vec<_>>();
        assert!(granted(&entries(&["a", "#"]), "x.y"));
        assert!(!granted(&entries(&["!x.*", "#"]), "x.y"));
        assert!(!granted(&entries(&["#", "!x.*"]), "x.y"));
        assert!(!granted(&[], "x.y"));
    }

    #[test]
    fn a_pattern_made_to_backtrack_costs_nothing() {
        let pattern = "#*".repeat(2000) + "z";
        assert!(!matches(&pattern, &"a".repeat(60)));
    }
}
