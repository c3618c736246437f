//! Directories that nobody but their owner can plant a name in.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, Stat, fchmod, fstat, mkdirat, open, openat, stat};
use rustix::io::Errno;

/// Why a directory cannot be trusted or used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The system refused.
    #[error("{}: {what}", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What failed.
        what: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Its owner could replace what is put there.
    #[error("directory {0} belongs to uid {owner}: chown {expected} {0}", path.display())]
    ForeignOwner {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Whose it must be.
        expected: u32,
    },
    /// Others could replace what is put there.
    #[error("others can write to directory {0}: chmod go-w {0}", path.display())]
    Writable {
        /// The directory.
        path: PathBuf,
    },
    /// Others could see what is meant for one service alone.
    #[error("others can look into directory {0}: chmod 700 {0}", path.display())]
    Readable {
        /// The directory.
        path: PathBuf,
    },
    /// No directory, or no name in it.
    #[error("{} does not name a file in a directory", .0.display())]
    NoName(PathBuf),
}

fn failed(path: &Path, what: &'static str) -> impl FnOnce(Errno) -> DirectoryError {
    move |source| DirectoryError::Io { path: path.to_owned(), what, source: source.into() }
}

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::RDONLY).union(OFlags::CLOEXEC);

pub(crate) fn mode_of(stat: &Stat) -> Mode {
    Mode::from_raw_mode(stat.st_mode)
}

/// Splits a path into its directory and the name in it.
pub(crate) fn split(path: &Path) -> Result<(&Path, &OsStr), DirectoryError> {
    let name = match path.components().next_back() {
        Some(Component::Normal(name)) => name,
        _ => return Err(DirectoryError::NoName(path.to_owned())),
    };
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Ok((Path::new("."), name)),
        Some(parent) => Ok((parent, name)),
        None => Err(DirectoryError::NoName(path.to_owned())),
    }
}

/// Opens a directory that must be root's or our own, and writable by its owner alone.
pub(crate) fn open_trusted(path: &Path) -> Result<OwnedFd, DirectoryError> {
    let directory =
        open(path, DIRECTORY, Mode::empty()).map_err(failed(path, "cannot open the directory"))?;
    let stat = fstat(&directory).map_err(failed(path, "cannot examine the directory"))?;
    let own = rustix::process::geteuid().as_raw();
    if stat.st_uid != 0 && stat.st_uid != own {
        return Err(DirectoryError::ForeignOwner {
            path: path.to_owned(),
            owner: stat.st_uid,
            expected: own,
        });
    }
    if mode_of(&stat).intersects(Mode::WGRP | Mode::WOTH) {
        return Err(DirectoryError::Writable { path: path.to_owned() });
    }
    Ok(directory)
}

/// The same, made with mode 0755 if it is missing, and those above it with it.
pub(crate) fn open_or_make(path: &Path) -> Result<OwnedFd, DirectoryError> {
    make_missing(path, Mode::from_raw_mode(0o755))?;
    open_trusted(path)
}

/// Makes what is missing of a path. True if the last directory is new.
pub(crate) fn make_missing(path: &Path, mode: Mode) -> Result<bool, DirectoryError> {
    let mut missing: Vec<(&Path, &OsStr)> = Vec::new();
    let mut base = path;
    let mut at = loop {
        match open(base, DIRECTORY, Mode::empty()) {
            Ok(directory) => break directory,
            Err(Errno::NOENT) => {
                let (parent, name) = split(base)?;
                missing.push((base, name));
                base = parent;
            }
            Err(error) => return Err(failed(base, "cannot open the directory")(error)),
        }
    };
    let mut new = false;
    while let Some((whole, name)) = missing.pop() {
        // Closed to others until it is known to be ours, whatever the umask says.
        new = match mkdirat(&at, name, Mode::RWXU) {
            Ok(()) => true,
            // Another service that starts at this moment has made it: as one that was there.
            Err(Errno::EXIST) => false,
            Err(error) => return Err(failed(whole, "cannot make the directory")(error)),
        };
        at = openat(&at, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
            .map_err(failed(whole, "cannot open the directory"))?;
        if new {
            fchmod(&at, mode).map_err(failed(whole, "cannot set the mode of the directory"))?;
        }
    }
    Ok(new)
}

/// Another service that starts at this moment has made the directory, and opens it to others as its next step, as
/// [`make_missing`] does: waits for that, a second at most. What stays closed then is somebody's will.
pub(crate) fn await_opened(path: &Path) {
    let until = Instant::now() + Duration::from_secs(if cfg!(test) { 10 } else { 1 });
    let own = rustix::process::geteuid().as_raw();
    let closed = || stat(path).is_ok_and(|stat| stat.st_uid == own && !mode_of(&stat).contains(Mode::XOTH));
    while closed() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn many_that_make_the_same_directories_at_once_all_have_them_and_one_made_them() {
        const MANY: usize = 8;
        for round in 0..50 {
            let base = tempfile::tempdir().expect("a directory");
            let path = base.path().join("run/doorward/authd");
            let start = Barrier::new(MANY);
            let make = || {
                start.wait();
                make_missing(&path, Mode::RWXU)
            };
            let made = std::thread::scope(|scope| {
                let all: Vec<_> = (0..MANY).map(|_| scope.spawn(make)).collect();
                all.into_iter().map(|one| one.join().expect("no panic")).collect::<Vec<_>>()
            });
            let new = made.into_iter().map(|made| made.unwrap_or_else(|error| panic!("{round}: {error:?}")));
            assert_eq!(new.filter(|new| *new).count(), 1, "{round}");
            assert_eq!(std::fs::metadata(&path).expect("there").mode() & 0o7777, 0o700);
        }
    }

    #[test]
    fn a_link_to_nowhere_is_not_followed_and_nothing_is_made_behind_it() {
        let base = tempfile::tempdir().expect("a directory");
        symlink(base.path().join("elsewhere"), base.path().join("run")).expect("linked");
        make_missing(&base.path().join("run/doorward"), Mode::RWXU).expect_err("a link");
        assert!(!base.path().join("elsewhere").exists());
    }
}
