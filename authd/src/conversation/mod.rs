//! PAM conversations: one connection to the guard each, bounded in number and in time.
//!
//! A conversation ends by half-closing it: the guard then kills whatever a module left running and closes
//! its end. That end of file frees the slot; a guard that needs longer than a second, because the kernel
//! holds a process, goes on without it, and has a maximum of its own. authd kills nothing and reaps nothing.

mod packets;
mod slots;
mod words;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use doorward_launch::Current;
pub use slots::{Share, SourceKey};
use slots::{Slot, Slots};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};
pub use words::{Message, Round, Style, Task, Verdict, VerdictKind};

use self::{packets::Packets, words::FromWorker};
use crate::{account::Username, error::AuthError, secret::Answer};

/// How long the slot waits for the guard to end everything of a conversation.
const END_WITHIN: Duration = Duration::from_secs(if cfg!(test) { 10 } else { 1 });
/// A module that computes without a word gives its permit to the next login after this.
const PERMIT_FOR: Duration = Duration::from_secs(1);
/// While the guard's backlog is full, connecting is tried again so often.
const CONNECT_AGAIN: Duration = Duration::from_millis(20);

/// Deadlines and bounds.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The guard's socket.
    pub socket: PathBuf,
    /// The longest silence of a worker that is to speak.
    pub silent: Duration,
    /// The longest wait for a person's answer.
    pub answer: Duration,
    /// The longest conversation.
    pub total: Duration,
    /// Conversations in all.
    pub conversations: usize,
    /// Conversations of one source.
    pub per_source: usize,
    /// Conversations of one source about one account.
    pub per_account: usize,
    /// Modules that compute at a time.
    pub computing: usize,
}

/// What a conversation is to find out.
#[derive(Debug, Clone)]
pub struct Start {
    /// About whom.
    pub user: Username,
    /// Whether the source is known to be that user: then it alone is counted.
    pub vouched: bool,
    /// PAM_RHOST: an address literal or empty.
    pub rhost: String,
    /// Everything, or the account phase alone.
    pub task: Task,
}

/// What a worker says, or what came of waiting for it.
#[derive(Debug)]
pub enum Word {
    /// It shows and perhaps asks.
    Round(Round),
    /// It is done.
    Verdict(Verdict),
    /// It ended without a verdict; `spoke`: after it had said something.
    Gone {
        /// Whether it had said anything.
        spoke: bool,
    },
    /// It said nothing for too long.
    Silent,
    /// The conversation reached its longest duration.
    Overdue,
    /// What it said is no word of the protocol.
    Malformed(&'static str),
}

/// All conversations of this authd.
#[derive(Debug)]
pub struct Conversations {
    settings: Current<Settings>,
    slots: Arc<Slots>,
    computing: Arc<Semaphore>,
    endings: TaskTracker,
}

impl Conversations {
    /// None yet. `endings` owns the tasks that wait for the guard's end of file.
    pub fn new(settings: Settings, endings: TaskTracker) -> Self {
        let slots = Slots::new(settings.conversations, settings.per_source, settings.per_account);
        let computing = Arc::new(Semaphore::new(settings.computing.max(1)));
        Self { settings: Current::new(settings), slots: Arc::new(slots), computing, endings }
    }

    /// Other deadlines and bounds for the conversations to come. The socket and how many may compute at a
    /// time stay as they are.
    pub fn take_over(&self, settings: Settings) {
        self.slots.resize(settings.conversations, settings.per_source, settings.per_account);
        let socket = self.settings.get().socket.clone();
        self.settings.set(Settings { socket, ..settings });
    }

    /// How long a person may take to answer.
    pub fn answer_within(&self) -> Duration {
        self.settings.get().answer
    }

    /// Connects to the guard and starts a conversation.
    ///
    /// # Errors
    /// At a bound, when the guard cannot be reached, or nothing may compute within the silent deadline.
    pub async fn open(&self, source: SourceKey, start: Start) -> Result<Conversation, AuthError> {
        let account = (!start.vouched).then_some(start.user.as_str());
        let slot = self.slots.clone().take(source, account)?;
        let began = Instant::now();
        let settings = self.settings.get();
        let connecting = async {
            loop {
                match Packets::connect(&settings.socket)? {
                    Some(packets) => return Ok(packets),
                    None => tokio::time::sleep(CONNECT_AGAIN).await,
                }
            }
        };
        let packets = tokio::time::timeout(settings.silent, connecting)
            .await
            .map_err(|_| AuthError::PamTimedOut("its backlog stays full"))?
            .map_err(AuthError::PamUnreachable)?;
        let mut conversation = Conversation {
            open: Some((packets, slot)),
            computing: self.computing.clone(),
            endings: self.endings.clone(),
            permit: None,
            silent: settings.silent,
            until: began + settings.total,
            sent: began,
            spoke: false,
        };
        conversation.send(words::start(&start)).await?;
        Ok(conversation)
    }

