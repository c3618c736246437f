//! What systemd does before it starts a service: the sockets of a stack, opened by root.

use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};

use super::Uids;
use crate::options::{Options, set_default};

/// Two or three sockets.
type Sockets = Vec<Arc<OwnedFd>>;

/// Opens the sockets of certd, authd and the gateway, listening, with the owners that the units give them.
pub(super) fn open(dir: &Path, options: &Options, uids: Uids) -> (Options, [Sockets; 3]) {
    let mut options = options.clone();
    let unix = |name: &str, uid: u32, gid: u32, mode: u32| {
        let path = dir.join("run").join(name);
        let listener = UnixListener::bind(&path).expect("a new name");
        own(&path, uid, gid, mode);
        Arc::new(OwnedFd::from(listener))
    };
    let certd = vec![
        unix("certd/certd.sock", uids.certd, uids.gateway, 0o660),
        unix("certd/authd.sock", uids.certd, uids.authd, 0o660),
    ];
    let peer = dir.join("run/authd/peer.sock");
    let mut authd =
        vec![unix("authd/authd.sock", uids.authd, uids.gateway, 0o660), Arc::new(seqpacket(&peer))];
    authd.extend(socket_diagnosis().map(Arc::new));
    own(&peer, uids.authd, uids.gateway, 0o660);
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = tcp.local_addr().expect("an address").to_string();
    set_default(&mut options.gateway, "listen.tls", vec![address]);
    for none in ["listen.token", "listen.token_plain"] {
        set_default(&mut options.gateway, none, Vec::<String>::new());
    }
    let gateway = vec![unix("gateway.sock", uids.gateway, uids.gateway, 0o666), Arc::new(tcp.into())];

    // By tmpfiles.d: the directory is root's, and authd never is root.
    let public = dir.join("run/authd/assertion.pub");
    fs::write(&public, "").expect("a file in our directory");
    own(&public, uids.authd, uids.authd, 0o644);
    (options, [certd, authd, gateway])
}

fn own(path: &Path, uid: u32, gid: u32, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod of our own");
    chown(path, Some(uid), Some(gid)).expect("chown of our own");
}

/// As systemd makes it for `ListenNetlink=inet-diag`: of the host's network, which authd is not in.
#[cfg(target_os = "linux")]
fn socket_diagnosis() -> Option<OwnedFd> {
    use rustix::net::netlink::{self, SocketAddrNetlink};
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let kind = Some(netlink::SOCK_DIAG);
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, kind).expect("a socket");
    bind(&socket, &SocketAddrNetlink::new(0, 0)).expect("bound");
    Some(socket)
}

/// There is no such socket.
#[cfg(not(target_os = "linux"))]
fn socket_diagnosis() -> Option<OwnedFd> {
    None
}

fn seqpacket(path: &Path) -> OwnedFd {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("a socket");
    bind(&socket, &SocketAddrUnix::new(path).expect("a short name")).expect("a new name");
    listen(&socket, 64).expect("listening");
    socket
}
