//! Connections under any uid.

use std::ffi::OsStr;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType, recvmsg,
    socketpair,
};

use crate::programs::{for_any_uid, programs};

/// The kind of socket to connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// SOCK_STREAM.
    Stream,
    /// SOCK_SEQPACKET.
    Packets,
    /// SOCK_STREAM, not connected to the path but listening on it.
    Listening,
}

/// Connects to a TCP address as `uid`.
///
/// # Errors
/// What the helper that connects says on its stderr.
///
/// # Panics
/// When the helper cannot be run at all, as for another uid without root.
pub fn connect_tcp_as(uid: u32, address: &str) -> io::Result<OwnedFd> {
    have_made(uid, "tcp", Path::new(address), &[])
}

/// The same as root of a user namespace of that user's own.
///
/// # Errors
/// What the helper says, or that there are no such namespaces.
///
/// # Panics
/// As [`connect_tcp_as`].
pub fn connect_tcp_as_root_of(uid: u32, address: &str) -> io::Result<OwnedFd> {
    have_made(uid, "tcp", Path::new(address), &["unshare", "--user", "--map-root-user"])
}

/// The same from an address of 127.0.0.0/8, in such a way that the kernel does not say whose it is.
///
/// # Errors
/// As [`connect_tcp_as`].
///
/// # Panics
/// As [`connect_tcp_as`].
pub fn connect_tcp_hidden_as(uid: u32, source: Ipv4Addr, address: &str) -> io::Result<OwnedFd> {
    have_made(uid, &format!("tcp-hidden={source}"), Path::new(address), &[])
}

/// A TCP socket on which `uid` listens.
///
/// # Errors
/// What the helper says on its stderr.
///
/// # Panics
/// As [`connect_tcp_as`].
pub fn listen_tcp_as(uid: u32, address: &str) -> io::Result<OwnedFd> {
    have_made(uid, "tcp-listen", Path::new(address), &[])
}

/// Connects (or listens) as `uid`, group the same number; the kernel will name that uid as the peer.
///
/// # Errors
/// What the helper that connects says on its stderr; most often that it may not.
///
/// # Panics
/// When the helper cannot be run at all, as for another uid without root.
pub fn connect_as(uid: u32, kind: Kind, path: &Path) -> io::Result<OwnedFd> {
    let kind = match kind {
        Kind::Stream => "stream",
        Kind::Packets => "seqpacket",
        Kind::Listening => "listen",
    };
    have_made(uid, kind, path, &[])
}

/// The same as [`connect_as`] with a stream to a path or, with `tcp`, to an address: so many times.
///
/// # Errors
/// As [`connect_as`].
///
/// # Panics
/// As [`connect_as`].
pub fn connect_many(uid: u32, tcp: bool, place: &Path, count: usize) -> io::Result<Vec<OwnedFd>> {
    have_made_many(uid, if tcp { "tcp" } else { "stream" }, place, &[], count)
}

fn have_made(uid: u32, kind: &str, path: &Path, through: &[&str]) -> io::Result<OwnedFd> {
    let mut all = have_made_many(uid, kind, path, through, 1)?;
    all.pop().ok_or_else(|| io::Error::other("the helper sent no descriptor"))
}

/// Runs the helper, by the words of `through` where there are any.
fn have_made_many(
    uid: u32,
    kind: &str,
    path: &Path,
    through: &[&str],
    count: usize,
) -> io::Result<Vec<OwnedFd>> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let copies = tempfile::Builder::new().prefix("dwtbin").permissions(open_directory()).tempdir()?;
    let program = for_any_uid(&programs().connect_as, copies.path());
    // By setpriv(1): std forks to change a uid, which takes a test process as large as that of all stacks a tenth of a second.
    let (uid_word, gid_word) = (format!("--reuid={uid}"), format!("--regid={uid}"));
    let mut words: Vec<&OsStr> = Vec::new();
    if uid != rustix::process::geteuid().as_raw() {
        words.extend(["setpriv", &uid_word, &gid_word, "--clear-groups"].map(OsStr::new));
    }
    words.extend(through.iter().map(OsStr::new));
    words.push(program.as_os_str());
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg(kind).arg(path).arg(count.to_string());
    command.stdin(Stdio::from(theirs)).stdout(Stdio::null()).stderr(Stdio::piped()).current_dir("/");
    let child = command.spawn().expect("the helper connect-as runs");
    // Closes our copy of its end: if the helper fails there is an end to what it sends.
    drop(command);
    let mut all = Vec::with_capacity(count);
    while all.len() < count
        && let Ok(descriptor) = receive(&ours)
    {
        all.push(descriptor);
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    Ok(all)
}

fn open_directory() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o755)
}

fn receive(socket: &OwnedFd) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0_u8; 1];
    recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    descriptor.ok_or_else(|| io::Error::other("the helper sent no descriptor"))
}
