//! What the tests of all services together are made of.
//!
//! [`Stack`] starts the real programs in a directory of its own; [`Client`] and [`transcript`] speak to
//! it as a client would, [`web`] over plain HTTP; [`keys`] are those of clients; [`door`] connects under another uid; [`secrets`]
//! remembers what no log may hold.

// All of this is test code: an index that is out of bounds fails the test, as it should.
#![allow(clippy::indexing_slicing)]

mod accounts;
mod cast;
pub mod client;
mod daemon;
pub mod door;
pub mod grpc;
pub mod keys;
mod leftovers;
pub mod logs;
mod options;
mod pam;
mod programs;
pub mod python;
pub mod secrets;
pub mod skip;
mod stack;
pub mod strace;
mod tls;
pub mod transcript;
pub mod wal;
pub mod web;

pub use cast::{CODE, COLOUR, Cast, Person, Role};
pub use client::{Client, Received};
pub use options::{Options, Pam};
pub use programs::{cargo_target, copy_program, doorward, program};
pub use stack::{Example, Fake, Plugin, Program, Stack};
