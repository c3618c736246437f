//! Accounts of the user database: who a name or uid is, and which access class they are in now.
//!
//! Looked up at each login and never kept for one: an id that was derived once and cached has logged in the wrong
//! person before (CVE-2024-9312). The holder of a session is looked at for each request, and such a look is kept
//! for a moment. The database may block for as long as its servers like, so lookups run on blocking threads, a
//! bounded number of them, and callers wait with a deadline.

mod directory;
mod members;
mod recent;

use std::{io, path::Path, sync::Arc, time::Duration};

pub use directory::{Directory, GOOD_FOR_MS, Group, System, User};
use doorward_launch::Current;
use recent::Recent;
use tokio::{sync::Semaphore, time::Instant};

use crate::{error::AuthError, session::Dialect};

/// Lookups at a time, hung ones included.
const LOOKUPS: usize = 16;
/// Of them, those for records alone, which strangers can cause.
const ASIDES: usize = 2;
/// How long a caller waits for a lookup.
const PATIENCE: Duration = Duration::from_secs(10);

/// A name that may be looked up: 1 to 256 bytes, no control characters, no `/`, no leading `-`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Username(String);

impl Username {
    /// The name, if it is one.
    pub fn parse(text: String) -> Option<Self> {
        let fits = (1..=256).contains(&text.len())
            && !text.starts_with('-')
            && !text.chars().any(|c| c.is_control() || c == '/');
        fits.then_some(Self(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A uid that can be somebody's: not -1, which means "no change" to the kernel, nor the overflow uid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Uid(u32);

impl Uid {
    /// The uid, if it can be somebody's.
    pub fn new(uid: u32) -> Option<Self> {
        (uid != u32::MAX && uid != 65534).then_some(Self(uid))
    }

    /// The number.
    pub fn as_u32(self) -> u32 {
        self.0
    }

    /// Whether it is root's.
    pub fn is_root(self) -> bool {
        self.0 == 0
    }
}

/// What an account may do at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Some.
    Limited,
    /// Everything.
    Full,
}

/// An account as the user database has it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: Username,
    /// Its uid.
    pub uid: Uid,
    /// Its access class; None: in no access group.
    pub access: Option<Access>,
    /// Its groups that are configured to give something.
    pub groups: Memberships,
    /// Whether its shell is one of /etc/shells.
    pub shell_listed: bool,
    /// Whether root gave its uid to another user as well (subuid(5)), who can be it.
    pub subordinate: bool,
}

/// An account's groups, out of those that are configured to give something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memberships {
    /// The one by which it is in its access class; None too for root, and where further groups alone give it.
    pub class: Option<String>,
    /// Those with entries of their own.
    pub further: Vec<String>,
    /// Those whose members may have tokens.
    pub tokens: Vec<String>,
}

impl Account {
    /// Whether it may log in by this dialect at all.
    pub fn may_use(&self, dialect: Dialect) -> bool {
        match dialect {
            Dialect::Sysadm | Dialect::Channel => self.access.is_some(),
            Dialect::Token => self.access.is_some() || !self.groups.tokens.is_empty(),
        }
    }
}

/// Who is looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// Whoever has this name.
    Name(Username),
    /// Whoever the kernel means by this uid.
    Uid(Uid),
}

/// Which groups give access.
#[derive(Debug, Clone, Default)]
pub struct Groups {
    /// Full access.
    pub full: Vec<String>,
    /// Limited access.
    pub limited: Vec<String>,
    /// Limited access, with entries of their own.
    pub further: Vec<String>,
    /// Tokens of the token API.
    pub tokens: Vec<String>,
}

/// The user database, bounded.
#[derive(Debug)]
pub struct Accounts {
    directory: Arc<dyn Directory>,
    groups: Current<Groups>,
    places: Arc<Semaphore>,
    asides: Arc<Semaphore>,
    recent: Recent,
}

