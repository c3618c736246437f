//! From exec() to serve(): what every doorward daemon does before its first request.
//!
//! A daemon says what is its own by the trait [`Daemon`] and calls [`run`] in `main`. The order is
//! fixed here, once: arguments, configuration, log, (background,) sockets and key files, privileges
//! dropped for good, and only then a runtime and the first thread.
//!
//! The modules stand in reading order; each uses only those below it.

mod daemon;
#[cfg(feature = "grpc")]
pub mod grpc;

pub mod registrations;

mod background;
mod config;
mod control;
mod descriptors;
mod keys;
mod options;
mod privilege;
pub mod sandbox;

pub mod audit;

mod counted;

mod current;

pub mod log;

mod peers;

mod error;

pub mod socket;

pub mod file;

mod directory;

pub mod account;

mod json;

#[cfg(test)]
mod skip;

pub use account::Identity;
pub use audit::Audit;
pub use config::table;
pub use control::{Control, Reload, Reloads};
pub use counted::{counted, counted_uid, is_subordinate_uid};
pub use current::Current;
pub use daemon::{Daemon, Question, run};
pub use descriptors::descriptors;
pub use error::{Misconfigured, StartError, chain};
pub use json::Plain;
pub use keys::{Keys, Takes, unlisted};
pub use peers::Peers;
pub use sandbox::Confinement;
