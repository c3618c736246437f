//! How long an HTTP connection may stay as it is: inside a head, between requests, or with an answer that is not read.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
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
    write: Duration,
    now: Mutex<(Kind, Instant)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Head,
    Working,
    /// An answer is being sent; since the client last took some of it.
    Sending,
    Between,
}

impl Phase {
    /// The first head is awaited from the start.
    pub(super) fn new(head: Duration, between: Duration, write: Duration) -> Arc<Self> {
        Arc::new(Self { head, between, write, now: Mutex::new((Kind::Head, Instant::now())) })
    }

    /// A request came, and is worked on: whatever that takes has deadlines of its own.
    pub(super) fn begun(&self) {
        *self.lock() = (Kind::Working, Instant::now());
    }

    /// There is an answer to a request, which has to be sent.
    pub(super) fn answered(&self) {
        *self.lock() = (Kind::Sending, Instant::now());
    }

    /// The client took some of what it is sent.
    fn sent(&self) {
        let mut now = self.lock();
        if matches!(now.0, Kind::Sending | Kind::Between) {
            *now = (Kind::Sending, Instant::now());
        }
    }

    /// Nothing is left to be sent.
    fn flushed(&self) {
        let mut now = self.lock();
        if now.0 == Kind::Sending {
            *now = (Kind::Between, Instant::now());
        }
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
            Kind::Sending => Some(since + self.write),
            Kind::Between => Some(since + self.between),
        }
    }

    /// Waits until it has lasted too long, whatever happens meanwhile.
    pub(super) async fn over(&self) {
        // Whatever comes next lasts at least so long.
        let shortest = self.head.min(self.between).min(self.write);
        loop {
            let now = Instant::now();
            let deadline = self.deadline();
            if deadline.is_some_and(|deadline| now >= deadline) {
                return;
            }
            let next = now + shortest;
            tokio::time::sleep_until(deadline.map_or(next, |deadline| deadline.min(next))).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, (Kind, Instant)> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream that tells the phase what came and went, and that is not read while its client does not read: what that one
/// asks for meanwhile would have to be kept here.
#[derive(Debug)]
pub(super) struct Watched<S> {
    pub(super) stream: S,
    pub(super) phase: Arc<Phase>,
    /// Some was written since all was flushed.
    unflushed: bool,
    /// The client did not take all of that; whoever writes is woken when it does, and flushes then.
    blocked: bool,
    /// Reading was put off meanwhile. Reader and writer are one task.
    put_off: bool,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, phase: Arc<Phase>) -> Self {
        Self { stream, phase, unflushed: false, blocked: false, put_off: false }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.blocked {
            this.put_off = true;
            return Poll::Pending;
        }
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
        let this = self.get_mut();
        let poll = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.blocked |= poll.is_pending();
        let written = ready!(poll)?;
        this.unflushed = true;
        this.phase.sent();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.stream).poll_flush(context);
        this.blocked = poll.is_pending();
        ready!(poll)?;
        if std::mem::take(&mut this.put_off) {
            context.waker().wake_by_ref();
        }
        if std::mem::take(&mut this.unflushed) {
            this.phase.flushed();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        future::poll_fn,
        sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    };

    use http_body_util::Empty;
    use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
    use hyper_util::rt::TokioIo;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::timeout,
    };

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn phase() -> Arc<Phase> {
        Phase::new(Duration::from_secs(10), Duration::from_secs(60), Duration::from_secs(30))
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_and_a_pause_have_their_own_deadlines() {
        let start = Instant::now();
        let phase = phase();
        assert_eq!(phase.deadline(), Some(start + Duration::from_secs(10)));
        tokio::time::advance(Duration::from_secs(5)).await;
        phase.heard();
        assert_eq!(phase.deadline(), Some(start + Duration::from_secs(10)), "more bytes give no more time");
        phase.begun();
        phase.heard();
        assert_eq!(phase.deadline(), None, "the rest of a request, or the next one");
        phase.answered();
        phase.flushed();
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
        let phase = phase();
        phase.begun();
        let over = tokio::spawn({
            let phase = Arc::clone(&phase);
            async move { phase.over().await }
        });
        tokio::time::sleep(Duration::from_secs(125)).await;
        assert!(!over.is_finished());
        phase.answered();
        phase.flushed();
        phase.heard();
        over.await.expect("it ends");
        assert_eq!(Instant::now(), start + Duration::from_secs(135));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_sent_as_long_as_the_client_takes_some_of_it() {
        let start = Instant::now();
        let phase = phase();
        phase.begun();
        phase.answered();
        let (stream, mut client) = tokio::io::duplex(1_000);
        let mut stream = Watched::new(stream, Arc::clone(&phase));
        let over = tokio::spawn({
            let phase = Arc::clone(&phase);
            async move { phase.over().await }
        });
        let reading = tokio::spawn(async move {
            for _ in 0..20 {
                tokio::time::sleep(Duration::from_secs(29)).await;
                client.read_exact(&mut [0; 1_000]).await.expect("read");
            }
            client
        });
        stream.write_all(&[0; 20_000]).await.expect("sent");
        phase.heard();
        stream.flush().await.expect("flushed");
        let flushed = start + Duration::from_secs(19 * 29);
        assert_eq!((Instant::now(), over.is_finished()), (flushed, false));
        assert_eq!(phase.deadline(), Some(flushed + Duration::from_secs(60)), "what comes then is a pause");
        let _client = reading.await.expect("all read");
        phase.begun();
        phase.answered();
        let answered = Instant::now();
        tokio::select! {
            _ = stream.write_all(&[0; 20_000]) => panic!("nobody reads"),
            over = over => over.expect("it is over"),
        }
        assert_eq!(Instant::now(), answered + Duration::from_secs(30));
    }

    /// Hyper reads the next head before the last answer is flushed where that has no body and the request had one, which
    /// was dropped unread when the answer was made.
    #[tokio::test]
    async fn who_does_not_read_answers_is_not_read_either() {
        const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\ndate: ";
        const DATE: usize = "Fri, 27 Nov 2026 00:00:00 GMT\r\n\r\n".len();
        const MANY: usize = 10_000;
        // A body is there when its head is, since such lengths never cross the end of a buffer: else hyper reads no more.
        let head = "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: ";
        let request = format!("{head}{:052}\r\n\r\n{:9}", 9, "");
        assert_eq!(request.len(), 128);
        let (stream, client) = tokio::io::duplex(4 << 10);
        let io = TokioIo::new(Watched::new(stream, phase()));
        let service = service_fn(|request: Request<Incoming>| async move {
            drop(request);
            Ok::<_, Infallible>(Response::new(Empty::<&[u8]>::new()))
        });
        let mut serving = http1::Builder::new().max_buf_size(8 << 10).serve_connection(io, service);
        // Meanwhile the task is woken by other things, too, such as more that comes.
        let woken = Arc::new(AtomicBool::new(true));
        let serving = tokio::spawn({
            let woken = Arc::clone(&woken);
            poll_fn(move |context| {
                if woken.load(Relaxed) {
                    context.waker().wake_by_ref();
                }
                Pin::new(&mut serving).poll(context)
            })
        });
        let (mut read, mut write) = tokio::io::split(client);
        let sent = Arc::new(AtomicUsize::new(0));
        let sending = tokio::spawn({
            let sent = Arc::clone(&sent);
            async move {
                for _ in 0..MANY {
                    write.write_all(request.as_bytes()).await.expect("sent");
                    sent.fetch_add(1, Relaxed);
                }
                write
            }
        });
        for _ in 0..MANY {
            tokio::task::yield_now().await;
        }
        let taken = sent.load(Relaxed);
        assert!(taken < MANY / 10, "{taken} requests were taken of a client that reads no answer");
        // When it does read, all goes on.
        woken.store(false, Relaxed);
        for _ in 0..MANY {
            let mut answer = [0; ANSWER.len() + DATE];
            timeout(LONG, read.read_exact(&mut answer)).await.expect("in time").expect("read");
            assert!(answer.starts_with(ANSWER) && answer.ends_with(b"\r\n\r\n"));
        }
        sending.await.expect("all sent");
        serving.abort();
    }
}