impl Accounts {
    /// Accounts of `directory`.
    pub fn new(directory: Arc<dyn Directory>, groups: Groups) -> Self {
        let [places, asides] = [LOOKUPS, ASIDES].map(|places| Arc::new(Semaphore::new(places)));
        let recent = Recent::new(directory.good_for());
        Self { directory, groups: Current::new(groups), places, asides, recent }
    }

    /// From now on these groups give access.
    pub fn give_access_by(&self, groups: Groups) {
        self.groups.set(groups);
        self.recent.forget();
    }

    /// The account, or None when there is none that could log in.
    ///
    /// # Errors
    /// When the database fails or does not answer in time: that is a denial, never "unknown".
    pub async fn find(&self, who: Who) -> Result<Option<Account>, AuthError> {
        let groups = self.groups.get();
        self.ask(move |directory| look_up(directory, &groups, who)).await
    }

    /// The account, which may be as it was up to [`Directory::good_for`] ago; None when there is none now.
    ///
    /// # Errors
    /// Those of [`Accounts::find`].
    pub async fn recent(&self, name: Username) -> Result<Option<Arc<Account>>, AuthError> {
        let look = self.recent.look(&name, Instant::now());
        // None: there is no such account, which is not kept.
        let found = look.found.get_or_try_init(async || match self.find(Who::Name(name)).await {
            Ok(account) => account.map(Arc::new).ok_or(None),
            Err(failure) => Err(Some(failure)),
        });
        // Whoever waits for another's look and then looks does not wait twice as long.
        match tokio::time::timeout(PATIENCE, found).await {
            Ok(Ok(account)) => Ok(Some(Arc::clone(account))),
            Ok(Err(None)) => Ok(None),
            Ok(Err(Some(failure))) => Err(failure),
            Err(_) => Err(AuthError::Directory(io::Error::from(io::ErrorKind::TimedOut))),
        }
    }

    /// The uid that goes with a name, for a record: None too while others are looked up for that, so that names which
    /// nobody has keep nobody waiting where the database is slow to say so.
    ///
    /// # Errors
    /// [`AuthError::Directory`] when the database does not answer in time.
    pub async fn uid_aside(&self, name: Username) -> Result<Option<u32>, AuthError> {
        let Ok(aside) = self.asides.clone().try_acquire_owned() else { return Ok(None) };
        let found = self.ask(move |directory| {
            // Until the answer is there, however short its caller waits.
            let _aside = aside;
            directory.user_by_name(name.as_str())
        });
        Ok(found.await?.map(|user| user.uid))
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn Directory) -> io::Result<T> + Send + 'static,
    ) -> Result<T, AuthError> {
        let late = || AuthError::Directory(io::Error::from(io::ErrorKind::TimedOut));
        let found = tokio::time::timeout(PATIENCE, async {
            // The place goes into the closure: a lookup that hangs keeps it after its caller has gone.
            let Ok(place) = self.places.clone().acquire_owned().await else { return Err(late()) };
            let directory = self.directory.clone();
            let lookup = tokio::task::spawn_blocking(move || {
                let found = question(directory.as_ref());
                drop(place);
                found
            });
            match lookup.await {
                Ok(found) => found.map_err(AuthError::Directory),
                Err(_) => Err(AuthError::Directory(io::Error::other("a lookup panicked"))),
            }
        });
        found.await.unwrap_or_else(|_| Err(late()))
    }
}

fn look_up(directory: &dyn Directory, groups: &Groups, who: Who) -> io::Result<Option<Account>> {
    let user = match &who {
        Who::Name(name) => directory.user_by_name(name.as_str())?,
        Who::Uid(uid) => directory.user_by_uid(uid.as_u32())?,
    };
    let Some(user) = user else { return Ok(None) };
    let (Some(uid), Some(name)) = (Uid::new(user.uid), Username::parse(user.name.clone())) else {
        return Ok(None);
    };
    // A database that answers to another spelling, or with another id, would let one account have two names.
    let same = match &who {
        Who::Name(asked) => *asked == name,
        Who::Uid(asked) => *asked == uid,
    };
    if !same {
        return Ok(None);
    }
    let (access, groups) = members::access(directory, groups, &user)?;
    let shell_listed = directory.shells()?.iter().any(|listed| listed == Path::new(&user.shell));
    let subordinate = doorward_launch::is_subordinate_uid(uid.as_u32());
    Ok(Some(Account { name, uid, access, groups, shell_listed, subordinate }))
}