    /// Conversations whose slots are taken, those that are being ended included.
    pub fn count(&self) -> usize {
        self.slots.count()
    }
}

/// One conversation. Dropping it ends it.
#[derive(Debug)]
pub struct Conversation {
    /// None once it is being ended.
    open: Option<(Packets, Slot)>,
    computing: Arc<Semaphore>,
    endings: TaskTracker,
    permit: Option<OwnedSemaphorePermit>,
    silent: Duration,
    until: Instant,
    sent: Instant,
    spoke: bool,
}

impl Conversation {
    /// When the worker was last told to go on: what it computes is counted from here.
    pub fn computing_since(&self) -> Instant {
        self.sent
    }

    /// What it takes of its source's bounds; until all of these are dropped.
    pub fn share(&self) -> Option<Arc<Share>> {
        self.open.as_ref().map(|(_, slot)| slot.share())
    }

    /// Gives the worker the answers to its round.
    ///
    /// # Errors
    /// When nothing may compute within the silent deadline, or the worker is gone.
    pub async fn answer(&mut self, answers: &[Answer]) -> Result<(), AuthError> {
        self.send(words::answers(answers)).await
    }

    /// Whether answers fit into one packet.
    pub fn fit(answers: &[Answer]) -> bool {
        words::answers(answers).len() <= doorward_proto::PAM_PACKET_MAX
    }

    async fn send(&mut self, packet: zeroize::Zeroizing<Vec<u8>>) -> Result<(), AuthError> {
        let deadline = self.until.min(Instant::now() + self.silent);
        let permit = tokio::time::timeout_at(deadline.into(), self.computing.clone().acquire_owned())
            .await
            .map_err(|_| AuthError::PamTimedOut("too many modules compute"))?
            .map_err(|_| AuthError::Gone("the computing permit"))?;
        self.permit = Some(permit);
        self.sent = Instant::now();
        let Some((packets, _)) = &self.open else { return Err(AuthError::Gone("the conversation")) };
        match tokio::time::timeout_at(deadline.into(), packets.send(&packet)).await {
            Ok(Ok(())) => Ok(()),
            // What the worker said before it went, if anything, is told by `word`.
            Ok(Err(failure)) => {
                debug!(cause = %failure, "a worker did not take a packet");
                Ok(())
            }
            Err(_) => Err(AuthError::PamTimedOut("it takes no packet")),
        }
    }

    /// Waits for the worker, which computes. Call [`Conversation::gone`] while a person is to answer.
    pub async fn word(&mut self) -> Word {
        let Some((packets, _)) = &self.open else { return Word::Gone { spoke: self.spoke } };
        let now = Instant::now();
        let silent = now + self.silent;
        let give_back = now + PERMIT_FOR;
        let packet = loop {
            // Without a permit there is nothing to give back: then the worker is silent, or its time is over.
            let deadline = if self.permit.is_some() { give_back } else { silent }.min(self.until);
            match tokio::time::timeout_at(deadline.into(), packets.recv()).await {
                Ok(packet) => break packet,
                Err(_) if Instant::now() >= self.until => return self.wordless(Word::Overdue),
                Err(_) if self.permit.is_some() => self.permit = None,
                Err(_) => return Word::Silent,
            }
        };
        let word = match packet {
            Ok(Some(packet)) => match words::read(&packet) {
                Ok(FromWorker::Round(round)) => Word::Round(round),
                Ok(FromWorker::Verdict(verdict)) => Word::Verdict(verdict),
                Err(what) => Word::Malformed(what),
            },
            Ok(None) => Word::Gone { spoke: self.spoke },
            Err(failure) => {
                debug!(cause = %failure, "a worker's connection failed");
                Word::Gone { spoke: self.spoke }
            }
        };
        // A round that only shows text is no pause: the module goes on computing.
        let goes_on = matches!(&word, Word::Round(round) if !round.asks());
        if !goes_on {
            self.permit = None;
        }
        self.spoke = true;
        word
    }

    fn wordless(&mut self, word: Word) -> Word {
        self.permit = None;
        word
    }

    /// Waits, while a person is to answer, for a reason to end: the worker's end or word, or the deadline.
    pub async fn gone(&self) -> Word {
        let Some((packets, _)) = &self.open else { return Word::Gone { spoke: self.spoke } };
        match tokio::time::timeout_at(self.until.into(), packets.recv()).await {
            Ok(Ok(Some(_))) => Word::Malformed("it spoke while it waited for answers"),
            Ok(Ok(None) | Err(_)) => Word::Gone { spoke: self.spoke },
            Err(_) => Word::Overdue,
        }
    }
}

impl Drop for Conversation {
    /// Half-closes; the slot is free when the guard has closed its end, at the latest after a second: how
    /// many processes there may be is the guard's to say.
    fn drop(&mut self) {
        self.permit = None;
        let Some((packets, slot)) = self.open.take() else { return };
        let ending = async move {
            packets.half_close();
            let ended = async { while matches!(packets.recv().await, Ok(Some(_))) {} };
            if tokio::time::timeout(END_WITHIN, ended).await.is_err() {
                warn!("the PAM guard did not end a conversation in time");
            }
            drop(packets);
            drop(slot);
        };
        // Without a runtime the process is stopping: closing alone ends the conversation then.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            self.endings.spawn_on(ending, &runtime);
        }
    }
}

#[cfg(test)]
#[path = "../../tests/authd/fakes/pam.rs"]
mod fake;

#[cfg(test)]
mod tests;
