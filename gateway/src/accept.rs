//! Accepting connections: counted, refused when there are too many, backing off on errors.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::AsFd as _,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use doorward_launch::{Current, log::Sparingly};
use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::{
    call::ConnectionId,
    gate::{Gate, Past, Permit, Source},
    transport::{Accepted, Client, Serves, Shared, Tls, serve},
};

/// Out of descriptors accept() fails at once, again and again.
const BACK_OFF: Duration = Duration::from_millis(50);

/// What the process needs beside its clients' descriptors.
const DESCRIPTORS: usize = 128;
/// So many places are root's on the Unix socket, however many clients there are.
const RESERVE: usize = 16;

/// Where connections of all kinds are counted.
#[derive(Debug, Clone)]
pub struct Places {
    all: Gate,
    reserve: Gate,
}

impl Places {
    /// For so many connections, some of them root's, and so many of one source. Both are cut to what
    /// the descriptors of this process allow.
    pub fn new(connections: usize, of_one: Option<usize>, descriptors: usize) -> Self {
        let places = Self { all: Gate::new(0, 0), reserve: Gate::new(0, 0) };
        places.resize(connections, of_one, descriptors);
        places
    }

    /// From now on for so many; nobody is sent away.
    pub fn resize(&self, connections: usize, of_one: Option<usize>, descriptors: usize) {
        let room = descriptors.saturating_sub(DESCRIPTORS).max(1);
        if connections > room {
            tracing::warn!(connections, room, descriptors, "limits.connections is cut: too few descriptors");
        }
        let connections = connections.min(room);
        let reserve = RESERVE.min(connections / 4);
        let of_one = of_one.unwrap_or((connections / 4).max(1));
        self.all.resize(connections - reserve, of_one);
        self.reserve.resize(reserve, reserve);
    }
}

/// What comes in at a TCP address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// TLS, for everything.
    Door,
    /// TLS, for the token API.
    Token,
    /// Loopback without TLS, for the token API.
    PlainToken,
}

impl Listener {
    fn serves(self) -> Serves {
        match self {
            Self::Door => Serves::Everything,
            Self::Token | Self::PlainToken => Serves::TokenApi,
        }
    }
}

/// Accepts on every listener the same way.
#[derive(Debug, Clone)]
pub struct Door {
    /// What connections share. Each has it as it was when it was accepted.
    pub shared: Arc<Current<Shared>>,
    /// Cancelled when the gateway stops.
    pub stop: CancellationToken,
    /// Connections of all kinds.
    pub places: Places,
    /// What is said of connections that are refused.
    pub refusals: Arc<Mutex<Sparingly>>,
    /// The user whose own connections are not counted: root.
    pub exempt: Option<u32>,
}

/// A connection that was just accepted.
struct Arrival {
    tcp: TcpStream,
    peer: SocketAddr,
    listener: Listener,
    /// The certificate of this moment: a handshake is made with it to its end.
    tls: Arc<Tls>,
    permit: Permit,
    place: Permit,
}

impl Door {
    /// Accepts TCP until the gateway stops.
    pub async fn tcp(self, tcp: TcpListener, listener: Listener, tls: Arc<Current<Tls>>) {
        let accepting = tcp;
        while let Some((tcp, peer)) = self.next(|| accepting.accept()).await {
            // Of this host it is not known yet whose connection it is.
            let address = peer.ip().to_canonical();
            let whence = Whence::of_address(address);
            if !address.is_loopback() && !whence.may_come(&self.shared.get(), listener) {
                continue;
            }
            let Some(place) = self.places.all.enter() else {
                self.full();
                continue;
            };
            let shared = self.shared.get();
            let Some(permit) = shared.gates(listener.serves()).newcomers.enter() else {
                tracing::debug!(%peer, "refused: too many are not logged in");
                continue;
            };
            let arrival = Arrival { tcp, peer, listener, tls: tls.get(), permit, place };
            shared.tasks.clone().spawn(self.clone().admit_tcp(arrival, shared));
        }
    }

