//! Penalties for guessing: of a source, which is not heard for a while, and of an account, about which
//! answers wait a little. The reading order is table, accounts, store.
//!
//! A failure is a login that was refused and could have been a guess: by password, by key, by a JWT or by what a
//! plug-in is asked about, also one that the plug-in does not answer in time, because it is busy until then. Every
//! cause counts alike (but for a JWT that an issuer did sign and that is over), because a cause that did not count would be told by the penalty that does not come. What is
//! no refusal (PAM silent or away, a bound reached, a fault of ours) does not count, nor does a token that
//! opens nothing (122 random bits are not guessed, and clients come back with tokens that have ended), nor a
//! local user whom the kernel names. A success forgives nothing: else one account of one's own would do to
//! guess at others without end. root's uid is a source like the others: a forwarder that runs as root would
//! be a way in without any penalty.

mod table;

mod accounts;
mod store;

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use doorward_launch::log::Sparingly;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, broadcast};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use self::{
    accounts::{ACCOUNTS_MAX, Accounts},
    store::Store,
    table::{SOURCES_MAX, Table},
};
pub use self::{
    store::StoreError,
    table::{FAILURES_MAX, Refused, Rules, Standing},
};
use crate::{
    conversation::SourceKey,
    error::AuthError,
    session::{Boot, Clock},
};

/// Streams of penalties at a time, each of which begins with a copy of the table.
const WATCHERS: usize = 4;
/// Changes that a watcher may be behind before it is told to begin again.
const BEHIND: usize = 1_024;
/// Sources of one message.
const TOLD_AT_ONCE: usize = 512;
/// What changed is written after this; so much of the counting may a kill undo.
const WRITE_AFTER: Duration = Duration::from_millis(500);
/// Between two lines about a disk that takes nothing.
const QUIET: Duration = Duration::from_secs(10);
/// How often those are looked for who have not failed for long.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// A source and how it stands.
pub type Told = (SourceKey, Standing);

/// The penalties of this authd.
#[derive(Debug)]
pub struct Penalties {
    clock: Clock,
    table: Mutex<Table>,
    accounts: Mutex<Accounts>,
    told: broadcast::Sender<Told>,
    watchers: Arc<Semaphore>,
    changed: Notify,
    /// None once closed.
    store: Arc<Mutex<Option<Store>>>,
    /// Lines about a disk that takes nothing.
    unwritten: Mutex<Sparingly>,
}

impl Penalties {
    /// Takes up the penalties of this boot from `directory`, which nobody else uses. `account` is the longest
    /// wait about an account.
    ///
    /// # Errors
    /// When they cannot be kept; says how to mend it.
    pub fn open(
        directory: &Path,
        boot: &Boot,
        clock: Clock,
        rules: Rules,
        account: Duration,
    ) -> Result<Self, StoreError> {
        let (store, records) = Store::open(directory, boot, SOURCES_MAX)?;
        let mut table = Table::new(rules, SOURCES_MAX);
        let now = clock.now();
        for (source, record) in records {
            table.restore(source, record, now);
        }
        info!(sources = table.standings(now).len(), "penalties taken up");
        Ok(Self {
            clock,
            table: Mutex::new(table),
            accounts: Mutex::new(Accounts::new(account, rules.within_ms, ACCOUNTS_MAX)),
            told: broadcast::Sender::new(BEHIND),
            watchers: Arc::new(Semaphore::new(WATCHERS)),
            changed: Notify::new(),
            store: Arc::new(Mutex::new(Some(store))),
            unwritten: Mutex::new(Sparingly::once_in(QUIET)),
        })
    }

    /// Begins a try of this source.
    ///
    /// # Errors
    /// Why it may not be made now.
    pub fn begin(self: &Arc<Self>, source: SourceKey) -> Result<Try, Refused> {
        self.table().begin(&source, self.clock.now())?;
        Ok(Try { penalties: self.clone(), source, over: false })
    }

    /// What is left of the penalty that a source is under.
    pub fn left(&self, source: &SourceKey) -> Option<Duration> {
        let left = self.table().standing(source, self.clock.now()).penalty_ms;
        (left > 0).then(|| Duration::from_millis(left))
    }

    /// How long an answer about this name waits.
    pub fn wait(&self, name: &str) -> Duration {
        lock(&self.accounts).wait(name, self.clock.now())
    }

