//! Channels: who may do what there, and how what is said gets to whoever listens.
//!
//! `policies.rs` reads root's table and decides, without I/O; `explain.rs` says for root what it decides and why; `handler.rs` asks those who decide instead; `seat.rs` is what one connection is subscribed to, `speech.rs` how much is said;
//! `engine/` carries messages, within this gateway or to others.

pub mod engine;
mod explain;
mod handler;
mod policies;
mod seat;
mod speech;

pub use self::{
    engine::{Engine, EngineError, NotSure, Running},
    explain::explain,
    handler::{Asker, Handled, Handlers, No, Presence},
    policies::{Decision, HandlerPlace, Policies},
    seat::Seat,
    speech::{Speakers, Speech, Voices},
};
