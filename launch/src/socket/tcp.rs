//! TCP sockets, bound while privileged ports can still be had.

use std::net::SocketAddr;

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
