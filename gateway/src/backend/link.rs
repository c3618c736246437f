//! A connection to a back end on a Unix socket, to the right one or to none.

use std::{io, path::PathBuf, time::Duration};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

/// From calling to being connected.
pub(super) const CONNECT: Duration = Duration::from_secs(5);
/// A back end that does not answer a ping for this long is gone.
const PING: Duration = Duration::from_secs(5);
/// The largest header list of an answer.
const HEADERS_MAX: u32 = 8 << 10;

/// Where a back end is, and whose it must be.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    /// The socket.
    pub(crate) path: PathBuf,
    /// Who must have called listen() there.
    pub(crate) uid: u32,
}

impl Link {
    /// A channel that connects when it is used, and again after every failure.
    pub(super) fn channel(&self) -> Channel {
        let link = self.clone();
        self.endpoint().connect_with_connector_lazy(service_fn(move |_: Uri| {
            let link = link.clone();
            async move { link.connect().await.map(TokioIo::new) }
        }))
    }

    /// What holds for every connection.
    pub(super) fn endpoint(&self) -> Endpoint {
        Endpoint::from_static("http://doorward")
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .keep_alive_while_idle(true)
            .http2_max_header_list_size(HEADERS_MAX)
    }

    /// The stream is handed over only when the kernel says that the right user listens.
    pub(super) async fn connect(&self) -> io::Result<UnixStream> {
        let stream = UnixStream::connect(&self.path).await?;
        check_server(&stream, self.uid)?;
        Ok(stream)
    }
}

/// The uid that called listen(), which the kernel remembers.
pub(super) fn check_server(socket: &impl std::os::fd::AsFd, uid: u32) -> io::Result<()> {
    let server = doorward_peercred::uid_of_peer(socket)?.as_raw();
    if server == uid {
        Ok(())
    } else {
        let sentence = format!("uid {server} listens there, not uid {uid}");
        Err(io::Error::new(io::ErrorKind::PermissionDenied, sentence))
    }
}
