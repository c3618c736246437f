//! One connection whose peer is known, and who must begin to speak in time.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tonic::transport::server::Connected;

use super::seats::Slot;

/// The client's connection preface, RFC 9113, 3.4.
const PREFACE: usize = 24;

/// The uid of the process that connected, in the extensions of every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerUid(pub u32);

/// A peer that may call. Reading fails if its HTTP/2 preface is not there in time: tonic's own
/// keep-alive starts only after it, so a silent peer would stay for ever.
pub struct Connection<S> {
    stream: S,
    uid: u32,
    missing: usize,
    deadline: Pin<Box<Sleep>>,
    _slot: Slot,
}

impl<S> Connection<S> {
    pub(super) fn new(stream: S, uid: u32, deadline: Sleep, slot: Slot) -> Connection<S> {
        Connection { stream, uid, missing: PREFACE, deadline: Box::pin(deadline), _slot: slot }
    }
}

impl<S> std::fmt::Debug for Connection<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("uid", &self.uid).finish_non_exhaustive()
    }
}

impl<S> Connected for Connection<S> {
    type ConnectInfo = PeerUid;

    fn connect_info(&self) -> PeerUid {
        PeerUid(self.uid)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.missing > 0 && self.deadline.as_mut().poll(context).is_ready() {
            tracing::warn!(uid = self.uid, missing = self.missing, "closed a peer that sent no preface");
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
