//! A subsystem over its real socket, called as the gateway calls it, with the assertions of a made-up authd.

#![allow(clippy::indexing_slicing, unreachable_pub, reason = "one binary of tests")]

#[path = "sdk/assertions.rs"]
mod assertions;
#[path = "sdk/bounds.rs"]
mod bounds;
#[path = "sdk/ends.rs"]
mod ends;
#[path = "sdk/events.rs"]
mod events;
#[path = "sdk/fixture.rs"]
mod fixture;
#[path = "../../../examples/python.rs"]
mod interpreter;
#[path = "sdk/python.rs"]
mod python;
#[path = "sdk/records.rs"]
mod records;
#[expect(dead_code, reason = "launch's own tests use all of it")]
#[path = "../../../launch/src/skip.rs"]
mod skip;
