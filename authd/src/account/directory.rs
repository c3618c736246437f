//! The user and group database: the system's, and what tests put in its place.

use std::{ffi::CString, fmt, fs, io, path::PathBuf, time::Duration};

use nix::{
    errno::Errno,
    unistd::{self, Gid},
};

/// How long answers are kept for sessions that are there, in milliseconds.
pub const GOOD_FOR_MS: u64 = 1_000;

/// An entry of the user database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The name as the database writes it.
    pub name: String,
    /// The uid.
    pub uid: u32,
    /// The primary group.
    pub gid: u32,
    /// The login shell.
    pub shell: PathBuf,
}

/// A group of the user database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its id.
    pub gid: u32,
    /// Those whom its entry lists: not all in directories that list nobody, nor those whose primary group it is.
    pub members: Vec<String>,
}

/// Answers about users and groups. Every call may block.
pub trait Directory: fmt::Debug + Send + Sync + 'static {
    /// How old an answer may be that a live session is judged by, [`GOOD_FOR_MS`] at most; of a login never.
    fn good_for(&self) -> Duration {
        Duration::from_millis(GOOD_FOR_MS)
    }

    /// The user of a name.
    ///
    /// # Errors
    /// When the database fails; absence is `None`.
    fn user_by_name(&self, name: &str) -> io::Result<Option<User>>;

    /// The user of a uid.
    ///
    /// # Errors
    /// When the database fails; absence is `None`.
    fn user_by_uid(&self, uid: u32) -> io::Result<Option<User>>;

    /// The group of a name.
    ///
    /// # Errors
    /// When the database fails; absence is `None`.
    fn group_by_name(&self, name: &str) -> io::Result<Option<Group>>;

    /// Every group that the user is in, the primary one included. Groups can be missing where the database fails:
    /// getgrouplist(3) has no way to say so.
    ///
    /// # Errors
    /// When the database fails.
    fn groups_of(&self, user: &User) -> io::Result<Vec<u32>>;

    /// The shells of people.
    ///
    /// # Errors
    /// When the list is there but cannot be read.
    fn shells(&self) -> io::Result<Vec<PathBuf>>;
}

/// The system's database, through its C library.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl System {
    /// Asks about a user and a group once. The C library loads what answers at the first question: better
    /// while there is one thread and every file can be opened than by several threads under confinement.
    pub fn wake(self) {
        // Whatever it answers: those who need an answer ask for themselves.
        let _ = self.user_by_uid(0);
        let _ = self.group_by_name("root");
    }
}

impl Directory for System {
    fn user_by_name(&self, name: &str) -> io::Result<Option<User>> {
        Ok(found(unistd::User::from_name(name))?.map(User::from_entry))
    }

    fn user_by_uid(&self, uid: u32) -> io::Result<Option<User>> {
        Ok(found(unistd::User::from_uid(unistd::Uid::from_raw(uid)))?.map(User::from_entry))
    }

    fn group_by_name(&self, name: &str) -> io::Result<Option<Group>> {
        let group = found(unistd::Group::from_name(name))?;
        Ok(group.map(|group| Group { gid: group.gid.as_raw(), members: group.mem }))
    }

    fn groups_of(&self, user: &User) -> io::Result<Vec<u32>> {
        let name = CString::new(user.name.as_str())?;
        let groups = unistd::getgrouplist(&name, Gid::from_raw(user.gid))?;
        Ok(groups.into_iter().map(Gid::as_raw).collect())
    }

    fn shells(&self) -> io::Result<Vec<PathBuf>> {
        match fs::read_to_string("/etc/shells") {
            Ok(text) => Ok(parse_shells(&text)),
            // What getusershell(3) answers then.
            Err(absent) if absent.kind() == io::ErrorKind::NotFound => {
                Ok(vec![PathBuf::from("/bin/sh"), PathBuf::from("/bin/csh")])
            }
            Err(failure) => Err(failure),
        }
    }
}

/// Some databases say "no such entry" by an error, which getpwnam(3) allows. The other errors that it
/// lists there can be failures as well, and stay errors.
fn found<T>(answer: nix::Result<Option<T>>) -> io::Result<Option<T>> {
    match answer {
        Err(Errno::ENOENT | Errno::ESRCH) => Ok(None),
        answer => Ok(answer?),
    }
}

impl User {
    fn from_entry(entry: unistd::User) -> Self {
        Self { name: entry.name, uid: entry.uid.as_raw(), gid: entry.gid.as_raw(), shell: entry.shell }
    }
}

fn parse_shells(text: &str) -> Vec<PathBuf> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines.filter(|line| line.starts_with('/')).map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shells_are_the_absolute_paths_without_comments() {
        let text = "# /etc/shells\n/bin/sh\n /bin/bash # the usual\n\nnologin\n";
        assert_eq!(parse_shells(text), [PathBuf::from("/bin/sh"), PathBuf::from("/bin/bash")]);
    }

    #[test]
    fn absence_that_is_told_by_an_error_is_absence() {
        for absent in [Ok(None), Err(Errno::ENOENT), Err(Errno::ESRCH)] {
            assert_eq!(found::<User>(absent).expect("no failure"), None);
        }
        for failure in [Errno::EIO, Errno::EMFILE, Errno::EPERM, Errno::EBADF] {
            assert!(found::<User>(Err(failure)).is_err(), "{failure}");
        }
    }

    #[test]
    fn the_system_knows_root_by_name_and_uid() {
        let root = System.user_by_uid(0).expect("answered").expect("root exists");
        assert_eq!(System.user_by_name(&root.name).expect("answered"), Some(root.clone()));
        assert!(System.groups_of(&root).expect("answered").contains(&root.gid));
        assert_eq!(System.user_by_name("no such user, surely").expect("answered"), None);
        assert_eq!(System.group_by_name("no such group, surely").expect("answered"), None);
    }
}
