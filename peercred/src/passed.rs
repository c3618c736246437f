//! A connection that an untrusted process accepted and passed to us, to ask the kernel whose it is.
//!
//! The process that passes it chooses the descriptor, so nothing is believed of it:
//!
//! - It may be no socket at all, and `fstat` or `close` of a file can block for ever (FUSE). SO_DOMAIN
//!   is asked first: it fails on anything but a socket without touching a file system.
//! - It may be a connection that its sender *made*, to a socket on which somebody else listens. The
//!   kernel then answers with the uid of the listener: whoever owns a Unix socket that the sender
//!   may connect to could be impersonated. So the socket must have been *accepted*, from the one
//!   listening socket that is named here; an accepted socket has the address of its listener. The same
//!   with TCP and whoever listens on loopback, where the kernel must say that it was accepted at all.
//! - Its client may be long gone. The credentials stay with the accepted end for as long as anybody
//!   keeps it, so a connection that was hung up says nothing about who is there now. With TCP somebody
//!   else may have its port by now.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, sockopt};

use crate::{Diagnosis, Uid, system};

/// Whose connection it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PassedSocket {
    /// A Unix stream socket, connected by a process of this user.
    Unix {
        /// The user.
        uid: Uid,
    },
    /// A TCP connection over loopback, made by a socket of this user.
    Tcp {
        /// The user.
        uid: Uid,
    },
}

impl PassedSocket {
    /// The user.
    pub fn uid(&self) -> Uid {
        match *self {
            Self::Unix { uid } | Self::Tcp { uid } => uid,
        }
    }
}

/// What a passed connection must have been accepted from, and who says so.
#[derive(Debug, Clone)]
pub struct Listeners {
    /// The path of a Unix socket.
    pub unix: PathBuf,
    /// TCP; none: no TCP connection is fit.
    pub tcp: Option<TcpListeners>,
    /// Whom to ask: of the namespace of all these sockets.
    pub kernel: Diagnosis,
}

/// Listening TCP sockets that [`crate::keep_proof_of_accept`] was called for.
#[derive(Debug, Clone)]
pub struct TcpListeners {
    /// Who accepts there.
    pub uid: u32,
    /// Their ports; 0 stands for any.
    pub ports: Vec<u16>,
}

impl TcpListeners {
    /// Whether a connection to this port counts.
    pub fn has_port(&self, port: u16) -> bool {
        self.ports.iter().any(|own| *own == port || *own == 0)
    }
}

/// Why a descriptor says nothing about anybody.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// A file, a pipe, a device.
    #[error("not a socket")]
    NotASocket,
    /// Not of a family that is asked about.
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
    /// A stream of the internet, but not TCP.
    #[error("not TCP")]
    NotTcp,
    /// One of its ends is not on loopback.
    #[error("not within this host")]
    NotLoopback,
    /// To a port where the gateway does not listen.
    #[error("port {0} is none of the gateway's (peers.gateway_ports)")]
    Port(u16),
    /// The kernel has no such connection here.
    #[error("not a connection of this network namespace")]
    NotKnown,
    /// Its own end is not the gateway's.
    #[error("not accepted by the gateway")]
    NotTheGateways,
    /// Its own end is not established, or not any more.
    #[error("not established")]
    NotEstablished,
    /// No established socket that somebody has is at its far end.
    #[error("nobody at its far end")]
    NobodyThere,
    /// Asked again, the kernel named another socket.
    #[error("its far end was replaced by another")]
    Replaced,
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
pub(crate) fn check_open(socket: &OwnedFd) -> Result<(), Unfit> {
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
    /// Asks the kernel whose connection this is; it must have been accepted from one of `listeners`.
    /// The descriptor is closed before this returns.
    ///
    /// May block (a hostile descriptor's `close` can): run it where blocking is expected, bounded,
    /// and with a deadline for whoever waits for the answer. Never changes the connection: it is in
    /// use by the process that passed it.
    pub fn examine(descriptor: OwnedFd, listeners: &Listeners) -> Result<PassedSocket, Unfit> {
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
        let internet = [AddressFamily::INET, AddressFamily::INET6].contains(&family);
        match &listeners.tcp {
            _ if family == AddressFamily::UNIX => {
                cleared.map_err(failed("cannot clear SO_LINGER"))?;
                system::check_accepted(&descriptor, &listeners.unix, &listeners.kernel)?;
                check_open(&descriptor)?;
                let uid = crate::uid_of_peer(&descriptor).map_err(failed("cannot ask for its peer"))?;
                Ok(PassedSocket::Unix { uid })
            }
            Some(tcp) if internet => {
                cleared.map_err(failed("cannot clear SO_LINGER"))?;
                let uid = system::uid_of_accepted(&descriptor, tcp, &listeners.kernel)?;
                Ok(PassedSocket::Tcp { uid })
            }
            Some(_) | None => Err(Unfit::Family(family.as_raw())),
        }
    }
}
