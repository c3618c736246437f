//! What an auditor reads: one JSON object on one line for each login, refusal, penalty, session end,
//! change of a key and reload.
//!
//! Whatever a client sends, a record is one line of printable ASCII of at most 2 KiB that parses back.
//! Records are in the order of their numbers, which have no gaps but where records were lost; how many
//! were lost is recorded as soon as the file can be written again. A write is not waited for until it is
//! on the platter: a record is as safe from a power failure as the log is.

mod file;
mod flood;
mod json;
mod read;
mod record;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, Semaphore};
use tokio::task::spawn_blocking;

use crate::file::FileError;
use crate::log::Sparingly;
pub use crate::log::time::parse as parse_time;
use crate::{Misconfigured, StartError};
use file::{Lines, Out};
use flood::Flood;
pub use read::{BYTES_MAX, Found, Moment, RECORDS_MAX, Unread, Wanted, Whose};
use record::Stamp;
pub use record::{Event, FIELDS, LINE_MAX, Record};

/// Who reads records at the same time: each looks at tens of megabytes.
const READERS: usize = 2;
/// How long one may take.
const READ_WITHIN: Duration = Duration::from_secs(5);

/// The `[audit]` table of a daemon's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The file; absent: `audit.jsonl` in the state directory; empty: nothing is recorded.
    pub file: Option<PathBuf>,
}

/// Where a daemon's records go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// Whether [`Audit::demand`] fails when a record cannot be written.
    pub required: bool,
}

impl Settings {
    /// Where to, for a daemon with this state directory; None: nowhere.
    pub fn place(&self, state_dir: &Path) -> Option<Place> {
        let file = match &self.file {
            None => state_dir.join("audit.jsonl"),
            Some(file) if file.as_os_str().is_empty() => return None,
            Some(file) => file.clone(),
        };
        Some(Place { file, required: false })
    }

    /// What must hold beyond the syntax. Touches nothing.
    ///
    /// # Errors
    /// The first key that cannot be used, and why.
    pub fn check(&self) -> Result<(), Misconfigured> {
        match &self.file {
            Some(file) if !file.as_os_str().is_empty() && !file.is_absolute() => {
                Err(Misconfigured::at("audit.file", "must be an absolute path, or empty for no records"))
            }
            _ => Ok(()),
        }
    }
}

/// A record that is required could not be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the audit record cannot be written")]
pub struct Unwritten;

/// Takes records; clones write to the same file.
#[derive(Clone, Default)]
pub struct Audit(Option<Arc<Inner>>);

struct Inner {
    service: &'static str,
    run: u64,
    required: bool,
    state: Mutex<State>,
    owing: Notify,
    /// None: in a test, which has no file.
    file: Option<PathBuf>,
    readers: Arc<Semaphore>,
}

struct State {
    out: Box<dyn Out>,
    number: u64,
    flood: Flood,
    /// How many events could not be recorded, and since when.
    lost: Option<(u64, SystemTime)>,
    /// Whether the last record that was tried could not be written.
    failing: bool,
    told: Sparingly,
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit").field("on", &self.0.is_some()).finish()
    }
}

impl Audit {
    /// Opens the file as whoever this process is by now: what can be opened at the start can be opened
    /// again later, and root never writes in a directory of the service.
    ///
    /// # Errors
    /// When it cannot be had; says which and how to mend it.
    pub fn open(service: &'static str, place: &Place) -> Result<Audit, StartError> {
        let lines = Lines::open(&place.file)?;
        Audit::to(service, place.required, Box::new(lines), Some(place.file.clone()))
    }

    fn to(
        service: &'static str,
        required: bool,
        out: Box<dyn Out>,
        file: Option<PathBuf>,
    ) -> Result<Audit, StartError> {
        let mut run = [0; 8];
        getrandom::fill(&mut run).map_err(|error| StartError::failed("no random bytes", error))?;
        let run = u64::from_ne_bytes(run);
        let (flood, told) = (Flood::default(), Sparingly::default());
        let state = Mutex::new(State { out, number: 0, flood, lost: None, failing: false, told });
        let (owing, readers) = (Notify::new(), Arc::new(Semaphore::new(READERS)));
        Ok(Audit(Some(Arc::new(Inner { service, run, required, state, owing, file, readers }))))
    }

    /// Records it. If that cannot be done it is counted, and how many were lost is recorded later.
    pub fn record(&self, record: Record) {
        if let Some(inner) = &self.0 {
            inner.write_or_count(&mut inner.state(), &record);
        }
    }

    /// Records what costs its source nothing: of many in one second the later ones are recorded together
    /// with those that are like them, in one record with their count.
    pub fn record_bounded(&self, record: Record) {
        let Some(inner) = &self.0 else { return };
        let mut state = inner.state();
        if inner.gets_its_own(&mut state, &record) {
            inner.write_or_count(&mut state, &record);
        }
    }

