//! Where a session's token is kept between two commands: a file of the user's own, one per gateway.
//!
//! The directory is opened once and everything in it is reached from that descriptor, so that no link
//! on the way can lead elsewhere. What is not ours alone is refused, never mended.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{SHA256, digest};
use nix::unistd::{Uid, User};
use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, fstat, mkdirat, openat, renameat, unlinkat},
    io::Errno,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::Error;

/// A token file is read up to here.
const FILE_MAX: u64 = 4096;

/// What is kept of a session.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Session {
    /// The gateway's name, for people who look into the file.
    pub(crate) endpoint: String,
    /// The TLS key of the gateway that gave the token: no other server gets to see it.
    pub(crate) server: Option<String>,
    /// Who logged in.
    pub(crate) user: String,
    pub(crate) token: Token,
}

/// A token, which no log or error shows.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq)]
#[serde(transparent)]
pub(crate) struct Token(Zeroizing<String>);

impl Token {
    /// Takes what a server gave us as a token, if it can be one.
    pub(crate) fn from_wire(text: &str) -> Option<Self> {
        let fits = (1..=256).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Self(Zeroizing::new(text.to_owned())))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

/// The place of one gateway's session.
pub(crate) struct Place {
    directory: OwnedFd,
    path: PathBuf,
    name: String,
}

impl Place {
    /// Finds the directory, makes it if need be, and checks it.
    pub(crate) fn of(endpoint: &str) -> Result<Self, Error> {
        let base = base()?;
        let path = base.join("doorward");
        let failed =
            |why: String| Error::Failed(format!("cannot keep sessions in {}: {why}", path.display()));
        match mkdirat(CWD, &path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed(error.to_string())),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = openat(CWD, &path, flags, Mode::empty()).map_err(|error| {
            failed(if matches!(error, Errno::LOOP | Errno::NOTDIR) {
                "it is not a directory, or a symbolic link; remove it".to_owned()
            } else {
                error.to_string()
            })
        })?;
        only_ours(&directory, FileType::Directory).map_err(failed)?;
        let sum = digest(&SHA256, endpoint.as_bytes());
        let hex: String = sum.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { directory, path, name: format!("session-{hex}.json") })
    }

    /// The session that is kept here, if there is one.
    pub(crate) fn read(&self) -> Result<Option<Session>, Error> {
        // Not blocking: the name might be a FIFO's.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(&self.directory, &self.name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(self.failed("it is a symbolic link; remove it")),
            Err(error) => return Err(self.failed(&error.to_string())),
        };
        only_ours(&file, FileType::RegularFile).map_err(|why| self.failed(&why))?;
        let mut text = Zeroizing::new(Vec::new());
        File::from(file)
            .take(FILE_MAX + 1)
            .read_to_end(&mut text)
            .map_err(|error| self.failed(&error.to_string()))?;
        if text.len() as u64 > FILE_MAX {
            return Err(self.failed("it is longer than 4 KiB; remove it"));
        }
        let session: Session = serde_json::from_slice(&text)
            .map_err(|_| self.failed("it does not hold a session of this version; remove it"))?;
        Ok(Some(session))
    }

    /// Keeps a session in place of the one before: whoever reads sees the one or the other, whole.
    pub(crate) fn write(&self, session: &Session) -> Result<(), Error> {
        let text = serde_json::to_string(session).map(Zeroizing::new);
        let text = text.map_err(|error| self.failed(&error.to_string()))?;
        let temporary = format!(".new-{}", std::process::id());
        let failed = |error: std::io::Error| {
            let _ = unlinkat(&self.directory, &temporary, AtFlags::empty());
            self.failed(&error.to_string())
        };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = match openat(&self.directory, &temporary, flags, mode) {
            // Left by a process that had our number and was killed here.
            Err(Errno::EXIST) => unlinkat(&self.directory, &temporary, AtFlags::empty())
                .and_then(|()| openat(&self.directory, &temporary, flags, mode))
                .map_err(|error| self.failed(&error.to_string()))?,
            opened => opened.map_err(|error| self.failed(&error.to_string()))?,
        };
        let mut file = File::from(file);
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        renameat(&self.directory, &temporary, &self.directory, &self.name)
            .map_err(|error| failed(error.into()))
    }

    /// Forgets the session.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        match unlinkat(&self.directory, &self.name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.failed(&error.to_string())),
        }
    }

    fn failed(&self, why: &str) -> Error {
        Error::Failed(format!("cannot use the session file {}: {why}", self.path.join(&self.name).display()))
    }
}

/// The user's runtime directory, which ends with the login; else a directory of state.
fn base() -> Result<PathBuf, Error> {
    let uid = Uid::effective();
    let of_environment = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    // `su` and `sudo` may leave the variable of another user behind; that directory is not for us.
    let runtime = [of_environment, Some(PathBuf::from(format!("/run/user/{uid}")))];
    if let Some(path) = runtime.into_iter().flatten().find(|path| is_private(path)) {
        return Ok(path);
    }
    let home = match std::env::var_os("HOME").map(PathBuf::from) {
        Some(home) if home.is_absolute() => home,
        _ => User::from_uid(uid).ok().flatten().map(|user| user.dir).ok_or_else(|| {
            Error::Failed("no place to keep the session: XDG_RUNTIME_DIR and HOME are not set".to_owned())
        })?,
    };
    let state = home.join(".local/state");
    std::fs::create_dir_all(&state)
        .map_err(|error| Error::Failed(format!("cannot make {}: {error}", state.display())))?;
    Ok(state)
}

fn is_private(path: &Path) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    path.is_absolute()
        && openat(CWD, path, flags, Mode::empty())
            .is_ok_and(|directory| only_ours(&directory, FileType::Directory).is_ok())
}

/// Says what makes a thing not ours alone.
fn only_ours(thing: &OwnedFd, wanted: FileType) -> Result<(), String> {
    let stat = fstat(thing).map_err(|error| error.to_string())?;
    if FileType::from_raw_mode(stat.st_mode) != wanted {
        return Err("it is of another kind than it must be; remove it".to_owned());
    }
    if stat.st_uid != Uid::effective().as_raw() {
        return Err(format!("it belongs to uid {}, not to you", stat.st_uid));
    }
    if stat.st_mode & 0o077 != 0 {
        let wanted = if wanted == FileType::Directory { "0700" } else { "0600" };
        let mode = stat.st_mode & 0o7777;
        return Err(format!(
            "its mode is {mode:04o} and others could get at it; chmod {wanted}, or remove it"
        ));
    }
    Ok(())
}
