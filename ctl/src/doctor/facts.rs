//! What was seen of a host: configurations, files, users, listeners. No judgement, and no I/O.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use serde::{Deserialize, de::IgnoredAny};

/// A service with a configuration of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Service {
    Gateway,
    Authd,
    Certd,
    Sysinfo,
}

impl Service {
    pub(super) const ALL: [Self; 4] = [Self::Gateway, Self::Authd, Self::Certd, Self::Sysinfo];

    /// The name of its program.
    pub(super) fn program(self) -> &'static str {
        match self {
            Self::Gateway => "doorward-gateway",
            Self::Authd => "doorward-authd",
            Self::Certd => "doorward-certd",
            Self::Sysinfo => "doorward-sysinfo",
        }
    }

    /// The name of its configuration file.
    pub(super) fn file(self) -> &'static str {
        match self {
            Self::Gateway => "gateway.toml",
            Self::Authd => "authd.toml",
            Self::Certd => "certd.toml",
            Self::Sysinfo => "sysinfo.toml",
        }
    }
}

/// Everything that was looked at.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    /// Whether root looked.
    pub(super) root: bool,
    /// Seconds of UTC.
    pub(super) now: i64,
    /// The directory of the configuration files.
    pub(super) directory: PathBuf,
    /// The configurations in effect, or what the service says against its file.
    pub(super) gateway: Result<Gateway, String>,
    pub(super) authd: Result<Authd, String>,
    pub(super) certd: Result<Certd, String>,
    /// Where it is registered.
    pub(super) sysinfo: Option<Result<Sysinfo, String>>,
    /// Users that are named; None: there is no such user.
    pub(super) users: BTreeMap<String, Option<Ids>>,
    /// Groups that are named, and whether they exist.
    pub(super) groups: BTreeMap<String, bool>,
    /// Files and directories.
    pub(super) files: BTreeMap<PathBuf, File>,
    /// Sockets of services: the uid that listens, or why nobody answers.
    pub(super) listeners: BTreeMap<PathBuf, Result<u32, String>>,
    /// What the gateway says of itself, or why it does not.
    pub(super) identify: Result<String, String>,
    /// The PAM service file and its text.
    pub(super) pam: (PathBuf, Result<String, String>),
    /// The TLS certificate that is or will be served.
    pub(super) certificate: Option<Certificate>,
    /// Room on the file systems of the state directories.
    pub(super) room: BTreeMap<PathBuf, Room>,
}

/// A user's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ids {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// A name in the file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum File {
    Missing,
    /// It cannot be looked at.
    Hidden(String),
    There {
        kind: Kind,
        uid: u32,
        gid: u32,
        /// Permission bits.
        mode: u32,
        /// When it was last written, in seconds of UTC.
        modified: i64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    Socket,
    Other,
}

/// The TLS certificate and its key.
#[derive(Debug, Clone)]
pub(super) struct Certificate {
    pub(super) path: PathBuf,
    pub(super) key: PathBuf,
    /// From when to when it holds, or why it cannot be read.
    pub(super) holds: Result<(i64, i64), String>,
    /// Whether the key is its own; None: the key cannot be looked at.
    pub(super) key_fits: Option<Result<(), String>>,
    /// It is the gateway's own, which it renews by itself.
    pub(super) own: bool,
}

/// What is left of a file system.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub(super) bytes: u64,
    pub(super) files: u64,
}

/// gateway.toml, as far as it is looked at; `--show-config` fills in the defaults.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Gateway {
    pub(super) user: String,
    pub(super) state_dir: PathBuf,
    pub(super) log: Log,
    pub(super) listen: Listen,
    pub(super) tls: Tls,
    pub(super) authd: GatewayAuthd,
    pub(super) certd: Neighbour,
    #[serde(default)]
    pub(super) subsystems: Subsystems,
    /// What is in that directory.
    #[serde(default)]
    pub(super) registrations: Registrations,
}

/// authd.toml.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Authd {
    pub(super) user: String,
    pub(super) state_dir: PathBuf,
    pub(super) log: Log,
    pub(super) socket: AuthdSockets,
    pub(super) peers: AuthdPeers,
    pub(super) certd: Neighbour,
    pub(super) pam: Pam,
    pub(super) access: Access,
    #[serde(default)]
    pub(super) token_api: TokenApi,
    #[serde(default)]
    pub(super) subsystems: Subsystems,
    #[serde(default)]
    pub(super) local_login: LocalLogin,
    #[serde(default)]
    pub(super) jwt: Vec<Jwt>,
}

/// An issuer of JWTs.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Jwt {
    pub(super) algorithm: String,
    pub(super) key_file: Option<PathBuf>,
    pub(super) jwks_file: Option<PathBuf>,
}

/// certd.toml.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Certd {
    pub(super) user: String,
    pub(super) state_dir: PathBuf,
    pub(super) log: Log,
    pub(super) socket: CertdSockets,
    pub(super) peers: CertdPeers,
    pub(super) assertion: Assertion,
}

/// sysinfo.toml.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Sysinfo {
    pub(super) user: String,
    pub(super) state_dir: PathBuf,
    pub(super) log: Log,
    pub(super) socket: OwnSocket,
    pub(super) peers: CertdPeers,
    pub(super) assertion: Assertion,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct OwnSocket {
    pub(super) path: PathBuf,
}

