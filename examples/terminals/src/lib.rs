//! Terminals that log in to channels with tokens of their own, one connection at a time each, hear their group and tell
//! their status: an example of a plug-in authenticator, which docs/plugins.md goes through, and of a handler of
//! channels, which docs/channel-handlers.md does.

mod authenticator;

mod handler;

mod rules;

mod register;

use std::{convert::Infallible, io, os::unix::net::UnixListener, path::Path, sync::Arc};

use doorward_launch::{
    Identity,
    grpc::{Limits, incoming, server},
    socket::{Owner, Sockets},
};
use doorward_proto::{
    authenticator::v1::authenticator_server::AuthenticatorServer,
    channel::v1::channel_handler_server::ChannelHandlerServer,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tonic::{
    body::Body,
    codegen::{Service, http},
    server::NamedService,
};

pub use crate::{
    authenticator::Terminals,
    handler::Channels,
    register::{Register, RegisterError, Terminal},
};

/// The largest request that authd makes: 8 KiB of credentials, and what is around them.
const CREDENTIALS_MAX: usize = 16 << 10;
/// The largest question about a channel that is read: an assertion, and a message of a terminal's. Longer ones, which staff
/// may want to publish, are refused.
const QUESTION_MAX: usize = 128 << 10;

/// Answers authd, whose uid this is, and nobody else, until `stop`.
///
/// # Errors
/// When the socket cannot be served.
pub async fn serve(
    listener: UnixListener,
    register: Register,
    authd: u32,
    stop: CancellationToken,
) -> io::Result<()> {
    let service = AuthenticatorServer::new(Terminals(Arc::new(register)));
    only(listener, service.max_decoding_message_size(CREDENTIALS_MAX), authd, stop).await
}

/// Answers the gateway, whose uid this is, and nobody else, until `stop`.
///
/// # Errors
/// When the socket cannot be served.
pub async fn serve_channels(
    listener: UnixListener,
    channels: Channels,
    gateway: u32,
    stop: CancellationToken,
) -> io::Result<()> {
    let service = ChannelHandlerServer::new(channels);
    only(listener, service.max_decoding_message_size(QUESTION_MAX), gateway, stop).await
}

/// Whoever else connects is sent away before a byte is read.
async fn only<S>(listener: UnixListener, service: S, peer: u32, stop: CancellationToken) -> io::Result<()>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S: NamedService + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    let incoming = incoming(listener, move |uid| uid == peer, Limits::default())?;
    let serving = server().add_service(service);
    serving.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()).await.map_err(io::Error::other)
}

/// Listens as whoever runs this. Everybody may connect, because it is seen who does.
///
/// # Errors
/// When the path cannot be used.
pub fn listen(socket: &Path) -> Result<UnixListener, Box<dyn std::error::Error>> {
    let Identity { uid, gid, .. } = Identity::current();
    let bound = Sockets::default().stream(socket, 0o666, Owner { uid, gid })?;
    Ok(bound.listen_unix(16)?)
}

/// Is cancelled by SIGTERM and SIGINT.
///
/// # Errors
/// When signals cannot be awaited.
pub fn stop_by_signal() -> io::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn({
        let stop = stop.clone();
        async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            stop.cancel();
        }
    });
    Ok(stop)
}
