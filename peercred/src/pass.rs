//! One descriptor with one message over a Unix socket.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Sends a message and a copy of a descriptor, which stays the caller's too.
pub fn send_with_descriptor(
    socket: impl AsFd,
    message: &[u8],
    descriptor: BorrowedFd<'_>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(ErrorKind::OutOfMemory.into());
    }
    Ok(sendmsg(socket, &[IoSlice::new(message)], &mut control, SendFlags::NOSIGNAL)?)
}

/// Receives a message that carries exactly one descriptor, closed on exec.
///
/// Anything else is `InvalidData`, and whatever came with it is closed: no descriptor, several (two
/// arrive without MSG_CTRUNC in the room of one, as padding has room for them), a message larger
/// than the buffer. An end of file is `UnexpectedEof`.
pub fn recv_one_descriptor(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, OwnedFd)> {
    // Room for more than one: what has no room is not always dropped without a trace.
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    // All of them are taken out, so that all but one are closed here.
    let mut descriptors: Vec<OwnedFd> = Vec::with_capacity(1);
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = message {
            descriptors.extend(passed);
        }
    }
    let wrong = |what| Err(io::Error::new(ErrorKind::InvalidData, what));
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return wrong("the message is larger than it may be");
    }
    match (descriptors.pop(), descriptors.is_empty()) {
        (Some(descriptor), true) => Ok((received.bytes, descriptor)),
        (Some(_), false) => wrong("the message carries more than one descriptor"),
        (None, _) if received.bytes == 0 => Err(ErrorKind::UnexpectedEof.into()),
        (None, _) => wrong("the message carries no descriptor"),
    }
}
