//! From an allowed call to what answers it. What needs nobody else is answered here.

use std::sync::Arc;

use doorward_launch::Current;

use crate::{
    access::{self, Rights},
    backend::Up,
    call::{
        Address, Answer, Call, Described, DescribedAction, Error, EventName, Identity, Reply, Right,
        SubsystemName, SubsystemRequest, Verb,
    },
    channels::{Decision, HandlerPlace, Policies},
    namespace::{self, Handler, Needs, Row, Subject, subjects},
    subsystem::{Asked, Known, Registry},
};

/// What the router knows of this host.
#[derive(Debug, Clone)]
pub struct Router {
    hostname: Arc<str>,
    certd: Option<Up>,
    subsystems: Registry,
    policies: Arc<Current<Policies>>,
}

/// What a session may use now, by canonical names.
pub type Rows = Arc<[(Arc<str>, Right)]>;

/// What the answer to `rpc/query` depends on besides the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    subsystems: u64,
    certd: bool,
}

/// What it depends on, besides the session, what may be heard. Each kind by itself: a subsystem that comes and goes is
/// no reason to ask anew about channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hearing {
    /// Of events.
    pub events: u64,
    /// Of channels.
    pub channels: u64,
}

impl Router {
    /// For a host of this name. `certd` says whether certd can be reached; without one there is none.
    pub fn new(hostname: &str, certd: Option<Up>, subsystems: Registry) -> Self {
        let policies = Arc::new(Current::new(Policies::default()));
        Self { hostname: hostname.into(), certd, subsystems, policies }
    }

    /// From now on this holds for channels. What says the same as before is no change: nobody has to be asked anew.
    pub fn set_policies(&self, policies: Policies) {
        if *self.policies.get() != policies {
            self.policies.set(policies);
        }
    }

    /// What holds for channels, at each moment.
    pub fn policies(&self) -> Arc<Current<Policies>> {
        Arc::clone(&self.policies)
    }

    /// Who is told that connections of this kind of identity come and go.
    pub fn handler_of(&self, kind: &str) -> Option<Arc<HandlerPlace>> {
        self.policies.get().handlers().find(|place| place.channel.as_str() == kind).cloned()
    }

