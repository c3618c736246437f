//! Plug-in authenticators: services of their own that know somebody for whom this host has no account.
//!
//! A plug-in says who its own kind of identities is, and nothing else: never a user of the host, nothing beyond the
//! most that its configuration gives. It is asked a bounded number of questions at a time, and left alone for a
//! while when it does not answer. The reading order is answer, seats, breaker.

mod answer;
mod breaker;
mod seats;

use std::{
    collections::BTreeMap,
    error::Error as _,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use doorward_launch::log::Sparingly;
use doorward_proto::authenticator::v1::{self as wire, authenticator_client::AuthenticatorClient};
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Status, transport::Channel};
use tracing::{info, warn};

pub use self::seats::Share;
use self::{answer::Answer, breaker::Breaker, seats::Seats};
use crate::{
    conversation::SourceKey, error::AuthError, line, secret::Credentials, session, vouched::Newcomer,
};

/// The largest answer that is read: 256 entries of 256 bytes and what is around them.
const ANSWER_MAX: usize = 80 << 10;
/// Lines a second about one plug-in.
const LINES: u32 = 5;

/// A plug-in, and what it may say.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What sort of identities it knows.
    pub kind: String,
    /// Its socket.
    pub socket: PathBuf,
    /// Who must have called listen() there.
    pub uid: u32,
    /// The most that its identities may do.
    pub acl_max: Arc<[String]>,
    /// How long it may take for an answer.
    pub within: Duration,
    /// Questions at a time.
    pub concurrent: usize,
}

/// The plug-ins of the configuration.
#[derive(Debug)]
pub struct Plugins {
    all: BTreeMap<String, Arc<Plugin>>,
    began: Instant,
    tasks: TaskTracker,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Plugin {
    settings: Settings,
    client: AuthenticatorClient<Channel>,
    seats: Arc<Seats>,
    breaker: Mutex<Breaker>,
    told: Mutex<Sparingly>,
}

impl Plugins {
    /// Connects to each when it is first asked. `tasks` owns the questions, `stop` ends them.
    pub fn new(all: Vec<Settings>, tasks: TaskTracker, stop: CancellationToken) -> Self {
        let plugin = |settings: Settings| {
            let whose = format!("the authenticator {}'s", settings.kind);
            let channel = line::channel(settings.socket.clone(), settings.uid, whose);
            let plugin = Plugin {
                client: AuthenticatorClient::new(channel).max_decoding_message_size(ANSWER_MAX),
                seats: Arc::new(Seats::new(settings.concurrent)),
                breaker: Mutex::default(),
                told: Mutex::new(Sparingly::of(LINES)),
                settings,
            };
            (plugin.settings.kind.clone(), Arc::new(plugin))
        };
        let all = all.into_iter().map(plugin).collect();
        Self { all, began: Instant::now(), tasks, stop }
    }

    /// Whether there is one for this kind.
    pub fn knows(&self, kind: &str) -> bool {
        self.all.contains_key(kind)
    }

    /// A place to ask for a source; the second part is to be kept until the answer is out.
    ///
    /// # Errors
    /// At a bound.
    pub fn seat(&self, kind: &str, source: SourceKey) -> Result<(Question, Arc<Share>), AuthError> {
        let plugin = self.all.get(kind).ok_or(AuthError::Gone("the authenticator"))?;
        let (seat, share) = plugin.seats.take(source).map_err(AuthError::TooManyLogins)?;
        Ok((Question { plugin: plugin.clone(), seat }, share))
    }

