//! A connection that an untrusted process accepted and passed to us, to ask the kernel whose it is.
//!
//! The process that passes it chooses the descriptor, so nothing is believed of it:
//!
//! - It may be no socket at all, and `fstat` or `close` of a file can block for ever (FUSE). SO_DOMAIN
//!   is asked first: it fails on anything but a socket without touching a file system.
//! - It may be a connection that its sender *made*, to a socket on which somebody else listens. The
//!   kernel then answers with the uid of the listener: whoever owns a Unix socket that the sender
//!   may connect to could be impersonated. So the socket must have been *accepted*, from the one
//!   listening socket that is named here; an accepted socket has the address of its listener.
//! - Its client may be long gone. The credentials stay with the accepted end for as long as anybody
//!   keeps it, so a connection that was hung up says nothing about who is there now.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, sockopt};

use crate::{Uid, system};

/// Whose connection it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PassedSocket {
    /// A Unix stream socket, connected by a process of this user.
    Unix {
        /// The user.
        uid: Uid,
    },
}

/// Why a descriptor says nothing about anybody.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// A file, a pipe, a device.
    #[error("not a socket")]
    NotASocket,
    /// Not of a family that is understood: TCP comes later.
    #[error("a socket of family {0}")]
    Family(u16),
    /// A datagram or packet socket.
    #[error("not a stream socket")]
    NotStream,
    /// A listening socket has no peer.
    #[error("a listening socket")]
    Listening,
    /// Accepted from another socket than the one named, or not accepted at all.
    #[error("not accepted from the expected listener")]
    NotAccepted,
    /// The other end has closed.
    #[error("hung up by its client")]
    HungUp,
    /// The kernel would not say.
    #[error("{what}")]
    Io {
        /// What was asked.
        what: &'static str,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

pub(crate) fn failed<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Unfit {
    move |source| Unfit::Io { what, source: source.into() }
}

/// Whether the client is still there. One that has only finished writing is.
fn check_open(socket: &OwnedFd) -> Result<(), Unfit> {
    let mut sockets = [PollFd::new(socket, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut sockets, Some(&now)).map_err(failed("cannot ask whether it is open"))?;
    let [asked] = sockets;
    if asked.revents().intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
        return Err(Unfit::HungUp);
    }
    Ok(())
}

impl PassedSocket {
    /// Asks the kernel whose connection this is; `listener` is the path of the socket that it must
    /// have been accepted from. The descriptor is closed before this returns.
    ///
    /// May block (a hostile descriptor's `close` can): run it where blocking is expected, bounded,
    /// and with a deadline for whoever waits for the answer. Never changes the connection: it is in
    /// use by the process that passed it.
    pub fn examine(descriptor: OwnedFd, listener: &Path) -> Result<PassedSocket, Unfit> {
        let family = match sockopt::socket_domain(&descriptor) {
            Ok(family) => family,
            Err(Errno::NOTSOCK) => return Err(Unfit::NotASocket),
            Err(error) => return Err(failed("cannot ask for its family")(error)),
        };
        if sockopt::socket_type(&descriptor).map_err(failed("cannot ask for its type"))? != SocketType::STREAM
        {
            return Err(Unfit::NotStream);
        }
        if sockopt::socket_acceptconn(&descriptor).map_err(failed("cannot ask whether it listens"))? {
            return Err(Unfit::Listening);
        }
        // A TCP socket with unsent data and SO_LINGER would hold up our close(). It can be set again
        // behind our back, which is why the caller must expect us to block.
        let cleared = sockopt::set_socket_linger(&descriptor, None);
        if family != AddressFamily::UNIX {
            return Err(Unfit::Family(family.as_raw()));
        }
        cleared.map_err(failed("cannot clear SO_LINGER"))?;
        system::check_accepted(&descriptor, listener)?;
        check_open(&descriptor)?;
        let uid = crate::uid_of_peer(&descriptor).map_err(failed("cannot ask for its peer"))?;
        Ok(PassedSocket::Unix { uid })
    }
}
