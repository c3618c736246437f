//! The live sessions: found by what their token hashes to, bounded, every change on disk first.

mod bounds;
mod by_key;
mod by_token;
mod keeping;
mod live;
mod others;
mod turns;
mod undo;

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use bounds::make_room;
pub use bounds::{AtLimit, Bounds, Terms};
pub use by_key::KeyLogin;
use doorward_launch::{
    Audit, Current,
    audit::{self, Record},
};
use live::{Counted, Table};
pub use others::{Listed, Scope};
use tokio::sync::{OwnedSemaphorePermit, RwLock, Semaphore, broadcast, watch};
use tracing::info;
use turns::Turn;
use undo::Place;

use super::{
    Boot, Clock, EndReason, Ended, Holder, Key, Session, SessionId, Standing, StoreError, clock,
    keys::{Moment, Proven},
    store::Store,
};
use crate::{
    error::AuthError,
    secret::{self, Token, TokenHash},
};

/// Streams of ended sessions at a time: a gateway each, and a few operators.
const WATCHERS: usize = 16;
/// Ends that a watcher may be behind before it is told to begin again.
const BEHIND: usize = 4096;

/// A use of a session, to be counted: which, and how many milliseconds ago.
#[derive(Debug)]
pub struct Used {
    /// Its token.
    pub token: Token,
    /// How long ago.
    pub ago_ms: u64,
}

/// The sessions of this authd.
#[derive(Debug)]
pub struct Sessions {
    bounds: Current<Bounds>,
    clock: Clock,
    table: Mutex<Table>,
    /// None once closed.
    store: RwLock<Option<Store>>,
    news: broadcast::Sender<News>,
    /// The number of the next turn of any session.
    turns: AtomicU64,
    watchers: Arc<Semaphore>,
    /// Sent whenever there may be something to keep.
    stirred: watch::Sender<()>,
    audit: Audit,
}

/// What gateways are told of sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// One ended.
    Ended(Ended),
    /// A connection took up one that one connection may hold at a time.
    TakenUp {
        /// Which.
        session: SessionId,
        /// The connection's number: those with lower ones hold it no more.
        turn: u64,
    },
}

/// A stream of the sessions that end, and of those that pass from one connection to another.
#[derive(Debug)]
pub struct Watch {
    pub(super) news: broadcast::Receiver<News>,
    _place: OwnedSemaphorePermit,
}

impl Watch {
    /// The next; None when this watcher has fallen too far behind or authd stops.
    pub async fn next(&mut self) -> Option<News> {
        self.news.recv().await.ok()
    }
}

impl Sessions {
    /// Opens the store in `directory` and takes up the sessions of this boot. Nothing is recorded.
    ///
    /// # Errors
    /// When the store must not be used; says how to mend it.
    pub fn open(directory: &Path, boot: &Boot, clock: Clock, bounds: Bounds) -> Result<Self, StoreError> {
        Self::open_recorded(directory, boot, clock, bounds, Audit::default())
    }

    /// [`Sessions::open`], where ends are recorded: first of those that the start of the host ended.
    ///
    /// # Errors
    /// Its own.
    pub fn open_recorded(
        directory: &Path,
        boot: &Boot,
        clock: Clock,
        bounds: Bounds,
        audit: Audit,
    ) -> Result<Self, StoreError> {
        let ended = |session: &Session| record_end(&audit, session, EndReason::Reboot, None);
        let (store, sessions) = Store::open(directory, boot, &ended)?;
        let mut table = Table::new();
        let now = clock.now();
        let mut turns = 1;
        for (mut session, turn) in sessions {
            // A last use in the future cannot be: it would keep the session alive longer than any request did.
            session.last_used = session.last_used.min(now);
            table.reserve(&Counted::of(&session.holder));
            if let Some(number) = turn {
                turns = turns.max(number.saturating_add(1));
                table.turns.insert(session.id, Turn::nobodys(number));
            }
            table.insert(session);
        }
        info!(sessions = table.count, "sessions taken up");
        Ok(Self {
            bounds: Current::new(bounds),
            clock,
            table: Mutex::new(table),
            store: RwLock::new(Some(store)),
            news: broadcast::Sender::new(BEHIND),
            turns: AtomicU64::new(turns),
            watchers: Arc::new(Semaphore::new(WATCHERS)),
            stirred: watch::Sender::new(()),
            audit,
        })
    }