    /// Somebody was refused about this name.
    pub fn fail_account(&self, name: &str) {
        lock(&self.accounts).fail(name, self.clock.now());
    }

    /// The sources that something is known of, and from its return on every change.
    ///
    /// # Errors
    /// At the bound of watchers.
    pub fn watch(&self) -> Result<Watch, AuthError> {
        let place = self.watchers.clone().try_acquire_owned().map_err(|_| AuthError::TooManyWatchers)?;
        let told = self.told.subscribe();
        let now = self.table().standings(self.clock.now());
        Ok(Watch { now, ready: false, told, _place: place })
    }

    /// Writes what changes and forgets what is over, until `stop`.
    pub async fn keep(&self, stop: &CancellationToken) {
        loop {
            let changed = async {
                if self.table().is_empty() {
                    return self.changed.notified().await;
                }
                // The time alone is a reason to look.
                let _ = tokio::time::timeout(SWEEP_EVERY, self.changed.notified()).await;
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = changed => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(WRITE_AFTER) => {}
            }
            self.table().sweep(self.clock.now());
            self.write().await;
        }
    }

    /// Writes what is unwritten and closes the store.
    pub async fn close(&self) {
        self.write().await;
        lock(&self.store).take();
    }

    async fn write(&self) {
        let ((changes, all), store) = {
            let mut table = self.table();
            if !table.has_changes() {
                return;
            }
            (table.take_changes(), self.store.clone())
        };
        let written = tokio::task::spawn_blocking(move || match lock(&store).as_mut() {
            Some(store) => store.write(&changes, all).map_err(|failure| failure.to_string()),
            None => Ok(()),
        });
        let failure = match written.await {
            Ok(Ok(())) => return,
            Ok(Err(failure)) => failure,
            Err(panic) => panic.to_string(),
        };
        // They hold all the same, and are tried again.
        if let Some(unsaid) = lock(&self.unwritten).now() {
            error!(cause = failure, unsaid, "penalties are not yet on disk");
        }
        self.table().write_all();
        self.changed.notify_one();
    }

    /// The seconds of the penalty that begins with it.
    fn end(&self, source: &SourceKey, failed: bool) -> Option<u64> {
        // Told under the lock: who watches hears of changes in their order.
        let mut table = self.table();
        let standing = table.end(source, failed, self.clock.now())?;
        // Nobody watching is fine.
        let _ = self.told.send((source.clone(), standing));
        drop(table);
        self.changed.notify_one();
        if standing.penalty_ms == 0 {
            return None;
        }
        let seconds = standing.penalty_ms / 1000;
        info!(source = %source, seconds, "penalty: too many failed logins");
        Some(seconds)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }
}

/// No code that holds a lock here can leave what it guards half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A try that is under way. Dropped, it was no failure.
#[derive(Debug)]
#[must_use]
pub struct Try {
    penalties: Arc<Penalties>,
    source: SourceKey,
    over: bool,
}

impl Try {
    /// It was one; the seconds of the penalty that begins with it.
    pub fn fail(mut self) -> Option<u64> {
        self.over = true;
        self.penalties.end(&self.source, true)
    }
}

impl Drop for Try {
    fn drop(&mut self) {
        if !self.over {
            self.penalties.end(&self.source, false);
        }
    }
}

/// A stream of how sources stand.
#[derive(Debug)]
pub struct Watch {
    now: Vec<Told>,
    ready: bool,
    told: broadcast::Receiver<Told>,
    _place: OwnedSemaphorePermit,
}

impl Watch {
    /// The next of them, some at a time, and whether all that there were at the beginning have been told.
    /// None when this watcher has fallen too far behind.
    pub async fn next(&mut self) -> Option<(Vec<Told>, bool)> {
        if !self.ready {
            let rest = self.now.split_off(self.now.len().saturating_sub(TOLD_AT_ONCE));
            self.ready = self.now.is_empty();
            return Some((rest, self.ready));
        }
        // Its memory is not needed any more.
        self.now = Vec::new();
        let mut some = vec![self.told.recv().await.ok()?];
        while some.len() < TOLD_AT_ONCE {
            match self.told.try_recv() {
                Ok(told) => some.push(told),
                Err(broadcast::error::TryRecvError::Lagged(_)) => return None,
                Err(broadcast::error::TryRecvError::Empty | broadcast::error::TryRecvError::Closed) => break,
            }
        }
        Some((some, true))
    }
}

#[cfg(test)]
mod tests;