#[cfg(test)]
#[path = "../../tests/authd/fakes/directory.rs"]
mod fake;

#[cfg(test)]
mod tests {
    use super::{fake::Fake, *};

    fn accounts(directory: Fake) -> Accounts {
        let groups = Groups {
            full: vec!["wheel".into(), "sudo".into()],
            limited: vec!["operator".into()],
            further: vec!["admins".into(), "staff".into()],
            tokens: vec!["robots".into()],
        };
        Accounts::new(Arc::new(directory), groups)
    }

    fn name(text: &str) -> Who {
        Who::Name(Username::parse(text.into()).expect("a name"))
    }

    #[test]
    fn a_user_name_is_plain_and_short() {
        for (text, fits) in [
            ("alice", true),
            ("a.b-c_d@example", true),
            ("müller", true),
            ("", false),
            ("-rf", false),
            ("a/b", false),
            ("a\0", false),
            ("a\nb", false),
            ("a\u{85}b", false),
        ] {
            assert_eq!(Username::parse(text.into()).is_some(), fits, "{text:?}");
        }
        assert!(Username::parse("x".repeat(256)).is_some());
        assert!(Username::parse("x".repeat(257)).is_none());
    }

    #[tokio::test]
    async fn access_is_the_highest_class_of_any_group_the_primary_one_included() {
        let directory = Fake::new()
            .group("sudo", 27)
            .group("operator", 37)
            .user("ann", 1001, 1001, "/bin/sh", &[27, 37])
            .user("bob", 1002, 37, "/bin/sh", &[])
            .user("eve", 1003, 1003, "/bin/sh", &[99])
            .user("root", 0, 0, "/bin/sh", &[]);
        let accounts = accounts(directory);
        for (who, access) in [
            ("ann", Some(Access::Full)),
            ("bob", Some(Access::Limited)),
            ("eve", None),
            ("root", Some(Access::Full)),
        ] {
            let account = accounts.find(name(who)).await.expect("answered").expect("known");
            assert_eq!(account.access, access, "{who}");
        }
        assert_eq!(accounts.find(name("nobody-else")).await.expect("answered"), None);
    }

    #[tokio::test]
    async fn groups_that_give_something_are_all_found_and_those_for_tokens_give_no_access() {
        let directory = Fake::new()
            .group("sudo", 27)
            .group("operator", 37)
            .group("admins", 41)
            .group("staff", 42)
            .group("robots", 43)
            .user("ann", 1001, 1001, "/bin/sh", &[27, 41, 43])
            .user("bob", 1002, 1002, "/bin/sh", &[37, 42, 41])
            .user("cat", 1003, 42, "/bin/sh", &[])
            .user("dan", 1004, 1004, "/bin/sh", &[43])
            .user("root", 0, 43, "/bin/sh", &[]);
        let accounts = accounts(directory);
        for (who, access, class, further, tokens) in [
            ("ann", Some(Access::Full), Some("sudo"), &[][..], &["robots"][..]),
            ("bob", Some(Access::Limited), Some("operator"), &["admins", "staff"], &[]),
            ("cat", Some(Access::Limited), None, &["staff"], &[]),
            ("dan", None, None, &[], &["robots"]),
            ("root", Some(Access::Full), None, &[], &["robots"]),
        ] {
            let account = accounts.find(name(who)).await.expect("answered").expect("known");
            let Memberships { class: by, further: more, tokens: robots } = &account.groups;
            assert_eq!((account.access, by.as_deref()), (access, class), "{who}");
            assert_eq!((more.as_slice(), robots.as_slice()), (&*owned(further), &*owned(tokens)), "{who}");
            assert_eq!(account.may_use(Dialect::Sysadm), access.is_some(), "{who}");
            assert!(account.may_use(Dialect::Token), "{who}");
        }
    }

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[tokio::test]
    async fn ids_that_are_nobodys_and_other_spellings_are_unknown() {
        let directory = Fake::new()
            .user("nobody", 65534, 65534, "/bin/sh", &[])
            .user("minus", u32::MAX, 0, "/bin/sh", &[])
            .alias("ALICE", "alice")
            .user("alice", 1000, 1000, "/bin/sh", &[]);
        let accounts = accounts(directory);
        for who in ["nobody", "minus", "ALICE"] {
            assert_eq!(accounts.find(name(who)).await.expect("answered"), None, "{who}");
        }
        assert!(accounts.find(name("alice")).await.expect("answered").is_some());
    }

