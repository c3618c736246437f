//! Accepting connections: counted, refused when there are too many, backing off on errors.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};

use crate::{
    call::ConnectionId,
    transport::{
        Accepted, Client, Shared, Tls,
        gate::{Permit, Source},
        serve,
    },
};

/// Out of descriptors accept() fails at once, again and again.
const BACK_OFF: Duration = Duration::from_millis(50);

/// Accepts on every listener the same way.
#[derive(Debug, Clone)]
pub struct Door {
    /// What connections share.
    pub shared: Arc<Shared>,
    /// Connections of all kinds.
    pub places: Arc<Semaphore>,
    /// The user whose own connections are not counted: root.
    pub exempt: Option<u32>,
}

impl Door {
    /// Accepts TLS until the gateway stops.
    pub async fn tcp(self, listener: TcpListener, tls: Tls) {
        while let Some((tcp, peer)) = self.next(|| listener.accept()).await {
            let Some(place) = self.place() else { continue };
            let Some(permit) = self.shared.newcomers.enter() else {
                tracing::debug!(%peer, "refused: too many are not logged in");
                continue;
            };
            self.shared.tasks.spawn(self.clone().admit_tcp(tcp, peer, tls.clone(), permit, place));
        }
    }

    /// Accepts local clients until the gateway stops.
    pub async fn unix(self, listener: UnixListener) {
        while let Some((unix, _)) = self.next(|| listener.accept()).await {
            let Some(place) = self.place() else { continue };
            match self.admit_unix(&unix, place) {
                Ok((client, permit)) => {
                    let shared = Arc::clone(&self.shared);
                    self.shared.tasks.spawn(serve(Accepted::Unix(unix), client, permit, shared));
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
                () = self.shared.stop.cancelled() => return None,
                accepted = accept() => match accepted {
                    Ok(accepted) => return Some(accepted),
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept");
                        sleep(BACK_OFF).await;
                    }
                },
            }
        }
    }

    fn place(&self) -> Option<OwnedSemaphorePermit> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok();
        if place.is_none() {
            tracing::warn!("refused: too many connections");
        }
        place
    }

    fn admit_unix(
        &self,
        unix: &UnixStream,
        place: OwnedSemaphorePermit,
    ) -> Result<(Client, Permit), &'static str> {
        let uid = doorward_peercred::uid_of_peer(unix).map_err(|_| "its user is not known")?.as_raw();
        let exempt = self.exempt == Some(uid);
        let gate = &self.shared.newcomers;
        let permit = if exempt { Some(gate.enter_exempt()) } else { gate.enter_from(Source::Uid(uid)) };
        let permit = permit.ok_or("too many are not logged in")?;
        let id = connection_id().ok_or("no random bytes")?;
        let since = Instant::now();
        Ok((Client { id, source: Source::Uid(uid), address: None, since, exempt, _place: place }, permit))
    }

    async fn admit_tcp(
        self,
        tcp: TcpStream,
        peer: SocketAddr,
        tls: Tls,
        mut permit: Permit,
        place: OwnedSemaphorePermit,
    ) {
        let since = Instant::now();
        let (source, exempt) = self.source(&tcp, peer).await;
        if exempt {
            permit.exempt();
        }
        if !permit.claim(source) {
            tracing::debug!(%source, "refused: too many from there are not logged in");
            return;
        }
        let Some(id) = connection_id() else { return };
        // Replies are small and complete: none may wait for an acknowledgement.
        if let Err(error) = tcp.set_nodelay(true) {
            tracing::debug!(connection = %id, %error, "no TCP_NODELAY");
        }
        let address: Option<IpAddr> = Some(peer.ip());
        let client = Client { id, source, address, since, exempt, _place: place };
        serve(Accepted::Tcp(tcp, tls), client, permit, self.shared).await;
    }

    /// On loopback it is the user that counts, where the kernel can say who that is.
    async fn source(&self, tcp: &TcpStream, peer: SocketAddr) -> (Source, bool) {
        let by_address = (Source::of_address(peer.ip()), false);
        if !peer.ip().to_canonical().is_loopback() {
            return by_address;
        }
        let Ok(local) = tcp.local_addr() else { return by_address };
        match tokio::task::spawn_blocking(move || owner(local, peer)).await {
            Ok(Some(uid)) => (Source::Uid(uid), self.exempt == Some(uid)),
            Ok(None) | Err(_) => by_address,
        }
    }
}

#[cfg(target_os = "linux")]
fn owner(local: SocketAddr, peer: SocketAddr) -> Option<u32> {
    let owner = doorward_peercred::tcp_owner(local, peer).ok().flatten()?;
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
