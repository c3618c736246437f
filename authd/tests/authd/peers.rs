//! Logins without a password, by what the kernel says of a passed connection.

use std::{
    io::{BufRead as _, BufReader},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            fs::PermissionsExt as _,
            net::{UnixListener, UnixStream},
            process::CommandExt as _,
        },
    },
    path::Path,
    process::{Child, Command, Stdio},
};

use doorward_authd::config::{Config, LocalMode};
use doorward_launch::Identity;
use doorward_peercred::send_with_descriptor;
use doorward_proto::authd::v1::{self as wire, begin_request::Method, peer_answer::Kind};
use prost::Message as _;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, recv, send, sendmsg, socket_with,
};
use tonic::Code;

use crate::{
    bench::{Bench, ONE, TWO, begin, code, granted, is_denied, prompts},
    fakes::directory::Fake,
};

/// A uid of this machine's that is surely nobody's, for when the tests run as root.
const SOMEBODY: u32 = 54_321;

/// The person who connects: somebody else when the tests run as root, else whoever runs them.
fn person() -> u32 {
    let own = rustix::process::geteuid().as_raw();
    if own == 0 { SOMEBODY } else { own }
}

fn users() -> Fake {
    Fake::new()
        .group("sudo", 27)
        .user("alice", person(), 1000, "/bin/sh", &[27])
        .user("bob", person() + 1, 1000, "/bin/sh", &[27])
        .user("root", 0, 0, "/bin/sh", &[])
}

struct Local {
    bench: Bench,
    listener: UnixListener,
}

async fn local(change: impl FnOnce(&mut Config)) -> Local {
    local_with(change, Bench::pam_with_passwords).await
}

async fn local_with(change: impl FnOnce(&mut Config), pam: impl FnOnce(&Bench)) -> Local {
    let bench = Bench::start_for(Identity::current(), users(), |config| {
        config.local_login.uid_min = 1;
        change(config);
    })
    .await;
    pam(&bench);
    let listener = UnixListener::bind(bench.path("gateway.sock")).expect("bound");
    let open = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(bench.path("gateway.sock"), open.clone()).expect("opened to all");
    std::fs::set_permissions(bench.path(""), open).expect("opened to all");
    Local { bench, listener }
}

/// A client of the gateway's socket; ends with it.
struct Client {
    accepted: UnixStream,
    child: Option<Child>,
    own: Option<UnixStream>,
}

