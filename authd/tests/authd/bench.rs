//! One authd in this process, and clients of its sockets.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use doorward_authd::{
    Neighbours, Parts, Service,
    config::Config,
    serve,
    session::{Boot, Clock},
};
use doorward_launch::{Audit, Control, Identity, StartError, socket::Sockets};
use doorward_proto::authd::v1::{
    self as wire, begin_request::Method, login_client::LoginClient, outcome, sessions_client::SessionsClient,
};
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, task::JoinHandle};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use crate::fakes::{directory::Fake, pam};

type Task = JoinHandle<Result<(), StartError>>;

/// Nothing in these tests takes longer unless it is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The connections that tests speak of.
pub(crate) const ONE: &str = "11111111-1111-4111-8111-111111111111";
pub(crate) const TWO: &str = "22222222-2222-4222-8222-222222222222";

pub(crate) struct Bench {
    directory: tempfile::TempDir,
    pub(crate) config: Config,
    pub(crate) users: Fake,
    now: Arc<AtomicU64>,
    gateway: Identity,
    pub(crate) boot: &'static str,
    pub(crate) audit: Audit,
    running: Option<(Control<Config>, Task)>,
}

/// alice (1000) has full access, bob (1001) limited access, eve (1002) none.
pub(crate) fn users() -> Fake {
    Fake::new()
        .group("sudo", 27)
        .group("operator", 37)
        .user("alice", 1000, 1000, "/bin/sh", &[27])
        .user("bob", 1001, 1001, "/bin/sh", &[37])
        .user("eve", 1002, 1002, "/bin/sh", &[])
        .user("root", 0, 0, "/bin/sh", &[])
}

impl Bench {
    /// With refusals that do not wait, unless `change` says otherwise.
    pub(crate) async fn start(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_for(Identity::current(), users(), change).await
    }

    /// With another gateway and other users.
    pub(crate) async fn start_for(gateway: Identity, users: Fake, change: impl FnOnce(&mut Config)) -> Self {
        let directory = tempfile::tempdir().expect("temp dir");
        let at = |name: &str| directory.path().join(name);
        let mut config = Config { state_dir: at("state"), ..Config::default() };
        config.socket.path = at("authd/authd.sock");
        config.socket.peer_path = at("authd/peer.sock");
        config.socket.assertion_key = at("authd/assertion.pub");
        config.peers.gateway_socket = at("gateway.sock");
        config.pam.socket = at("pam.sock");
        config.pam.refusal_delay_ms = 0;
        // Many tests fail more often than is forgiven.
        config.penalty.failures = 0;
        config.penalty.account_delay_ms = 0;
        // There is no certd unless a test wants one.
        config.certd.socket = PathBuf::new();
        config.certd.user = Identity::current().uid.to_string();
        change(&mut config);
        config.check().expect("a good configuration");
        let now = Arc::new(AtomicU64::new(1_000_000));
        let boot = "11111111-2222-3333-4444-555555555555";
        let audit = Audit::default();
        let mut bench = Self { directory, config, users, now, gateway, boot, audit, running: None };
        bench.run().await;
        bench
    }

    /// Starts authd again after [`Bench::stop`].
    pub(crate) async fn run(&mut self) {
        let service = Identity::current();
        let certd = (!self.config.certd.socket.as_os_str().is_empty())
            .then(|| self.config.certd.user.parse().expect("tests give a number"));
        let own = |entry: &doorward_authd::config::Authenticator| {
            (entry.kind.clone(), entry.user.parse().expect("tests give a number"))
        };
        let authenticators = self.config.authenticator.iter().map(own).collect();
        let peers = Neighbours { gateway: self.gateway, certd, authenticators };
        let patience = Instant::now() + PATIENCE;
        let parts = loop {
            match Parts::bind(&self.config, &service, peers.clone(), &mut Sockets::default()) {
                // Another test's fork() holds the descriptors of the one before until it calls exec().
                Err(StartError::Socket(error)) if Instant::now() < patience => {
                    assert!(error.to_string().contains("in use"), "{error}");
                    tokio::task::yield_now().await;
                }
                bound => break bound.expect("bound"),
            }
        };
        let now = self.now.clone();
        let system = Service {
            directory: Arc::new(self.users.clone()),
            clock: Clock::from_fn(move || now.load(Ordering::SeqCst)),
            boot: Boot(self.boot.into()),
        };
        let place = self.config.audit.place(&self.config.state_dir).expect("somewhere");
        self.audit = Audit::open("doorward-authd", &place).expect("opened");
        let control = Control::new().with_audit(self.audit.clone());
        let serving = tokio::spawn(serve(self.config.clone(), parts, system, control.clone()));
        until(async || control.is_ready() || serving.is_finished()).await;
        assert!(control.is_ready(), "authd did not start");
        self.running = Some((control, serving));
    }

