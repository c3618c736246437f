//! The gRPC clients of authd: connections, deadlines, bounds, and what is remembered of sessions.
//!
//! Logins, session calls and the stream of ended sessions have a connection each, so that none of
//! them waits behind another.

mod activity;
mod background;
mod failure;
mod held;
mod link;
mod peer;
mod watch;
mod wire;

use std::{net::IpAddr, os::fd::OwnedFd, path::PathBuf, sync::Arc, time::Duration};

use doorward_proto::authd::v1::{self as proto, login_client::LoginClient, sessions_client::SessionsClient};
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::transport::Channel;

pub use self::{
    failure::Failure,
    held::{Holding, Moment},
};
use self::{held::Table, link::Link};
use crate::call::{Answers, ConnectionId, Credentials, Error, Identity, Prompts, Token};

/// The largest answer of authd that is read.
const ANSWER_MAX: usize = 64 << 10;
/// The largest request to authd.
const REQUEST_MAX: usize = 64 << 10;
/// The most logins that authd is asked for at once.
const LOGINS: usize = 256;
/// The most session calls at once.
const SESSION_CALLS: usize = 64;

/// Where authd is and how long it may take.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The gRPC socket.
    pub socket: PathBuf,
    /// The socket that takes descriptors.
    pub peer_socket: PathBuf,
    /// Who must have called listen() on both.
    pub uid: u32,
    /// For a step of a login: a little more than authd itself waits for PAM.
    pub login: Duration,
    /// For every other call.
    pub call: Duration,
}

/// authd, as the rest of the gateway sees it.
#[derive(Debug)]
pub struct Backend {
    settings: Settings,
    login: LoginClient<Channel>,
    sessions: SessionsClient<Channel>,
    logins: Semaphore,
    session_calls: Semaphore,
    table: Arc<Table>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// A login, as authd is asked for it.
#[derive(Debug)]
pub enum Method {
    /// By user name and password.
    Password(Credentials),
    /// As the owner of the other end of this connection.
    LocalPeer {
        /// The user that the client says it is; empty: whoever it is.
        username: String,
        /// The connection.
        descriptor: OwnedFd,
    },
    /// By a live session's token.
    Token(Token),
    /// Answers to the prompts of a conversation.
    Answers(Answers),
}

/// How a login went on.
#[derive(Debug)]
pub enum Outcome {
    /// There is a session, and while the holding lives its end is heard of.
    Granted(Identity, Holding),
    /// More is asked.
    Prompts(Prompts),
    /// Refused.
    Denied,
}

impl Backend {
    /// Connects when it is first needed. The stream of ended sessions and the activity reports run
    /// from now on, until [`Backend::stop`]; so this is called on a runtime.
    pub fn start(settings: Settings) -> Arc<Self> {
        let link = Link { path: settings.socket.clone(), uid: settings.uid };
        let backend = Arc::new(Self {
            login: LoginClient::new(link.channel())
                .max_decoding_message_size(ANSWER_MAX)
                .max_encoding_message_size(REQUEST_MAX),
            sessions: SessionsClient::new(link.channel())
                .max_decoding_message_size(ANSWER_MAX)
                .max_encoding_message_size(REQUEST_MAX),
            logins: Semaphore::new(LOGINS),
            session_calls: Semaphore::new(SESSION_CALLS),
            table: Arc::new(Table::new()),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            settings,
        });
        let watch = SessionsClient::new(link.channel()).max_decoding_message_size(ANSWER_MAX);
        let table = Arc::clone(&backend.table);
        backend.tasks.spawn(backend.stop.clone().run_until_cancelled_owned(watch::run(watch, table)));
        let reporter =
            activity::run(backend.sessions.clone(), Arc::clone(&backend.table), backend.settings.call);
        backend.tasks.spawn(backend.stop.clone().run_until_cancelled_owned(reporter));
        backend
    }

    /// Ends what runs by itself, and waits a little for calls that are under way.
    pub async fn stop(&self) {
        activity::report(self.sessions.clone(), &self.table, self.settings.call).await;
        self.stop.cancel();
        self.tasks.close();
        if timeout(self.settings.call, self.tasks.wait()).await.is_err() {
            tracing::warn!("calls to authd did not end in time");
        }
    }

    /// How the stream of ended sessions stands, and what it has told so far. Taken before a question
    /// is asked, it says how much its answer is worth.
    pub fn moment(&self) -> Moment {
        self.table.moment()
    }

    /// How the stream of ended sessions stands now.
    pub fn watch(&self) -> Option<u64> {
        self.table.watch()
    }

    /// A step of a login.
    pub async fn log_in(
        &self,
        connection: ConnectionId,
        source: Option<IpAddr>,
        method: Method,
        asked: Moment,
    ) -> Result<Outcome, Failure> {
        let _permit =
            self.logins.try_acquire().map_err(|_| Failure::new(Error::TooMany, "too many logins"))?;
        let answer = timeout(self.settings.login, self.ask_login(connection, source, method));
        let answer = answer.await.map_err(|_| Failure::late("login"))??;
        match wire::outcome(answer)? {
            wire::Outcome::Granted(identity) => {
                let holding = self.table.hold(identity.session, identity.token.clone(), asked);
                Ok(Outcome::Granted(identity, holding))
            }
            wire::Outcome::Prompts(prompts) => Ok(Outcome::Prompts(prompts)),
            wire::Outcome::Denied => Ok(Outcome::Denied),
        }
    }

    async fn ask_login(
        &self,
        connection: ConnectionId,
        source: Option<IpAddr>,
        method: Method,
    ) -> Result<proto::Outcome, Failure> {
        let method = match method {
            Method::Answers(answers) => {
                let request = wire::respond(connection, &answers);
                return Ok(self.login.clone().respond(request).await?.into_inner());
            }
            Method::Password(credentials) => wire::password(&credentials),
            Method::Token(token) => wire::token(&token),
            Method::LocalPeer { username, descriptor } => {
                let asked = peer::ask(&self.settings.peer_socket, self.settings.uid, descriptor, connection);
                match timeout(self.settings.call, asked).await.map_err(|_| Failure::late("peer"))?? {
                    Some(handle) => wire::local_peer(handle, username),
                    None => return Ok(wire::denied()),
                }
            }
        };
        let request = wire::begin(connection, source, method);
        Ok(self.login.clone().begin(request).await?.into_inner())
    }

    /// The session of a token with its rights as they are now.
    pub async fn check(&self, token: &Token, used_ago: Option<Duration>) -> Result<Identity, Failure> {
        let request = proto::CheckRequest {
            token: token.expose().to_owned(),
            used_ms_ago: used_ago.map(wire::milliseconds),
        };
        let answer = self.session_call("check", self.sessions.clone().check(request)).await?;
        wire::identity(token.clone(), answer)
    }

    /// Bounds and deadline of every session call.
    async fn session_call<T>(
        &self,
        name: &'static str,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, Failure> {
        let bounded = async {
            let _permit = self.session_calls.acquire().await.map_err(|_| Failure::late(name))?;
            Ok::<_, Failure>(call.await?.into_inner())
        };
        timeout(self.settings.call, bounded).await.map_err(|_| Failure::late(name))?
    }

    /// A session was replaced on a connection. It ends, unless another connection holds it.
    pub fn retire(self: &Arc<Self>, token: Token, holding: Holding) {
        if holding.release() {
            drop(self.end(token));
        }
    }
}
