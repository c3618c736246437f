//! Carries out what logins ask for: one task each, which owns the conversation and ends with it.

mod lines;
mod run;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use doorward_launch::{
    Current,
    audit::{Audit, Event, Record},
};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

pub use self::run::Abandoned;
use self::{lines::Lines, run::Run};
use crate::{
    certd::{Certd, Challenge},
    conversation::{self, Conversations, Message, SourceKey},
    error::AuthError,
    jwt::Issuers,
    login::{Login, Step},
    method::{self, Cause, Claim, Policy, TokenRules, Tries, Wish},
    peer::{Connection, Peers},
    penalty::{Penalties, Refused, Try},
    plugin::Plugins,
    rights::{Holders, Seen},
    secret::{self, Answer, Malformed, Token},
    session::Dialect,
};

/// Logins under way, those that only wait to be refused included.
const UNDER_WAY: usize = 1024;

/// Who asks for a login.
#[derive(Debug, Clone)]
pub struct Asker {
    /// Their connection.
    pub connection: Connection,
    /// Where from, as the gateway reports it; None: the Unix socket.
    pub source: Option<IpAddr>,
    /// The local user whose share it counts against, as the gateway reports it. Never an identity.
    pub local_uid: Option<u32>,
    /// The client's address as a trusted proxy tells it: failures count against it.
    pub forwarded: Option<IpAddr>,
    /// What the session is to be good for.
    pub purpose: Purpose,
}

/// What a session is to be good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// The SysAdm dialect.
    Sysadm,
    /// The token API, with what its client asks for.
    Token(Wish),
    /// Channels.
    Channel,
}

impl Purpose {
    /// The client dialect.
    pub fn dialect(&self) -> Dialect {
        match self {
            Self::Sysadm => Dialect::Sysadm,
            Self::Token(_) => Dialect::Token,
            Self::Channel => Dialect::Channel,
        }
    }
}

impl Asker {
    fn source(&self) -> String {
        self.source.map_or_else(String::new, |address| address.to_canonical().to_string())
    }

    /// The client's address, as a trusted proxy tells it or as the gateway sees it.
    fn client(&self) -> String {
        self.forwarded.map_or_else(|| self.source(), |address| address.to_canonical().to_string())
    }

    /// What its share of the bounds is counted by.
    fn share(&self) -> SourceKey {
        self.local_uid.map_or_else(|| SourceKey::of(self.source), SourceKey::of_uid)
    }

    /// Where from, for audit records.
    fn reported_source(&self) -> String {
        match (self.source, self.local_uid) {
            (Some(_), _) => self.source(),
            (None, Some(uid)) => format!("uid:{uid}"),
            (None, None) => "unix".to_owned(),
        }
    }

    /// What is known of its login from the start.
    fn known(&self, event: Event) -> Record {
        Record {
            reported_source: Some(self.reported_source()),
            connection: Some(self.connection.to_string()),
            dialect: Some(self.purpose.dialect().name().to_owned()),
            ..Record::of(event)
        }
    }

    /// Whom its failures are counted against.
    fn charged(&self) -> SourceKey {
        self.forwarded.map_or_else(|| self.share(), |address| SourceKey::of(Some(address)))
    }

    /// The same for certd.
    fn share_text(&self) -> String {
        self.local_uid.map_or_else(|| self.source(), |uid| SourceKey::of_uid(uid).to_string())
    }
}

/// How a login, or a part of it, came out.
#[derive(Debug)]
pub enum Outcome {
    /// A session.
    Granted {
        /// Its key.
        token: Token,
        /// The session.
        seen: Box<Seen>,
    },
    /// PAM asks more.
    Prompts {
        /// Names the conversation.
        conversation: Uuid,
        /// What it shows and asks.
        prompts: Vec<Message>,
    },
    /// Refused.
    Denied,
    /// No plug-in authenticator is configured for the kind. It was no try.
    NoSuchKind,
    /// The credentials are right; the wished life is none or too long. There is no session.
    InvalidExpiration,
    /// Not tried: its source is under a penalty.
    Penalised {
        /// For so long.
        left: Duration,
    },
}

/// What a login that was begun came to: a failure is in the log already, within the bounds of its source.
type Came = Result<Outcome, AuthError>;

type Reply = oneshot::Sender<Came>;

/// What logins need.
#[derive(Debug)]
pub struct Parts {
    /// Sessions and accounts.
    pub holders: Arc<Holders>,
    /// PAM.
    pub conversations: Conversations,
    /// Registered keys; None: nobody logs in with one.
    pub certd: Option<Certd>,
    /// Issuers of JWTs.
    pub issuers: Arc<Issuers>,
    /// Plug-in authenticators.
    pub plugins: Plugins,
    /// What the kernel said of local users.
    pub peers: Arc<Peers>,
    /// What decides, beside the account.
    pub policy: Current<Policy>,
    /// What holds for logins of the token API.
    pub token_rules: Current<TokenRules>,
    /// When a refusal is answered, about.
    pub refusal_delay: Current<Duration>,
    /// Takes one record of each login.
    pub audit: Audit,
    /// Who failed too often.
    pub penalties: Arc<Penalties>,
}

