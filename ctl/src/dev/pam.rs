//! The PAM service file: made when it is missing, removed at the end by the last run that uses it.
//!
//! While a run needs the file it has a share in it, by a lock file of root's:
//! the service file itself is everybody's to read and so to lock. Whoever has the last share at the end
//! removes it. A file that does not begin with our line is the administrator's and is never touched.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, Mode, OFlags, fchmod, openat},
    io::Errno,
};

use crate::{
    dev::{
        cleanup::runtime_directory,
        lock::{Share, same_file},
    },
    error::Error,
};

const LOCK: &str = "doorward-dev.lock";
const DIRECTORY: &str = "/etc/pam.d";
const MARK: &str = "# Made by `doorward dev`, which removes it when it ends.\n";

/// A service file that we made, or that another run made and both need.
#[derive(Debug)]
pub(super) struct ServiceFile {
    path: PathBuf,
    file: File,
    text: String,
    /// Nothing once it was given up.
    share: Option<Share>,
}

/// What there is now.
pub(super) enum Service {
    /// The administrator's own.
    Configured(PathBuf),
    /// Ours, to be removed.
    Made(ServiceFile),
}

impl Service {
    /// Makes the file if it is missing.
    pub(super) fn provide() -> Result<Self, Error> {
        Self::provide_in(Path::new(DIRECTORY), &runtime_directory().join(LOCK))
    }

    fn provide_in(directory: &Path, lock: &Path) -> Result<Self, Error> {
        let path = directory.join("doorward");
        let share = Share::take(lock)
            .map_err(|error| Error::Failed(format!("cannot lock {}: {error}", lock.display())))?;
        // From here on no other run removes the file.
        let there = find_or_make(&path, &format!("{MARK}{}", stack(directory)));
        if let Ok(Some((file, text))) = there {
            return Ok(Self::Made(ServiceFile { path, file, text, share: Some(share) }));
        }
        share.end(|| ());
        match there {
            Err(error) => {
                Err(Error::Failed(format!("cannot provide the PAM service file {}: {error}", path.display())))
            }
            Ok(_) => Ok(Self::Configured(path)),
        }
    }
}

/// Our file with what is in it, or nothing where there is the administrator's.
fn find_or_make(path: &Path, text: &str) -> io::Result<Option<(File, String)>> {
    // Another run may make the file, or an administrator remove it, between two of our steps.
    for _ in 0..10 {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut file = match openat(CWD, path, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => match create(path, text) {
                Ok(file) => return Ok(Some((file, text.to_owned()))),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error),
            },
            // A link, or whatever else an administrator put there: the worker judges it.
            Err(_) => return Ok(None),
        };
        let mut present = String::new();
        let read = (&mut file).take(4096).read_to_string(&mut present);
        let ours = read.is_ok() && present.starts_with(MARK);
        return Ok(ours.then_some((file, present)));
    }
    Err(io::Error::other("it comes and goes"))
}

/// Makes the file whole before it has its name: nobody sees half a stack, which would let in
/// more people than the whole one.
fn create(path: &Path, text: &str) -> io::Result<File> {
    let temporary = path.with_file_name(format!(".doorward.new-{}", std::process::id()));
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let _ = fs::remove_file(&temporary);
    let mut file = File::from(openat(CWD, &temporary, flags, Mode::RUSR | Mode::WUSR)?);
    let made = (|| {
        file.write_all(text.as_bytes())?;
        fchmod(&file, Mode::from_raw_mode(0o644))?;
        // Unlike a rename this never replaces a file.
        fs::hard_link(&temporary, path)
    })();
    let _ = fs::remove_file(&temporary);
    made.map(|()| file)
}

impl ServiceFile {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the file unless another run needs it or somebody changed it. Says why it stays.
    pub(super) fn remove(mut self) -> Result<(), String> {
        self.take_away()
    }

    fn take_away(&mut self) -> Result<(), String> {
        let Some(share) = self.share.take() else { return Ok(()) };
        share.end(|| self.remove_ours()).unwrap_or_else(|| {
            Err(format!("{} stays: another `doorward dev` uses it and will remove it", self.path.display()))
        })
    }

