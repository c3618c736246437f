//! What a gateway that was taken over can pass in place of a client's connection.
//!
//! Each test first shows that the kernel's plain answer would name somebody else: the attack is one.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use doorward_peercred::{PassedSocket, TcpState, Unfit, recv_one_descriptor, send_with_descriptor};
use rustix::net::{bind, connect, connect_unspec, listen, sockopt};

use crate::support::{ALICE, GATEWAY, Gateway, as_user, is_root, own_uid, skip, socket, tcp_owner};

/// Somebody who listens on loopback: a development server, say.
fn somebodys_listener(uid: u32) -> (TcpListener, SocketAddr) {
    let home = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = as_user(uid, || socket(home));
    bind(&listener, &home).expect("bound");
    listen(&listener, 4).expect("listening");
    let listener = TcpListener::from(listener);
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

/// Accepts as `uid`, so that the accepted end is theirs.
fn accept_as(uid: u32, listener: &TcpListener) -> TcpStream {
    as_user(uid, || listener.accept().expect("accepted").0)
}

/// Whom the kernel names at the far end of an established connection.
fn plainly(near: &TcpStream) -> u32 {
    let (local, peer) = (near.local_addr().expect("an address"), near.peer_addr().expect("an address"));
    let owner = tcp_owner(local, peer).expect("an answer").expect("somebody");
    assert_eq!(owner.state, TcpState::Established);
    owner.uid.as_raw()
}

#[test]
fn a_connection_to_somebody_who_listens_is_not_accepted() {
    if !is_root() {
        return;
    }
    let mut gateway = Gateway::new();
    for uid in [ALICE, 0] {
        let (listener, address) = somebodys_listener(uid);
        let near = TcpStream::connect(address).expect("connected");
        let _far = accept_as(uid, &listener);
        assert_eq!(plainly(&near), uid);
        assert!(matches!(gateway.examine(near.try_clone().expect("a copy")), Err(Unfit::Port(_))));
        // Even where every port counts.
        gateway.tcp.ports = vec![0];
        assert!(matches!(gateway.examine(near), Err(Unfit::NotAccepted)));
        gateway.tcp.ports = vec![gateway.port()];
    }
}

#[test]
fn an_accepted_socket_that_was_connected_anew_is_not_accepted() {
    if !is_root() {
        return;
    }
    let mut gateway = Gateway::new();
    gateway.tcp.ports = vec![0];
    let (_client, near) = gateway.connection();
    gateway.examine(near.try_clone().expect("a copy")).expect("fit until then");
    let (listener, address) = somebodys_listener(ALICE);
    connect_unspec(&near).expect("disconnected");
    connect(&near, &address).expect("connected anew");
    let _far = accept_as(ALICE, &listener);
    assert_eq!(plainly(&near), ALICE);
    assert!(matches!(gateway.examine(near), Err(Unfit::NotAccepted)));
}

#[test]
fn a_listener_that_connects_is_not_accepted() {
    if !is_root() {
        return;
    }
    let mut gateway = Gateway::new();
    gateway.tcp.ports = vec![0];
    let (listener, address) = somebodys_listener(ALICE);
    connect_unspec(&gateway.listener).expect("shut");
    connect(&gateway.listener, &address).expect("connected");
    let _far = accept_as(ALICE, &listener);
    let near = TcpStream::from(OwnedFd::from(gateway.listener.try_clone().expect("a copy")));
    assert_eq!(plainly(&near), ALICE);
    let answer = gateway.examine(near);
    assert!(matches!(answer, Err(Unfit::NotAccepted)), "{answer:?}");
}

#[test]
fn a_connection_to_oneself_is_oneself_or_nothing() {
    let mut gateway = Gateway::new();
    gateway.tcp.ports = vec![0];
    // Accepted: the far end is the gateway's own socket, and so is the uid.
    let (client, near) = gateway.connection();
    assert_eq!(gateway.examine(near).expect("fit").uid(), own_uid());
    // The other end of it.
    let (_client, _near) = gateway.connection();
    assert!(gateway.examine(client).is_err());
    // One socket, both ends: opened from both sides at once.
    let both = socket(gateway.address());
    bind(&both, &SocketAddr::from(([127, 0, 0, 1], 0))).expect("bound");
    let own = rustix::net::getsockname(&both).expect("an address");
    connect(&both, &SocketAddr::try_from(own).expect("IPv4")).expect("connected to itself");
    assert!(matches!(gateway.examine(both), Err(Unfit::NotAccepted)));
}

/// This test binary again, in the role that the environment names, with a socket to send to.
fn play(role: &str, more: &[(&str, String)], command: &mut Command) -> std::io::Result<OwnedFd> {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let status = command
        .args(["--exact", "attacks::a_role_in_another_test", "--ignored", "--test-threads=1"])
        .env("DOORWARD_ROLE", role)
        .envs(more.iter().map(|(name, value)| (*name, value.as_str())))
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .status()?;
    assert!(status.success(), "{role}: {status}");
    // What it sent first; the rest stays in the queue.
    recv_one_descriptor(&ours, &mut [0; 1]).map(|(_, descriptor)| descriptor)
}

#[test]
#[ignore = "a role that the tests of this file start"]
fn a_role_in_another_test() {
    let give = |descriptor: &dyn AsFd| {
        send_with_descriptor(std::io::stdin(), b"x", descriptor.as_fd()).expect("sent");
    };
    match std::env::var("DOORWARD_ROLE").as_deref() {
        Ok("hostile gateway") => {
            let address = std::env::var("DOORWARD_VICTIM").expect("an address");
            let port: u16 = std::env::var("DOORWARD_PORT").expect("a port").parse().expect("a number");
            give(&connect_from_own_port(address.parse().expect("an address"), port));
        }
        Ok("another namespace") => {
            let gateway = Gateway::new();
            let (client, near) = gateway.connection();
            give(&near);
            // It must be open while it is looked at.
            std::mem::forget((client, gateway));
        }
        other => panic!("{other:?}"),
    }
}

/// The port of a listener that still is there, with another socket bound to it: the listener is shut for as
/// long as that takes. It is what a gateway can do that holds the socket that root bound for it.
fn connect_from_own_port(victim: SocketAddr, port: u16) -> TcpStream {
    let home = SocketAddr::from(([127, 0, 0, 1], port));
    let listener = Gateway::at(&home.to_string()).expect("the port that was root's").listener;
    sockopt::set_socket_reuseaddr(&listener, true).expect("set");
    let made = socket(home);
    assert!(bind(&made, &home).is_err(), "not while somebody listens there");
    connect_unspec(&listener).expect("shut");
    bind(&made, &home).expect("bound to the port of the listener");
    connect(&made, &victim).expect("connected");
    listen(&listener, 4).expect("listening as before");
    let _client = TcpStream::connect(home).expect("others connect as before");
    listener.accept().expect("accepted");
    std::mem::forget(listener);
    TcpStream::from(made)
}

#[test]
fn a_hostile_gateway_connects_from_its_own_port_and_is_refused() {
    if !is_root() {
        return;
    }
    let mut gateway = Gateway::new();
    let port = gateway.port();
    let (listener, address) = somebodys_listener(ALICE);
    gateway.tcp.uid = GATEWAY;
    let copy = tempfile::tempdir().expect("a directory");
    let program = copy.path().join("tcp");
    // By another process: what is open for writing here is also open in what another test has just forked, and
    // cannot be run.
    let own = std::env::current_exe().expect("this program");
    let copied = Command::new("install").args(["-m", "755"]).args([&own, &program]).status();
    assert!(copied.expect("install runs").success());
    std::fs::set_permissions(copy.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("open");
    let about = [("DOORWARD_VICTIM", address.to_string()), ("DOORWARD_PORT", port.to_string())];
    // The hostile process binds the port itself.
    gateway.listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let made =
        play("hostile gateway", &about, Command::new(&program).uid(GATEWAY).gid(GATEWAY).current_dir("/"))
            .expect("a descriptor");
    let near = TcpStream::from(made);
    let _far = accept_as(ALICE, &listener);
    // Everything else is as it would be: who is there, whose own end it is, and the port.
    assert_eq!(plainly(&near), ALICE);
    assert_eq!(near.local_addr().expect("an address").port(), port);
    let (local, peer) = (near.local_addr().expect("an address"), near.peer_addr().expect("an address"));
    assert_eq!(tcp_owner(peer, local).expect("an answer").expect("the gateway").uid, GATEWAY);
    let answer = gateway.examine(near);
    assert!(matches!(answer, Err(Unfit::NotAccepted)), "{answer:?}");
}

#[test]
fn a_connection_of_another_network_namespace_is_refused() {
    if !is_root() {
        return;
    }
    let mut gateway = Gateway::new();
    gateway.tcp.ports = vec![0];
    let program = std::env::current_exe().expect("this program");
    // The namespace is new: its loopback is down until somebody sets it up.
    let script = r#"ip link set lo up && exec "$0" "$@""#;
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", script]).arg(program);
    match play("another namespace", &[], &mut command) {
        Ok(near) => {
            let answer: Result<PassedSocket, Unfit> = gateway.examine(near);
            assert!(matches!(answer, Err(Unfit::NotKnown | Unfit::NotEstablished)), "{answer:?}");
        }
        Err(error) => skip(&format!("no network namespace: {error}")),
    }
}
