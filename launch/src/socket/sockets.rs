//! All sockets of one daemon: bound by itself, or all of them passed by the service manager.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, statat};
use rustix::net::SocketType;

use super::inherited::{self, Address, Inherited};
use super::{Bound, Owner, Place, SocketError, bind_seqpacket, bind_stream, bind_tcp, failed, tcp};
use crate::directory;

/// Where a daemon gets its sockets. A daemon to which the service manager passed some binds none.
#[derive(Debug, Default)]
pub struct Sockets {
    passed: Option<Vec<Inherited>>,
}

impl Sockets {
    /// Those that the service manager passed, or else none yet.
    pub(crate) fn of_this_process() -> Result<Sockets, SocketError> {
        Ok(Sockets { passed: inherited::take()? })
    }

    /// A stream socket at a path; see [`bind_stream`].
    pub fn stream(&mut self, path: &Path, mode: u32, owner: Owner) -> Result<Bound, SocketError> {
        match &mut self.passed {
            None => bind_stream(path, mode, owner),
            Some(passed) => claim_path(passed, SocketType::STREAM, path, mode),
        }
    }

    /// A SEQPACKET socket at a path; see [`bind_seqpacket`].
    pub fn seqpacket(&mut self, path: &Path, mode: u32, owner: Owner) -> Result<Bound, SocketError> {
        match &mut self.passed {
            None => bind_seqpacket(path, mode, owner),
            Some(passed) => claim_path(passed, SocketType::SEQPACKET, path, mode),
        }
    }

    /// A TCP socket; see [`bind_tcp`]. None, and a warning, for all addresses of IPv6 (`[::]`) where the kernel has no IPv6:
    /// service managers pass no such socket there either.
    pub fn tcp(&mut self, address: SocketAddr) -> Result<Option<Bound>, SocketError> {
        self.tcp_where(address, tcp::kernel_has_ipv6)
    }

    fn tcp_where(
        &mut self,
        address: SocketAddr,
        has_ipv6: impl FnOnce() -> bool,
    ) -> Result<Option<Bound>, SocketError> {
        let passed = self.passed.iter().flatten().any(|socket| socket.address == Address::Network(address));
        if !passed && is_dispensable(address, has_ipv6) {
            tracing::warn!(%address, "left out: this kernel has no IPv6");
            return Ok(None);
        }
        let bound = match &mut self.passed {
            None => bind_tcp(address),
            Some(passed) => claim(passed, SocketType::STREAM, Address::Network(address)),
        };
        bound.map(Some)
    }

    /// The socket of netlink that asks the kernel about sockets (sock_diag(7)), if the service manager made one:
    /// about those of the network namespace in which it made it, which need not be this process's.
    pub fn socket_diagnosis(&mut self) -> Option<OwnedFd> {
        let passed = self.passed.as_mut()?;
        let at = passed.iter().position(|socket| socket.address == Address::SocketDiagnosis)?;
        Some(passed.swap_remove(at).fd)
    }

    /// Nothing may be left: it would take connections that nobody ever answers.
    pub(crate) fn finish(self) -> Result<(), SocketError> {
        match self.passed.unwrap_or_default().first() {
            None => Ok(()),
            Some(Inherited { address, name, .. }) => Err(SocketError::Activation(format!(
                "the service manager passed a socket at {address} ('{name}') that the configuration does not \
                 name: take it out of the socket unit, or name it in the configuration"
            ))),
        }
    }
}

fn is_dispensable(address: SocketAddr, has_ipv6: impl FnOnce() -> bool) -> bool {
    address.ip() == IpAddr::from(Ipv6Addr::UNSPECIFIED) && !has_ipv6()
}

fn claim(passed: &mut Vec<Inherited>, kind: SocketType, wanted: Address) -> Result<Bound, SocketError> {
    let word = if kind == SocketType::SEQPACKET { "ListenSequentialPacket" } else { "ListenStream" };
    let Some(at) = passed.iter().position(|socket| socket.address == wanted) else {
        return Err(SocketError::Activation(format!(
            "the service manager passed sockets, but none at {wanted}: add {word}={wanted} to the socket unit \
             and restart that unit, or take it out of the configuration"
        )));
    };
    let Inherited { fd, kind: found, name, .. } = passed.swap_remove(at);
    if found != kind {
        return Err(SocketError::Activation(format!(
            "the socket at {wanted} ('{name}') is of another type: the socket unit needs {word}={wanted}"
        )));
    }
    let place = match wanted {
        Address::Path(path) => Place::Path(path),
        Address::Network(address) => Place::Address(address),
        Address::SocketDiagnosis => {
            return Err(SocketError::Activation(format!("'{name}' is nothing to listen on")));
        }
    };
    Ok(Bound { fd, place })
}

/// Its file must be as closed as one of our own, where nobody else can put another in its place.
fn claim_path(
    passed: &mut Vec<Inherited>,
    kind: SocketType,
    path: &Path,
    mode: u32,
) -> Result<Bound, SocketError> {
    let bound = claim(passed, kind, Address::Path(path.to_owned()))?;
    let (parent, name) = directory::split(path)?;
    let directory = directory::open_trusted(parent)?;
    let stat = statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(failed(path.display(), "cannot examine the socket"))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
        return Err(SocketError::Occupied(path.to_owned()));
    }
    let found = directory::mode_of(&stat);
    let allowed = Mode::from_raw_mode(mode as _);
    if found.intersects((Mode::RWXU | Mode::RWXG | Mode::RWXO).difference(allowed)) {
        return Err(SocketError::Activation(format!(
            "{} has mode {:04o}, wider than {mode:04o}: the socket unit needs SocketMode={mode:04o}",
            path.display(),
            found.bits() & 0o7777,
        )));
    }
    Ok(bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_was_passed_is_taken_whatever_this_process_may_make() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let all: SocketAddr = "[::]:12150".parse().expect("an address");
        let socket = Inherited {
            fd: listener.into(),
            kind: SocketType::STREAM,
            address: Address::Network(all),
            name: "clients".to_owned(),
        };
        let mut sockets = Sockets { passed: Some(vec![socket]) };
        let bound = sockets.tcp_where(all, || false).expect("it fits");
        assert_eq!(bound.and_then(|bound| bound.address()), Some(all));
        assert!(sockets.tcp_where(all, || false).expect("left out").is_none(), "there is no second one");
        sockets.tcp_where(all, || true).expect_err("it should have been passed");
        sockets.finish().expect("nothing is left");
    }

    #[test]
    fn without_ipv6_only_all_of_its_addresses_are_left_out() {
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        assert!(is_dispensable(address("[::]:12150"), || false));
        assert!(!is_dispensable(address("[::]:12150"), || true));
        // Who names one address means it, and is told.
        for named in ["0.0.0.0:12150", "[::1]:12150", "[2001:db8::1]:12150", "[::ffff:0.0.0.0]:12150"] {
            assert!(!is_dispensable(address(named), || false), "{named}");
        }
    }
}