    /// Whether somebody, or nobody in particular, may do this there.
    pub fn decide(&self, who: Option<&Identity>, at: &Address, verb: &Verb) -> Decision {
        self.policies.get().decide(who, at, verb)
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
            | Handler::Describe
            | Handler::Cancel
            | Handler::Logs
            | Handler::Subscribe
            | Handler::Unsubscribe => true,
        }
    }

    /// Answers what asks nobody else: who this host is. Other calls are not for here.
    pub fn answer(&self, call: &Call) -> Reply {
        match call {
            Call::Identify => Reply::Answer(Answer::Server { hostname: Arc::clone(&self.hostname) }),
            Call::Auth(_)
            | Call::AuthRespond(_)
            | Call::AuthToken(_)
            | Call::AuthSsl(_)
            | Call::AuthClear { .. }
            | Call::Query
            | Call::Settings(_)
            | Call::Sessions(_)
            | Call::Logs(_)
            | Call::Listen(..)
            | Call::Subsystem(_)
            | Call::Describe(_)
            | Call::Cancel(_)
            | Call::ChannelAuth(_)
            | Call::Channel(_)
            | Call::Malformed(_)
            | Call::Absent => Reply::Error(Error::NotFound),
        }
    }

    /// While this is the same, so are the [`Router::rows`] of a session.
    pub fn state(&self) -> State {
        State { subsystems: self.subsystems.changes(), certd: self.certd.as_ref().is_some_and(Up::is_up) }
    }

    /// While one of these is the same, so is what a session may hear of that kind.
    pub fn hearing(&self) -> Hearing {
        Hearing { events: self.subsystems.changes(), channels: self.policies.changes() }
    }

    /// What is up and may be used by somebody: to write if any of its actions writes.
    pub fn rows(&self, identity: &Identity, rights: Rights) -> Rows {
        let usable = subjects().filter(|subject| self.up(subject.row) && rights.allow(subject));
        let mut rows = listing(usable);
        for Known { subsystem, up } in self.subsystems.now().iter() {
            let Some(up) = up else { continue };
            let may = up.description.actions().filter(|action| access::may(identity, &action.subject));
            let writes = |right: Right| if right.writes() { Right::Write } else { Right::Read };
            let right = may.map(|action| action.told.right).reduce(|one, other| match one {
                Right::Write => Right::Write,
                Right::Read => writes(other),
            });
            rows.extend(right.map(|right| (subsystem.name.as_str().into(), right)));
        }
        rows.into()
    }

    /// What is called of a subsystem, if it may be.
    ///
    /// # Errors
    /// What the client is told.
    pub fn asked(&self, identity: &Identity, request: SubsystemRequest) -> Result<Asked, Error> {
        let SubsystemRequest { name, action, args, reads_only } = request;
        let now = self.subsystems.now();
        let known = now.find(&name).ok_or(Error::NotFound)?;
        let up = known.up.as_ref().ok_or(Error::Unavailable)?;
        let action = match action? {
            Some(named) => up.description.action(&named).ok_or(Error::NotFound)?,
            None => {
                up.description.action("_").ok_or_else(|| Error::BadRequest("action is missing".into()))?
            }
        };
        if !access::may(identity, &action.subject) {
            return Err(Error::Forbidden);
        }
        if reads_only && action.told.right.writes() {
            return Err(Error::ReadsOnly);
        }
        Ok(Asked::new(&known.subsystem, up, action, args))
    }

    /// What there is to call of a row or a subsystem for somebody.
    ///
    /// # Errors
    /// What the client is told.
    pub fn described(
        &self,
        identity: &Identity,
        rights: Rights,
        name: Option<SubsystemName>,
    ) -> Result<Described, Error> {
        let name = name.ok_or(Error::NotFound)?;
        match namespace::find(name.namespace(), name.name()) {
            Some(row) => self.described_row(row, rights),
            None => {
                let now = self.subsystems.now();
                let up = now.find(&name).ok_or(Error::NotFound)?.up.as_ref().ok_or(Error::Unavailable)?;
                up.description.told(&name, |subject| access::may(identity, subject)).ok_or(Error::Forbidden)
            }
        }
    }

    fn described_row(&self, row: &'static Row, rights: Rights) -> Result<Described, Error> {
        // Logins are no session's business.
        if row.needs == Needs::Nothing || !self.serves(row) {
            return Err(Error::NotFound);
        }
        if !self.up(row) {
            return Err(Error::Unavailable);
        }
        let allowed = subjects().filter(|subject| std::ptr::eq(subject.row, row) && rights.allow(subject));
        let action = |subject: Subject| DescribedAction {
            name: subject.action.name.into(),
            right: subject.action.right,
            help: subject.help().into(),
            streams: false,
            args: None,
        };
        let actions: Vec<_> = allowed.map(action).collect();
        if actions.is_empty() {
            return Err(Error::Forbidden);
        }
        Ok(Described {
            name: SubsystemName::parse(row.namespace, row.name).ok_or(Error::NotFound)?,
            version: env!("CARGO_PKG_VERSION").into(),
            help: row.help().into(),
            actions,
            events: Vec::new(),
        })
    }

    /// Whether somebody may hear an event: of a subsystem's, if he may call anything of it.
    pub fn may_hear(&self, identity: &Identity, event: &EventName) -> bool {
        let now = self.subsystems.now();
        // One that is down publishes nothing; when it is up again this is asked again.
        let Some(up) = now.publisher(event).and_then(|known| known.up.as_ref()) else { return true };
        up.description.actions().any(|action| access::may(identity, &action.subject))
    }
}

