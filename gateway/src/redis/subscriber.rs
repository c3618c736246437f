//! What is subscribed to: one connection, on which Redis says nothing but messages and answers to subscriptions.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use doorward_launch::log::Sparingly;
use futures_util::FutureExt as _;
use tokio::{
    sync::{Notify, watch},
    time::{sleep, sleep_until},
};

use super::{
    Listener, Settings, Timing, Unasked, jitter,
    link::{Broken, Link, printable, sentence},
    pace::{Pace, QUIET},
    resp::{Frame, Part},
    table::{Command, Entered, NotSure, Table},
};

/// An answer may stand behind many messages, which are an answer, too; but not for longer.
const ANSWER: Duration = Duration::from_secs(30);

/// What subscribers want, and whether they get it.
#[derive(Debug)]
pub(super) struct Wishes<A> {
    table: Mutex<Table<A>>,
    changed: Notify,
    interrupted: watch::Sender<bool>,
}

impl<A> Wishes<A> {
    pub(super) fn new() -> Self {
        Self {
            table: Mutex::new(Table::new()),
            changed: Notify::new(),
            interrupted: watch::Sender::new(true),
        }
    }

    pub(super) fn enter(
        &self,
        key: &str,
        at: A,
    ) -> impl Future<Output = Result<(), NotSure>> + Send + 'static + use<A> {
        let entered = self.table().enter(key, at);
        self.changed.notify_one();
        async move {
            match entered {
                Entered::Sure => Ok(()),
                Entered::Not(why) => Err(why),
                Entered::Asked(told) => told.await.unwrap_or(Err(NotSure::Interrupted)),
            }
        }
    }

    pub(super) fn leave(&self, key: &str, is_wanted: impl FnOnce() -> bool) {
        let mut table = self.table();
        if !is_wanted() {
            table.leave(key);
            drop(table);
            self.changed.notify_one();
        }
    }

    pub(super) fn interrupted(&self) -> watch::Receiver<bool> {
        self.interrupted.subscribe()
    }

    /// Nothing that holds this lock can panic half-way through a change, or waits.
    fn table(&self) -> MutexGuard<'_, Table<A>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The listener first: whoever has seen here that it is over is told of no end any more.
    fn tell(&self, interrupted: bool, listener: &impl Listener<A>) {
        if *self.interrupted.borrow() != interrupted {
            listener.interrupted(interrupted);
            self.interrupted.send_replace(interrupted);
        }
    }
}

/// Keeps the subscriptions, and hands over what comes; never ends.
pub(super) async fn keep<A>(settings: &Settings, wishes: &Wishes<A>, listener: &impl Listener<A>) {
    let (mut pace, mut lines, mut dropped) =
        (Pace::new(), Sparingly::once_in(QUIET), Sparingly::once_in(QUIET));
    loop {
        let broken = match Link::connect(settings).await {
            Ok(link) => {
                pace.up(Instant::now());
                wishes.table().up();
                let broken = serve(link, settings.timing, wishes, listener, &mut dropped).await;
                // In this order: who enters from now on is told, by the one or the other.
                wishes.table().down();
                wishes.tell(true, listener);
                broken
            }
            Err(broken) => broken,
        };
        let now = Instant::now();
        if let Some(unsaid) = lines.now() {
            tracing::warn!(error = %broken, unsaid, "delivery is interrupted: Redis cannot be reached");
        }
        sleep(pace.down(now, jitter())).await;
    }
}

