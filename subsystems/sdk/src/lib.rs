//! For authors of subsystems: what authenticated clients reach through the gateway as `namespace/name`.
//!
//! An author says what there is to call, and writes one function for each; everything that a subsystem owes
//! its callers and its host is here: it starts as root and drops it, listens for the gateway alone, believes
//! authd's word for who is calling and nobody else's, checks the caller's right to the action, the bounds and
//! the args, keeps deadlines, breaks off what was taken back, and records what was done.
//!
//! ```no_run
//! use doorward_subsystem::{Action, Call, Failure, Subsystem, serde_json::{Value, json}};
//!
//! struct Greeter;
//!
//! impl doorward_subsystem::Program for Greeter {
//!     const NAME: &'static str = "greeter";
//!     const CONFIG_PATH: &'static str = "/etc/doorward/greeter.toml";
//!     type Settings = doorward_subsystem::NoSettings;
//!
//!     fn subsystem(_: doorward_subsystem::Settings<Self>) -> Subsystem {
//!         Subsystem::new("example", "greeter", env!("CARGO_PKG_VERSION"), "Says hello")
//!             .action(Action::read("hello", "Greets the caller", hello))
//!     }
//! }
//!
//! async fn hello(call: Call, _: Value) -> Result<Value, Failure> {
//!     Ok(json!({ "hello": call.caller().user }))
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     doorward_subsystem::main::<Greeter>()
//! }
//! ```
//!
//! `docs/subsystems.md` goes through it step by step. The modules stand in reading order; each uses only those
//! below.

mod daemon;

mod config;

mod program;

mod serve;

pub mod access;
mod service;

mod run;

mod record;

mod subsystem;

mod action;

mod schema;

mod call;

mod seats;

mod events;

mod replay;

mod failure;

pub mod bounds;

pub use action::Action;
pub use call::{Call, Ended, Progress};
pub use config::{Audit, Config};
pub use daemon::main;
pub use doorward_assertion::Caller;
pub use doorward_launch::{Confinement, Misconfigured};
pub use events::{Publisher, Unpublished};
pub use failure::{Failure, Kind};
pub use program::{NoSettings, Program, Settings};
pub use serve::{Peers, serve};
pub use service::Service;
pub use subsystem::{Misdescribed, Subsystem};

pub use serde_json;
