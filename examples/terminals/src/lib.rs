//! Terminals that log in to channels with tokens of their own, one connection at a time each: an example of a plug-in
//! authenticator. docs/plugins.md goes through it.

mod authenticator;

mod register;

use std::{io, os::unix::net::UnixListener, sync::Arc};

use doorward_launch::grpc::{Limits, incoming, server};
use doorward_proto::authenticator::v1::authenticator_server::AuthenticatorServer;
use tokio_util::sync::CancellationToken;

pub use crate::{
    authenticator::Terminals,
    register::{Register, RegisterError, Terminal},
};

/// The largest request that is read: 8 KiB of credentials, and what is around them.
const REQUEST_MAX: usize = 16 << 10;

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
    let incoming = incoming(listener, move |uid| uid == authd, Limits::default())?;
    let service = AuthenticatorServer::new(Terminals(Arc::new(register)));
    let serving = server().add_service(service.max_decoding_message_size(REQUEST_MAX));
    serving.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()).await.map_err(io::Error::other)
}
