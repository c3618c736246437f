//! Sessions on disk: one writing thread, everything that waits in one transaction.
//!
//! A grant or an end is on disk before its caller hears of it. The only file that names the database.

mod schema;

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, OpenFlags, Row, TransactionBehavior, params};
use rustix::{
    fs::{FlockOperation, OFlags, flock},
    io::Errno,
};
use tokio::sync::{mpsc, oneshot};
use tracing::error;

use super::{Boot, Dialect, Fingerprint, Holder, Identity, Key, Session, SessionId, shared::Shared};
use crate::secret::TokenHash;

/// Jobs that may wait; beyond it callers wait for room.
const QUEUE: usize = 1024;
/// Jobs of one transaction.
const BATCH: usize = 64;
/// Commits after which the log is written back at the next idle moment, and at the latest.
const CHECKPOINT_IDLE: u32 = 200;
const CHECKPOINT_LATEST: u32 = 2_000;

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file cannot be opened or made.
    #[error("{path}")]
    File {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is there but must not be used.
    #[error("{path}: {what}")]
    Refused {
        /// Which.
        path: String,
        /// What is wrong, and how to mend it.
        what: String,
    },
    /// The database failed.
    #[error("{0}")]
    Database(#[from] rusqlite::Error),
    /// The writer is gone.
    #[error("the writer of the session store is gone")]
    Gone,
}

enum Job {
    /// With the number of its first turn, if one connection may hold it at a time.
    Grant(Box<Session>, Option<u64>),
    End(Vec<SessionId>),
    Used(Vec<(SessionId, u64)>),
    Turn(SessionId, u64),
}

/// What the store has of a session: itself, and its turn if one connection may hold it at a time.
pub(super) type Stored = (Session, Option<u64>);

type Done = oneshot::Sender<Result<(), String>>;

/// The writing end.
#[derive(Debug)]
pub(super) struct Store {
    jobs: mpsc::Sender<(Job, Done)>,
    writer: thread::JoinHandle<()>,
}

impl Store {
    /// Opens `sessions.sqlite` in `directory`, or makes it, with the sessions of this boot. Those of another are
    /// `ended`, and then taken out.
    pub(super) fn open(
        directory: &Path,
        boot: &Boot,
        ended: &dyn Fn(&Session),
    ) -> Result<(Self, Vec<Stored>), StoreError> {
        let lock = lock(directory)?;
        let path = directory.join("sessions.sqlite");
        prepare_file(&path)?;
        let mut database = open_database(&path)?;
        let sessions = load(&mut database, boot, ended)?;
        let (jobs, queue) = mpsc::channel(QUEUE);
        let writer = thread::Builder::new()
            .name("sessions".into())
            .spawn(move || {
                write(&mut database, queue);
                drop(lock);
            })
            .map_err(|source| StoreError::File { path: path.display().to_string(), source })?;
        Ok((Self { jobs, writer }, sessions))
    }

    /// Writes a session.
    pub(super) async fn grant(&self, session: Session, turn: Option<u64>) -> Result<(), String> {
        self.run(Job::Grant(Box::new(session), turn)).await
    }

    /// Removes sessions; those that are not there are fine.
    pub(super) async fn end(&self, sessions: Vec<SessionId>) -> Result<(), String> {
        self.run(Job::End(sessions)).await
    }

    /// Writes when sessions were last used.
    pub(super) async fn used(&self, times: Vec<(SessionId, u64)>) -> Result<(), String> {
        self.run(Job::Used(times)).await
    }

    /// Writes whose turn it is; a higher number that is there stays.
    pub(super) async fn turn(&self, session: SessionId, number: u64) -> Result<(), String> {
        self.run(Job::Turn(session, number)).await
    }

    async fn run(&self, job: Job) -> Result<(), String> {
        let gone = || StoreError::Gone.to_string();
        let (done, result) = oneshot::channel();
        self.jobs.send((job, done)).await.map_err(|_| gone())?;
        result.await.map_err(|_| gone())?
    }

    /// Ends the writer after what is queued. Blocks.
    pub(super) fn close(self) {
        drop(self.jobs);
        if self.writer.join().is_err() {
            error!("the writer of the session store panicked");
        }
    }
}

/// Two authds on one store would each believe what the other ended. Blocks.
///
/// One that is just ending, or a child of it between fork() and exec(), is waited for a little.
fn lock(directory: &Path) -> Result<File, StoreError> {
    const PATIENCE: Duration = Duration::from_secs(2);
    const PAUSE: Duration = Duration::from_millis(10);
    let path = directory.join("sessions.lock");
    let named = |source| StoreError::File { path: path.display().to_string(), source };
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(&path)
        .map_err(named)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => thread::sleep(PAUSE),
            Err(Errno::WOULDBLOCK) => {
                return Err(StoreError::Refused {
                    path: directory.display().to_string(),
                    what: "another doorward-authd is using it; stop that one first".into(),
                });
            }
            Err(source) => return Err(named(source.into())),
        }
    }
}

