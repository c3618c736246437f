//! The PAM service file: made when it is missing, removed at the end by the last run that uses it.
//!
//! A run holds a shared lock on the file while it needs it. Whoever gets the exclusive lock at the end
//! was the last. A file that does not begin with our line is the administrator's and is never touched.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, FlockOperation, Mode, OFlags, fchmod, flock, openat},
    io::Errno,
};

use crate::error::Error;

const DIRECTORY: &str = "/etc/pam.d";
const MARK: &str = "# Made by `doorward dev`, which removes it when it ends.\n";

/// A service file that we made, or that another run made and both need.
#[derive(Debug)]
pub(super) struct ServiceFile {
    path: PathBuf,
    file: File,
    text: String,
    removed: bool,
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
        Self::provide_in(Path::new(DIRECTORY))
    }

    fn provide_in(directory: &Path) -> Result<Self, Error> {
        let path = directory.join("doorward");
        let failed = |error: io::Error| {
            Error::Failed(format!("cannot provide the PAM service file {}: {error}", path.display()))
        };
        let text = format!("{MARK}{}", stack(directory));
        // Another run may make or remove the file between two of our steps; then we look again.
        for _ in 0..100 {
            let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let mut file = match openat(CWD, &path, flags, Mode::empty()) {
                Ok(file) => File::from(file),
                Err(Errno::NOENT) => match create(&path, &text) {
                    Ok(file) => return Ok(Self::Made(ServiceFile { path, file, text, removed: false })),
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                    Err(error) => return Err(failed(error)),
                },
                // A link, or whatever else an administrator put there: the worker judges it.
                Err(_) => return Ok(Self::Configured(path)),
            };
            let mut present = String::new();
            if (&mut file).take(4096).read_to_string(&mut present).is_err() || !present.starts_with(MARK) {
                return Ok(Self::Configured(path));
            }
            // Only a run that is about to remove the file holds it for itself.
            match flock(&file, FlockOperation::NonBlockingLockShared) {
                Ok(()) if same_file(&file, &path) => {
                    return Ok(Self::Made(ServiceFile { path, file, text: present, removed: false }));
                }
                Ok(()) | Err(Errno::WOULDBLOCK) => std::thread::yield_now(),
                Err(error) => return Err(failed(error.into())),
            }
        }
        Err(failed(io::Error::other("it comes and goes")))
    }
}

/// Makes the file whole and locked before it has its name: nobody sees half a stack, which would let in
/// more people than the whole one.
fn create(path: &Path, text: &str) -> io::Result<File> {
    let temporary = path.with_file_name(format!(".doorward.new-{}", std::process::id()));
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let _ = fs::remove_file(&temporary);
    let mut file = File::from(openat(CWD, &temporary, flags, Mode::RUSR | Mode::WUSR)?);
    let made = (|| {
        flock(&file, FlockOperation::NonBlockingLockShared)?;
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
        if std::mem::replace(&mut self.removed, true) {
            return Ok(());
        }
        let stays = |why: &str| Err(format!("{} stays: {why}", self.path.display()));
        if flock(&self.file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return stays("another `doorward dev` uses it and will remove it");
        }
        let mut present = String::new();
        let read = self.file.rewind().and_then(|()| (&mut self.file).take(4096).read_to_string(&mut present));
        if read.is_err() || present != self.text || !same_file(&self.file, &self.path) {
            return stays("it was changed meanwhile");
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

fn same_file(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
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
    use std::os::unix::fs::PermissionsExt;

    fn made(directory: &Path) -> ServiceFile {
        match Service::provide_in(directory).expect("a directory that can be written") {
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
            assert!(matches!(Service::provide_in(directory.path()), Ok(Service::Configured(_))));
            fs::remove_file(&path).expect("removed");
        }
        std::os::unix::fs::symlink("elsewhere", &path).expect("a link");
        assert!(matches!(Service::provide_in(directory.path()), Ok(Service::Configured(_))));
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
}
