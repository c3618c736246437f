//! A gateway's listener, and sockets of other users.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use doorward_peercred::{
    Diagnosis, Listeners, Owner, PassedSocket, TcpListeners, Unfit, keep_proof_of_accept,
};
use nix::unistd::{Uid, setfsuid};
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};

/// The owner of the far end.
pub(crate) fn tcp_owner(local: SocketAddr, peer: SocketAddr) -> io::Result<Option<Owner>> {
    Diagnosis::of_this_namespace().tcp_owner(local, peer)
}

/// Users of the tests; nobody has to have an account.
pub(crate) const ALICE: u32 = 41_001;
pub(crate) const MALLORY: u32 = 41_002;
pub(crate) const GATEWAY: u32 = 41_003;

/// Past the harness's capture; a failure where no test may be skipped.
pub(crate) fn skip(why: &str) {
    assert!(
        std::env::var_os("DOORWARD_NO_SKIP").is_none(),
        "skipped although DOORWARD_NO_SKIP is set: {why}"
    );
    let _ = io::Write::write_all(&mut io::stderr(), format!("SKIPPED: {why}\n").as_bytes());
}

pub(crate) fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

pub(crate) fn is_root() -> bool {
    let root = own_uid() == 0;
    if !root {
        skip("sockets of other users take root");
    }
    root
}

/// Sockets that are made meanwhile are this user's.
pub(crate) fn as_user<T>(uid: u32, make: impl FnOnce() -> T) -> T {
    setfsuid(Uid::from_raw(uid));
    let made = make();
    setfsuid(Uid::from_raw(own_uid()));
    made
}

/// A TCP socket for this address, whose port may be in use by what has ended.
pub(crate) fn socket(to: SocketAddr) -> OwnedFd {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).expect("a socket");
    sockopt::set_socket_reuseaddr(&socket, true).expect("set");
    socket
}

/// Listens, and accepts as the user of the tests.
pub(crate) struct Gateway {
    pub(crate) listener: TcpListener,
    pub(crate) tcp: TcpListeners,
    /// One for all questions, as a service has it.
    kernel: Diagnosis,
}

impl Gateway {
    pub(crate) fn new() -> Gateway {
        Gateway::at("127.0.0.1:0").expect("bound")
    }

    pub(crate) fn at(address: &str) -> io::Result<Gateway> {
        let listener = TcpListener::bind(address)?;
        keep_proof_of_accept(&listener)?;
        let port = listener.local_addr()?.port();
        let tcp = TcpListeners { uid: own_uid(), ports: vec![port] };
        Ok(Gateway { listener, tcp, kernel: Diagnosis::of_this_namespace() })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("an address")
    }

    pub(crate) fn port(&self) -> u16 {
        self.address().port()
    }

    /// The client's end and the accepted one.
    pub(crate) fn connection(&self) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(self.address()).expect("connected");
        let (near, _) = self.listener.accept().expect("accepted");
        (client, near)
    }

    /// The same with a client of this user's.
    pub(crate) fn connection_from(&self, uid: u32) -> (TcpStream, TcpStream) {
        let client = as_user(uid, || socket(self.address()));
        connect(&client, &self.address()).expect("connected");
        let (near, _) = self.listener.accept().expect("accepted");
        (client.into(), near)
    }

    pub(crate) fn listeners(&self) -> Listeners {
        self.listeners_by(self.kernel.clone())
    }

    pub(crate) fn listeners_by(&self, kernel: Diagnosis) -> Listeners {
        Listeners { unix: "/nonexistent".into(), tcp: Some(self.tcp.clone()), kernel }
    }

    pub(crate) fn examine(&self, descriptor: impl Into<OwnedFd>) -> Result<PassedSocket, Unfit> {
        PassedSocket::examine(descriptor.into(), &self.listeners())
    }
}
