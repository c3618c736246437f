//! TCP connections over loopback that somebody passes: whose they are, and what proves nothing.
#![cfg(target_os = "linux")]

#[path = "tcp/attacks.rs"]
mod attacks;
#[path = "tcp/kernel.rs"]
mod kernel;
#[path = "tcp/race.rs"]
mod race;
#[path = "tcp/support.rs"]
mod support;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;

use doorward_peercred::{Diagnosis, PassedSocket, Unfit, keep_proof_of_accept};
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

use crate::support::{ALICE, Gateway, as_user, is_root, own_uid, skip};

/// Connects from `from` (its port is chosen by the system) to `to`, on a listener at `listen`.
fn whose(listen: &str, from: &str, to: &str) -> Option<Result<PassedSocket, Unfit>> {
    let gateway = match Gateway::at(listen) {
        Ok(gateway) => gateway,
        Err(error) if listen.starts_with('[') => {
            skip(&format!("no IPv6 on this machine: {error}"));
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    let address = |ip: &str, port| SocketAddr::new(ip.parse::<IpAddr>().expect("an address"), port);
    let to = address(to, gateway.port());
    let client = support::socket(to);
    rustix::net::bind(&client, &address(from, 0)).expect("an address of our own");
    rustix::net::connect(&client, &to).expect("connected");
    let (near, _) = gateway.listener.accept().expect("accepted");
    let answer = gateway.examine(near);
    drop(client);
    Some(answer)
}

#[test]
fn the_client_is_named_over_every_form_of_loopback() {
    for (listen, from, to) in [
        ("127.0.0.1:0", "127.0.0.1", "127.0.0.1"),
        ("127.0.0.1:0", "127.9.8.7", "127.0.0.1"),
        ("0.0.0.0:0", "127.0.0.2", "127.255.255.254"),
        ("[::1]:0", "::1", "::1"),
        ("[::]:0", "::1", "::1"),
        // A listener for both, and a client with an IPv4 socket, and one with an IPv6 socket.
        ("[::]:0", "127.0.0.1", "127.0.0.1"),
        ("[::]:0", "::ffff:127.0.0.1", "::ffff:127.0.0.1"),
        ("127.0.0.1:0", "::ffff:127.0.0.1", "::ffff:127.0.0.1"),
    ] {
        let Some(answer) = whose(listen, from, to) else { continue };
        match answer {
            Ok(PassedSocket::Tcp { uid }) => assert_eq!(uid, own_uid(), "{listen} {from} {to}"),
            other => panic!("{listen} {from} {to}: {other:?}"),
        }
    }
}

#[test]
fn a_connection_that_leaves_loopback_is_refused() {
    // No packet is sent: this is how the system says which address it would use.
    let outward = UdpSocket::bind("0.0.0.0:0").expect("bound");
    let Some(own) = outward
        .connect("198.51.100.1:9")
        .and_then(|()| outward.local_addr())
        .ok()
        .filter(|own| !own.ip().is_loopback())
    else {
        return skip("no address but loopback");
    };
    let own = own.ip().to_string();
    for (from, to) in [(own.as_str(), own.as_str()), ("127.0.0.1", &own), (&own, "127.0.0.1")] {
        let answer = whose("0.0.0.0:0", from, to).expect("IPv4");
        assert!(matches!(answer, Err(Unfit::NotLoopback)), "{from} {to}: {answer:?}");
    }
}

#[test]
fn it_can_be_asked_again_and_the_connection_goes_on() {
    let gateway = Gateway::new();
    let (mut client, mut near) = gateway.connection();
    for _ in 0..3 {
        gateway.examine(near.try_clone().expect("a copy")).expect("fit");
    }
    client.write_all(b"still here").expect("written");
    let mut text = [0; 10];
    near.read_exact(&mut text).expect("read");
    assert_eq!(&text, b"still here");
    gateway.examine(near).expect("fit");
}

#[test]
fn the_kernel_can_be_asked_here() {
    Diagnosis::of_this_namespace().can_examine_tcp().expect("an answer about a connection that is not there");
}

#[test]
fn a_client_that_left_or_is_leaving_is_nobody() {
    let gateway = Gateway::new();
    let (client, near) = gateway.connection();
    drop(client);
    assert!(matches!(gateway.examine(near), Err(Unfit::NotEstablished)), "by FIN");

    let (client, near) = gateway.connection();
    sockopt::set_socket_linger(&client, Some(std::time::Duration::ZERO)).expect("set");
    drop(client);
    assert!(matches!(gateway.examine(near), Err(Unfit::NotEstablished)), "by RST");

    // With something unread, so that the accepted end can still be read.
    let (mut client, near) = gateway.connection();
    client.write_all(b"log me in").expect("written");
    drop(client);
    assert!(matches!(gateway.examine(near), Err(Unfit::NotEstablished)), "with a request left behind");

    let (client, near) = gateway.connection();
    client.shutdown(Shutdown::Write).expect("shut");
    assert!(matches!(gateway.examine(near), Err(Unfit::NotEstablished)), "finished writing");

    let (_client, near) = gateway.connection();
    near.shutdown(Shutdown::Write).expect("shut");
    assert!(matches!(gateway.examine(near), Err(Unfit::NotEstablished)), "the gateway hung up");
}

#[test]
fn a_port_that_is_not_the_gateways_is_refused() {
    let mut gateway = Gateway::new();
    let (_client, near) = gateway.connection();
    let port = gateway.port();
    for (ports, fits) in [
        (vec![port], true),
        (vec![1, port, 2], true),
        (vec![0], true),
        (vec![], false),
        (vec![port.wrapping_add(1)], false),
    ] {
        gateway.tcp.ports.clone_from(&ports);
        match gateway.examine(near.try_clone().expect("a copy")) {
            Ok(_) if fits => {}
            Err(Unfit::Port(refused)) if !fits => assert_eq!(refused, port),
            other => panic!("{ports:?}: {other:?}"),
        }
    }
}

#[test]
fn another_users_end_is_refused() {
    let mut gateway = Gateway::new();
    let (_client, near) = gateway.connection();
    gateway.tcp.uid = own_uid() + 1;
    assert!(matches!(gateway.examine(near), Err(Unfit::NotTheGateways)));
}

#[test]
fn what_is_not_connected_or_listens_is_refused() {
    let gateway = Gateway::new();
    let lone = support::socket(SocketAddr::from(([127, 0, 0, 1], 0)));
    assert!(matches!(gateway.examine(lone), Err(Unfit::NotEstablished)));
    let listener = gateway.listener.try_clone().expect("a copy");
    assert!(matches!(gateway.examine(listener), Err(Unfit::Listening)));
    // Multipath TCP, where the kernel has it, is another protocol with other sockets behind it.
    let (family, kind) = (AddressFamily::INET, SocketType::STREAM);
    match rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, Some(ipproto::MPTCP)) {
        Ok(multipath) => assert!(matches!(gateway.examine(multipath), Err(Unfit::NotTcp))),
        Err(error) => skip(&format!("no multipath TCP: {error}")),
    }
}

#[test]
fn a_listener_that_keeps_no_proof_proves_nothing() {
    let gateway = Gateway::new();
    let plain = TcpListener::bind("127.0.0.1:0").expect("bound");
    let _client = TcpStream::connect(plain.local_addr().expect("an address")).expect("connected");
    let (near, _) = plain.accept().expect("accepted");
    let mut elsewhere = gateway.listeners();
    elsewhere.tcp.as_mut().expect("TCP").ports = vec![0];
    let answer = PassedSocket::examine(near.into(), &elsewhere);
    assert!(matches!(answer, Err(Unfit::NotAccepted)), "{answer:?}");
    keep_proof_of_accept(&plain).expect("set");
    let _client = TcpStream::connect(plain.local_addr().expect("an address")).expect("connected");
    let (near, _) = plain.accept().expect("accepted");
    PassedSocket::examine(OwnedFd::from(near), &elsewhere).expect("fit");
}

#[test]
fn the_client_is_its_creators_whoever_that_is() {
    if !is_root() {
        return;
    }
    let gateway = Gateway::new();
    for uid in [ALICE, 0, 65_534, u32::MAX - 1] {
        let (client, near) = gateway.connection_from(uid);
        match gateway.examine(near) {
            Ok(PassedSocket::Tcp { uid: named }) => assert_eq!(named, uid),
            other => panic!("{uid}: {other:?}"),
        }
        drop(client);
    }
    // A socket that alice made and another connects is alice's: she gave it away.
    let client = as_user(ALICE, || support::socket(gateway.address()));
    as_user(ALICE + 1, || rustix::net::connect(&client, &gateway.address())).expect("connected");
    let (near, _) = gateway.listener.accept().expect("accepted");
    assert_eq!(gateway.examine(near).expect("fit").uid(), ALICE);
}

#[test]
fn a_client_that_is_bound_to_an_interface_is_refused() {
    if !is_root() {
        return;
    }
    // Another may have the same addresses and ports without being bound.
    let gateway = Gateway::new();
    let client = support::socket(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let option = nix::sys::socket::sockopt::BindToDevice;
    nix::sys::socket::setsockopt(&client, option, &"lo".into()).expect("root may");
    rustix::net::connect(&client, &gateway.address()).expect("connected");
    let (near, _) = gateway.listener.accept().expect("accepted");
    assert!(matches!(gateway.examine(near), Err(Unfit::NobodyThere)));
}
