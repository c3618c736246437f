//! Sockets with a path.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid, chmodat, chownat, renameat, statat, unlinkat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::{Bound, Place, SocketError, failed};
use crate::Identity;
use crate::directory;
use crate::file::temporary_name;

/// Whose a socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

impl From<Identity> for Owner {
    fn from(Identity { uid, gid }: Identity) -> Owner {
        Owner { uid, gid }
    }
}

/// Binds a stream socket. The directory is made (0755) if it is missing; it must be root's or our
/// own, and writable by its owner alone. A socket that nobody serves any more is replaced.
pub fn bind_stream(path: &Path, mode: u32, owner: Owner) -> Result<Bound, SocketError> {
    bind(SocketType::STREAM, path, mode, owner, &|_| ())
}

/// The same for a SEQPACKET socket.
pub fn bind_seqpacket(path: &Path, mode: u32, owner: Owner) -> Result<Bound, SocketError> {
    bind(SocketType::SEQPACKET, path, mode, owner, &|_| ())
}

/// `before_the_name` sees the temporary path between bind and the rest: tests look at it there.
fn bind(
    kind: SocketType,
    path: &Path,
    mode: u32,
    owner: Owner,
    before_the_name: &dyn Fn(&Path),
) -> Result<Bound, SocketError> {
    let (parent, name) = directory::split(path)?;
    let too_long = |_| SocketError::TooLong(path.to_owned());
    let address = SocketAddrUnix::new(path).map_err(too_long)?;
    let directory = directory::open_or_make(parent)?;
    check_vacant(kind, path, name, &directory, &address)?;

    let at = path.display();
    let temporary = temporary_name(name);
    let temporary_path = parent.join(&temporary);
    let temporary_address = SocketAddrUnix::new(&temporary_path).map_err(too_long)?;
    let fd = socket(kind).map_err(failed(&at, "cannot make a socket"))?;
    system::bind_closed(&fd, &temporary_address).map_err(failed(&at, "cannot bind"))?;
    let named = (|| {
        before_the_name(&temporary_path);
        let stat = statat(&directory, &temporary, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed(&at, "cannot examine the socket"))?;
        let born = stat.st_mode & 0o7777;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Socket || born != 0 {
            return Err(SocketError::BornOpen { path: path.to_owned(), mode: born.into() });
        }
        // The mode first: once the owner is another, it needs a capability that may be missing.
        chmodat(&directory, &temporary, Mode::from_raw_mode(mode as _), AtFlags::empty())
            .map_err(failed(&at, "cannot set the mode"))?;
        if (stat.st_uid, stat.st_gid) != (owner.uid, owner.gid) {
            let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
            chownat(&directory, &temporary, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(failed(&at, "cannot set the owner"))?;
        }
        renameat(&directory, &temporary, &directory, name).map_err(failed(&at, "cannot give the name"))
    })();
    if let Err(error) = named {
        let _ = unlinkat(&directory, &temporary, AtFlags::empty());
        return Err(error);
    }
    Ok(Bound { fd, place: Place::Path(path.to_owned()) })
}

fn socket(kind: SocketType) -> Result<OwnedFd, Errno> {
    socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
}

/// Only a socket that nobody serves any more may lose its name to us.
fn check_vacant(
    kind: SocketType,
    path: &Path,
    name: &OsStr,
    directory: &impl AsFd,
    address: &SocketAddrUnix,
) -> Result<(), SocketError> {
    let at = path.display();
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(failed(&at, "cannot examine what has its name")(error)),
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::Socket => {
            return Err(SocketError::Occupied(path.to_owned()));
        }
        Ok(_) => (),
    }
    let probe = socket(kind).map_err(failed(&at, "cannot make a socket"))?;
    match connect(&probe, address) {
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(()),
        // A full backlog and the wrong kind of socket both have somebody behind them.
        Ok(()) | Err(Errno::AGAIN | Errno::INPROGRESS | Errno::PROTOTYPE) => {
            Err(SocketError::InUse(path.to_owned()))
        }
        Err(error) => Err(failed(&at, "cannot find out whether it is in use")(error)),
    }
}

#[cfg(target_os = "linux")]
mod system {
    //! Linux gives a bound socket the mode that its descriptor has, so no other thread's files
    //! are touched by the way.

    use std::os::fd::OwnedFd;

    use rustix::fs::{Mode, fchmod};
    use rustix::net::{SocketAddrUnix, bind};

    pub(super) fn bind_closed(fd: &OwnedFd, address: &SocketAddrUnix) -> rustix::io::Result<()> {
        fchmod(fd, Mode::empty())?;
        bind(fd, address)
    }
}

#[cfg(target_os = "freebsd")]
mod system {
    //! FreeBSD has the umask alone, which belongs to the whole process: bind before the first thread.

    use std::os::fd::OwnedFd;

    use rustix::fs::Mode;
    use rustix::net::{SocketAddrUnix, bind};
    use rustix::process::umask;

    pub(super) fn bind_closed(fd: &OwnedFd, address: &SocketAddrUnix) -> rustix::io::Result<()> {
        let before = umask(Mode::RWXU | Mode::RWXG | Mode::RWXO);
        let result = bind(fd, address);
        umask(before);
        result
    }
}
