//! How many sessions there may be, how long they live, and who makes room for whom.

use std::{sync::Arc, time::Duration};

use super::{
    Session,
    live::{Counted, Table},
};
use crate::error::AuthError;

/// How many and how long.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The idle clock.
    pub idle: Duration,
    /// The whole life.
    pub absolute: Duration,
    /// Sessions of one user, and as many of channels.
    pub per_user: usize,
    /// Sessions in all. Of these a quarter may be there by the word of issuers and plug-ins.
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
    /// Its holder's other sessions end when it begins, and one connection may hold it at a time.
    pub only_one: bool,
}

/// Sees to it that one more of these sessions fits in, within the bounds; the sessions that are taken out for it.
/// Who ends the oldest makes room for nobody else: the bound of all holds for the next login, too. Of channels it is
/// always the oldest that ends: nobody is at them who could end one. The same where all places are taken: a session
/// of channels whose gateway was killed is nobody's, and whose it was shall come in again.
pub(super) fn make_room(
    table: &mut Table,
    one: &Counted,
    bounds: &Bounds,
) -> Result<Vec<Session>, AuthError> {
    // An issuer's key that leaked has as many names as it likes: it is not to keep the host's users out.
    let quarter = (bounds.total / 4).max(1);
    let full = table.count >= bounds.total || (one.vouched && table.vouched >= quarter);
    let too_many = (table.of_owner(one) + 1).saturating_sub(bounds.per_user);
    let ends = match bounds.at_limit {
        AtLimit::EndOldest | AtLimit::Refuse if one.channel => too_many.max(usize::from(full)),
        AtLimit::EndOldest => too_many,
        AtLimit::Refuse => 0,
    };
    // Those that are being written to disk are nobody's yet and cannot be ended.
    let oldest = if ends == 0 { Vec::new() } else { table.oldest_of(one, ends) };
    if too_many > oldest.len() {
        return Err(AuthError::TooManySessions("of this user"));
    }
    if table.count - oldest.len() >= bounds.total {
        return Err(AuthError::TooManySessions("in all"));
    }
    let vouched = oldest.iter().filter(|session| Counted::of(&session.holder).vouched).count();
    if one.vouched && table.vouched - vouched >= quarter {
        return Err(AuthError::TooManySessions("by the word of issuers and plug-ins"));
    }
    let oldest: Vec<_> = oldest.into_iter().map(|session| session.token).collect();
    Ok(oldest.iter().filter_map(|hash| table.take(hash)).collect())
}
