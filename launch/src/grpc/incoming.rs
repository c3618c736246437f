//! Connections for tonic: strangers dropped unread, errors waited out, no uid with too many.

use std::io;
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::sleep;

use super::connection::Connection;
use super::seats::Seats;
use crate::log::Sparingly;

/// Bounds of [`incoming()`].
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections of one uid at a time.
    pub per_uid: usize,
    /// Connections of all uids together.
    pub total: usize,
    /// How long a peer may take to send its HTTP/2 preface.
    pub preface: Duration,
    /// How long to wait after accept() failed.
    pub back_off: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            per_uid: 64,
            total: 256,
            preface: Duration::from_secs(5),
            back_off: Duration::from_millis(50),
        }
    }
}

/// Where connections come from: a listening socket, or a test.
pub trait Accept: Send {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection and its peer's uid.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, u32)>> + Send;
}

impl Accept for UnixListener {
    type Stream = UnixStream;

    async fn accept(&mut self) -> io::Result<(UnixStream, u32)> {
        let (stream, _) = UnixListener::accept(self).await?;
        let uid = stream.peer_cred()?.uid();
        Ok((stream, uid))
    }
}

/// The connections that tonic may serve: `serve_with_incoming_shutdown(incoming(..), ..)`.
///
/// Whoever `allow` refuses is dropped before a byte is read. An accept error is never yielded (tonic
/// would ask again at once, for ever): it is logged and waited out.
pub fn incoming(
    listener: std::os::unix::net::UnixListener,
    allow: impl Fn(u32) -> bool + Send + 'static,
    limits: Limits,
) -> io::Result<impl Stream<Item = io::Result<Connection<UnixStream>>> + Send> {
    listener.set_nonblocking(true)?;
    Ok(incoming_from(UnixListener::from_std(listener)?, allow, limits))
}

/// The same over any [`Accept`].
pub fn incoming_from<A: Accept>(
    acceptor: A,
    allow: impl Fn(u32) -> bool + Send + 'static,
    limits: Limits,
) -> impl Stream<Item = io::Result<Connection<A::Stream>>> + Send {
    let door = Door { acceptor, allow, limits, seats: Seats::default(), refused: Sparingly::default() };
    unfold(door, |mut door| async move {
        let connection = door.next().await;
        Some((Ok(connection), door))
    })
}

struct Door<A, F> {
    acceptor: A,
    allow: F,
    limits: Limits,
    seats: Seats,
    refused: Sparingly,
}

impl<A: Accept, F: Fn(u32) -> bool> Door<A, F> {
    async fn next(&mut self) -> Connection<A::Stream> {
        loop {
            let (stream, uid) = match self.acceptor.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    if let Some(unsaid) = self.refused.now() {
                        tracing::error!(%error, unsaid, "cannot accept connections");
                    }
                    sleep(self.limits.back_off).await;
                    continue;
                }
            };
            // u32::MAX is "nobody known", not a user.
            let reason = if uid == u32::MAX || !(self.allow)(uid) {
                "a stranger"
            } else if let Some(slot) = self.seats.take(uid, self.limits.per_uid, self.limits.total) {
                return Connection::new(stream, uid, sleep(self.limits.preface), slot);
            } else {
                "too many connections"
            };
            if uid == 0 {
                // Nobody learns anything of root by it, as where `doorward doctor` looks who listens.
                tracing::debug!(uid, "refused a connection: {reason}");
            } else if let Some(unsaid) = self.refused.now() {
                tracing::warn!(uid, unsaid, "refused a connection: {reason}");
            }
        }
    }
}
