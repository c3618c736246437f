//! The whole gateway in this process, against a fake authd, over the Unix socket and TLS.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod authd_gone;
mod authentication;
mod channel_explain;
mod channel_handlers;
mod channel_limits;
mod channel_reload;
mod channel_sessions;
mod channels;
mod channels_redis;
mod client_certificates;
mod ends;
mod events;
mod fake_authd;
mod fake_certd;
mod fake_logins;
mod fake_peers;
mod fake_sessions;
mod fake_subsystem;
mod flow;
mod http;
mod key_login;
mod limits;
mod logs;
mod penalties;
mod redis;
mod redis_peers;
mod redis_server;

mod rest;
mod rows;
mod sessions;
mod settings;
mod stop;
mod subsystem_bounds;
mod subsystem_rights;
mod subsystem_streams;
mod subsystems;
mod support;
mod tls;
mod token_api;
mod web;
