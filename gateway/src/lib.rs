//! The unprivileged network face: client dialects in, gRPC out.
//!
//! The modules stand in reading order; each uses only those below it.

mod serve;

pub mod config;

pub mod accept;
pub mod transport;

pub mod access;
pub mod dialect;
pub mod namespace;
pub mod router;
pub mod session;

pub mod backend;
pub mod call;

pub use serve::{Parts, bind, serve};
