//! Who may list, register and revoke what. Pure; the caller is what authd's assertion says.

use doorward_assertion::Caller;
use doorward_launch::audit;

/// How long after the login a session may register and revoke.
const RECENT_SECONDS: i64 = 600;

/// A step of the clock between authd's stamp and our look at it that is no reason to refuse.
const CLOCK_STEP_SECONDS: i64 = 5;

/// Login methods that show more than the possession of a key: a stolen key must not enrol the next one.
const STRONG: [&str; 2] = ["password", "local_peer"];

/// What a caller wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// See keys.
    List,
    /// Add one, or ask for the challenge to do so.
    Register,
    /// Withdraw one.
    Revoke,
    /// Read what is recorded about them.
    ReadLogs,
}

impl Action {
    /// The ACL that it needs.
    fn acl(self) -> &'static str {
        match self {
            Self::List => "sysadm.rpc.settings.list_ssl_certs",
            Self::Register => "sysadm.rpc.settings.register_ssl_cert",
            Self::Revoke => "sysadm.rpc.settings.revoke_ssl_cert",
            Self::ReadLogs => "sysadm.rpc.logs.read_logs",
        }
    }
}

/// Why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The ACL does not grant the action.
    #[error("this session may not do that")]
    Acl,
    /// The session was opened by a method that may not.
    #[error("log in with a password to do that")]
    Method,
    /// The login is too long ago.
    #[error("the login is more than 10 minutes ago; log in again to do that")]
    NotRecent,
    /// Another user's key, without full access.
    #[error("another user's keys need full access")]
    Another,
    /// A registration in a session, where root registers.
    #[error("keys are registered by root on the host itself: doorward certs register --user NAME FILE")]
    ByRoot,
    /// uid 0, where the configuration does not say so.
    #[error("keys for root are switched off")]
    Root,
}

/// Whose keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// This user's.
    One(String),
    /// Everybody's.
    All,
}

/// What `caller` sees.
///
/// # Errors
/// [`Denied`] says why nothing.
pub fn list(caller: &Caller) -> Result<Whose, Denied> {
    allowed(caller, Action::List)?;
    Ok(if caller.full { Whose::All } else { Whose::One(caller.user.clone()) })
}

/// Whose audit records `caller` sees.
///
/// # Errors
/// [`Denied`] says why nobody's.
pub fn records(caller: &Caller) -> Result<audit::Whose, Denied> {
    allowed(caller, Action::ReadLogs)?;
    Ok(if caller.full {
        audit::Whose::All
    } else {
        audit::Whose::One { user: caller.user.clone(), uid: caller.uid }
    })
}

/// What the configuration says of registrations.
#[derive(Debug, Clone, Copy)]
pub struct Registrations {
    /// Users register for themselves. If not, no session does: whoever carries one could.
    pub in_sessions: bool,
    /// root may have keys.
    pub for_root: bool,
}

/// Whether `caller` may register a key of his own.
///
/// # Errors
/// [`Denied`] says why not.
pub fn register(caller: &Caller, registrations: Registrations, now: i64) -> Result<(), Denied> {
    if !registrations.in_sessions {
        return Err(Denied::ByRoot);
    }
    allowed(caller, Action::Register)?;
    recent(caller, now)?;
    // A session without a uid is not a local user's: it is not root's either.
    if (caller.uid == Some(0) || caller.user == "root") && !registrations.for_root {
        return Err(Denied::Root);
    }
    Ok(())
}

/// Whose key `caller` may revoke when he names `user`, or nobody: his own.
///
/// # Errors
/// [`Denied`] says why none.
pub fn revoke(caller: &Caller, user: &str, now: i64) -> Result<String, Denied> {
    allowed(caller, Action::Revoke)?;
    recent(caller, now)?;
    match user {
        "" => Ok(caller.user.clone()),
        own if own == caller.user => Ok(own.to_owned()),
        other if caller.full => Ok(other.to_owned()),
        _ => Err(Denied::Another),
    }
}

fn allowed(caller: &Caller, action: Action) -> Result<(), Denied> {
    if caller.may(action.acl()) { Ok(()) } else { Err(Denied::Acl) }
}

