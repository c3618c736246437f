//! `gateway.toml`: every key, its default, and what it becomes.

mod channels;
mod defaults;
mod redis;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use doorward_launch::{Confinement, Keys, Misconfigured, Takes, account, audit, log, sandbox};
use serde::{Deserialize, Serialize};

use crate::{
    backend,
    proxy::Proxies,
    session::Timers as SessionTimers,
    subsystem::Pace,
    transport::{self, Rules},
};

pub use self::channels::{Carrier, Channels};
pub use self::redis::Redis;

/// A little more than authd gives PAM for a whole conversation.
const LOGIN: Duration = Duration::from_secs(310);
/// For every other call to authd.
const CALL: Duration = Duration::from_secs(5);
/// For a change of certd's registry: a little more than certd itself waits, for a processor and then for
/// the disk.
const CHANGE: Duration = Duration::from_secs(22);

/// Every key, and when a change of it takes effect. Connections that are open keep what they have.
pub const KEYS: Keys = &[
    ("user", Takes::Restart),
    ("state_dir", Takes::Restart),
    ("log.level", Takes::Reload),
    ("log.file", Takes::Restart),
    ("audit.file", Takes::Restart),
    ("sandbox.landlock", Takes::Restart),
    ("sandbox.seccomp", Takes::Restart),
    ("sandbox.read", Takes::Restart),
    ("listen.tls", Takes::Restart),
    ("listen.token", Takes::Restart),
    ("listen.token_plain", Takes::Restart),
    ("listen.unix", Takes::Restart),
    ("tls.certificate", Takes::Reload),
    ("tls.key", Takes::Reload),
    ("authd.socket", Takes::Restart),
    ("authd.peer_socket", Takes::Restart),
    ("authd.user", Takes::Restart),
    ("certd.socket", Takes::Restart),
    ("certd.user", Takes::Restart),
    ("subsystems.directory", Takes::Restart),
    ("channels.engine", Takes::Restart),
    ("redis.socket", Takes::Restart),
    ("redis.socket_user", Takes::Restart),
    ("redis.url", Takes::Restart),
    ("redis.tls_ca", Takes::Restart),
    ("redis.tls_name", Takes::Restart),
    ("redis.user", Takes::Restart),
    ("redis.password_file", Takes::Restart),
    ("redis.prefix", Takes::Restart),
    ("channels.file", Takes::Restart),
    ("channels.facilities", Takes::Reload),
    ("channels.heartbeat", Takes::Reload),
    ("url_credentials", Takes::Reload),
    ("http.origins", Takes::Reload),
    ("http.hosts", Takes::Reload),
    ("http.trusted_proxies", Takes::Reload),
    ("token_api.origins", Takes::Reload),
    ("token_api.server_uuid", Takes::Restart),
    ("limits.message_before_login", Takes::Reload),
    ("limits.message_after_login", Takes::Reload),
    ("limits.json_depth", Takes::Reload),
    ("limits.in_flight", Takes::Reload),
    ("limits.subscriptions", Takes::Reload),
    ("limits.publishes", Takes::Reload),
    ("limits.connections", Takes::Reload),
    ("limits.connections_per_source", Takes::Reload),
    ("limits.connections_before_login", Takes::Reload),
    ("limits.per_source", Takes::Reload),
    ("limits.plain_http", Takes::Reload),
    ("limits.token_body", Takes::Reload),
    ("limits.token_misses", Takes::Restart),
    ("timers.handshake_seconds", Takes::Reload),
    ("timers.login_seconds", Takes::Reload),
    ("timers.connection_idle_seconds", Takes::Reload),
    ("timers.keep_alive_seconds", Takes::Reload),
    ("timers.body_seconds", Takes::Reload),
    ("timers.write_seconds", Takes::Reload),
];

/// The whole file.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Who the gateway runs as.
    pub user: String,
    /// Where its own certificate is.
    pub state_dir: PathBuf,
    /// `[log]`
    pub log: log::Settings,
    /// `[sandbox]`
    pub sandbox: sandbox::Settings,
    /// `[audit]`
    pub audit: audit::Settings,
    /// `[listen]`
    pub listen: Listen,
    /// `[tls]`
    pub tls: TlsFiles,
    /// `[authd]`
    pub authd: Authd,
    /// `[certd]`
    pub certd: Certd,
    /// `[subsystems]`
    pub subsystems: Subsystems,
    /// `[channels]`
    pub channels: Channels,
    /// `[redis]`
    pub redis: Redis,
    /// `[url_credentials]`: which parameters of a path bring credentials, and of which kind.
    pub url_credentials: BTreeMap<String, String>,
    /// `[http]`
    pub http: Http,
    /// `[token_api]`
    pub token_api: TokenApi,
    /// `[limits]`
    pub limits: Limits,
    /// `[timers]`
    pub timers: Timers,
    /// Whose connections are not counted: root's. No key; tests run as root want to be counted.
    #[serde(skip, default = "defaults::root")]
    pub exempt: Option<u32>,
}

