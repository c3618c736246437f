//! Who the kernel says is at the far end of a connection that the gateway passes us.
//!
//! The gateway is not believed, and its descriptors may be hostile: handling one, its `close` included,
//! can block. So each is examined on a blocking thread, a bounded number at a time; a gateway that
//! sends bad ones stalls only its own local logins.

use std::{
    collections::HashMap,
    io,
    os::{fd::OwnedFd, unix::net},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use doorward_launch::{Current, chain};
use doorward_peercred::{Listeners, PassedSocket, recv_one_descriptor, uid_of_peer};
use doorward_proto::{PEER_PACKET_MAX, authd::v1 as wire};
use prost::Message as _;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::{
    io::Interest,
    net::{UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, error, warn};

use crate::{account::Uid, secret};

/// Examinations at a time, blocked ones included.
const AT_ONCE: usize = 8;
/// A query is answered within this or not at all.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// A handle that nobody redeems is void after this: its connection was alive when it was made, and the
/// gateway uses it at once.
const REDEEM_WITHIN: Duration = Duration::from_secs(5);
/// Handles that wait to be redeemed.
const HANDLES: usize = 1024;
/// After a failed accept.
const BACK_OFF: Duration = Duration::from_millis(50);

/// A client's connection, as the gateway names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Connection(uuid::Uuid);

impl Connection {
    /// The connection of a UUID's text.
    pub fn parse(text: &str) -> Option<Self> {
        // Other spellings of a UUID would be other names of the same connection.
        (text.len() == 36).then(|| uuid::Uuid::try_parse(text).ok()).flatten().map(Self)
    }

    /// Its name.
    pub fn name(self) -> uuid::Uuid {
        self.0
    }
}

impl std::fmt::Display for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// Handles that stand for what the kernel said.
#[derive(Debug, Default)]
pub struct Peers(Mutex<HashMap<[u8; 16], Said>>);

#[derive(Debug)]
struct Said {
    connection: Connection,
    uid: Uid,
    until: Instant,
}

impl Peers {
    fn put(&self, connection: Connection, uid: Uid, now: Instant) -> Result<[u8; 16], &'static str> {
        let handle = secret::random().map_err(|_| "no random bytes")?;
        let mut handles = self.handles();
        if handles.len() >= HANDLES {
            handles.retain(|_, said| said.until > now);
        }
        if handles.len() >= HANDLES {
            return Err("too many handles wait to be redeemed");
        }
        handles.insert(handle, Said { connection, uid, until: now + REDEEM_WITHIN });
        Ok(handle)
    }

    /// Who a handle stands for, once, in time, and for the connection it was made for.
    pub fn redeem(&self, handle: &[u8], connection: Connection, now: Instant) -> Option<Uid> {
        let handle: [u8; 16] = handle.try_into().ok()?;
        let said = self.handles().remove(&handle)?;
        (said.connection == connection && now < said.until).then_some(said.uid)
    }

    /// Voids the handles of a connection.
    pub fn abandon(&self, connection: Connection) {
        self.handles().retain(|_, said| said.connection != connection);
    }

    fn handles(&self) -> MutexGuard<'_, HashMap<[u8; 16], Said>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The peer socket, and what its queries are answered by.
#[derive(Debug)]
pub struct Door {
    /// Listening, SEQPACKET, non-blocking.
    pub listener: OwnedFd,
    /// Who may ask.
    pub gateway: u32,
    /// The gateway's listeners: a passed connection must have been accepted from one of them.
    pub accepted_from: Arc<Current<Listeners>>,
}

impl Door {
    /// Answers queries until `stop`.
    ///
    /// # Errors
    /// When the listener cannot be watched.
    pub async fn serve(self, peers: Arc<Peers>, stop: CancellationToken) -> io::Result<()> {
        // Neither is a byte stream: the runtime's types accept, and tell when something can be read.
        let listener = UnixListener::from_std(net::UnixListener::from(self.listener))?;
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let tasks = TaskTracker::new();
        loop {
            // Without a place nothing is accepted: closing an accepted connection can block, too, since
            // descriptors in flight on it are closed with it.
            let next = async {
                let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
                let (connection, _) = listener.accept().await?;
                io::Result::Ok((place, connection))
            };
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = next => accepted,
            };
            match accepted {
                Ok((place, connection)) => {
                    let work = Examination {
                        connection,
                        place,
                        gateway: self.gateway,
                        accepted_from: self.accepted_from.get(),
                        peers: peers.clone(),
                        began: Instant::now(),
                    };
                    tasks.spawn(work.run());
                }
                Err(failure) => {
                    error!(cause = %failure, "the peer socket cannot accept");
                    tokio::time::sleep(BACK_OFF).await;
                }
            }
        }
        tasks.close();
        tasks.wait().await;
        Ok(())
    }
}

/// One connection of the peer socket, with one query.
struct Examination {
    connection: UnixStream,
    place: OwnedSemaphorePermit,
    gateway: u32,
    accepted_from: Arc<Listeners>,
    peers: Arc<Peers>,
    began: Instant,
}

impl Examination {
    async fn run(self) {
        let Self { connection, place, gateway, accepted_from, peers, began } = self;
        let asked = match uid_of_peer(&connection) {
            Ok(uid) if uid == gateway => {
                matches!(tokio::time::timeout(ANSWER_WITHIN, asked(&connection)).await, Ok(Ok(())))
            }
            Ok(uid) => {
                warn!(uid = uid.as_raw(), "a stranger at the peer socket");
                false
            }
            Err(failure) => {
                warn!(cause = %failure, "a peer without a uid at the peer socket");
                false
            }
        };
        // The thread is not waited for: if it blocks, its place is taken and nothing else happens.
        tokio::task::spawn_blocking(move || {
            match connection.into_std() {
                Ok(connection) => {
                    let connection = OwnedFd::from(connection);
                    if asked {
                        answer(&connection, &accepted_from, &peers, began);
                    }
                }
                Err(failure) => error!(cause = %failure, "a connection of the peer socket is lost"),
            }
            drop(place);
        });
    }
}

/// Waits for a packet and leaves it, with its descriptors, where it is. Readiness alone may be a false
/// alarm.
async fn asked(connection: &UnixStream) -> io::Result<()> {
    let peek = || Ok(recv(connection, &mut [0; 1][..], RecvFlags::PEEK)?);
    connection.async_io(Interest::READABLE, peek).await.map(|_| ())
}

/// Blocks, perhaps.
fn answer(connection: &OwnedFd, accepted_from: &Listeners, peers: &Peers, began: Instant) {
    let mut packet = [0; PEER_PACKET_MAX];
    let received = recv_one_descriptor(connection, &mut packet);
    let query = received.as_ref().ok().and_then(|(length, _)| packet.get(..*length));
    let query = query.and_then(|packet| wire::PeerQuery::decode(packet).ok()).unwrap_or_default();
    let whose = query.whose;
    let examined = received
        .map_err(|failure| chain(&failure))
        .and_then(|(_, passed)| examine(passed, &query, accepted_from, peers, began));
    let kind = examined.unwrap_or_else(|refused| {
        // A gateway that only counts asks about every connection, also where this is switched off.
        if whose {
            debug!(cause = %refused, "it cannot be said whose a connection is");
        } else {
            warn!(cause = %refused, "a passed connection proves nothing");
        }
        wire::peer_answer::Kind::Refused(refused)
    });
    let packet = wire::PeerAnswer { kind: Some(kind) }.encode_to_vec();
    if let Err(failure) = send(connection, &packet, SendFlags::NOSIGNAL) {
        debug!(cause = %failure, "the gateway did not wait for an answer of the peer socket");
    }
}

fn examine(
    passed: OwnedFd,
    query: &wire::PeerQuery,
    accepted_from: &Listeners,
    peers: &Peers,
    began: Instant,
) -> Result<wire::peer_answer::Kind, String> {
    let said = PassedSocket::examine(passed, accepted_from).map_err(|e| chain(&e))?;
    let uid = Uid::new(said.uid().as_raw()).ok_or("a uid that is nobody's")?;
    let name = Connection::parse(&query.connection).ok_or("a malformed query")?;
    let now = Instant::now();
    if now.duration_since(began) > ANSWER_WITHIN {
        return Err("examining it took too long".into());
    }
    if query.whose {
        return Ok(wire::peer_answer::Kind::Uid(uid.as_u32()));
    }
    let handle = peers.put(name, uid, now)?;
    Ok(wire::peer_answer::Kind::Handle(handle.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(number: u8) -> Connection {
        Connection(uuid::Uuid::from_bytes([number; 16]))
    }

    fn uid() -> Uid {
        Uid::new(1000).expect("a uid")
    }

    #[test]
    fn a_handle_works_once_in_time_and_for_its_connection() {
        let (peers, now) = (Peers::default(), Instant::now());
        let handle = peers.put(connection(1), uid(), now).expect("room");
        assert_eq!(peers.redeem(&handle, connection(1), now), Some(uid()));
        assert_eq!(peers.redeem(&handle, connection(1), now), None);

        let handle = peers.put(connection(1), uid(), now).expect("room");
        assert_eq!(peers.redeem(&handle, connection(2), now), None);
        assert_eq!(peers.redeem(&handle, connection(1), now), None, "a try by another connection voids it");

        let handle = peers.put(connection(1), uid(), now).expect("room");
        assert_eq!(peers.redeem(&handle, connection(1), now + REDEEM_WITHIN), None);

        let handle = peers.put(connection(1), uid(), now).expect("room");
        peers.abandon(connection(1));
        assert_eq!(peers.redeem(&handle, connection(1), now), None);
        for wrong in [&[][..], &[0; 15], &[0; 16], &[0; 17]] {
            assert_eq!(peers.redeem(wrong, connection(1), now), None);
        }
    }

    #[test]
    fn waiting_handles_are_bounded_and_old_ones_make_room() {
        let (peers, now) = (Peers::default(), Instant::now());
        for _ in 0..HANDLES {
            peers.put(connection(1), uid(), now).expect("room");
        }
        assert!(peers.put(connection(1), uid(), now + REDEEM_WITHIN / 2).is_err());
        assert!(peers.put(connection(1), uid(), now + REDEEM_WITHIN).is_ok());
    }

    #[test]
    fn a_connection_has_one_spelling() {
        assert!(Connection::parse("01010101-0101-0101-0101-010101010101").is_some());
        for wrong in ["", "x", "01010101010101010101010101010101", "{01010101-0101-0101-0101-010101010101}"] {
            assert_eq!(Connection::parse(wrong), None, "{wrong}");
        }
    }
}
