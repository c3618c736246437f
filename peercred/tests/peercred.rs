//! The kernel's answers, from real sockets.

use std::fs::File;
use std::io::{self, ErrorKind, IoSlice};
use std::mem::MaybeUninit;
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;

use doorward_peercred::{
    Diagnosis, Listeners, PassedSocket, Unfit, recv_one_descriptor, send_with_descriptor, uid_of_peer,
};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg,
    socketpair,
};

/// Past the harness's capture; a failure where no test may be skipped.
fn skip(why: &str) {
    assert!(
        std::env::var_os("DOORWARD_NO_SKIP").is_none(),
        "skipped although DOORWARD_NO_SKIP is set: {why}"
    );
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("SKIPPED: {why}\n").as_bytes());
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// A listener in a directory of its own.
struct Door {
    _directory: tempfile::TempDir,
    path: PathBuf,
    listener: UnixListener,
}

impl Door {
    fn new() -> Door {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("door.sock");
        let listener = UnixListener::bind(&path).expect("bound");
        Door { _directory: directory, path, listener }
    }

    /// Both ends of a connection: the client's and the accepted one.
    fn connection(&self) -> (UnixStream, UnixStream) {
        let client = UnixStream::connect(&self.path).expect("connected");
        let (accepted, _) = self.listener.accept().expect("accepted");
        (client, accepted)
    }

    fn examine(&self, descriptor: impl Into<OwnedFd>) -> Result<PassedSocket, Unfit> {
        let listeners =
            Listeners { unix: self.path.clone(), tcp: None, kernel: Diagnosis::of_this_namespace() };
        PassedSocket::examine(descriptor.into(), &listeners)
    }
}

fn packets() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("a pair")
}

fn send_many(socket: &OwnedFd, message: &[u8], descriptors: &[&dyn AsFdObject]) {
    let descriptors: Vec<_> = descriptors.iter().map(|fd| fd.fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    sendmsg(socket, &[IoSlice::new(message)], &mut control, SendFlags::empty()).expect("sent");
}

/// `AsFd` for a list of different things.
trait AsFdObject {
    fn fd(&self) -> std::os::fd::BorrowedFd<'_>;
}

impl<T: AsFd> AsFdObject for T {
    fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.as_fd()
    }
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/dev/fd").expect("a directory of descriptors").count()
}

