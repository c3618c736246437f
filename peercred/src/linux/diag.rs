//! Questions to NETLINK_SOCK_DIAG (sock_diag(7)), one answer each.
//!
//! The answer is read as if it were hostile: every length is checked, and what does not fit is an
//! error. Numbers are in the host's byte order, ports and addresses in the network's.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::socket::GetSockOpt as _;
use nix::sys::socket::sockopt::GetStruct;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

/// `SOCK_DIAG_BY_FAMILY`, of questions and answers.
const BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const HEADER: usize = 16;
/// More than the answer to any question of ours.
const ANSWER: usize = 4096;
/// Answers that nobody waited for; one question leaves one at most.
const STALE: usize = 16;
/// The kernel answers at once; this is for the day it does not.
const PATIENCE: Duration = Duration::from_millis(500);

pub(super) fn malformed() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "malformed netlink answer")
}

/// Asks the kernel about sockets. Clones ask through the same socket, one question at a time.
///
/// The kernel answers about the network namespace in which the netlink socket was made, wherever the process
/// that asks is by then: a process without any network of its own can have one from outside, and needs no
/// permission to make another.
#[derive(Debug, Clone)]
pub struct Diagnosis {
    asker: Arc<Result<Mutex<Asker>, Errno>>,
    /// Whether sockets that this process makes are among those that are known there.
    pub(super) knows_own_sockets: bool,
}

#[derive(Debug)]
struct Asker {
    socket: OwnedFd,
    /// Names the next question in its answer.
    sequence: u32,
}

impl Diagnosis {
    /// Asks about this process's network namespace. Where there can be no such socket, each question fails
    /// with the reason why.
    pub fn of_this_namespace() -> Diagnosis {
        let made = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(netlink::SOCK_DIAG),
        );
        Diagnosis { asker: Arc::new(made.and_then(Asker::over).map(Mutex::new)), knows_own_sockets: true }
    }

    /// Asks through a netlink socket that somebody else made, about the namespace where it was made.
    ///
    /// # Errors
    /// When it is something else, or cannot be connected to the kernel.
    pub fn over(socket: OwnedFd) -> io::Result<Diagnosis> {
        let family = sockopt::socket_domain(&socket)?;
        if family != AddressFamily::NETLINK || sockopt::socket_protocol(&socket)? != Some(netlink::SOCK_DIAG)
        {
            return Err(io::Error::new(ErrorKind::InvalidInput, "not a netlink socket for socket diagnosis"));
        }
        let asker = Arc::new(Ok(Mutex::new(Asker::over(socket)?)));
        Ok(Diagnosis { asker, knows_own_sockets: false })
    }

    /// Whether it is about the network namespace in which this socket was made. Linux tells since 5.14; before, it is
    /// taken to be.
    ///
    /// # Errors
    /// Why there is nothing to ask through.
    pub fn knows_of(&self, socket: impl AsFd) -> io::Result<bool> {
        let own = namespace(&self.asker()?.socket);
        Ok(own.is_none() || own == namespace(socket))
    }

    /// `None` means that the kernel knows no such socket.
    pub(super) fn ask(&self, question: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.asker()?.ask(question)
    }

    fn asker(&self) -> io::Result<MutexGuard<'_, Asker>> {
        let asker = self.asker.as_ref().as_ref().map_err(|errno| io::Error::from(*errno))?;
        // What is left behind by a panic is one answer at most, which the next question does not take.
        Ok(asker.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Clone, Copy, Debug)]
struct NetnsCookie;
nix::getsockopt_impl!(NetnsCookie, libc::SOL_SOCKET, libc::SO_NETNS_COOKIE, u64, GetStruct<u64>);

/// What names the network namespace of a socket for as long as the machine runs (SO_NETNS_COOKIE).
fn namespace(socket: impl AsFd) -> Option<u64> {
    NetnsCookie.get(&socket).ok()
}

