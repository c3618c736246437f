//! Carries out what logins ask for: one task each, which owns the conversation and ends with it.

mod run;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use self::run::Run;
use crate::{
    conversation::{Conversations, Message},
    error::AuthError,
    login::{Login, Step},
    method::{self, Claim, Policy},
    peer::{Connection, Peers},
    rights::{Holders, Seen},
    secret::{self, Answer, Malformed, Token},
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
    /// The client dialect.
    pub dialect: &'static str,
}

impl Asker {
    fn source(&self) -> String {
        self.source.map_or_else(String::new, |address| address.to_canonical().to_string())
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
}

type Reply = oneshot::Sender<Result<Outcome, AuthError>>;

/// All logins of this authd.
#[derive(Debug)]
pub struct Logins {
    holders: Arc<Holders>,
    conversations: Conversations,
    peers: Arc<Peers>,
    policy: Policy,
    refusal_delay: Duration,
    /// The longest delay that a module asked for, in microseconds.
    longest_delay: AtomicU64,
    open: Mutex<HashMap<Uuid, Open>>,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// A login under way, as requests find it.
#[derive(Debug)]
struct Open {
    connection: Connection,
    login: Arc<Mutex<Login>>,
    turns: mpsc::Sender<Turn>,
    end: CancellationToken,
}

/// What a client's answers lead to, and who waits for what comes of it.
#[derive(Debug)]
struct Turn {
    step: Step,
    reply: Reply,
}

impl Logins {
    /// None yet. `tasks` owns their tasks; `stop` ends them.
    pub fn new(
        holders: Arc<Holders>,
        conversations: Conversations,
        peers: Arc<Peers>,
        policy: Policy,
        refusal_delay: Duration,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        Self {
            holders,
            conversations,
            peers,
            policy,
            refusal_delay,
            longest_delay: AtomicU64::new(0),
            open: Mutex::default(),
            places: Arc::new(Semaphore::new(UNDER_WAY)),
            tasks,
            stop,
        }
    }

    /// Begins a login. If the caller goes away the login ends, and so does a session that it opened.
    ///
    /// # Errors
    /// At a bound, and when something that is needed fails; a refusal is an outcome.
    pub async fn begin(self: &Arc<Self>, asker: Asker, claim: Claim) -> Result<Outcome, AuthError> {
        // Kept until the answer is out: a login that may have to wait has its place before it begins,
        // or the answer "no place" would tell a wrong password early.
        let place = self.places.clone().try_acquire_owned();
        let place = place.map_err(|_| AuthError::TooManyLogins("waiting to be refused"))?;
        let claimed = claim.username();
        let (method, opening) = method::begin(claim).ok_or(AuthError::BadRequest("no such method"))?;
        let id = uuid::Builder::from_random_bytes(secret::random()?).into_uuid();
        let login = Arc::new(Mutex::new(Login::new(method, opening, self.policy.clone())));
        let (turns, taken) = mpsc::channel(1);
        let (reply, outcome) = oneshot::channel();
        let end = self.stop.child_token();
        let open = Open { connection: asker.connection, login: login.clone(), turns, end: end.clone() };
        self.open().insert(id, open);
        let run = Run::new(self.clone(), id, asker, claimed, login, place);
        self.tasks.spawn(run.run(taken, reply, end));
        outcome.await.unwrap_or(Err(AuthError::Gone("the login")))
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
    ) -> Result<Outcome, AuthError> {
        let outcome = {
            let open = self.open();
            let found = open.get(&conversation).filter(|open| open.connection == connection);
            let found = found.ok_or(AuthError::NoConversation)?;
            let step = lock(&found.login).answered(answers)?;
            let (reply, outcome) = oneshot::channel();
            // There is room, since a prompt takes one answer; or the conversation has just ended.
            found.turns.try_send(Turn { step, reply }).map_err(|_| AuthError::NoConversation)?;
            outcome
        };
        outcome.await.unwrap_or(Err(AuthError::NoConversation))
    }

    /// Ends every login of a connection, and voids its handles.
    pub fn abandon(&self, connection: Connection) {
        for open in self.open().values().filter(|open| open.connection == connection) {
            open.end.cancel();
        }
        self.peers.abandon(connection);
    }

    /// Logins under way.
    pub fn count(&self) -> usize {
        self.open().len()
    }

    /// Conversations under way, those that are being ended included.
    pub fn conversations(&self) -> usize {
        self.conversations.count()
    }

    fn open(&self) -> MutexGuard<'_, HashMap<Uuid, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lock(login: &Mutex<Login>) -> MutexGuard<'_, Login> {
    login.lock().unwrap_or_else(PoisonError::into_inner)
}
