//! What a connection hears of the session that it holds.

use std::sync::atomic::{AtomicU8, Ordering};

use futures_util::task::AtomicWaker;

use crate::call::EndReason;

/// One connection's ear.
#[derive(Debug, Default)]
pub(super) struct Listener {
    /// Its number, where one connection may hold the session at a time; else 0.
    pub(super) turn: u64,
    /// 0: it lives.
    reason: AtomicU8,
    pub(super) waker: AtomicWaker,
}

impl Listener {
    /// Of a connection of this number.
    pub(super) fn of(turn: u64) -> Self {
        Self { turn, ..Self::default() }
    }

    pub(super) fn tell(&self, reason: EndReason) {
        let code = match reason {
            EndReason::Idle => 1,
            EndReason::Expired => 2,
            EndReason::Cleared => 3,
            EndReason::Revoked => 4,
        };
        self.reason.store(code, Ordering::Release);
        self.waker.wake();
    }

    pub(super) fn heard(&self) -> Option<EndReason> {
        match self.reason.load(Ordering::Acquire) {
            0 => None,
            1 => Some(EndReason::Idle),
            2 => Some(EndReason::Expired),
            3 => Some(EndReason::Cleared),
            _ => Some(EndReason::Revoked),
        }
    }
}
