//! Sockets that are never more open than designed, not for an instant.
//!
//! A Unix socket is bound under a temporary name with mode 0, gets its mode and its owner, and then
//! its name. Nobody can connect before [`Bound::listen`], which is called after privileges were
//! dropped: a client sees the uid that called `listen()`. A socket that the service manager passed listens
//! already, as root; there [`Bound::listen`] listens again, which makes it ours in the eyes of clients.

mod sockets;

mod inherited;
mod tcp;
mod unix;

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::directory::DirectoryError;

pub(crate) use inherited::passed;
pub use sockets::Sockets;
pub use tcp::bind_tcp;
pub use unix::{Owner, bind_seqpacket, bind_stream};

/// Why a socket could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The system refused.
    #[error("{at}: {what}")]
    Io {
        /// Its path or address.
        at: String,
        /// What failed.
        what: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file that is no socket has the name.
    #[error("{} exists and is not a socket: remove it or name another path", .0.display())]
    Occupied(PathBuf),
    /// Somebody serves there.
    #[error("{} is in use: another process listens there", .0.display())]
    InUse(PathBuf),
    /// Longer than an address can be.
    #[error("{} is too long for a socket", .0.display())]
    TooLong(PathBuf),
    /// The socket was open to others right after bind, which must not be.
    #[error("{} was open to others right after bind: this system cannot make a closed socket", .0.display())]
    BornOpen(PathBuf),
    /// What the service manager passed does not fit the configuration.
    #[error("{0}")]
    Activation(String),
    /// The directory it should be in.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
}

fn failed<E: Into<std::io::Error>>(at: impl ToString, what: &'static str) -> impl FnOnce(E) -> SocketError {
    move |source| SocketError::Io { at: at.to_string(), what, source: source.into() }
}

/// A socket that has its name and is not listened on by us yet.
#[derive(Debug)]
pub struct Bound {
    fd: OwnedFd,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Path(PathBuf),
    Address(SocketAddr),
}

/// For options that must be set before it listens.
impl AsFd for Bound {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Bound {
    /// Its path, if it is a Unix socket.
    pub fn path(&self) -> Option<&Path> {
        match &self.place {
            Place::Path(path) => Some(path),
            Place::Address(_) => None,
        }
    }

    /// Its address if it is a TCP socket; a port that was asked for as 0 is known here.
    pub fn address(&self) -> Option<SocketAddr> {
        match self.place {
            Place::Path(_) => None,
            Place::Address(address) => Some(address),
        }
    }

    /// Listens, as whoever this process is now. The descriptor is non-blocking.
    pub fn listen(self, backlog: i32) -> Result<OwnedFd, SocketError> {
        let at = match &self.place {
            Place::Path(path) => path.display().to_string(),
            Place::Address(address) => address.to_string(),
        };
        rustix::net::listen(&self.fd, backlog).map_err(failed(at, "cannot listen"))?;
        Ok(self.fd)
    }

    /// [`Bound::listen`] on a stream socket with a path.
    pub fn listen_unix(self, backlog: i32) -> Result<UnixListener, SocketError> {
        self.listen(backlog).map(UnixListener::from)
    }

    /// [`Bound::listen`] on a socket with an address.
    pub fn listen_tcp(self, backlog: i32) -> Result<TcpListener, SocketError> {
        self.listen(backlog).map(TcpListener::from)
    }
}
