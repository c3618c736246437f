//! The sessions in memory: found by token and by key, counted by owner.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use doorward_launch::log::Sparingly;

use super::{
    super::{
        BY_JWT, Dialect, EndReason, Fingerprint, Holder, Identity, Owner, Session, SessionId, keys::Openings,
        shared::Shared,
    },
    TokenHash,
    by_token::ByToken,
    turns::Turn,
};

/// What a session is counted among: an owner's sessions of channels are counted apart from the others, so that
/// what opens only channels takes nobody's place on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) owner: Owner,
    pub(super) channel: bool,
    /// Opened by an issuer's or a plug-in's word alone.
    pub(super) vouched: bool,
}

impl Counted {
    pub(super) fn of(holder: &Holder) -> Self {
        let vouched = match &holder.who {
            Identity::User { .. } => holder.method == BY_JWT,
            Identity::Other { .. } => true,
        };
        Self { owner: holder.who.owner(), channel: holder.dialect == Dialect::Channel, vouched }
    }
}

/// What is known in memory; the store has the same but for what it says here.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) by_token: ByToken,
    /// By their names, in whose order they are listed.
    pub(super) by_id: BTreeMap<SessionId, TokenHash>,
    /// Those of each owner.
    pub(super) by_owner: BTreeMap<Owner, BTreeSet<SessionId>>,
    /// Those that a key opened.
    pub(super) by_key: HashMap<Fingerprint, Vec<TokenHash>>,
    /// Logins by key that are under way.
    pub(super) openings: Openings,
    /// Sessions of each owner, of channels (true) and others, those being written to disk included.
    of_owner: HashMap<(Owner, bool), usize>,
    /// Live ones and those being written to disk.
    pub(super) count: usize,
    /// Of these, those by an issuer's or a plug-in's word.
    pub(super) vouched: usize,
    /// The entries that sessions were given, and how many were given each list: a few lists, many sessions.
    acls: Shared<[String]>,
    /// Whose sessions are: a few as well, as somebody has many of them by one method from one place.
    holders: Shared<Holder>,
    /// Of sessions that one connection may hold at a time: whose turn it is.
    pub(super) turns: HashMap<SessionId, Turn>,
    /// Nothing is due before.
    not_due_before: u64,
    /// Used since last written.
    pub(super) unsaved: HashSet<TokenHash>,
    /// Lines about activity that is not yet on disk.
    pub(super) unwritten: Sparingly,
    /// Ended here but not yet on disk, because that failed: tried again until it works.
    pub(super) undeleted: Vec<SessionId>,
}

/// Between two lines about activity that is not yet on disk.
const QUIET: Duration = Duration::from_secs(10);

impl Table {
    pub(super) fn new() -> Self {
        Self { unwritten: Sparingly::once_in(QUIET), ..Self::default() }
    }

    pub(super) fn reserve(&mut self, one: &Counted) {
        self.count += 1;
        self.vouched += usize::from(one.vouched);
        *self.of_owner.entry((one.owner.clone(), one.channel)).or_default() += 1;
    }

    pub(super) fn release(&mut self, one: &Counted) {
        self.count = self.count.saturating_sub(1);
        self.vouched = self.vouched.saturating_sub(usize::from(one.vouched));
        let key = (one.owner.clone(), one.channel);
        if let Some(count) = self.of_owner.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.of_owner.remove(&key);
            }
        }
    }

    /// How many the owner has of those that are counted with this one.
    pub(super) fn of_owner(&self, one: &Counted) -> usize {
        self.of_owner.get(&(one.owner.clone(), one.channel)).copied().unwrap_or(0)
    }

    pub(super) fn insert(&mut self, mut session: Session) {
        session.acl = session.acl.map(|acl| self.acls.one(acl));
        session.holder = self.holders.one(session.holder);
        self.not_due_before = self.not_due_before.min(session.not_due_before());
        if let Some(key) = &session.key {
            self.by_key.entry(key.fingerprint).or_default().push(session.token);
        }
        self.by_id.insert(session.id, session.token);
        self.by_owner.entry(session.holder.who.owner()).or_default().insert(session.id);
        self.by_token.insert(session);
    }

    pub(super) fn take(&mut self, hash: &TokenHash) -> Option<Session> {
        let session = self.by_token.remove(hash)?;
        if let Some(key) = &session.key
            && let Some(hashes) = self.by_key.get_mut(&key.fingerprint)
        {
            hashes.retain(|other| other != hash);
            if hashes.is_empty() {
                self.by_key.remove(&key.fingerprint);
            }
        }
        self.by_id.remove(&session.id);
        let owner = session.holder.who.owner();
        if let Some(ids) = self.by_owner.get_mut(&owner) {
            ids.remove(&session.id);
            if ids.is_empty() {
                self.by_owner.remove(&owner);
            }
        }
        if let Some(acl) = &session.acl {
            self.acls.leave(acl);
        }
        self.holders.leave(&session.holder);
        self.unsaved.remove(hash);
        self.turns.remove(&session.id);
        self.release(&Counted::of(&session.holder));
        Some(session)
    }

    /// Takes out what is due, and says why. Looks at all only where one can be: a use makes it later, never sooner.
    pub(super) fn take_due(&mut self, now: u64) -> Vec<(Session, EndReason)> {
        if now < self.not_due_before {
            return Vec::new();
        }
        let all = self.by_token.values();
        let due: Vec<_> = all.filter_map(|session| Some((session.token, session.due(now)?))).collect();
        let due = due.into_iter().filter_map(|(hash, reason)| Some((self.take(&hash)?, reason))).collect();
        let left = self.by_token.values().map(|session| session.not_due_before());
        self.not_due_before = left.min().unwrap_or(u64::MAX);
        due
    }

    /// The oldest so many of those of an owner that are counted with this one; fewer, if there are no more.
    pub(super) fn oldest_of(&self, one: &Counted, most: usize) -> Vec<&Session> {
        let ids = self.by_owner.get(&one.owner).into_iter().flatten();
        let alike = |session: &&Session| (session.holder.dialect == Dialect::Channel) == one.channel;
        let mut sessions: Vec<_> = ids.filter_map(|id| self.named(*id)).filter(alike).collect();
        sessions.sort_by_key(|session| session.started);
        sessions.truncate(most);
        sessions
    }

    /// Takes out every session of an owner's.
    pub(super) fn take_all(&mut self, owner: &Owner) -> Vec<Session> {
        let ids = self.by_owner.get(owner).into_iter().flatten();
        let hashes: Vec<_> = ids.filter_map(|id| self.by_id.get(id)).copied().collect();
        hashes.iter().filter_map(|hash| self.take(hash)).collect()
    }

    pub(super) fn named(&self, id: SessionId) -> Option<&Session> {
        self.by_token.get(self.by_id.get(&id)?)
    }

    pub(super) fn idle(&self) -> bool {
        self.by_token.is_empty() && self.undeleted.is_empty()
    }
}
