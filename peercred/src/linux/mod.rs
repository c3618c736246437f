//! Linux: SO_PEERCRED, and the socket diagnosis of netlink.

mod device;
mod diag;
mod syn;
pub(crate) mod tcp;
mod unix;

use std::io;
use std::os::fd::BorrowedFd;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use crate::Uid;

pub use diag::Diagnosis;
pub(crate) use syn::keep as keep_syn;
pub(crate) use tcp::uid_of_accepted;
pub(crate) use unix::check_accepted;

/// For the fuzzer: reads it as the answer to each question; whether it is a good one to any.
pub fn read_any_answer(answer: &[u8]) -> bool {
    let Ok(Some(payload)) = diag::read(answer, 1) else { return false };
    tcp::read_any(&payload) | unix::read_any(&payload)
}

pub(crate) fn uid_of_peer(socket: BorrowedFd<'_>) -> io::Result<Uid> {
    Uid::from_kernel(getsockopt(&socket, PeerCredentials)?.uid())
}
