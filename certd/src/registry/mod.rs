//! The registry's rules: a key has one owner, a proven registration displaces an unproven one, bounds
//! hold, what is revoked stays revoked. The decisions are pure; [`store`] asks them inside a transaction.

mod store;

use std::path::Path;

use doorward_launch::Current;
pub use store::{Failed, OpenError, Point, Watch};
use tokio::sync::broadcast;

use crate::{
    key::{Fingerprint, PublicKey, SignatureClass},
    rights::Whose,
};

/// Entries of one page of a listing.
const PAGE: u32 = 64;

/// Revocations that a watcher may be behind.
const BEHIND: usize = 1024;

/// Keys that an unhinted search tries at most.
pub const SEARCH_MAX: u32 = 1000;

/// A registered key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// SubjectPublicKeyInfo, DER, canonical.
    pub key: Vec<u8>,
    /// Its SHA-256.
    pub fingerprint: Fingerprint,
    /// Which signatures can be its own.
    pub class: SignatureClass,
    /// Its owner.
    pub user: String,
    /// The uid of its owner's account; None: not known, so that it is whoever's who has the name.
    pub uid: Option<u32>,
    /// DER, or empty.
    pub certificate: Vec<u8>,
    /// For people.
    pub nickname: String,
    /// For people.
    pub email: String,
    /// Seconds of UTC, as all times here.
    pub registered: i64,
    /// The session that registered it.
    pub registered_session: String,
    /// How that session was opened, or "import".
    pub registered_method: String,
    /// Whether its holder has shown the private key.
    pub proven: bool,
    /// When it last logged in.
    pub last_used: Option<i64>,
    /// From where, as reported.
    pub last_source: String,
    /// When it was revoked.
    pub revoked: Option<i64>,
    /// By whom.
    pub revoked_by: String,
}

impl Entry {
    /// An unused, unproven entry for `key`.
    pub fn new(key: &PublicKey, user: String, registered: i64) -> Self {
        Self {
            key: key.spki().to_vec(),
            fingerprint: key.fingerprint(),
            class: key.class(),
            user,
            uid: None,
            certificate: Vec::new(),
            nickname: String::new(),
            email: String::new(),
            registered,
            registered_session: String::new(),
            registered_method: String::new(),
            proven: false,
            last_used: None,
            last_source: String::new(),
            revoked: None,
            revoked_by: String::new(),
        }
    }
}

/// Bounds of the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Keys of one user.
    pub per_user: u32,
    /// Keys in all.
    pub total: u32,
}

/// Revoked keys that are remembered of one user at least.
const HISTORY: u32 = 64;

impl Limits {
    /// Revoked keys that are remembered of one user: all that he can have revoked at once, so that a watcher
    /// that comes back hears of each.
    fn history(self) -> u32 {
        self.per_user.max(HISTORY)
    }
}

/// Why the rules refuse a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Somebody else has it, and this registration does not displace his.
    #[error("the key is registered for another user")]
    OfAnother,
    /// The user has as many as he may.
    #[error("this user has {0} keys, which is the limit; revoke one first")]
    UserFull(u32),
    /// The registry has as many as it may.
    #[error("the registry is full")]
    Full,
}

/// What the registry holds that a registration depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Facts {
    /// Who has the key now.
    holder: Option<KeyHolder>,
    /// Live keys of the user.
    of_user: u32,
    /// Live keys in all.
    total: u32,
}

/// Whose a key is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct KeyHolder {
    user: String,
    /// As [`Entry::uid`].
    uid: Option<u32>,
    /// As [`Entry::proven`].
    proven: bool,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    /// The entry is there, as it is wanted.
    Keep,
    /// The entry is there; from now on it is proven, and its owner's account known.
    Prove,
    /// New.
    Add,
    /// New, in the place of another user's unproven one.
    Displace,
    /// New, in the place of another account's, which had the user's name before.
    Renew,
}

fn decide(facts: &Facts, new: &Entry, limits: Limits) -> Result<Decision, Refusal> {
    let decision = match &facts.holder {
        Some(holder) if holder.user == new.user => {
            let renews = holder.uid.is_some() && new.uid.is_some() && holder.uid != new.uid;
            let adds = !holder.proven || (holder.uid.is_none() && new.uid.is_some());
            return Ok(match (renews, new.proven && adds) {
                (true, _) => Decision::Renew,
                (false, true) => Decision::Prove,
                (false, false) => Decision::Keep,
            });
        }
        Some(holder) if holder.proven || !new.proven => return Err(Refusal::OfAnother),
        Some(_) => Decision::Displace,
        None if facts.total >= limits.total => return Err(Refusal::Full),
        None => Decision::Add,
    };
    if facts.of_user >= limits.per_user { Err(Refusal::UserFull(limits.per_user)) } else { Ok(decision) }
}

/// Which keys a proof is tried against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    /// The signature's class: others cannot have made it.
    pub class: SignatureClass,
    /// Only this user's.
    pub user: Option<String>,
    /// Only this key.
    pub fingerprint: Option<Fingerprint>,
    /// Without a hint: those last used from here come first.
    pub source: String,
}

impl Search {
    /// Whether a hint limits it to a user or a key.
    pub fn is_hinted(&self) -> bool {
        self.user.is_some() || self.fingerprint.is_some()
    }
}

/// A key that may have signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its owner.
    pub user: String,
    /// Its identity.
    pub fingerprint: Fingerprint,
    /// SubjectPublicKeyInfo, DER.
    pub key: Vec<u8>,
}

/// A registration that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// The entry as it stands.
    pub entry: Entry,
    /// Who lost the key by it; the user's own name if an account lost it that had the name before.
    pub displaced: Option<String>,
    /// False: it was registered as it was wanted, and nothing was written.
    pub changed: bool,
}