/// SQLite makes its files 0644, so the file is made here; its companions take its mode.
fn prepare_file(path: &Path) -> Result<(), StoreError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
        .open(path);
    let found = file.and_then(|file| file.metadata());
    let found = found.map_err(|source| StoreError::File { path: path.display().to_string(), source })?;
    let ours = found.is_file() && found.uid() == rustix::process::geteuid().as_raw();
    if ours && found.mode() & 0o077 == 0 {
        return Ok(());
    }
    Err(StoreError::Refused {
        path: path.display().to_string(),
        what:
            "must be a regular file of the user that authd runs as, mode 0600; remove it, and every session \
               ends"
                .into(),
    })
}

fn open_database(path: &Path) -> Result<Connection, StoreError> {
    let damaged = |found: String| StoreError::Refused {
        path: path.display().to_string(),
        what: format!(
            "is damaged ({found}); move it and its -wal and -shm away: every session ends, users log in again"
        ),
    };
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    // NOFOLLOW is about every part of the path; only the last is ours to judge.
    let real = path.parent().and_then(|parent| parent.canonicalize().ok()).unwrap_or_default();
    let database = Connection::open_with_flags(real.join(path.file_name().unwrap_or_default()), flags)?;
    let judged = |failure: rusqlite::Error| match failure.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => {
            damaged(failure.to_string())
        }
        _ => StoreError::Database(failure),
    };
    let version: i64 = database.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(judged)?;
    if version > schema::VERSION {
        return Err(StoreError::Refused {
            path: path.display().to_string(),
            what: format!(
                "is of version {version}, newer than this authd ({}); update authd",
                schema::VERSION
            ),
        });
    }
    let check: String = database.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(judged)?;
    if check != "ok" {
        return Err(damaged(check));
    }
    let mode: String =
        database.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(judged)?;
    if mode != "wal" {
        return Err(damaged(format!("no write-ahead log, {mode}")));
    }
    database.pragma_update(None, "synchronous", "FULL")?;
    // No file is made anywhere else: the sandbox would refuse it.
    database.pragma_update(None, "temp_store", "MEMORY")?;
    // Written back in idle moments, see `write`.
    database.pragma_update(None, "wal_autocheckpoint", 0)?;
    let Some(change) = schema::change(version) else { return Ok(database) };
    // The version changes with the tables, or neither does.
    database.execute_batch(&format!("BEGIN IMMEDIATE; {change} COMMIT;")).map_err(judged)?;
    Ok(database)
}

/// The sessions of this boot. Those of another are deleted, as a reboot ends every session; `ended` comes first, so
/// that a kill in between lets it be told twice, never not at all.
fn load(database: &mut Connection, boot: &Boot, ended: &dyn Fn(&Session)) -> Result<Vec<Stored>, StoreError> {
    let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let same: bool =
        transaction
            .query_row("SELECT EXISTS (SELECT 1 FROM boot WHERE id = ?1)", [&boot.0], |row| row.get(0))?;
    if !same {
        // Only to record their end: what cannot be read of them keeps nobody from starting.
        match read(&transaction) {
            Ok(sessions) => sessions.iter().for_each(|(session, _)| ended(session)),
            Err(failure) => error!(cause = %failure, "the sessions of another boot cannot be read"),
        }
        transaction.execute("DELETE FROM session", [])?;
        transaction.execute("DELETE FROM boot", [])?;
        transaction.execute("INSERT INTO boot VALUES (?1)", [&boot.0])?;
    }
    transaction.commit()?;
    Ok(read(database)?)
}

fn read(database: &Connection) -> Result<Vec<Stored>, rusqlite::Error> {
    let mut rows = database.prepare(
        "SELECT id, token, user, uid, method, dialect, source, started_utc, started, last_used, idle_ms, ends,
                key, proven_utc, acl, kind, auth_id, pk, turn, full_access
         FROM session",
    )?;
    // At once, not when all are there: a million of them would be in memory with what they have alike.
    let (mut holders, mut acls) = (Shared::default(), Shared::default());
    let sessions = rows.query_map([], |row| {
        let key = match row.get::<_, Option<[u8; 32]>>(12)? {
            Some(fingerprint) => Some(Box::new(Key {
                fingerprint: Fingerprint(fingerprint),
                full_access: row.get(19)?,
                proven_utc: row.get(13)?,
            })),
            None => None,
        };
        let session = Session {
            id: SessionId(row.get(0)?),
            token: TokenHash(row.get(1)?),
            key,
            holder: holders.one(Arc::new(Holder {
                who: who(row)?,
                method: row.get(4)?,
                dialect: dialect(5, &row.get::<_, String>(5)?)?,
                source: row.get(6)?,
            })),
            acl: row.get::<_, Option<String>>(14)?.map(|text| acls.one(entries(&text))),
            started_utc: row.get(7)?,
            started: row.get(8)?,
            last_used: row.get(9)?,
            idle_ms: row.get(10)?,
            ends: row.get(11)?,
        };
        Ok((session, row.get(18)?))
    })?;
    sessions.collect()
}

