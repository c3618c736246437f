//! `authd.toml`: every key has a default, unknown ones are refused.

mod access;
mod audited;
mod authenticator;
mod guessing;
mod jwt;
mod sessions;
mod subsystems;
mod token_api;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use doorward_launch::{Keys, Misconfigured, Takes, log, sandbox};
use serde::{Deserialize, Serialize};

pub use self::{
    access::Access,
    audited::Audit,
    authenticator::Authenticator,
    guessing::Penalty,
    jwt::Jwt,
    sessions::{Limit, Sessions},
    subsystems::Subsystems,
    token_api::{Backend, TokenApi},
};
use crate::{
    account::Groups,
    conversation,
    jwt::Issuer,
    method::TokenRules,
    penalty,
    rights::{Acls, either},
    session::{Bounds, USER},
};

/// Every key, and when a change of it takes effect. A login or a session that is there keeps what it
/// began with; what a session may do is looked up anew.
pub const KEYS: Keys = &[
    ("user", Takes::Restart),
    ("state_dir", Takes::Restart),
    ("log.level", Takes::Reload),
    ("log.file", Takes::Restart),
    ("audit.file", Takes::Restart),
    ("audit.required", Takes::Restart),
    ("sandbox.landlock", Takes::Restart),
    ("sandbox.seccomp", Takes::Restart),
    ("sandbox.read", Takes::Restart),
    ("socket.path", Takes::Restart),
    ("socket.peer_path", Takes::Restart),
    ("socket.assertion_key", Takes::Restart),
    ("peers.gateway", Takes::Restart),
    ("peers.gateway_socket", Takes::Restart),
    ("peers.gateway_ports", Takes::Restart),
    ("certd.socket", Takes::Restart),
    ("certd.user", Takes::Restart),
    ("pam.socket", Takes::Restart),
    ("pam.silent_seconds", Takes::Reload),
    ("pam.answer_seconds", Takes::Reload),
    ("pam.total_seconds", Takes::Reload),
    ("pam.conversations", Takes::Reload),
    ("pam.per_source", Takes::Reload),
    ("pam.per_account", Takes::Reload),
    ("pam.refusal_delay_ms", Takes::Reload),
    ("local_login.mode", Takes::Reload),
    ("local_login.uid_min", Takes::Reload),
    ("access.full_groups", Takes::Reload),
    ("access.limited_groups", Takes::Reload),
    ("access.limited_acl", Takes::Reload),
    ("access.group_acl", Takes::Reload),
    ("subsystems.directory", Takes::Restart),
    ("token_api.acl", Takes::Reload),
    ("token_api.default_seconds", Takes::Reload),
    ("token_api.longest_seconds", Takes::Reload),
    ("token_api.default_backend", Takes::Reload),
    ("token_api.backends", Takes::Reload),
    ("token_api.group_acl", Takes::Reload),
    ("jwt", Takes::Restart),
    ("authenticator", Takes::Restart),
    ("sessions.idle_seconds", Takes::Reload),
    ("sessions.absolute_seconds", Takes::Reload),
    ("sessions.per_user", Takes::Reload),
    ("sessions.total", Takes::Reload),
    ("sessions.at_limit", Takes::Reload),
    ("penalty.failures", Takes::Restart),
    ("penalty.within_seconds", Takes::Restart),
    ("penalty.first_seconds", Takes::Restart),
    ("penalty.longest_seconds", Takes::Restart),
    ("penalty.account_delay_ms", Takes::Restart),
];

/// The whole file.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whom authd runs as when it is started by root.
    pub user: String,
    /// Where sessions and the signing key are kept.
    pub state_dir: PathBuf,
    /// The log.
    pub log: log::Settings,
    /// What is taken from the running process.
    pub sandbox: sandbox::Settings,
    /// The audit records.
    pub audit: Audit,
    /// Where authd is found.
    pub socket: Sockets,
    /// Who may call.
    pub peers: Peers,
    /// The registry of public keys.
    pub certd: Certd,
    /// Conversations with PAM.
    pub pam: Pam,
    /// Login without a password.
    pub local_login: LocalLogin,
    /// Who may do what.
    pub access: Access,
    /// Where subsystems are registered.
    pub subsystems: Subsystems,
    /// What tokens of the token API are good for.
    pub token_api: TokenApi,
    /// Whose tokens are believed.
    pub jwt: Vec<Jwt>,
    /// Who else knows somebody.
    pub authenticator: Vec<Authenticator>,
    /// Sessions.
    pub sessions: Sessions,
    /// What guessing brings.
    pub penalty: Penalty,
}

/// `[socket]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sockets {
    /// The gRPC socket.
    pub path: PathBuf,
    /// The socket for passed connections.
    pub peer_path: PathBuf,
    /// Where the public key of identity assertions is published.
    pub assertion_key: PathBuf,
}

/// `[peers]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Peers {
    /// The gateway's user, by name or number.
    pub gateway: String,
    /// The gateway's Unix socket: a connection that it passes must have been accepted from there.
    pub gateway_socket: PathBuf,
    /// The gateway's TCP ports: or from there, over loopback. 0: any that it accepts on.
    pub gateway_ports: Vec<u16>,
}

