//! Sockets that the service manager opened for us (systemd's socket activation).
//!
//! They come as descriptors from 3 on, announced by LISTEN_FDS for the process LISTEN_PID. Which is which
//! the kernel says: each must be a listening socket of the type and at the address that the configuration
//! names, so a unit and a configuration that disagree are refused and not guessed about. Beside these there
//! may be a socket of netlink, which no configuration names: `ListenNetlink=inet-diag`.

use std::env;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use nix::sys::socket::{ControlMessage, MsgFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrAny, SocketAddrUnix,
    SocketFlags, SocketType, sockopt,
};

use super::SocketError;

/// The first one, by the protocol.
const FIRST: RawFd = 3;
/// More than any daemon listens on.
const MOST: usize = 64;

/// What a daemon listens on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    Path(PathBuf),
    Network(SocketAddr),
    /// Asks the kernel about sockets (sock_diag(7)).
    SocketDiagnosis,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Path(path) => path.display().fmt(f),
            Address::Network(address) => address.fmt(f),
            Address::SocketDiagnosis => f.write_str("netlink inet-diag"),
        }
    }
}

/// One socket that was passed.
#[derive(Debug)]
pub(super) struct Inherited {
    pub(super) fd: OwnedFd,
    pub(super) kind: SocketType,
    pub(super) address: Address,
    /// As the manager calls it, for people.
    pub(super) name: String,
}

/// What the environment says: how many, and their names.
#[derive(Debug, PartialEq, Eq)]
struct Announced(Vec<String>);

/// How many sockets were passed to this very process. None by an announcement that cannot be right: its
/// descriptors are nobody's, and the start fails at it.
pub(crate) fn passed() -> i32 {
    let announced = announcement().ok().flatten();
    announced.and_then(|Announced(names)| i32::try_from(names.len()).ok()).unwrap_or(0)
}

/// Takes over what was passed. None: nothing was, and the daemon binds its own.
pub(super) fn take() -> Result<Option<Vec<Inherited>>, SocketError> {
    let Some(Announced(names)) = announcement()? else { return Ok(None) };
    let named = names.into_iter().zip(FIRST..);
    named
        .map(|(name, raw)| adopt(raw, &name).and_then(|fd| examine(fd, name)))
        .collect::<Result<_, _>>()
        .map(Some)
}

fn announcement() -> Result<Option<Announced>, SocketError> {
    let read = |name| env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    announced(
        read("LISTEN_PID").as_deref(),
        read("LISTEN_FDS").as_deref(),
        read("LISTEN_FDNAMES").as_deref(),
        std::process::id(),
    )
}

/// Judges the environment. What is meant for another process is no business of ours: the variables
/// of a service manager are inherited by everything below it.
fn announced(
    pid: Option<&str>,
    count: Option<&str>,
    names: Option<&str>,
    own: u32,
) -> Result<Option<Announced>, SocketError> {
    let wrong = |what: &str| SocketError::Activation(format!("{what}: the service manager is broken"));
    let (Some(pid), Some(count)) = (pid, count) else { return Ok(None) };
    if pid.parse::<u32>().map_err(|_| wrong("LISTEN_PID is no number"))? != own {
        return Ok(None);
    }
    let count: usize = count.parse().map_err(|_| wrong("LISTEN_FDS is no number"))?;
    if count > MOST {
        return Err(wrong("LISTEN_FDS says more than 64"));
    }
    let mut names: Vec<String> = names
        .filter(|names| !names.is_empty())
        .map_or_else(Vec::new, |n| n.split(':').map(str::to_owned).collect());
    if names.len() > count || (names.len() < count && !names.is_empty()) {
        return Err(wrong("LISTEN_FDNAMES does not fit LISTEN_FDS"));
    }
    names.resize(count, "unknown".to_owned());
    Ok((count > 0).then_some(Announced(names)))
}

