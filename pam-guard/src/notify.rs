//! Tells whoever started the listener that it listens: sd_notify(3)'s datagram, and nothing else.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;

use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sendto, socket_with};

/// Sends `READY=1` to `NOTIFY_SOCKET`, if that is set.
pub(crate) fn ready() -> io::Result<()> {
    match std::env::var_os("NOTIFY_SOCKET") {
        Some(address) => send(&address, b"READY=1"),
        None => Ok(()),
    }
}

fn send(address: &OsStr, message: &[u8]) -> io::Result<()> {
    let address = match address.as_bytes() {
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] => SocketAddrUnix::new_abstract_name(name)?,
        [b'/', ..] => SocketAddrUnix::new(address)?,
        _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "no address of a socket")),
    };
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    sendto(&socket, message, SendFlags::NOSIGNAL, &address)?;
    Ok(())
}
