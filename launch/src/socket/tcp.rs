//! TCP sockets, bound while privileged ports can still be had.

use std::net::SocketAddr;
use std::path::Path;

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::{Bound, Place, SocketError, failed};

/// Binds a TCP socket. An IPv6 one is for IPv6 alone, so that a peer's address has one form only.
pub fn bind_tcp(address: SocketAddr) -> Result<Bound, SocketError> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(family, SocketType::STREAM, flags, None)
        .map_err(failed(address, "cannot make a socket"))?;
    // Connections of the last run must not keep the next one from starting.
    sockopt::set_socket_reuseaddr(&fd, true).map_err(failed(address, "cannot set SO_REUSEADDR"))?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&fd, true).map_err(failed(address, "cannot set IPV6_V6ONLY"))?;
    }
    rustix::net::bind(&fd, &address).map_err(failed(address, "cannot bind"))?;
    let bound = rustix::net::getsockname(&fd).map_err(failed(address, "cannot ask for the address"))?;
    let bound = SocketAddr::try_from(bound).map_err(failed(address, "cannot read the address"))?;
    Ok(Bound { fd, place: Place::Address(bound) })
}

/// Whether there is IPv6 at all: not with `ipv6.disable=1` on the kernel's command line.
pub(super) fn kernel_has_ipv6() -> bool {
    let made = rustix::net::socket_with(AddressFamily::INET6, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let refused = matches!(made, Err(rustix::io::Errno::AFNOSUPPORT));
    // A service manager's filter (RestrictAddressFamilies=) refuses with the same word where there is one. Linux
    // has this file in every network namespace, or nowhere.
    !refused || Path::new("/proc/self/net/if_inet6").exists()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn the_port_is_known_and_nobody_connects_before_it_listens() {
        let bound = bind_tcp("127.0.0.1:0".parse().expect("an address")).expect("bound");
        let address = bound.address().expect("TCP");
        assert_ne!(address.port(), 0);
        assert_eq!(bound.path(), None);
        let error = TcpStream::connect(address).expect_err("nobody listens");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        let listener = bound.listen_tcp(4).expect("listening");
        let _client = TcpStream::connect(address).expect("connected");
        assert_eq!(listener.local_addr().expect("an address"), address);
    }

    #[test]
    fn both_families_may_have_the_same_port() {
        let four = bind_tcp("0.0.0.0:0".parse().expect("an address")).expect("bound");
        let port = four.address().expect("TCP").port();
        let six = match bind_tcp(format!("[::]:{port}").parse().expect("an address")) {
            Ok(six) => six,
            Err(error) => return crate::skip::because(&format!("no IPv6: {error}")),
        };
        let _both = (four.listen_tcp(1).expect("listening"), six.listen_tcp(1).expect("listening"));
    }

    /// As under systemd's `RestrictAddressFamilies=AF_UNIX`.
    #[cfg(target_os = "linux")]
    #[test]
    fn who_may_make_no_socket_of_ipv6_still_knows_that_there_is_ipv6() {
        use seccompiler::{
            BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
            SeccompRule,
        };
        let filtered = || {
            // Of this thread alone.
            let family = nix::libc::AF_INET6.cast_unsigned().into();
            let ipv6 = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, family)
                .expect("a condition");
            let rule = SeccompRule::new(vec![ipv6]).expect("a rule");
            let rules = [(nix::libc::SYS_socket, vec![rule])].into();
            let refused = SeccompAction::Errno(nix::libc::EAFNOSUPPORT.cast_unsigned());
            let here = std::env::consts::ARCH.try_into().expect("known");
            let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, here).expect("a filter");
            seccompiler::apply_filter(&BpfProgram::try_from(filter).expect("a program")).expect("applied");
            assert!(bind_tcp("[::]:0".parse().expect("an address")).is_err(), "the filter is one");
            kernel_has_ipv6()
        };
        let outside = kernel_has_ipv6();
        assert_eq!(std::thread::spawn(filtered).join().expect("no panic"), outside);
    }

    #[test]
    fn a_port_that_is_served_is_refused_with_its_address() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = taken.local_addr().expect("an address");
        let error = bind_tcp(address).expect_err("taken");
        assert!(error.to_string().starts_with(&address.to_string()), "{error}");
    }
}
