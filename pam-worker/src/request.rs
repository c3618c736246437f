//! `Start`, checked. authd checked it before; here it reaches PAM.

use std::net::IpAddr;

use doorward_proto::pam::v1 as wire;

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// PAM_USER.
    pub(crate) user: String,
    /// PAM_RHOST. An address and never a name: modules would look names up, or take tokens for them.
    pub(crate) rhost: Option<IpAddr>,
    /// PAM_TTY.
    pub(crate) tty: Option<String>,
    pub(crate) task: Task,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// Authenticate, then account management.
    Login,
    /// Account management alone.
    Account,
}

/// `None` for anything that authd would not send.
pub(crate) fn check(start: wire::Start) -> Option<Request> {
    let task = match start.task() {
        wire::Task::Unspecified => return None,
        wire::Task::Login => Task::Login,
        wire::Task::Account => Task::Account,
    };
    let rhost = match start.rhost.as_str() {
        "" => None,
        address => Some(address.parse().ok()?),
    };
    if !is_user(&start.user) || !is_tty(&start.tty) {
        return None;
    }
    let tty = Some(start.tty).filter(|tty| !tty.is_empty());
    Some(Request { user: start.user, rhost, tty, task })
}

/// The replacement character is refused because PAM_USER is read back with it in the place of what
/// is not UTF-8: a module's change to such a name would go unseen.
fn is_user(name: &str) -> bool {
    (1..=256).contains(&name.len())
        && !name.starts_with('-')
        && !name.chars().any(|c| c.is_control() || matches!(c, '/' | '\u{fffd}'))
}

fn is_tty(name: &str) -> bool {
    name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(user: &str, rhost: &str, tty: &str, task: wire::Task) -> wire::Start {
        wire::Start { user: user.to_owned(), rhost: rhost.to_owned(), tty: tty.to_owned(), task: task.into() }
    }

    #[test]
    fn what_authd_sends_is_accepted() {
        let longest = "u".repeat(256);
        for user in ["root", "jürgen", "user name", &longest] {
            assert!(check(start(user, "", "", wire::Task::Account)).is_some(), "{user}");
        }
        let request = check(start("bob", "2001:db8::1", "doorward", wire::Task::Login)).expect("a good one");
        assert_eq!(request.rhost, "2001:db8::1".parse().ok());
        assert_eq!(request.tty.as_deref(), Some("doorward"));
        assert_eq!(request.task, Task::Login);
    }

    #[test]
    fn everything_else_is_refused() {
        let long = "u".repeat(257);
        for user in ["", "-x", "a/b", "a\0", "a\nb", "a\u{7f}", "a\u{85}", "a\u{fffd}", &long] {
            assert_eq!(check(start(user, "", "", wire::Task::Login)), None, "{user:?}");
        }
        for rhost in
            ["localhost", "ALL", "192.0.2.1:80", "fe80::1%eth0", "192.0.2", "192.0.2.1\0", " 192.0.2.1"]
        {
            assert_eq!(check(start("bob", rhost, "", wire::Task::Login)), None, "{rhost:?}");
        }
        for tty in ["a b", "a\0", "\u{e9}", &"t".repeat(65)] {
            assert_eq!(check(start("bob", "", tty, wire::Task::Login)), None, "{tty:?}");
        }
        assert_eq!(check(start("bob", "", "", wire::Task::Unspecified)), None);
        let unknown = wire::Start { task: 77, ..start("bob", "", "", wire::Task::Login) };
        assert_eq!(check(unknown), None);
    }
}