/// `[subsystems]`
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Subsystems {
    pub(super) directory: PathBuf,
}

/// What the gateway reads there.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Registrations {
    pub(super) found: Vec<Registered>,
    /// Sentences.
    pub(super) wrong: Vec<String>,
}

/// One subsystem.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Registered {
    pub(super) file: PathBuf,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) socket: PathBuf,
    pub(super) uid: u32,
}

impl Registered {
    /// The one that comes with doorward.
    pub(super) fn is_sysinfo(&self) -> bool {
        (self.namespace.as_str(), self.name.as_str()) == ("sysadm", "systemmanager")
    }
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Log {
    pub(super) file: Option<PathBuf>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Listen {
    pub(super) unix: PathBuf,
    #[serde(default)]
    pub(super) tls: Vec<SocketAddr>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Tls {
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct GatewayAuthd {
    pub(super) socket: PathBuf,
    pub(super) peer_socket: PathBuf,
    pub(super) user: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Neighbour {
    /// Empty: there is none.
    pub(super) socket: PathBuf,
    pub(super) user: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct AuthdSockets {
    pub(super) path: PathBuf,
    pub(super) peer_path: PathBuf,
    pub(super) assertion_key: PathBuf,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct AuthdPeers {
    pub(super) gateway: String,
    pub(super) gateway_socket: PathBuf,
    /// The ports at which local users come in by TCP without a password.
    #[serde(default)]
    pub(super) gateway_ports: Vec<u16>,
}

/// How local users come in without a password.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct LocalLogin {
    pub(super) mode: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Pam {
    pub(super) socket: PathBuf,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Access {
    pub(super) full_groups: Vec<String>,
    pub(super) limited_groups: Vec<String>,
    #[serde(default)]
    pub(super) group_acl: BTreeMap<String, IgnoredAny>,
}

/// What is read of `[token_api]`.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct TokenApi {
    #[serde(default)]
    pub(super) group_acl: BTreeMap<String, IgnoredAny>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct CertdSockets {
    pub(super) path: PathBuf,
    pub(super) authd_path: PathBuf,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct CertdPeers {
    pub(super) gateway: String,
    pub(super) authd: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Assertion {
    pub(super) key: PathBuf,
}

impl Facts {
    /// A user's numbers, if the user is there.
    pub(super) fn ids(&self, user: &str) -> Option<Ids> {
        self.users.get(user).copied().flatten()
    }

    /// Whether somebody is to ask certd: where nobody is there need be none.
    fn has_certd(&self) -> bool {
        let gateway = self.gateway.as_ref().ok().map(|config| &config.certd);
        let authd = self.authd.as_ref().ok().map(|config| &config.certd);
        let mut known = gateway.into_iter().chain(authd).peekable();
        known.peek().is_none() || known.any(|certd| !certd.socket.as_os_str().is_empty())
    }

    /// User, state directory and log of each service whose configuration can be used.
    pub(super) fn services(&self) -> Vec<(Service, &str, &PathBuf, &Log)> {
        let mut all = Vec::new();
        if let Ok(config) = &self.gateway {
            all.push((Service::Gateway, config.user.as_str(), &config.state_dir, &config.log));
        }
        if let Ok(config) = &self.authd {
            all.push((Service::Authd, config.user.as_str(), &config.state_dir, &config.log));
        }
        if let (Ok(config), true) = (&self.certd, self.has_certd()) {
            all.push((Service::Certd, config.user.as_str(), &config.state_dir, &config.log));
        }
        if let Some(Ok(config)) = &self.sysinfo {
            all.push((Service::Sysinfo, config.user.as_str(), &config.state_dir, &config.log));
        }
        all
    }

    /// The subsystems that are registered.
    pub(super) fn registered(&self) -> &[Registered] {
        self.gateway.as_ref().map_or(&[], |gateway| &gateway.registrations.found)
    }

    /// The sockets, whose they must be (a user; None: root's), and their mode.
    pub(super) fn sockets(&self) -> Vec<Socket<'_>> {
        let mut all = Vec::new();
        let mut add = |path: &'_ PathBuf, user, mode, stream| {
            if !path.as_os_str().is_empty() {
                all.push(Socket { path: path.clone(), user, mode, stream });
            }
        };
        if let Ok(config) = &self.gateway {
            add(&config.listen.unix, config.user.as_str(), 0o666, true);
        }
        if let Ok(config) = &self.authd {
            add(&config.socket.path, config.user.as_str(), 0o660, true);
            add(&config.socket.peer_path, config.user.as_str(), 0o660, false);
            add(&config.pam.socket, config.user.as_str(), 0o600, false);
        }
        if let (Ok(config), true) = (&self.certd, self.has_certd()) {
            add(&config.socket.path, config.user.as_str(), 0o660, true);
            add(&config.socket.authd_path, config.user.as_str(), 0o660, true);
        }
        all
    }
}

/// A socket as it should be.
#[derive(Debug, Clone)]
pub(super) struct Socket<'a> {
    pub(super) path: PathBuf,
    pub(super) user: &'a str,
    pub(super) mode: u32,
    /// Whether it can be connected to as a stream, to see who listens.
    pub(super) stream: bool,
}