/// All logins of this authd.
#[derive(Debug)]
pub struct Logins {
    parts: Parts,
    /// The longest delay that a module asked for, in microseconds.
    longest_delay: AtomicU64,
    lines: Lines,
    open: Mutex<HashMap<Uuid, Open>>,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// A login under way, as requests find it.
#[derive(Debug)]
struct Open {
    connection: Connection,
    /// Whom its failures are counted against.
    charged: SourceKey,
    tries: Tries,
    /// Its questions were answered before.
    answered: AtomicBool,
    login: Arc<Mutex<Login>>,
    turns: mpsc::Sender<Turn>,
    end: CancellationToken,
}

/// What a client's answers lead to, and who waits for what comes of it.
#[derive(Debug)]
struct Turn {
    step: Step,
    attempt: Option<Try>,
    reply: Reply,
}

impl Logins {
    /// None yet. `tasks` owns their tasks; `stop` ends them.
    pub fn new(parts: Parts, tasks: TaskTracker, stop: CancellationToken) -> Self {
        let open = Mutex::default();
        let places = Arc::new(Semaphore::new(UNDER_WAY));
        Self { parts, longest_delay: AtomicU64::new(0), lines: Lines::default(), open, places, tasks, stop }
    }

    /// Takes over what running logins allow to change; each of them keeps what it began with.
    pub fn take_over(
        &self,
        policy: Policy,
        token_rules: TokenRules,
        refusal_delay: Duration,
        conversations: conversation::Settings,
    ) {
        self.parts.conversations.take_over(conversations);
        self.parts.token_rules.set(token_rules);
        self.parts.policy.set(policy);
        self.parts.refusal_delay.set(refusal_delay);
    }

    /// Begins a login. If the caller goes away the login ends, and so does a session that it opened. `gone`:
    /// the gateway that holds the client's connection is; nobody else can answer what the login asks.
    ///
    /// # Errors
    /// When it cannot begin; the inner error is of what it needed. A refusal is an outcome.
    pub async fn begin(
        self: &Arc<Self>,
        asker: Asker,
        claim: Claim,
        gone: CancellationToken,
    ) -> Result<Came, AuthError> {
        let claim = match &asker.purpose {
            Purpose::Token(wish) => self.parts.token_rules.get().claim(wish, claim),
            Purpose::Sysadm | Purpose::Channel => claim,
        };
        let claimed = claim.username();
        if let Claim::Model { kind, .. } = &claim
            && !self.parts.plugins.knows(kind)
        {
            let (user, reason) = (Some(claimed), Some(Cause::NoSuchKind.code()));
            let record = Record { user, reason, ..asker.known(Event::LoginRefused) };
            self.parts.audit.record_bounded(record);
            return Ok(Ok(Outcome::NoSuchKind));
        }
        let begun = || {
            // Kept until the answer is out: a login that may have to wait has its place before it begins,
            // or the answer "no place" would tell a wrong password early.
            let place = self.places.clone().try_acquire_owned();
            let place = place.map_err(|_| AuthError::TooManyLogins("waiting to be refused"))?;
            let found = method::begin(claim).ok_or(AuthError::BadRequest("no such method"))?;
            Ok::<_, AuthError>((place, found, secret::random()?))
        };
        let (place, (method, opening), random) = begun().inspect_err(|failure| {
            let user = Some(claimed.clone()).filter(|user| !user.is_empty());
            self.not_begun(Record { user, ..asker.known(Event::LoginFailed) }, failure);
        })?;
        let charged = asker.charged();
        let record = |event| {
            let user = Some(claimed.clone()).filter(|user| !user.is_empty());
            Record { user, ..asker.known(event) }
        };
        let attempt = match self.attempt(method.tries, &charged) {
            Ok(Ok(attempt)) => attempt,
            Ok(Err(left)) => {
                let reason = Some(Cause::Penalty.code());
                self.parts.audit.record_bounded(Record { reason, ..record(Event::LoginRefused) });
                return Ok(Ok(Outcome::Penalised { left }));
            }
            Err(failure) => {
                self.not_begun(record(Event::LoginFailed), &failure);
                return Err(failure);
            }
        };
        let id = uuid::Builder::from_random_bytes(random).into_uuid();
        // One more way to be refused, no sooner than by a wrong password.
        let opening = match &asker.purpose {
            Purpose::Token(wish) => self.parts.token_rules.get().backend(&wish.backend).and(opening),
            Purpose::Sysadm | Purpose::Channel => opening,
        };
        let policy = Policy { dialect: asker.purpose.dialect(), ..Policy::clone(&self.parts.policy.get()) };
        let login = Arc::new(Mutex::new(Login::new(method, opening, policy)));
        let (turns, taken) = mpsc::channel(1);
        let (reply, outcome) = oneshot::channel();
        let end = self.stop.child_token();
        let (connection, tries) = (asker.connection, method.tries);
        let answered = AtomicBool::new(false);
        let open =
            Open { connection, charged, tries, answered, login: login.clone(), turns, end: end.clone() };
        self.open().insert(id, open);
        let run = Run::new(self.clone(), id, asker, claimed, login, (tries, attempt), place);
        self.tasks.spawn(async move {
            let running = run.run(taken, reply, end.clone());
            tokio::pin!(running);
            tokio::select! {
                () = &mut running => return,
                () = gone.cancelled() => end.cancel(),
            }
            running.await;
        });
        Ok(outcome.await.unwrap_or(Err(AuthError::Gone("the login"))))
    }

