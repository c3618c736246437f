//! One connection whose peer is known, and who must begin to speak in time.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::server::Connected;

use super::seats::Slot;

/// The client's connection preface, RFC 9113, 3.4.
const PREFACE: usize = 24;

/// The process that connected, in the extensions of every request.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Its uid.
    pub uid: u32,
    /// Cancelled when the connection ends, however it does: what was begun on it and outlives its request
    /// has nobody any more.
    pub gone: CancellationToken,
}

impl Caller {
    /// One that has just connected.
    pub fn of(uid: u32) -> Caller {
        Caller { uid, gone: CancellationToken::new() }
    }
}

/// A peer that may call. Reading fails if its HTTP/2 preface is not there in time: tonic's own
/// keep-alive starts only after it, so a silent peer would stay for ever.
pub struct Connection<S> {
    stream: S,
    caller: Caller,
    _gone: DropGuard,
    missing: usize,
    deadline: Pin<Box<Sleep>>,
    _slot: Slot,
}

impl<S> Connection<S> {
    pub(super) fn new(stream: S, uid: u32, deadline: Sleep, slot: Slot) -> Connection<S> {
        let caller = Caller::of(uid);
        let gone = caller.gone.clone().drop_guard();
        Connection {
            stream,
            caller,
            _gone: gone,
            missing: PREFACE,
            deadline: Box::pin(deadline),
            _slot: slot,
        }
    }
}

impl<S> std::fmt::Debug for Connection<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("uid", &self.caller.uid).finish_non_exhaustive()
    }
}

impl<S> Connected for Connection<S> {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.missing > 0 && self.deadline.as_mut().poll(context).is_ready() {
            tracing::warn!(
                uid = self.caller.uid,
                missing = self.missing,
                "closed a peer that sent no preface"
            );
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.missing = self.missing.saturating_sub(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