    /// Accepts local clients until the gateway stops.
    pub async fn unix(self, listener: UnixListener) {
        while let Some((unix, _)) = self.next(|| listener.accept()).await {
            let shared = self.shared.get();
            match self.admit_unix(&unix, &shared) {
                Ok((client, permit)) => {
                    shared.tasks.clone().spawn(serve(Accepted::Unix(unix), client, permit, shared));
                }
                Err(error) => tracing::debug!(error, "local client refused"),
            }
        }
    }

    async fn next<T, F>(&self, accept: impl Fn() -> F) -> Option<T>
    where
        F: Future<Output = std::io::Result<T>>,
    {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return None,
                accepted = accept() => match accepted {
                    Ok(accepted) => return Some(accepted),
                    Err(error) => {
                        if let Some(unsaid) = self.say() {
                            tracing::warn!(%error, unsaid, "cannot accept");
                        }
                        sleep(BACK_OFF).await;
                    }
                },
            }
        }
    }

    /// How many lines were left out, if one may be written now.
    fn say(&self) -> Option<u64> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner).now()
    }

    fn full(&self) {
        if let Some(unsaid) = self.say() {
            tracing::warn!(unsaid, "refused: too many connections");
        }
    }

    /// Root finds room when others have taken all of theirs.
    fn local_place(&self, source: Source, exempt: bool) -> Option<Permit> {
        let places = &self.places;
        if exempt {
            places.reserve.enter().or_else(|| places.all.enter())
        } else {
            places.all.enter_from(source)
        }
    }

    fn admit_unix(&self, unix: &UnixStream, shared: &Shared) -> Result<(Client, Permit), &'static str> {
        let uid = doorward_peercred::uid_of_peer(unix).map_err(|_| "its user is not known")?.as_raw();
        let exempt = self.exempt == Some(uid);
        let whence = Whence::of_user(uid, None);
        if !whence.may_come(shared, Listener::Door) {
            return Err("under a penalty");
        }
        let Some(place) = self.local_place(whence.source, exempt) else {
            self.full();
            return Err("too many connections");
        };
        let gate = &shared.door.newcomers;
        let past = whence.past(shared);
        let permit = if exempt { Some(gate.enter_exempt()) } else { gate.enter_as(whence.source, past) };
        let permit = permit.ok_or("too many are not logged in")?;
        let id = connection_id().ok_or("no random bytes")?;
        let since = Instant::now();
        let client = Client {
            id,
            source: whence.source,
            uid: whence.uid,
            address: None,
            proxy: whence.is_proxy(shared),
            forwarded: None,
            since,
            serves: Serves::Everything,
            exempt,
            _place: place,
        };
        Ok((client, permit))
    }

    async fn admit_tcp(self, arrival: Arrival, shared: Arc<Shared>) {
        let Arrival { tcp, peer, listener, tls, mut permit, mut place } = arrival;
        let since = Instant::now();
        let Some(id) = connection_id() else { return };
        let whence = self.whence(&tcp, peer, id, &shared).await;
        let exempt = whence.uid.is_some() && whence.uid == self.exempt;
        let source = whence.source;
        if peer.ip().to_canonical().is_loopback() && !whence.may_come(&shared, listener) {
            return;
        }
        if exempt {
            permit.exempt();
        }
        if !exempt && !place.claim(source) {
            tracing::debug!(%source, "refused: too many connections from there");
            return;
        }
        if !permit.claim_as(source, whence.past(&shared)) {
            tracing::debug!(%source, "refused: too many from there are not logged in");
            return;
        }
        // Replies are small and complete: none may wait for an acknowledgement.
        if let Err(error) = tcp.set_nodelay(true) {
            tracing::debug!(connection = %id, %error, "no TCP_NODELAY");
        }
        let client = Client {
            id,
            source,
            uid: whence.uid,
            address: whence.address,
            proxy: whence.is_proxy(&shared),
            forwarded: None,
            since,
            serves: listener.serves(),
            exempt,
            _place: place,
        };
        let accepted = match listener {
            Listener::Door | Listener::Token => Accepted::Tcp(tcp, tls),
            Listener::PlainToken => Accepted::Plain(tcp),
        };
        serve(accepted, client, permit, shared).await;
    }

    /// On loopback it is the user that counts, where the kernel can say who that is: here or, if this process has
    /// a network namespace of its own (systemd's `PrivateNetwork=`) or may not ask, where authd asks it.
    async fn whence(&self, tcp: &TcpStream, peer: SocketAddr, id: ConnectionId, shared: &Shared) -> Whence {
        let by_address = Whence::of_address(peer.ip());
        if !peer.ip().to_canonical().is_loopback() {
            return by_address;
        }
        let Ok(local) = tcp.local_addr() else { return by_address };
        let own = tokio::task::spawn_blocking(move || owner(local, peer)).await;
        let uid = match own.ok().flatten() {
            Some(uid) => Some(uid),
            None => match tcp.as_fd().try_clone_to_owned() {
                Ok(descriptor) => shared.backend.whose(descriptor, id).await,
                Err(_) => None,
            },
        };
        uid.map_or(by_address, |uid| Whence::of_user(uid, Some(peer.ip())))
    }
}

