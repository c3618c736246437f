//! One who publishes, and many who listen: what arrives is compared byte by byte with what was said, and not parsed.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf, ReadHalf, WriteHalf, split},
    sync::Notify,
    task::JoinSet,
    time::timeout,
};

use crate::{cpu, rounds::Turn};

/// No publication takes as long to reach everybody.
const PATIENCE: Duration = Duration::from_secs(20);
/// Of so many listeners one measures how long it took: it would only heat the machine to know all.
const SAMPLED: usize = 16;
/// What is read at once.
const CHUNK: usize = 16 << 10;

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// What is said each time, but for a number in it.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    before: Vec<u8>,
    after: Vec<u8>,
}

/// Where the number is; as many digits as every number has.
const NUMBER: &str = "0000000000";

impl Template {
    /// Of an example, in which the number is 0.
    pub(crate) fn new(example: &[u8]) -> Self {
        let digits = NUMBER.as_bytes();
        let at = example.windows(digits.len()).position(|part| part == digits).unwrap_or(example.len());
        let (before, rest) = example.split_at(at);
        Self { before: before.to_vec(), after: rest.get(digits.len()..).unwrap_or_default().to_vec() }
    }

    fn write(&self, number: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.before);
        out.extend_from_slice(format!("{number:010}").as_bytes());
        out.extend_from_slice(&self.after);
    }
}

/// A text frame (RFC 6455); masked by zeros, as a client has to and as cheaply as it may.
pub(crate) fn frame(text: &[u8], masked: bool) -> Vec<u8> {
    let mut out = vec![0x81];
    let mask = if masked { 0x80 } else { 0 };
    match u16::try_from(text.len()).unwrap_or(u16::MAX) {
        short @ 0..126 => out.push(mask | short as u8),
        long => {
            out.push(mask | 126);
            out.extend_from_slice(&long.to_be_bytes());
        }
    }
    out.extend_from_slice(if masked { &[0; 4] } else { &[] });
    out.extend_from_slice(text);
    out
}

/// A publication that somebody has not got yet.
struct UnderWay {
    since: Instant,
    expected: Vec<u8>,
    missing: usize,
}

#[derive(Default)]
struct Progress {
    under_way: VecDeque<UnderWay>,
    /// The number of the oldest of them.
    oldest: u64,
    delivered: usize,
    latencies: Vec<Duration>,
    failed: Option<String>,
}

#[derive(Default)]
struct Shared {
    progress: Mutex<Progress>,
    /// The oldest has reached everybody, or something has failed.
    changed: Notify,
}

impl Shared {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, why: String) {
        self.progress().failed.get_or_insert(why);
        self.changed.notify_one();
    }
}

/// All of one side. Its tasks end when it is dropped.
pub(crate) struct Crowd {
    pids: Vec<u32>,
    publisher: WriteHalf<Box<dyn Stream>>,
    asked: Template,
    said: Template,
    listeners: usize,
    next: u64,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

impl Crowd {
    /// `asked` is what the publisher says, `said` what everybody then gets; `acknowledged` is what the publisher is told,
    /// if it is told anything.
    pub(crate) fn new(
        pids: Vec<u32>,
        publisher: Box<dyn Stream>,
        listeners: Vec<Box<dyn Stream>>,
        asked: Template,
        said: Template,
        acknowledged: Option<&'static [u8]>,
    ) -> Self {
        let (shared, mut tasks) = (Arc::<Shared>::default(), JoinSet::new());
        let count = listeners.len();
        for (place, stream) in listeners.into_iter().enumerate() {
            let shared = Arc::clone(&shared);
            tasks.spawn(async move {
                let mut listener = Listener { stream, place, next: 0, at: 0 };
                let Err(error) = poll_fn(|context| listener.poll(context, &shared)).await;
                shared.fail(format!("listener {place}: {error}"));
            });
        }
        let (answers, publisher) = split(publisher);
        let told = Arc::clone(&shared);
        tasks.spawn(async move { told.fail(refused(answers, acknowledged.unwrap_or_default()).await) });
        Self { pids, publisher, asked, said, listeners: count, next: 0, shared, _tasks: tasks }
    }