#[test]
fn an_accepted_connection_is_its_clients() {
    let door = Door::new();
    let (_client, accepted) = door.connection();
    match door.examine(accepted).expect("fit") {
        PassedSocket::Unix { uid } => assert_eq!(uid, own_uid()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_connection_that_the_sender_made_itself_is_refused() {
    // Seen from the side that connected, the kernel names the user who listens: a gateway that
    // connects to a socket of somebody's and passes its own end must not become that somebody.
    let (door, of_somebody) = (Door::new(), Door::new());
    let (made, _accepted) = of_somebody.connection();
    assert_eq!(uid_of_peer(&made).expect("the kernel answers"), own_uid());
    assert!(matches!(door.examine(made), Err(Unfit::NotAccepted)));
    // Not even to the right door.
    let (made, _accepted) = door.connection();
    assert!(matches!(door.examine(made), Err(Unfit::NotAccepted)));
}

#[test]
fn a_connection_whose_client_has_gone_is_refused() {
    // Whoever keeps the accepted end could be its user for ever.
    let door = Door::new();
    let (client, accepted) = door.connection();
    // Also for what another test has just forked.
    client.shutdown(std::net::Shutdown::Both).expect("shut");
    drop(client);
    assert_eq!(uid_of_peer(&accepted).expect("the kernel still answers"), own_uid());
    assert!(matches!(door.examine(accepted), Err(Unfit::HungUp)));
}

#[test]
fn a_client_that_has_finished_writing_is_still_there() {
    let door = Door::new();
    let (client, accepted) = door.connection();
    client.shutdown(std::net::Shutdown::Write).expect("shut");
    door.examine(accepted).expect("fit");
}

#[test]
fn a_connection_accepted_from_another_listener_is_refused() {
    let (door, other) = (Door::new(), Door::new());
    let (_client, accepted) = other.connection();
    assert!(matches!(door.examine(accepted), Err(Unfit::NotAccepted)));
}

#[test]
fn a_listener_that_was_renamed_is_still_the_one() {
    let mut door = Door::new();
    let renamed = door.path.with_file_name("final.sock");
    std::fs::rename(&door.path, &renamed).expect("renamed");
    door.path = renamed;
    let (_client, accepted) = door.connection();
    door.examine(accepted).expect("fit");
}

#[test]
fn a_pair_is_refused_on_linux_as_nobody_accepted_it() {
    let (one, _other) = UnixStream::pair().expect("a pair");
    assert!(matches!(Door::new().examine(one), Err(Unfit::NotAccepted)));
}

#[test]
fn an_unconnected_socket_is_refused() {
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).expect("a socket");
    assert!(uid_of_peer(&socket).is_err(), "nobody is at the other end");
    assert!(Door::new().examine(socket).is_err());
}

#[test]
fn what_is_no_socket_is_refused() {
    let door = Door::new();
    let directory = tempfile::tempdir().expect("a directory");
    let file = File::create(directory.path().join("file")).expect("a file");
    let (pipe, _writer) = std::io::pipe().expect("a pipe");
    let null = File::open("/dev/null").expect("a device");
    let path = File::open(directory.path()).expect("a directory");
    for descriptor in [OwnedFd::from(file), pipe.into(), null.into(), path.into()] {
        assert!(matches!(door.examine(descriptor), Err(Unfit::NotASocket)));
    }
}

#[test]
fn a_listening_socket_is_refused() {
    let door = Door::new();
    let listener = door.listener.try_clone().expect("a copy");
    assert!(matches!(door.examine(listener), Err(Unfit::Listening)));
    let tcp = TcpListener::bind("127.0.0.1:0").expect("bound");
    assert!(matches!(door.examine(tcp), Err(Unfit::Listening)));
}

#[test]
fn what_is_no_stream_is_refused() {
    let door = Door::new();
    let (packet, _other) = packets();
    let (datagram, _peer) = UnixDatagram::pair().expect("a pair");
    let udp = UdpSocket::bind("127.0.0.1:0").expect("bound");
    for descriptor in [packet, datagram.into(), udp.into()] {
        assert!(matches!(door.examine(descriptor), Err(Unfit::NotStream)));
    }
}

#[test]
fn tcp_is_refused_where_it_is_not_asked_for() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
    assert!(matches!(Door::new().examine(client), Err(Unfit::Family(_))));
}

#[test]
fn the_descriptor_is_closed_and_the_connection_goes_on() {
    use std::io::{Read, Write};
    let door = Door::new();
    let (mut client, mut accepted) = door.connection();
    door.examine(accepted.try_clone().expect("a copy")).expect("fit");
    client.write_all(b"still here").expect("written");
    drop(client);
    let mut text = String::new();
    accepted.read_to_string(&mut text).expect("read");
    assert_eq!(text, "still here");
}

#[test]
fn one_descriptor_arrives_with_its_message() {
    let door = Door::new();
    let (_client, accepted) = door.connection();
    let (sender, receiver) = packets();
    assert_eq!(send_with_descriptor(&sender, b"whose?", accepted.as_fd()).expect("sent"), 6);
    drop(accepted);
    let mut buffer = [0; 16];
    let (length, descriptor) = recv_one_descriptor(&receiver, &mut buffer).expect("received");
    assert_eq!(&buffer[..length], b"whose?");
    assert!(rustix::io::fcntl_getfd(&descriptor).expect("flags").contains(rustix::io::FdFlags::CLOEXEC));
    door.examine(descriptor).expect("fit");
}

#[test]
fn any_other_number_of_descriptors_is_refused() {
    let null = File::open("/dev/null").expect("a device");
    for count in [0, 2, 3, 4, 5, 8] {
        let (sender, receiver) = packets();
        let list: Vec<&dyn AsFdObject> = (0..count).map(|_| &null as &dyn AsFdObject).collect();
        if count == 0 {
            rustix::net::send(&sender, b"x", SendFlags::empty()).expect("sent");
        } else {
            send_many(&sender, b"x", &list);
        }
        let error = recv_one_descriptor(&receiver, &mut [0; 16]).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{count}: {error}");
    }
}

#[test]
fn a_message_larger_than_the_buffer_is_refused() {
    let (sender, receiver) = packets();
    let null = File::open("/dev/null").expect("a device");
    send_with_descriptor(&sender, &[7; 17], null.as_fd()).expect("sent");
    let error = recv_one_descriptor(&receiver, &mut [0; 16]).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    send_with_descriptor(&sender, &[7; 16], null.as_fd()).expect("sent");
    assert_eq!(recv_one_descriptor(&receiver, &mut [0; 16]).expect("received").0, 16);
}

#[test]
fn the_end_of_the_other_side_is_an_end_of_file() {
    let (sender, receiver) = packets();
    drop(sender);
    let error = recv_one_descriptor(&receiver, &mut [0; 16]).expect_err("nothing");
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn sending_to_nobody_is_an_error_and_no_signal() {
    let (sender, receiver) = packets();
    // Also for what another test has just forked.
    rustix::net::shutdown(&receiver, rustix::net::Shutdown::Both).expect("shut");
    drop(receiver);
    let null = File::open("/dev/null").expect("a device");
    let error = send_with_descriptor(&sender, b"x", null.as_fd()).expect_err("nobody");
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
}

/// In a process of its own, as the descriptors of a process are shared by its tests.
#[test]
fn refused_descriptors_are_closed() {
    if std::env::var_os("DOORWARD_COUNTS_DESCRIPTORS").is_none() {
        let program = std::env::current_exe().expect("this program");
        let status = std::process::Command::new(program)
            .args(["--exact", "refused_descriptors_are_closed", "--test-threads=1"])
            .env("DOORWARD_COUNTS_DESCRIPTORS", "1")
            .status()
            .expect("started");
        assert!(status.success());
        return;
    }
    let null = File::open("/dev/null").expect("a device");
    let (sender, receiver) = packets();
    let before = open_descriptors();
    for count in 2..=8 {
        let list: Vec<&dyn AsFdObject> = (0..count).map(|_| &null as &dyn AsFdObject).collect();
        send_many(&sender, b"x", &list);
        recv_one_descriptor(&receiver, &mut [0; 16]).expect_err("refused");
    }
    assert_eq!(open_descriptors(), before);
}

#[cfg(target_os = "linux")]
mod tcp {
    use super::*;
    use doorward_peercred::{Owner, TcpState};

    fn tcp_owner(local: SocketAddr, peer: SocketAddr) -> io::Result<Option<Owner>> {
        Diagnosis::of_this_namespace().tcp_owner(local, peer)
    }

    /// Connects to a listener there and asks for the client.
    fn owner_of_client(listen: &str, connect: impl Fn(u16) -> SocketAddr) {
        let listener = match TcpListener::bind(listen) {
            Ok(listener) => listener,
            Err(error) if listen.starts_with('[') => {
                return skip(&format!("no IPv6 on this machine: {error}"));
            }
            Err(error) => panic!("{error}"),
        };
        let port = listener.local_addr().expect("an address").port();
        let client = TcpStream::connect(connect(port)).expect("connected");
        let (accepted, peer) = listener.accept().expect("accepted");
        let local = accepted.local_addr().expect("an address");
        let owner = tcp_owner(local, peer).expect("the kernel answers").expect("somebody has it");
        assert_eq!(owner.uid, own_uid());
        assert_eq!(owner.state, TcpState::Established);
        assert_eq!(u64::from(owner.inode), rustix::fs::fstat(&client).expect("a socket").st_ino);
        assert_eq!(owner.cookie, rustix::net::sockopt::socket_cookie(&client).expect("a cookie"));
    }

    #[test]
    fn the_client_is_found_over_ipv4() {
        owner_of_client("127.0.0.1:0", |port| ([127, 0, 0, 1], port).into());
    }

    #[test]
    fn the_client_is_found_over_ipv6() {
        owner_of_client("[::1]:0", |port| (Ipv6Addr::LOCALHOST, port).into());
    }

    #[test]
    fn the_ipv4_client_of_a_dual_stack_listener_is_found() {
        owner_of_client("[::]:0", |port| ([127, 0, 0, 1], port).into());
    }

    #[test]
    fn the_ipv6_socket_of_an_ipv4_client_is_found() {
        owner_of_client("127.0.0.1:0", |port| (std::net::Ipv4Addr::LOCALHOST.to_ipv6_mapped(), port).into());
    }

    #[test]
    fn a_connection_that_nobody_has_is_nobodys() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let local = listener.local_addr().expect("an address");
        // Nobody connected from there; the kernel must not answer with the listener.
        for peer in [SocketAddr::from(([127, 0, 0, 1], 1)), SocketAddr::from(([127, 1, 2, 3], local.port()))]
        {
            assert_eq!(tcp_owner(local, peer).expect("the kernel answers"), None);
        }
        // Asked the wrong way round the listener would fit.
        assert_eq!(tcp_owner(([127, 0, 0, 1], 1).into(), local).expect("the kernel answers"), None);
    }

    #[test]
    fn a_client_that_closed_is_nobody() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
        let (accepted, peer) = listener.accept().expect("accepted");
        let local = accepted.local_addr().expect("an address");
        drop(client);
        // What is left of it has no inode, and would show uid 0.
        assert_eq!(tcp_owner(local, peer).expect("the kernel answers"), None);
    }

    #[test]
    fn addresses_of_two_families_are_refused() {
        let error = tcp_owner("127.0.0.1:1".parse().expect("v4"), "[::1]:2".parse().expect("v6"));
        assert_eq!(error.expect_err("refused").kind(), ErrorKind::InvalidInput);
    }
}

