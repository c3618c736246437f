//! `certd.toml`: every key has a default, unknown ones are refused.

use std::path::PathBuf;

use doorward_launch::{Keys, Misconfigured, Takes, audit, log, sandbox};
use serde::{Deserialize, Serialize};

use crate::registry;

/// Every key, and when a change of it takes effect.
pub const KEYS: Keys = &[
    ("user", Takes::Restart),
    ("state_dir", Takes::Restart),
    ("log.level", Takes::Reload),
    ("log.file", Takes::Restart),
    ("audit.file", Takes::Restart),
    ("sandbox.landlock", Takes::Restart),
    ("sandbox.seccomp", Takes::Restart),
    ("sandbox.read", Takes::Restart),
    ("socket.path", Takes::Restart),
    ("socket.authd_path", Takes::Restart),
    ("peers.gateway", Takes::Restart),
    ("peers.authd", Takes::Restart),
    ("assertion.key", Takes::Restart),
    ("limits.keys_per_user", Takes::Reload),
    ("limits.keys_total", Takes::Reload),
    ("limits.challenges_total", Takes::Reload),
    ("limits.refusal_step_ms", Takes::Reload),
    ("policy.require_key_possession", Takes::Reload),
    ("policy.keys_for_root", Takes::Reload),
    ("trust.registration", Takes::Reload),
    ("trust.registration_by_loaded_certificate", Takes::Reload),
    ("trust.tls_certificate_login", Takes::Reload),
];

/// The whole file.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whom certd runs as when it is started by root.
    pub user: String,
    /// Where the registry is kept.
    pub state_dir: PathBuf,
    /// The log.
    pub log: log::Settings,
    /// What is taken from the running process.
    pub sandbox: sandbox::Settings,
    /// The audit records.
    pub audit: audit::Settings,
    /// Where certd is found.
    pub socket: Sockets,
    /// Who may call.
    pub peers: Peers,
    /// How authd's word is verified.
    pub assertion: Assertion,
    /// Bounds.
    pub limits: Limits,
    /// What is asked of keys.
    pub policy: Policy,
    /// What the gateway is believed.
    pub trust: Trust,
}

/// `[socket]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sockets {
    /// For the gateway and root.
    pub path: PathBuf,
    /// For authd.
    pub authd_path: PathBuf,
}

/// `[peers]`, by name or number.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Peers {
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

/// `[limits]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Keys of one user.
    pub keys_per_user: u32,
    /// Keys in all.
    pub keys_total: u32,
    /// Open challenges in all.
    pub challenges_total: usize,
    /// Refused proofs are answered at a whole multiple of this after they came.
    pub refusal_step_ms: u32,
}

/// `[policy]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Whether a key must be proven to be registered. Deployed SysAdm clients cannot.
    pub require_key_possession: bool,
    /// Whether root may have keys.
    pub keys_for_root: bool,
}

/// `[trust]`: the only things for which the gateway is believed.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Trust {
    /// By whose hand keys are registered.
    pub registration: Registration,
    /// A key may be registered because the gateway says that the client proved it in the TLS handshake.
    pub registration_by_loaded_certificate: bool,
    /// A user may log in because the gateway says so of his key.
    pub tls_certificate_login: TlsLogin,
}

/// `registration`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Registration {
    /// Users register through the gateway, which carries their sessions and could register for them.
    Gateway,
    /// Root registers for them, on certd's own socket. The gateway registers nothing.
    Root,
}

/// `tls_certificate_login`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsLogin {
    /// Nobody.
    Off,
    /// Not members of full-access groups.
    Limited,
    /// Everybody but root.
    All,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            user: "doorward-certd".into(),
            state_dir: "/var/lib/doorward/certd".into(),
            log: log::Settings::default(),
            sandbox: sandbox::Settings::default(),
            audit: audit::Settings::default(),
            socket: Sockets::default(),
            peers: Peers::default(),
            assertion: Assertion::default(),
            limits: Limits::default(),
            policy: Policy::default(),
            trust: Trust::default(),
        }
    }
}

impl Default for Sockets {
    fn default() -> Self {
        Self {
            path: "/run/doorward/certd/certd.sock".into(),
            authd_path: "/run/doorward/certd/authd.sock".into(),
        }
    }
}

impl Default for Peers {
    fn default() -> Self {
        Self { gateway: "doorward-gateway".into(), authd: "doorward-authd".into() }
    }
}

