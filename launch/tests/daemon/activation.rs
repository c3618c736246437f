//! The sockets that a service manager passes.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
use rustix::process::Signal;

use crate::place::{Place, is_root, text};

/// A daemon with up to two descriptors from 3 on, announced by the pid that it has.
fn pass(
    place: &Place,
    announcement: &str,
    one: OwnedFd,
    other: Option<OwnedFd>,
    arguments: &[&str],
) -> Command {
    let moved = if other.is_some() { "3<&0 4<&1" } else { "3<&0" };
    let script = format!("export {announcement}; exec \"$0\" \"$@\" {moved} </dev/null >/dev/null");
    let mut command = Command::new("sh");
    let daemon = place.command(arguments);
    command.arg("-c").arg(script).arg(daemon.get_program()).args(daemon.get_args());
    command.envs(daemon.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let nothing = || File::open("/dev/null").expect("there").into();
    command
        .current_dir(place.path(""))
        .stdin(one)
        .stdout(other.unwrap_or_else(nothing))
        .stderr(Stdio::piped());
    command
}

fn stream(path: &Path, mode: u32) -> OwnedFd {
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).expect("a new name");
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("set");
    listener.into()
}

fn seqpacket(path: &Path) -> OwnedFd {
    let _ = std::fs::remove_file(path);
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .expect("a socket");
    bind(&socket, &SocketAddrUnix::new(path).expect("short")).expect("a new name");
    listen(&socket, 4).expect("listening");
    socket
}

/// What asks the kernel about sockets, for a daemon that has nothing to ask.
#[cfg(target_os = "linux")]
fn diagnosis() -> OwnedFd {
    let kind = Some(rustix::net::netlink::SOCK_DIAG);
    socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, kind).expect("a socket")
}

pub(crate) fn activated() {
    let place = Place::new();
    let config = place.configure("");
    let socket = stream(&place.path("socket"), 0o666);
    let inode = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(place.path("socket")).expect("there"));
    let again = socket.try_clone().expect("a copy");
    let announcement = "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=door";
    let command = pass(&place, announcement, socket, None, &["-f", "-c", text(&config)]);
    let daemon = place.start_command(command);
    let (status, seen) = place.status();
    let service: u32 = if is_root() { 41_003 } else { rustix::process::geteuid().as_raw() };
    assert_eq!(seen, service, "root listened first, and the service again");
    assert!(status.line("Uid").starts_with(&service.to_string()));
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().0, Some(0));
    // The name is the manager's: it stays, and the next one gets the same socket.
    let there = std::fs::metadata(place.path("socket")).expect("it stays");
    assert_eq!(std::os::unix::fs::MetadataExt::ino(&there), inode);
    assert_eq!(place.told(), "STOPPING=1\n");
    let command = pass(&place, announcement, again, None, &["-f", "-c", text(&config)]);
    let daemon = place.start_command(command);
    assert_eq!(place.status().1, service);
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().0, Some(0));
}

pub(crate) fn activation_does_not_fit() {
    let place = Place::new();
    let config = place.configure("");
    let config = text(&config);
    let path = place.path("socket");
    // Made when its turn comes: several are made under the same name.
    let good = || stream(&path, 0o666);
    let wide = || stream(&path, 0o777);
    let packets = || seqpacket(&path);
    let one = "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=door";
    let two = "LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=door:stray";
    let stray = || stream(&place.path("stray"), 0o666);
    let file = || File::open("/dev/null").expect("there").into();
    let datagram = || std::os::unix::net::UnixDatagram::bind(place.path("datagram")).expect("bound").into();
    type Make<'a> = &'a dyn Fn() -> OwnedFd;
    type Row<'a> = (&'a str, Make<'a>, Option<Make<'a>>, &'a str);
    let foreground: &[&str] = &["-f", "-c", config];
    let rows: Vec<Row<'_>> = vec![
        (one, &stray, None, "passed sockets, but none at "),
        (one, &packets, None, "the socket unit needs ListenStream="),
        (two, &good, Some(&stray), "('stray') that the configuration does not name"),
        #[cfg(target_os = "linux")]
        (two, &good, Some(&diagnosis), "netlink inet-diag ('stray') that the configuration does not name"),
        (one, &file, None, "passed as 'door' is no socket"),
        (one, &datagram, None, "passed as 'door' does not listen"),
        (one, &wide, None, "wider than 0666"),
        ("LISTEN_PID=$$ LISTEN_FDS=x", &good, None, "LISTEN_FDS is no number"),
        ("LISTEN_PID=$$ LISTEN_FDS=9", &good, None, "announced 9 sockets, but descriptor 4 is not open"),
    ];
    for (announcement, first, second, word) in rows {
        let second = second.map(|make| make());
        let output = pass(&place, announcement, first(), second, foreground).output().expect("ran");
        let said = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(1), "{word}: {said}");
        assert!(said.contains(word), "{word}: {said}");
    }
    // In the background it would be another process.
    let log = place.path("log");
    let config = place.configure(&format!("[log]\nfile = {log:?}"));
    let output = pass(&place, one, good(), None, &["-c", text(&config)]).output().expect("ran");
    let said = String::from_utf8(output.stderr).expect("text");
    assert!(said.contains("stay in the foreground"), "{said}");
    // What is meant for another process is left alone: the daemon binds its own.
    let config = place.configure("");
    std::fs::remove_file(&path).expect("removed");
    let command = pass(&place, "LISTEN_PID=1 LISTEN_FDS=1", stray(), None, &["-f", "-c", text(&config)]);
    let daemon = place.start_command(command);
    place.status();
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().0, Some(0));
}
