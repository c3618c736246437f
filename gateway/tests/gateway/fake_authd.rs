//! An authd for tests and for authors of gateways: the same two sockets, no PAM, no store, and a
//! script in place of policy.
//!
//! Users:
//! - `alice`, password `wonderland`: full access. `bob`, password `builder`: may call nothing.
//! - `dora`, password `explorer`: may ask what there is, listen to events, and call `echo` of `example/a`.
//! - whoever has the password `everything`: full access. A name of the form `number-<number>` has that number.
//! - `carol`, password `first`: asked for a code, which is `424242`.
//! - `slow`: answered when the test says so ([`FakeAuthd::let_go`]), also after it was abandoned, as
//!   where authd cannot take a verdict back. Noted: `answered`, or `dropped` if the call was.
//! - `penalised`: not tried, because of a penalty of 59.001 s.
//! - a name of the form `reason-<Reason>`: that failure.
//! - without a password: whoever owns the passed connection, as user `uid-<uid>`.
//! - of the token API: `alice` by back end `pam`, whose token may do `confd.#` and `sysadm.rpc.query.#` but not
//!   be acted with; lives over a million seconds are refused.
//! - by a challenge: the signature `by <user>`, where it is on the challenge's own connection, once.
//! - by channels: the JWT `user.NAME.signed` is the user NAME, who may `ws.group.7.#`; the kind `terminal` with a token
//!   that begins with `t-` is the terminal of that name, which may `ws.group.me.#`; other kinds there are not.
//! - by a TLS client certificate: `alice`, if the test registered the key ([`FakeAuthd::register`]).
//!
//! An assertion is the text `<user> <audience> <number>`, the number being how many there were before.
//!
//! It runs on a thread and a runtime of its own, so that stopping it is as sudden as a kill. What it
//! knows survives that, as authd's store does.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use doorward_proto::{
    Reason,
    authd::v1::{self as proto, ended_event, login_server, outcome, sessions_server},
};
use tokio::{
    net::UnixListener,
    runtime::Runtime,
    sync::{broadcast, watch},
};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::Status;
use uuid::Uuid;

use crate::{fake_peers, support::until};

/// One call, as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Received {
    /// For example `begin`.
    pub(crate) method: &'static str,
    /// The connection, where the call names one.
    pub(crate) connection: String,
    /// What else is worth knowing: a user name, a token.
    pub(crate) about: String,
}

#[derive(Debug, Clone)]
pub(crate) struct Granted {
    pub(crate) session: Uuid,
    pub(crate) user: String,
    acl: Vec<String>,
    /// Of a token of the token API, its whole life in seconds.
    pub(crate) token: Option<u64>,
    /// `user`, or another of identities that came by channels.
    kind: String,
    channel: bool,
    /// Where one connection may hold it at a time, the number of the last, and who that is.
    turn: u64,
    by: String,
}

/// What the fake knows and what it was told to do.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) sessions: Mutex<HashMap<String, Granted>>,
    pub(crate) handles: Mutex<HashMap<Vec<u8>, (String, u32)>>,
    pub(crate) conversations: Mutex<HashMap<String, String>>,
    pub(crate) received: Mutex<Vec<Received>>,
    pub(crate) news: broadcast::Sender<ended_event::Kind>,
    pub(crate) gate: watch::Sender<bool>,
    pub(crate) standings: watch::Sender<Vec<proto::SourceStanding>>,
    pub(crate) rights: Mutex<Duration>,
    pub(crate) watchers: watch::Sender<usize>,
    pub(crate) challenges: Mutex<HashSet<String>>,
    pub(crate) registered: Mutex<HashSet<Vec<u8>>>,
    pub(crate) assertions: Mutex<u32>,
    pub(crate) assertion_valid: Mutex<Duration>,
    pub(crate) copies: Mutex<usize>,
    /// Whether pages after the first are answered.
    pub(crate) pages: watch::Sender<bool>,
    pub(crate) life: Mutex<Duration>,
    pub(crate) hush: watch::Sender<u64>,
    pub(crate) lists_wait: watch::Sender<bool>,
    pub(crate) peers_wait: watch::Sender<bool>,
}