/// The table lets nothing else in than the one or the other.
fn who(row: &Row<'_>) -> rusqlite::Result<Identity> {
    let name = row.get(2)?;
    Ok(match row.get(3)? {
        Some(uid) => Identity::User { name, uid },
        None => Identity::Other { kind: row.get(15)?, id: row.get(16)?, pk: row.get(17)?, name },
    })
}

/// A column's word for a dialect.
fn dialect(column: usize, name: &str) -> rusqlite::Result<Dialect> {
    Dialect::ALL.into_iter().find(|dialect| dialect.name() == name).ok_or_else(|| {
        let what = format!("no dialect: {name:?}");
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, what.into())
    })
}

/// Entries, one on a line: none has the end of a line in it, see [`doorward_proto::acl::well_formed`].
fn entries(text: &str) -> Arc<[String]> {
    text.lines().map(str::to_owned).collect()
}

/// The writer's thread: what is there is one transaction; it never waits for company.
fn write(database: &mut Connection, mut queue: mpsc::Receiver<(Job, Done)>) {
    let mut unwritten = 0;
    while let Some(first) = queue.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH {
            match queue.try_recv() {
                Ok(next) => batch.push(next),
                Err(_) => break,
            }
        }
        commit(database, batch);
        unwritten += 1;
        if unwritten >= CHECKPOINT_LATEST || (unwritten >= CHECKPOINT_IDLE && queue.is_empty()) {
            checkpoint(database, "PASSIVE");
            unwritten = 0;
        }
    }
    checkpoint(database, "TRUNCATE");
}

fn checkpoint(database: &Connection, mode: &str) {
    if let Err(failure) = database.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(())) {
        error!(cause = %failure, "the session store's log cannot be written back");
    }
}

fn commit(database: &mut Connection, batch: Vec<(Job, Done)>) {
    let mut answers = Vec::with_capacity(batch.len());
    let committed = (|| {
        let mut transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (job, done) in batch {
            // A job that fails fails alone; its neighbours commit.
            let savepoint = transaction.savepoint()?;
            let result = perform(&savepoint, &job);
            if result.is_ok() {
                savepoint.commit()?;
            } else {
                savepoint.finish()?;
            }
            answers.push((done, result.map_err(|failure| failure.to_string())));
        }
        transaction.commit()
    })();
    // After a failure before the commit the jobs that were not reached drop their senders: gone, too.
    let committed = committed.map_err(|failure: rusqlite::Error| failure.to_string());
    for (done, result) in answers {
        // A caller that no longer waits has given up by itself.
        let _ = done.send(committed.clone().and(result));
    }
}

fn perform(database: &Connection, job: &Job) -> rusqlite::Result<()> {
    match job {
        Job::Grant(session, turn) => {
            let (name, other) = match &session.holder.who {
                Identity::User { name, .. } => (name, None),
                Identity::Other { kind, id, pk, name } => (name, Some((kind, id, pk))),
            };
            database
                .prepare_cached(
                    "INSERT INTO session VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,
                                                ?17,?18,?19,?20)",
                )?
                .execute(params![
                    session.id.0,
                    session.token.0,
                    name,
                    session.holder.who.uid(),
                    session.holder.method,
                    session.holder.dialect.name(),
                    session.holder.source,
                    session.started_utc,
                    session.started,
                    session.last_used,
                    session.idle_ms,
                    session.ends,
                    session.key.as_ref().map(|key| key.fingerprint.0),
                    session.key.as_ref().map(|key| key.proven_utc),
                    session.acl.as_ref().map(|acl| acl.join("\n")),
                    other.map(|(kind, _, _)| kind),
                    other.map(|(_, id, _)| id),
                    other.map(|(_, _, pk)| pk),
                    turn,
                    session.key.as_ref().map(|key| key.full_access)
                ])?;
        }
        Job::End(sessions) => {
            let mut statement = database.prepare_cached("DELETE FROM session WHERE id = ?1")?;
            for id in sessions {
                statement.execute([&id.0])?;
            }
        }
        Job::Used(times) => {
            let mut statement = database.prepare_cached("UPDATE session SET last_used = ?2 WHERE id = ?1")?;
            for (id, last_used) in times {
                statement.execute(params![id.0, last_used])?;
            }
        }
        Job::Turn(id, number) => {
            let mut statement =
                database.prepare_cached("UPDATE session SET turn = max(turn, ?2) WHERE id = ?1")?;
            statement.execute(params![id.0, number])?;
        }
    }
    Ok(())
}