/// The same with users that differ, which takes root.
#[cfg(target_os = "linux")]
mod as_root {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};

    const ALICE: u32 = 41_001;

    /// This test binary again, as another user, in the role that the environment names.
    fn play(role: &str, uid: u32, path: &std::path::Path) -> Child {
        Command::new("/proc/self/exe")
            .args([
                "--exact",
                "as_root::a_role_in_another_test",
                "--ignored",
                "--test-threads=1",
                "--nocapture",
            ])
            .env("DOORWARD_ROLE", role)
            .env("DOORWARD_DOOR", path)
            .uid(uid)
            .gid(uid)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started")
    }

    #[test]
    #[ignore = "a role that the tests below start"]
    fn a_role_in_another_test() {
        use std::io::{Read, Write};
        let Some(role) = std::env::var_os("DOORWARD_ROLE") else { return };
        let path = std::env::var_os("DOORWARD_DOOR").expect("a path");
        let told_to_end = || {
            println!("\nREADY");
            std::io::stdout().flush().expect("written");
            let _ = std::io::stdin().read(&mut [0]);
        };
        match role.to_str() {
            Some("connect") => {
                let _stream = UnixStream::connect(path).expect("connected");
                told_to_end();
            }
            Some("listen") => {
                let _listener = UnixListener::bind(&path).expect("bound");
                std::fs::set_permissions(&path, PermissionsExt::from_mode(0o777)).expect("open to all");
                told_to_end();
            }
            other => panic!("{other:?}"),
        }
    }

    fn wait_until_ready(child: &mut Child) {
        use std::io::{BufRead, BufReader};
        let stdout = child.stdout.as_mut().expect("piped");
        assert!(BufReader::new(stdout).lines().any(|line| line.expect("text") == "READY"));
    }

    fn is_root() -> bool {
        let root = own_uid() == 0;
        if !root {
            skip("this test takes root");
        }
        root
    }

    #[test]
    fn another_user_who_connects_is_named() {
        if !is_root() {
            return;
        }
        let door = Door::new();
        std::fs::set_permissions(door.path.parent().expect("a directory"), PermissionsExt::from_mode(0o755))
            .expect("open");
        std::fs::set_permissions(&door.path, PermissionsExt::from_mode(0o666)).expect("open");
        let mut alice = play("connect", ALICE, &door.path);
        let (accepted, _) = door.listener.accept().expect("accepted");
        wait_until_ready(&mut alice);
        match door.examine(accepted).expect("fit") {
            PassedSocket::Unix { uid } => assert_eq!(uid, ALICE),
            other => panic!("{other:?}"),
        }
        drop(alice.stdin.take());
        assert!(alice.wait().expect("ended").success());
    }

    #[test]
    fn a_user_who_listens_somewhere_cannot_be_impersonated() {
        if !is_root() {
            return;
        }
        let door = Door::new();
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o777)).expect("open");
        let path = directory.path().join("alice.sock");
        let mut alice = play("listen", ALICE, &path);
        wait_until_ready(&mut alice);
        let made = UnixStream::connect(&path).expect("connected");
        // This is what an evil gateway would have passed.
        assert_eq!(uid_of_peer(&made).expect("the kernel answers"), ALICE);
        assert!(matches!(door.examine(made), Err(Unfit::NotAccepted)));
        drop(alice.stdin.take());
        assert!(alice.wait().expect("ended").success());
    }
}
