//! The sessions that connections of this gateway hold: who must hear when one ends, or passes to another connection,
//! and which were used since the last report.

mod listener;

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use self::listener::Listener;
use super::known::Memory;
use crate::call::{EndReason, Identity, Secret, SessionId, Token};

/// The last news of sessions that are remembered, for grants that are under way while they come.
const REMEMBERED: usize = 1_024;
/// So many services can be asked on behalf of a session before one of its assertions is made anew.
const AUDIENCES: usize = 16;

/// What the stream of ended sessions had told at some time.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// `None` while it was down, else a number that changes whenever it was down in between.
    pub watch: Option<u64>,
    told: u64,
    given_back: u64,
}

/// All held sessions.
#[derive(Debug)]
pub(super) struct Table {
    start: Instant,
    /// 0 while the stream is down.
    watch: AtomicU64,
    inner: Mutex<Inner>,
    used: Mutex<Vec<Arc<Held>>>,
    some_use: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    held: HashMap<SessionId, Entry>,
    /// What was told last, the newest at the back.
    news: VecDeque<(SessionId, News)>,
    /// How much was told in all.
    told: u64,
    /// How often the stream came up.
    ups: u64,
    memory: Memory,
}

/// What authd tells of a session.
#[derive(Debug, Clone, Copy)]
enum News {
    Ended(EndReason),
    /// A connection of this number took it up.
    TakenUp(u64),
}

impl Inner {
    /// What was told of a session after `asked`, while a question about it was under way: whether it ended, and the
    /// highest number of those that took it up. False: more was told than is remembered.
    fn told_since(&self, session: SessionId, asked: Moment) -> (Option<EndReason>, u64, bool) {
        let missed = usize::try_from(self.told.saturating_sub(asked.told)).unwrap_or(usize::MAX);
        let (mut ended, mut turn) = (None, 0);
        for (_, news) in self.news.iter().rev().take(missed).filter(|(of, _)| *of == session) {
            match news {
                News::Ended(reason) => ended = ended.or(Some(*reason)),
                News::TakenUp(number) => turn = turn.max(*number),
            }
        }
        (ended, turn, missed <= REMEMBERED)
    }

    fn note(&mut self, session: SessionId, news: News) {
        self.told += 1;
        if self.news.len() == REMEMBERED {
            self.news.pop_front();
        }
        self.news.push_back((session, news));
    }
}

#[derive(Debug)]
struct Entry {
    held: Arc<Held>,
    /// The highest number of a connection that is known to have taken it up, here or at another gateway.
    turn: u64,
    listeners: Vec<Arc<Listener>>,
}

impl Entry {
    /// A connection of this number has taken it up: those with lower ones hold it no more. It lives, but what they
    /// are told is what they would be told were it ended by another login.
    fn passes_to(&mut self, turn: u64) {
        self.turn = self.turn.max(turn);
        for listener in self.listeners.iter().filter(|listener| lost(listener.turn, self.turn)) {
            listener.tell(EndReason::Revoked);
        }
    }
}

/// Whether a connection of this number holds a session no more that is held by one of that number. One without a number
/// neither takes it from anybody nor loses it: a request by plain HTTP, and who shares a session that many may hold.
fn lost(mine: u64, holds: u64) -> bool {
    mine != 0 && mine < holds
}

/// One session, however many connections hold it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) token: Token,
    /// Whose it is.
    pub(super) auth_id: Box<str>,
    /// Kind and id.
    pub(super) who: Box<str>,
    /// Its idle clock's length.
    pub(super) idle: Option<Duration>,
    /// The last use, in milliseconds since the table's start.
    used: AtomicU64,
    unreported: AtomicBool,
    /// authd's word who this is, for each service that was asked lately, at most [`AUDIENCES`]. It lives as long
    /// as some connection holds the session.
    assertions: Mutex<Vec<Assertion>>,
}