    /// The bounds that hold.
    pub fn bounds(&self) -> Bounds {
        *self.bounds.get()
    }

    /// From now on these bounds hold. Sessions that are there keep their clocks, and stay.
    pub fn bound(&self, bounds: Bounds) {
        self.bounds.set(bounds);
    }

    /// Opens a session; it is on disk when this returns.
    ///
    /// # Errors
    /// At a bound, and when the store fails.
    pub async fn grant(&self, holder: Holder) -> Result<(Token, Session), AuthError> {
        self.open_session(holder, None, None).await
    }

    /// [`Sessions::grant`], on terms of its own.
    ///
    /// # Errors
    /// Its own.
    pub async fn grant_on(&self, holder: Holder, terms: Terms) -> Result<(Token, Session), AuthError> {
        self.open_session(holder, None, Some(terms)).await
    }

    async fn open_session(
        &self,
        holder: Holder,
        by: Option<(Proven, u64)>,
        terms: Option<Terms>,
    ) -> Result<(Token, Session), AuthError> {
        let key = match by {
            Some((Proven { fingerprint, full_access }, login)) => {
                let began = self.table().openings.began_utc(login);
                let proven_utc = began.ok_or(AuthError::Gone("the login"))?;
                Some(Box::new(Key { fingerprint, full_access, proven_utc }))
            }
            None => None,
        };
        let token = Token::mint(secret::random()?);
        let now = self.clock.now();
        let bounds = self.bounds();
        let (idle_ms, life_ms, acl, only_one) = match terms {
            Some(Terms { life, acl, only_one }) => (0, millis(life), acl, only_one),
            None => (millis(bounds.idle), millis(bounds.absolute), None, false),
        };
        let session = Session {
            id: SessionId(uuid::Builder::from_random_bytes(secret::random()?).into_uuid().into_bytes()),
            token: token.hash(),
            key,
            holder: Arc::new(holder),
            acl,
            started_utc: clock::utc(),
            started: now,
            last_used: now,
            idle_ms,
            ends: now.saturating_add(life_ms),
        };
        let turn = only_one.then(|| self.next_turn());
        let one = Counted::of(&session.holder);
        // If the store fails or the caller goes away meanwhile, the place is given back and the row, if
        // it was written, is removed again: nobody has its token.
        let (place, replaced) = {
            let mut table = self.table();
            let replaced = make_room(&mut table, &one, &bounds)?;
            table.reserve(&one);
            (Place::taken(self, one.clone(), session.id), replaced)
        };
        for old in &replaced {
            self.tell(old, EndReason::Replaced);
        }
        self.forget(replaced.iter().map(|old| old.id).collect()).await?;
        self.with_store(async |store| store.grant(session.clone(), turn).await).await?;
        let replaced = {
            // Under one lock: a revocation finds the login under way, or its session; and of two that are to be
            // the only one the later stays.
            let mut table = self.table();
            let user = session.holder.who.shown();
            let now = self.moment();
            if by.is_some_and(|(key, login)| table.openings.is_revoked(login, &user, key.fingerprint, now)) {
                return Err(AuthError::KeyRevoked);
            }
            let replaced = if only_one { table.take_all(&one.owner) } else { Vec::new() };
            table.turns.extend(turn.map(|number| (session.id, Turn::nobodys(number))));
            table.insert(session.clone());
            replaced
        };
        place.keep();
        self.stirred.send_replace(());
        for old in &replaced {
            self.tell(old, EndReason::Replaced);
        }
        // They have ended; what is left of them on disk is logged there and removed later.
        let _ = self.forget(replaced.iter().map(|old| old.id).collect()).await;
        Ok((token, session))
    }