impl Client {
    fn leave(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.own = None;
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Local {
    /// A connection by [`person`], accepted as the gateway does.
    fn person_connects(&self) -> Client {
        let path = self.bench.path("gateway.sock");
        if !rustix::process::geteuid().is_root() {
            let own = UnixStream::connect(path).expect("connected");
            return Client { accepted: self.accept(), child: None, own: Some(own) };
        }
        // This program may be where nobody else can look, so the other user runs a copy. Made by another process:
        // what is open for writing here is also open in what another test has just forked, and cannot be run.
        let (own, copy) = (std::env::current_exe().expect("this program"), self.bench.path("client"));
        let copied = Command::new("install").args(["-m", "755"]).args([&own, &copy]).status();
        assert!(copied.expect("install runs").success());
        let mut child = Command::new(&copy)
            .args(["--exact", "peers::connects_and_waits", "--ignored", "--nocapture"])
            .env("DOORWARD_TEST_CONNECT", path)
            .current_dir("/")
            .uid(SOMEBODY)
            .gid(SOMEBODY)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let connected = lines.map_while(Result::ok).any(|line| line.ends_with("connected"));
        assert!(connected, "the client did not connect");
        Client { accepted: self.accept(), child: Some(child), own: None }
    }

    fn own_connects(&self) -> Client {
        let own = UnixStream::connect(self.bench.path("gateway.sock")).expect("connected");
        Client { accepted: self.accept(), child: None, own: Some(own) }
    }

    fn accept(&self) -> UnixStream {
        self.listener.accept().expect("accepted").0
    }

    /// What authd says of a descriptor.
    async fn ask(&self, connection: &str, passed: impl AsFd) -> Option<Kind> {
        self.query(&wire::PeerQuery { connection: connection.into(), whose: false }, passed).await
    }

    async fn query(&self, query: &wire::PeerQuery, passed: impl AsFd) -> Option<Kind> {
        let socket = self.peer_socket();
        let query = query.encode_to_vec();
        send_with_descriptor(&socket, &query, passed.as_fd()).expect("sent");
        answer(socket).await
    }

    async fn handle(&self, connection: &str, passed: impl AsFd) -> Vec<u8> {
        match self.ask(connection, passed).await {
            Some(Kind::Handle(handle)) => handle,
            other => panic!("{:?}", other.is_some()),
        }
    }

    fn peer_socket(&self) -> OwnedFd {
        connected(&self.bench.config.socket.peer_path)
    }

    async fn begin(&self, connection: &str, handle: Vec<u8>, username: &str) -> Answer {
        let method = wire::LocalPeer { handle, username: username.into(), ..wire::LocalPeer::default() };
        self.bench.login().await.begin(begin(connection, "", Method::LocalPeer(method))).await
    }
}

type Answer = Result<tonic::Response<wire::Outcome>, tonic::Status>;

fn connected(path: &Path) -> OwnedFd {
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .expect("a socket");
    connect(&socket, &SocketAddrUnix::new(path).expect("a short path")).expect("connected");
    socket
}

/// None when authd closes without a word.
async fn answer(socket: OwnedFd) -> Option<Kind> {
    let read = move || {
        let mut buffer = [0; 512];
        let length = recv(&socket, &mut buffer[..], RecvFlags::empty()).map_or(0, |(length, _)| length);
        let packet = buffer.get(..length).expect("no longer than the buffer");
        wire::PeerAnswer::decode(packet).expect("a message").kind
    };
    tokio::task::spawn_blocking(read).await.expect("ran")
}

/// Not a test of its own: another user's connection to the gateway's socket.
#[test]
#[ignore = "run by another test, as another user"]
fn connects_and_waits() {
    let Some(path) = std::env::var_os("DOORWARD_TEST_CONNECT") else { return };
    let _connection = UnixStream::connect(path).expect("connected");
    println!("\nconnected");
    let _ = std::io::stdin().read_line(&mut String::new());
}

#[tokio::test]
async fn the_person_at_the_other_end_logs_in_without_a_password() {
    let local = local(|_| ()).await;
    let client = local.person_connects();
    for username in ["alice", ""] {
        let handle = local.handle(ONE, &client.accepted).await;
        assert_eq!(handle.len(), 16);
        let session = granted(local.begin(ONE, handle, username).await).session.expect("a session");
        assert_eq!((session.user.as_str(), session.uid), ("alice", Some(person())));
        assert_eq!(session.method, "local_peer");
    }
}

#[tokio::test]
async fn a_handle_is_for_one_use_its_connection_and_its_person() {
    let local = local(|_| ()).await;
    let client = local.person_connects();
    for other in ["bob", "root", "nobody-here", "a/b"] {
        let handle = local.handle(ONE, &client.accepted).await;
        assert!(is_denied(local.begin(ONE, handle, other).await), "{other}");
    }
    let handle = local.handle(ONE, &client.accepted).await;
    assert!(is_denied(local.begin(TWO, handle.clone(), "alice").await), "another connection's");
    assert!(is_denied(local.begin(ONE, handle, "alice").await), "void after a wrong use");
    let handle = local.handle(ONE, &client.accepted).await;
    granted(local.begin(ONE, handle.clone(), "alice").await);
    assert!(is_denied(local.begin(ONE, handle, "alice").await), "used");
    for forged in [vec![], vec![0; 16], vec![7; 4096]] {
        assert!(is_denied(local.begin(ONE, forged, "alice").await));
    }
    let handle = local.handle(ONE, &client.accepted).await;
    let mut login = local.bench.login().await;
    login.abandon(wire::AbandonRequest { connection: ONE.into() }).await.expect("abandoned");
    assert!(is_denied(local.begin(ONE, handle, "alice").await), "abandoned");
}

#[tokio::test]
async fn root_system_users_and_a_switched_off_login_are_denied() {
    type Change = fn(&mut Config);
    let cases: [(Change, bool); 3] = [
        (|config| config.local_login.mode = LocalMode::Off, false),
        (|config| config.local_login.uid_min = person() + 1, false),
        (|_| (), true),
    ];
    for (change, as_root) in cases {
        let local = local(change).await;
        if as_root && !rustix::process::geteuid().is_root() {
            continue;
        }
        let client = if as_root { local.own_connects() } else { local.person_connects() };
        let handle = local.handle(ONE, &client.accepted).await;
        assert!(is_denied(local.begin(ONE, handle, "").await));
    }
}

#[tokio::test]
async fn the_account_phase_decides_too() {
    let bench = Bench::start_for(Identity::current(), users(), |config| config.local_login.uid_min = 1).await;
    bench.pam(|worker| {
        use doorward_proto::pam::v1::{Result as Verdict, Task};
        assert_eq!((worker.start.task(), worker.start.rhost.as_str()), (Task::Account, ""));
        worker.verdict(Verdict::Denied);
    });
    let listener = UnixListener::bind(bench.path("gateway.sock")).expect("bound");
    let open = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(bench.path("gateway.sock"), open.clone()).expect("opened to all");
    std::fs::set_permissions(bench.path(""), open).expect("opened to all");
    let local = Local { bench, listener };
    let client = local.person_connects();
    let handle = local.handle(ONE, &client.accepted).await;
    assert!(is_denied(local.begin(ONE, handle, "alice").await));
}

#[tokio::test]
async fn whom_the_kernel_names_is_not_kept_out_by_others_of_that_name() {
    let asks = |bench: &Bench| {
        bench.pam(|worker| {
            worker.round(&[(doorward_proto::pam::v1::Style::Visible, "Code: ")]);
            worker.await_end();
        });
    };
    let local = local_with(|config| config.pam.per_account = 1, asks).await;
    let client = local.person_connects();
    // The uid is counted, up to `per_source`; the name is not.
    for _ in 0..2 {
        let handle = local.handle(ONE, &client.accepted).await;
        prompts(local.begin(ONE, handle, "alice").await);
    }
}

#[tokio::test]
async fn descriptors_that_prove_nothing_are_refused() {
    let local = local(|_| ()).await;
    let (end, _other) = UnixStream::pair().expect("a pair");
    let elsewhere = UnixListener::bind(local.bench.path("other.sock")).expect("bound");
    let to_elsewhere = UnixStream::connect(local.bench.path("other.sock")).expect("connected");
    let from_elsewhere = elsewhere.accept().expect("accepted").0;
    // Whoever it was may be nobody by now, and their uid somebody else's.
    let mut left = local.person_connects();
    left.leave();
    let to_us = UnixStream::connect(local.bench.path("gateway.sock")).expect("connected");
    let file = std::fs::File::open("/dev/null").expect("opened");
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    for (what, passed) in [
        ("a socketpair", end.as_fd()),
        ("a listener", local.listener.as_fd()),
        ("accepted elsewhere", from_elsewhere.as_fd()),
        ("the connecting end elsewhere", to_elsewhere.as_fd()),
        ("the connecting end here", to_us.as_fd()),
        ("a file", file.as_fd()),
        ("TCP", tcp.as_fd()),
        ("a connection whose client has left", left.accepted.as_fd()),
    ] {
        assert!(matches!(local.ask(ONE, passed).await, Some(Kind::Refused(_))), "{what}");
    }
}

#[tokio::test]
async fn queries_without_one_descriptor_or_a_good_name_are_refused() {
    let local = local(|_| ()).await;
    let client = local.person_connects();
    let query = wire::PeerQuery { connection: ONE.into(), whose: false }.encode_to_vec();

    let socket = local.peer_socket();
    send(&socket, &query, SendFlags::NOSIGNAL).expect("sent");
    assert!(matches!(answer(socket).await, Some(Kind::Refused(_))), "none");

    let socket = local.peer_socket();
    let two = [client.accepted.as_fd(), client.accepted.as_fd()];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&two)));
    sendmsg(&socket, &[std::io::IoSlice::new(&query)], &mut control, SendFlags::NOSIGNAL).expect("sent");
    assert!(matches!(answer(socket).await, Some(Kind::Refused(_))), "two");

    for name in ["", "x", &"y".repeat(600)] {
        assert!(matches!(local.ask(name, &client.accepted).await, Some(Kind::Refused(_))), "{name}");
    }
    let socket = local.peer_socket();
    assert_eq!(answer(socket).await, None, "a silent peer is closed");
    // And none of it did any harm.
    local.handle(ONE, &client.accepted).await;
}

