//! The table of what the gateway answers itself: one line for each namespace/name, and one for each action. What else
//! a new one takes is in CONTRIBUTING.md. A name that is not here may be a subsystem's.

mod help;

use crate::call::{Right, SubsystemName};

/// One row: what clients call it, and what is needed to call it.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    /// Canonical: lower case.
    pub namespace: &'static str,
    /// Canonical: lower case.
    pub name: &'static str,
    /// Other namespaces and names that mean this row.
    pub aliases: &'static [(&'static str, &'static str)],
    /// Who may call it.
    pub needs: Needs,
    /// What calling it can do; rights are asked of each by itself.
    pub actions: &'static [Action],
    /// `rpc/query` names it while it is up.
    pub listed: bool,
    /// What answers it.
    pub handler: Handler,
}

/// One action of a row. A row that has none of its own has one, `_`.
#[derive(Debug, PartialEq, Eq)]
pub struct Action {
    /// Canonical: lower case.
    pub name: &'static str,
    /// Another name that means it.
    pub alias: Option<&'static str>,
    /// What it can do.
    pub right: Right,
}

/// A row and one of its actions: what a request means, and what rights are asked of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    /// The row.
    pub row: &'static Row,
    /// One of the row's.
    pub action: &'static Action,
    /// Its place among all subjects.
    pub(crate) place: usize,
}

/// Who may call a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Everybody.
    Nothing,
    /// A session whose ACL grants the action.
    Session,
    /// A session, whatever its ACL: what it is told or does is about what it may do anyway.
    AnySession,
}

/// What a client's spelling means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A row of the table.
    Row(&'static Row),
    /// A subsystem, if there is one of this name.
    Subsystem(SubsystemName),
    /// Nothing.
    Nothing,
}

/// What answers a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handler {
    /// `rpc/identify`
    Identify,
    /// `rpc/auth`
    Auth,
    /// `rpc/auth_respond`
    AuthRespond,
    /// `rpc/auth_token`
    AuthToken,
    /// `rpc/auth_ssl`
    AuthSsl,
    /// `rpc/auth_clear`
    AuthClear,
    /// `rpc/query`
    Query,
    /// `rpc/settings`: certd's.
    Settings,
    /// `rpc/sessions`: authd's.
    Sessions,
    /// `rpc/logs`: the audit records of all services.
    Logs,
    /// `rpc/describe`
    Describe,
    /// `rpc/cancel`
    Cancel,
    /// `events/subscribe`
    Subscribe,
    /// `events/unsubscribe`
    Unsubscribe,
}

/// Every row. What stands nowhere here is 401 without a session and 404 with one.
///
/// A static, not a constant: rows are told apart by their place.
pub static ROWS: &[Row] = &[
    row("rpc", "identify", Needs::Nothing, READ, Handler::Identify),
    row("rpc", "auth", Needs::Nothing, WRITE, Handler::Auth),
    row("rpc", "auth_respond", Needs::Nothing, WRITE, Handler::AuthRespond),
    row("rpc", "auth_token", Needs::Nothing, WRITE, Handler::AuthToken),
    row("rpc", "auth_ssl", Needs::Nothing, WRITE, Handler::AuthSsl),
    row("rpc", "auth_clear", Needs::Nothing, WRITE, Handler::AuthClear),
    row("rpc", "query", Needs::Session, READ, Handler::Query),
    Row {
        aliases: &[("sysadm", "settings"), ("settings", "sysadm")],
        listed: true,
        ..row("rpc", "settings", Needs::Session, SETTINGS, Handler::Settings)
    },
    row("rpc", "sessions", Needs::Session, SESSIONS, Handler::Sessions),
    Row { listed: true, ..row("rpc", "logs", Needs::Session, LOGS, Handler::Logs) },
    row("rpc", "describe", Needs::AnySession, READ, Handler::Describe),
    row("rpc", "cancel", Needs::AnySession, WRITE, Handler::Cancel),
    row("events", "subscribe", Needs::Session, READ, Handler::Subscribe),
    row("events", "unsubscribe", Needs::Session, READ, Handler::Unsubscribe),
];

const READ: &[Action] = &[action("_", None, Right::Read)];
const WRITE: &[Action] = &[action("_", None, Right::Write)];

const SETTINGS: &[Action] = &[
    action("list_ssl_certs", Some("list_ssl_certificates"), Right::Read),
    action("list_ssl_checksums", None, Right::Read),
    action("register_challenge", None, Right::Write),
    action("register_ssl_cert", Some("register_ssl_certificate"), Right::Write),
    action("revoke_ssl_cert", Some("revoke_ssl_certificate"), Right::Write),
];

const SESSIONS: &[Action] = &[
    action("list", None, Right::Read),
    action("end", None, Right::Write),
    action("end_others", None, Right::Write),
];

const LOGS: &[Action] = &[action("read_logs", None, Right::Read)];

const fn row(
    namespace: &'static str,
    name: &'static str,
    needs: Needs,
    actions: &'static [Action],
    handler: Handler,
) -> Row {
    Row { namespace, name, aliases: &[], needs, actions, listed: false, handler }
}

const fn action(name: &'static str, alias: Option<&'static str>, right: Right) -> Action {
    Action { name, alias, right }
}

