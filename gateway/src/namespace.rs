//! The table of what clients may call: one line for each namespace/name.

use crate::call::Right;

/// One row: what clients call it, and what is needed to call it.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    /// Canonical: lower case.
    pub namespace: &'static str,
    /// Canonical: lower case.
    pub name: &'static str,
    /// Who may call it.
    pub needs: Needs,
    /// What calling it can do.
    pub right: Right,
    /// `rpc/query` names it while it is up.
    pub listed: bool,
    /// What answers it.
    pub handler: Handler,
}

/// Who may call a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Everybody.
    Nothing,
    /// A session whose ACL grants the row.
    Session,
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
    /// `rpc/auth_ssl`: nothing answers it until there is a registry of keys, so 404 to everybody.
    AuthSsl,
    /// `rpc/auth_clear`
    AuthClear,
    /// `rpc/query`
    Query,
}

/// Every row. What stands nowhere here is 401 without a session and 404 with one.
///
/// A static, not a constant: rows are told apart by their place.
pub static ROWS: &[Row] = &[
    row("rpc", "identify", Needs::Nothing, Right::Read, Handler::Identify),
    row("rpc", "auth", Needs::Nothing, Right::Write, Handler::Auth),
    row("rpc", "auth_respond", Needs::Nothing, Right::Write, Handler::AuthRespond),
    row("rpc", "auth_token", Needs::Nothing, Right::Write, Handler::AuthToken),
    row("rpc", "auth_ssl", Needs::Nothing, Right::Write, Handler::AuthSsl),
    row("rpc", "auth_clear", Needs::Nothing, Right::Write, Handler::AuthClear),
    row("rpc", "query", Needs::Session, Right::Read, Handler::Query),
];

const fn row(
    namespace: &'static str,
    name: &'static str,
    needs: Needs,
    right: Right,
    handler: Handler,
) -> Row {
    Row { namespace, name, needs, right, listed: false, handler }
}

/// The row that a client's spelling means: ASCII case does not count.
pub fn find(namespace: &str, name: &str) -> Option<&'static Row> {
    ROWS.iter()
        .find(|row| row.name.eq_ignore_ascii_case(name) && row.namespace.eq_ignore_ascii_case(namespace))
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
    fn rows_are_canonical_and_stand_once() {
        for (place, row) in ROWS.iter().enumerate() {
            for word in [row.namespace, row.name] {
                assert!(!word.is_empty());
                assert!(word.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-')), "{word}");
            }
            let same = |other: &&Row| other.namespace == row.namespace && other.name == row.name;
            assert_eq!(ROWS.iter().position(|other| same(&other)), Some(place));
        }
    }
}
