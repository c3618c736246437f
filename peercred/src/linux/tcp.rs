//! Who owns the far end of a TCP connection within this host, by inet_diag.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::fs::fstat;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, connect, getpeername, getsockname, ipproto, socket_with,
    sockopt,
};

use super::diag::{Diagnosis, Reader, malformed};
use super::syn;
use crate::passed::{check_open, failed};
use crate::{TcpListeners, Uid, Unfit};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const TCP: u8 = 6;

/// The socket at the far end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// Its user.
    pub uid: Uid,
    /// Its inode, never 0: a socket without one has no owner, and shows uid 0.
    pub inode: u32,
    /// Names the socket for as long as the machine runs.
    pub cookie: u64,
    /// Its state.
    pub state: TcpState,
}

/// The state of a TCP socket that somebody owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TcpState {
    /// Both ways are open.
    Established,
    /// On its way to or from that.
    Other(u8),
}

impl Diagnosis {
    /// The owner of the far end of a connection, of which `local` and `peer` are the addresses as its own
    /// end sees them. `None` if nobody on this host has it, or nobody has it any more.
    ///
    /// One answer alone must not authorise: the client may close, and another user take its port,
    /// between accept() and this question.
    ///
    /// # Errors
    /// When the kernel cannot be asked, or answers what makes no sense.
    pub fn tcp_owner(&self, local: SocketAddr, peer: SocketAddr) -> io::Result<Option<Owner>> {
        // Seen from the far end, whose socket is looked for.
        self.owner(canonical(peer), canonical(local))
    }