async fn serve<A>(
    mut link: Link,
    timing: Timing,
    wishes: &Wishes<A>,
    listener: &impl Listener<A>,
    dropped: &mut Sparingly,
) -> Broken {
    let mut heard = Instant::now();
    let mut told = false;
    loop {
        loop {
            match link.frame() {
                Ok(Some(frame)) => {
                    heard = Instant::now();
                    if let Err(broken) = arrived(wishes, frame, listener, dropped) {
                        return broken;
                    }
                }
                Ok(None) => break,
                Err(garbage) => return garbage.into(),
            }
        }
        let now = Instant::now();
        let silent = now.saturating_duration_since(heard);
        let owes = wishes.table().waited(now).is_some_and(|waited| waited >= ANSWER);
        if owes || silent >= timing.every + timing.within {
            // It may be this process that was given no time, and the answer is here.
            match link.progress().now_or_never() {
                Some(Ok(())) => continue,
                Some(Err(broken)) => return broken,
                None => return Broken::Silent,
            }
        }
        let restored;
        {
            let mut table = wishes.table();
            if silent >= timing.every {
                table.ping(now).iter().for_each(|ping| send(&mut link, ping));
            }
            while link.has_room()
                && let Some(command) = table.next(now)
            {
                send(&mut link, &command);
            }
            restored = table.is_restored();
        }
        if restored && !std::mem::replace(&mut told, true) {
            tracing::info!("connected to Redis, all subscriptions are confirmed");
            wishes.tell(false, listener);
        }
        let wake = heard + if silent < timing.every { timing.every } else { timing.every + timing.within };
        tokio::select! {
            progress = link.progress() => if let Err(broken) = progress { return broken },
            () = wishes.changed.notified() => {}
            () = sleep_until(wake.into()) => {}
        }
    }
}

fn send(link: &mut Link, command: &Command) {
    match command {
        Command::Subscribe(key) => link.send(&[b"SUBSCRIBE", key.as_bytes()]),
        Command::Unsubscribe(key) => link.send(&[b"UNSUBSCRIBE", key.as_bytes()]),
        Command::Ping => link.send(&[b"PING"]),
    }
}

fn arrived<A>(
    wishes: &Wishes<A>,
    frame: Frame,
    listener: &impl Listener<A>,
    dropped: &mut Sparingly,
) -> Result<(), Broken> {
    let parts = match frame {
        Frame::Many(parts) => parts,
        // Before the first subscription a PING is answered as to everybody.
        Frame::One(Part::Status(_)) => return Ok(wishes.table().confirmed(&Command::Ping)?),
        Frame::One(Part::Error(said)) => {
            let (key, lost) = wishes.table().refused().map_err(|_| Broken::Refused(sentence(&said)))?;
            if let Some(at) = lost {
                listener.lost(&at);
            }
            if let Some(unsaid) = dropped.now() {
                let error = sentence(&said);
                tracing::warn!(key = &*key, error, unsaid, "Redis refuses a subscription");
            }
            return Ok(());
        }
        Frame::One(_) => return Err(Unasked.into()),
    };
    let mut parts = parts.into_iter();
    match (parts.next(), parts.next(), parts.next()) {
        (Some(Part::Bulk(kind)), Some(Part::Bulk(key)), Some(Part::Bulk(payload)))
            if &*kind == b"message" =>
        {
            let at = std::str::from_utf8(&key).ok().and_then(|key| wishes.table().at(key));
            if let Some(at) = at {
                listener.message(&at, payload);
            }
            Ok(())
        }
        (Some(Part::Bulk(kind)), Some(Part::Bulk(key)), Some(Part::TooLong(bytes)))
            if &*kind == b"message" =>
        {
            if let Some(unsaid) = dropped.now() {
                tracing::warn!(key = printable(&key), bytes, unsaid, "a message is too long and was dropped");
            }
            Ok(())
        }
        (Some(Part::Bulk(kind)), Some(Part::Bulk(key)), Some(Part::Integer(_))) => {
            let key = std::str::from_utf8(&key).map_err(|_| Unasked)?.into();
            let command = match &*kind {
                b"subscribe" => Command::Subscribe(key),
                b"unsubscribe" => Command::Unsubscribe(key),
                _ => return Err(Unasked.into()),
            };
            Ok(wishes.table().confirmed(&command)?)
        }
        (Some(Part::Bulk(kind)), Some(Part::Bulk(_)), None) if &*kind == b"pong" => {
            Ok(wishes.table().confirmed(&Command::Ping)?)
        }
        _ => Err(Unasked.into()),
    }
}
