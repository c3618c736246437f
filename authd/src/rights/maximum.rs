//! What somebody may do who is no local user, or a user by an issuer's word: what two lists of entries both
//! grant. Pure.

use doorward_proto::acl;

/// Entries that an issuer or a plug-in gives to one identity.
const GIVEN_MAX: usize = 256;

/// Of these, those that deny. Each of them is kept, as no maximum cuts them down.
const DENIALS_MAX: usize = 32;

/// Whether somebody is given more entries, or more that deny, than is taken. To leave some out would give more than
/// was meant.
pub fn too_many(given: &[impl AsRef<str>]) -> bool {
    let denials = given.iter().filter(|entry| entry.as_ref().starts_with('!')).count();
    given.len() > GIVEN_MAX || denials > DENIALS_MAX
}

/// Why an entry of a maximum, or one that an issuer or a plug-in gives, cannot be taken; None: it can. What
/// belongs to the host begins with `sysadm`, so that every entry that allows must begin with another word.
pub fn beyond(entry: &str) -> Option<&'static str> {
    if let Err(what) = acl::well_formed(entry) {
        return Some(what);
    }
    if entry.starts_with('!') {
        return None;
    }
    let first = entry.split('.').next().unwrap_or_default();
    if first.contains(['*', '#']) || matches!(first, "sysadm" | "me" | "my_session") {
        return Some("must begin with a word without wildcards that is not sysadm, me or my_session");
    }
    // It stands for what is not known yet, so that nothing could be said of whether it is beyond something.
    if entry.split('.').any(|word| word == "my_session") {
        return Some("has my_session in it");
    }
    None
}

/// What both lists grant to the holder of this id, as far as one of them says it in one entry, and what either
/// denies. An entry of one list is kept where the other list grants it as it stands: then it grants whatever the
/// entry stands for.
pub fn common(one: &[String], other: &[String], auth_id: &str) -> Vec<String> {
    let id = word(auth_id);
    let holder = acl::Holder { auth_id: &id, session: "" };
    let granted = |list: &[String], entry: &str| {
        // `me` is two words at once: that one of them is granted says nothing of the other.
        acl::granted(list, entry, holder) && acl::granted(list, &named(entry, &id), holder)
    };
    let mut both: Vec<String> = Vec::new();
    let mut add = |entry: &String| {
        if !both.contains(entry) {
            both.push(entry.clone());
        }
    };
    let allows = |entry: &&String| !entry.starts_with('!');
    one.iter().filter(allows).filter(|entry| granted(other, entry)).for_each(&mut add);
    other.iter().filter(allows).filter(|entry| granted(one, entry)).for_each(&mut add);
    one.iter().chain(other).filter(|entry| entry.starts_with('!')).for_each(&mut add);
    if id != auth_id {
        // A dot in an id would make two words of it; subjects have it written in another way.
        // What is denied stays denied by whichever of the two a subject has.
        let forms = |entry: &String| {
            let (named, denies) = (named(entry, &id), entry.starts_with('!'));
            let as_it_was = (denies && named != *entry).then(|| entry.clone());
            as_it_was.into_iter().chain([named])
        };
        return both.iter().flat_map(forms).collect();
    }
    both
}

/// What at least one of these lists grants: what one of them denies is denied if all of them do.
pub fn either(lists: &[&[String]]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for entry in lists.iter().copied().flatten() {
        let counts = !entry.starts_with('!') || lists.iter().all(|list| list.contains(entry));
        if counts && !all.contains(entry) {
            all.push(entry.clone());
        }
    }
    all
}

/// An id as a word of a subject.
fn word(id: &str) -> String {
    id.replace('%', "%25").replace('.', "%2E")
}

/// The entry with the id in the place of `me`.
fn named(entry: &str, id: &str) -> String {
    let (sign, pattern) = match entry.strip_prefix('!') {
        Some(pattern) => ("!", pattern),
        None => ("", entry),
    };
    let words: Vec<_> = pattern.split('.').map(|word| if word == "me" { id } else { word }).collect();
    format!("{sign}{}", words.join("."))
}