/// An owned, close-on-exec descriptor in place of a number. Sent to ourselves, because the kernel checks
/// the number on the way, where taking it on trust is unsafe.
fn adopt(raw: RawFd, name: &str) -> Result<OwnedFd, SocketError> {
    let moved = (|| -> io::Result<OwnedFd> {
        let (one, other) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        nix::sys::socket::sendmsg::<()>(
            one.as_raw_fd(),
            &[IoSlice::new(b".")],
            &[ControlMessage::ScmRights(&[raw])],
            MsgFlags::empty(),
            None,
        )?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let mut buffers = [IoSliceMut::new(&mut byte)];
        rustix::net::recvmsg(&other, &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let passed = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut passed) => passed.next(),
            _ => None,
        });
        nix::unistd::close(raw)?;
        passed.ok_or_else(|| io::ErrorKind::InvalidData.into())
    })();
    moved.map_err(|source| SocketError::Io {
        at: format!("descriptor {raw} ('{name}')"),
        what: "cannot take it over from the service manager",
        source,
    })
}

fn examine(fd: OwnedFd, name: String) -> Result<Inherited, SocketError> {
    let wrong =
        |what: &str| SocketError::Activation(format!("what the service manager passed as '{name}' {what}"));
    let kind = sockopt::socket_type(&fd).map_err(|_| wrong("is no socket"))?;
    if is_for_diagnosis(&fd) {
        return Ok(Inherited { fd, kind, address: Address::SocketDiagnosis, name });
    }
    let listening = sockopt::socket_acceptconn(&fd).map_err(|_| wrong("does not say whether it listens"))?;
    if !listening {
        return Err(wrong(
            "does not listen: the socket unit needs Accept=no and Listen*= of a connection type",
        ));
    }
    let address = address(&fd).map_err(|_| wrong("has no address"))?;
    let address = address.ok_or_else(|| wrong("is neither TCP nor a Unix socket with a path"))?;
    if matches!(address, Address::Network(SocketAddr::V6(_)))
        && !sockopt::ipv6_v6only(&fd).map_err(|_| wrong("does not say what it listens to"))?
    {
        // A peer's address has one form only.
        return Err(wrong("takes IPv4 too: the socket unit needs BindIPv6Only=ipv6-only"));
    }
    rustix::io::ioctl_fionbio(&fd, true).map_err(|_| wrong("cannot be made non-blocking"))?;
    Ok(Inherited { fd, kind, address, name })
}

#[cfg(target_os = "linux")]
fn is_for_diagnosis(fd: impl AsFd) -> bool {
    let diagnosis = Some(rustix::net::netlink::SOCK_DIAG);
    sockopt::socket_domain(&fd) == Ok(AddressFamily::NETLINK)
        && sockopt::socket_protocol(&fd) == Ok(diagnosis)
}

/// There is no netlink of Linux's.
#[cfg(not(target_os = "linux"))]
fn is_for_diagnosis(_: impl AsFd) -> bool {
    false
}

