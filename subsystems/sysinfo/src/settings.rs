//! `[settings]` of sysinfo.toml: from when on the state of the host is worth a warning.

use doorward_subsystem::Misconfigured;
use serde::{Deserialize, Serialize};

/// The table.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Seconds between two events without a change.
    pub event_seconds: u32,
    /// Seconds between two looks.
    pub look_seconds: u32,
    /// Percent of the fullest disk.
    pub disk: Levels,
    /// Percent of the memory that is not available.
    pub memory: Levels,
    /// The load of five minutes, in percent of what the processors can do.
    pub load: Levels,
}

/// From when on what. Each is at least this much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Levels {
    /// Priority 3.
    pub warning: u64,
    /// Priority 6.
    pub critical: u64,
    /// Priority 9.
    pub urgent: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            event_seconds: 60,
            look_seconds: 10,
            disk: Levels { warning: 85, critical: 91, urgent: 97 },
            memory: Levels { warning: 90, critical: 95, urgent: 98 },
            load: Levels { warning: 200, critical: 400, urgent: 800 },
        }
    }
}

impl Settings {
    /// What must hold beyond the syntax.
    pub(crate) fn check(&self) -> Result<(), Misconfigured> {
        for (key, seconds) in
            [("settings.event_seconds", self.event_seconds), ("settings.look_seconds", self.look_seconds)]
        {
            if !(1..=3_600).contains(&seconds) {
                return Err(Misconfigured::at(key, "must be from 1 to 3600"));
            }
        }
        for (key, levels) in
            [("settings.disk", self.disk), ("settings.memory", self.memory), ("settings.load", self.load)]
        {
            if levels.warning == 0 || levels.warning > levels.critical || levels.critical > levels.urgent {
                let sentence = "must be warning, critical and urgent in ascending order, above 0";
                return Err(Misconfigured::at(key, sentence));
            }
        }
        Ok(())
    }
}
