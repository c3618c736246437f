//! WebSocket, plain or over TLS: what one client says all get who have subscribed.
//!
//! Framed once; each subscriber's queue gets the same bytes, and what is in it is written at once.

use std::{
    io,
    sync::{Arc, Mutex},
};

use futures_util::{SinkExt, StreamExt};
use hyper::body::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::UnixListener,
    sync::mpsc,
};
use tokio_tungstenite::{
    accept_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};

use super::{Options, tls};
use crate::crowd::frame;

/// What the product has waiting for one connection at most.
const WAITING: usize = 1_024;
/// So many are written at once.
const BATCH: usize = 32;

type Subscribers = Arc<Mutex<Vec<mpsc::Sender<Bytes>>>>;

/// On a Unix socket, where one is named, else over TLS.
pub(super) async fn serve(options: Options) -> io::Result<()> {
    let subscribers = Subscribers::default();
    if let Some(path) = options.socket {
        let listener = UnixListener::bind(&path)?;
        super::ready(&path.display().to_string());
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(talk(stream, Arc::clone(&subscribers)));
        }
    }
    let (listener, acceptor) = tls::listen().await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let (subscribers, acceptor) = (Arc::clone(&subscribers), acceptor.clone());
        tokio::spawn(async move { talk(tls::accept(&acceptor, stream).await?, subscribers).await });
    }
}

async fn talk(stream: impl AsyncRead + AsyncWrite + Unpin, subscribers: Subscribers) -> io::Result<()> {
    let config = WebSocketConfig::default().read_buffer_size(4 << 10);
    let mut socket = accept_async_with_config(stream, Some(config)).await.map_err(io::Error::other)?;
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else { continue };
        if text.as_str() == "subscribe" {
            let (queue, messages) = mpsc::channel(WAITING);
            socket.send(Message::text("subscribed")).await.map_err(io::Error::other)?;
            subscribers.lock().map_err(|_| io::Error::other("poisoned"))?.push(queue);
            return write(socket.into_inner(), messages).await;
        }
        let framed = Bytes::from(frame(text.as_bytes(), false));
        let mut subscribers = subscribers.lock().map_err(|_| io::Error::other("poisoned"))?;
        // Who does not read is closed.
        subscribers.retain(|queue| queue.try_send(framed.clone()).is_ok());
    }
    Ok(())
}

async fn write(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    mut messages: mpsc::Receiver<Bytes>,
) -> io::Result<()> {
    let (mut batch, mut out) = (Vec::with_capacity(BATCH), Vec::new());
    while messages.recv_many(&mut batch, BATCH).await > 0 {
        out.clear();
        batch.drain(..).for_each(|message: Bytes| out.extend_from_slice(&message));
        stream.write_all(&out).await?;
        stream.flush().await?;
    }
    Ok(())
}