/// `[listen]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// Addresses for TLS.
    pub tls: Vec<SocketAddr>,
    /// Addresses for the token API alone, with TLS.
    pub token: Vec<SocketAddr>,
    /// The same without TLS, on loopback.
    pub token_plain: Vec<SocketAddr>,
    /// The Unix socket; empty: none.
    pub unix: PathBuf,
}

/// `[tls]`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsFiles {
    /// The chain, PEM.
    pub certificate: Option<PathBuf>,
    /// Its key, PEM.
    pub key: Option<PathBuf>,
}

/// `[authd]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Authd {
    /// Its gRPC socket.
    pub socket: PathBuf,
    /// Its socket for descriptors.
    pub peer_socket: PathBuf,
    /// Who must listen there.
    pub user: String,
}

/// `[certd]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Certd {
    /// Its socket for the gateway; empty: there is no certd.
    pub socket: PathBuf,
    /// Who must listen there.
    pub user: String,
}

/// `[subsystems]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Subsystems {
    /// Where root says which there are.
    pub directory: PathBuf,
    /// How often they are asked whether they are well. No key; tests have less time.
    #[serde(skip)]
    pub pace: Pace,
}

/// `[http]`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Further origins.
    pub origins: Vec<String>,
    /// Further names of this host on loopback.
    pub hosts: Vec<String>,
    /// Who may say for whom they ask; counts for penalties alone.
    pub trusted_proxies: Proxies,
}

/// `[token_api]`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenApi {
    /// Origins whose pages may use it (CORS).
    pub origins: Vec<String>,
    /// This server's UUID, which tokens name; absent: they name none.
    pub server_uuid: Option<String>,
}

/// `[limits]`
#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Limits {
    pub message_before_login: usize,
    pub message_after_login: usize,
    pub json_depth: usize,
    pub in_flight: usize,
    pub subscriptions: usize,
    pub publishes: u32,
    pub connections: usize,
    /// None: a quarter of all.
    pub connections_per_source: Option<usize>,
    pub connections_before_login: usize,
    pub per_source: usize,
    pub plain_http: usize,
    pub token_body: usize,
    pub token_misses: u32,
}

/// `[timers]`
#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Timers {
    pub handshake_seconds: u64,
    pub login_seconds: u64,
    pub connection_idle_seconds: u64,
    pub keep_alive_seconds: u64,
    pub body_seconds: u64,
    pub write_seconds: u64,
}

impl TlsFiles {
    /// Certificate and key, if they are named.
    pub(crate) fn files(&self) -> Option<(&Path, &Path)> {
        self.certificate.as_deref().zip(self.key.as_deref())
    }
}

impl Config {
    /// What must hold beyond the syntax.
    pub fn check(&self) -> Result<(), Misconfigured> {
        self.audit.check()?;
        if self.tls.certificate.is_some() != self.tls.key.is_some() {
            return Err(Misconfigured::at("tls", "certificate and key come together or not at all"));
        }
        let listen = &self.listen;
        let addresses = [&listen.tls, &listen.token, &listen.token_plain];
        if addresses.iter().all(|some| some.is_empty()) && listen.unix.as_os_str().is_empty() {
            return Err(Misconfigured::at("listen", "there is neither a TCP address nor a Unix socket"));
        }
        if let Some(address) = self.listen.token_plain.iter().find(|address| !address.ip().is_loopback()) {
            let sentence = format!("{address} is not on loopback, and tokens are not sent in the clear");
            return Err(Misconfigured::at("listen.token_plain", sentence));
        }
        if !self.subsystems.directory.is_absolute() {
            return Err(Misconfigured::at("subsystems.directory", "must be an absolute path"));
        }
        if self.channels.engine == Carrier::Redis {
            self.redis.check()?;
        }
        self.check_channels()?;
        if self.token_api.server_uuid.as_deref().is_some_and(|text| uuid::Uuid::try_parse(text).is_err()) {
            return Err(Misconfigured::at("token_api.server_uuid", "must be a UUID"));
        }
        let limits = &self.limits;
        for (key, value, least, most) in [
            ("message_before_login", limits.message_before_login, 256, 1 << 20),
            ("message_after_login", limits.message_after_login, 256, 16 << 20),
            ("json_depth", limits.json_depth, 4, 127),
            ("in_flight", limits.in_flight, 1, 1_024),
            ("subscriptions", limits.subscriptions, 1, 16_384),
            ("publishes", limits.publishes as usize, 1, 1 << 20),
            ("connections", limits.connections, 1, 1 << 20),
            ("connections_per_source", limits.connections_per_source.unwrap_or(1), 1, 1 << 20),
            ("connections_before_login", limits.connections_before_login, 1, 1 << 20),
            ("per_source", limits.per_source, 1, 1 << 20),
            ("plain_http", limits.plain_http, 1, 1 << 20),
            ("token_body", limits.token_body, 256, 1 << 20),
        ] {
            if !(least..=most).contains(&value) {
                return Err(range(&format!("limits.{key}"), least, most));
            }
        }
        if limits.message_after_login < limits.message_before_login {
            let sentence = "must be at least message_before_login";
            return Err(Misconfigured::at("limits.message_after_login", sentence));
        }
        let timers = &self.timers;
        for (key, value) in [
            ("handshake_seconds", timers.handshake_seconds),
            ("login_seconds", timers.login_seconds),
            ("connection_idle_seconds", timers.connection_idle_seconds),
            ("keep_alive_seconds", timers.keep_alive_seconds),
            ("body_seconds", timers.body_seconds),
            ("write_seconds", timers.write_seconds),
        ] {
            if !(1..=86_400).contains(&value) {
                return Err(range(&format!("timers.{key}"), 1, 86_400));
            }
        }
        Ok(())
    }

