//! Who waits to hear whose a connection is.

use std::os::unix::net::UnixStream;

use futures_util::future::join_all;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketType, listen, socket};

use tokio::time::Instant;

use super::*;

#[tokio::test]
async fn few_wait_to_hear_whose_they_are() {
    let directory = tempfile::tempdir().expect("a directory");
    let peer_socket = directory.path().join("peer.sock");
    let silent = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).expect("a socket");
    net::bind(&silent, &SocketAddrUnix::new(&peer_socket).expect("a short path")).expect("bind");
    listen(&silent, 16).expect("listen");
    let backend = Backend::start(Settings {
        socket: directory.path().join("authd.sock"),
        peer_socket,
        uid: rustix::process::geteuid().as_raw(),
        certd: None,
        login: WHOSE,
        change: WHOSE,
        call: WHOSE,
    });
    let asked = (0..WHOSE_WAITING + 100).map(|number| {
        let backend = Arc::clone(&backend);
        async move {
            let (_, end) = UnixStream::pair().expect("a pair");
            let connection = ConnectionId(uuid::Uuid::from_u128(number as u128));
            let began = Instant::now();
            assert_eq!(backend.whose(end.into(), connection).await, None);
            began.elapsed() >= WHOSE
        }
    });
    let waited = join_all(asked).await.into_iter().filter(|waited| *waited).count();
    assert_eq!(waited, WHOSE_WAITING);
    backend.stop().await;
}
