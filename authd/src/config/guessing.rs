//! `[penalty]`: what guessing brings.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::penalty;

/// `[penalty]`
#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Penalty {
    /// So many refused logins bring their source a penalty; 0: there are none.
    pub failures: usize,
    /// If they come within this.
    pub within_seconds: u32,
    /// The first penalty.
    pub first_seconds: u32,
    /// Each further one is twice as long, up to this.
    pub longest_seconds: u32,
    /// The longest wait for an answer about an account that others guess at.
    pub account_delay_ms: u32,
}

impl Default for Penalty {
    fn default() -> Self {
        Self {
            failures: 5,
            within_seconds: 600,
            first_seconds: 60,
            longest_seconds: 3_600,
            account_delay_ms: 4_000,
        }
    }
}

impl Penalty {
    /// The rules of sources, and the longest wait about an account.
    pub(crate) fn rules(&self) -> (penalty::Rules, Duration) {
        let Penalty { failures, within_seconds, first_seconds, longest_seconds, account_delay_ms } = *self;
        let ms = |seconds: u32| u64::from(seconds) * 1000;
        let rules = penalty::Rules {
            failures,
            within_ms: ms(within_seconds),
            first_ms: ms(first_seconds),
            longest_ms: ms(longest_seconds),
        };
        (rules, Duration::from_millis(account_delay_ms.into()))
    }
}