    /// Records what may have to be recorded in order to be done.
    ///
    /// # Errors
    /// [`Unwritten`] when it is required and cannot be done: then it is not counted as lost, because it
    /// must not happen.
    pub fn demand(&self, record: Record) -> Result<(), Unwritten> {
        let Some(inner) = &self.0 else { return Ok(()) };
        inner.demand(&mut inner.state(), &record)
    }

    /// The same for what costs its source nothing; see [`Audit::record_bounded`].
    ///
    /// # Errors
    /// As [`Audit::demand`].
    pub fn demand_bounded(&self, record: Record) -> Result<(), Unwritten> {
        let Some(inner) = &self.0 else { return Ok(()) };
        let mut state = inner.state();
        inner.settle(&mut state, Some(Instant::now()));
        // A count that nobody can write later is no record: until there is room again, each is tried by itself.
        let tried = inner.required && state.failing;
        if tried || inner.gets_its_own(&mut state, &record) {
            inner.demand(&mut state, &record)
        } else {
            Ok(())
        }
    }

    /// The records of a time, from the file that is written now and the one that was rotated away last. Nothing
    /// where nothing is recorded.
    ///
    /// # Errors
    /// [`Unread`] says why not.
    pub async fn read(&self, wanted: Wanted) -> Result<Found, Unread> {
        let Some(inner) = &self.0 else { return Ok(Found::default()) };
        let Some(file) = inner.file.clone() else { return Ok(Found::default()) };
        let place = tokio::time::timeout(READ_WITHIN, inner.readers.clone().acquire_owned()).await;
        let place = place.map_err(|_| Unread::Busy)?.map_err(|_| Unread::Broken)?;
        let reading = spawn_blocking(move || {
            // Given back when the work is over, whoever has left meanwhile.
            let _place = place;
            read::read(&file, &wanted, Instant::now() + READ_WITHIN)
        });
        reading.await.map_err(|_| Unread::Broken)?
    }

    /// Goes on in the file that has the name now: after the old one was moved away.
    ///
    /// # Errors
    /// When it cannot be had: then the old file is written further.
    pub fn reopen(&self) -> Result<(), FileError> {
        let Some(inner) = &self.0 else { return Ok(()) };
        inner.state().out.reopen()
    }

    /// Writes what [`Audit::record_bounded`] has counted and not told, at once: at the end.
    pub fn settle(&self) {
        if let Some(inner) = &self.0 {
            inner.settle(&mut inner.state(), None);
        }
    }

    /// Writes such counts when they are due, for ever.
    pub async fn keep(&self) {
        let Some(inner) = &self.0 else { return std::future::pending().await };
        loop {
            inner.owing.notified().await;
            tokio::time::sleep(flood::SPAN).await;
            let mut state = inner.state();
            inner.settle(&mut state, Some(Instant::now()));
            if state.flood.is_owing() {
                inner.owing.notify_one();
            }
        }
    }
}

impl Inner {
    /// No code that holds the lock leaves the state half changed, so a panic elsewhere does not matter.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a record of what costs nothing is written now; if not, it is counted.
    fn gets_its_own(&self, state: &mut State, record: &Record) -> bool {
        let now = Instant::now();
        self.settle(state, Some(now));
        let own = state.flood.count(record, now, SystemTime::now());
        if !own {
            self.owing.notify_one();
        }
        own
    }

    fn settle(&self, state: &mut State, now: Option<Instant>) {
        for record in state.flood.due(now) {
            self.write_or_count(state, &record);
        }
    }

    fn demand(&self, state: &mut State, record: &Record) -> Result<(), Unwritten> {
        if !self.required {
            self.write_or_count(state, record);
            return Ok(());
        }
        if self.write(state, record) { Ok(()) } else { Err(Unwritten) }
    }

    fn write_or_count(&self, state: &mut State, record: &Record) {
        if !self.write(state, record) {
            // Its number stays unused: the gap is where it would be.
            state.number += 1;
            state.lost.get_or_insert((0, SystemTime::now())).0 += record.count.unwrap_or(1);
        }
    }

    /// Whether it is written; what was lost before is told first.
    fn write(&self, state: &mut State, record: &Record) -> bool {
        if let Some((count, since)) = state.lost {
            let told = Record { count: Some(count), since: Some(since), ..Record::of(Event::RecordsLost) };
            if !self.append(state, &told) {
                return false;
            }
            state.lost = None;
            tracing::warn!(lost = count, "audit records are written again");
        }
        self.append(state, record)
    }

    fn append(&self, state: &mut State, record: &Record) -> bool {
        let stamp =
            Stamp { time: SystemTime::now(), run: self.run, number: state.number + 1, service: self.service };
        let appended = state.out.append(record.line(&stamp).as_bytes());
        state.failing = appended.is_err();
        match appended {
            Ok(()) => {
                state.number += 1;
                true
            }
            Err(error) => {
                if let Some(unsaid) = state.told.now() {
                    let lost = state.lost.map_or(0, |(count, _)| count);
                    tracing::error!(%error, lost, unsaid, "an audit record cannot be written");
                }
                false
            }
        }
    }
}

#[cfg(test)]
mod read_tests;
#[cfg(test)]
mod tests;
