//! What every gRPC service needs before its first request: who is calling, and whether that caller
//! may call this method.
//!
//! tonic alone reads HTTP/2 from anybody, waits for ever for a peer's first bytes, and spins when
//! descriptors run out. [`incoming()`] is the answer to those three, [`AccessLayer`] closes every
//! method that has no row.

mod access;
mod incoming;

mod connection;

mod seats;

pub use access::{AccessLayer, Peer};
pub use connection::{Connection, PeerUid};
pub use incoming::{Accept, Limits, incoming, incoming_from};