/// Where a connection comes from.
#[derive(Debug, Clone, Copy)]
struct Whence {
    /// As whom it is counted.
    source: Source,
    /// The user, where the kernel says who that is.
    uid: Option<u32>,
    /// None on the Unix socket.
    address: Option<IpAddr>,
}

impl Whence {
    fn of_user(uid: u32, address: Option<IpAddr>) -> Self {
        Self { source: Source::of_uid(uid), uid: Some(uid), address }
    }

    fn of_address(address: IpAddr) -> Self {
        Self { source: Source::of_address(address), uid: None, address: Some(address) }
    }

    /// Whether it may say for whom it asks.
    fn is_proxy(self, shared: &Shared) -> bool {
        shared.proxies.trust(self.uid, self.address)
    }

    /// Whether no penalty keeps a newcomer out. A proxy asks for others, and is looked at with each request;
    /// whoever asks about tokens was shown them by others.
    fn may_come(self, shared: &Shared, listener: Listener) -> bool {
        if listener.serves() == Serves::TokenApi || self.is_proxy(shared) {
            return true;
        }
        let penalty = shared.backend.penalties().left(self.source, Instant::now());
        if let Some(left) = penalty {
            tracing::debug!(source = %self.source, ?left, "refused: under a penalty");
        }
        penalty.is_none()
    }

    fn past(self, shared: &Shared) -> Past {
        if self.is_proxy(shared) {
            return Past::Clean;
        }
        shared.backend.penalties().past(self.source, Instant::now())
    }
}

#[cfg(target_os = "linux")]
fn owner(local: SocketAddr, peer: SocketAddr) -> Option<u32> {
    let owner = doorward_peercred::Diagnosis::of_this_namespace().tcp_owner(local, peer).ok().flatten()?;
    Some(owner.uid.as_raw())
}

/// FreeBSD tells this to root alone.
#[cfg(not(target_os = "linux"))]
fn owner(_: SocketAddr, _: SocketAddr) -> Option<u32> {
    None
}

fn connection_id() -> Option<ConnectionId> {
    let mut random = [0; 16];
    if let Err(error) = getrandom::fill(&mut random) {
        tracing::error!(%error, "no random bytes");
        return None;
    }
    Some(ConnectionId(uuid::Builder::from_random_bytes(random).into_uuid()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Source = Source::Uid(1);

    #[test]
    fn there_are_no_more_places_than_descriptors() {
        for (connections, descriptors, expected) in [
            (100, 1_024, 84),
            (100, 228, 84),
            (100, 227, 83),
            (100, 192, 48),
            (16_384, 4_096, 3_952),
            (9, 0, 1),
        ] {
            let places = Places::new(connections, Some(usize::MAX), descriptors);
            let inside: Vec<_> = std::iter::from_fn(|| places.all.enter_from(A)).collect();
            assert_eq!(inside.len(), expected, "{connections} {descriptors}");
        }
    }

    #[test]
    fn one_source_has_a_quarter_unless_it_is_said() {
        for (of_one, expected) in [(None, 50), (Some(7), 7)] {
            let places = Places::new(200, of_one, 1_024);
            let inside: Vec<_> = std::iter::from_fn(|| places.all.enter_from(A)).collect();
            assert_eq!(inside.len(), expected);
            assert!(places.all.enter_from(Source::Uid(2)).is_some());
        }
    }
}