    /// Who must listen on authd's sockets. Asked while the user database can still be reached.
    pub(crate) fn authd_uid(&self) -> Result<u32, Misconfigured> {
        match account::resolve(&self.authd.user) {
            Ok(authd) => Ok(authd.uid),
            Err(error) => Err(Misconfigured::at("authd.user", error.to_string())),
        }
    }

    /// Who must listen on certd's socket, if there is a certd.
    pub(crate) fn certd_uid(&self) -> Result<Option<u32>, Misconfigured> {
        if self.certd.socket.as_os_str().is_empty() {
            return Ok(None);
        }
        match account::resolve(&self.certd.user) {
            Ok(certd) => Ok(Some(certd.uid)),
            Err(error) => Err(Misconfigured::at("certd.user", error.to_string())),
        }
    }

    /// What the gateway needs once it serves.
    pub fn confinement(&self) -> Confinement {
        let state = Confinement::new(&self.sandbox).keep(&self.state_dir);
        // Whose a connection over loopback is.
        let state = state.asks_for_sockets();
        // Whose subsystems are is looked up again whenever they are registered.
        let state = state.user_database().read(&self.subsystems.directory);
        // What `[redis]` names is read before this holds. A Unix socket needs nothing.
        let redis = (self.channels.engine == Carrier::Redis).then(|| self.redis.tcp()).flatten();
        let state = redis.into_iter().fold(state, Confinement::connects);
        let state = state.read_beside(&self.channels.file);
        let files = self.tls.certificate.iter().chain(&self.tls.key);
        files.fold(state, |confinement, file| confinement.read_beside(file))
    }

    pub(crate) fn backend(&self, uid: u32, certd: Option<u32>) -> backend::Settings {
        backend::Settings {
            socket: self.authd.socket.clone(),
            peer_socket: self.authd.peer_socket.clone(),
            uid,
            certd: certd.map(|uid| (self.certd.socket.clone(), uid)),
            login: LOGIN,
            call: CALL,
            change: CHANGE,
        }
    }

    pub(crate) fn rules(&self) -> Rules {
        Rules {
            origins: self.http.origins.clone(),
            hosts: self.http.hosts.clone(),
            token_origins: self.token_api.origins.clone(),
        }
    }

    pub(crate) fn limits(&self) -> transport::Limits {
        transport::Limits {
            before_login: self.limits.message_before_login,
            after_login: self.limits.message_after_login,
            token_body: self.limits.token_body,
            depth: self.limits.json_depth,
            in_flight: self.limits.in_flight,
            subscriptions: self.limits.subscriptions,
            publishes: self.limits.publishes,
        }
    }

    pub(crate) fn timers(&self) -> transport::Timers {
        transport::Timers {
            handshake: Duration::from_secs(self.timers.handshake_seconds),
            keep_alive: Duration::from_secs(self.timers.keep_alive_seconds),
            body: Duration::from_secs(self.timers.body_seconds),
            write: Duration::from_secs(self.timers.write_seconds),
            session: SessionTimers {
                login: Duration::from_secs(self.timers.login_seconds),
                idle: Duration::from_secs(self.timers.connection_idle_seconds),
                conversation: LOGIN,
            },
        }
    }
}

fn range(key: &str, least: usize, most: usize) -> Misconfigured {
    Misconfigured::at(key, format!("must be from {least} to {most}"))
}

#[cfg(test)]
#[path = "../../packaging/etc/check.rs"]
mod example;

#[cfg(test)]
mod tests;