/// `[certd]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Certd {
    /// certd's socket for authd; empty: there is none, and nobody logs in with a key.
    pub socket: PathBuf,
    /// The user that must listen there, by name or number.
    pub user: String,
}

/// `[pam]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pam {
    /// The guard's socket.
    pub socket: PathBuf,
    /// How long a module may be silent.
    pub silent_seconds: u32,
    /// How long a person may take to answer.
    pub answer_seconds: u32,
    /// How long a conversation may take.
    pub total_seconds: u32,
    /// Conversations in all.
    pub conversations: usize,
    /// Conversations of one source, and logins of its that failed and are not yet answered.
    pub per_source: usize,
    /// The same of one source about one account.
    pub per_account: usize,
    /// When a refusal is answered at the earliest, give or take a quarter.
    pub refusal_delay_ms: u32,
}

/// `[local_login]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LocalLogin {
    /// Whether it is on.
    pub mode: LocalMode,
    /// The lowest uid of a person.
    pub uid_min: u32,
}

/// How a local user is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LocalMode {
    /// By what the kernel says of their connection, on the Unix socket or over loopback TCP.
    Kernel,
    /// By the credentials of their connection to the gateway's Unix socket.
    Unix,
    /// Not at all.
    Off,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            user: "doorward-authd".into(),
            state_dir: "/var/lib/doorward/authd".into(),
            log: log::Settings::default(),
            sandbox: sandbox::Settings::default(),
            audit: Audit::default(),
            socket: Sockets::default(),
            peers: Peers::default(),
            certd: Certd::default(),
            pam: Pam::default(),
            local_login: LocalLogin::default(),
            access: Access::default(),
            subsystems: Subsystems::default(),
            token_api: TokenApi::default(),
            jwt: Vec::new(),
            authenticator: Vec::new(),
            sessions: Sessions::default(),
            penalty: Penalty::default(),
        }
    }
}

impl Default for Sockets {
    fn default() -> Self {
        Self {
            path: "/run/doorward/authd/authd.sock".into(),
            peer_path: "/run/doorward/authd/peer.sock".into(),
            assertion_key: "/run/doorward/authd/assertion.pub".into(),
        }
    }
}

impl Default for Peers {
    fn default() -> Self {
        Self {
            gateway: "doorward-gateway".into(),
            gateway_socket: "/run/doorward/gateway.sock".into(),
            gateway_ports: vec![12150, 12151],
        }
    }
}

impl Default for Certd {
    fn default() -> Self {
        Self { socket: "/run/doorward/certd/authd.sock".into(), user: "doorward-certd".into() }
    }
}

impl Default for Pam {
    fn default() -> Self {
        Self {
            socket: "/run/doorward/pam/pam.sock".into(),
            silent_seconds: 30,
            answer_seconds: 120,
            total_seconds: 300,
            conversations: 64,
            per_source: 4,
            per_account: 2,
            refusal_delay_ms: 2000,
        }
    }
}

impl Default for LocalLogin {
    fn default() -> Self {
        Self { mode: LocalMode::Kernel, uid_min: 1000 }
    }
}

impl Config {
    /// What must hold beyond the syntax. Touches nothing.
    ///
    /// # Errors
    /// The first key that cannot be used, and why.
    pub fn check(&self) -> Result<(), Misconfigured> {
        self.audit.settings().check()?;
        if self.audit.required && self.audit.place(&self.state_dir).is_none() {
            return Err(Misconfigured::at("audit.required", "needs a file: audit.file is empty"));
        }
        let paths = [
            ("state_dir", &self.state_dir),
            ("socket.path", &self.socket.path),
            ("socket.peer_path", &self.socket.peer_path),
            ("socket.assertion_key", &self.socket.assertion_key),
            ("peers.gateway_socket", &self.peers.gateway_socket),
            ("pam.socket", &self.pam.socket),
            ("subsystems.directory", &self.subsystems.directory),
        ];
        for (key, path) in paths {
            if !path.is_absolute() {
                return Err(Misconfigured::at(key, "must be an absolute path"));
            }
        }
        if !self.certd.socket.as_os_str().is_empty() && !self.certd.socket.is_absolute() {
            return Err(Misconfigured::at("certd.socket", "must be an absolute path, or empty for no certd"));
        }
        let numbers = [
            ("pam.silent_seconds", u64::from(self.pam.silent_seconds), 1, 300),
            ("pam.answer_seconds", u64::from(self.pam.answer_seconds), 1, 300),
            ("pam.total_seconds", u64::from(self.pam.total_seconds), 1, 300),
            ("pam.conversations", self.pam.conversations as u64, 1, 1024),
            ("pam.per_source", self.pam.per_source as u64, 1, 1024),
            ("pam.per_account", self.pam.per_account as u64, 1, 1024),
            ("pam.refusal_delay_ms", u64::from(self.pam.refusal_delay_ms), 0, 10_000),
            ("sessions.idle_seconds", u64::from(self.sessions.idle_seconds), 1, 86_400),
            ("sessions.absolute_seconds", u64::from(self.sessions.absolute_seconds), 1, 31_536_000),
            ("sessions.per_user", self.sessions.per_user as u64, 1, 65_536),
            ("sessions.total", self.sessions.total as u64, 1, 1_048_576),
            ("penalty.failures", self.penalty.failures as u64, 0, penalty::FAILURES_MAX as u64),
            ("penalty.within_seconds", u64::from(self.penalty.within_seconds), 1, 86_400),
            ("penalty.first_seconds", u64::from(self.penalty.first_seconds), 1, 86_400),
            ("penalty.longest_seconds", u64::from(self.penalty.longest_seconds), 1, 86_400),
            // With PAM's own time a right password is answered within about five seconds.
            ("penalty.account_delay_ms", u64::from(self.penalty.account_delay_ms), 0, 5_000),
        ];
        for (key, number, least, most) in numbers {
            if !(least..=most).contains(&number) {
                return Err(Misconfigured::at(key, format!("must be {least} to {most}")));
            }
        }
        if self.local_login.mode == LocalMode::Kernel && self.peers.gateway_ports.is_empty() {
            return Err(Misconfigured::at(
                "peers.gateway_ports",
                "names no port: set local_login.mode = \"unix\" if local users use the Unix socket only",
            ));
        }
        if self.penalty.longest_seconds < self.penalty.first_seconds {
            return Err(Misconfigured::at("penalty.longest_seconds", "must be at least first_seconds"));
        }
        if self.local_login.uid_min == 0 {
            return Err(Misconfigured::at(
                "local_login.uid_min",
                "must be at least 1: root needs a password",
            ));
        }
        self.access.check()?;
        jwt::check(&self.jwt)?;
        let taken = self.jwt.iter().map(|entry| entry.kind.as_str());
        authenticator::check(&self.authenticator, taken.chain(self.token_api.names()))?;
        self.token_api.check(&self.kinds())?;
        Ok(())
    }