    /// Publishes for so long, with so many under way at once; until everybody has everything.
    pub(crate) async fn turn(&mut self, window: usize, length: Duration) -> io::Result<Turn> {
        let (before, began) = (cpu::used(&self.pids), Instant::now());
        let mut out = Vec::new();
        loop {
            out.clear();
            {
                let mut progress = self.shared.progress();
                if let Some(why) = &progress.failed {
                    return Err(io::Error::other(why.clone()));
                }
                let now = Instant::now();
                while now - began < length && progress.under_way.len() < window {
                    let mut expected = Vec::new();
                    self.asked.write(self.next, &mut out);
                    self.said.write(self.next, &mut expected);
                    self.next += 1;
                    progress.under_way.push_back(UnderWay { since: now, expected, missing: self.listeners });
                }
                if progress.under_way.is_empty() {
                    break;
                }
            }
            self.publisher.write_all(&out).await?;
            self.publisher.flush().await?;
            let changed = timeout(PATIENCE, self.shared.changed.notified()).await;
            changed.map_err(|_| io::Error::other("a publication did not reach everybody"))?;
        }
        let (cpu, elapsed) = (cpu::used(&self.pids) - before, began.elapsed());
        let mut progress = self.shared.progress();
        let mut latencies = std::mem::take(&mut progress.latencies);
        latencies.sort_unstable();
        Ok(Turn { operations: std::mem::take(&mut progress.delivered), elapsed, cpu, latencies })
    }
}

struct Listener {
    stream: Box<dyn Stream>,
    place: usize,
    /// What comes next, and how much of it was there already.
    next: u64,
    at: usize,
}

impl Listener {
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        shared: &Shared,
    ) -> Poll<Result<std::convert::Infallible, io::Error>> {
        loop {
            let mut space = [MaybeUninit::uninit(); CHUNK];
            let mut buffer = ReadBuf::uninit(&mut space);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            if let Err(error) = self.take(buffer.filled(), shared) {
                return Poll::Ready(Err(error));
            }
        }
    }

    fn take(&mut self, mut bytes: &[u8], shared: &Shared) -> io::Result<()> {
        let mut progress = shared.progress();
        let Progress { under_way, oldest, delivered, latencies, .. } = &mut *progress;
        let other =
            |bytes: &[u8]| io::Error::other(format!("unexpected: {}", String::from_utf8_lossy(bytes)));
        while !bytes.is_empty() {
            let place = usize::try_from(self.next - *oldest).unwrap_or(usize::MAX);
            let coming = under_way.get_mut(place).ok_or_else(|| other(bytes))?;
            let rest = coming.expected.get(self.at..).unwrap_or_default();
            let (here, later) = bytes.split_at(rest.len().min(bytes.len()));
            if !rest.starts_with(here) {
                return Err(other(bytes));
            }
            self.at += here.len();
            bytes = later;
            if self.at == coming.expected.len() {
                (self.at, self.next) = (0, self.next + 1);
                coming.missing -= 1;
                *delivered += 1;
                if self.place.is_multiple_of(SAMPLED) {
                    latencies.push(coming.since.elapsed());
                }
            }
        }
        let before = *oldest;
        while under_way.front().is_some_and(|front| front.missing == 0) {
            under_way.pop_front();
            *oldest += 1;
        }
        if *oldest != before {
            shared.changed.notify_one();
        }
        Ok(())
    }
}

/// Reads what the publisher is told, until that is something else than it should be; what.
async fn refused(mut answers: ReadHalf<Box<dyn Stream>>, acknowledged: &[u8]) -> String {
    use tokio::io::AsyncReadExt as _;
    let mut buffer = [0; 1 << 10];
    let mut at = 0;
    loop {
        let read = match answers.read(&mut buffer).await {
            Ok(0) => return "the publisher was sent away".to_owned(),
            Ok(read) => buffer.get(..read).unwrap_or_default(),
            Err(error) => return format!("the publisher: {error}"),
        };
        for byte in read {
            if acknowledged.get(at) != Some(byte) {
                return format!("the publisher is told: {}", String::from_utf8_lossy(read));
            }
            at = (at + 1) % acknowledged.len();
        }
    }
}