    #[tokio::test]
    async fn a_database_that_fails_is_an_error_and_not_an_unknown_user() {
        let accounts = {
            let directory = Fake::new();
            directory.set_broken(true);
            accounts(directory)
        };
        assert!(matches!(accounts.find(name("alice")).await, Err(AuthError::Directory(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn of_the_same_user_one_asks_the_database_for_all_and_for_a_second() {
        let directory = Fake::new().group("sudo", 27).user("ann", 1001, 1001, "/bin/sh", &[27]);
        directory.is_good_for(Duration::from_secs(1));
        let accounts = accounts(directory.clone());
        let ann = || accounts.recent(Username::parse("ann".into()).expect("a name"));
        let (first, second) = tokio::join!(ann(), ann());
        let first = first.expect("answered").expect("known");
        assert!(Arc::ptr_eq(&first, &second.expect("answered").expect("known")));
        assert_eq!(first.access, Some(Access::Full));
        directory.set_groups("ann", &[]);
        assert_eq!(*ann().await.expect("answered").expect("known"), *first);
        assert_eq!(accounts.find(name("ann")).await.expect("answered").expect("known").access, None);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(ann().await.expect("answered").expect("known").access, None);
    }

    #[tokio::test(start_paused = true)]
    async fn that_there_is_no_such_user_or_no_answer_is_not_kept() {
        let directory = Fake::new();
        directory.is_good_for(Duration::from_secs(1));
        let accounts = accounts(directory.clone());
        let ann = || accounts.recent(Username::parse("ann".into()).expect("a name"));
        assert_eq!(ann().await.expect("answered"), None);
        directory.set_broken(true);
        assert!(matches!(ann().await, Err(AuthError::Directory(_))));
        directory.set_broken(false);
        let _ = directory.user("ann", 1001, 1001, "/bin/sh", &[]);
        assert!(ann().await.expect("answered").is_some());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn looks_for_records_leave_places_to_those_who_need_an_answer() {
        let directory = Fake::new().user("ann", 1001, 1001, "/bin/sh", &[]);
        let accounts = accounts(directory.clone());
        let ann = || Username::parse("ann".into()).expect("a name");
        assert_eq!(accounts.uid_aside(ann()).await.expect("answered"), Some(1001));
        directory.set_hanging(true);
        let moment = Duration::from_millis(20);
        for _ in 0..LOOKUPS {
            // The caller goes, the lookup hangs on.
            let _ = tokio::time::timeout(moment, accounts.uid_aside(ann())).await;
        }
        assert_eq!(accounts.places.available_permits(), LOOKUPS - ASIDES);
        assert_eq!(accounts.uid_aside(ann()).await.expect("at once"), None, "no place");
        directory.set_hanging(false);
        assert!(accounts.find(name("ann")).await.expect("answered").is_some());
    }

    #[tokio::test]
    async fn a_change_of_groups_counts_at_the_next_lookup() {
        let directory = Fake::new().group("sudo", 27).user("ann", 1001, 1001, "/bin/sh", &[27]);
        let accounts = Accounts::new(
            Arc::new(directory.clone()),
            Groups { full: vec!["sudo".into()], ..Groups::default() },
        );
        assert_eq!(accounts.find(name("ann")).await.expect("ok").expect("known").access, Some(Access::Full));
        directory.set_groups("ann", &[]);
        assert_eq!(accounts.find(name("ann")).await.expect("ok").expect("known").access, None);
    }
}
