//! The gRPC clients of authd and certd: connections, deadlines, bounds, and what is remembered of sessions.
//!
//! Logins, session calls, the stream of ended sessions and that of penalties have a connection each, so that none of
//! them waits behind another.

mod activity;
mod background;
mod behalf;
pub(crate) mod certd;
pub(crate) mod failure;
mod held;
pub(crate) mod kept;
mod known;
pub(crate) mod lane;
pub(crate) mod line;
pub(crate) mod link;
mod logs;
mod peer;
mod penalties;
mod sessions;
mod tokens;
mod watch;
mod wire;

use std::{os::fd::OwnedFd, path::PathBuf, sync::Arc, time::Duration};

use doorward_proto::authd::v1::{self as proto, login_client::LoginClient, sessions_client::SessionsClient};
use futures_util::future::Either;
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::transport::Channel;

use self::{certd::Certd, held::Table, kept::Keeper, lane::Lane, link::Link};
pub use self::{
    certd::Connection,
    failure::Failure,
    held::{Holding, Moment, Pass},
    known::Known,
    line::Up,
};
use crate::call::{
    Answers, Challenge, ChannelAuth, ClientCertificate, ConnectionId, Credentials, Error, Identity, KeyProof,
    Origin, Prompts, Purpose, ServerKey, Token,
};
use crate::gate::{Gate, Permit, Source};
use crate::penalty::Penalties;

/// The largest answer of authd that is read.
const ANSWER_MAX: usize = 64 << 10;
/// The largest request to authd.
const REQUEST_MAX: usize = 64 << 10;
/// The most logins that authd is asked for at once.
const LOGINS: usize = 256;
/// The most of them for one source: one user with many connections cannot keep others from logging in.
const LOGINS_OF_ONE: usize = 8;
/// The most session calls at once, and the most of them that ask for one identity.
const SESSION_CALLS: usize = 64;
const SESSION_CALLS_OF_ONE: usize = 16;
/// The most questions at once about whose a connection is, and how long a connection waits for the answer.
const WHOSE_AT_ONCE: usize = 2;
const WHOSE: Duration = Duration::from_secs(1);
/// The most connections that wait for it. Until it is known whose they are they take places that are everybody's.
const WHOSE_WAITING: usize = 64;
/// The most lists of sessions at once, and the most of them that one identity has asked for and not been sent.
const LISTINGS: usize = 4;
const LISTINGS_OF_ONE: usize = 2;
/// A call that nobody waits for is given up after this: authd then is broken anyway.
const GIVE_UP: Duration = Duration::from_secs(60);

/// Where authd is and how long it may take.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The gRPC socket.
    pub socket: PathBuf,
    /// The socket that takes descriptors.
    pub peer_socket: PathBuf,
    /// Who must have called listen() on both.
    pub uid: u32,
    /// certd's socket and who must have called listen() there; none: there is no certd.
    pub certd: Option<(PathBuf, u32)>,
    /// For a step of a login: a little more than authd itself waits for PAM.
    pub login: Duration,
    /// For a call to certd.
    pub change: Duration,
    /// For every other call.
    pub call: Duration,
}

/// authd, as the rest of the gateway sees it.
#[derive(Debug)]
pub struct Backend {
    settings: Settings,
    login: LoginClient<Channel>,
    sessions: SessionsClient<Channel>,
    logins: Gate,
    session_calls: Arc<Lane>,
    listings: Arc<Lane>,
    log_readers: Arc<Semaphore>,
    /// Who reads records now.
    reading: Arc<logs::Reading>,
    whose: Semaphore,
    whose_waiting: Semaphore,
    certd: Option<Certd>,
    table: Arc<Table>,
    penalties: Arc<Penalties>,
    tasks: TaskTracker,
    keeper: Keeper,
    stop: CancellationToken,
}

