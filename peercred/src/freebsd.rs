//! FreeBSD: LOCAL_PEERCRED.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::net::{SocketAddrUnix, getsockname};

use crate::passed::failed;
use crate::{TcpListeners, Uid, Unfit};

/// Nobody but root is told about sockets: there is nothing to ask.
#[derive(Debug, Clone)]
pub struct Diagnosis(());

impl Diagnosis {
    /// Each question fails.
    pub fn of_this_namespace() -> Diagnosis {
        Diagnosis(())
    }

    /// There is no such socket on this system.
    ///
    /// # Errors
    /// Always.
    pub fn over(_: OwnedFd) -> io::Result<Diagnosis> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// There is no other namespace.
    ///
    /// # Errors
    /// Never.
    pub fn knows_of(&self, _: impl AsFd) -> io::Result<bool> {
        Ok(true)
    }

    /// TCP cannot be examined here.
    ///
    /// # Errors
    /// Always.
    pub fn can_examine_tcp(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// For the fuzzer: nothing is read here.
pub fn read_any_answer(_: &[u8]) -> bool {
    true
}

pub(crate) fn uid_of_peer(socket: BorrowedFd<'_>) -> io::Result<Uid> {
    let (uid, _) = nix::unistd::getpeereid(socket)?;
    Uid::from_kernel(uid.as_raw())
}

/// An accepted socket has its listener's address. Listeners are bound under a temporary name and
/// renamed, so the name itself says nothing; the directory does: nobody but its owner can bind there,
/// and there are no mount namespaces in which another directory could pass for it.
pub(crate) fn check_accepted(socket: &OwnedFd, listener: &Path, _: &Diagnosis) -> Result<(), Unfit> {
    let address = getsockname(socket).map_err(failed("cannot ask for its address"))?;
    let address = SocketAddrUnix::try_from(address).map_err(failed("cannot read its address"))?;
    let bound = address.path_bytes().map(|path| Path::new(OsStr::from_bytes(path)));
    match (bound.and_then(Path::parent), listener.parent()) {
        (Some(bound), Some(directory)) if directory.is_absolute() && bound == directory => Ok(()),
        _ => Err(Unfit::NotAccepted),
    }
}

/// Who owns the far end of a TCP connection (the sysctl `getcred`) is told to root alone.
pub(crate) fn uid_of_accepted(_: &OwnedFd, _: &TcpListeners, _: &Diagnosis) -> Result<Uid, Unfit> {
    Err(Unfit::Io { what: "this system does not tell", source: io::ErrorKind::Unsupported.into() })
}

pub(crate) fn keep_syn(_: BorrowedFd<'_>) -> io::Result<()> {
    Ok(())
}
