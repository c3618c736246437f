//! How many sessions there may be, how long they live, and who makes room for whom.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{super::Owner, Session, live::Table};
use crate::error::AuthError;

/// How many and how long.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The idle clock.
    pub idle: Duration,
    /// The whole life.
    pub absolute: Duration,
    /// Sessions of one user.
    pub per_user: usize,
    /// Sessions in all.
    pub total: usize,
    /// What becomes of the next login of a user who has as many as may be.
    pub at_limit: AtLimit,
}

/// What becomes of the next login of a user who has as many sessions as may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AtLimit {
    /// It is refused.
    #[default]
    Refuse,
    /// It ends the oldest of them.
    EndOldest,
}

/// What a session is given at its beginning, where that is not the same for all. It has no idle clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Its whole life.
    pub life: Duration,
    /// Its ACL entries; None: those that its holder has.
    pub acl: Option<Arc<[String]>>,
    /// Its holder's other sessions end when it begins.
    pub only_one: bool,
}

/// Sees to it that one more session of this user fits in, within the bounds; the sessions that are taken out
/// for it. Who ends the oldest makes room for nobody else: the bound of all holds for the next login, too.
pub(super) fn make_room(
    table: &mut Table,
    owner: &Owner,
    bounds: &Bounds,
) -> Result<Vec<Session>, AuthError> {
    let of_owner = table.of_owner.get(owner).copied().unwrap_or(0);
    let too_many = (of_owner + 1).saturating_sub(bounds.per_user);
    let ends = match bounds.at_limit {
        AtLimit::EndOldest => too_many,
        AtLimit::Refuse => 0,
    };
    // Those that are being written to disk are nobody's yet and cannot be ended.
    let there = table.by_owner.get(owner).map_or(0, BTreeSet::len);
    if too_many > ends || ends > there {
        return Err(AuthError::TooManySessions("of this user"));
    }
    if table.count - ends >= bounds.total {
        return Err(AuthError::TooManySessions("in all"));
    }
    let oldest = |_| table.oldest_of(owner).and_then(|hash| table.take(&hash));
    Ok((0..ends).filter_map(oldest).collect())
}
