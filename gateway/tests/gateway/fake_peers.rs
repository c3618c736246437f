//! The peer socket of the fake authd.

use std::{os::fd::OwnedFd, path::Path, sync::Arc};

use doorward_peercred::{recv_one_descriptor, uid_of_peer};
use doorward_proto::authd::v1 as proto;
use prost::Message;
use tokio::net::{UnixListener, UnixStream};

use crate::fake_authd::{State, random};

/// To the reactor a SEQPACKET listener is like any other.
pub(crate) fn bind(path: &Path) -> UnixListener {
    use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType, listen, socket_with};
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("a socket");
    net::bind(&socket, &SocketAddrUnix::new(path).expect("a short path")).expect("bind");
    listen(&socket, 16).expect("listen");
    UnixListener::from_std(std::os::unix::net::UnixListener::from(socket)).expect("a listener")
}

pub(crate) async fn serve(listener: UnixListener, state: Arc<State>) {
    while let Ok((connection, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        tokio::spawn(async move { answer_peer(connection, &state).await });
    }
}

async fn answer_peer(connection: UnixStream, state: &State) {
    let mut packet = [0; 512];
    let received = loop {
        connection.readable().await.expect("readable");
        match connection
            .try_io(tokio::io::Interest::READABLE, || recv_one_descriptor(&connection, &mut packet))
        {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            received => break received,
        }
    };
    let (length, client): (usize, OwnedFd) = received.expect("one descriptor");
    state.peers_wait.subscribe().wait_for(|wait| !wait).await.expect("the fake lives");
    let query = proto::PeerQuery::decode(&packet[..length]).expect("a query");
    let kind = match uid_of(client) {
        Some(uid) if query.whose => proto::peer_answer::Kind::Uid(uid),
        Some(uid) => {
            state.note("peer", &query.connection, format!("uid-{uid}"));
            let handle = random().into_bytes().to_vec();
            state.handles.lock().expect("not poisoned").insert(handle.clone(), (query.connection, uid));
            proto::peer_answer::Kind::Handle(handle)
        }
        None => proto::peer_answer::Kind::Refused("not here".to_owned()),
    };
    let answer = proto::PeerAnswer { kind: Some(kind) }.encode_to_vec();
    connection.writable().await.expect("writable");
    connection.try_write(&answer).expect("a small packet");
}

/// As authd finds it out, with less doubt.
fn uid_of(client: OwnedFd) -> Option<u32> {
    if let Ok(uid) = uid_of_peer(&client) {
        return Some(uid.as_raw());
    }
    #[cfg(target_os = "linux")]
    {
        let tcp = std::net::TcpStream::from(client);
        let kernel = doorward_peercred::Diagnosis::of_this_namespace();
        let owner = kernel.tcp_owner(tcp.local_addr().ok()?, tcp.peer_addr().ok()?);
        owner.ok().flatten().map(|owner| owner.uid.as_raw())
    }
    #[cfg(not(target_os = "linux"))]
    None
}