    /// Asks who has these credentials; None: nobody. A question that was sent keeps its place until it is answered
    /// or late, also when nobody waits for the answer any more: the plug-in may work on it all the same.
    ///
    /// # Errors
    /// When the plug-in cannot be asked, or its answer is wrong.
    pub async fn ask(
        &self,
        question: Question,
        credentials: Credentials,
        address: String,
    ) -> Result<Option<Newcomer>, AuthError> {
        let Question { plugin, seat } = question;
        let began = self.began;
        if let Err(left) = lock(&plugin.breaker).admit(began.elapsed()) {
            let seconds = left.as_secs() + 1;
            return Err(AuthError::Authenticator(format!(
                "{} did not answer again and again, and is not asked for {seconds} s",
                plugin.settings.kind
            )));
        }
        let stop = self.stop.clone();
        let asked = self.tasks.spawn(async move {
            let asked = stop.run_until_cancelled(plugin.ask(credentials, address)).await;
            drop(seat);
            match asked {
                Some((answer, answers)) => {
                    plugin.answers(answers, began.elapsed());
                    answer.and_then(|reply| plugin.read(reply))
                }
                None => {
                    plugin.answers(true, began.elapsed());
                    Err(AuthError::Gone("the login"))
                }
            }
        });
        asked.await.unwrap_or(Err(AuthError::Gone("the authenticator's answer")))
    }
}

/// A place among those that may ask a plug-in at a time.
#[derive(Debug)]
pub struct Question {
    plugin: Arc<Plugin>,
    seat: seats::Seat,
}

impl Plugin {
    /// The answer, and whether it is one of the plug-in's own.
    async fn ask(
        &self,
        credentials: Credentials,
        address: String,
    ) -> (Result<wire::AuthenticateReply, AuthError>, bool) {
        let within = self.settings.within;
        let request = wire::AuthenticateRequest {
            kind: self.settings.kind.clone(),
            credentials: credentials.expose().to_vec(),
            peer: Some(wire::Peer { address }),
            deadline_ms: u32::try_from(within.as_millis()).unwrap_or(u32::MAX),
        };
        let mut client = self.client.clone();
        match timeout(within, client.authenticate(request)).await {
            Ok(Ok(reply)) => (Ok(reply.into_inner()), true),
            // What has a source was made by the connection, not by the plug-in.
            Ok(Err(status)) => {
                let stated = status.source().is_none();
                (Err(self.wrong(&cause(&status))), stated)
            }
            Err(_) => (Err(AuthError::AuthenticatorTimedOut), false),
        }
    }

    /// One that can be made to answer wrong by what a client sends is not left alone by that: who is silent is.
    fn answers(&self, answers: bool, now: Duration) {
        let pause = {
            let mut breaker = lock(&self.breaker);
            if answers {
                breaker.answered();
                None
            } else {
                breaker.failed(now)
            }
        };
        if let Some(pause) = pause {
            let kind = &self.settings.kind;
            warn!(
                kind,
                seconds = pause.as_secs(),
                "an authenticator does not answer, and is left alone for a while"
            );
        }
    }

    fn read(&self, reply: wire::AuthenticateReply) -> Result<Option<Newcomer>, AuthError> {
        let Settings { kind, acl_max, .. } = &self.settings;
        match answer::read(reply, kind, acl_max, session::utc()) {
            Ok(Answer::Somebody(newcomer, 0)) => Ok(Some(newcomer)),
            Ok(Answer::Somebody(newcomer, dropped)) => {
                if let Some(unsaid) = lock(&self.told).now() {
                    let who = newcomer.who.shown();
                    warn!(who, dropped, unsaid, "an authenticator gives entries that nobody may have");
                }
                Ok(Some(newcomer))
            }
            Ok(Answer::Nobody(why)) => {
                if let Some(unsaid) = lock(&self.told).now() {
                    info!(kind, ?why, unsaid, "an authenticator refuses");
                }
                Ok(None)
            }
            Err(what) => Err(self.wrong(&format!("its answer is wrong: {what}"))),
        }
    }

    fn wrong(&self, what: &str) -> AuthError {
        AuthError::Authenticator(format!("{}: {what}", self.settings.kind))
    }
}

/// The words of a plug-in, cut and without control characters; of the connection's errors, which repeat each other, the
/// innermost.
fn cause(status: &Status) -> String {
    let mut cause = status.message().to_owned();
    let mut next = status.source();
    while let Some(source) = next {
        cause = source.to_string();
        next = source.source();
    }
    let plain: String = cause.chars().filter(|c| !c.is_control()).take(200).collect();
    format!("{:?}: {plain}", status.code())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
