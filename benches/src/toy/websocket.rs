//! WebSocket over TLS: an envelope in, one look at a table or one question to a back end, an envelope out.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, RwLock},
};

use doorward_proto::subsystem::v1::{CallRequest, call_reply::Outcome, subsystem_client::SubsystemClient};
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::{
    accept_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};
use tonic::transport::Channel;

use super::{Kind, Options, backend, tls};

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    namespace: &'a RawValue,
    #[serde(borrow)]
    name: &'a str,
    #[serde(borrow)]
    id: &'a RawValue,
    #[serde(borrow)]
    args: &'a RawValue,
}

struct Shared {
    /// What a session may do, as a gateway would remember it.
    rights: RwLock<HashMap<u64, u64>>,
    answer: String,
    backend: Option<SubsystemClient<Channel>>,
}

pub(super) async fn serve(options: Options) -> io::Result<()> {
    let backend = match (options.kind, &options.socket) {
        (Kind::Hop, Some(path)) => Some(backend::connect(path).await?),
        _ => None,
    };
    let rights = RwLock::new((0..1_000).map(|session| (session, u64::MAX)).collect());
    let shared = Arc::new(Shared { rights, answer: options.answer, backend });
    let (listener, acceptor) = tls::listen().await?;
    let mut number = 0;
    loop {
        let (stream, _) = listener.accept().await?;
        number += 1;
        let (shared, acceptor) = (Arc::clone(&shared), acceptor.clone());
        tokio::spawn(async move {
            if let Ok(stream) = tls::accept(&acceptor, stream).await {
                // Whoever hangs up is gone.
                let _ = talk(stream, shared, number % 1_000).await;
            }
        });
    }
}

async fn talk(stream: TlsStream<TcpStream>, shared: Arc<Shared>, session: u64) -> io::Result<()> {
    let config = WebSocketConfig::default().read_buffer_size(4 << 10);
    let mut socket = accept_async_with_config(stream, Some(config)).await.map_err(io::Error::other)?;
    let mut backend = shared.backend.clone();
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else { continue };
        let envelope: Envelope<'_> = serde_json::from_str(&text)?;
        let args = match &mut backend {
            Some(backend) => {
                let request = CallRequest {
                    assertion: String::new(),
                    action: envelope.name.to_owned(),
                    args: envelope.args.get().as_bytes().to_vec(),
                    request_id: String::new(),
                    deadline_ms: 1_000,
                };
                let reply = backend.call(request).await.map_err(io::Error::other)?.into_inner();
                match reply.outcome {
                    Some(Outcome::Result(bytes)) => String::from_utf8(bytes).map_err(io::Error::other)?,
                    _ => return Err(io::ErrorKind::InvalidData.into()),
                }
            }
            None => {
                let rights = shared.rights.read().map_err(|_| io::Error::other("poisoned"))?;
                match rights.get(&session) {
                    Some(_) => shared.answer.clone(),
                    None => return Err(io::ErrorKind::PermissionDenied.into()),
                }
            }
        };
        let reply = format!(
            r#"{{"args":{args},"id":{},"name":"response","namespace":{}}}"#,
            envelope.id.get(),
            envelope.namespace.get()
        );
        socket.send(Message::text(reply)).await.map_err(io::Error::other)?;
    }
    Ok(())
}
