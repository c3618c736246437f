//! A service's own socket, past the gateway: for root, who may call it there.

use std::{io::ErrorKind, path::Path, time::Duration};

use tokio::time::timeout;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use crate::error::Error;

const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// A channel to the service of this name at this socket.
pub(crate) async fn connect(socket: &Path, name: &str) -> Result<Channel, Error> {
    let path = std::path::absolute(socket)
        .ok()
        .and_then(|path| path.to_str().map(str::to_owned))
        .ok_or_else(|| Error::Usage(format!("{} is no name of a socket", socket.display())))?;
    let endpoint = Endpoint::from_shared(format!("unix:{path}"))
        .map_err(|_| Error::Usage(format!("{path} is no name of a socket")))?;
    // The library says only that the transport failed; a connection of our own says why.
    let probe = timeout(CONNECT_DEADLINE, tokio::net::UnixStream::connect(&path)).await;
    let late = || Error::unreachable(format!("{path} did not answer within 10 seconds"));
    probe.map_err(|_| late())?.map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied => Error::refused(format!("{path} is for root: {error}")),
        _ => Error::unreachable(format!("no {name} at {path}: {error}")),
    })?;
    let channel = timeout(CONNECT_DEADLINE, endpoint.connect()).await;
    channel.map_err(|_| late())?.map_err(|error| Error::unreachable(format!("no {name} at {path}: {error}")))
}

/// What the service of this name answered in place of a reply.
pub(crate) fn refused(status: &Status, name: &str) -> Error {
    match status.code() {
        Code::PermissionDenied => Error::refused("only root may do that"),
        Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::Cancelled => {
            Error::unreachable(format!("{name} cannot do it now: {}", status.message()))
        }
        _ => Error::refused(format!("{name} refused: {}", status.message())),
    }
}