/// Who asks for a login.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    /// The client's connection.
    pub connection: ConnectionId,
    /// As authd is told it.
    pub origin: Origin,
    /// Where its logins are counted; none: they are not.
    pub counted: Option<Source>,
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
        /// The certificate of its TLS handshake, for a user who is not that owner.
        shown: Option<ClientCertificate>,
    },
    /// By a registered key, which answered a challenge of this connection.
    CertificateProof(KeyProof),
    /// By the certificate that the client showed in the TLS handshake.
    TlsCertificate {
        /// The user that the client says it is.
        username: String,
        /// What it showed.
        shown: ClientCertificate,
    },
    /// By a live session's token.
    Token(Token),
    /// By the dialect of channels.
    Channel(ChannelAuth),
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
    /// There is no such kind of login.
    NoSuchKind,
    /// Not tried: its source is under a penalty for so long.
    Penalised(Duration),
}

impl Backend {
    /// Connects when it is first needed. The stream of ended sessions and the activity reports run
    /// from now on, until [`Backend::stop`]; so this is called on a runtime.
    pub fn start(settings: Settings) -> Arc<Self> {
        let link = Link { path: settings.socket.clone(), uid: settings.uid };
        let tasks = TaskTracker::new();
        let keeper = Keeper::new(tasks.clone());
        let certd = settings.certd.clone().map(|(path, uid)| {
            let link = Link { path, uid };
            Certd::new(link, settings.change, keeper.clone())
        });
        let backend = Arc::new(Self {
            login: LoginClient::new(link.channel())
                .max_decoding_message_size(ANSWER_MAX)
                .max_encoding_message_size(REQUEST_MAX),
            sessions: SessionsClient::new(link.channel())
                .max_decoding_message_size(ANSWER_MAX)
                .max_encoding_message_size(REQUEST_MAX),
            logins: Gate::new(LOGINS, LOGINS_OF_ONE),
            session_calls: Arc::new(Lane::new(SESSION_CALLS, SESSION_CALLS_OF_ONE)),
            listings: Arc::new(Lane::new(LISTINGS, LISTINGS_OF_ONE)),
            log_readers: Arc::new(Semaphore::new(logs::AT_ONCE)),
            reading: Arc::default(),
            whose: Semaphore::new(WHOSE_AT_ONCE),
            whose_waiting: Semaphore::new(WHOSE_WAITING),
            certd,
            table: Arc::new(Table::new()),
            penalties: Arc::default(),
            tasks,
            keeper,
            stop: CancellationToken::new(),
            settings,
        });
        let watch = watch::Watching {
            stream: SessionsClient::new(link.channel()).max_decoding_message_size(ANSWER_MAX),
            checks: backend.sessions.clone(),
            deadline: backend.settings.call,
            table: Arc::clone(&backend.table),
        };
        backend.tasks.spawn(backend.stop.clone().run_until_cancelled_owned(watch.run()));
        let watch = LoginClient::new(link.channel()).max_decoding_message_size(ANSWER_MAX);
        let watch = penalties::run(watch, Arc::clone(&backend.penalties));
        backend.tasks.spawn(backend.stop.clone().run_until_cancelled_owned(watch));
        let reporter =
            activity::run(backend.sessions.clone(), Arc::clone(&backend.table), backend.settings.call);
        backend.tasks.spawn(backend.stop.clone().run_until_cancelled_owned(reporter));
        if let Some(certd) = &backend.certd {
            backend.tasks.spawn(backend.stop.clone().run_until_cancelled_owned(certd.keep()));
        }
        backend
    }

    /// Whether certd can be reached, as far as is known; none where there is no certd.
    pub fn certd(&self) -> Option<Up> {
        self.certd.as_ref().map(Certd::up)
    }

    /// Takes over calls that nobody waits for any more.
    pub(crate) fn keeper(&self) -> &Keeper {
        &self.keeper
    }

