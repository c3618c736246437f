//! A kept connection to a back end that is not always there: whether it is up is known without asking.
//!
//! While the connection stands nothing runs; when it breaks, it is tried again until it stands.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use super::{
    Failure,
    link::{CONNECT, Link},
};

/// Between two tries: this much at first, twice as much each time, up to the most.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// What may wait unread of one call, and of all on one connection: more calls than a service is given at once.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 512 * STREAM_WINDOW;

/// Whether a line stands.
#[derive(Debug, Clone, Default)]
pub struct Up(Arc<AtomicU64>);

impl Up {
    /// As far as is known.
    pub fn is_up(&self) -> bool {
        self.0.load(Ordering::Acquire) != 0
    }

    /// A line that stands, for tests of what looks at one.
    #[cfg(test)]
    pub(crate) fn standing() -> Self {
        Self(Arc::new(AtomicU64::new(1)))
    }
}

/// One connection at a time.
#[derive(Debug)]
pub(crate) struct Line(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: Arc<str>,
    link: Link,
    endpoint: Endpoint,
    up: Up,
    current: Mutex<Option<Standing>>,
    /// Held by whoever connects: those who find no connection at the same time get the same.
    connecting: tokio::sync::Mutex<()>,
    tries: AtomicU64,
}

/// A connection.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    /// For calls.
    pub(crate) channel: Channel,
    /// Cancelled when the connection is broken.
    pub(crate) gone: CancellationToken,
}

impl Line {
    pub(super) fn new(name: &str, link: Link) -> Self {
        let endpoint = link.endpoint();
        Self::over(name, link, endpoint)
    }

    /// For calls of many clients, some of whom read slowly: what one of them leaves unread takes nothing from
    /// the others.
    pub(crate) fn shared(name: &str, link: Link) -> Self {
        let endpoint = link
            .endpoint()
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        Self::over(name, link, endpoint)
    }

    fn over(name: &str, link: Link, endpoint: Endpoint) -> Self {
        let (up, tries) = (Up::default(), AtomicU64::new(0));
        Self(Arc::new(Inner {
            name: name.into(),
            link,
            endpoint,
            up,
            current: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
            tries,
        }))
    }

    pub(super) fn up(&self) -> Up {
        self.0.up.clone()
    }

    /// Keeps the connection; never ends.
    pub(super) async fn keep(&self) {
        let (mut pause, mut told) = (PAUSE, false);
        loop {
            match self.standing().await {
                Ok(standing) => {
                    tracing::info!(service = &*self.0.name, "connected");
                    (pause, told) = (PAUSE, false);
                    standing.gone.cancelled().await;
                }
                Err(failure) => {
                    if !told {
                        let error = failure.detail;
                        tracing::warn!(service = &*self.0.name, error, "a service cannot be reached");
                        told = true;
                    }
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    /// The connection that stands, or a new one.
    pub(crate) async fn channel(&self) -> Result<Channel, Failure> {
        self.standing().await.map(|standing| standing.channel)
    }

    /// Gives the connection up. Calls that are under way keep it until they are over.
    pub(crate) fn hang_up(&self) {
        *self.0.lock() = None;
    }

    /// The same as [`Line::channel`], with the end of the connection.
    pub(crate) async fn standing(&self) -> Result<Standing, Failure> {
        if let Some(standing) = self.0.current() {
            return Ok(standing);
        }
        // By itself: whoever waits for it may be held up, by a client that does not read, and all others wait for
        // whoever connects.
        let inner = Arc::clone(&self.0);
        let connected = tokio::spawn(async move {
            timeout(CONNECT, inner.connected()).await.map_err(|_| Failure::late("connect"))?
        });
        AbortOnDropHandle::new(connected).await.map_err(Failure::fault)?
    }
}

impl Inner {
    fn current(&self) -> Option<Standing> {
        self.lock().clone().filter(|standing| !standing.gone.is_cancelled())
    }

    async fn connected(&self) -> Result<Standing, Failure> {
        let _connecting = self.connecting.lock().await;
        match self.current() {
            Some(standing) => Ok(standing),
            None => self.connect().await,
        }
    }

    async fn connect(&self) -> Result<Standing, Failure> {
        let stream = self.link.connect().await?;
        let gone = CancellationToken::new();
        let number = self.tries.fetch_add(1, Ordering::Relaxed) + 1;
        let watched = Watched { stream, number, up: self.up.clone(), gone: gone.clone() };
        // A channel connects again by itself; this one cannot, so that there is one to look at.
        let mut once = Some(TokioIo::new(watched));
        let connector = service_fn(move |_: Uri| {
            let stream = once.take().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected));
            async move { stream }
        });
        let channel = self
            .endpoint
            .connect_with_connector(connector)
            .await
            .map_err(|error| Failure::from(io::Error::other(error)))?;
        let standing = Standing { channel, gone };
        *self.lock() = Some(standing.clone());
        self.up.0.store(number, Ordering::Release);
        if standing.gone.is_cancelled() {
            self.up.down(number);
        }
        Ok(standing)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Standing>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Up {
    /// The connection of this number is gone; a newer one may stand.
    fn down(&self, number: u64) {
        let _ = self.0.compare_exchange(number, 0, Ordering::AcqRel, Ordering::Acquire);
    }
}

/// A stream that says when it is dropped.
struct Watched {
    stream: UnixStream,
    number: u64,
    up: Up,
    gone: CancellationToken,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.gone.cancel();
        self.up.down(self.number);
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use doorward_launch::Identity;
    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn whoever_finds_no_connection_at_the_same_time_gets_the_same() {
        let place = tempfile::TempDir::new().expect("a directory");
        let path = place.path().join("a.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).expect("bind");
        listener.set_nonblocking(true).expect("it can");
        let line = Line::shared("a", Link { path, uid: Identity::current().uid });
        let standing = join_all((0..100).map(|_| line.standing())).await;
        assert!(standing.iter().all(Result::is_ok));
        let connections: Vec<_> = std::iter::from_fn(|| listener.accept().ok()).collect();
        assert_eq!(connections.len(), 1);
    }

    #[tokio::test]
    async fn whoever_waits_for_a_connection_and_is_held_up_holds_up_nobody_else() {
        let place = tempfile::TempDir::new().expect("a directory");
        let path = place.path().join("a.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&path).expect("bind");
        let line = Line::new("a", Link { path, uid: Identity::current().uid });
        let mut held_up = [(); 2].map(|()| Box::pin(line.standing()));
        for waiting in &mut held_up {
            assert!(futures_util::poll!(waiting).is_pending());
        }
        assert!(line.standing().await.is_ok());
    }
}
