//! Whether a TCP connection was accepted, by the SYN that began it.
//!
//! Addresses, ports and uids do not tell: whoever holds a listening socket can shut it down, bind another
//! socket to its port, connect that one to somebody else's listener and listen again. Marks and other
//! options do not tell either: an accepted socket can be disconnected and connected anew, and keeps them.
//! The saved SYN does. The kernel gives one to a socket that comes out of accept(), frees it when that
//! socket is disconnected, and has no other way to give one.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::sockopt::{GetOsString, SetBool};
use nix::sys::socket::{GetSockOpt as _, SetSockOpt as _};

#[derive(Clone, Copy, Debug)]
struct SaveSyn;
nix::setsockopt_impl!(SaveSyn, libc::IPPROTO_TCP, libc::TCP_SAVE_SYN, bool, SetBool);

/// Read with room for nothing: reading it in full would free it, and the next login on the connection could
/// not be proven.
#[derive(Clone, Copy, Debug)]
struct SavedSyn;
nix::getsockopt_impl!(SavedSyn, libc::IPPROTO_TCP, libc::TCP_SAVED_SYN, OsString, GetOsString<[u8; 0]>);

/// Has a listener keep the SYN of each connection that it accepts from now on.
pub(crate) fn keep(listener: BorrowedFd<'_>) -> io::Result<()> {
    Ok(SaveSyn.set(&listener, &true)?)
}

/// Whether a TCP socket was accepted, by a listener that keeps SYNs, and not disconnected since.
pub(super) fn is_kept(socket: impl AsFd) -> io::Result<bool> {
    match SavedSyn.get(&socket) {
        // There is none.
        Ok(_) => Ok(false),
        // There is one, and no room for it.
        Err(Errno::EINVAL) => Ok(true),
        Err(error) => Err(error.into()),
    }
}
