//! What several tests of the stack need.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use doorward_tests::door::{Kind, connect_as};
use doorward_tests::{Stack, skip};

/// A connection whose far end belongs to `uid`, as a gateway accepts it: both ends.
///
/// The listener is the tests' own: a gateway taken over can make one too.
pub(crate) fn accepted_from(uid: u32) -> io::Result<(OwnedFd, OwnedFd)> {
    let dir = tempfile::Builder::new().prefix("dwt").tempdir()?;
    let open = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(dir.path(), open(0o755))?;
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, open(0o666))?;
    let far = connect_as(uid, Kind::Stream, &path)?;
    let (near, _) = listener.accept()?;
    Ok((near.into(), far))
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