    fn remove_ours(&mut self) -> Result<(), String> {
        let mut present = String::new();
        let read = self.file.rewind().and_then(|()| (&mut self.file).take(4096).read_to_string(&mut present));
        if read.is_err() || present != self.text || !same_file(&self.file, &self.path) {
            return Err(format!("{} stays: it was changed meanwhile", self.path.display()));
        }
        fs::remove_file(&self.path).map_err(|error| format!("cannot remove {}: {error}", self.path.display()))
    }
}

impl Drop for ServiceFile {
    /// For a run that ends by a panic.
    fn drop(&mut self) {
        let _ = self.take_away();
    }
}

/// The host's common stack where it has one, else the password database alone.
fn stack(directory: &Path) -> String {
    let kinds = ["auth", "account", "password"];
    if kinds.iter().all(|kind| directory.join(format!("common-{kind}")).is_file()) {
        kinds.map(|kind| format!("@include common-{kind}\n")).concat()
    } else {
        kinds.map(|kind| format!("{kind} required pam_unix.so\n")).concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{FlockOperation, flock};
    use std::os::unix::fs::PermissionsExt;

    fn provide(directory: &Path) -> Result<Service, Error> {
        Service::provide_in(directory, &directory.join(LOCK))
    }

    fn made(directory: &Path) -> ServiceFile {
        match provide(directory).expect("a directory that can be written") {
            Service::Made(file) => file,
            Service::Configured(path) => panic!("{} is there", path.display()),
        }
    }

    #[test]
    fn a_missing_file_is_made_and_removed() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = made(directory.path());
        let path = directory.path().join("doorward");
        let text = fs::read_to_string(&path).expect("a file");
        assert_eq!(
            text,
            format!(
                "{MARK}auth required pam_unix.so\naccount required pam_unix.so\npassword required pam_unix.so\n"
            )
        );
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode(), 0o100_644);
        file.remove().expect("removed");
        assert!(!path.exists());
    }

    #[test]
    fn the_common_stack_is_used_where_there_is_one() {
        let directory = tempfile::tempdir().expect("a directory");
        for kind in ["auth", "account", "password"] {
            fs::write(directory.path().join(format!("common-{kind}")), "").expect("a file");
        }
        let text = stack(directory.path());
        assert_eq!(text, "@include common-auth\n@include common-account\n@include common-password\n");
    }

    #[test]
    fn the_administrators_file_is_never_touched() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("doorward");
        for text in ["auth required pam_deny.so\n", ""] {
            fs::write(&path, text).expect("a file");
            assert!(matches!(provide(directory.path()), Ok(Service::Configured(_))));
            assert!(!directory.path().join(LOCK).exists());
            fs::remove_file(&path).expect("removed");
        }
        std::os::unix::fs::symlink("elsewhere", &path).expect("a link");
        assert!(matches!(provide(directory.path()), Ok(Service::Configured(_))));
    }

    #[test]
    fn the_last_of_two_runs_removes_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let (first, second) = (made(directory.path()), made(directory.path()));
        assert!(first.remove().expect_err("the second needs it").contains("another"));
        second.remove().expect("removed");
        assert!(!directory.path().join("doorward").exists());
    }

    #[test]
    fn what_a_killed_run_left_is_taken_over() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("doorward"), format!("{MARK}{}", stack(directory.path())))
            .expect("a file");
        made(directory.path()).remove().expect("removed");
        assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 0);
    }

    #[test]
    fn a_file_that_was_changed_stays() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = made(directory.path());
        fs::write(directory.path().join("doorward"), format!("{MARK}auth required pam_deny.so\n"))
            .expect("a file");
        assert!(file.remove().expect_err("it was changed").contains("changed"));
    }

    #[test]
    fn whoever_can_read_the_file_holds_up_no_run() {
        let directory = tempfile::tempdir().expect("a directory");
        let first = made(directory.path());
        let reader = File::open(directory.path().join("doorward")).expect("a file");
        flock(&reader, FlockOperation::NonBlockingLockExclusive).expect("a lock");
        let second = made(directory.path());
        first.remove().expect_err("the second needs it");
        second.remove().expect("removed");
        assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 0);
    }

    #[test]
    fn nothing_is_made_without_a_lock_of_ours() {
        let directory = tempfile::tempdir().expect("a directory");
        let lock = directory.path().join(LOCK);
        fs::write(&lock, "").expect("a file");
        fs::set_permissions(&lock, fs::Permissions::from_mode(0o644)).expect("chmod");
        assert!(provide(directory.path()).is_err());
        assert!(!directory.path().join("doorward").exists());
    }
}