    /// Who failed lately, as far as authd has told.
    pub fn penalties(&self) -> &Penalties {
        &self.penalties
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
        self: &Arc<Self>,
        caller: Caller,
        method: Method,
        asked: Moment,
    ) -> Result<Outcome, Failure> {
        let place = self.login_place(caller)?;
        let answer = timeout(self.settings.login, self.ask_login(caller, method, place));
        let answer = answer.await.map_err(|_| Failure::late("login"))??;
        match wire::outcome(answer)? {
            wire::Outcome::Granted(identity) => {
                let holding = self.table.hold(&identity, identity.turn, asked);
                Ok(Outcome::Granted(identity, holding))
            }
            wire::Outcome::Prompts(prompts) => Ok(Outcome::Prompts(prompts)),
            wire::Outcome::Denied => Ok(Outcome::Denied),
            wire::Outcome::Penalised(left) => Ok(Outcome::Penalised(left)),
            wire::Outcome::NoSuchKind => Ok(Outcome::NoSuchKind),
            wire::Outcome::InvalidExpiration => Err(Failure::contract("nobody wished for a life")),
        }
    }

    fn login_place(&self, caller: Caller) -> Result<Permit, Failure> {
        let place = match caller.counted {
            Some(source) => self.logins.enter_from(source),
            None => Some(self.logins.enter_exempt()),
        };
        place.ok_or_else(|| Failure::new(Error::TooMany, "too many logins"))
    }

    /// `place` is given back when authd has answered, which for a client that has left is soon after
    /// [`Backend::abandon`].
    async fn ask_login(
        self: &Arc<Self>,
        caller: Caller,
        method: Method,
        mut place: Permit,
    ) -> Result<proto::Outcome, Failure> {
        let Caller { connection, origin, .. } = caller;
        let mut client = self.login.clone();
        // Whoever takes up a session has it already; it goes on without this connection.
        let new = match &method {
            Method::Token(_) | Method::Channel(ChannelAuth::Token(_)) => false,
            Method::Password(_)
            | Method::Answers(_)
            | Method::LocalPeer { .. }
            | Method::CertificateProof(_)
            | Method::TlsCertificate { .. }
            | Method::Channel(ChannelAuth::Password(_) | ChannelAuth::Jwt(_) | ChannelAuth::Model { .. }) => {
                true
            }
        };
        let about_channels = matches!(method, Method::Channel(_));
        let method = match method {
            Method::Answers(answers) => {
                let request = wire::respond(connection, &answers);
                let call = async move {
                    let _place = place;
                    client.respond(request).await
                };
                return self.heard_or_ended(new, call).await;
            }
            Method::Password(credentials) => wire::password(&credentials),
            Method::Token(token) | Method::Channel(ChannelAuth::Token(Some(token))) => wire::token(&token),
            Method::Channel(ChannelAuth::Token(None)) => return Ok(wire::denied()),
            Method::Channel(ChannelAuth::Password(credentials)) => wire::password(&credentials),
            Method::Channel(ChannelAuth::Jwt(jwt)) => wire::jwt(&jwt),
            Method::Channel(ChannelAuth::Model { kind, credentials }) => wire::model(&kind, &credentials),
            Method::CertificateProof(proof) => wire::certificate_proof(proof),
            Method::TlsCertificate { username, shown } => wire::tls_certificate(username, shown),
            Method::LocalPeer { username, descriptor, shown } => {
                // The place goes with the question, and the login takes another: it begins only where it is waited
                // for, and nobody may wait for long.
                let settings = self.settings.clone();
                let asked = async move {
                    let _place = place;
                    let asked = peer::ask(&settings.peer_socket, settings.uid, descriptor, connection);
                    timeout(settings.call, asked).await.map_err(|_| Failure::late("peer"))?
                };
                let handle = self.keeper.keep(Duration::ZERO, asked, drop).await?;
                place = self.login_place(caller)?;
                match (handle, shown) {
                    (Some(handle), shown) => wire::local_peer(handle, username, shown),
                    (None, Some(shown)) => wire::tls_certificate(username, shown),
                    // Nobody, which authd finds by itself: so it is recorded, and answered as late as any.
                    (None, None) => wire::local_peer(Vec::new(), username, None),
                }
            }
        };
        let request = match about_channels {
            true => wire::begin_channel(connection, origin, method),
            false => wire::begin(connection, origin, method),
        };
        let call = async move {
            let _place = place;
            client.begin(request).await
        };
        self.heard_or_ended(new, call).await
    }

