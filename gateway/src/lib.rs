//! The unprivileged network face: client dialects in, gRPC out.
//!
//! The modules stand in reading order; each uses only those below it. Blank lines keep
//! rustfmt from sorting them.

mod serve;

pub mod config;

pub mod accept;

pub mod transport;

pub mod dialect;

pub mod session;

pub mod router;

pub mod access;

pub mod namespace;

pub mod channels;

pub mod subsystem;

pub mod backend;

pub mod hub;

pub mod redis;

pub mod call;

pub mod proxy;

pub mod penalty;

pub mod misses;

pub mod gate;

mod rate;

mod depth;

mod plain;

mod pem;

mod utc;

pub use serve::{Parts, bind, serve};