impl Asker {
    fn over(socket: OwnedFd) -> rustix::io::Result<Asker> {
        // Connected to the kernel, which is port 0: no other process can answer in its place.
        rustix::net::connect(&socket, &SocketAddrNetlink::new(0, 0))?;
        // Another at every start: an earlier process may have left an answer in the socket.
        let random = RandomState::new().build_hasher().finish();
        let sequence = (random & u64::from(u32::MAX)) as u32;
        Ok(Asker { socket, sequence })
    }

    fn ask(&mut self, question: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.sequence = self.sequence.wrapping_add(1);
        // Neither an answer that nobody waited for nor an error from before is of this question.
        for _ in 0..STALE {
            if self.receive() == Err(Errno::AGAIN) {
                break;
            }
        }
        rustix::net::send(&self.socket, &request(question, self.sequence)?, SendFlags::DONTWAIT)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.receive() {
                Ok(answer) => return read(&answer.ok_or_else(malformed)?, self.sequence),
                Err(Errno::AGAIN | Errno::INTR) => self.wait(deadline)?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// One message that is there; `None` if it is longer than any that is expected.
    fn receive(&self) -> rustix::io::Result<Option<Vec<u8>>> {
        let mut message = vec![0; ANSWER];
        let flags = RecvFlags::TRUNC | RecvFlags::DONTWAIT;
        let (taken, arrived) = rustix::net::recv(&self.socket, &mut message[..], flags)?;
        message.truncate(taken);
        Ok((arrived <= taken).then_some(message))
    }

    fn wait(&self, deadline: Instant) -> io::Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        let left = Timespec::try_from(left).map_err(|_| ErrorKind::TimedOut)?;
        match poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&left)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn request(question: &[u8], sequence: u32) -> io::Result<Vec<u8>> {
    let length = u32::try_from(HEADER + question.len()).map_err(|_| malformed())?;
    let mut message = Vec::with_capacity(HEADER + question.len());
    message.extend(length.to_ne_bytes());
    message.extend(BY_FAMILY.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.extend(sequence.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    message.extend(question);
    Ok(message)
}

/// The payload of the first message, which is the whole answer to a question about one socket.
pub(super) fn read(answer: &[u8], expected: u32) -> io::Result<Option<Vec<u8>>> {
    let mut rest = Reader(answer);
    let length = usize::try_from(rest.u32()?).map_err(|_| malformed())?;
    let kind = rest.u16()?;
    let _flags = rest.u16()?;
    let sequence = rest.u32()?;
    let _port = rest.u32()?;
    if sequence != expected {
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

    const SEQUENCE: u32 = 0x6477_6400;

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
        let request = request(&[9; 56], SEQUENCE).expect("fits");
        assert_eq!(request.len(), 72);
        assert_eq!(&request[..4], 72_u32.to_ne_bytes());
    }

    #[test]
    fn an_answer_is_its_payload_alone() {
        let mut answer = message(BY_FAMILY, SEQUENCE, b"payload");
        answer.extend(b"and the next message");
        assert_eq!(read(&answer, SEQUENCE).expect("an answer").as_deref(), Some(&b"payload"[..]));
    }

    #[test]
    fn an_error_of_the_kernel_is_an_error_and_enoent_is_none() {
        let error = |number: i32| read(&message(NLMSG_ERROR, SEQUENCE, &number.to_ne_bytes()), SEQUENCE);
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
            assert!(read(&whole[..length], SEQUENCE).is_err(), "{length}");
        }
        assert!(read(&message(BY_FAMILY, SEQUENCE + 1, b"payload"), SEQUENCE).is_err());
        assert!(read(&message(3, SEQUENCE, b"payload"), SEQUENCE).is_err());
        assert!(read(&message(NLMSG_ERROR, SEQUENCE, b"abc"), SEQUENCE).is_err());
        for length in [0_u32, 15, 24, u32::MAX] {
            let mut wrong = whole.clone();
            wrong[..4].copy_from_slice(&length.to_ne_bytes());
            assert!(read(&wrong, SEQUENCE).is_err(), "{length}");
        }
    }

    #[test]
    fn noise_is_refused() {
        for seed in 0..2_000 {
            let bytes: Vec<u8> = noise(seed).take(seed as usize % 130).collect();
            assert!(read(&bytes, SEQUENCE).is_err());
        }
    }
}
