//! What several tests of the stack need.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::{fs, io};

use doorward_tests::door::{Kind, connect_as};
use doorward_tests::{Stack, skip};
use tempfile::TempDir;

/// A listening socket that authd is told is the gateway's: what a gateway that was taken over has.
pub(crate) struct Doorstep {
    dir: TempDir,
    listener: UnixListener,
}

impl Doorstep {
    pub(crate) fn new() -> Self {
        let dir = open_dir();
        let path = dir.path().join("gateway.sock");
        let listener = UnixListener::bind(&path).expect("a listener");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("chmod of our socket");
        Self { dir, listener }
    }

    /// For `peers.gateway_socket`.
    pub(crate) fn path(&self) -> String {
        self.dir.path().join("gateway.sock").to_str().expect("UTF-8").to_owned()
    }

    /// A connection from `uid`: the accepted end, and the client's.
    pub(crate) fn accept_from(&self, uid: u32) -> (OwnedFd, OwnedFd) {
        let far = connect_as(uid, Kind::Stream, &self.dir.path().join("gateway.sock")).expect("open to all");
        let (near, _) = self.listener.accept().expect("a connection");
        (near.into(), far)
    }
}

/// A connection that was made to a socket on which `uid` listens: the end that connected, and the other.
pub(crate) fn connected_to(uid: u32) -> (OwnedFd, OwnedFd) {
    let dir = open_dir();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).expect("chmod of our directory");
    let path = dir.path().join("s");
    let listener = UnixListener::from(connect_as(uid, Kind::Listening, &path).expect("a listener"));
    let connecting = UnixStream::connect(&path).expect("a connection");
    let (accepted, _) = listener.accept().expect("a connection");
    (connecting.into(), accepted.into())
}

fn open_dir() -> TempDir {
    let dir = tempfile::Builder::new().prefix("dwt").tempdir().expect("a temporary directory");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod of our directory");
    dir
}

/// A uid that is neither root's nor one of the stack's; `None` without root (and that was said).
pub(crate) fn stranger(stack: &Stack) -> Option<u32> {
    if !skip::root("a stranger's uid") {
        return None;
    }
    (64_000..65_000).find(|uid| *uid != stack.authd_uid() && *uid != stack.gateway_uid())
}

/// authd's sockets and the guard's.
pub(crate) fn inner_sockets(stack: &Stack) -> [(Kind, PathBuf); 3] {
    [
        (Kind::Stream, stack.path("run/authd/authd.sock")),
        (Kind::Packets, stack.path("run/authd/peer.sock")),
        (Kind::Packets, stack.path("run/pam/pam.sock")),
    ]
}

/// Reads until the other end closes; how many bytes came before that.
pub(crate) fn bytes_until_closed(socket: &OwnedFd) -> io::Result<usize> {
    use rustix::net::sockopt::{Timeout, set_socket_timeout};
    use rustix::net::{RecvFlags, recv};
    set_socket_timeout(socket.as_fd(), Timeout::Recv, Some(doorward_tests::client::PATIENCE))?;
    let mut buffer = [0_u8; 1024];
    let mut all = 0;
    loop {
        match recv(socket, buffer.as_mut_slice(), RecvFlags::empty()) {
            Ok((_, 0)) | Err(rustix::io::Errno::CONNRESET) => return Ok(all),
            Ok((_, length)) => all += length,
            Err(e) => return Err(e.into()),
        }
    }
}
