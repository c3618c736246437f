//! A thread that owns a connection, and the jobs that wait for it.
//!
//! The writer takes what waits, up to 64 jobs, into one transaction; each has a savepoint, so that one
//! that fails does not take its neighbours along. After a failure of the file the connection is opened
//! anew for the next job: a disk that has room again is used again, without a restart.

use std::{
    fmt, io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use rusqlite::{Connection, ErrorCode};
use tokio::sync::{mpsc, oneshot};

use super::OpenError;

/// Jobs that may wait.
const QUEUE: usize = 256;
/// Jobs of one transaction.
const BATCH: usize = 64;
/// From asking to the answer. A disk that stalls must not hold callers for ever.
const DEADLINE: Duration = Duration::from_secs(10);

/// Why a job was not done: nothing of it is in the registry, unless it says that it is unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    /// The disk is full.
    #[error("no space is left for the registry")]
    NoSpace,
    /// The file system is read-only.
    #[error("the registry is on a read-only file system")]
    ReadOnly,
    /// The disk failed in another way, or a limit on file sizes is in force.
    #[error("the registry cannot be written or read: {0}")]
    Io(String),
    /// No answer in time: whether it is done is unknown.
    #[error("the registry did not answer in time")]
    Late,
    /// certd is stopping.
    #[error("the registry is closed")]
    Closed,
    /// Anything else: a defect, or a damaged file.
    #[error("the registry failed: {0}")]
    Fault(String),
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::NoSpace,
            Some(ErrorCode::ReadOnly) => Self::ReadOnly,
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::DatabaseBusy) => {
                Self::Io(error.to_string())
            }
            _ => Self::Fault(error.to_string()),
        }
    }
}

impl From<OpenError> for Failed {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Database { source, .. } => source.into(),
            OpenError::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => Self::NoSpace,
            OpenError::File { source, .. } if source.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                Self::ReadOnly
            }
            OpenError::File { source, .. } => Self::Io(source.to_string()),
            refused => Self::Fault(refused.to_string()),
        }
    }
}

/// Named points on a job's way to disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// A transaction is open.
    Begun,
    /// All jobs of it are done, in memory.
    Applied,
    /// It is on disk.
    Committed,
    /// Its callers are answered.
    Answered,
}

/// Called at each [`Point`]: tests end the process there. The daemon watches nothing.
pub struct Watch(Box<dyn FnMut(Point) + Send>);

impl Watch {
    /// Watches by `at`.
    pub fn by(at: impl FnMut(Point) + Send + 'static) -> Self {
        Self(Box::new(at))
    }

    /// Watches nothing.
    pub fn nothing() -> Self {
        Self::by(|_| {})
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}

/// What waits for the thread.
trait Job: Send {
    /// Does it; an error means that nothing of it may stay.
    fn run(&mut self, database: &Connection) -> Result<(), Failed>;
    /// Answers: what `run` gave, unless something failed for all.
    fn answer(self: Box<Self>, all: Result<(), Failed>);
}

struct Call<W, N, T> {
    work: Option<W>,
    /// Called with what is done and on disk, whether or not anybody waits for the answer.
    done: N,
    result: Result<T, Failed>,
    answer: oneshot::Sender<Result<T, Failed>>,
}

impl<W, N, T> Job for Call<W, N, T>
where
    W: FnOnce(&Connection) -> rusqlite::Result<T> + Send,
    N: FnOnce(&T) + Send,
    T: Send,
{
    fn run(&mut self, database: &Connection) -> Result<(), Failed> {
        let work = self.work.take().ok_or(Failed::Closed)?;
        match work(database) {
            Ok(result) => {
                self.result = Ok(result);
                Ok(())
            }
            Err(error) => {
                let failed = Failed::from(error);
                self.result = Err(failed.clone());
                Err(failed)
            }
        }
    }

    fn answer(self: Box<Self>, all: Result<(), Failed>) {
        let Self { done, result, answer, .. } = *self;
        let result = all.and(result);
        if let Ok(value) = &result {
            done(value);
        }
        // A caller that went away at its deadline needs no answer.
        let _ = answer.send(result);
    }
}

enum Message {
    Job(Box<dyn Job>),
    /// What waits is still done; nothing more is taken.
    Stop,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Message")
    }
}

/// Whether the writer has opened the files anew since they were last looked at: they may be others, on a
/// file system that was mounted in the place of one that failed, and reading the old ones never fails.
#[derive(Debug, Clone, Default)]
pub(super) struct Files {
    opened: Arc<AtomicU64>,
    seen: u64,
}

impl Files {
    fn are_others(&self) {
        self.opened.fetch_add(1, Ordering::AcqRel);
    }

    fn changed(&mut self) -> bool {
        let opened = self.opened.load(Ordering::Acquire);
        std::mem::replace(&mut self.seen, opened) != opened
    }
}