/// Whether an entry could allow something about a channel (`ws.`). Says more often yes than it must: what a
/// session may do with a channel is asked about that channel.
pub(super) fn reaches_channels(entry: &str) -> bool {
    let mut words = entry.split('.');
    let first = words.next().unwrap_or_default();
    let literal = first.split(['*', '#']).next().unwrap_or_default();
    if first.contains('#') {
        return "ws".starts_with(literal);
    }
    words.next().is_some()
        && acl::granted(&[first.to_owned()], "ws", acl::Holder { auth_id: "", session: "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn nothing_that_is_given_reaches_the_host() {
        for (entry, taken) in [
            ("ws.group.#", true),
            ("confd.*", true),
            ("ws", true),
            ("!#", true),
            ("!sysadm.#", true),
            ("#", false),
            ("*", false),
            ("*.rpc.query._", false),
            ("s*.rpc.query._", false),
            ("sysadm", false),
            ("sysadm.rpc.query._", false),
            ("sysadm#", false),
            ("w#", false),
            ("me.rpc.query._", false),
            ("my_session.rpc.query._", false),
            ("ws.my_session.subscribe", false),
            ("ws..a", false),
            ("", false),
            ("ws.a\nsysadm.#", false),
        ] {
            assert_eq!(beyond(entry).is_none(), taken, "{entry:?}");
        }
    }

    #[test]
    fn what_both_grant_is_what_is_left() {
        for (one, other, left) in [
            (&["ws.group.3.subscribe"][..], &["ws.group.#"][..], &["ws.group.3.subscribe"][..]),
            (&["#"], &["ws.#"], &["ws.#"]),
            (&["ws.#"], &["ws.group.*.subscribe"], &["ws.group.*.subscribe"]),
            (&["ws.group.#"], &["ws.group.*.subscribe"], &["ws.group.*.subscribe"]),
            (&["ws.group.*.subscribe"], &["ws.group.#"], &["ws.group.*.subscribe"]),
            (&["ws.a.#"], &["ws.b.#"], &[]),
            (&["ws.a.#"], &[], &[]),
            // No word of one character: `*` does not stand for `#`.
            (&["ws.a#.x"], &["ws.*.x"], &[]),
            (&["ws.me.subscribe"], &["ws.*.subscribe"], &["ws.me.subscribe"]),
            // `me` is another word than it looks like.
            (&["ws.me.subscribe"], &["ws.m*.subscribe"], &[]),
            (&["ws.me.subscribe"], &["ws.me.#"], &["ws.me.subscribe"]),
            (&["ws.7.subscribe"], &["ws.me.#"], &["ws.7.subscribe"]),
            (&["ws.8.subscribe"], &["ws.me.#"], &[]),
            (&["ws.#", "!ws.a.x"], &["ws.#", "!ws.b.#"], &["ws.#", "!ws.a.x", "!ws.b.#"]),
            (&["ws.b.x", "ws.a.x"], &["ws.#", "!ws.b.#"], &["ws.a.x", "!ws.b.#"]),
        ] {
            assert_eq!(common(&owned(one), &owned(other), "7"), owned(left), "{one:?} {other:?}");
        }
    }

    #[test]
    fn entries_that_deny_are_few() {
        let of = |count: usize, sign: &str| (0..count).map(|n| format!("{sign}ws.{n}")).collect::<Vec<_>>();
        assert!(!too_many(&of(256, "")) && too_many(&of(257, "")));
        assert!(!too_many(&of(32, "!")) && too_many(&of(33, "!")));
    }

    #[test]
    fn what_one_of_several_lists_denies_the_others_still_grant() {
        let (one, two) = (owned(&["ws.a.#", "!ws.a.x", "!ws.z"]), owned(&["ws.#", "!ws.z"]));
        assert_eq!(either(&[&one, &two]), owned(&["ws.a.#", "!ws.z", "ws.#"]));
        assert_eq!(either(&[&one]), one);
        assert_eq!(either(&[]), owned(&[]));
    }

    #[test]
    fn a_dot_in_an_id_makes_no_further_word() {
        let maximum = owned(&["ws.*.subscribe", "ws.user.me.#"]);
        let left = common(&owned(&["ws.me.subscribe", "ws.user.#"]), &maximum, "group.7");
        assert_eq!(left, owned(&["ws.group%2E7.subscribe", "ws.user.group%2E7.#"]));
        let holder = acl::Holder { auth_id: "group.7", session: "" };
        assert!(!acl::granted(&left, "ws.group.7.subscribe", holder));
        let denied = common(&owned(&["ws.#", "!ws.me.publish"]), &owned(&["ws.#"]), "a.b");
        assert_eq!(denied, owned(&["ws.#", "!ws.me.publish", "!ws.a%2Eb.publish"]));
        for subject in ["ws.a.b.publish", "ws.a%2Eb.publish"] {
            assert!(
                !acl::granted(&denied, subject, acl::Holder { auth_id: "a.b", session: "" }),
                "{subject}"
            );
        }
    }

    #[test]
    fn entries_about_channels_are_known() {
        for (entry, reaches) in [
            ("ws.group.#", true),
            ("#", true),
            ("w#", true),
            ("*.a", true),
            ("w*.a", true),
            ("ws", false),
            ("*", false),
            ("sysadm.#", false),
            ("confd#", false),
            ("!ws.#", false),
        ] {
            assert_eq!(reaches_channels(entry), reaches, "{entry}");
        }
    }
}
