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
    let temporary = temporary_name(&directory, name);
    let temporary_path = parent.join(&temporary);
    let temporary_address = SocketAddrUnix::new(&temporary_path).map_err(too_long)?;
    let fd = socket(kind).map_err(failed(&at, "cannot make a socket"))?;
    system::bind_closed(&fd, &temporary_address).map_err(failed(&at, "cannot bind"))?;
    let named = (|| {
        before_the_name(&temporary_path);
        let stat = statat(&directory, &temporary, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed(&at, "cannot examine the socket"))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Socket || !directory::mode_of(&stat).is_empty()
        {
            return Err(SocketError::BornOpen(path.to_owned()));
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::os::unix::net::{UnixListener, UnixStream};

    fn own() -> Owner {
        Identity::current().into()
    }

    fn mode(path: &Path) -> u32 {
        std::fs::symlink_metadata(path).expect("it exists").mode() & 0o7777
    }

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().expect("a directory")
    }

    #[test]
    fn it_has_no_mode_before_it_has_its_name() {
        let directory = directory();
        let path = directory.path().join("x.sock");
        for kind in [SocketType::STREAM, SocketType::SEQPACKET] {
            let seen = Cell::new(false);
            let bound = bind(kind, &path, 0o660, own(), &|temporary| {
                assert_eq!(mode(temporary), 0);
                assert_ne!(temporary, path);
                seen.set(true);
            });
            assert_eq!(bound.expect("bound").path(), Some(path.as_path()));
            assert!(seen.get());
            assert_eq!(mode(&path), 0o660);
        }
        // Nothing but the socket remains.
        assert_eq!(std::fs::read_dir(directory.path()).expect("a directory").count(), 1);
    }

    #[test]
    fn nobody_connects_before_it_listens() {
        let directory = directory();
        let path = directory.path().join("x.sock");
        let bound = bind_stream(&path, 0o666, own()).expect("bound");
        let error = UnixStream::connect(&path).expect_err("nobody listens");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        let listener = bound.listen_unix(4).expect("listening");
        let _client = UnixStream::connect(&path).expect("connected");
        listener.accept().expect("accepted");
        assert_eq!(listener.accept().expect_err("non-blocking").kind(), std::io::ErrorKind::WouldBlock);
    }

    #[test]
    fn packets_keep_their_bounds() {
        let directory = directory();
        let path = directory.path().join("x.sock");
        let listener = bind_seqpacket(&path, 0o600, own()).expect("bound").listen(4).expect("listening");
        let client = socket(SocketType::SEQPACKET).expect("a socket");
        connect(&client, &SocketAddrUnix::new(&path).expect("short")).expect("connected");
        let accepted = rustix::net::accept(&listener).expect("accepted");
        for packet in [b"one".as_slice(), b"three"] {
            rustix::net::send(&client, packet, rustix::net::SendFlags::empty()).expect("sent");
        }
        let mut buffer = [0; 16];
        let receive =
            |buffer: &mut [u8; 16]| rustix::net::recv(&accepted, buffer, rustix::net::RecvFlags::empty());
        assert_eq!(receive(&mut buffer).expect("received").0, 3);
        assert_eq!(receive(&mut buffer).expect("received").0, 5);
    }

    #[test]
    fn a_socket_that_nobody_serves_is_replaced() {
        let directory = directory();
        let path = directory.path().join("x.sock");
        drop(UnixListener::bind(&path).expect("bound"));
        let _listener =
            bind_stream(&path, 0o600, own()).expect("replaced").listen_unix(1).expect("listening");
        UnixStream::connect(&path).expect("served by us");
    }

    #[test]
    fn a_socket_that_somebody_serves_is_left_alone() {
        let directory = directory();
        let path = directory.path().join("x.sock");
        let listener = UnixListener::bind(&path).expect("bound");
        let inode = std::fs::metadata(&path).expect("it exists").ino();
        for bound in [bind_stream(&path, 0o600, own()), bind_seqpacket(&path, 0o600, own())] {
            assert!(matches!(bound, Err(SocketError::InUse(_))));
        }
        assert_eq!(std::fs::metadata(&path).expect("it exists").ino(), inode);
        drop(listener);
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let directory = directory();
        let file = directory.path().join("file");
        std::fs::write(&file, "precious").expect("written");
        let link = directory.path().join("link");
        symlink(&file, &link).expect("linked");
        let inner = directory.path().join("directory");
        std::fs::create_dir(&inner).expect("made");
        for path in [&file, &link, &inner] {
            assert!(matches!(bind_stream(path, 0o600, own()), Err(SocketError::Occupied(_))), "{path:?}");
        }
        assert_eq!(std::fs::read_to_string(&file).expect("read"), "precious");
    }

    #[test]
    fn directories_are_made_and_checked() {
        let directory = directory();
        let path = directory.path().join("a/b/x.sock");
        bind_stream(&path, 0o600, own()).expect("bound");
        for made in ["a", "a/b"] {
            assert_eq!(mode(&directory.path().join(made)), 0o755, "{made}");
        }
        for open in [0o775, 0o757, 0o777, 0o1777] {
            let inner = directory.path().join("a/b");
            std::fs::set_permissions(&inner, PermissionsExt::from_mode(open)).expect("set");
            let error = bind_stream(&path, 0o600, own()).expect_err("refused");
            assert!(error.to_string().contains(&format!("chmod go-w {}", inner.display())), "{error}");
        }
    }

    #[test]
    fn a_strangers_directory_is_refused() {
        if !rustix::process::geteuid().is_root() {
            return crate::skip::needs_root();
        }
        let directory = directory();
        std::os::unix::fs::chown(directory.path(), Some(41_005), None).expect("given away");
        let error = bind_stream(&directory.path().join("x.sock"), 0o600, own()).expect_err("refused");
        assert!(error.to_string().contains("belongs to uid 41005: chown 0 "), "{error}");
    }

    #[test]
    fn it_is_given_to_its_owner() {
        if !rustix::process::geteuid().is_root() {
            return crate::skip::needs_root();
        }
        let directory = directory();
        let path = directory.path().join("x.sock");
        bind_stream(&path, 0o660, Owner { uid: 41_006, gid: 41_007 }).expect("bound");
        let stat = std::fs::metadata(&path).expect("it exists");
        assert_eq!((stat.uid(), stat.gid(), mode(&path)), (41_006, 41_007, 0o660));
    }

    #[test]
    fn names_that_cannot_be_are_refused() {
        let directory = directory();
        let long = directory.path().join("x".repeat(108));
        assert!(matches!(bind_stream(&long, 0o600, own()), Err(SocketError::TooLong(_))));
        for path in ["/", "..", ""] {
            assert!(
                matches!(bind_stream(Path::new(path), 0o600, own()), Err(SocketError::Directory(_))),
                "{path}"
            );
        }
    }
}
