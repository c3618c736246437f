//! One event, one line of printable ASCII, on stderr or in a file.
//!
//! `2026-11-23T10:11:12.123Z warning doorward-authd: message key=value key="with \u{a} escapes"`
//!
//! Whatever a peer put into a name, it cannot begin a second line, move a terminal's cursor or pass
//! for a field: see [`line`].

mod line;
mod sink;
mod sparingly;
pub(crate) mod time;

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use line::printable;
pub(crate) use sink::{init, reopen, set_level};
pub use sparingly::Sparingly;

/// The `[log]` table of a daemon's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The least important level that is logged.
    pub level: Level,
    /// Where to; stderr if absent.
    pub file: Option<PathBuf>,
}

/// How important an event is.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Somebody must look now: see [`critical!`](crate::critical).
    Critical,
    /// Something that should work did not.
    Error,
    /// Somebody did what they should not, or something will fail soon.
    Warning,
    /// What happens in the course of things.
    #[default]
    Info,
    /// For people who mend doorward.
    Debug,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Critical => "critical",
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Info => "info",
            Level::Debug => "debug",
        })
    }
}

/// Logs at level critical; takes what `tracing::error!` takes.
#[macro_export]
macro_rules! critical {
    ($($arguments:tt)+) => { $crate::log::tracing::error!(critical = true, $($arguments)+) };
}

#[doc(hidden)]
pub use ::tracing;

#[cfg(test)]
mod tests;
