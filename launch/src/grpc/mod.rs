//! What every gRPC service needs before its first request: who is calling, whether that caller may
//! call this method, and that a request is there before it costs anything.
//!
//! tonic alone reads HTTP/2 from anybody, waits for ever for a peer's first bytes and for the rest of a
//! request, and spins when descriptors run out. [`incoming()`], [`server()`] and [`Intake`] are the answer
//! to those; [`AccessLayer`] closes every method that has no row.

mod access;
mod incoming;
mod intake;
mod server;

mod connection;

mod seats;

pub use access::{AccessLayer, Peer};
pub use connection::{Caller, Connection};
pub use incoming::{Accept, Limits, incoming, incoming_from};
pub use intake::{Intake, Receiving, Unfinished};
pub use server::server;
