//! The client's stream, whatever it is made of, and the face that a frame parser wants of it.

use std::{
    io::{self, Read, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    pin::Pin,
    task::{Context, Poll, Waker},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::server::TlsStream;

/// One type for all kinds of connection.
#[derive(Debug)]
pub(super) enum Stream {
    Tls(Box<TlsStream<TcpStream>>),
    Plain(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Another descriptor of the connection itself.
    pub(super) fn descriptor(&self) -> io::Result<OwnedFd> {
        let descriptor: BorrowedFd<'_> = match self {
            Self::Tls(stream) => stream.get_ref().0.as_fd(),
            Self::Plain(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        };
        descriptor.try_clone_to_owned()
    }

    /// Whether there may be more from the other end than was read. If not, the task is woken when there may be.
    fn poll_more(&self, context: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Tls(stream) => stream.get_ref().0.poll_read_ready(context),
            Self::Plain(stream) => stream.poll_read_ready(context),
            Self::Unix(stream) => stream.poll_read_ready(context),
        }
        // What is wrong is found by reading.
        .map(|_| ())
    }

    /// Whether the kernel of this host may know whose the other end is.
    pub(super) fn is_within_host(&self) -> bool {
        let tcp = match self {
            Self::Tls(stream) => stream.get_ref().0,
            Self::Plain(stream) => stream,
            Self::Unix(_) => return true,
        };
        let ends = [tcp.local_addr(), tcp.peer_addr()];
        ends.iter().all(|end| end.as_ref().is_ok_and(|end| end.ip().to_canonical().is_loopback()))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Unix(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

/// A stream as the frame parser uses it: plain reads and writes that say `WouldBlock` and wake the
/// one task that owns it.
#[derive(Debug)]
pub(super) struct Polled<S> {
    pub(super) stream: S,
    waker: Waker,
    stuck: bool,
}

impl<S> Polled<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, waker: Waker::noop().clone(), stuck: false }
    }

    /// The client did not take all that was written, not even when it was last tried.
    pub(super) fn stuck(&self) -> bool {
        self.stuck
    }

    /// Whom to wake; to be said in each poll that may end pending.
    pub(super) fn wakes(&mut self, context: &Context<'_>) {
        if !self.waker.will_wake(context.waker()) {
            self.waker.clone_from(context.waker());
        }
    }
}

impl Polled<Stream> {
    /// Whether reading may bring more, after it has brought all that there was. If not, the task is woken when it may.
    pub(super) fn may_be_read(&self) -> bool {
        let mut context = Context::from_waker(&self.waker);
        self.stream.poll_more(&mut context).is_ready()
    }
}

fn now<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl<S: AsyncRead + Unpin> Read for Polled<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(buffer);
        let mut context = Context::from_waker(&self.waker);
        now(Pin::new(&mut self.stream).poll_read(&mut context, &mut buffer))?;
        Ok(buffer.filled().len())
    }
}

impl<S: AsyncWrite + Unpin> Write for Polled<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut context = Context::from_waker(&self.waker);
        let poll = Pin::new(&mut self.stream).poll_write(&mut context, bytes);
        self.stuck = poll.is_pending();
        now(poll)
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut context = Context::from_waker(&self.waker);
        let poll = Pin::new(&mut self.stream).poll_flush(&mut context);
        self.stuck = poll.is_pending();
        now(poll)
    }
}
