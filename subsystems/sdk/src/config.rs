//! `NAME.toml`: every key has a default, unknown ones are refused. What is the author's own is in `[settings]`.

use std::marker::PhantomData;
use std::path::PathBuf;

use doorward_launch::audit::{self, Place};
use doorward_launch::{Misconfigured, log, sandbox};
use serde::{Deserialize, Serialize};

use crate::program::Program;

/// The whole file of the subsystem `P`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default, bound = "")]
pub struct Config<P: Program> {
    /// Whom it runs as when it is started by root.
    pub user: String,
    /// Where it keeps what is its own.
    pub state_dir: PathBuf,
    /// The log.
    pub log: log::Settings,
    /// What is taken from the running process.
    pub sandbox: sandbox::Settings,
    /// The audit records.
    pub audit: Audit,
    /// Where it is found.
    pub socket: Socket<P>,
    /// Who may call, and whose word counts.
    pub peers: PeerNames,
    /// How authd's word is verified.
    pub assertion: Assertion,
    /// The author's own.
    pub settings: P::Settings,
}

/// `[audit]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// The file; absent: `audit.jsonl` in the state directory; empty: nothing is recorded.
    pub file: Option<PathBuf>,
    /// Whether calls that only read are recorded, too.
    pub reads: bool,
}

/// `[socket]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default, bound = "")]
pub struct Socket<P: Program> {
    /// For the gateway.
    pub path: PathBuf,
    #[serde(skip)]
    of: PhantomData<fn() -> P>,
}

/// `[peers]`, by name or number.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct PeerNames {
    /// The gateway's user.
    pub gateway: String,
    /// authd's user.
    pub authd: String,
}

/// `[assertion]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Assertion {
    /// authd's public key.
    pub key: PathBuf,
}

/// What its directories are called: the program's name, without doorward's before it.
fn short<P: Program>() -> &'static str {
    P::NAME.strip_prefix("doorward-").unwrap_or(P::NAME)
}

impl<P: Program> Default for Config<P> {
    fn default() -> Self {
        Self {
            user: P::NAME.to_owned(),
            state_dir: PathBuf::from("/var/lib/doorward").join(short::<P>()),
            log: log::Settings::default(),
            sandbox: sandbox::Settings::default(),
            audit: Audit::default(),
            socket: Socket::default(),
            peers: PeerNames::default(),
            assertion: Assertion::default(),
            settings: P::Settings::default(),
        }
    }
}

impl Default for Audit {
    fn default() -> Self {
        Self { file: None, reads: true }
    }
}

impl<P: Program> Default for Socket<P> {
    fn default() -> Self {
        let name = short::<P>();
        Self { path: format!("/run/doorward/{name}/{name}.sock").into(), of: PhantomData }
    }
}

impl Default for PeerNames {
    fn default() -> Self {
        Self { gateway: "doorward-gateway".into(), authd: "doorward-authd".into() }
    }
}

impl Default for Assertion {
    fn default() -> Self {
        Self { key: "/run/doorward/authd/assertion.pub".into() }
    }
}

impl<P: Program> Config<P> {
    /// What must hold beyond the syntax. Touches nothing.
    pub(crate) fn check(&self) -> Result<(), Misconfigured> {
        for (key, path) in [
            ("state_dir", &self.state_dir),
            ("socket.path", &self.socket.path),
            ("assertion.key", &self.assertion.key),
        ] {
            if !path.is_absolute() {
                return Err(Misconfigured::at(key, "must be an absolute path"));
            }
        }
        self.audit_settings().check()?;
        P::check(&self.settings)
    }

    /// Where its records go; None: nowhere.
    pub(crate) fn audit_place(&self) -> Option<Place> {
        self.audit_settings().place(&self.state_dir)
    }

    fn audit_settings(&self) -> audit::Settings {
        audit::Settings { file: self.audit.file.clone() }
    }
}
