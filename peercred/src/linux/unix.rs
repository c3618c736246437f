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

use super::device;
use super::diag::{Diagnosis, Reader, malformed};
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
pub(crate) fn check_accepted(socket: &OwnedFd, listener: &Path, kernel: &Diagnosis) -> Result<(), Unfit> {
    let file = stat(listener).map_err(failed("cannot examine the listener's path"))?;
    if FileType::from_raw_mode(file.st_mode) != FileType::Socket {
        return Err(Unfit::NotAccepted);
    }
    let inode = fstat(socket).map_err(failed("cannot examine it"))?.st_ino;
    let cookie = sockopt::socket_cookie(socket).map_err(failed("cannot ask for its cookie"))?;
    let found =
        bound_to(low_half(inode), cookie, kernel).map_err(failed("cannot ask which file it is bound to"))?;
    // Half of the inode's number is all that the kernel tells.
    let Some(found) = found.filter(|found| found.inode == low_half(file.st_ino)) else {
        return Err(Unfit::NotAccepted);
    };
    let same = found.device == device::shown(&file)
        || device::of_superblock(listener).map_err(failed("cannot ask for the listener's device"))?
            == Some(found.device);
    if same { Ok(()) } else { Err(Unfit::NotAccepted) }
}

fn low_half(number: u64) -> u32 {
    (number & u64::from(u32::MAX)) as u32
}

/// Asks by inode and cookie, which together name one socket for as long as the machine runs.
fn bound_to(inode: u32, cookie: u64, kernel: &Diagnosis) -> io::Result<Option<BoundTo>> {
    let mut question = vec![AF_UNIX, 0, 0, 0];
    question.extend(u32::MAX.to_ne_bytes());
    question.extend(inode.to_ne_bytes());
    question.extend(SHOW_VFS.to_ne_bytes());
    question.extend(low_half(cookie).to_ne_bytes());
    question.extend(low_half(cookie >> 32).to_ne_bytes());
    match kernel.ask(&question)? {
        Some(answer) => read(&answer, inode, cookie),
        None => Ok(None),
    }
}

/// As the answer about inode 7 with cookie 0x1_0000_0002.
pub(super) fn read_any(answer: &[u8]) -> bool {
    matches!(read(answer, 7, 0x1_0000_0002), Ok(Some(_)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::diag::tests::noise;

    const COOKIE: u64 = 0x1_0000_0002;

    fn answer(inode: u32, state: u8, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut answer = vec![AF_UNIX, 1, state, 0];
        answer.extend(inode.to_ne_bytes());
        answer.extend(2_u32.to_ne_bytes());
        answer.extend(1_u32.to_ne_bytes());
        for (kind, content) in attributes {
            answer.extend(((4 + content.len()) as u16).to_ne_bytes());
            answer.extend(kind.to_ne_bytes());
            answer.extend(*content);
            answer.resize(answer.len().next_multiple_of(4), 0);
        }
        answer
    }

    const FILE: &[u8] = &[1, 1, 1, 1, 2, 2, 2, 2];

    fn bound() -> Option<BoundTo> {
        Some(BoundTo { inode: 0x0101_0101, device: 0x0202_0202 })
    }

    #[test]
    fn the_file_is_found_wherever_it_stands() {
        for attributes in [vec![(VFS, FILE)], vec![(0, b"odd".as_slice()), (9, b""), (VFS, FILE)]] {
            let answer = answer(7, ESTABLISHED, &attributes);
            assert_eq!(read(&answer, 7, COOKIE).expect("well formed"), bound());
        }
    }

    #[test]
    fn a_socket_without_a_file_has_none() {
        assert_eq!(read(&answer(7, ESTABLISHED, &[]), 7, COOKIE).expect("well formed"), None);
        assert_eq!(read(&answer(7, ESTABLISHED, &[(0, b"name")]), 7, COOKIE).expect("well formed"), None);
        // Not connected any more, or listening.
        assert_eq!(read(&answer(7, 7, &[(VFS, FILE)]), 7, COOKIE).expect("well formed"), None);
        assert_eq!(read(&answer(7, 10, &[(VFS, FILE)]), 7, COOKIE).expect("well formed"), None);
    }

    #[test]
    fn an_answer_about_another_socket_is_refused() {
        let answer = answer(7, ESTABLISHED, &[(VFS, FILE)]);
        assert!(read(&answer, 8, COOKIE).is_err());
        assert!(read(&answer, 7, COOKIE + 1).is_err());
    }

    #[test]
    fn attributes_with_wrong_lengths_are_refused() {
        for length in [0_u16, 1, 3, 13, u16::MAX] {
            let mut wrong = answer(7, ESTABLISHED, &[(VFS, FILE)]);
            wrong[16..18].copy_from_slice(&length.to_ne_bytes());
            assert!(read(&wrong, 7, COOKIE).is_err(), "{length}");
        }
        assert!(read(&answer(7, ESTABLISHED, &[(VFS, b"short")]), 7, COOKIE).is_err());
    }

    #[test]
    fn nothing_but_the_whole_answer_names_the_file() {
        let whole = answer(7, ESTABLISHED, &[(VFS, FILE)]);
        for length in 0..whole.len() {
            assert_ne!(read(&whole[..length], 7, COOKIE).ok().flatten(), bound(), "{length}");
        }
        for seed in 0..2_000 {
            let mut bytes = whole[..16].to_vec();
            bytes.extend(noise(seed).take(seed as usize % 60));
            assert_ne!(read(&bytes, 7, COOKIE).ok().flatten(), bound());
        }
    }
}