    /// The live session of a token with its standing, after counting a use that no report has told yet.
    pub fn check(&self, token: &Token, used_ms_ago: Option<u64>) -> Option<(Session, Standing)> {
        let hash = token.hash();
        let now = self.clock.now();
        let mut table = self.table();
        let session = table.by_token.get_mut(&hash)?;
        let moved = used_ms_ago.is_some_and(|ago| session.used(ago, now));
        let standing = session.standing(now);
        let found = Session::clone(session);
        if moved {
            table.unsaved.insert(hash);
        }
        matches!(standing, Standing::Live { .. }).then_some((found, standing))
    }

    /// Counts uses; they are on disk when this returns. Tokens of no session are passed over.
    ///
    /// # Errors
    /// When the store fails; the uses count all the same and are written later.
    pub async fn report(&self, uses: Vec<Used>) -> Result<(), AuthError> {
        {
            let now = self.clock.now();
            let mut table = self.table();
            for used in uses {
                let hash = used.token.hash();
                if table.by_token.get_mut(&hash).is_some_and(|session| session.used(used.ago_ms, now)) {
                    table.unsaved.insert(hash);
                }
            }
        }
        self.save_uses().await
    }

    /// Ends the session of a token; whether there was one, dead or alive. On disk when this returns.
    ///
    /// # Errors
    /// When the store fails; the session is ended all the same and the store is tried again.
    pub async fn end(&self, token: &Token, reason: EndReason) -> Result<bool, AuthError> {
        let taken = self.table().take(&token.hash());
        let Some(session) = taken else {
            return Ok(false);
        };
        self.tell(&session, reason);
        self.forget(vec![session.id]).await?;
        Ok(true)
    }

    /// Now, on both clocks.
    pub fn moment(&self) -> Moment {
        Moment { at: self.clock.now(), utc: clock::utc() }
    }

    /// From its return on every session that ends is told, and every turn.
    ///
    /// # Errors
    /// At the bound of watchers.
    pub fn watch(&self) -> Result<Watch, AuthError> {
        let place = self.watchers.clone().try_acquire_owned().map_err(|_| AuthError::TooManyWatchers)?;
        Ok(Watch { news: self.news.subscribe(), _place: place })
    }

    fn tell(&self, session: &Session, reason: EndReason) {
        let seconds = self.clock.now().saturating_sub(session.started) / 1_000;
        record_end(&self.audit, session, reason, Some(seconds));
        info!(session = %session.id, user = session.holder.who.shown(), reason = ?reason, "session ended");
        // Nobody watching is fine.
        let _ = self.news.send(News::Ended(Ended { session: session.id, reason }));
    }

    async fn with_store(&self, job: impl AsyncFnOnce(&Store) -> Result<(), String>) -> Result<(), AuthError> {
        match self.store.read().await.as_ref() {
            Some(store) => job(store).await.map_err(AuthError::Store),
            None => Err(AuthError::Gone("the session store")),
        }
    }

    /// No code that holds the lock can leave the table half changed, so a panic elsewhere does not matter.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Before the end is on disk: a crash in between lets it be recorded twice, never not at all.
fn record_end(audit: &Audit, session: &Session, reason: EndReason, seconds: Option<u64>) {
    let Some(code) = reason.code() else { return };
    let Holder { who, method, dialect, source } = Holder::clone(&session.holder);
    let source = if source.is_empty() { "unix".to_owned() } else { source };
    audit.record(Record {
        reason: Some(code),
        user: Some(who.shown()),
        uid: who.uid(),
        method: Some(method),
        reported_source: Some(source),
        session: Some(session.id.to_string()),
        dialect: Some(dialect.name().to_owned()),
        key: session.key.as_ref().map(|key| key.fingerprint.to_string()),
        seconds,
        ..Record::of(audit::Event::SessionEnded)
    });
}
