//! certd: registered public keys, who owns which, and which of them answered a challenge.
//!
//! It believes nobody's user name: users act by authd's identity assertion, logins are asked for by authd
//! alone, and root has the whole registry. The modules stand in reading order; each uses only those below.

mod daemon;

pub mod access;
pub mod service;

pub mod config;

pub mod error;
pub mod registry;
pub mod rights;

pub mod challenge;
pub mod proof;

pub mod x509;

pub mod key;
pub mod pem;

pub use daemon::{Certd, Parts, serve};

#[cfg(test)]
#[path = "../tests/certd/openssl.rs"]
mod openssl;