/// A running fake.
pub(crate) struct FakeAuthd {
    directory: PathBuf,
    runtime: Option<Runtime>,
    /// Shared by all runs.
    pub(crate) state: Arc<State>,
}

impl FakeAuthd {
    /// Serves `authd.sock` and `peer.sock` in this directory.
    pub(crate) fn start(directory: &Path) -> Self {
        let state = State {
            sessions: Mutex::default(),
            handles: Mutex::default(),
            conversations: Mutex::default(),
            received: Mutex::default(),
            news: broadcast::channel(64).0,
            gate: watch::Sender::new(false),
            standings: watch::Sender::default(),
            rights: Mutex::new(Duration::from_secs(60)),
            watchers: watch::Sender::new(0),
            challenges: Mutex::default(),
            registered: Mutex::default(),
            assertions: Mutex::default(),
            assertion_valid: Mutex::new(Duration::from_secs(60)),
            copies: Mutex::new(1),
            pages: watch::Sender::new(true),
            life: Mutex::new(Duration::from_secs(43_200)),
            hush: watch::Sender::new(0),
            lists_wait: watch::Sender::new(false),
            peers_wait: watch::Sender::new(false),
        };
        let mut fake = Self { directory: directory.to_owned(), runtime: None, state: Arc::new(state) };
        fake.resume();
        fake
    }

    /// The gRPC socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join("authd.sock")
    }

    /// The socket for descriptors.
    pub(crate) fn peer_socket(&self) -> PathBuf {
        self.directory.join("peer.sock")
    }

    /// Dies as suddenly as after SIGKILL: every connection breaks.
    pub(crate) async fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            let down = move || runtime.shutdown_timeout(Duration::from_secs(5));
            tokio::task::spawn_blocking(down).await.expect("it goes down");
        }
        self.state.watchers.send_replace(0);
        for socket in [self.socket(), self.peer_socket()] {
            std::fs::remove_file(socket).expect("the socket was there");
        }
    }

    /// Comes back with what it knew.
    pub(crate) fn resume(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let _inside = runtime.enter();
        let listener = UnixListener::bind(self.socket()).expect("bind");
        let service = Service(Arc::clone(&self.state));
        runtime.spawn(
            tonic::transport::Server::builder()
                .add_service(login_server::LoginServer::new(service.clone()))
                .add_service(sessions_server::SessionsServer::new(service))
                .serve_with_incoming(UnixListenerStream::new(listener)),
        );
        runtime.spawn(fake_peers::serve(fake_peers::bind(&self.peer_socket()), Arc::clone(&self.state)));
        self.runtime = Some(runtime);
    }

    /// The calls so far of one method, in their order.
    pub(crate) fn received(&self, method: &str) -> Vec<Received> {
        let received = self.state.received.lock().expect("not poisoned");
        received.iter().filter(|call| call.method == method).cloned().collect()
    }

    /// Waits until a method was called so often.
    pub(crate) async fn received_at_least(&self, method: &str, count: usize) -> Vec<Received> {
        until(|| Some(self.received(method)).filter(|calls| calls.len() >= count)).await
    }

    /// Waits until somebody watches the ended sessions.
    pub(crate) async fn watched(&self) {
        until(|| (*self.state.watchers.borrow() > 0).then_some(())).await;
    }

    /// Tells how these sources stand from now on.
    pub(crate) fn tell(&self, standings: Vec<proto::SourceStanding>) {
        self.state.standings.send_replace(standings);
    }

    /// Answers the slow user, now and from now on.
    pub(crate) fn let_go(&self) {
        self.state.gate.send_replace(true);
    }

    /// How long rights may be relied upon, for answers from now on.
    pub(crate) fn set_rights(&self, rights: Duration) {
        *self.state.rights.lock().expect("not poisoned") = rights;
    }

    /// Takes this key (SPKI, DER) of a TLS client for alice's.
    pub(crate) fn register(&self, key: &[u8]) {
        self.state.registered.lock().expect("not poisoned").insert(key.to_vec());
    }

    /// How long assertions are good, from now on.
    pub(crate) fn set_assertion_valid(&self, valid: Duration) {
        *self.state.assertion_valid.lock().expect("not poisoned") = valid;
    }

    /// How long sessions live, for answers from now on.
    pub(crate) fn set_life(&self, life: Duration) {
        *self.state.life.lock().expect("not poisoned") = life;
    }

    /// How often a list names each session, from now on.
    pub(crate) fn set_copies(&self, copies: usize) {
        *self.state.copies.lock().expect("not poisoned") = copies;
    }

    /// Keeps the pages of a list after its first waiting, or answers them, now and from now on.
    pub(crate) fn answer_pages(&self, answer: bool) {
        self.state.pages.send_replace(answer);
    }

    /// Every stream of ended sessions breaks, and no new one begins; all else goes on. See
    /// [`FakeAuthd::speak`].
    pub(crate) fn fall_silent(&self) {
        self.state.hush.send_modify(|hush| *hush |= 1);
    }

    /// Lists wait, or do not any more.
    pub(crate) fn hold_lists(&self, wait: bool) {
        self.state.lists_wait.send_replace(wait);
    }

    /// The same for whose connections are.
    pub(crate) fn hold_peers(&self, wait: bool) {
        self.state.peers_wait.send_replace(wait);
    }

    /// Streams of ended sessions are given again.
    pub(crate) fn speak(&self) {
        self.state.hush.send_modify(|hush| *hush = (*hush | 1) + 1);
    }

    /// Ends a session and tells it.
    pub(crate) fn end(&self, token: &str, reason: proto::EndReason) {
        self.state.end(token, reason);
    }

    /// One connection may hold this session at a time, from now on.
    pub(crate) fn only_one(&self, token: &str) {
        let mut sessions = self.state.sessions.lock().expect("not poisoned");
        sessions.get_mut(token).expect("the session lives").turn = 1;
    }

    /// A connection of another gateway takes a session up; `told`, or without telling, as if the stream had missed it.
    pub(crate) fn take_up_elsewhere(&self, token: &str, told: bool) {
        self.state.take_up(token, "elsewhere", told);
    }

    /// Ends a session without telling, as if the stream had missed it.
    pub(crate) fn end_silently(&self, token: &str) {
        self.state.sessions.lock().expect("not poisoned").remove(token).expect("the session lives");
    }

    /// What a session may do from now on, without telling.
    pub(crate) fn set_acl(&self, token: &str, acl: &[&str]) {
        let mut sessions = self.state.sessions.lock().expect("not poisoned");
        let granted = sessions.get_mut(token).expect("the session lives");
        granted.acl = acl.iter().map(|entry| (*entry).to_owned()).collect();
    }

    /// Whether the session lives.
    pub(crate) fn lives(&self, token: &str) -> bool {
        self.state.sessions.lock().expect("not poisoned").contains_key(token)
    }
}

