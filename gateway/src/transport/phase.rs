//! How long an HTTP connection may stay as it is: inside a head, or between requests.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

/// Where a connection is, and since when.
#[derive(Debug)]
pub(super) struct Phase {
    head: Duration,
    between: Duration,
    now: Mutex<(Kind, Instant)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Head,
    Working,
    Between,
}

impl Phase {
    /// The first head is awaited from the start.
    pub(super) fn new(head: Duration, between: Duration) -> Arc<Self> {
        Arc::new(Self { head, between, now: Mutex::new((Kind::Head, Instant::now())) })
    }

    /// A request came, and is worked on: whatever that takes has deadlines of its own.
    pub(super) fn begun(&self) {
        *self.lock() = (Kind::Working, Instant::now());
    }

    /// A request was answered.
    pub(super) fn answered(&self) {
        *self.lock() = (Kind::Between, Instant::now());
    }

    fn heard(&self) {
        let mut now = self.lock();
        if now.0 == Kind::Between {
            *now = (Kind::Head, Instant::now());
        }
    }

    /// When it has lasted too long; never while a request is worked on.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let (kind, since) = *self.lock();
        match kind {
            Kind::Head => Some(since + self.head),
            Kind::Working => None,
            Kind::Between => Some(since + self.between),
        }
    }

    /// Waits until it has lasted too long, whatever happens meanwhile.
    pub(super) async fn over(&self) {
        loop {
            let now = Instant::now();
            match self.deadline() {
                Some(deadline) if now >= deadline => return,
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                // Whatever comes after lasts at least so long.
                None => tokio::time::sleep_until(now + self.head.min(self.between)).await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, (Kind, Instant)> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream that tells the phase when something came.
#[derive(Debug)]
pub(super) struct Watched<S> {
    pub(super) stream: S,
    pub(super) phase: Arc<Phase>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let poll = Pin::new(&mut this.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            this.phase.heard();
        }
        poll
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
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
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_head_and_a_pause_have_their_own_deadlines() {
        let start = Instant::now();
        let phase = Phase::new(Duration::from_secs(10), Duration::from_secs(60));
        assert_eq!(phase.deadline(), Some(start + Duration::from_secs(10)));
        tokio::time::advance(Duration::from_secs(5)).await;
        phase.heard();
        assert_eq!(phase.deadline(), Some(start + Duration::from_secs(10)), "more bytes give no more time");
        phase.begun();
        phase.heard();
        assert_eq!(phase.deadline(), None, "the rest of a request, or the next one");
        phase.answered();
        assert_eq!(phase.deadline(), Some(start + Duration::from_secs(65)));
        tokio::time::advance(Duration::from_secs(20)).await;
        phase.heard();
        assert_eq!(phase.deadline(), Some(start + Duration::from_secs(35)));
        phase.over().await;
        assert_eq!(Instant::now(), start + Duration::from_secs(35));
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_is_over_in_time_also_after_long_work() {
        let start = Instant::now();
        let phase = Phase::new(Duration::from_secs(10), Duration::from_secs(60));
        phase.begun();
        let over = tokio::spawn({
            let phase = Arc::clone(&phase);
            async move { phase.over().await }
        });
        tokio::time::sleep(Duration::from_secs(125)).await;
        assert!(!over.is_finished());
        phase.answered();
        phase.heard();
        over.await.expect("it ends");
        assert_eq!(Instant::now(), start + Duration::from_secs(135));
    }
}
