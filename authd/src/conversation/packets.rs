//! One SEQPACKET connection to the PAM guard.

use std::{io, os::unix::net, path::Path};

use doorward_proto::PAM_PACKET_MAX;
use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType, connect,
        recv, send, shutdown, socket_with,
    },
};
use tokio::{io::Interest, net::UnixStream};
use zeroize::Zeroizing;

/// The connection. It is no byte stream: the runtime's type tells when it is ready, and nothing is read
/// or written through it but whole packets.
#[derive(Debug)]
pub(super) struct Packets(UnixStream);

impl Packets {
    /// Connects. None while the guard's backlog is full.
    ///
    /// # Errors
    /// When there is no guard, or its socket belongs to somebody who is neither root nor this process's user.
    pub(super) fn connect(path: &Path) -> io::Result<Option<Self>> {
        let socket = socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        match connect(&socket, &SocketAddrUnix::new(path)?) {
            Ok(()) => {}
            // A full backlog; never EINPROGRESS on a Unix socket.
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            Err(failure) => return Err(failure.into()),
        }
        let owner = doorward_peercred::uid_of_peer(&socket)?.as_raw();
        if owner != 0 && owner != rustix::process::geteuid().as_raw() {
            let what = format!("the PAM socket was opened by uid {owner}, not by root");
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
        }
        Ok(Some(Self(UnixStream::from_std(net::UnixStream::from(socket))?)))
    }

    /// Sends one packet.
    pub(super) async fn send(&self, packet: &[u8]) -> io::Result<()> {
        let write = || Ok(send(&self.0, packet, SendFlags::NOSIGNAL)?);
        let sent = self.0.async_io(Interest::WRITABLE, write).await?;
        if sent == packet.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// The next packet; None at the end. A packet over the limit is given one byte too long.
    pub(super) async fn recv(&self) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        let mut buffer = Zeroizing::new(vec![0; PAM_PACKET_MAX + 1]);
        let read = || Ok(recv(&self.0, buffer.as_mut_slice(), RecvFlags::empty())?.0);
        let length = self.0.async_io(Interest::READABLE, read).await?;
        // SEQPACKET cannot tell an empty packet from the end; no message of ours is empty.
        if length == 0 {
            return Ok(None);
        }
        buffer.truncate(length);
        Ok(Some(buffer))
    }

    /// Tells the guard to end the conversation.
    pub(super) fn half_close(&self) {
        // Fails only when the other end is gone already: just what is wanted.
        let _ = shutdown(&self.0, Shutdown::Write);
    }
}
