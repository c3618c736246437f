//! `[audit]`: where records go, and whether anybody logs in without them.

use std::path::{Path, PathBuf};

use doorward_launch::audit;
use serde::{Deserialize, Serialize};

/// `[audit]`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// The file; absent: in the state directory; empty: nothing is recorded.
    pub file: Option<PathBuf>,
    /// Whether nobody logs in while that cannot be recorded.
    pub required: bool,
}

impl Audit {
    pub(super) fn settings(&self) -> audit::Settings {
        audit::Settings { file: self.file.clone() }
    }

    /// Where records go; None: nowhere.
    pub fn place(&self, state_dir: &Path) -> Option<audit::Place> {
        self.settings().place(state_dir).map(|place| audit::Place { required: self.required, ..place })
    }
}