    pub(crate) fn conversations(&self) -> conversation::Settings {
        let seconds = |seconds| Duration::from_secs(u64::from(seconds));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        conversation::Settings {
            socket: self.pam.socket.clone(),
            silent: seconds(self.pam.silent_seconds),
            answer: seconds(self.pam.answer_seconds),
            total: seconds(self.pam.total_seconds),
            conversations: self.pam.conversations,
            per_source: self.pam.per_source,
            per_account: self.pam.per_account,
            // One core stays for everybody else, however many modules compute.
            computing: cores.saturating_sub(1).max(1),
        }
    }

    pub(crate) fn bounds(&self) -> Bounds {
        self.sessions.bounds()
    }

    /// The kinds that plug-ins know.
    pub(crate) fn kinds(&self) -> Vec<String> {
        self.authenticator.iter().map(|entry| entry.kind.clone()).collect()
    }

    /// With plug-ins of these kinds, which are those of the configuration that authd started with.
    ///
    /// # Errors
    /// When the default back end is neither configured nor one of them.
    pub(crate) fn token_rules(&self, kinds: &[String]) -> Result<TokenRules, Misconfigured> {
        self.token_api.rules(kinds)
    }

    /// Whose tokens are believed.
    pub(crate) fn issuers(&self) -> Vec<Issuer> {
        jwt::issuers(&self.jwt)
    }

    /// The most that each kind of identities may do that are no users of the host.
    pub(crate) fn others(&self) -> BTreeMap<String, Arc<[String]>> {
        let by_jwt = self.issuers().into_iter().map(|issuer| (issuer.kind, issuer.acl_max));
        let by_plugin =
            self.authenticator.iter().map(|entry| (entry.kind.clone(), entry.acl_max.clone().into()));
        by_jwt.chain(by_plugin).filter(|(kind, _)| kind != USER).collect()
    }

    /// The most that users of the host may do by any issuer's word; None: no issuer speaks for them.
    pub(crate) fn users_by_jwt(&self) -> Option<Arc<[String]>> {
        let lists: Vec<_> = self.issuers().into_iter().filter(|issuer| issuer.kind == USER).collect();
        let lists: Vec<_> = lists.iter().map(|issuer| &*issuer.acl_max).collect();
        (!lists.is_empty()).then(|| either(&lists).into())
    }

    pub(crate) fn refusal_delay(&self) -> Duration {
        Duration::from_millis(self.pam.refusal_delay_ms.into())
    }

    pub(crate) fn groups(&self) -> Groups {
        Groups {
            full: self.access.full_groups.clone(),
            limited: self.access.limited_groups.clone(),
            further: self.access.group_acl.keys().cloned().collect(),
            tokens: self.token_api.group_acl.keys().cloned().collect(),
        }
    }

    pub(crate) fn acls(&self) -> Acls {
        Acls {
            limited: self.access.limited_acl.clone(),
            further: self.access.group_acl.clone(),
            subsystems: Vec::new(),
            tokens: self.token_api.acl.clone(),
            token_groups: self.token_api.group_acl.clone(),
        }
    }
}

#[cfg(test)]
#[path = "../../packaging/etc/check.rs"]
mod example;

#[cfg(test)]
mod tests;