/// The row that a client's spelling means: ASCII case does not count.
pub fn find(namespace: &str, name: &str) -> Option<&'static Row> {
    let means = |(row_namespace, row_name): (&str, &str)| {
        row_name.eq_ignore_ascii_case(name) && row_namespace.eq_ignore_ascii_case(namespace)
    };
    ROWS.iter().find(|row| means((row.namespace, row.name)) || row.aliases.iter().copied().any(means))
}

/// The row, or the subsystem.
pub fn target(namespace: &str, name: &str) -> Target {
    match find(namespace, name) {
        Some(row) => Target::Row(row),
        None => SubsystemName::parse(namespace, name).map_or(Target::Nothing, Target::Subsystem),
    }
}

/// Every action of every row.
pub fn subjects() -> impl Iterator<Item = Subject> {
    ROWS.iter()
        .flat_map(|row| row.actions.iter().map(move |action| (row, action)))
        .enumerate()
        .map(|(place, (row, action))| Subject { row, action, place })
}

impl Target {
    /// The row.
    pub fn row(&self) -> Option<&'static Row> {
        match self {
            Self::Row(row) => Some(row),
            Self::Subsystem(_) | Self::Nothing => None,
        }
    }
}

impl Subject {
    /// One line for people.
    pub fn help(&self) -> &'static str {
        help::of(self.row.handler, self.action.name)
    }
}

impl Row {
    /// One line for people.
    pub fn help(&self) -> &'static str {
        help::of_row(self.handler)
    }

    /// The action that a client's spelling means, as with [`find`].
    pub fn subject(&'static self, action: &str) -> Option<Subject> {
        let means = |name: &str| name.eq_ignore_ascii_case(action);
        subjects().find(|subject| {
            std::ptr::eq(subject.row, self)
                && (means(subject.action.name) || subject.action.alias.is_some_and(means))
        })
    }

    /// The only action of a row that has none of its own.
    pub fn plain(&'static self) -> Option<Subject> {
        self.subject("_")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling_does_not_count_but_letters_do() {
        assert_eq!(find("rpc", "query").map(|row| row.handler), Some(Handler::Query));
        assert_eq!(find("RPC", "Query").map(|row| row.handler), Some(Handler::Query));
        assert_eq!(find("rpc", "quer"), None);
        assert_eq!(find("rpc ", "query"), None);
        // U+212A, the Kelvin sign, is a k to full case folding.
        assert_eq!(find("rpc", "auth_to\u{212a}en"), None);
    }

    #[test]
    fn aliases_mean_the_canonical_row_and_action() {
        let row = find("rpc", "settings").expect("in the table");
        for (namespace, name) in [("sysadm", "settings"), ("settings", "sysadm"), ("SysAdm", "SETTINGS")] {
            assert!(std::ptr::eq(find(namespace, name).expect("an alias"), row));
        }
        assert_eq!(find("settings", "rpc"), None);
        let action = |name| row.subject(name).map(|subject| subject.action.name);
        assert_eq!(action("register_ssl_certificate"), Some("register_ssl_cert"));
        assert_eq!(action("REVOKE_ssl_cert"), Some("revoke_ssl_cert"));
        assert_eq!(action("list_ssl_certificates"), Some("list_ssl_certs"));
        assert_eq!((action("list_ssl"), action("_"), action("")), (None, None, None));
        assert_eq!(find("rpc", "query").and_then(Row::plain).map(|subject| subject.action.name), Some("_"));
    }

    #[test]
    fn what_is_no_row_may_be_a_subsystem() {
        assert!(matches!(target("RPC", "query"), Target::Row(row) if row.handler == Handler::Query));
        let Target::Subsystem(name) = target("SysAdm", "Other") else { panic!("no subsystem") };
        assert_eq!(name.as_str(), "sysadm/other");
        assert_eq!(target("a b", "c"), Target::Nothing);
    }

    #[test]
    fn what_sessions_may_call_has_a_line_for_people() {
        for subject in subjects().filter(|subject| subject.row.needs != Needs::Nothing) {
            let line = subject.help();
            assert!(!line.is_empty() && line.len() <= 200, "{subject:?}");
            assert!(!subject.row.help().is_empty(), "{subject:?}");
        }
    }

    #[test]
    fn rows_are_canonical_and_stand_once() {
        let canonical = |word: &str| {
            !word.is_empty() && word.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
        };
        let names =
            |row: &'static Row| std::iter::once((row.namespace, row.name)).chain(row.aliases.iter().copied());
        let mut seen = std::collections::BTreeSet::new();
        for name in ROWS.iter().flat_map(names) {
            // Else a registration could stand in its place where authd reads it.
            assert!(doorward_launch::registrations::is_reserved(name.0, name.1), "{name:?} is not reserved");
            assert!(canonical(name.0) && canonical(name.1), "{name:?}");
            assert!(seen.insert(name), "{name:?} stands twice");
        }
        for row in ROWS {
            let mut seen = std::collections::BTreeSet::new();
            for name in row.actions.iter().flat_map(|action| std::iter::once(action.name).chain(action.alias))
            {
                assert!(canonical(name), "{name}");
                assert!(seen.insert(name), "{name} stands twice");
            }
            assert!(!row.actions.is_empty());
        }
        for (place, subject) in subjects().enumerate() {
            assert_eq!(subject.place, place);
        }
    }
}
