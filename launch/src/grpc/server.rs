//! tonic's server with bounds on what HTTP/2 lets a peer do.

use std::time::Duration;

use tonic::transport::Server;

/// Requests of one connection at a time: refusals that wait hold one each, and there may be 1,024.
const STREAMS_MAX: u32 = 1_280;
/// What may be under way to us unread, in one request and in one connection.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 256 << 10;
/// A client that leaves makes the gateway take its request back, so taken-back requests are no attack:
/// as many of them as of open ones may wait to be seen.
const TAKEN_BACK_MAX: usize = STREAMS_MAX as usize;
/// Broken requests in the whole life of a connection. The gateway's lives as long as the gateway.
const BROKEN_MAX: usize = 65_536;

/// A server to add layers and services to.
///
/// It has no timeout: a login may take as long as PAM may, a watch lasts. Every wait inside has its own
/// deadline.
pub fn server() -> Server {
    Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .http2_max_pending_accept_reset_streams(Some(TAKEN_BACK_MAX))
        .http2_max_local_error_reset_streams(Some(BROKEN_MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_max_header_list_size(8 << 10)
        .max_frame_size(16 << 10)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
}
