//! Which ACL entries an account has, and from which key of the configuration. Pure.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, LazyLock},
};

use doorward_launch::registrations::Registration;

use crate::{
    account::{Access, Account},
    session::Dialect,
};

/// The entries of the configuration.
#[derive(Debug, Clone, Default)]
pub struct Acls {
    /// Of members of the groups of limited access.
    pub limited: Vec<String>,
    /// Of members of further groups, which have limited access by them.
    pub further: BTreeMap<String, Vec<String>>,
    /// Of members of the groups of limited access, too, from the registrations of subsystems.
    pub subsystems: Vec<OfSubsystem>,
    /// Of every token of the token API.
    pub tokens: Vec<String>,
    /// Of tokens of members of these groups.
    pub token_groups: BTreeMap<String, Vec<String>>,
}

/// What a registration gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfSubsystem {
    /// The key and the file.
    pub origin: String,
    /// The entries.
    pub entries: Vec<String>,
}

/// What the entries of limited access may weigh together. With a user's name and an audience as long as they can
/// be they make an assertion of at most `doorward_proto::ASSERTION_MAX` bytes.
pub const ENTRIES_MAX: usize = 11_000;

/// What an entry takes up in an assertion, or a little more.
pub fn weight(entry: &str) -> usize {
    entry.len() + 4 + entry.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count()
}

/// Whether no assertion could carry these entries: no service would ever hear of such a session.
pub fn too_heavy(entries: &[String]) -> bool {
    entries.iter().map(|entry| weight(entry)).sum::<usize>() > ENTRIES_MAX
}

/// An entry that somebody has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// The entry.
    pub entry: String,
    /// The key and the group that it comes from.
    pub origin: String,
}

impl Acls {
    /// With what these registrations give, in their order, and a sentence on each for which there is no room: it
    /// gives nothing. An assertion that is too long would be refused by every service.
    pub fn with(mut self, found: &[Registration]) -> (Self, Vec<String>) {
        let own = self.limited.iter().chain(self.further.values().flatten());
        let mut left = ENTRIES_MAX.saturating_sub(own.map(|entry| weight(entry)).sum());
        let mut without = Vec::new();
        self.subsystems.clear();
        for Registration { file, limited_acl: entries, .. } in
            found.iter().filter(|found| !found.limited_acl.is_empty())
        {
            let weighs = entries.iter().map(|entry| weight(entry)).sum();
            if let Some(rest) = left.checked_sub(weighs) {
                left = rest;
                let origin = format!("limited_acl of {}", file.display());
                self.subsystems.push(OfSubsystem { origin, entries: entries.clone() });
            } else {
                without.push(format!(
                    "{}: limited_acl takes {weighs} bytes and {left} are left for all subsystems: \
                     limited access has none of it",
                    file.display()
                ));
            }
        }
        (self, without)
    }

    /// What a session of this dialect gives to its holder, with where each entry comes from.
    pub fn given(&self, account: &Account, dialect: Dialect) -> Vec<Given> {
        let lists = self.lists(account, dialect).into_iter();
        let given = lists.flat_map(|(list, origin)| {
            let given = move |entry: &String| Given { entry: entry.clone(), origin: origin.to_string() };
            list.iter().map(given)
        });
        given.collect()
    }

    /// The entries alone.
    pub fn entries(&self, account: &Account, dialect: Dialect) -> Arc<[String]> {
        self.lists(account, dialect).into_iter().flat_map(|(list, _)| list).cloned().collect()
    }

