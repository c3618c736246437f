//! RFC 6455 frames over the client's stream: reading, writing, saying goodbye.

use std::{
    future::poll_fn,
    io,
    os::fd::OwnedFd,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use tokio_tungstenite::tungstenite::{
    Message, WebSocket,
    error::Error as Broken,
    protocol::{
        CloseFrame, Role, WebSocketConfig,
        frame::{
            Frame,
            coding::{CloseCode, Data, OpCode},
        },
    },
};

use crate::{
    backend::certd::LISTING_MAX,
    hub::PAYLOAD_MAX,
    transport::stream::{Polled, Stream},
};

/// Each idle connection keeps this much.
const READ_BUFFER: usize = 1 << 10;
/// More than this is written before the flush.
const WRITE_BUFFER: usize = 8 << 10;
/// What may be unsent, in messages of the largest size. Replies repeat what their requests said, so this
/// is above what can be in flight at once by default.
const UNSENT: usize = 64;
/// And what is delivered at once beside them.
const DELIVERED: usize = 2 * PAYLOAD_MAX;
/// How long a client may take to answer a close.
const GOODBYE: Duration = Duration::from_secs(2);

/// Why a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Close {
    /// It is over; the reason is for people.
    Normal(&'static str),
    /// The client does what it may not; the reason is for people.
    Policy(&'static str),
    /// The same with 1001; the reason is for people.
    Away(&'static str),
    /// The session has ended.
    Ended,
    /// Messages of channels were not read.
    Unread,
    /// The client's source is under a penalty, for so many seconds.
    Penalty(u64),
    /// The gateway stops.
    ShuttingDown,
    /// A message over the limit.
    TooLarge,
    /// Text that is not UTF-8.
    NotText,
    /// Against RFC 6455.
    Protocol,
    /// The client closed.
    ByPeer,
    /// There is nobody to tell.
    Gone,
}

impl Close {
    fn frame(self) -> Option<CloseFrame> {
        let (code, reason) = match self {
            Self::Penalty(seconds) => {
                let reason = format!("too many failed logins, try again in {seconds} s");
                return Some(CloseFrame { code: CloseCode::Policy, reason: reason.into() });
            }
            Self::Normal(reason) => (CloseCode::Normal, reason),
            Self::Away(reason) => (CloseCode::Away, reason),
            Self::Ended => (CloseCode::Library(4_003), "session ended"),
            Self::Unread => (CloseCode::Library(4_008), "messages were not read"),
            Self::Policy(reason) => (CloseCode::Policy, reason),
            Self::ShuttingDown => (CloseCode::Away, "shutting down"),
            Self::TooLarge => (CloseCode::Size, "message too large"),
            Self::NotText => (CloseCode::Invalid, "not UTF-8"),
            Self::Protocol => (CloseCode::Protocol, "protocol error"),
            Self::ByPeer | Self::Gone => return None,
        };
        Some(CloseFrame { code, reason: reason.into() })
    }
}

/// Messages over a client's stream.
pub(super) struct Frames {
    socket: WebSocket<Polled<Stream>>,
    limit: usize,
    listings: bool,
    /// A message was written since the last flush.
    written: bool,
    /// All that had come when it was last looked was read.
    dry: bool,
}

impl Frames {
    pub(super) fn new(stream: Stream, leftover: Bytes, limit: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(WRITE_BUFFER)
            .max_write_buffer_size(unsent(limit, false))
            .max_message_size(Some(limit))
            .max_frame_size(Some(limit));
        // A copy: it is a piece of the buffer for HTTP heads, which would stay as large as it is for as long as the connection.
        let leftover = leftover.to_vec();
        let socket =
            WebSocket::from_partially_read(Polled::new(stream), leftover, Role::Server, Some(config));
        Self { socket, limit, listings: false, written: false, dry: false }
    }

    /// The largest message from now on. Memory is reserved for a frame only within it. `listings`: the
    /// client may be sent listings.
    pub(super) fn limit(&mut self, limit: usize, listings: bool) {
        if (self.limit, self.listings) != (limit, listings) {
            (self.limit, self.listings) = (limit, listings);
            self.socket.set_config(|config| {
                config.max_message_size = Some(limit);
                config.max_frame_size = Some(limit);
                config.max_write_buffer_size = unsent(limit, listings);
            });
        }
    }

    /// Another descriptor of the connection itself.
    pub(super) fn descriptor(&self) -> io::Result<OwnedFd> {
        self.socket.get_ref().stream.descriptor()
    }

    pub(super) fn poll_read(&mut self, context: &Context<'_>) -> Poll<Result<Message, Broken>> {
        self.socket.get_mut().wakes(context);
        self.read_now().map_or(Poll::Pending, Poll::Ready)
    }

    /// A message that is there already. If there is none, the task of the last poll is woken when
    /// there may be one. Nothing is read from a client that does not read: what it sends makes output,
    /// pongs at least, which would pile up here.
    pub(super) fn read_now(&mut self) -> Option<Result<Message, Broken>> {
        // The parser clears its buffer for each look, which costs more than a delivery: it looks where there is something.
        if self.stuck() || self.dry && !self.socket.get_ref().may_be_read() {
            return None;
        }
        match self.socket.read() {
            Err(Broken::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                self.dry = true;
                None
            }
            result => {
                self.dry = false;
                Some(result)
            }
        }
    }

    /// A flush is due although nobody has asked for one: pongs do not go out.
    pub(super) fn stuck(&self) -> bool {
        self.socket.get_ref().stuck()
    }

    pub(super) fn write(&mut self, message: impl Into<Bytes>) -> Result<(), Broken> {
        self.written = true;
        let frame = Frame::message(message.into(), OpCode::Data(Data::Text), true);
        match self.socket.write(Message::Frame(frame)) {
            // It is kept, and the flush goes on with it.
            Err(Broken::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            result => result,
        }
    }

    /// Waits until everything is written, the answers to pings too; nothing is read meanwhile.
    pub(super) async fn flush(&mut self) -> Result<(), Broken> {
        if !self.written && !self.stuck() {
            return Ok(());
        }
        poll_fn(|context| self.poll_flush(context)).await?;
        self.written = false;
        Ok(())
    }

    fn poll_flush(&mut self, context: &Context<'_>) -> Poll<Result<(), Broken>> {
        self.socket.get_mut().wakes(context);
        match self.socket.flush() {
            Err(Broken::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            result => Poll::Ready(result),
        }
    }

    /// Says why, and hears the client out for a moment: closing with unread input would reset the
    /// connection, and the client might never see the last message.
    pub(super) async fn goodbye(&mut self, close: Close) {
        if close == Close::Gone {
            return;
        }
        // All of this may fail, and then the client is gone already.
        let _ = timeout(GOODBYE, async {
            if let Some(frame) = close.frame() {
                let _ = self.socket.write(Message::Close(Some(frame)));
            }
            let _ = poll_fn(|context| self.poll_flush(context)).await;
            if matches!(
                close,
                Close::Normal(_)
                    | Close::Away(_)
                    | Close::Ended
                    | Close::Unread
                    | Close::Policy(_)
                    | Close::Penalty(_)
                    | Close::ShuttingDown
            ) {
                while poll_fn(|context| self.poll_read(context)).await.is_ok() {}
            }
            let stream = &mut self.socket.get_mut().stream;
            let _ = stream.shutdown().await;
            let mut rest = [0; 512];
            while stream.read(&mut rest).await.is_ok_and(|length| length > 0) {}
        })
        .await;
    }
}

fn unsent(limit: usize, listings: bool) -> usize {
    let replies = limit.saturating_mul(UNSENT).max(2 * WRITE_BUFFER).saturating_add(DELIVERED);
    if listings { replies.saturating_add(LISTING_MAX) } else { replies }
}
