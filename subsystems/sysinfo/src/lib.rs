//! `sysadm/systemmanager`: what this host is, and how it does. It only looks, and needs no root.
//!
//! Deployed SysAdm clients ask for some things by the names and in the shapes of the original server (`sysadm.rs`);
//! the others are our own (`own.rs`). The modules stand in reading order; each uses only those below.

mod program;

mod watch;

mod sysadm;

mod own;

mod state;

mod settings;

mod look;

#[cfg(target_os = "freebsd")]
mod freebsd;
#[cfg(target_os = "linux")]
mod linux;

mod shared;

mod facts;

pub use program::Sysinfo;
pub use settings::Settings;

#[cfg(test)]
#[path = "../../../packaging/etc/check.rs"]
mod example;