    /// Whether questions about TCP are answered at all. A network namespace of one's own answers, and knows
    /// nothing of others.
    ///
    /// # Errors
    /// Why not.
    pub fn can_examine_tcp(&self) -> io::Result<()> {
        let own = if self.knows_own_sockets { connected_to_itself().ok() } else { None };
        let Some((_own, address)) = own else {
            // Whoever may have no such socket cannot tell a kernel that does not know TCP from one that knows
            // no such connection.
            let nowhere = (IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
            return self.owner(nowhere, nowhere).map(drop);
        };
        match self.owner(address, address)? {
            Some(_) => Ok(()),
            None => Err(io::Error::new(ErrorKind::NotFound, "it knows no TCP (is tcp_diag missing?)")),
        }
    }

    /// The owner of the socket whose own address is `source`.
    fn owner(&self, source: (IpAddr, u16), destination: (IpAddr, u16)) -> io::Result<Option<Owner>> {
        match self.ask(&question(source, destination)?)? {
            Some(answer) => read(&answer, source, destination),
            None => Ok(None),
        }
    }
}

/// A connection that nobody has to accept: of a socket with itself.
fn connected_to_itself() -> io::Result<(OwnedFd, (IpAddr, u16))> {
    let own = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    bind(&own, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let address = SocketAddr::try_from(getsockname(&own)?).map_err(|_| malformed())?;
    connect(&own, &address)?;
    Ok((own, canonical(address)))
}

/// Whose process connected to the gateway's port: `socket` is the accepted end.
///
/// What the gateway could do meanwhile, or its client, is in the order:
///
/// - the SYN is looked at last. A socket never gets one back, so all that was asked before was asked about
///   the connection that was accepted;
/// - the own end is established before and after the far end is named, and cookies name one socket for as
///   long as the machine runs. A client that left took the own end out of that state before another user
///   could have its port.
pub(crate) fn uid_of_accepted(
    socket: &OwnedFd,
    listeners: &TcpListeners,
    kernel: &Diagnosis,
) -> Result<Uid, Unfit> {
    let protocol = sockopt::socket_protocol(socket).map_err(failed("cannot ask for its protocol"))?;
    if protocol != Some(ipproto::TCP) {
        return Err(Unfit::NotTcp);
    }
    let local = getsockname(socket).map_err(failed("cannot ask for its address"))?;
    let peer = match getpeername(socket) {
        Ok(Some(peer)) => peer,
        Ok(None) | Err(Errno::NOTCONN) => return Err(Unfit::NotEstablished),
        Err(error) => return Err(failed("cannot ask for its peer's address")(error)),
    };
    let local = canonical(SocketAddr::try_from(local).map_err(failed("cannot read its address"))?);
    let peer = canonical(SocketAddr::try_from(peer).map_err(failed("cannot read its peer's address"))?);
    if !local.0.is_loopback() || !peer.0.is_loopback() {
        return Err(Unfit::NotLoopback);
    }
    if !listeners.has_port(local.1) {
        return Err(Unfit::Port(local.1));
    }
    let inode = fstat(socket).map_err(failed("cannot examine it"))?.st_ino;
    let cookie = sockopt::socket_cookie(socket).map_err(failed("cannot ask for its cookie"))?;

    let own_end = || match kernel.owner(local, peer).map_err(failed("cannot ask about its own end"))? {
        // No other namespace's sockets are known here.
        None => Err(Unfit::NotKnown),
        Some(own) if own.cookie != cookie || u64::from(own.inode) != inode => Err(Unfit::NotKnown),
        Some(own) if own.uid != listeners.uid => Err(Unfit::NotTheGateways),
        Some(Owner { state: TcpState::Other(_), .. }) => Err(Unfit::NotEstablished),
        Some(Owner { state: TcpState::Established, .. }) => Ok(()),
    };
    let far_end = || match kernel.owner(peer, local).map_err(failed("cannot ask about its far end"))? {
        Some(far) if far.state == TcpState::Established => Ok(far),
        Some(_) | None => Err(Unfit::NobodyThere),
    };
    own_end()?;
    let far = far_end()?;
    if far_end()? != far {
        return Err(Unfit::Replaced);
    }
    own_end()?;
    check_open(socket)?;
    if !syn::is_kept(socket).map_err(failed("cannot ask for its SYN"))? {
        return Err(Unfit::NotAccepted);
    }
    Ok(far.uid)
}

fn canonical(address: SocketAddr) -> (IpAddr, u16) {
    (address.ip().to_canonical(), address.port())
}

fn question(source: (IpAddr, u16), destination: (IpAddr, u16)) -> io::Result<Vec<u8>> {
    let (family, from, to) = match (source.0, destination.0) {
        (IpAddr::V4(from), IpAddr::V4(to)) => (AF_INET, padded(from), padded(to)),
        (IpAddr::V6(from), IpAddr::V6(to)) => (AF_INET6, from.octets(), to.octets()),
        _ => return Err(io::Error::new(ErrorKind::InvalidInput, "addresses of two families")),
    };
    let mut question = vec![family, TCP, 0, 0];
    question.extend(u32::MAX.to_ne_bytes());
    question.extend(source.1.to_be_bytes());
    question.extend(destination.1.to_be_bytes());
    question.extend(from);
    question.extend(to);
    // Any interface, any cookie.
    question.extend(0_u32.to_ne_bytes());
    question.extend([0xff; 8]);
    Ok(question)
}

fn padded(address: Ipv4Addr) -> [u8; 16] {
    let [a, b, c, d] = address.octets();
    [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}

/// As the answer about a connection from 127.0.0.1:40000 to 127.0.0.1:12150.
pub(super) fn read_any(answer: &[u8]) -> bool {
    let end = |port| (IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    matches!(read(answer, end(40_000), end(12_150)), Ok(Some(_)))
}

fn read(answer: &[u8], source: (IpAddr, u16), destination: (IpAddr, u16)) -> io::Result<Option<Owner>> {
    let mut rest = Reader(answer);
    let (family, state, _timer, _retransmits) = (rest.u8()?, rest.u8()?, rest.u8()?, rest.u8()?);
    let ports: [u16; 2] = [u16::from_be_bytes(rest.take()?), u16::from_be_bytes(rest.take()?)];
    let addresses: [[u8; 16]; 2] = [rest.take()?, rest.take()?];
    let interface = rest.u32()?;
    let cookie = rest.u64_halves()?;
    let (_expires, _receive_queue, _write_queue) = (rest.u32()?, rest.u32()?, rest.u32()?);
    let (uid, inode) = (rest.u32()?, rest.u32()?);

    let [from, to] = addresses;
    let found = ((address(family, from)?, ports[0]), (address(family, to)?, ports[1]));
    // Where there is no connection the kernel answers with a listener on that port.
    if found != (source, destination) {
        return Ok(None);
    }
    // One that is bound to an interface may have the same addresses as another that is not.
    if interface != 0 {
        return Ok(None);
    }
    // Connections that ended, or are not accepted yet, have no owner: their uid field says 0.
    if inode == 0 {
        return Ok(None);
    }
    let state = if state == 1 { TcpState::Established } else { TcpState::Other(state) };
    Ok(Some(Owner { uid: Uid::from_kernel(uid)?, inode, cookie, state }))
}

/// Addresses are compared in one form: an IPv4 client may have an IPv6 socket.
fn address(family: u8, octets: [u8; 16]) -> io::Result<IpAddr> {
    match family {
        AF_INET => {
            let [a, b, c, d, ..] = octets;
            Ok(Ipv4Addr::new(a, b, c, d).into())
        }
        AF_INET6 => Ok(IpAddr::from(Ipv6Addr::from(octets)).to_canonical()),
        _ => Err(malformed()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::diag::tests::noise;

    const FROM: (IpAddr, u16) = (IpAddr::V4(Ipv4Addr::LOCALHOST), 40_000);
    const TO: (IpAddr, u16) = (IpAddr::V4(Ipv4Addr::LOCALHOST), 12_150);

    fn answer(family: u8, addresses: [[u8; 16]; 2], ports: [u16; 2], uid: u32, inode: u32) -> Vec<u8> {
        let mut answer = vec![family, 1, 0, 0];
        answer.extend(ports.iter().flat_map(|port| port.to_be_bytes()));
        answer.extend(addresses.iter().flatten());
        answer.extend([0; 4]);
        answer.extend([5, 0, 0, 0, 0, 0, 0, 0]);
        answer.extend([0; 12]);
        answer.extend(uid.to_ne_bytes());
        answer.extend(inode.to_ne_bytes());
        answer
    }

    fn good() -> Vec<u8> {
        answer(AF_INET, [padded(Ipv4Addr::LOCALHOST); 2], [40_000, 12_150], 1000, 77)
    }

    #[test]
    fn a_question_has_the_kernels_size() {
        assert_eq!(question(FROM, TO).expect("one family").len(), 56);
    }

    #[test]
    fn the_owner_is_read_in_either_form_of_the_address() {
        let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets();
        for answer in [good(), answer(AF_INET6, [mapped; 2], [40_000, 12_150], 1000, 77)] {
            let owner = read(&answer, FROM, TO).expect("well formed").expect("an owner");
            assert_eq!((owner.uid.as_raw(), owner.inode), (1000, 77));
            assert_eq!(owner.state, TcpState::Established);
        }
    }

    #[test]
    fn another_connection_is_nobodys() {
        let home = padded(Ipv4Addr::LOCALHOST);
        for (addresses, ports) in [
            ([home, home], [40_000, 12_151]),
            ([home, home], [40_001, 12_150]),
            ([home, home], [12_150, 40_000]),
            ([home, [0; 16]], [40_000, 0]),
            ([padded(Ipv4Addr::new(127, 0, 0, 2)), home], [40_000, 12_150]),
        ] {
            let answer = answer(AF_INET, addresses, ports, 0, 77);
            assert_eq!(read(&answer, FROM, TO).expect("well formed"), None);
        }
    }

    #[test]
    fn a_socket_without_an_inode_is_nobodys() {
        let answer = answer(AF_INET, [padded(Ipv4Addr::LOCALHOST); 2], [40_000, 12_150], 0, 0);
        assert_eq!(read(&answer, FROM, TO).expect("well formed"), None);
    }

    #[test]
    fn no_user_is_not_a_user() {
        let answer = answer(AF_INET, [padded(Ipv4Addr::LOCALHOST); 2], [40_000, 12_150], u32::MAX, 77);
        assert!(read(&answer, FROM, TO).is_err());
    }

    #[test]
    fn what_is_cut_short_is_refused() {
        let whole = good();
        assert_eq!(whole.len(), 72);
        for length in 0..whole.len() {
            assert!(read(&whole[..length], FROM, TO).is_err(), "{length}");
        }
    }

    #[test]
    fn noise_names_nobody() {
        for seed in 0..2_000 {
            let bytes: Vec<u8> = noise(seed).take(64 + seed as usize % 40).collect();
            assert_eq!(read(&bytes, FROM, TO).ok().flatten(), None);
        }
    }
}