impl Held {
    pub(super) fn last_use(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub(super) fn assertion(&self, audience: &str) -> Option<Secret> {
        let kept = lock(&self.assertions);
        let found = kept.iter().find(|kept| &*kept.audience == audience)?;
        (Instant::now() < found.until).then(|| found.text.clone())
    }

    /// In the place of the one for the same service, or of the one that ends first.
    pub(super) fn keep_assertion(&self, audience: &str, text: Secret, until: Instant) {
        let assertion = Assertion { audience: audience.into(), text, until };
        let mut kept = lock(&self.assertions);
        kept.retain(|kept| &*kept.audience != audience);
        if kept.len() >= AUDIENCES
            && let Some((place, _)) = kept.iter().enumerate().min_by_key(|(_, kept)| kept.until)
        {
            kept.swap_remove(place);
        }
        kept.push(assertion);
    }
}

#[derive(Debug)]
struct Assertion {
    audience: Box<str>,
    text: Secret,
    until: Instant,
}

/// A connection's hold on a session.
#[derive(Debug)]
pub struct Holding {
    table: Arc<Table>,
    session: SessionId,
    held: Arc<Held>,
    listener: Arc<Listener>,
    complete: bool,
}

/// A call's hold on a session: enough to say who asks, not to keep the session held.
#[derive(Debug, Clone)]
pub struct Pass(pub(super) Arc<Held>);

impl Holding {
    /// Everything that ended while the session was granted is known. If not, what authd said of it
    /// must be asked again before it is used.
    pub fn complete(&self) -> bool {
        self.complete
    }

    /// Ready when the session has ended.
    pub fn poll_ended(&self, context: &mut Context<'_>) -> Poll<EndReason> {
        if let Some(reason) = self.listener.heard() {
            return Poll::Ready(reason);
        }
        self.listener.waker.register(context.waker());
        // It may have ended between the look and the registration.
        self.listener.heard().map_or(Poll::Pending, Poll::Ready)
    }

    /// For a call with this session.
    pub fn pass(&self) -> Pass {
        Pass(Arc::clone(&self.held))
    }

    /// Whether the session is known to have ended.
    pub fn ended(&self) -> Option<EndReason> {
        self.listener.heard()
    }

    /// The session was used just now.
    pub fn used(&self) {
        self.held.used.store(self.table.now(), Ordering::Relaxed);
        if !self.held.unreported.swap(true, Ordering::AcqRel) {
            lock(&self.table.used).push(Arc::clone(&self.held));
            self.table.some_use.notify_one();
        }
    }

    /// How long ago it was used, if authd has not been told.
    pub fn unreported_use(&self) -> Option<Duration> {
        self.held.unreported.load(Ordering::Acquire).then(|| self.table.since(self.held.last_use()))
    }

    /// Gives the session back. True if nobody else holds it.
    pub(super) fn release(self) -> bool {
        self.leave()
    }

    fn leave(&self) -> bool {
        let mut inner = lock(&self.table.inner);
        let Some(entry) = inner.held.get_mut(&self.session) else { return false };
        let before = entry.listeners.len();
        entry.listeners.retain(|listener| !Arc::ptr_eq(listener, &self.listener));
        let last = entry.listeners.is_empty() && before > 0;
        if last {
            inner.held.remove(&self.session);
        }
        last
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            watch: AtomicU64::new(0),
            inner: Mutex::default(),
            used: Mutex::default(),
            some_use: Notify::new(),
        }
    }

    fn now(&self) -> u64 {
        super::wire::milliseconds(self.start.elapsed())
    }

    pub(super) fn since(&self, then: u64) -> Duration {
        Duration::from_millis(self.now().saturating_sub(then))
    }

    pub(super) fn moment(&self) -> Moment {
        let (told, given_back) = {
            let inner = lock(&self.inner);
            (inner.told, inner.memory.given_back())
        };
        Moment { watch: self.watch(), told, given_back }
    }

    pub(super) fn watch(&self) -> Option<u64> {
        Some(self.watch.load(Ordering::Acquire)).filter(|watch| *watch != 0)
    }

    /// A connection holds this session, which authd granted when asked at `asked`, as the one of this number, if it
    /// has one.
    pub(super) fn hold(self: &Arc<Self>, identity: &Identity, turn: u64, asked: Moment) -> Holding {
        let session = identity.session;
        let listener = Arc::new(Listener::of(turn));
        let mut inner = lock(&self.inner);
        let (reason, told, complete) = inner.told_since(session, asked);
        if let Some(reason) = reason {
            listener.tell(reason);
        }
        let entry = inner.held.entry(session).or_insert_with(|| Entry {
            held: Arc::new(Held {
                token: identity.token.clone(),
                auth_id: identity.who.auth_id.clone(),
                who: format!("{}/{}", identity.who.kind, identity.who.auth_id).into(),
                idle: identity.idle.map(|idle| idle.after),
                used: AtomicU64::new(0),
                unreported: AtomicBool::new(false),
                assertions: Mutex::default(),
            }),
            turn: 0,
            listeners: Vec::new(),
        });
        entry.listeners.push(Arc::clone(&listener));
        // Another may have come later and been answered, or told of, before.
        entry.passes_to(turn.max(told));
        let held = Arc::clone(&entry.held);
        // A login and taking up a session are uses, which authd knows of.
        held.used.store(self.now(), Ordering::Relaxed);
        Holding { table: Arc::clone(self), session, held, listener, complete }
    }

