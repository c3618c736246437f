//! Asking authd who owns the other end of a client's connection: the connection itself is handed
//! over, so that authd asks the kernel and not us.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    time::Duration,
};

use doorward_proto::{
    PEER_PACKET_MAX,
    authd::v1::{PeerAnswer, PeerQuery, peer_answer::Kind},
};
use prost::Message;
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with},
};
use tokio::{io::Interest, net::UnixDatagram};

use super::{Failure, link::check_server};
use crate::call::ConnectionId;

/// Between two tries while authd's backlog is full.
const RETRY: Duration = Duration::from_millis(20);

/// The handle for a login as this connection's owner; nothing if authd refuses. Takes as long as
/// authd likes: the caller has the deadline.
pub(super) async fn ask(
    path: &Path,
    uid: u32,
    client: OwnedFd,
    connection: ConnectionId,
) -> Result<Option<Vec<u8>>, Failure> {
    let query = PeerQuery { connection: connection.to_string(), whose: false };
    match exchange(path, uid, client, query).await? {
        Kind::Handle(handle) => Ok(Some(handle)),
        Kind::Refused(sentence) => {
            tracing::info!(%connection, reason = sentence, "authd did not take the connection");
            Ok(None)
        }
        Kind::Uid(_) => Err(Failure::contract("on the peer socket")),
    }
}

/// This connection's owner, to count by; nothing if authd refuses. The caller has the deadline.
pub(super) async fn whose(
    path: &Path,
    uid: u32,
    client: OwnedFd,
    connection: ConnectionId,
) -> Result<Option<u32>, Failure> {
    let query = PeerQuery { connection: connection.to_string(), whose: true };
    match exchange(path, uid, client, query).await? {
        Kind::Uid(uid) => Ok(Some(uid)),
        Kind::Refused(sentence) => {
            tracing::debug!(%connection, reason = sentence, "authd does not say whose it is");
            Ok(None)
        }
        Kind::Handle(_) => Err(Failure::contract("on the peer socket")),
    }
}

async fn exchange(path: &Path, uid: u32, client: OwnedFd, query: PeerQuery) -> Result<Kind, Failure> {
    let socket = dial(path).await?;
    check_server(&socket, uid)?;
    // To the reactor a SEQPACKET socket is one of datagrams: each call moves one whole packet.
    let socket = UnixDatagram::from_std(socket.into())?;
    let query = query.encode_to_vec();
    socket
        .async_io(Interest::WRITABLE, || {
            doorward_peercred::send_with_descriptor(&socket, &query, client.as_fd())
        })
        .await?;
    drop(client);
    // One more than the largest packet, so that a larger one is seen and not cut.
    let mut packet = [0; PEER_PACKET_MAX + 1];
    let length = socket.recv(&mut packet).await?;
    if length == 0 {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    let packet = packet.get(..length).filter(|packet| packet.len() <= PEER_PACKET_MAX);
    match packet.map(PeerAnswer::decode) {
        Some(Ok(PeerAnswer { kind: Some(kind) })) => Ok(kind),
        Some(Ok(PeerAnswer { kind: None }) | Err(_)) | None => Err(Failure::contract("on the peer socket")),
    }
}

async fn dial(path: &Path) -> io::Result<OwnedFd> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    loop {
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        match connect(&socket, &address) {
            Ok(()) => return Ok(socket),
            // A full backlog; there is nothing to wait on but time.
            Err(Errno::AGAIN) => tokio::time::sleep(RETRY).await,
            Err(error) => return Err(error.into()),
        }
    }
}