    /// A request for a login that cannot be understood: only a gateway that is broken or taken over sends
    /// such, so it leaves a trace.
    pub fn not_understood(&self, connection: String, failure: &AuthError) {
        self.not_begun(Record { connection: Some(connection), ..Record::of(Event::LoginFailed) }, failure);
    }

    fn not_begun(&self, record: Record, failure: &AuthError) {
        self.parts.audit.record_bounded(Record { reason: Some(failure.code()), ..record });
    }

    /// What is counted of a try; the inner error is what is left of a penalty.
    fn attempt(&self, tries: Tries, source: &SourceKey) -> Result<Result<Option<Try>, Duration>, AuthError> {
        let penalties = &self.parts.penalties;
        match tries {
            Tries::Free => Ok(Ok(None)),
            Tries::Certain => Ok(penalties.left(source).map_or(Ok(None), Err)),
            Tries::Guess { .. } => match penalties.begin(source.clone()) {
                Ok(attempt) => Ok(Ok(Some(attempt))),
                Err(Refused::Penalised { left_ms }) => Ok(Err(Duration::from_millis(left_ms))),
                Err(Refused::Busy) => Err(AuthError::TooManyLogins("of a source that failed before")),
            },
        }
    }

    /// A string for a client to sign, from certd, for this connection.
    ///
    /// # Errors
    /// [`AuthError::NoCertd`] where there is none, and when it cannot be asked.
    pub async fn challenge(
        &self,
        connection: Connection,
        server_key: Vec<u8>,
    ) -> Result<Challenge, AuthError> {
        let certd = self.parts.certd.as_ref().ok_or(AuthError::NoCertd)?;
        certd.challenge(connection, server_key).await
    }

    /// Answers the prompts of a conversation of this connection.
    ///
    /// # Errors
    /// [`AuthError::NoConversation`] unless it is open, this connection's, and waits for answers.
    pub async fn respond(
        &self,
        connection: Connection,
        conversation: Uuid,
        answers: Vec<Result<Answer, Malformed>>,
    ) -> Result<Came, AuthError> {
        let outcome = {
            let open = self.open();
            let found = open.get(&conversation).filter(|open| open.connection == connection);
            let found = found.ok_or(AuthError::NoConversation)?;
            let mut login = lock(&found.login);
            // The first answers belong to the guess that the login is already counted as: they are its next
            // factor. What is asked after them may be a second chance, and is one guess more.
            let another = found.answered.load(Ordering::Relaxed) && !login.authenticated();
            let tries = match found.tries {
                Tries::Guess { .. } if !another => Tries::Certain,
                tries => tries,
            };
            // A conversation of a source under a penalty ends with its connection.
            let attempt = match self.attempt(tries, &found.charged)? {
                Ok(attempt) => attempt,
                Err(left) => return Ok(Ok(Outcome::Penalised { left })),
            };
            let step = login.answered(answers)?;
            drop(login);
            found.answered.store(true, Ordering::Relaxed);
            let (reply, outcome) = oneshot::channel();
            // There is room, since a prompt takes one answer; or the conversation has just ended.
            found.turns.try_send(Turn { step, attempt, reply }).map_err(|_| AuthError::NoConversation)?;
            outcome
        };
        Ok(outcome.await.unwrap_or(Err(AuthError::NoConversation)))
    }

    /// Ends every login of a connection, and voids its handles.
    pub fn abandon(&self, connection: Connection) {
        for open in self.open().values().filter(|open| open.connection == connection) {
            open.end.cancel();
        }
        self.parts.peers.abandon(connection);
    }

    /// Names of the back ends of the token API, the default first.
    pub fn backends(&self) -> Vec<String> {
        self.parts.token_rules.get().backends.clone()
    }

    /// Who failed too often.
    pub fn penalties(&self) -> &Penalties {
        &self.parts.penalties
    }

    /// Logins under way.
    pub fn count(&self) -> usize {
        self.open().len()
    }

    /// Conversations under way, those that are being ended included.
    pub fn conversations(&self) -> usize {
        self.parts.conversations.count()
    }

    fn open(&self) -> MutexGuard<'_, HashMap<Uuid, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lock(login: &Mutex<Login>) -> MutexGuard<'_, Login> {
    login.lock().unwrap_or_else(PoisonError::into_inner)
}