/// A thread and the way to it.
#[derive(Debug)]
pub(super) struct Thread {
    messages: mpsc::Sender<Message>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Thread {
    pub(super) fn writer(
        database: Connection,
        again: impl Fn() -> Result<Connection, OpenError> + Send + 'static,
        files: Files,
        mut watch: Watch,
    ) -> io::Result<Self> {
        let again = move || again().inspect(|_| files.are_others());
        Self::start(
            "registry-write",
            database,
            again,
            || false,
            BATCH,
            move |database, batch| transaction(database, batch, &mut watch.0),
        )
    }

    pub(super) fn reader(
        database: Connection,
        again: impl Fn() -> Result<Connection, OpenError> + Send + 'static,
        mut files: Files,
    ) -> io::Result<Self> {
        Self::start(
            "registry-read",
            database,
            again,
            move || files.changed(),
            1,
            |database, batch| {
                let mut all = Ok(());
                for mut job in batch {
                    all = job.run(database);
                    job.answer(Ok(()));
                }
                all
            },
        )
    }

    fn start(
        name: &str,
        database: Connection,
        again: impl Fn() -> Result<Connection, OpenError> + Send + 'static,
        mut stale: impl FnMut() -> bool + Send + 'static,
        batch_max: usize,
        mut run: impl FnMut(&Connection, Vec<Box<dyn Job>>) -> Result<(), Failed> + Send + 'static,
    ) -> io::Result<Self> {
        let (messages, mut queue) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || {
            let mut healthy = Some(database);
            while let Some(first) = queue.blocking_recv() {
                let mut next = Some(first);
                let mut batch = Vec::new();
                while let Some(message) = next.take() {
                    match message {
                        Message::Job(job) => batch.push(job),
                        Message::Stop => queue.close(),
                    }
                    next = if batch.len() < batch_max { queue.try_recv().ok() } else { None };
                }
                if batch.is_empty() {
                    continue;
                }
                if stale() {
                    healthy = None;
                }
                let database = match healthy.take().map_or_else(&again, Ok) {
                    Ok(database) => database,
                    Err(error) => {
                        tracing::error!(%error, "the registry cannot be opened again");
                        let failed = Failed::from(error);
                        batch.into_iter().for_each(|job| job.answer(Err(failed.clone())));
                        continue;
                    }
                };
                match run(&database, batch) {
                    Ok(()) => healthy = Some(database),
                    Err(error) => tracing::error!(%error, "the registry failed"),
                }
            }
        })?;
        Ok(Self { messages, thread: Mutex::new(Some(thread)) })
    }

    /// Has `work` done, with the connection, and waits for it at most 10 seconds.
    pub(super) async fn call<T, W>(&self, work: W) -> Result<T, Failed>
    where
        W: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
        T: Send + 'static,
    {
        self.call_and(|_: &T| (), work).await
    }

    /// The same; `done` is called with the result once it is on disk, also when the caller gave up: a
    /// dropped or late call may still be done.
    pub(super) async fn call_and<T, W, N>(&self, done: N, work: W) -> Result<T, Failed>
    where
        W: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
        N: FnOnce(&T) + Send + 'static,
        T: Send + 'static,
    {
        let (answer, result) = oneshot::channel();
        let job = Box::new(Call { work: Some(work), done, result: Err(Failed::Closed), answer });
        let answered = async {
            self.messages.send(Message::Job(job)).await.map_err(|_| Failed::Closed)?;
            result.await.map_err(|_| Failed::Closed)?
        };
        tokio::time::timeout(DEADLINE, answered).await.unwrap_or(Err(Failed::Late))
    }

    /// Waits for the end of what is queued. Blocks: not for a thread of the runtime. A second call does
    /// nothing.
    pub(super) fn close(&self) {
        // An error means that it ended already.
        let _ = self.messages.blocking_send(Message::Stop);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("a thread of the registry panicked");
        }
    }
}

/// One transaction for all; an error when the connection should not be used again.
fn transaction(
    database: &Connection,
    mut batch: Vec<Box<dyn Job>>,
    at: &mut (dyn FnMut(Point) + Send),
) -> Result<(), Failed> {
    let done = apply(database, &mut batch, at);
    if done.is_err() {
        // It may have ended by itself; there is nothing to do when this fails.
        let _ = database.execute_batch("ROLLBACK");
    }
    for job in batch {
        job.answer(done.clone());
    }
    at(Point::Answered);
    done
}

fn apply(
    database: &Connection,
    batch: &mut [Box<dyn Job>],
    at: &mut (dyn FnMut(Point) + Send),
) -> Result<(), Failed> {
    database.execute_batch("BEGIN IMMEDIATE")?;
    at(Point::Begun);
    for job in batch {
        database.execute_batch("SAVEPOINT job")?;
        match job.run(database) {
            Ok(()) => database.execute_batch("RELEASE job")?,
            // A full disk ends the whole transaction: then there is no savepoint to go back to, and this
            // error is everybody's.
            Err(failed) => {
                database.execute_batch("ROLLBACK TO job; RELEASE job").map_err(|_| failed.clone())?;
                if !matches!(failed, Failed::Fault(_)) {
                    return Err(failed);
                }
            }
        }
    }
    at(Point::Applied);
    database.execute_batch("COMMIT")?;
    at(Point::Committed);
    Ok(())
}
