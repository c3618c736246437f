//! The people of the tests: what their accounts and PAM modules do, the same in both PAM modes.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use crate::secrets;

/// Who somebody is in the tests; the account's name differs between the modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Password, full access.
    Full,
    /// Password, limited access.
    Limited,
    /// Password, in no access group.
    Nobody,
    /// Two questions in one call: password and colour.
    Two,
    /// Password, then a code.
    Code,
    /// Password that has expired and must be changed.
    Expired,
    /// Password, shown together with a text, after a text and an error.
    Texts,
    /// A module that blocks all signals and hangs, and leaves a double-forked child.
    Hang,
    /// A module that crashes.
    Crash,
    /// A module that asks more questions at once than anybody answers.
    Flood,
    /// A module that changes the user to Full's.
    Changer,
    /// A module that writes to descriptors 0, 1 and 2.
    Stdout,
    /// A module that forks and waits for its child.
    Fork,
    /// A module that succeeds and leaves a daemon behind.
    Daemon,
    /// A module that looks at the environment it runs in.
    Clean,
    /// Password, full access; an account for tests that change it.
    Spare,
    /// Limited access; the password is locked. A real account only: with libpam-wrapper it is not.
    Locked,
    /// Limited access; the account has expired. A real account only, as above.
    Lapsed,
}

/// Where PAM's answer for somebody comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// The system's own way: pam_unix, or pam_matrix under libpam-wrapper.
    Password,
    /// The test module with these arguments in `auth`, `account` and `password` lines.
    Module { auth: String, account: String },
}

/// One of them.
#[derive(Debug, Clone)]
pub struct Person {
    /// The account's name.
    pub name: String,
    /// The right password.
    pub password: String,
    /// The account's uid.
    pub uid: u32,
    pub(crate) access: Option<&'static str>,
    pub(crate) behaviour: Behaviour,
}

/// All of them.
#[derive(Debug, Clone)]
pub struct Cast(BTreeMap<Role, Person>);

/// The answer that `Role::Two` gives to the second question.
pub const COLOUR: &str = "ultramarine-violet";
/// The code that `Role::Code` gives.
pub const CODE: &str = "Kolibri-471-1";
/// The group of full access is called so, with the prefix of the cast before it.
pub(crate) const FULL: &str = "full";
/// And that of limited access.
pub(crate) const LIMITED: &str = "lim";

const ROLES: &[(Role, &str)] = &[
    (Role::Full, "alice"),
    (Role::Limited, "bob"),
    (Role::Nobody, "carol"),
    (Role::Two, "two"),
    (Role::Code, "code"),
    (Role::Expired, "expired"),
    (Role::Texts, "texts"),
    (Role::Hang, "hang"),
    (Role::Crash, "crash"),
    (Role::Flood, "flood"),
    (Role::Changer, "changer"),
    (Role::Stdout, "stdout"),
    (Role::Fork, "fork"),
    (Role::Daemon, "daemon"),
    (Role::Clean, "clean"),
    (Role::Spare, "spare"),
    (Role::Locked, "locked"),
    (Role::Lapsed, "lapsed"),
];

impl Cast {
    /// The cast with a prefix for all account names; `dir` holds what modules remember.
    pub(crate) fn new(prefix: &str, dir: &str) -> Self {
        let full = format!("{prefix}alice");
        let people = ROLES.iter().enumerate().map(|(number, (role, short))| {
            let name = format!("{prefix}{short}");
            let password = format!("Pw.{short}.{:016x}", random());
            secrets::register(&password);
            let own = format!("for_user={name} password={password}");
            let in_auth = |more: &str| Behaviour::Module {
                auth: format!("{own} {more}"),
                account: format!("for_user={name}"),
            };
            let behaviour = match role {
                Role::Full | Role::Limited | Role::Nobody | Role::Spare | Role::Locked | Role::Lapsed => {
                    Behaviour::Password
                }
                Role::Two => in_auth(&format!("two_questions colour={}", secrets::register(COLOUR))),
                Role::Code => in_auth(&format!("code={}", secrets::register(CODE))),
                Role::Expired => {
                    let file = format!("{dir}/expired");
                    Behaviour::Module {
                        auth: format!("{own} expire={file}"),
                        account: format!("{own} expire={file}"),
                    }
                }
                Role::Texts => {
                    in_auth("[info=Maintenance at noon.] [error=Disk is full.] [together=Last login: never.]")
                }
                Role::Hang => in_auth("hang orphan setsid"),
                Role::Crash => in_auth("crash"),
                Role::Flood => in_auth("flood=48 text_bytes=600"),
                Role::Changer => in_auth(&format!("change_user={full}")),
                Role::Stdout => in_auth("stdout"),
                Role::Fork => in_auth("fork"),
                Role::Daemon => in_auth("daemon"),
                Role::Clean => in_auth("check_environment"),
            };
            let access = match role {
                Role::Nobody => None,
                Role::Full | Role::Spare => Some(FULL),
                _ => Some(LIMITED),
            };
            let uid = 71_000 + u32::try_from(number).expect("few people");
            (*role, Person { name, password, uid, access, behaviour })
        });
        Self(people.collect())
    }

    /// Somebody.
    ///
    /// # Panics
    /// Never: the cast holds every role.
    pub fn person(&self, role: Role) -> &Person {
        self.0.get(&role).expect("the cast is complete")
    }

    /// Somebody by the short name that transcripts use.
    pub fn called(&self, short: &str) -> Option<&Person> {
        ROLES.iter().find(|(_, name)| *name == short).map(|(role, _)| self.person(*role))
    }

    pub(crate) fn people(&self) -> impl Iterator<Item = &Person> {
        self.0.values()
    }

    pub(crate) fn people_mut(&mut self) -> impl Iterator<Item = &mut Person> {
        self.0.values_mut()
    }
}

/// 64 bits, the same for this process and others for the next: a secret found in a log is this run's, and
/// all stacks of a process can share accounts.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    static BITS: OnceLock<u64> = OnceLock::new();
    *BITS.get_or_init(|| RandomState::new().build_hasher().finish())
}