impl Drop for FakeAuthd {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl State {
    pub(crate) fn note(&self, method: &'static str, connection: &str, about: impl Into<String>) {
        let call = Received { method, connection: connection.to_owned(), about: about.into() };
        self.received.lock().expect("not poisoned").push(call);
    }

    pub(crate) fn end(&self, token: &str, reason: proto::EndReason) {
        let ended = self.sessions.lock().expect("not poisoned").remove(token);
        if let Some(granted) = ended {
            let told = proto::Ended { session: granted.session.to_string(), reason: reason.into() };
            // Nobody may be watching.
            let _ = self.news.send(ended_event::Kind::Ended(told));
        }
    }

    pub(crate) fn take_up(&self, token: &str, by: &str, told: bool) {
        let mut sessions = self.sessions.lock().expect("not poisoned");
        let Some(granted) = sessions.get_mut(token).filter(|granted| granted.turn > 0) else { return };
        if granted.by == by {
            return;
        }
        (granted.turn, granted.by) = (granted.turn + 1, by.to_owned());
        let taken = proto::TakenUp { session: granted.session.to_string(), only_one: granted.turn };
        if told {
            // Nobody may be watching.
            let _ = self.news.send(ended_event::Kind::TakenUp(taken));
        }
    }

    pub(crate) fn grant(&self, user: &str, acl: &[&str]) -> proto::Outcome {
        self.grant_of("user", user, acl, false)
    }

