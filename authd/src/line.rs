//! A channel to a service on its Unix socket: to the right one or to none.

use std::{io, path::PathBuf, time::Duration};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

/// From calling to being connected.
const CONNECT: Duration = Duration::from_secs(5);
/// A service that does not answer a ping for this long is gone.
const PING: Duration = Duration::from_secs(5);
/// The largest header list of an answer.
const HEADERS_MAX: u32 = 8 << 10;

/// Connects when it is used, and again after every failure. `whose` stands in sentences.
pub(crate) fn channel(path: PathBuf, uid: u32, whose: String) -> Channel {
    Endpoint::from_static("http://service")
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .keep_alive_while_idle(true)
        .http2_max_header_list_size(HEADERS_MAX)
        .connect_with_connector_lazy(service_fn(move |_: Uri| {
            let (path, whose) = (path.clone(), whose.clone());
            async move {
                let stream = UnixStream::connect(path).await?;
                // Whoever called listen(): not a byte is sent to anybody else.
                let server = doorward_peercred::uid_of_peer(&stream)?.as_raw();
                if server != uid {
                    let sentence = format!("uid {server} listens there, not {whose} uid {uid}");
                    return Err(io::Error::new(io::ErrorKind::PermissionDenied, sentence));
                }
                Ok(TokioIo::new(stream))
            }
        }))
}