fn recent(caller: &Caller, now: i64) -> Result<(), Denied> {
    if !STRONG.contains(&caller.method.as_str()) {
        return Err(Denied::Method);
    }
    let recent = -CLOCK_STEP_SECONDS..=RECENT_SECONDS;
    match now.checked_sub(caller.login_time) {
        Some(age) if recent.contains(&age) => Ok(()),
        _ => Err(Denied::NotRecent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;
    const USUAL: Registrations = Registrations { in_sessions: true, for_root: false };
    const FOR_ROOT: Registrations = Registrations { in_sessions: true, for_root: true };

    fn caller() -> Caller {
        Caller {
            user: "alice".into(),
            uid: Some(1000),
            kind: "user".into(),
            pk: None,
            name: None,
            full: false,
            auth_id: "1000".into(),
            acl: vec!["sysadm.rpc.settings.#".into()],
            session: "s".into(),
            method: "password".into(),
            login_time: NOW - 5,
            assertion: "a".into(),
            issued: NOW - 5,
            expires: NOW + 60,
        }
    }

    fn root() -> Caller {
        Caller { user: "root".into(), uid: Some(0), full: true, acl: vec!["#".into()], ..caller() }
    }

    #[test]
    fn everybody_sees_his_own_and_full_access_sees_all() {
        assert_eq!(list(&caller()), Ok(Whose::One("alice".into())));
        assert_eq!(list(&Caller { full: true, ..caller() }), Ok(Whose::All));
        assert_eq!(list(&Caller { acl: vec![], ..caller() }), Err(Denied::Acl));
        let old = Caller { method: "certificate_challenge".into(), login_time: 0, ..caller() };
        assert_eq!(list(&old), Ok(Whose::One("alice".into())));
    }

    #[test]
    fn everybody_reads_his_own_records_and_full_access_all() {
        let reader = Caller { acl: vec!["sysadm.rpc.logs.#".into()], ..caller() };
        let own = audit::Whose::One { user: "alice".into(), uid: Some(1000) };
        assert_eq!(records(&reader), Ok(own));
        assert_eq!(records(&Caller { full: true, ..reader }), Ok(audit::Whose::All));
        assert_eq!(records(&caller()), Err(Denied::Acl));
    }

    #[test]
    fn registration_needs_a_recent_login_by_password_or_kernel() {
        for (method, age, expected) in [
            ("password", 0, Ok(())),
            ("local_peer", 600, Ok(())),
            ("password", 601, Err(Denied::NotRecent)),
            ("password", -5, Ok(())),
            ("password", -6, Err(Denied::NotRecent)),
            ("password", i64::MIN, Err(Denied::NotRecent)),
            ("certificate_challenge", 0, Err(Denied::Method)),
            ("tls_certificate", 0, Err(Denied::Method)),
            ("token", 0, Err(Denied::Method)),
            ("", 0, Err(Denied::Method)),
        ] {
            let caller = Caller { method: method.into(), login_time: NOW.saturating_sub(age), ..caller() };
            assert_eq!(register(&caller, USUAL, NOW), expected, "{method} {age}");
            assert_eq!(revoke(&caller, "", NOW).map(drop), expected, "{method} {age}");
        }
    }

    #[test]
    fn root_has_keys_only_where_configured() {
        assert_eq!(register(&root(), USUAL, NOW), Err(Denied::Root));
        assert_eq!(register(&root(), FOR_ROOT, NOW), Ok(()));
        let toor = Caller { user: "toor".into(), ..root() };
        assert_eq!(register(&toor, USUAL, NOW), Err(Denied::Root));
        let named = Caller { uid: None, ..root() };
        assert_eq!(register(&named, USUAL, NOW), Err(Denied::Root));
    }

    #[test]
    fn where_root_registers_no_session_does_and_every_session_may_still_revoke() {
        for for_root in [false, true] {
            let by_root = Registrations { in_sessions: false, for_root };
            for caller in [caller(), root(), Caller { full: true, acl: vec!["#".into()], ..caller() }] {
                assert_eq!(register(&caller, by_root, NOW), Err(Denied::ByRoot));
            }
        }
        assert_eq!(revoke(&caller(), "", NOW), Ok("alice".into()));
    }

    #[test]
    fn another_users_key_needs_full_access() {
        assert_eq!(revoke(&caller(), "bob", NOW), Err(Denied::Another));
        assert_eq!(revoke(&caller(), "alice", NOW), Ok("alice".into()));
        assert_eq!(revoke(&Caller { full: true, ..caller() }, "bob", NOW), Ok("bob".into()));
        assert_eq!(revoke(&root(), "bob", NOW), Ok("bob".into()));
    }

    #[test]
    fn the_acl_of_each_action_counts() {
        let reader = Caller { acl: vec!["sysadm.rpc.settings.list_*".into()], ..caller() };
        assert!(list(&reader).is_ok());
        assert_eq!(register(&reader, FOR_ROOT, NOW), Err(Denied::Acl));
        assert_eq!(revoke(&reader, "", NOW), Err(Denied::Acl));
    }
}
