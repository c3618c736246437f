//! A certd in a temporary directory, and an authd that signs whatever a test wants to be.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use doorward_certd::{Certd, Parts, config::Config, registry::Watch, serve};
use doorward_launch::{Audit, Control, Daemon as _, Identity, StartError, socket::Sockets};
use doorward_proto::certd::v1::{
    ChallengeReply, ChallengeRequest, Entry, ListRequest, RegisterChallengeRequest, RegisterRequest,
    RevokeRequest, Verified, VerifyRequest, proofs_client::ProofsClient, registry_client::RegistryClient,
    store_client::StoreClient,
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tokio::{net::UnixStream, task::JoinHandle};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use crate::openssl::{Form, Key};

/// Long counts for `make test-long`.
pub fn long() -> bool {
    std::env::var_os("DOORWARD_LONG").is_some()
}

pub fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    i64::try_from(now).expect("in range")
}

/// authd's signature, and what it says by default: alice, limited access, logged in just now.
pub struct Authd {
    key: EncodingKey,
    pub pem: String,
}

impl Authd {
    pub fn new() -> Self {
        let pair = Ed25519KeyPair::generate().expect("a key");
        let spki = [b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00", pair.public_key().as_ref()].concat();
        let body = STANDARD.encode(spki);
        Self {
            key: EncodingKey::from_ed_der(pair.to_pkcs8().expect("encoded").as_ref()),
            pem: format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n"),
        }
    }

    pub fn sign(&self, claims: &Value) -> String {
        jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), claims, &self.key).expect("signed")
    }
}

pub fn claims(user: &str) -> Value {
    json!({
        "iss": "doorward-authd", "aud": "certd", "sub": user, "uid": 1000, "auth_id": "1000",
        "access": "limited", "acl": ["sysadm.rpc.settings.#"], "sid": format!("session-{user}"),
        "method": "password", "auth_time": now(), "iat": now(), "exp": now() + 60, "jti": "x",
    })
}

pub fn changed(user: &str, changes: Value) -> Value {
    let mut claims = claims(user);
    for (name, value) in changes.as_object().expect("an object") {
        claims[name] = value.clone();
    }
    claims
}

/// The configuration of a certd in `directory`, with further lines of a table each.
pub fn config(directory: &Path, tables: &str) -> Config {
    let at = |name: &str| directory.join(name).display().to_string();
    let mut text = format!(
        "state_dir = '{}'\n[socket]\npath = '{}'\nauthd_path = '{}'\n[assertion]\nkey = '{}'\n",
        at("state"),
        at("certd.sock"),
        at("authd.sock"),
        at("assertion.pub"),
    );
    if !tables.contains("[limits]") {
        text.push_str("[limits]\nrefusal_step_ms = 1\n");
    }
    text.push_str(tables);
    let config: Config = toml::from_str(&text).expect("a configuration");
    Certd::check(&config).expect("a valid configuration");
    config
}

pub struct Fixture {
    pub directory: tempfile::TempDir,
    pub authd: Authd,
    control: Control<Config>,
    serving: JoinHandle<()>,
}

/// A certd with these tables in its configuration.
pub async fn start(tables: &str) -> Fixture {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let authd = Authd::new();
    fs::write(directory.path().join("assertion.pub"), &authd.pem).expect("written");
    let (control, serving) = serve_in(directory.path(), tables, Watch::nothing()).await;
    Fixture { directory, authd, control, serving }
}

pub async fn serve_in(directory: &Path, tables: &str, watch: Watch) -> (Control<Config>, JoinHandle<()>) {
    let config = config(directory, tables);
    let own = Identity::current();
    let patience = Instant::now() + PATIENCE;
    let parts = loop {
        match Parts::bind(&config, &own, own, own, &mut Sockets::default()) {
            // Another test's fork() holds the descriptors of the one before until it calls exec().
            Err(StartError::Socket(error)) if Instant::now() < patience => {
                assert!(error.to_string().contains("in use"), "{error}");
                tokio::task::yield_now().await;
            }
            bound => break bound.expect("the sockets are bound"),
        }
    };
    let place = config.audit.place(&config.state_dir).expect("somewhere");
    let control = Control::new().with_audit(Audit::open("doorward-certd", &place).expect("opened"));
    let served = serve(config, parts, watch, control.clone());
    let serving = tokio::spawn(async move { served.await.expect("certd stops when it is asked to") });
    while !control.is_ready() {
        assert!(!serving.is_finished(), "certd starts");
        tokio::task::yield_now().await;
    }
    (control, serving)
}

/// A channel to a socket.
pub async fn connect(path: PathBuf) -> Result<Channel, tonic::transport::Error> {
    connect_by(Endpoint::from_static("http://certd"), path).await
}

async fn connect_by(endpoint: Endpoint, path: PathBuf) -> Result<Channel, tonic::transport::Error> {
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { Ok::<_, io::Error>(hyper_util::rt::TokioIo::new(UnixStream::connect(path).await?)) }
    });
    endpoint.connect_with_connector(connector).await
}

/// Whoever calls by `certd.sock`.
#[derive(Clone)]
pub struct Gateway {
    pub registry: RegistryClient<Channel>,
}

/// authd.
#[derive(Clone)]
pub struct Asker {
    pub proofs: ProofsClient<Channel>,
}

