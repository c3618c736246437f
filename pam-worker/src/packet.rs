//! Packets to and from authd: one message each, at most 4,096 bytes.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use doorward_proto::PAM_PACKET_MAX;
use doorward_proto::pam::v1 as wire;
use prost::Message as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use zeroize::Zeroizing;

/// authd sends `Start` at once after it connected.
pub(crate) const START_WITHIN: Duration = Duration::from_secs(10);
/// People think for long; authd and the guard have shorter deadlines, this is the last one.
pub(crate) const ANSWERS_WITHIN: Duration = Duration::from_secs(360);
/// authd reads whenever something comes.
const SEND_WITHIN: Duration = Duration::from_secs(10);

/// authd's end of the conversation.
pub(crate) struct Connection(OwnedFd);

/// What came, or did not.
pub(crate) enum Received {
    /// One whole message.
    Message(wire::to_worker::Kind),
    /// Too long, or not what it should be.
    Malformed,
    /// The peer half-closed or is gone.
    End,
    /// Nothing within the time.
    Late,
}

impl Connection {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// The next message.
    pub(crate) fn receive(&self, within: Duration) -> Received {
        let deadline = Instant::now() + within;
        // One byte more than a packet may have: a longer one is cut there and so recognised.
        let mut packet = Zeroizing::new([0_u8; PAM_PACKET_MAX + 1]);
        loop {
            match recv(&self.0, &mut packet[..], RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Received::End,
                Ok((length, _)) => return decode(packet.get(..length).unwrap_or_default()),
                Err(Errno::AGAIN) => {}
                Err(Errno::INTR) => continue,
                // A reset is an end as well, and nothing else can be done about the others.
                Err(_) => return Received::End,
            }
            if !self.wait_for(PollFlags::IN, deadline) {
                return Received::Late;
            }
        }
    }

    /// Shows and asks. `Err` when the peer is gone or reads nothing.
    pub(crate) fn send_round(&self, round: wire::Round) -> io::Result<()> {
        self.send(wire::from_worker::Kind::Round(round))
    }

    /// The last packet.
    pub(crate) fn send_verdict(&self, verdict: wire::Verdict) -> io::Result<()> {
        self.send(wire::from_worker::Kind::Verdict(verdict))
    }

    fn send(&self, kind: wire::from_worker::Kind) -> io::Result<()> {
        let deadline = Instant::now() + SEND_WITHIN;
        let packet = wire::FromWorker { kind: Some(kind) }.encode_to_vec();
        if packet.len() > PAM_PACKET_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        loop {
            match send(&self.0, &packet, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(_) => return Ok(()),
                Err(Errno::AGAIN) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            if !self.wait_for(PollFlags::OUT, deadline) {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }

    /// False when the deadline has passed.
    fn wait_for(&self, flags: PollFlags, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        // Whatever it answers, the next try tells more.
        let _ = poll(&mut [PollFd::new(&self.0, flags)], Some(&timeout));
        true
    }
}

fn decode(packet: &[u8]) -> Received {
    if packet.len() > PAM_PACKET_MAX {
        return Received::Malformed;
    }
    match wire::ToWorker::decode(packet) {
        Ok(wire::ToWorker { kind: Some(kind) }) => Received::Message(kind),
        Ok(wire::ToWorker { kind: None }) | Err(_) => Received::Malformed,
    }
}
