//! certd over its real sockets, called as the gateway, authd and root call it. Signatures are made by the
//! openssl program.

#![allow(clippy::indexing_slicing, unreachable_pub, reason = "one binary of tests")]

#[path = "certd/crash.rs"]
mod crash;
#[path = "certd/disk.rs"]
mod disk;
#[path = "certd/fixture.rs"]
mod fixture;
#[path = "../../launch/tests/raw/mod.rs"]
mod http2;
#[path = "certd/intake.rs"]
mod intake;
#[path = "certd/login.rs"]
mod login;
#[path = "certd/logs.rs"]
mod logs;
#[path = "certd/openssl.rs"]
mod openssl;
#[path = "certd/registration.rs"]
mod registration;
#[path = "certd/replay.rs"]
mod replay;
#[path = "certd/store.rs"]
mod store;