impl Fixture {
    pub fn socket(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub async fn gateway(&self) -> Gateway {
        let channel = connect(self.directory.path().join("certd.sock")).await.expect("connected");
        Gateway { registry: RegistryClient::new(channel) }
    }

    /// A gateway that takes 64 KiB of a stream unread, and any number of streams.
    pub async fn slow_gateway(&self) -> Gateway {
        let endpoint = Endpoint::from_static("http://certd")
            .initial_stream_window_size(65_535)
            .initial_connection_window_size(16 << 20);
        let path = self.directory.path().join("certd.sock");
        Gateway { registry: RegistryClient::new(connect_by(endpoint, path).await.expect("connected")) }
    }

    pub async fn asker(&self) -> Asker {
        let channel = connect(self.directory.path().join("authd.sock")).await.expect("connected");
        Asker { proofs: ProofsClient::new(channel) }
    }

    /// Root's client; only root gets through with it.
    pub async fn store(&self) -> StoreClient<Channel> {
        let channel = connect(self.directory.path().join("certd.sock")).await.expect("connected");
        StoreClient::new(channel)
    }

    /// An assertion for a user with limited access.
    pub fn as_user(&self, user: &str) -> String {
        self.authd.sign(&claims(user))
    }

    /// An assertion for a user with full access.
    pub fn as_full(&self, user: &str) -> String {
        self.authd.sign(&changed(user, json!({ "access": "full", "acl": ["#"] })))
    }

    pub async fn stop(self) -> tempfile::TempDir {
        self.control.shutdown.cancel();
        self.serving.await.expect("certd stops without a panic");
        self.directory
    }

    /// Stopped, and started on the same files with another configuration.
    pub async fn restarted(self, tables: &str) -> Self {
        self.control.shutdown.cancel();
        self.serving.await.expect("certd stops without a panic");
        let (control, serving) = serve_in(self.directory.path(), tables, Watch::nothing()).await;
        Self { directory: self.directory, authd: self.authd, control, serving }
    }
}

/// A registration without a proof, on connection "c".
pub fn registration(assertion: String, key: Vec<u8>) -> RegisterRequest {
    RegisterRequest { assertion, connection: "c".into(), public_key: key, ..Default::default() }
}

impl Gateway {
    pub async fn challenge(&mut self, assertion: &str, connection: &str) -> Result<ChallengeReply, Status> {
        let request = RegisterChallengeRequest {
            assertion: assertion.into(),
            connection: connection.into(),
            server_key: vec![7; 32],
        };
        self.registry.register_challenge(request).await.map(tonic::Response::into_inner)
    }

    pub async fn register(&mut self, request: RegisterRequest) -> Result<Entry, Status> {
        let reply = self.registry.register(request).await?.into_inner();
        Ok(reply.entry.expect("an entry"))
    }

    /// Registers with a proof.
    pub async fn prove(&mut self, assertion: String, key: &Key, form: Form) -> Result<Entry, Status> {
        let asked = self.challenge(&assertion, "c").await?;
        let proof = key.prove(form, &asked.context, &asked.test_string);
        self.register(RegisterRequest { proof, ..registration(assertion, key.pem()) }).await
    }

    pub async fn list(&mut self, assertion: String) -> Result<Vec<Entry>, Status> {
        let mut stream = self.registry.list(ListRequest { assertion }).await?.into_inner();
        let mut entries = Vec::new();
        while let Some(entry) = stream.message().await? {
            entries.push(entry);
        }
        Ok(entries)
    }

    pub async fn revoke(&mut self, assertion: String, key: Vec<u8>, user: &str) -> Result<(), Status> {
        let request = RevokeRequest { assertion, public_key: key, user: user.into() };
        self.registry.revoke(request).await.map(drop)
    }
}

/// A proof without hints, on connection "c", from "192.0.2.1".
pub fn proof(signature: Vec<u8>) -> VerifyRequest {
    VerifyRequest { connection: "c".into(), signature, source: "192.0.2.1".into(), ..Default::default() }
}

impl Asker {
    pub async fn challenge(&mut self, connection: &str) -> ChallengeReply {
        self.try_challenge(connection).await.expect("a challenge")
    }

    pub async fn try_challenge(&mut self, connection: &str) -> Result<ChallengeReply, Status> {
        let request = ChallengeRequest { connection: connection.into(), server_key: vec![7; 32] };
        self.proofs.challenge(request).await.map(tonic::Response::into_inner)
    }

    pub async fn verify(&mut self, request: VerifyRequest) -> Result<Verified, Status> {
        self.proofs.verify(request).await.map(tonic::Response::into_inner)
    }

    /// Asks for a challenge and answers it; `hints` may change the request.
    pub async fn log_in(
        &mut self,
        key: &Key,
        form: Form,
        hints: impl FnOnce(&mut VerifyRequest),
    ) -> Result<Verified, Status> {
        let asked = self.challenge("c").await;
        let mut request = proof(key.prove(form, &asked.context, &asked.test_string));
        hints(&mut request);
        self.verify(request).await
    }
}

/// What the peer was told.
pub fn told<T: std::fmt::Debug>(result: Result<T, Status>) -> (Code, String) {
    let status = result.expect_err("refused");
    (status.code(), status.message().to_owned())
}

pub fn code<T>(result: &Result<T, Status>) -> Code {
    result.as_ref().err().map_or(Code::Ok, Status::code)
}

/// No test waits longer for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);
