//! The gateway's Unix socket: no TLS, the kernel says who is at the other end.

use std::path::Path;

use tokio::net::UnixStream;

use crate::error::Error;

/// Connects and says which uid listens there.
pub(super) async fn connect(path: &Path) -> Result<(UnixStream, u32), Error> {
    let unreachable =
        |error: std::io::Error| Error::unreachable(format!("no gateway at {}: {error}", path.display()));
    let stream = UnixStream::connect(path).await.map_err(unreachable)?;
    let peer = stream.peer_cred().map_err(unreachable)?;
    Ok((stream, peer.uid()))
}
