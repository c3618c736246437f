//! Login without a password: for whom the kernel's word is enough, and for whom it is not.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use doorward_proto::authd::v1::{
    BeginRequest, Dialect, LocalPeer, Outcome, Source, begin_request::Method, outcome::Kind,
};
use doorward_tests::grpc::{Authd, ask_peer};
use doorward_tests::{Client, Options, Pam, Program, Role, Stack, skip};
use serde_json::json;

use crate::support::{Comer, Doorstep, comers, connected_to, named};

/// Connections as a gateway names them.
const C1: &str = "7a0b1f04-6b1c-4c54-9d5e-7f3f0f1c0001";
const C2: &str = "7a0b1f04-6b1c-4c54-9d5e-7f3f0f1c0002";

async fn who_may(pam: Pam) {
    let Some(stack) = Stack::start(&Options::new(pam)) else { return };
    if !skip::root("connections of other users") {
        return;
    }
    for Comer { uid, user, may, what } in comers(&stack) {
        let mut client = Client::unix_as(&stack, uid).await;
        let reply = client.ask("rpc/auth", named(user.as_deref())).await;
        match &reply {
            Ok(args) if may => drop(doorward_tests::client::token_of(args)),
            Err(401) if !may => {}
            other => panic!("{what} (uid {uid}, {user:?}): {other:?}"),
        }
        assert_eq!(client.logged_in().await, may, "{what}");
        client.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_log_in_without_a_password_under_libpam_wrapper() {
    who_may(Pam::Wrapper).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_log_in_without_a_password_with_real_accounts() {
    who_may(Pam::Real).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_root_nobody_but_the_services_connects_and_they_may_not() {
    let Some(stack) = Stack::start(&Options::new(Pam::Wrapper)) else { return };
    let mut client = Client::unix_as(&stack, stack.gateway_uid()).await;
    assert_eq!(client.ask("rpc/auth", json!({})).await, Err(401));
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn switched_off_it_is_refused_to_everybody() {
    if !skip::root("a connection of another user") {
        return;
    }
    let options = Options::new(Pam::Wrapper).authd("local_login.mode", "off");
    let Some(stack) = Stack::start(&options) else { return };
    let uid = stack.person(Role::Full).uid;
    for mut client in [Client::unix_as(&stack, uid).await, Client::tls_as(&stack, uid).await] {
        assert_eq!(client.ask("rpc/auth", json!({})).await, Err(401));
        client.login(stack.person(Role::Full)).await.expect("with the password it works");
        client.close().await;
    }
    let refused = stack.records(Program::Authd, &[("event", "login_refused"), ("method", "local_peer")]);
    assert_eq!(refused.len(), 2, "one each, whether or not anything was handed over: {refused:?}");
}

/// Asks usermod(8) for a change of what somebody was given.
fn give(option: &str, uid: u32, to: &str) -> bool {
    let range = format!("{uid}-{uid}");
    std::process::Command::new("usermod")
        .args([option, &range, to])
        .status()
        .is_ok_and(|status| status.success())
}

/// The kernel names a uid. Where two users can be that, it names nobody.
#[tokio::test(flavor = "multi_thread")]
async fn whose_uid_was_given_to_another_needs_the_password() {
    if !skip::root("accounts of their own") {
        return;
    }
    let Some(stack) = Stack::start(&Options::new(Pam::Real)) else { return };
    let (person, other) = (stack.person(Role::Code).clone(), stack.person(Role::Lapsed).name.clone());
    let local = async || {
        let mut client = Client::unix_as(&stack, person.uid).await;
        let outcome = client.ask("rpc/auth", json!({})).await.map(drop);
        client.close().await;
        outcome
    };
    assert_eq!(local().await, Ok(()));
    if !give("--add-subuids", person.uid, &other) {
        return skip::skipped("usermod(8) gives no subordinate uids here");
    }
    let began = std::time::Instant::now();
    while local().await.is_ok() && began.elapsed() < std::time::Duration::from_secs(10) {}
    let refused = local().await;
    assert!(give("--del-subuids", person.uid, &other), "left behind in /etc/subuid");
    assert_eq!(refused, Err(401));
    let fields = [("event", "login_refused"), ("method", "local_peer"), ("reason", "subordinate-uid")];
    assert!(!stack.records(Program::Authd, &fields).is_empty());
    let began = std::time::Instant::now();
    while local().await.is_err() {
        assert!(began.elapsed() < std::time::Duration::from_secs(10), "what is taken back counts no more");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn descriptors_that_prove_nothing_are_refused() {
    let Some(mut stack) = Stack::start(&Options::new(Pam::Wrapper)) else { return };
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    let listening = UnixListener::bind(stack.path("notify/listening")).expect("a listener");
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let far = std::net::TcpStream::connect(tcp.local_addr().expect("an address")).expect("a connection");
    let (near, _) = tcp.accept().expect("a connection");
    let file = File::open("/dev/null").expect("/dev/null");
    let directory = File::open("/").expect("the root directory");
    let datagram = std::os::unix::net::UnixDatagram::unbound().expect("a socket");
    let (packets, _far) = rustix::net::socketpair(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::SEQPACKET,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )
    .expect("a pair of sockets");
    let descriptors: [(&str, Vec<BorrowedFd<'_>>); 10] = [
        ("none", vec![]),
        ("two", vec![ours.as_fd(), theirs.as_fd()]),
        ("sixteen", vec![ours.as_fd(); 16]),
        ("a listening socket", vec![listening.as_fd()]),
        ("a listening TCP socket", vec![tcp.as_fd()]),
        ("a TCP connection", vec![near.as_fd()]),
        ("a file", vec![file.as_fd()]),
        ("a directory", vec![directory.as_fd()]),
        ("a datagram socket", vec![datagram.as_fd()]),
        ("a SEQPACKET socket", vec![packets.as_fd()]),
    ];
    for (what, descriptors) in &descriptors {
        let answer = ask_peer(&stack, C1, descriptors);
        assert!(answer.is_err(), "{what}: {answer:?}");
    }
    drop(far);
    // A pair that the gateway made itself, and the ends of a connection that was not accepted at the
    // gateway's socket: on the end that connected the kernel names whoever listens, here alice.
    let mut sockets: Vec<OwnedFd> = vec![ours.into(), theirs.into()];
    if skip::root("a socket on which another user listens") {
        let (connecting, accepted) = connected_to(stack.person(Role::Full).uid);
        sockets.extend([connecting, accepted]);
    }
    for socket in &sockets {
        let answer = ask_peer(&stack, C1, &[socket.as_fd()]);
        assert!(answer.is_err(), "{socket:?}: {answer:?}");
    }
    assert!(stack.runs());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handle_is_good_once_for_its_connection_and_its_user() {
    if !skip::root("a connection of another user") {
        return;
    }
    let doorstep = Doorstep::new();
    let options = Options::new(Pam::Wrapper).authd("peers.gateway_socket", doorstep.path());
    let Some(stack) = Stack::start(&options) else { return };
    let mut authd = Authd::as_gateway(&stack).await;
    let alice = stack.person(Role::Full).clone();
    let (near, _far) = doorstep.accept_from(alice.uid);
    let handle = || ask_peer(&stack, C1, &[near.as_fd()]).expect("alice is at the far end");
    // For another connection, another user, root: refused, and used up.
    for (connection, user) in [(C2, ""), (C1, stack.person(Role::Limited).name.as_str()), (C1, "root")] {
        let handle = handle();
        refused(&mut authd, connection, &handle, user).await;
        refused(&mut authd, C1, &handle, &alice.name).await;
    }
    // As it is meant: granted, once.
    let handle = handle();
    let outcome = begin(&mut authd, C1, &handle, &alice.name).await.expect("an outcome");
    let Some(Kind::Granted(granted)) = outcome.kind else { panic!("alice is not let in") };
    doorward_tests::secrets::register(&granted.token);
    let session = granted.session.expect("a session");
    assert_eq!((session.user.as_str(), session.uid), (alice.name.as_str(), Some(alice.uid)));
    refused(&mut authd, C1, &handle, &alice.name).await;
    for forged in [&[][..], &[0; 16], &[0; 15], &[0; 17], &[0; 4096]] {
        refused(&mut authd, C1, forged, &alice.name).await;
    }
}

async fn begin(
    authd: &mut Authd,
    connection: &str,
    handle: &[u8],
    user: &str,
) -> Result<Outcome, tonic::Status> {
    let request = BeginRequest {
        connection: connection.to_owned(),
        source: Some(Source::default()),
        dialect: Dialect::Sysadm.into(),
        wish: None,
        method: Some(Method::LocalPeer(LocalPeer {
            handle: handle.to_vec(),
            username: user.to_owned(),
            ..LocalPeer::default()
        })),
    };
    authd.login.begin(request).await.map(tonic::Response::into_inner)
}

async fn refused(authd: &mut Authd, connection: &str, handle: &[u8], user: &str) {
    match begin(authd, connection, handle, user).await {
        Ok(Outcome { kind: Some(Kind::Denied(_)) }) | Err(_) => {}
        Ok(other) => panic!("{connection} as {user:?}: {other:?}"),
    }
}
