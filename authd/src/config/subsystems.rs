//! `[subsystems]`: where root registers those that clients reach through the gateway.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `[subsystems]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Subsystems {
    /// The directory of registrations; it need not exist.
    pub directory: PathBuf,
}

impl Default for Subsystems {
    fn default() -> Self {
        Self { directory: "/etc/doorward/subsystems.d".into() }
    }
}