    /// The user at the other end of a connection over loopback, to count by: None where authd does not say so,
    /// or not soon, and at once where too many wait to hear it.
    pub async fn whose(&self, descriptor: OwnedFd, connection: ConnectionId) -> Option<u32> {
        let _place = self.whose_waiting.try_acquire().ok()?;
        let asked = async {
            // In turns, so that a flood of connections leaves authd room for logins.
            let _turn = self.whose.acquire().await.ok()?;
            peer::whose(&self.settings.peer_socket, self.settings.uid, descriptor, connection).await.ok()?
        };
        timeout(WHOSE, asked).await.ok().flatten()
    }

    /// A string for this connection to be signed.
    pub async fn challenge(&self, caller: Caller, server_key: ServerKey) -> Result<Challenge, Failure> {
        let place = self.login_place(caller)?;
        let request = wire::challenge_request(caller.connection, server_key);
        let mut client = self.login.clone();
        let call = async move {
            let _place = place;
            client.challenge(request).await
        };
        let answer = timeout(self.settings.call, self.keeper.keep(GIVE_UP, call, drop)).await;
        wire::challenge(answer.map_err(|_| Failure::late("challenge"))??.into_inner())
    }

    /// The session of a token with its rights as they are now.
    pub async fn check(
        &self,
        token: &Token,
        used_ago: Option<Duration>,
        purpose: Purpose,
    ) -> Result<Identity, Failure> {
        let request = proto::CheckRequest {
            token: token.expose().to_owned(),
            used_ms_ago: used_ago.map(wire::milliseconds),
            dialect: wire::dialect(purpose).into(),
        };
        let mut client = self.sessions.clone();
        let answer = self.session_call("check", None, async move { client.check(request).await }).await?;
        let identity = wire::identity(token.clone(), answer)?;
        self.table.passed_to(identity.session, identity.turn);
        Ok(identity)
    }

    /// Bounds and deadline of every session call; `who` is the identity that it asks for, where that is known and can
    /// have many.
    fn session_call<T: Send + 'static>(
        &self,
        name: &'static str,
        who: Option<&str>,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>> + Send + 'static,
    ) -> impl Future<Output = Result<T, Failure>> + Send {
        // At once: a future of some KiB would be copied into each that waits for it, and each would be as large.
        let call = Box::pin(call);
        let turn = match who {
            Some(who) => Either::Left(self.session_calls.turn(who)),
            None => Either::Right(self.session_calls.turn_of_nobody()),
        };
        let place = async move { turn.await.ok_or_else(|| Failure::late(name)) };
        let running = self.keeper.run(GIVE_UP, place, |turn| async move {
            let _turn = turn;
            Ok(call.await?.into_inner())
        });
        let bounded = timeout(self.settings.call, running);
        async move { bounded.await.map_err(|_| Failure::late(name))? }
    }

    /// A session was replaced on a connection. It ends, unless another connection holds it; so much is
    /// under way even if nobody waits for it.
    pub fn retire(
        self: &Arc<Self>,
        token: Token,
        holding: Holding,
    ) -> impl Future<Output = ()> + Send + use<> {
        let ended = holding.release().then(|| self.end(token));
        async move {
            if let Some(ended) = ended
                && let Err(failure) = ended.await
            {
                tracing::warn!(error = %failure.detail, "a replaced session could not be ended");
            }
        }
    }
}

#[cfg(test)]
mod tests;