/// The rows that `rpc/query` names to a session that may use these subjects: to write if any writes.
fn listing(usable: impl Iterator<Item = Subject>) -> Vec<(Arc<str>, Right)> {
    let mut rows: Vec<(&'static Row, Right)> = Vec::new();
    for Subject { row, action, .. } in usable.filter(|subject| subject.row.listed) {
        match rows.last_mut() {
            Some((last, right)) if std::ptr::eq(*last, row) => {
                if action.right == Right::Write {
                    *right = Right::Write;
                }
            }
            _ => rows.push((row, action.right)),
        }
    }
    rows.into_iter().map(|(row, right)| (format!("{}/{}", row.namespace, row.name).into(), right)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(acl: &[&str]) -> Identity {
        Identity {
            session: crate::call::SessionId(uuid::Uuid::nil()),
            token: crate::call::Token::parse(crate::call::Secret::new(uuid::Uuid::nil().to_string()))
                .expect("a token"),
            who: crate::call::Who::alice(),
            has_access: true,
            is_token: false,
            is_channel: false,
            turn: 0,
            acl: acl.iter().map(|entry| (*entry).to_owned()).collect(),
            issued: 0,
            expires: 0,
            idle: None,
            absolute_left: std::time::Duration::ZERO,
            rights: std::time::Duration::ZERO,
        }
    }

    fn query(router: &Router, acl: &[&str]) -> Vec<(String, Right)> {
        let identity = identity(acl);
        let rows = router.rows(&identity, Rights::of(&identity.acl));
        rows.iter().map(|(name, right)| (name.to_string(), *right)).collect()
    }

    #[test]
    fn own_rows_are_described_by_right() {
        let router = Router::new("host", Some(Up::standing()), Registry::default());
        let described = |acl: &[&str], name: &str| {
            let (identity, (namespace, name)) = (identity(acl), name.split_once('/').expect("two words"));
            let name = SubsystemName::parse(namespace, name);
            router.described(&identity, Rights::of(&identity.acl), name).map(|found| {
                found.actions.iter().map(|action| action.name.to_string()).collect::<Vec<_>>().join(" ")
            })
        };
        assert_eq!(described(&["#"], "rpc/sessions").as_deref(), Ok("list end end_others"));
        let lists = ["sysadm.rpc.settings.list_*"];
        assert_eq!(described(&lists, "SysAdm/Settings").as_deref(), Ok("list_ssl_certs list_ssl_checksums"));
        assert_eq!(described(&lists, "rpc/sessions"), Err(Error::Forbidden));
        assert_eq!(described(&["#"], "rpc/auth"), Err(Error::NotFound));
        assert_eq!(described(&["#"], "a/b"), Err(Error::NotFound));
        assert_eq!(described(&["#"], "a b/c"), Err(Error::NotFound));
    }

    #[test]
    fn query_names_what_is_up_and_allowed() {
        let router = Router::new("host", Some(Up::standing()), Registry::default());
        let read = ("rpc/settings".to_owned(), Right::Read);
        let write = ("rpc/settings".to_owned(), Right::Write);
        let logs = ("rpc/logs".to_owned(), Right::Read);
        assert_eq!(query(&router, &["#"]), [write.clone(), logs.clone()]);
        assert_eq!(query(&router, &["sysadm.rpc.settings.list_*"]), [read]);
        assert_eq!(query(&router, &["sysadm.rpc.settings.revoke_ssl_cert"]), [write]);
        assert_eq!(query(&router, &["sysadm.rpc.query.#"]), []);
        for certd in [Some(Up::default()), None] {
            assert_eq!(
                query(&Router::new("host", certd, Registry::default()), &["#"]),
                std::slice::from_ref(&logs)
            );
        }
    }

    #[test]
    fn without_certd_its_row_is_not_served() {
        for row in crate::namespace::ROWS {
            let there = Router::new("host", Some(Up::default()), Registry::default());
            assert!(there.serves(row), "whether it is up or not");
            let without = Router::new("host", None, Registry::default());
            assert_eq!(without.serves(row), row.handler != Handler::Settings);
        }
    }
}
