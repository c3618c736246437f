//! Files that decide something: one open, checks on what was opened, a bounded read.
//!
//! A file that somebody else can write is that somebody's configuration, so it is refused, with the
//! command that mends it.

mod stamp;
mod temporary;
mod way;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid, fchmod, fchown, fstat, open, openat, renameat, unlinkat,
};
use rustix::io::Errno;
use zeroize::Zeroizing;

use crate::Identity;
use crate::directory::{self, mode_of};
pub(crate) use temporary::temporary_name;

pub use crate::directory::DirectoryError;
pub use stamp::Stamp;

/// The largest configuration file.
pub const CONFIG_LIMIT: usize = 1 << 20;
/// The largest key or certificate file.
pub const KEY_LIMIT: usize = 64 << 10;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refused.
    #[error("{}: {what}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What failed.
        what: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Whoever can write the link chooses the file.
    #[error("{} is a symbolic link: name the file itself", .0.display())]
    Symlink(PathBuf),
    /// A log that is also something else.
    #[error("{path} has further names (hard links): remove {path}", path = .0.display())]
    Linked(PathBuf),
    /// A directory, device, pipe or socket.
    #[error("{} is not a regular file", .0.display())]
    NotRegular(PathBuf),
    /// Its owner could change it at any time.
    #[error("{0} belongs to uid {owner}: chown {expected} {0}", path.display())]
    ForeignOwner {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Whose it must be.
        expected: u32,
    },
    /// Others could change it at any time.
    #[error("others can write {path}: chmod go-w {path}", path = .0.display())]
    Writable(PathBuf),
    /// A file that says more than everybody may know.
    #[error("others can read {path}: chmod o= {path}", path = .0.display())]
    Exposed(PathBuf),
    /// A key that is no secret.
    #[error("others can read the key {path}: chmod o= {path}", path = .0.display())]
    Readable(PathBuf),
    /// A key that only its owner may have.
    #[error("the group can read the key {path}: chmod 600 {path}", path = .0.display())]
    Shared(PathBuf),
    /// More than is read of such a file.
    #[error("{} is larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// No text.
    #[error("{} is not UTF-8 text", .0.display())]
    NotText(PathBuf),
    /// The directory it is in, or should be in.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
}

impl FileError {
    /// Whether the file does not exist, which some callers mend by making it.
    pub fn is_missing(&self) -> bool {
        matches!(self, FileError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    }
}

fn failed<E: Into<std::io::Error>>(path: &Path, what: &'static str) -> impl FnOnce(E) -> FileError {
    move |source| FileError::Io { path: path.to_owned(), what, source: source.into() }
}

/// Who may read the file beside its owner.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Secrecy {
    Public,
    Secret,
    /// Not even of its group.
    Own,
}

/// Whether the last part of a path may be a link.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Links {
    Refused,
    /// Every directory on the way is looked at instead.
    Followed,
}

/// Reads a configuration file.
pub fn read_config(path: &Path) -> Result<String, FileError> {
    let bytes = read(path, CONFIG_LIMIT, Secrecy::Public, None, Links::Refused)?;
    String::from_utf8(bytes).map_err(|_| FileError::NotText(path.to_owned()))
}

/// Reads a file that is no secret but must be unchanged: a public key.
pub fn read_public(path: &Path) -> Result<Vec<u8>, FileError> {
    read(path, KEY_LIMIT, Secrecy::Public, None, Links::Refused)
}

/// The same of a file that may also be another service's, because it is that service's own word: its
/// public key, say.
pub fn read_public_of(path: &Path, service: u32) -> Result<Vec<u8>, FileError> {
    read(path, KEY_LIMIT, Secrecy::Public, Some(service), Links::Refused)
}

/// Reads a secret key. Its group may read it (a group of key readers is common), others may not.
pub fn read_key(path: &Path) -> Result<Zeroizing<Vec<u8>>, FileError> {
    read(path, KEY_LIMIT, Secrecy::Secret, None, Links::Refused).map(Zeroizing::new)
}

/// Reads a secret key that not even its group may read.
pub fn read_own_key(path: &Path) -> Result<Zeroizing<Vec<u8>>, FileError> {
    read(path, KEY_LIMIT, Secrecy::Own, None, Links::Refused).map(Zeroizing::new)
}

