//! From an allowed call to what answers it. What needs nobody else is answered here.

use std::sync::Arc;

use crate::{
    access::Rights,
    backend::Up,
    call::{Answer, Call, Error, Reply, Right},
    namespace::{Handler, Row, Subject, subjects},
};

/// What the router knows of this host.
#[derive(Debug, Clone)]
pub struct Router {
    hostname: Arc<str>,
    certd: Option<Up>,
}

impl Router {
    /// For a host of this name. `certd` says whether certd can be reached; without one there is none.
    pub fn new(hostname: &str, certd: Option<Up>) -> Self {
        Self { hostname: hostname.into(), certd }
    }

    /// Whether there is, on this host, what answers a row.
    pub fn serves(&self, row: &Row) -> bool {
        row.handler != Handler::Settings || self.certd.is_some()
    }

    /// Whether what answers a row can be reached, as far as is known.
    fn up(&self, row: &Row) -> bool {
        match row.handler {
            Handler::Settings => self.certd.as_ref().is_some_and(Up::is_up),
            Handler::Identify
            | Handler::Auth
            | Handler::AuthRespond
            | Handler::AuthToken
            | Handler::AuthSsl
            | Handler::AuthClear
            | Handler::Query
            | Handler::Sessions
            | Handler::Subscribe
            | Handler::Unsubscribe => true,
        }
    }

    /// Answers a call that was found allowed. Authentication is the session's own business and no
    /// call for the router.
    pub fn answer(&self, call: &Call, rights: Option<Rights>) -> Reply {
        match call {
            Call::Identify => Reply::Answer(Answer::Server { hostname: Arc::clone(&self.hostname) }),
            Call::Query => match rights {
                Some(rights) => {
                    let usable = subjects().filter(|subject| self.up(subject.row) && rights.allow(subject));
                    Reply::Answer(Answer::Rows(listing(usable)))
                }
                None => Reply::Error(Error::Unauthorized),
            },
            Call::Auth(_)
            | Call::AuthRespond(_)
            | Call::AuthToken(_)
            | Call::AuthSsl(_)
            | Call::AuthClear { .. }
            | Call::Settings(_)
            | Call::Sessions(_)
            | Call::Listen(..)
            | Call::Malformed(_)
            | Call::Absent => Reply::Error(Error::NotFound),
        }
    }
}

/// The rows that `rpc/query` names to a session that may use these subjects: to write if any writes.
fn listing(usable: impl Iterator<Item = Subject>) -> Vec<(&'static str, &'static str, Right)> {
    let mut rows: Vec<(&'static str, &'static str, Right)> = Vec::new();
    for Subject { row, action, .. } in usable.filter(|subject| subject.row.listed) {
        match rows.last_mut() {
            Some((namespace, name, right)) if (*namespace, *name) == (row.namespace, row.name) => {
                if action.right == Right::Write {
                    *right = Right::Write;
                }
            }
            _ => rows.push((row.namespace, row.name, action.right)),
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(router: &Router, acl: &[&str]) -> Vec<(&'static str, &'static str, Right)> {
        let acl: Vec<String> = acl.iter().map(|entry| (*entry).to_owned()).collect();
        match router.answer(&Call::Query, Some(Rights::of(&acl))) {
            Reply::Answer(Answer::Rows(rows)) => rows,
            other => panic!("no rows but {other:?}"),
        }
    }

    #[test]
    fn query_names_what_is_up_and_allowed() {
        let router = Router::new("host", Some(Up::standing()));
        let read = ("rpc", "settings", Right::Read);
        let write = ("rpc", "settings", Right::Write);
        assert_eq!(query(&router, &["#"]), [write]);
        assert_eq!(query(&router, &["sysadm.rpc.settings.list_*"]), [read]);
        assert_eq!(query(&router, &["sysadm.rpc.settings.revoke_ssl_cert"]), [write]);
        assert_eq!(query(&router, &["sysadm.rpc.query.#"]), []);
        for certd in [Some(Up::default()), None] {
            assert_eq!(query(&Router::new("host", certd), &["#"]), []);
        }
    }

    #[test]
    fn without_certd_its_row_is_not_served() {
        for row in crate::namespace::ROWS {
            let there = Router::new("host", Some(Up::default()));
            assert!(there.serves(row), "whether it is up or not");
            let without = Router::new("host", None);
            assert_eq!(without.serves(row), row.handler != Handler::Settings);
        }
    }
}