    pub(crate) fn grant_of(&self, kind: &str, user: &str, acl: &[&str], channel: bool) -> proto::Outcome {
        let granted = Granted {
            session: random(),
            user: user.to_owned(),
            acl: acl.iter().map(|entry| (*entry).to_owned()).collect(),
            token: None,
            kind: kind.to_owned(),
            channel,
            turn: 0,
            by: String::new(),
        };
        self.keep(granted)
    }

    pub(crate) fn keep(&self, granted: Granted) -> proto::Outcome {
        let token = random().to_string();
        self.sessions.lock().expect("not poisoned").insert(token.clone(), granted);
        self.granted(&token).expect("just granted")
    }

    pub(crate) fn issue(&self, username: &str, password: &str, wish: &proto::TokenWish) -> proto::Outcome {
        let life = wish.expiration_seconds.unwrap_or(7_200);
        match (username, password, wish.backend.as_str()) {
            ("alice", "wonderland", "" | "pam") if (1..=1_000_000).contains(&life) => {
                let acl = ["confd.#", "sysadm.rpc.query.#"].map(str::to_owned).into();
                let (user, kind) = ("alice".to_owned(), "user".to_owned());
                self.keep(Granted {
                    session: random(),
                    user,
                    acl,
                    token: Some(life),
                    kind,
                    channel: false,
                    turn: 0,
                    by: String::new(),
                })
            }
            ("alice", "wonderland", "" | "pam") => {
                let invalid = outcome::Kind::InvalidExpiration(proto::InvalidExpiration {});
                proto::Outcome { kind: Some(invalid) }
            }
            _ => denied(),
        }
    }

    pub(crate) fn granted(&self, token: &str) -> Option<proto::Outcome> {
        let session = self.session(token)?;
        let granted = proto::Granted { token: token.to_owned(), session: Some(session) };
        Some(proto::Outcome { kind: Some(outcome::Kind::Granted(granted)) })
    }

    pub(crate) fn session(&self, token: &str) -> Option<proto::Session> {
        let granted = self.sessions.lock().expect("not poisoned").get(token).cloned()?;
        let rights = *self.rights.lock().expect("not poisoned");
        let life = *self.life.lock().expect("not poisoned");
        let life = granted.token.map_or(life, Duration::from_secs);
        Some(proto::Session {
            session: granted.session.to_string(),
            auth_id: match (granted.kind.as_str(), granted.user.as_str()) {
                ("user", "dora") => "1001".to_owned(),
                ("user", name) => name.strip_prefix("number-").unwrap_or("1000").to_owned(),
                (_, name) => name.to_owned(),
            },
            user: granted.user,
            acl: granted.acl,
            access: proto::Access::Limited.into(),
            method: "fake".to_owned(),
            idle_seconds: if granted.token.is_some() || granted.channel { 0 } else { 300 },
            dialect: match (granted.token.is_some(), granted.channel) {
                (true, _) => proto::Dialect::Token.into(),
                (false, true) => proto::Dialect::Channel.into(),
                (false, false) => proto::Dialect::Sysadm.into(),
            },
            idle_left_ms: 300_000,
            absolute_left_ms: u64::try_from(life.as_millis()).expect("short"),
            rights_ms: u64::try_from(rights.as_millis()).expect("short"),
            kind: granted.kind,
            issued: 1_795_319_222,
            expires: 1_795_319_222 + life.as_secs(),
            only_one: granted.turn,
            ..proto::Session::default()
        })
    }
}

pub(crate) fn random() -> Uuid {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("random bytes");
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

/// For people and comparisons.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn denied() -> proto::Outcome {
    proto::Outcome { kind: Some(outcome::Kind::Denied(proto::Denied {})) }
}

pub(crate) fn failure(name: &str) -> Status {
    let reason = match name {
        "BadRequest" => Reason::BadRequest,
        "Unauthenticated" => Reason::Unauthenticated,
        "Forbidden" => Reason::Forbidden,
        "NotFound" => Reason::NotFound,
        "TooMany" => Reason::TooMany,
        "TimedOut" => Reason::TimedOut,
        "Unavailable" => Reason::Unavailable,
        "Fault" => Reason::Fault,
        other => panic!("no such reason: {other}"),
    };
    reason.to_wire("a sentence of a service")
}

#[derive(Clone)]
pub(crate) struct Service(pub(crate) Arc<State>);