impl Default for Assertion {
    fn default() -> Self {
        Self { key: "/run/doorward/authd/assertion.pub".into() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { keys_per_user: 64, keys_total: 100_000, challenges_total: 10_000, refusal_step_ms: 250 }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self { require_key_possession: true, keys_for_root: false }
    }
}

impl Default for Trust {
    fn default() -> Self {
        Self {
            registration: Registration::Gateway,
            registration_by_loaded_certificate: true,
            tls_certificate_login: TlsLogin::Limited,
        }
    }
}

impl Config {
    /// What must hold beyond the syntax.
    ///
    /// # Errors
    /// [`Misconfigured`] names the key and says how to mend it.
    pub fn check(&self) -> Result<(), Misconfigured> {
        self.audit.check()?;
        let paths = [
            ("state_dir", &self.state_dir),
            ("socket.path", &self.socket.path),
            ("socket.authd_path", &self.socket.authd_path),
            ("assertion.key", &self.assertion.key),
        ];
        for (key, path) in paths {
            if !path.is_absolute() {
                return Err(Misconfigured::at(key, "must be an absolute path"));
            }
        }
        if self.socket.path == self.socket.authd_path {
            return Err(Misconfigured::at("socket.authd_path", "must be another socket than socket.path"));
        }
        let (per_user, total) = (self.limits.keys_per_user, self.limits.keys_total);
        if !(1..=1000).contains(&per_user) {
            return Err(Misconfigured::at("limits.keys_per_user", "must be from 1 to 1000"));
        }
        if !(per_user..=10_000_000).contains(&total) {
            let sentence = "must be from limits.keys_per_user to 10000000";
            return Err(Misconfigured::at("limits.keys_total", sentence));
        }
        if !(4..=1_000_000).contains(&self.limits.challenges_total) {
            return Err(Misconfigured::at("limits.challenges_total", "must be from 4 to 1000000"));
        }
        if !(1..=5000).contains(&self.limits.refusal_step_ms) {
            return Err(Misconfigured::at("limits.refusal_step_ms", "must be from 1 to 5000"));
        }
        Ok(())
    }

    /// The registry's bounds.
    pub fn registry_limits(&self) -> registry::Limits {
        registry::Limits { per_user: self.limits.keys_per_user, total: self.limits.keys_total }
    }
}

#[cfg(test)]
#[path = "../../packaging/etc/check.rs"]
mod example;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_has_every_key_with_its_default() {
        let text = include_str!("../../packaging/etc/certd.toml");
        example::check::<Config>(text, &[]);
    }

    fn read(text: &str) -> Result<Config, String> {
        let config: Config = toml::from_str(text).map_err(|error| error.to_string())?;
        config.check().map_err(|error| error.to_string())?;
        Ok(config)
    }

    #[test]
    fn an_empty_file_is_a_valid_configuration() {
        let config = read("").expect("valid");
        assert!(config.policy.require_key_possession && !config.policy.keys_for_root);
        assert_eq!(config.trust.registration, Registration::Gateway);
        assert_eq!(config.trust.tls_certificate_login, TlsLogin::Limited);
        assert_eq!(config.registry_limits(), registry::Limits { per_user: 64, total: 100_000 });
    }

    #[test]
    fn every_key_says_when_it_takes_effect() {
        assert_eq!(doorward_launch::unlisted(&Config::default(), KEYS), Vec::<String>::new());
    }

    #[test]
    fn every_key_can_be_set() {
        let config = read(
            "user = 'c'\nstate_dir = '/s'\n[log]\nlevel = 'debug'\n[socket]\npath = '/a'\nauthd_path = '/b'\n\
             [peers]\ngateway = '1'\nauthd = '2'\n[assertion]\nkey = '/k'\n\
             [limits]\nkeys_per_user = 1\nkeys_total = 2\nchallenges_total = 4\nrefusal_step_ms = 5\n\
             [policy]\nrequire_key_possession = false\nkeys_for_root = true\n\
             [trust]\nregistration = 'root'\nregistration_by_loaded_certificate = false\ntls_certificate_login = 'off'\n",
        )
        .expect("valid");
        assert_eq!(config.trust.tls_certificate_login, TlsLogin::Off);
        assert_eq!(config.trust.registration, Registration::Root);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_name() {
        for (text, named) in [
            ("usr = 'x'", "usr"),
            ("[policy]\nrequire_key_posession = false", "require_key_posession"),
            ("[trust]\ntls_certificate_login = 'yes'", "yes"),
            ("[trust]\nregistration = 'local'", "local"),
            ("state_dir = 'relative'", "state_dir"),
            ("[socket]\npath = '/a'\nauthd_path = '/a'", "socket.authd_path"),
            ("[limits]\nkeys_per_user = 0", "limits.keys_per_user"),
            ("[limits]\nkeys_total = 63", "limits.keys_total"),
            ("[limits]\nchallenges_total = 3", "limits.challenges_total"),
            ("[limits]\nrefusal_step_ms = 0", "limits.refusal_step_ms"),
        ] {
            let said = read(text).expect_err("refused");
            assert!(said.contains(named), "{text}: {said}");
        }
    }
}