/// A key that is not its user's any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// Which.
    pub fingerprint: Fingerprint,
    /// Whose it was.
    pub user: String,
    /// Since when.
    pub revoked: i64,
}

/// A page of entries, and where the next one begins.
pub type Page = (Vec<Entry>, Option<i64>);

/// What became of an imported entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Imported {
    /// It is new.
    Added,
    /// It was there and is as it was.
    Known,
    /// It is not taken: its user's key was revoked since it was exported.
    Revoked,
}

/// The keys, on disk.
#[derive(Debug)]
pub struct Registry {
    store: store::Store,
    limits: Current<Limits>,
    revoked: broadcast::Sender<Revocation>,
}

impl Registry {
    /// Opens the registry in `directory`, or makes an empty one.
    ///
    /// # Errors
    /// When the files cannot be used; says which, why, and how to mend it.
    pub fn open(directory: &Path, limits: Limits, watch: Watch) -> Result<Self, OpenError> {
        Ok(Self {
            store: store::Store::open(directory, watch)?,
            limits: Current::new(limits),
            revoked: broadcast::Sender::new(BEHIND),
        })
    }

    /// From now on these bounds hold; keys beyond them stay.
    pub fn limit(&self, limits: Limits) {
        self.limits.set(limits);
    }

    /// Registers a key. On disk when this returns. `record` is called as soon as it is, also when whoever
    /// asked for it has given up by then: a slow disk must leave no change behind that no record tells of.
    ///
    /// # Errors
    /// The rules' refusal, or the store's failure: then nothing has changed.
    pub async fn register(
        &self,
        entry: Entry,
        record: impl FnOnce(&Registered) + Send + 'static,
    ) -> Result<Result<Registered, Refusal>, Failed> {
        let limits = *self.limits.get();
        let decide = move |facts: &Facts, new: &Entry| decide(facts, new, limits);
        let tell = self.teller();
        let (fingerprint, revoked) = (entry.fingerprint, entry.registered);
        let done = move |registered: &Registered| {
            if let Some(user) = registered.displaced.clone() {
                tell(Revocation { fingerprint, user, revoked });
            }
            record(registered);
        };
        self.store.register(entry, limits.history(), decide, done).await
    }

    /// Takes entries as they were exported, in their order: of two that are at odds the first is taken. On
    /// disk when this returns. What was revoked after a registration opens nothing by that registration again.
    /// `record` is called as for a registration.
    ///
    /// # Errors
    /// The store's failure: then none of them has been taken.
    pub async fn import(
        &self,
        entries: Vec<Entry>,
        record: impl FnOnce(&[Result<Imported, Refusal>]) + Send + 'static,
    ) -> Result<Vec<Result<Imported, Refusal>>, Failed> {
        let limits = *self.limits.get();
        let decide = move |facts: &Facts, new: &Entry| decide(facts, new, limits);
        self.store.import(entries, limits.history(), decide, record).await
    }

    /// Revokes `user`'s key; false when he has no such key. On disk when this returns. `record` is called as
    /// for a registration, if he has.
    ///
    /// # Errors
    /// The store's failure: then nothing has changed.
    pub async fn revoke(
        &self,
        fingerprint: Fingerprint,
        user: String,
        by: String,
        now: i64,
        record: impl FnOnce() + Send + 'static,
    ) -> Result<bool, Failed> {
        let tell = self.teller();
        let revocation = Revocation { fingerprint, user, revoked: now };
        let told = revocation.clone();
        let done = move || {
            tell(told);
            record();
        };
        self.store.revoke(revocation, by, self.limits.get().history(), done).await
    }

    /// Every revocation from now on, displaced keys included.
    pub fn revoked(&self) -> broadcast::Receiver<Revocation> {
        self.revoked.subscribe()
    }

    /// Tells who watches, as soon as it is on disk: whoever asked for it may have given up by then.
    fn teller(&self) -> impl FnOnce(Revocation) + Send + 'static {
        let watchers = self.revoked.clone();
        // Nobody watching is fine: a watcher asks for what it missed.
        move |revocation| drop(watchers.send(revocation))
    }

    /// Notes a login, by which the key is proven if `proves`. False when it is not `user`'s any more.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn used(
        &self,
        fingerprint: Fingerprint,
        user: String,
        source: String,
        proves: bool,
        now: i64,
    ) -> Result<bool, Failed> {
        self.store.used(fingerprint, user, source, proves, now).await
    }

    /// Live keys, a page at a time; begin after 0.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn list(&self, whose: Whose, after: i64) -> Result<Page, Failed> {
        let user = match whose {
            Whose::One(user) => Some(user),
            Whose::All => None,
        };
        self.store.page(after, user, false).await
    }

    /// Live and revoked keys, a page at a time; begin after 0.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn export(&self, after: i64) -> Result<Page, Failed> {
        self.store.page(after, None, true).await
    }

    /// The keys to try, the likeliest first.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn candidates(&self, search: Search) -> Result<Vec<Candidate>, Failed> {
        self.store.candidates(search).await
    }

    /// The live entry of a key.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn find(&self, fingerprint: Fingerprint) -> Result<Option<Entry>, Failed> {
        self.store.find(fingerprint).await
    }

    /// What was revoked since a time.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn revocations(&self, since: i64) -> Result<Vec<Revocation>, Failed> {
        self.store.revocations(since).await
    }

    /// Ends the threads after what is queued. Blocks: not for a thread of the runtime.
    pub fn close(&self) {
        self.store.close();
    }
}

#[cfg(test)]
mod tests;