    fn lists<'a>(&'a self, account: &'a Account, dialect: Dialect) -> Vec<(&'a [String], Origin<'a>)> {
        let mut lists = Vec::new();
        if !account.may_use(dialect) {
            return lists;
        }
        let groups = &account.groups;
        let class = groups.class.as_deref();
        match (dialect, account.access) {
            (Dialect::Token, _) => {
                lists.push((&self.tokens[..], Origin::Key("token_api.acl")));
                let all = of(&self.token_groups, &groups.tokens);
                lists.extend(all.map(|(group, list)| (list, Origin::Group("token_api.group_acl", group))));
            }
            (Dialect::Sysadm | Dialect::Channel, Some(Access::Full)) => {
                let origin = class.map(|group| Origin::Group("access.full_groups", group));
                lists.push((&ALL[..], origin.unwrap_or(Origin::Key("root"))));
            }
            (Dialect::Sysadm | Dialect::Channel, Some(Access::Limited)) => {
                if let Some(group) = class {
                    lists.push((&self.limited, Origin::Group("access.limited_acl", group)));
                    let all = self.subsystems.iter();
                    lists.extend(all.map(|of| (&of.entries[..], Origin::Group(&of.origin, group))));
                }
                let all = of(&self.further, &groups.further);
                lists.extend(all.map(|(group, list)| (list, Origin::Group("access.group_acl", group))));
            }
            (Dialect::Sysadm | Dialect::Channel, None) => {}
        }
        lists
    }
}

/// The entries of full access.
static ALL: LazyLock<[String; 1]> = LazyLock::new(|| ["#".to_owned()]);

/// Where entries come from.
#[derive(Debug, Clone, Copy)]
enum Origin<'a> {
    /// A key of the configuration, or root.
    Key(&'a str),
    /// A key, and the group to which it gives them.
    Group(&'a str, &'a str),
}

impl fmt::Display for Origin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => f.write_str(key),
            Self::Group(key, group) => write!(f, "{key} (group {group})"),
        }
    }
}

/// A group that lost its list since the account was looked up has none.
fn of<'a>(
    lists: &'a BTreeMap<String, Vec<String>>,
    groups: &'a [String],
) -> impl Iterator<Item = (&'a str, &'a [String])> {
    groups.iter().filter_map(|group| Some((group.as_str(), lists.get(group)?.as_slice())))
}