/// The same as [`read_public`] for a file that a tool replaces through symbolic links, as those for
/// certificates do: each link and each directory on the way must be root's or our own, and nobody else may
/// be able to put something in its place.
pub fn read_linked_public(path: &Path) -> Result<Vec<u8>, FileError> {
    read(path, KEY_LIMIT, Secrecy::Public, None, Links::Followed)
}

/// The same as [`read_key`] with links, like [`read_linked_public`].
pub fn read_linked_key(path: &Path) -> Result<Zeroizing<Vec<u8>>, FileError> {
    read(path, KEY_LIMIT, Secrecy::Secret, None, Links::Followed).map(Zeroizing::new)
}

fn read(
    path: &Path,
    limit: usize,
    secrecy: Secrecy,
    service: Option<u32>,
    links: Links,
) -> Result<Vec<u8>, FileError> {
    // NONBLOCK: opening a named pipe must not wait for somebody to write to it.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = match links {
        Links::Refused => open(path, flags, Mode::empty()),
        Links::Followed => {
            let end = way::walk(path)?;
            openat(&end.directory, &end.name, flags, Mode::empty())
        }
    };
    let file = match opened {
        Ok(file) => file,
        // FreeBSD says EMLINK where Linux says ELOOP.
        Err(Errno::LOOP | Errno::MLINK) => return Err(FileError::Symlink(path.to_owned())),
        Err(error) => return Err(failed(path, "cannot open")(error)),
    };
    examine(&file, path, secrecy, service)?;
    // Reserved once: a buffer that grows leaves copies of a key behind.
    let mut bytes = Vec::with_capacity(limit + 1);
    let read = File::from(file).take(limit as u64 + 1).read_to_end(&mut bytes);
    let mut bytes = Zeroizing::new(bytes);
    read.map_err(failed(path, "cannot read"))?;
    if bytes.len() > limit {
        return Err(FileError::TooLarge { path: path.to_owned(), limit });
    }
    Ok(std::mem::take(&mut *bytes))
}

/// What was opened, not what the path names by now. It may also be `service`'s, if one is named.
fn examine(file: impl AsFd, path: &Path, secrecy: Secrecy, service: Option<u32>) -> Result<Stat, FileError> {
    let stat = fstat(file).map_err(failed(path, "cannot examine"))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(FileError::NotRegular(path.to_owned()));
    }
    let own = rustix::process::geteuid().as_raw();
    if ![Some(0), Some(own), service].contains(&Some(stat.st_uid)) {
        return Err(FileError::ForeignOwner { path: path.to_owned(), owner: stat.st_uid, expected: own });
    }
    let mode = mode_of(&stat);
    if mode.intersects(Mode::WGRP | Mode::WOTH) {
        return Err(FileError::Writable(path.to_owned()));
    }
    if secrecy != Secrecy::Public && mode.intersects(Mode::ROTH | Mode::XOTH) {
        return Err(FileError::Readable(path.to_owned()));
    }
    if secrecy == Secrecy::Own && mode.intersects(Mode::RWXG) {
        return Err(FileError::Shared(path.to_owned()));
    }
    Ok(stat)
}

/// Writes a file that everybody may read (0644), whole or not at all; an older one is replaced.
/// The directory is made (0755) if it is missing, and must be root's or our own.
pub fn create_public(path: &Path, content: &[u8]) -> Result<(), FileError> {
    create(path, content, Mode::from_raw_mode(0o644), None)
}

/// Writes a secret (0600), whole or not at all, for `owner`; an older one is replaced.
pub fn create_key(path: &Path, content: &[u8], owner: Identity) -> Result<(), FileError> {
    create(path, content, Mode::from_raw_mode(0o600), Some(owner))
}

