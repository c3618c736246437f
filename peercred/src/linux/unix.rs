//! Which file a Unix socket is bound to, by unix_diag.
//!
//! The name that getsockname() gives is what the process said when it called bind(), in a mount
//! namespace of its choice. The inode behind it is a fact, and accepted sockets inherit it from
//! their listener: nobody without that listening socket can have one.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FileType, fstat, stat};
use rustix::net::sockopt;

use super::diag::{Reader, ask, malformed};
use crate::Unfit;
use crate::passed::failed;

const AF_UNIX: u8 = 1;
const ESTABLISHED: u8 = 1;
/// `UDIAG_SHOW_VFS` and the attribute that it asks for.
const SHOW_VFS: u32 = 2;
const VFS: u16 = 1;

/// The file a socket is bound to, as the kernel abbreviates it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct BoundTo {
    device: u32,
    inode: u32,
}

/// Whether `socket` was accepted from the socket that has the path `listener`.
pub(crate) fn check_accepted(socket: &OwnedFd, listener: &Path) -> Result<(), Unfit> {
    let file = stat(listener).map_err(failed("cannot examine the listener's path"))?;
    if FileType::from_raw_mode(file.st_mode) != FileType::Socket {
        return Err(Unfit::NotAccepted);
    }
    let (major, minor) = (rustix::fs::major(file.st_dev), rustix::fs::minor(file.st_dev));
    // The kernel's own form of a device number (20 bits of minor), and half of the inode's number.
    let expected = BoundTo { device: major << 20 | minor, inode: low_half(file.st_ino) };

    let inode = fstat(socket).map_err(failed("cannot examine it"))?.st_ino;
    let cookie = sockopt::socket_cookie(socket).map_err(failed("cannot ask for its cookie"))?;
    let found =
        ask_kernel(low_half(inode), cookie).map_err(failed("cannot ask which file it is bound to"))?;
    if found == Some(expected) { Ok(()) } else { Err(Unfit::NotAccepted) }
}

fn low_half(number: u64) -> u32 {
    (number & u64::from(u32::MAX)) as u32
}

/// Asks by inode and cookie, which together name one socket for as long as the machine runs.
fn ask_kernel(inode: u32, cookie: u64) -> io::Result<Option<BoundTo>> {
    let mut question = vec![AF_UNIX, 0, 0, 0];
    question.extend(u32::MAX.to_ne_bytes());
    question.extend(inode.to_ne_bytes());
    question.extend(SHOW_VFS.to_ne_bytes());
    question.extend(low_half(cookie).to_ne_bytes());
    question.extend(low_half(cookie >> 32).to_ne_bytes());
    match ask(&question)? {
        Some(answer) => read(&answer, inode, cookie),
        None => Ok(None),
    }
}

fn read(answer: &[u8], inode: u32, cookie: u64) -> io::Result<Option<BoundTo>> {
    let mut rest = Reader(answer);
    let (family, _kind, state, _pad) = (rest.u8()?, rest.u8()?, rest.u8()?, rest.u8()?);
    if family != AF_UNIX || rest.u32()? != inode || rest.u64_halves()? != cookie {
        return Err(malformed());
    }
    if state != ESTABLISHED {
        return Ok(None);
    }
    while !rest.0.is_empty() {
        let length = usize::from(rest.u16()?);
        let kind = rest.u16()?;
        let content = length.checked_sub(4).and_then(|length| rest.0.get(..length)).ok_or_else(malformed)?;
        if kind == VFS {
            let mut content = Reader(content);
            let (inode, device) = (content.u32()?, content.u32()?);
            return Ok(Some(BoundTo { device, inode }));
        }
        // Attributes begin at multiples of four.
        rest.0 = rest.0.get(content.len().next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(None)
}