    /// Does something with what is known of tokens.
    pub(super) fn with_memory<T>(&self, work: impl FnOnce(&mut Memory) -> T) -> T {
        work(&mut lock(&self.inner).memory)
    }

    /// The same, unless the session has ended since `asked`, which gives None, or too much has to say that it
    /// has not, or some session was given back, which may be this one: then nothing is done.
    pub(super) fn unless_ended(
        &self,
        session: SessionId,
        asked: Moment,
        work: impl FnOnce(&mut Memory),
    ) -> Option<()> {
        let mut inner = lock(&self.inner);
        match inner.told_since(session, asked) {
            (Some(_), _, _) => return None,
            (None, _, true) if inner.memory.given_back() == asked.given_back => work(&mut inner.memory),
            (None, _, _) => {}
        }
        Some(())
    }

    /// The stream is in place.
    pub(super) fn up(&self) {
        let mut inner = lock(&self.inner);
        inner.ups += 1;
        self.watch.store(inner.ups, Ordering::Release);
        // Those who hold something back until now may go on.
        for listener in inner.held.values().flat_map(|entry| &entry.listeners) {
            listener.waker.wake();
        }
    }

    /// How many milliseconds ago it was used, if authd has not been told.
    pub(super) fn unreported_use(&self, held: &Held) -> Option<u64> {
        let unreported = held.unreported.load(Ordering::Acquire);
        unreported.then(|| super::wire::milliseconds(self.since(held.last_use())))
    }

    /// Every session that some connection holds.
    pub(super) fn all(&self) -> Vec<(SessionId, Arc<Held>)> {
        lock(&self.inner).held.iter().map(|(session, entry)| (*session, Arc::clone(&entry.held))).collect()
    }

    /// A session turned out to have ended while nobody told: from what is known here, why.
    pub(super) fn missed(&self, session: SessionId, held: &Held) {
        let unused = self.since(held.last_use());
        let idle = held.idle.is_some_and(|idle| unused >= idle);
        self.ended(session, if idle { EndReason::Idle } else { EndReason::Revoked });
    }

    /// The stream is gone.
    pub(super) fn down(&self) {
        self.watch.store(0, Ordering::Release);
    }

    /// authd told that this session has ended.
    pub(super) fn ended(&self, session: SessionId, reason: EndReason) {
        let mut inner = lock(&self.inner);
        inner.memory.forget(session);
        inner.note(session, News::Ended(reason));
        if let Some(entry) = inner.held.get(&session) {
            for listener in &entry.listeners {
                listener.tell(reason);
            }
        }
    }

    /// authd told that a connection of this number took a session up.
    pub(super) fn taken_up(&self, session: SessionId, turn: u64) {
        lock(&self.inner).note(session, News::TakenUp(turn));
        self.passed_to(session, turn);
    }

    /// The number that a session was found to have when authd was asked about it.
    pub(super) fn passed_to(&self, session: SessionId, turn: u64) {
        if let Some(entry) = lock(&self.inner).held.get_mut(&session) {
            entry.passes_to(turn);
        }
    }

    /// Waits until there is something to report.
    pub(super) async fn some_use(&self) {
        while lock(&self.used).is_empty() {
            self.some_use.notified().await;
        }
    }

    /// What was used since the last time.
    pub(super) fn take_used(&self) -> Vec<Arc<Held>> {
        let used = std::mem::take(&mut *lock(&self.used));
        for held in &used {
            held.unreported.store(false, Ordering::Release);
        }
        used
    }

    /// What could not be reported.
    pub(super) fn put_back(&self, entries: &[Arc<Held>]) {
        let mut used = lock(&self.used);
        for held in entries {
            if !held.unreported.swap(true, Ordering::AcqRel) {
                used.push(Arc::clone(held));
            }
        }
    }
}

/// Nothing that holds these locks can panic half-way through a change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