fn create(path: &Path, content: &[u8], mode: Mode, owner: Option<Identity>) -> Result<(), FileError> {
    let (parent, name) = directory::split(path)?;
    let directory = directory::open_or_make(parent)?;
    let temporary = temporary_name(&directory, name);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(&directory, &temporary, flags, Mode::RUSR | Mode::WUSR)
        .map_err(failed(path, "cannot create a file beside it"))?;
    let written = (|| {
        let mut file = File::from(file);
        file.write_all(content)?;
        fchmod(&file, mode)?;
        if let Some(Identity { uid, gid }) = owner
            && Identity::current() != (Identity { uid, gid })
        {
            fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
        file.sync_all()?;
        renameat(&directory, &temporary, &directory, name)?;
        Ok(rustix::fs::fsync(&directory)?)
    })();
    written.map_err(|error: std::io::Error| {
        let _ = unlinkat(&directory, &temporary, AtFlags::empty());
        failed(path, "cannot write")(error)
    })
}

/// Opens the log: appended to, never truncated, made with mode 0600 for the service that opens it again
/// when it is not root any more.
pub(crate) fn open_log(path: &Path, service: &Identity) -> Result<File, FileError> {
    let file = match open_appended(path, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL) {
        Ok(file) => {
            if Identity::current().uid != service.uid {
                fchown(&file, Some(Uid::from_raw(service.uid)), Some(Gid::from_raw(service.gid)))
                    .map_err(failed(path, "cannot give the log to the service"))?;
            }
            file
        }
        Err(FileError::Io { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => {
            open_appended(path, OFlags::WRONLY)?
        }
        Err(error) => return Err(error),
    };
    let stat = examine(&file, path, Secrecy::Public, Some(service.uid))?;
    // The directory may be the service's: another name of the file would be a file of root's that the
    // service has root write to.
    if stat.st_nlink != 1 {
        return Err(FileError::Linked(path.to_owned()));
    }
    Ok(file)
}

/// Opens the audit records: as the log, but who logs in is not for everybody to read.
pub(crate) fn open_audit(path: &Path) -> Result<File, FileError> {
    let file = open_appended(path, OFlags::RDWR | OFlags::CREATE)?;
    match examine(&file, path, Secrecy::Secret, None) {
        Err(FileError::Readable(path)) => Err(FileError::Exposed(path)),
        examined => examined.map(|_| file),
    }
}

/// Opens audit records to be read; None: there are none. A file that others may read or write is none of ours.
pub(crate) fn open_records(path: &Path) -> Result<Option<File>, FileError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match open(path, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP | Errno::MLINK) => return Err(FileError::Symlink(path.to_owned())),
        Err(error) => return Err(failed(path, "cannot open")(error)),
    };
    examine(&file, path, Secrecy::Secret, None)?;
    Ok(Some(file.into()))
}

fn open_appended(path: &Path, access: OFlags) -> Result<File, FileError> {
    let flags =
        access | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    match open(path, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => Ok(file.into()),
        Err(Errno::LOOP | Errno::MLINK) => Err(FileError::Symlink(path.to_owned())),
        // A pipe that nobody reads.
        Err(Errno::NXIO) => Err(FileError::NotRegular(path.to_owned())),
        Err(error) => Err(failed(path, "cannot open")(error)),
    }
}

/// The directory where a service keeps its state: made if missing (0700, the service's own), and
/// otherwise checked to be just that.
pub fn state_directory(path: &Path, service: &Identity) -> Result<(), FileError> {
    if let Ok((parent, _)) = directory::split(path) {
        directory::make_missing(parent, Mode::from_raw_mode(0o755))?;
    }
    let new = directory::make_missing(path, Mode::RWXU)?;
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = open(path, flags, Mode::empty()).map_err(failed(path, "cannot open the directory"))?;
    let mut stat = fstat(&opened).map_err(failed(path, "cannot examine the directory"))?;
    if new && stat.st_uid != service.uid {
        fchown(&opened, Some(Uid::from_raw(service.uid)), Some(Gid::from_raw(service.gid)))
            .map_err(failed(path, "cannot give the directory to the service"))?;
        stat = fstat(&opened).map_err(failed(path, "cannot examine the directory"))?;
    }
    if stat.st_uid != service.uid {
        let (owner, expected) = (stat.st_uid, service.uid);
        return Err(DirectoryError::ForeignOwner { path: path.to_owned(), owner, expected }.into());
    }
    if mode_of(&stat).intersects(Mode::RWXG | Mode::RWXO) {
        return Err(DirectoryError::Readable { path: path.to_owned() }.into());
    }
    // Root gets there, whatever the mode is; the service will not.
    if let (true, Ok((parent, _))) =
        (rustix::process::geteuid().as_raw() != service.uid, directory::split(path))
    {
        directory::await_opened(parent);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