fn address(fd: impl AsFd) -> rustix::io::Result<Option<Address>> {
    let any: SocketAddrAny = rustix::net::getsockname(fd)?;
    if let Ok(network) = SocketAddr::try_from(any.clone()) {
        return Ok(Some(Address::Network(network)));
    }
    let path = SocketAddrUnix::try_from(any).ok().and_then(|unix| {
        use std::os::unix::ffi::OsStrExt;
        unix.path_bytes().map(|bytes| Path::new(std::ffi::OsStr::from_bytes(bytes)).to_owned())
    });
    Ok(path.filter(|path| path.is_absolute()).map(Address::Path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    fn say(pid: &str, count: &str, names: Option<&str>) -> Result<Option<Announced>, String> {
        announced(Some(pid), Some(count), names, 7).map_err(|error| error.to_string())
    }

    fn names(names: &[&str]) -> Result<Option<Announced>, String> {
        Ok(Some(Announced(names.iter().map(|name| (*name).to_owned()).collect())))
    }

    #[test]
    fn only_what_is_meant_for_this_process_is_taken() {
        assert_eq!(say("7", "2", Some("a:b")), names(&["a", "b"]));
        assert_eq!(say("7", "2", None), names(&["unknown", "unknown"]));
        assert_eq!(say("7", "1", Some("")), names(&["unknown"]));
        assert_eq!(say("8", "2", Some("a:b")), Ok(None));
        assert_eq!(say("7", "0", None), Ok(None));
        assert!(matches!(announced(None, Some("1"), None, 7), Ok(None)));
        assert!(matches!(announced(Some("7"), None, None, 7), Ok(None)));
    }

    #[test]
    fn a_broken_announcement_is_refused() {
        for (pid, count, names) in [
            ("x", "1", None),
            ("", "1", None),
            ("-7", "1", None),
            ("7", "x", None),
            ("7", "-1", None),
            ("7", "65", None),
            ("7", "99999999999999999999", None),
            ("7", "2", Some("a")),
            ("7", "1", Some("a:b")),
        ] {
            assert!(say(pid, count, names).is_err(), "{pid} {count} {names:?}");
        }
    }

    fn judged(fd: impl Into<OwnedFd>) -> Result<Inherited, String> {
        examine(fd.into(), "x".to_owned()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_does_not_listen_at_an_address_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = std::fs::File::open("/dev/null").expect("there");
        let (one, _other) = UnixStream::pair().expect("a pair");
        let datagram = UnixDatagram::bind(directory.path().join("d")).expect("bound");
        for (fd, word) in [
            (OwnedFd::from(file), "is no socket"),
            (one.into(), "does not listen"),
            (datagram.into(), "does not listen"),
        ] {
            let error = judged(fd).expect_err("refused");
            assert!(error.contains("'x'") && error.contains(word), "{error}");
        }
    }

    #[test]
    fn the_kernel_says_what_it_is() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("s");
        let unix = judged(UnixListener::bind(&path).expect("bound")).expect("good");
        assert_eq!((unix.kind, unix.address), (SocketType::STREAM, Address::Path(path)));
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = tcp.local_addr().expect("an address");
        let tcp = judged(tcp).expect("good");
        assert_eq!((tcp.kind, tcp.address), (SocketType::STREAM, Address::Network(address)));
        let flags = rustix::fs::fcntl_getfl(&tcp.fd).expect("flags");
        assert!(flags.contains(rustix::fs::OFlags::NONBLOCK));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn of_netlink_only_what_asks_about_sockets_is_taken() {
        use rustix::net::netlink;
        let made = |protocol| {
            let kind = SocketType::RAW;
            rustix::net::socket_with(AddressFamily::NETLINK, kind, SocketFlags::CLOEXEC, Some(protocol))
        };
        let asks = judged(made(netlink::SOCK_DIAG).expect("a socket")).expect("good");
        assert_eq!(asks.address, Address::SocketDiagnosis);
        let error = judged(made(netlink::KOBJECT_UEVENT).expect("a socket")).expect_err("refused");
        assert!(error.contains("does not listen"), "{error}");
    }

    #[test]
    fn a_socket_for_both_families_is_refused() {
        match std::net::TcpListener::bind("[::]:0") {
            Ok(both) => {
                let error = judged(both).expect_err("refused");
                assert!(error.contains("BindIPv6Only"), "{error}");
            }
            Err(error) => crate::skip::because(&format!("no IPv6: {error}")),
        }
    }

    #[test]
    fn a_number_becomes_a_descriptor_that_is_closed_on_exec() {
        use std::os::fd::IntoRawFd;
        let raw = std::fs::File::open("/dev/null").expect("there").into_raw_fd();
        let fd = adopt(raw, "x").expect("taken over");
        let flags = rustix::io::fcntl_getfd(&fd).expect("flags");
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        let error = adopt(987_654, "x").expect_err("there is none").to_string();
        assert!(error.contains("987654") && error.contains("'x'"), "{error}");
    }
}
