//! `[sessions]`: how many and how long.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::session::{AtLimit, Bounds};

/// `[sessions]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sessions {
    /// How long a session lives without a request.
    pub idle_seconds: u32,
    /// How long it lives in any case.
    pub absolute_seconds: u32,
    /// Sessions of one user.
    pub per_user: usize,
    /// Sessions in all.
    pub total: usize,
    /// What becomes of the next login of a user who has as many as may be.
    pub at_limit: Limit,
}

/// What becomes of the next login of a user who has as many sessions as may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// It is refused.
    Refuse,
    /// It ends the oldest of them.
    EndOldest,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            idle_seconds: 300,
            absolute_seconds: 43_200,
            per_user: 100,
            total: 65_536,
            at_limit: Limit::Refuse,
        }
    }
}

impl Sessions {
    pub(super) fn bounds(&self) -> Bounds {
        Bounds {
            idle: Duration::from_secs(self.idle_seconds.into()),
            absolute: Duration::from_secs(self.absolute_seconds.into()),
            per_user: self.per_user,
            total: self.total,
            at_limit: match self.at_limit {
                Limit::Refuse => AtLimit::Refuse,
                Limit::EndOldest => AtLimit::EndOldest,
            },
        }
    }
}
