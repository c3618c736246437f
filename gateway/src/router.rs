//! From an allowed call to what answers it. What needs nobody else is answered here.

use std::sync::Arc;

use crate::{
    access::Rights,
    call::{Answer, Call, Error, Reply, Right},
    namespace::{ROWS, Row},
};

/// What the router knows of this host.
#[derive(Debug, Clone)]
pub struct Router {
    hostname: Arc<str>,
}

impl Router {
    /// For a host of this name.
    pub fn new(hostname: &str) -> Self {
        Self { hostname: hostname.into() }
    }

    /// Answers a call that was found allowed. Authentication is the session's own business and no
    /// call for the router.
    pub fn answer(&self, call: &Call, rights: Option<Rights>) -> Reply {
        match call {
            Call::Identify => Reply::Answer(Answer::Server { hostname: Arc::clone(&self.hostname) }),
            Call::Query => match rights {
                Some(rights) => Reply::Answer(Answer::Rows(listing(ROWS, |row| rights.allow(row)))),
                None => Reply::Error(Error::Unauthorized),
            },
            Call::Auth(_)
            | Call::AuthRespond(_)
            | Call::AuthToken(_)
            | Call::AuthClear { .. }
            | Call::Absent => Reply::Error(Error::NotFound),
        }
    }
}

/// The rows that `rpc/query` names to a session.
fn listing(rows: &'static [Row], allowed: impl Fn(&Row) -> bool) -> Vec<(&'static str, &'static str, Right)> {
    rows.iter()
        .filter(|row| row.listed && allowed(row))
        .map(|row| (row.namespace, row.name, row.right))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::{Handler, Needs};

    #[test]
    fn query_names_the_listed_rows_that_are_allowed() {
        const fn subsystem(name: &'static str, right: Right, listed: bool) -> Row {
            let handler = Handler::Query;
            Row { namespace: "sysadm", name, needs: Needs::Session, right, listed, handler }
        }
        const ROWS: &[Row] = &[
            subsystem("fs", Right::Read, true),
            subsystem("hidden", Right::Read, false),
            subsystem("users", Right::Write, true),
        ];
        assert_eq!(
            listing(ROWS, |_| true),
            [("sysadm", "fs", Right::Read), ("sysadm", "users", Right::Write)]
        );
        assert_eq!(listing(ROWS, |row| row.name == "fs"), [("sysadm", "fs", Right::Read)]);
    }
}
