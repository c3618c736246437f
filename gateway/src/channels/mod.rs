//! Channels: who may do what there, and how what is said gets to whoever listens.
//!
//! `policies.rs` reads root's table and decides, without I/O; `seat.rs` is what one connection is subscribed to;
//! `engine/` carries messages, within this gateway or to others.

pub mod engine;
mod policies;
mod seat;

pub use self::{
    engine::{Engine, EngineError, Interrupted, Running},
    policies::{Decision, HandlerPlace, Policies},
    seat::Seat,
};
