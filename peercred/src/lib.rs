//! Who is at the other end of this socket, according to the kernel and nobody else.
//!
//! The modules stand in reading order: a descriptor that an untrusted process passed, how one is
//! passed, the uid behind a Unix socket, and (Linux) the owner of the far end of a loopback TCP
//! connection.

mod pass;
mod passed;

#[cfg(target_os = "freebsd")]
mod freebsd;
#[cfg(target_os = "freebsd")]
use freebsd as system;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as system;

mod uid;

use std::io;
use std::os::fd::AsFd;

#[cfg(target_os = "linux")]
pub use linux::tcp::{Owner, TcpState};
pub use pass::{recv_one_descriptor, send_with_descriptor};
pub use system::Diagnosis;
#[doc(hidden)]
pub use system::read_any_answer;

pub use passed::{Listeners, PassedSocket, TcpListeners, Unfit};
pub use uid::Uid;

/// The uid that the process at the other end of a connected Unix socket had when it connected (or,
/// seen from the side that connected, when it called `listen()`).
pub fn uid_of_peer(socket: impl AsFd) -> io::Result<Uid> {
    system::uid_of_peer(socket.as_fd())
}

/// Has a listening TCP socket give each connection that it accepts from now on what
/// [`PassedSocket::examine`] knows an accepted one by. Does nothing where TCP is not examined.
pub fn keep_proof_of_accept(listener: impl AsFd) -> io::Result<()> {
    system::keep_syn(listener.as_fd())
}
