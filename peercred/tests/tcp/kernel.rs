//! The socket through which the kernel is asked: kept, shared, and made elsewhere.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread;

use doorward_peercred::{Diagnosis, PassedSocket, Unfit};
use nix::sched::{CloneFlags, unshare};
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, Protocol, SendFlags, SocketFlags, SocketType, connect, send, socket_with, sockopt,
};

use crate::support::{ALICE, Gateway, is_root};

/// As a service manager makes it.
fn made(protocol: Protocol) -> OwnedFd {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(protocol)).expect("a socket")
}

#[test]
fn who_has_no_network_asks_about_the_one_where_the_socket_was_made() {
    if !is_root() {
        return;
    }
    let gateway = Gateway::new();
    let from_outside = Diagnosis::over(made(netlink::SOCK_DIAG)).expect("taken");
    let (_client, near) = gateway.connection_from(ALICE);
    let again = near.try_clone().expect("a copy");
    let (with_it, without) = thread::scope(|scope| {
        let alone = scope.spawn(|| {
            // This thread's alone.
            unshare(CloneFlags::CLONE_NEWNET).expect("root may");
            from_outside.can_examine_tcp().expect("an answer");
            let own = Diagnosis::of_this_namespace();
            assert!(from_outside.knows_of(&near).expect("an answer"), "its network is the outer one");
            assert!(!own.knows_of(&near).expect("an answer"));
            let inside = gateway.listeners_by(own);
            let outside = gateway.listeners_by(from_outside);
            (PassedSocket::examine(near.into(), &outside), PassedSocket::examine(again.into(), &inside))
        });
        alone.join().expect("no panic")
    });
    assert_eq!(with_it.expect("fit").uid(), ALICE);
    assert!(matches!(without, Err(Unfit::NotKnown)), "{without:?}");
}

#[test]
fn nothing_else_is_taken_for_such_a_socket() {
    let (one, _other) = UnixStream::pair().expect("a pair");
    let file = std::fs::File::open("/dev/null").expect("there");
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    for wrong in [OwnedFd::from(one), file.into(), tcp.into(), made(netlink::KOBJECT_UEVENT)] {
        Diagnosis::over(wrong).expect_err("refused");
    }
}

#[test]
fn what_an_earlier_process_has_asked_answers_no_question() {
    let gateway = Gateway::new();
    let shared = made(netlink::SOCK_DIAG);
    // A question of no sense, which the kernel answers with an error.
    let mut nonsense = 16_u32.to_ne_bytes().to_vec();
    nonsense.extend([20, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let leave_behind = || {
        connect(&shared, &SocketAddrNetlink::new(0, 0)).expect("connected");
        send(&shared, &nonsense, SendFlags::empty()).expect("sent");
    };
    leave_behind();
    let kernel = Diagnosis::over(shared.try_clone().expect("a copy")).expect("taken");
    for _ in 0..3 {
        let (_client, near) = gateway.connection();
        leave_behind();
        leave_behind();
        PassedSocket::examine(near.into(), &gateway.listeners_by(kernel.clone())).expect("fit");
    }
}

#[test]
fn who_asks_at_the_same_time_gets_the_own_answer() {
    let gateway = Gateway::new();
    let kernel = Diagnosis::of_this_namespace();
    let connections: Vec<_> = (0..8).map(|_| gateway.connection()).collect();
    thread::scope(|scope| {
        for (client, near) in &connections {
            let cookie = sockopt::socket_cookie(client).expect("a cookie");
            let kernel = kernel.clone();
            scope.spawn(move || {
                let (local, peer) = (near.local_addr().expect("there"), near.peer_addr().expect("there"));
                for _ in 0..200 {
                    let owner = kernel.tcp_owner(local, peer).expect("an answer").expect("somebody");
                    assert_eq!(owner.cookie, cookie);
                }
            });
        }
    });
}
