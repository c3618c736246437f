//! What authd said of tokens lately: who asks about one again and again is answered from here.
//!
//! Used only while the stream of ended sessions stands, and only for as long as authd said; a session that
//! ends is forgotten in the same moment. Unlike a connection, this holds no session: whether another one
//! replaces it does not depend on who looked at it.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use aws_lc_rs::digest;

use super::{Backend, Failure, Holding, Moment, held::Table};
use crate::call::{Error, Identity, Purpose, SessionId, Token};

/// Entries of one of the two generations. When the young one is full the old one is forgotten.
const GENERATION: usize = 32_768;
/// Bytes of ACL entries of one generation, about.
const WEIGHT_MAX: usize = 8 << 20;

/// A session, as authd said that it is.
#[derive(Debug)]
pub struct Known {
    /// Who it is.
    pub identity: Identity,
    /// How the stream of ended sessions stood when authd was asked.
    pub watch: Option<u64>,
    /// When that was.
    pub asked: Instant,
    used: Mutex<Option<Instant>>,
}

impl Known {
    fn new(identity: Identity, watch: Option<u64>, asked: Instant) -> Arc<Self> {
        Arc::new(Self { identity, watch, asked, used: Mutex::default() })
    }

    /// The last use by this gateway's REST, if there was one since authd was asked.
    pub fn last_use(&self) -> Option<Instant> {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It was used just now, by whoever holds it so.
    pub fn used(&self, holding: &Holding, now: Instant) {
        holding.used();
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    fn fresh(&self, watch: u64, now: Instant) -> bool {
        let Self { identity, asked, .. } = self;
        self.watch == Some(watch)
            && now < identity.relied_upon_until(*asked)
            && identity.idle_until(*asked, self.last_use()).is_none_or(|until| now < until)
    }

    fn weight(&self) -> usize {
        self.identity.acl.iter().map(|entry| entry.len() + mem::size_of::<String>()).sum()
    }
}

/// A token's SHA-256: whoever measures how long a look takes learns nothing of any token.
type Hash = [u8; 32];

fn hash(token: &Token) -> Hash {
    let mut hash = [0; 32];
    // SHA-256 gives 32 bytes; were it ever otherwise the copy would panic, not truncate.
    hash.copy_from_slice(digest::digest(&digest::SHA256, token.expose().as_bytes()).as_ref());
    hash
}

/// All that is known, in two generations.
#[derive(Debug, Default)]
pub(super) struct Memory {
    young: Generation,
    old: Generation,
    /// How many sessions this gateway has had ended.
    given_back: u64,
}

#[derive(Debug, Default)]
struct Generation {
    entries: HashMap<(Hash, Purpose), Arc<Known>>,
    tokens: HashMap<SessionId, Hash>,
    weight: usize,
}

impl Memory {
    fn get(&mut self, key: &(Hash, Purpose)) -> Option<Arc<Known>> {
        if let Some(known) = self.young.entries.get(key) {
            return Some(Arc::clone(known));
        }
        let known = self.old.entries.remove(key)?;
        self.put(*key, Arc::clone(&known));
        Some(known)
    }

    fn put(&mut self, key: (Hash, Purpose), known: Arc<Known>) {
        if self.young.entries.len() >= GENERATION || self.young.weight >= WEIGHT_MAX {
            self.old = mem::take(&mut self.young);
        }
        self.young.weight += known.weight();
        self.young.tokens.insert(known.identity.session, key.0);
        if let Some(before) = self.young.entries.insert(key, known) {
            self.young.weight = self.young.weight.saturating_sub(before.weight());
        }
    }

    pub(super) fn given_back(&self) -> u64 {
        self.given_back
    }

    /// authd has ended its session, which the stream may tell later than an answer that was on its way.
    fn give_back(&mut self, hash: &Hash) {
        self.given_back += 1;
        self.forget_token(hash);
    }

    /// The same, of a session's name.
    pub(super) fn give_back_named(&mut self, session: SessionId) {
        self.given_back += 1;
        self.forget(session);
    }

    fn forget_token(&mut self, hash: &Hash) {
        let sessions = [&self.young, &self.old].map(|generation| {
            let known = |purpose| generation.entries.get(&(*hash, purpose));
            let known = Purpose::ALL.into_iter().find_map(known);
            known.map(|known| known.identity.session)
        });
        for session in sessions.into_iter().flatten() {
            self.forget(session);
        }
    }

    pub(super) fn forget(&mut self, session: SessionId) {
        for generation in [&mut self.young, &mut self.old] {
            let Some(hash) = generation.tokens.remove(&session) else { continue };
            for purpose in Purpose::ALL {
                if let Some(gone) = generation.entries.remove(&(hash, purpose)) {
                    generation.weight = generation.weight.saturating_sub(gone.weight());
                }
            }
        }
    }
}

impl Table {
    /// What is known of a token now, and when its holder used it last.
    fn known(&self, key: &(Hash, Purpose), now: Instant) -> (Option<Arc<Known>>, Option<Instant>) {
        let Some(watch) = self.watch() else { return (None, None) };
        let known = self.with_memory(|memory| memory.get(key));
        let used = known.as_ref().and_then(|known| known.last_use());
        (known.filter(|known| known.fresh(watch, now)), used)
    }
}

impl Backend {
    /// What is known of a token without asking anybody; None while nothing is, or nothing may be used.
    pub fn known(&self, token: &Token, purpose: Purpose) -> Option<Arc<Known>> {
        self.table.known(&(hash(token), purpose), Instant::now()).0
    }

    /// The session of a token; None if it opens nothing.
    pub async fn look(&self, token: &Token, purpose: Purpose) -> Result<Option<Arc<Known>>, Failure> {
        let (key, asked, now) = ((hash(token), purpose), self.moment(), Instant::now());
        if asked.watch.is_none() {
            return Err(Failure::new(Error::Unavailable, "authd does not tell which sessions end"));
        }
        let (known, used) = self.table.known(&key, now);
        if known.is_some() {
            return Ok(known);
        }
        let used_ago: Option<Duration> = used.map(|used| now.saturating_duration_since(used));
        match self.check(token, used_ago, purpose).await {
            Ok(identity) => {
                let known = Known::new(identity, asked.watch, now);
                Ok(self.table.remember(key, known, asked))
            }
            Err(Failure { error: Error::NotFound, .. }) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// What was known of a token is not true any more; `ended`: since just now.
    pub(super) fn forget(&self, token: &Token, ended: bool) {
        let hash = hash(token);
        self.table.with_memory(|memory| match ended {
            true => memory.give_back(&hash),
            false => memory.forget_token(&hash),
        });
    }

    /// A request holds the session of a token that was just looked at. It takes it from no connection.
    pub fn hold(&self, known: &Known, asked: Moment) -> Holding {
        self.table.hold(&known.identity, 0, asked)
    }
}

impl Table {
    /// None if the session ended while authd was asked.
    fn remember(&self, key: (Hash, Purpose), known: Arc<Known>, asked: Moment) -> Option<Arc<Known>> {
        let kept = Arc::clone(&known);
        self.unless_ended(known.identity.session, asked, move |memory| memory.put(key, kept))?;
        Some(known)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::call::{EndReason, Idle, Secret};

    fn token(n: u8) -> Token {
        Token::parse(Secret::new(Uuid::from_u128(n.into()).to_string())).expect("a token")
    }

    fn identity(n: u8, idle: Option<u64>) -> Identity {
        Identity {
            session: SessionId(Uuid::from_u128(u128::from(n) << 64)),
            token: token(n),
            who: crate::call::Who::alice(),
            has_access: true,
            is_token: false,
            is_channel: false,
            turn: 0,
            acl: vec!["#".to_owned()],
            issued: 0,
            expires: 0,
            idle: idle.map(|seconds| Idle {
                after: Duration::from_secs(seconds),
                left: Duration::from_secs(seconds),
            }),
            absolute_left: Duration::from_secs(3_600),
            rights: Duration::from_secs(60),
        }
    }

    fn remember(table: &Table, n: u8, idle: Option<u64>, asked: Moment, now: Instant) -> bool {
        let key = (hash(&token(n)), Purpose::Tell);
        table.remember(key, Known::new(identity(n, idle), asked.watch, now), asked).is_some()
    }

    fn knows(table: &Table, n: u8, purpose: Purpose, now: Instant) -> bool {
        table.known(&(hash(&token(n)), purpose), now).0.is_some()
    }

    #[test]
    fn what_is_known_is_known_for_one_purpose_and_a_minute() {
        let (table, now) = (Table::new(), Instant::now());
        table.up();
        assert!(remember(&table, 1, None, table.moment(), now));
        assert!(knows(&table, 1, Purpose::Tell, now));
        assert!(!knows(&table, 1, Purpose::Act, now));
        assert!(!knows(&table, 2, Purpose::Tell, now));
        assert!(knows(&table, 1, Purpose::Tell, now + Duration::from_millis(59_999)));
        assert!(!knows(&table, 1, Purpose::Tell, now + Duration::from_secs(60)));
    }

    #[test]
    fn an_idle_session_is_asked_about_again() {
        let (table, now) = (Table::new(), Instant::now());
        table.up();
        assert!(remember(&table, 1, Some(5), table.moment(), now));
        assert!(knows(&table, 1, Purpose::Tell, now + Duration::from_secs(4)));
        assert!(!knows(&table, 1, Purpose::Tell, now + Duration::from_secs(5)));
    }

    #[test]
    fn nothing_is_known_while_ends_are_not_told_nor_from_before() {
        let (table, now) = (Table::new(), Instant::now());
        table.up();
        assert!(remember(&table, 1, None, table.moment(), now));
        table.down();
        assert!(!knows(&table, 1, Purpose::Tell, now));
        table.up();
        assert!(!knows(&table, 1, Purpose::Tell, now), "what ended meanwhile was told to nobody");
    }

    #[test]
    fn an_end_is_known_at_once_also_while_authd_is_asked() {
        let (table, now) = (Table::new(), Instant::now());
        table.up();
        assert!(remember(&table, 1, None, table.moment(), now));
        table.ended(identity(1, None).session, EndReason::Cleared);
        assert!(!knows(&table, 1, Purpose::Tell, now));
        let asked = table.moment();
        table.ended(identity(2, None).session, EndReason::Revoked);
        assert!(!remember(&table, 2, None, asked, now));
        assert!(!knows(&table, 2, Purpose::Tell, now));
    }

    #[test]
    fn what_was_on_its_way_while_a_session_was_given_back_is_not_kept() {
        let (table, now) = (Table::new(), Instant::now());
        table.up();
        let asked = table.moment();
        table.with_memory(|memory| memory.give_back(&hash(&token(1))));
        assert!(remember(&table, 1, None, asked, now), "it was true when authd said it");
        assert!(!knows(&table, 1, Purpose::Tell, now));
        let asked = table.moment();
        table.with_memory(|memory| memory.give_back_named(identity(2, None).session));
        assert!(remember(&table, 2, None, asked, now) && !knows(&table, 2, Purpose::Tell, now));
        assert!(remember(&table, 2, None, table.moment(), now));
        assert!(knows(&table, 2, Purpose::Tell, now));
        let asked = table.moment();
        table.with_memory(|memory| memory.forget_token(&hash(&token(9))));
        assert!(remember(&table, 3, None, asked, now));
        assert!(knows(&table, 3, Purpose::Tell, now), "made-up tokens have nothing forgotten");
    }

    #[test]
    fn memory_is_bounded_and_what_is_asked_for_stays() {
        let mut memory = Memory::default();
        let known = Known::new(identity(1, None), Some(1), Instant::now());
        let key = |n: usize| {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&n.to_be_bytes());
            (hash, Purpose::Tell)
        };
        for n in 0..GENERATION * 4 {
            memory.put(key(n), Arc::clone(&known));
            assert!(memory.get(&key(0)).is_some(), "{n}");
        }
        assert!(memory.young.entries.len() + memory.old.entries.len() <= 2 * GENERATION);
        assert!(memory.get(&key(1)).is_none());
    }
}
