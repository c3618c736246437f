//! The whole gateway in this process, against a fake authd, over the Unix socket and TLS.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod authd_gone;
mod authentication;
mod ends;
mod fake_authd;
mod flow;
mod http;
mod limits;
mod rows;
mod support;
mod tls;