    /// Stops authd, in order.
    pub(crate) async fn stop(&mut self) {
        let (control, serving) = self.running.take().expect("running");
        control.shutdown.cancel();
        let stopped = tokio::time::timeout(PATIENCE, serving).await.expect("stops in time");
        stopped.expect("no panic").expect("no failure");
    }

    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.run().await;
    }

    /// The audit records until now.
    pub(crate) fn records(&self) -> Vec<serde_json::Value> {
        self.audit.settle();
        let place = self.config.audit.place(&self.config.state_dir).expect("somewhere");
        let text = std::fs::read_to_string(place.file).expect("the records");
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Moves the clock of the sessions.
    pub(crate) fn forward(&self, millis: u64) {
        self.now.fetch_add(millis, Ordering::SeqCst);
    }

    /// The same, for what runs beside the test.
    pub(crate) fn clock(&self) -> Arc<AtomicU64> {
        self.now.clone()
    }

    /// Offers another configuration; why the old one stays.
    pub(crate) async fn reload(&self, config: Config) -> Result<(), String> {
        let (control, _) = self.running.as_ref().expect("running");
        control.reload(config).await.map_err(|failure| failure.to_string())
    }

    /// PAM behaves like this.
    pub(crate) fn pam(&self, script: impl Fn(pam::Worker) + Send + Sync + 'static) {
        pam::serve(&self.config.pam.socket, script);
    }

    /// PAM knows everybody, and their password is "pw".
    pub(crate) fn pam_with_passwords(&self) {
        use doorward_proto::pam::v1::{Result as Verdict, Task};
        self.pam(|worker| {
            let account_only = worker.start.task() == Task::Account;
            let right = account_only || worker.password().as_deref() == Some("pw");
            worker.verdict(if right { Verdict::Success } else { Verdict::Denied });
            worker.await_end();
        });
    }

    pub(crate) async fn channel(&self) -> Channel {
        dial(&self.config.socket.path).await.expect("connected")
    }

    pub(crate) async fn login(&self) -> LoginClient<Channel> {
        LoginClient::new(self.channel().await)
    }

    pub(crate) async fn sessions(&self) -> SessionsClient<Channel> {
        SessionsClient::new(self.channel().await)
    }

    /// A session of this user, by password.
    pub(crate) async fn session_of(&self, user: &str) -> wire::Granted {
        granted(self.login().await.begin(password(ONE, user, "pw")).await)
    }

    pub(crate) async fn check(&self, token: &str) -> Result<wire::Session, Code> {
        self.check_for(token, wire::Dialect::Sysadm).await
    }

    /// The session of a token, for use in this dialect.
    pub(crate) async fn check_for(&self, token: &str, dialect: wire::Dialect) -> Result<wire::Session, Code> {
        let request = wire::CheckRequest { token: token.into(), used_ms_ago: None, dialect: dialect.into() };
        let checked = self.sessions().await.check(request).await;
        checked.map(tonic::Response::into_inner).map_err(|status| status.code())
    }
}

pub(crate) async fn dial(path: &Path) -> Result<Channel, tonic::transport::Error> {
    let path = path.to_owned();
    let connect = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://authd").connect_with_connector(connect).await
}

/// Waits for a fact.
pub(crate) async fn until(fact: impl AsyncFn() -> bool) {
    let seen = async {
        while !fact().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.expect("it happens in time");
}

pub(crate) fn begin(connection: &str, address: &str, method: Method) -> wire::BeginRequest {
    wire::BeginRequest {
        connection: connection.into(),
        source: Some(wire::Source { address: address.into(), local_uid: None, forwarded: String::new() }),
        dialect: wire::Dialect::Sysadm.into(),
        wish: None,
        method: Some(method),
    }
}

pub(crate) fn password(connection: &str, username: &str, password: &str) -> wire::BeginRequest {
    let method = wire::Password { username: username.into(), password: password.into() };
    begin(connection, "192.0.2.1", Method::Password(method))
}

pub(crate) fn respond(connection: &str, conversation: &str, answers: &[&str]) -> wire::RespondRequest {
    wire::RespondRequest {
        connection: connection.into(),
        conversation: conversation.into(),
        answers: answers.iter().map(|answer| (*answer).to_owned()).collect(),
    }
}

type Answer = Result<tonic::Response<wire::Outcome>, Status>;

pub(crate) fn kind(answer: Answer) -> outcome::Kind {
    answer.expect("an outcome").into_inner().kind.expect("of a kind")
}

pub(crate) fn granted(answer: Answer) -> wire::Granted {
    match kind(answer) {
        outcome::Kind::Granted(granted) => granted,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn prompts(answer: Answer) -> wire::Prompts {
    match kind(answer) {
        outcome::Kind::Prompts(prompts) => prompts,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn is_denied(answer: Answer) -> bool {
    matches!(kind(answer), outcome::Kind::Denied(_))
}

pub(crate) fn code<T>(answer: Result<T, Status>) -> Code {
    answer.err().map_or(Code::Ok, |status| status.code())
}