#[tokio::test]
async fn whose_a_connection_is_is_told_for_counting_and_opens_nothing() {
    let local = local(|_| ()).await;
    let client = local.person_connects();
    let query = wire::PeerQuery { connection: ONE.into(), whose: true };
    match local.query(&query, &client.accepted).await {
        Some(Kind::Uid(uid)) => assert_eq!(uid, person()),
        other => panic!("{other:?}"),
    }
    // As little is believed of what is passed as for a login.
    let (end, _other) = UnixStream::pair().expect("a pair");
    assert!(matches!(local.query(&query, &end).await, Some(Kind::Refused(_))));
    let nameless = wire::PeerQuery { connection: String::new(), whose: true };
    assert!(matches!(local.query(&nameless, &client.accepted).await, Some(Kind::Refused(_))));
}

#[tokio::test]
async fn nobody_but_the_gateway_is_answered() {
    let gateway = Identity { uid: SOMEBODY + 7, gid: Identity::current().gid };
    let bench = Bench::start_for(gateway, users(), |_| ()).await;
    let listener = UnixListener::bind(bench.path("gateway.sock")).expect("bound");
    let local = Local { bench, listener };
    let client = local.own_connects();
    assert_eq!(local.ask(ONE, &client.accepted).await, None);
}

#[tokio::test]
async fn a_local_login_without_a_guard_fails_closed() {
    let bench = Bench::start_for(Identity::current(), users(), |config| config.local_login.uid_min = 1).await;
    let listener = UnixListener::bind(bench.path("gateway.sock")).expect("bound");
    std::fs::set_permissions(bench.path("gateway.sock"), std::fs::Permissions::from_mode(0o777))
        .expect("open");
    std::fs::set_permissions(bench.path(""), std::fs::Permissions::from_mode(0o777)).expect("open");
    let local = Local { bench, listener };
    let client = local.person_connects();
    let handle = local.handle(ONE, &client.accepted).await;
    assert_eq!(code(local.begin(ONE, handle, "alice").await), Code::Unavailable);
}
