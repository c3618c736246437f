//! doorward-authd: who you are. Logins, sessions, tokens, identity assertions.
//!
//! authd alone opens sessions. It has no capabilities and no network: PAM runs behind the guard, in a
//! worker of its own for each conversation, and the gateway is believed in nothing but that it carries
//! bytes. The modules stand in reading order; each uses only those below it.

mod daemon;

pub mod config;

pub mod service;

pub mod access;

pub mod driver;

pub mod login;

pub mod jwt;

pub mod method;

pub mod others;

pub mod plugin;

pub mod rights;

pub mod penalty;

pub mod conversation;

pub mod certd;

pub mod peer;

pub mod vouched;

pub mod account;

pub mod session;

pub mod assertion;

pub mod secret;

mod line;

pub mod error;

pub use daemon::{Authd, Neighbours, Parts, Service, serve};
