//! The listening socket: never more open than it shall be, not for an instant.
//!
//! Everything happens in one directory that was opened once and checked, so no name can change
//! between check and use. The socket is bound under a temporary name with mode 0, gets its mode and its
//! owner, takes its place by rename, and only then is listened on.

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, Stat, chmodat, chownat, fstat, openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
use rustix::process::{Pid, chdir, fchdir, geteuid, getpid, test_kill_process, umask};

use crate::{During, Failure};

/// Connections that wait here while the maximum of conversations is reached.
const BACKLOG: i32 = 64;

/// A socket that this process made, and removes.
pub(crate) struct Listener {
    socket: OwnedFd,
    directory: OwnedFd,
    name: OsString,
    identity: (u64, u64),
}

impl Listener {
    /// Binds and listens; the caller's working directory becomes `/`.
    pub(crate) fn bind(path: &Path, owner: u32) -> Result<Self, Failure> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Failure(format!("{} is no path of a socket", path.display())));
        };
        let directory = open_directory(parent)?;
        let what = path.display().to_string();
        let listener = Self::bind_in(directory, name.to_owned(), owner).during(&what)?;
        Ok(listener)
    }

    fn bind_in(directory: OwnedFd, name: OsString, owner: u32) -> io::Result<Self> {
        refuse_anything_but_a_socket(&directory, &name)?;
        let mut temporary = OsString::from(".");
        temporary.push(&name);
        temporary.push(".");
        // One that stays does no harm but to stay.
        let _ = remove_leftovers(&directory, &temporary);
        temporary.push(getpid().to_string());
        match unlinkat(&directory, &temporary, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        bind_here(&directory, &socket, &temporary)?;
        let placed = prepare(&directory, &temporary, owner).and_then(|stat| {
            renameat(&directory, &temporary, &directory, &name)?;
            Ok(identity(&stat))
        });
        match placed {
            Ok(identity) => {
                let listener = Self { socket, directory, name, identity };
                listen(&listener.socket, BACKLOG)?;
                Ok(listener)
            }
            Err(error) => {
                let _ = unlinkat(&directory, &temporary, AtFlags::empty());
                Err(error)
            }
        }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Takes the name away, unless it is another socket's by now.
    pub(crate) fn remove(self) {
        let current = statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW);
        if current.is_ok_and(|current| identity(&current) == self.identity) {
            let _ = unlinkat(&self.directory, &self.name, AtFlags::empty());
        }
    }
}

/// Who owns a socket that nobody but root can have put there.
pub(crate) fn owner(path: &Path) -> Result<u32, Failure> {
    let what = path.display().to_string();
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Failure(format!("{what} is no path of a socket")));
    };
    let directory = examine_directory(parent)?;
    let stat = statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW).during(&what)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
        return Err(Failure(format!("{what} is no socket")));
    }
    Ok(stat.st_uid)
}

/// The directory, made if it is missing.
fn open_directory(path: &Path) -> Result<OwnedFd, Failure> {
    let what = path.display().to_string();
    match DirBuilder::new().mode(0o755).create(path) {
        // The umask of this process takes the bits for others away.
        Ok(()) => rustix::fs::chmod(path, Mode::from_raw_mode(0o755)).during(&what)?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error).during(&what),
    }
    examine_directory(path)
}

/// The directory: root's or our own, and nobody else may write to it.
fn examine_directory(path: &Path) -> Result<OwnedFd, Failure> {
    let what = path.display().to_string();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = openat(rustix::fs::CWD, path, flags, Mode::empty()).during(&what)?;
    let stat = fstat(&directory).during(&what)?;
    if stat.st_uid != 0 && stat.st_uid != geteuid().as_raw() {
        return Err(Failure(format!("{what}: belongs to uid {}, must be root's", stat.st_uid)));
    }
    if Mode::from_raw_mode(stat.st_mode).intersects(Mode::WGRP | Mode::WOTH) {
        return Err(Failure(format!("{what}: group or others can write to it; chmod go-w mends that")));
    }
    Ok(directory)
}

fn refuse_anything_but_a_socket(directory: &OwnedFd, name: &OsString) -> io::Result<()> {
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::Socket => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "exists and is no socket"))
        }
        Ok(_) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Removes what listeners that were killed before their socket had its name have left: `begin` and a pid.
fn remove_leftovers(directory: &OwnedFd, begin: &OsString) -> io::Result<()> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let pid = entry.file_name().to_bytes().strip_prefix(begin.as_bytes());
        let pid = pid.and_then(|pid| std::str::from_utf8(pid).ok()?.parse().ok()).and_then(Pid::from_raw);
        if pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH)) {
            unlinkat(directory, entry.file_name(), AtFlags::empty())?;
        }
    }
    Ok(())
}

/// bind(2) knows no directory descriptor, so the directory becomes the working directory for a moment.
fn bind_here(directory: &OwnedFd, socket: &OwnedFd, name: &OsString) -> io::Result<()> {
    let address = SocketAddrUnix::new(name)?;
    fchdir(directory)?;
    let before = umask(Mode::from_raw_mode(0o777));
    let bound = bind(socket, &address);
    umask(before);
    chdir("/")?;
    Ok(bound?)
}

fn prepare(directory: &OwnedFd, name: &OsString, owner: u32) -> io::Result<Stat> {
    // The mode first: changing it is the owner's right, and after the next line we may not be the owner.
    chmodat(directory, name, Mode::RUSR | Mode::WUSR, AtFlags::empty())?;
    if owner != geteuid().as_raw() {
        chownat(directory, name, Some(rustix::fs::Uid::from_raw(owner)), None, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?)
}

// The types differ between systems.
#[allow(clippy::unnecessary_cast)]
fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev as u64, stat.st_ino as u64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs::File;

    use super::*;

    #[test]
    fn what_the_dead_left_is_removed_and_nothing_else() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut child = std::process::Command::new("true").spawn().expect("started");
        let dead = child.id();
        child.wait().expect("ended");
        let own = std::process::id();
        let kept = [
            format!(".s.{own}"),
            ".s.1".to_owned(),
            format!(".t.{dead}"),
            format!("s.{dead}"),
            format!(".s.{dead}.x"),
            ".s.".to_owned(),
        ];
        for name in kept.iter().chain(&[format!(".s.{dead}")]) {
            File::create(directory.path().join(name)).expect("made");
        }
        let opened = OwnedFd::from(File::open(directory.path()).expect("opened"));
        remove_leftovers(&opened, &".s.".into()).expect("removed");
        let there = std::fs::read_dir(directory.path()).expect("a directory");
        let there: BTreeSet<_> =
            there.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
        assert_eq!(there, kept.into());
    }
}