/// What a session was given at its beginning, cut down to what its holder has now: it never gains an entry
/// that allows, and every entry that denies counts, then or now.
pub(super) fn cut_down(given: &Arc<[String]>, now: &[String]) -> Arc<[String]> {
    let denies = |entry: &String| entry.starts_with('!');
    let kept = given.iter().filter(|entry| denies(entry) || now.contains(entry));
    let denied_since = now.iter().filter(|entry| denies(entry) && !given.contains(entry));
    let cut: Vec<String> = kept.chain(denied_since).cloned().collect();
    if cut == given[..] { given.clone() } else { cut.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{Memberships, Uid, Username};

    fn owned(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    fn lists(of: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
        of.iter().map(|(group, list)| ((*group).to_owned(), owned(list))).collect()
    }

    fn acls() -> Acls {
        Acls {
            limited: owned(&["sysadm.rpc.query.#"]),
            further: lists(&[("staff", &["sysadm.rpc.settings.#", "!sysadm.rpc.settings.revoke_ssl_cert"])]),
            subsystems: vec![OfSubsystem {
                origin: "limited_acl of /d/a.toml".into(),
                entries: owned(&["sysadm.example.a.list"]),
            }],
            tokens: owned(&["confd.users.me.#"]),
            token_groups: lists(&[("robots", &["confd.#"]), ("others", &["dird.#"])]),
        }
    }

    fn account(access: Option<Access>, class: Option<&str>, further: &[&str], tokens: &[&str]) -> Account {
        Account {
            name: Username::parse("alice".into()).expect("a name"),
            uid: Uid::new(1000).expect("a uid"),
            access,
            groups: Memberships {
                class: class.map(str::to_owned),
                further: owned(further),
                tokens: owned(tokens),
            },
            shell_listed: true,
            subordinate: false,
        }
    }

    #[test]
    fn entries_come_from_the_groups_of_the_dialect() {
        let (full, limited) = (Some(Access::Full), Some(Access::Limited));
        for (account, sysadm, token) in [
            (
                account(full, Some("wheel"), &[], &["robots"]),
                &["# access.full_groups (group wheel)"][..],
                &["confd.users.me.# token_api.acl", "confd.# token_api.group_acl (group robots)"][..],
            ),
            (account(full, None, &[], &[]), &["# root"], &["confd.users.me.# token_api.acl"]),
            (
                account(limited, Some("operator"), &["staff"], &[]),
                &[
                    "sysadm.rpc.query.# access.limited_acl (group operator)",
                    "sysadm.example.a.list limited_acl of /d/a.toml (group operator)",
                    "sysadm.rpc.settings.# access.group_acl (group staff)",
                    "!sysadm.rpc.settings.revoke_ssl_cert access.group_acl (group staff)",
                ],
                &["confd.users.me.# token_api.acl"],
            ),
            (
                account(limited, None, &["staff", "gone"], &[]),
                &[
                    "sysadm.rpc.settings.# access.group_acl (group staff)",
                    "!sysadm.rpc.settings.revoke_ssl_cert access.group_acl (group staff)",
                ],
                &["confd.users.me.# token_api.acl"],
            ),
            (
                account(None, None, &[], &["robots"]),
                &[],
                &["confd.users.me.# token_api.acl", "confd.# token_api.group_acl (group robots)"],
            ),
            (account(None, None, &[], &[]), &[], &[]),
        ] {
            let told = |dialect| {
                let given = acls().given(&account, dialect).into_iter();
                given.map(|given| format!("{} {}", given.entry, given.origin)).collect::<Vec<_>>()
            };
            assert_eq!(told(Dialect::Sysadm), sysadm, "{account:?}");
            assert_eq!(told(Dialect::Token), token, "{account:?}");
        }
    }

    fn registration(name: &str, limited_acl: Vec<String>) -> Registration {
        Registration {
            file: format!("/d/{name}.toml").into(),
            namespace: "example".into(),
            name: name.into(),
            socket: "/run/x.sock".into(),
            uid: 0,
            events: Vec::new(),
            limited_acl,
            call: std::time::Duration::ZERO,
            stream: std::time::Duration::ZERO,
            silence: std::time::Duration::ZERO,
        }
    }

    #[test]
    fn a_registration_whose_entries_do_not_fit_gives_none_and_costs_no_other() {
        let large = |count| vec!["a".repeat(96); count];
        let found = [
            registration("a", large(50)),
            registration("b", large(100)),
            registration("c", Vec::new()),
            registration("d", large(59)),
            registration("e", large(1)),
        ];
        let (acls, without) = Acls { limited: large(1), ..Acls::default() }.with(&found);
        let names: Vec<_> = acls.subsystems.iter().map(|given| given.origin.as_str()).collect();
        assert_eq!(names, ["limited_acl of /d/a.toml", "limited_acl of /d/d.toml"]);
        let starts: Vec<_> = without.iter().map(|sentence| &sentence[..44]).collect();
        assert_eq!(
            starts,
            ["/d/b.toml: limited_acl takes 10000 bytes and", "/d/e.toml: limited_acl takes 100 bytes and 0"]
        );
        // Looked at anew, they are what there is now and nothing of before.
        assert_eq!(acls.with(&[]).0.subsystems, []);
    }

    #[test]
    fn a_snapshot_loses_what_its_holder_lost_and_gains_denials_alone() {
        for (given, now, left) in [
            (&["a", "b.#"][..], &["a", "b.#", "c"][..], &["a", "b.#"][..]),
            (&["a", "b.#"], &["b.#"], &["b.#"]),
            (&["a"], &[], &[]),
            // Of the holder's entries one alone says the same in other words: it is not this one.
            (&["a.b"], &["a.#"], &[]),
            (&["a", "!a.x"], &["a"], &["a", "!a.x"]),
            (&["a"], &["!a.x", "a", "!a.y"], &["a", "!a.x", "!a.y"]),
            (&["#", "!x"], &["#", "!x", "!y"], &["#", "!x", "!y"]),
        ] {
            assert_eq!(*cut_down(&owned(given).into(), &owned(now)), owned(left), "{given:?} {now:?}");
        }
        let given: Arc<[String]> = owned(&["a", "b"]).into();
        assert!(Arc::ptr_eq(&given, &cut_down(&given, &given)), "the same list is kept once");
    }
}
