//! Files to lock. A lock needs no more than an open file, so what others can read they can lock, for as
//! long as they like: these are closed to others.

use std::{
    fs::{self, File},
    io,
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::{
    fs::{CWD, FlockOperation, Mode, OFlags, flock, openat},
    io::Errno,
    process::geteuid,
};

/// Opens a lock file of ours. `make` has what `open` takes for a file that may be or must be a new one.
pub(super) fn open(directory: impl AsFd, name: &Path, make: OFlags) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | make;
    let file = File::from(openat(directory, name, flags, Mode::RUSR | Mode::WUSR)?);
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.uid() != geteuid().as_raw() || metadata.mode() & 0o077 != 0 {
        return Err(io::Error::other("it is no file of ours that is closed to others"));
    }
    Ok(file)
}

/// Whether the name still leads to the open file.
pub(super) fn same_file(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

/// The part of one run in a thing that several need. The lock file is there as long as one of them is.
#[derive(Debug)]
pub(super) struct Share {
    path: PathBuf,
    file: File,
}

impl Share {
    pub(super) fn take(path: &Path) -> io::Result<Self> {
        for _ in 0..100 {
            let file = open(CWD, path, OFlags::CREATE)?;
            match flock(&file, FlockOperation::NonBlockingLockShared) {
                Ok(()) if same_file(&file, path) => return Ok(Self { path: path.to_owned(), file }),
                // Only a run that is the last one and removes the file has it for itself, and not for long.
                Ok(()) | Err(Errno::WOULDBLOCK) => thread::sleep(Duration::from_millis(10)),
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::Error::other("it comes and goes"))
    }

    /// Gives the part up. The last one does what is left to do, while nobody can take a new part.
    pub(super) fn end<R>(self, last: impl FnOnce() -> R) -> Option<R> {
        // Once only: this gives up the shared lock even if it fails, and a second try could succeed just
        // when the run that we failed for makes its own.
        if flock(&self.file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return None;
        }
        let done = last();
        if same_file(&self.file, &self.path) {
            // What stays is locked by nobody and taken by the next run.
            let _ = fs::remove_file(&self.path);
        }
        Some(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_lock_is_closed_to_others_and_goes_with_the_last_part() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("lock");
        let (first, second) = (Share::take(&path).expect("a part"), Share::take(&path).expect("a part"));
        assert_eq!(fs::metadata(&path).expect("a file").mode(), 0o100_600);
        assert_eq!(first.end(|| panic!("the second is there")), None::<()>);
        assert!(path.exists());
        let third = Share::take(&path).expect("a part");
        assert_eq!(second.end(|| panic!("the third is there")), None::<()>);
        assert_eq!(third.end(|| path.exists()), Some(true));
        assert!(!path.exists());
    }

    #[test]
    fn a_lock_that_others_could_have_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("lock");
        fs::write(&path, "").expect("a file");
        for mode in [0o644, 0o604, 0o640, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
            assert!(Share::take(&path).is_err(), "{mode:o}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
        let link = directory.path().join("link");
        symlink(&path, &link).expect("a link");
        assert!(open(CWD, &link, OFlags::empty()).is_err());
        Share::take(&path).expect("a part");
    }
}
