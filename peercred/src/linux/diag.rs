//! One question to NETLINK_SOCK_DIAG, one answer.
//!
//! The answer is read as if it were hostile: every length is checked, and what does not fit is an
//! error. Numbers are in the host's byte order, ports and addresses in the network's.

use std::io::{self, ErrorKind};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

/// `SOCK_DIAG_BY_FAMILY`, of questions and answers.
const BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const HEADER: usize = 16;
/// The kernel answers at once; this is for the day it does not.
const PATIENCE: Duration = Duration::from_millis(500);
/// Names the question in the answer.
const SEQUENCE: u32 = 0x6477_6400;

pub(super) fn malformed() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "malformed netlink answer")
}

/// Asks; `None` means that the kernel knows no such socket.
pub(super) fn ask(question: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let flags = SocketFlags::CLOEXEC;
    let kind = SocketType::RAW;
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, kind, flags, Some(netlink::SOCK_DIAG))?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(PATIENCE))?;
    // Connected to the kernel, which is port 0: no other process can answer in its place.
    rustix::net::connect(&socket, &SocketAddrNetlink::new(0, 0))?;
    rustix::net::send(&socket, &request(question)?, SendFlags::empty())?;
    let mut answer = vec![0; 4096];
    let (taken, arrived) = rustix::net::recv(&socket, &mut answer[..], RecvFlags::TRUNC)?;
    if arrived > taken {
        return Err(malformed());
    }
    answer.truncate(taken);
    read(&answer)
}

fn request(question: &[u8]) -> io::Result<Vec<u8>> {
    let length = u32::try_from(HEADER + question.len()).map_err(|_| malformed())?;
    let mut message = Vec::with_capacity(HEADER + question.len());
    message.extend(length.to_ne_bytes());
    message.extend(BY_FAMILY.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.extend(SEQUENCE.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    message.extend(question);
    Ok(message)
}

/// The payload of the first message, which is the whole answer to a question about one socket.
fn read(answer: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut rest = Reader(answer);
    let length = usize::try_from(rest.u32()?).map_err(|_| malformed())?;
    let kind = rest.u16()?;
    let _flags = rest.u16()?;
    let sequence = rest.u32()?;
    let _port = rest.u32()?;
    if sequence != SEQUENCE {
        return Err(malformed());
    }
    let payload = length.checked_sub(HEADER).and_then(|length| rest.0.get(..length)).ok_or_else(malformed)?;
    match kind {
        BY_FAMILY => Ok(Some(payload.to_vec())),
        NLMSG_ERROR => match i32::from_ne_bytes(Reader(payload).take()?) {
            error if error == -Errno::NOENT.raw_os_error() => Ok(None),
            error if error < 0 => Err(io::Error::from_raw_os_error(error.saturating_neg())),
            _ => Err(malformed()),
        },
        _ => Err(malformed()),
    }
}

/// Takes numbers from the front of a slice.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl Reader<'_> {
    pub(super) fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk().ok_or_else(malformed)?;
        self.0 = rest;
        Ok(*head)
    }

    pub(super) fn u8(&mut self) -> io::Result<u8> {
        self.take().map(u8::from_ne_bytes)
    }

    pub(super) fn u16(&mut self) -> io::Result<u16> {
        self.take().map(u16::from_ne_bytes)
    }

    pub(super) fn u32(&mut self) -> io::Result<u32> {
        self.take().map(u32::from_ne_bytes)
    }

    pub(super) fn u64_halves(&mut self) -> io::Result<u64> {
        let (low, high) = (self.u32()?, self.u32()?);
        Ok(u64::from(high) << 32 | u64::from(low))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Numbers that look random and are the same each time.
    pub(crate) fn noise(seed: u64) -> impl Iterator<Item = u8> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        std::iter::repeat_with(move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
    }

    fn message(kind: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let mut message = ((HEADER + payload.len()) as u32).to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend([0, 0]);
        message.extend(sequence.to_ne_bytes());
        message.extend([0; 4]);
        message.extend(payload);
        message
    }

    #[test]
    fn a_request_has_its_own_length() {
        let request = request(&[9; 56]).expect("fits");
        assert_eq!(request.len(), 72);
        assert_eq!(&request[..4], 72_u32.to_ne_bytes());
    }

    #[test]
    fn an_answer_is_its_payload_alone() {
        let mut answer = message(BY_FAMILY, SEQUENCE, b"payload");
        answer.extend(b"and the next message");
        assert_eq!(read(&answer).expect("an answer").as_deref(), Some(&b"payload"[..]));
    }

    #[test]
    fn an_error_of_the_kernel_is_an_error_and_enoent_is_none() {
        let error = |number: i32| read(&message(NLMSG_ERROR, SEQUENCE, &number.to_ne_bytes()));
        assert_eq!(error(-2).expect("nothing"), None);
        assert_eq!(error(-1).expect_err("EPERM").raw_os_error(), Some(1));
        assert!(error(i32::MIN).is_err());
        // An acknowledgement answers no question.
        assert!(error(0).is_err());
        assert!(error(7).is_err());
    }

    #[test]
    fn what_is_cut_short_or_answers_another_is_refused() {
        let whole = message(BY_FAMILY, SEQUENCE, b"payload");
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_err(), "{length}");
        }
        assert!(read(&message(BY_FAMILY, SEQUENCE + 1, b"payload")).is_err());
        assert!(read(&message(3, SEQUENCE, b"payload")).is_err());
        assert!(read(&message(NLMSG_ERROR, SEQUENCE, b"abc")).is_err());
        for length in [0_u32, 15, 24, u32::MAX] {
            let mut wrong = whole.clone();
            wrong[..4].copy_from_slice(&length.to_ne_bytes());
            assert!(read(&wrong).is_err(), "{length}");
        }
    }

    #[test]
    fn noise_is_refused() {
        for seed in 0..2_000 {
            let bytes: Vec<u8> = noise(seed).take(seed as usize % 130).collect();
            assert!(read(&bytes).is_err());
        }
    }
}
