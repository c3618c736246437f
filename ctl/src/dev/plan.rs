//! What `dev` starts, with which files and under whom: decided first, done later.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use crate::{
    dev::accounts::{Account, Accounts},
    error::Error,
    program,
};

/// The address of a Unix socket has 108 bytes with its end; a service binds under a temporary name that
/// is somewhat longer than the final one.
const SOCKET_PATH_MAX: usize = 107 - 24;

/// A service ends when its stdin does, of which we hold the other end: not even `kill -9` of this
/// process leaves one behind.
const STOP_AT_EOF: &str = "--stop-at-eof";

/// The services, in the order in which they start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    Guard,
    Certd,
    Authd,
    Sysinfo,
    Gateway,
}

impl Service {
    pub(super) const ALL: [Self; 5] = [Self::Guard, Self::Certd, Self::Authd, Self::Sysinfo, Self::Gateway];

    /// The name of its program.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Guard => "doorward-pam-guard",
            Self::Certd => "doorward-certd",
            Self::Authd => "doorward-authd",
            Self::Sysinfo => "doorward-sysinfo",
            Self::Gateway => "doorward-gateway",
        }
    }
}

/// Where everything is.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) base: PathBuf,
}

impl Layout {
    /// A layout below a directory whose name is not too long for sockets.
    pub(super) fn new(base: &Path) -> Result<Self, Error> {
        let layout = Self { base: base.to_owned() };
        let longest =
            Service::ALL.map(|service| layout.notify_socket(service)).into_iter().chain(layout.sockets());
        if base.to_str().is_none() {
            return Err(Error::Usage(format!("{} is no UTF-8 name", base.display())));
        }
        if longest.map(|path| path.as_os_str().len()).max() > Some(SOCKET_PATH_MAX) {
            return Err(Error::Usage(format!("{} is too long a name for sockets below it", base.display())));
        }
        Ok(layout)
    }

    fn sockets(&self) -> [PathBuf; 7] {
        [
            self.gateway_socket(),
            self.authd_socket(),
            self.peer_socket(),
            self.certd_socket(),
            self.certd_authd_socket(),
            self.pam_socket(),
            self.sysinfo_socket(),
        ]
    }

    pub(super) fn gateway_socket(&self) -> PathBuf {
        self.run().join("gateway.sock")
    }

    pub(super) fn authd_socket(&self) -> PathBuf {
        self.run().join("authd/authd.sock")
    }

    pub(super) fn peer_socket(&self) -> PathBuf {
        self.run().join("authd/peer.sock")
    }

    pub(super) fn assertion_key(&self) -> PathBuf {
        self.run().join("authd/assertion.pub")
    }

    pub(super) fn certd_socket(&self) -> PathBuf {
        self.run().join("certd/certd.sock")
    }

    pub(super) fn certd_authd_socket(&self) -> PathBuf {
        self.run().join("certd/authd.sock")
    }

    pub(super) fn pam_socket(&self) -> PathBuf {
        self.run().join("pam/pam.sock")
    }

    pub(super) fn sysinfo_socket(&self) -> PathBuf {
        self.run().join("sysinfo/sysinfo.sock")
    }

    /// Where subsystems are registered.
    pub(super) fn subsystems(&self) -> PathBuf {
        self.base.join("subsystems.d")
    }

    /// Who may do what on channels.
    pub(super) fn channels(&self) -> PathBuf {
        self.base.join("channels.toml")
    }

    pub(super) fn certd_state(&self) -> PathBuf {
        self.base.join("state/certd")
    }

    pub(super) fn authd_state(&self) -> PathBuf {
        self.base.join("state/authd")
    }

    pub(super) fn gateway_state(&self) -> PathBuf {
        self.base.join("state/gateway")
    }

    pub(super) fn sysinfo_state(&self) -> PathBuf {
        self.base.join("state/sysinfo")
    }

    pub(super) fn listening(&self) -> PathBuf {
        self.gateway_state().join("listening.json")
    }

    pub(super) fn config(&self, service: Service) -> PathBuf {
        self.base.join(format!("{}.toml", service.name().trim_start_matches("doorward-")))
    }

    pub(super) fn log(&self, service: Service) -> PathBuf {
        self.logs().join(format!("{}.log", service.name().trim_start_matches("doorward-")))
    }

    pub(super) fn notify_socket(&self, service: Service) -> PathBuf {
        self.notify().join(format!("{}.sock", service.name().trim_start_matches("doorward-")))
    }

    pub(super) fn run(&self) -> PathBuf {
        self.base.join("run")
    }

    pub(super) fn logs(&self) -> PathBuf {
        self.base.join("log")
    }

    pub(super) fn notify(&self) -> PathBuf {
        self.base.join("notify")
    }
}

/// The programs to run.
#[derive(Debug, Clone)]
pub(super) struct Programs {
    pub(super) guard: PathBuf,
    pub(super) worker: PathBuf,
    pub(super) certd: PathBuf,
    pub(super) authd: PathBuf,
    pub(super) sysinfo: PathBuf,
    pub(super) gateway: PathBuf,
}

impl Programs {
    /// Looks beside `own`, the program that runs now, then where a package puts them.
    pub(super) fn find(own: &Path, guard: Option<PathBuf>, worker: Option<PathBuf>) -> Result<Self, Error> {
        let places = program::Programs::of(own);
        let find = |name: &str| {
            places.path(name).map_err(|missing| {
                Error::Failed(format!("{missing}: build it with `cargo build --workspace --bins`"))
            })
        };
        Ok(Self {
            guard: guard.map_or_else(|| find(Service::Guard.name()), Ok)?,
            worker: worker.map_or_else(|| find("doorward-pam-worker"), Ok)?,
            certd: find(Service::Certd.name())?,
            authd: find(Service::Authd.name())?,
            sysinfo: find(Service::Sysinfo.name())?,
            gateway: find(Service::Gateway.name())?,
        })
    }
}

/// Everything that is decided before anything is made.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) layout: Layout,
    pub(super) accounts: Accounts,
    pub(super) programs: Programs,
    /// The TLS port; 0 leaves it to the system.
    pub(super) port: u16,
    /// The token API's, likewise.
    pub(super) token_port: u16,
    /// The socket of a Redis that carries channels.
    pub(super) redis: Option<PathBuf>,
    /// A further group with limited access.
    pub(super) access_group: Option<String>,
    /// How long a refusal takes, if not as long as authd has it.
    pub(super) refusal_delay_ms: Option<u32>,
}

impl Plan {
    pub(super) fn program(&self, service: Service) -> &Path {
        match service {
            Service::Guard => &self.programs.guard,
            Service::Certd => &self.programs.certd,
            Service::Authd => &self.programs.authd,
            Service::Sysinfo => &self.programs.sysinfo,
            Service::Gateway => &self.programs.gateway,
        }
    }

    pub(super) fn account(&self, service: Service) -> &Account {
        match service {
            Service::Guard => &self.accounts.guard,
            Service::Certd => &self.accounts.certd,
            Service::Authd => &self.accounts.authd,
            Service::Sysinfo => &self.accounts.sysinfo,
            Service::Gateway => &self.accounts.gateway,
        }
    }

    pub(super) fn arguments(&self, service: Service) -> Vec<OsString> {
        match service {
            Service::Guard => {
                let authd = OsString::from(self.accounts.authd.uid.to_string());
                let mut arguments = vec!["--listen".into(), self.layout.pam_socket().into_os_string()];
                arguments.extend(["--socket-owner".into(), authd.clone(), "--allow-uid".into(), authd]);
                arguments.extend(["--worker".into(), self.programs.worker.clone().into_os_string()]);
                arguments.push(STOP_AT_EOF.into());
                arguments
            }
            Service::Certd | Service::Authd | Service::Sysinfo | Service::Gateway => {
                vec![
                    "--foreground".into(),
                    STOP_AT_EOF.into(),
                    "--config-file".into(),
                    self.layout.config(service).into_os_string(),
                ]
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A plan for root in a made-up directory.
    pub(in crate::dev) fn plan() -> Plan {
        let account = |uid| Account { uid, gid: uid + 1, name: None };
        let program = |name: &str| Path::new("/programs").join(name);
        Plan {
            layout: Layout::new(Path::new("/run/doorward-dev-x")).expect("a short name"),
            accounts: Accounts {
                guard: account(0),
                certd: account(61_100),
                authd: account(61_200),
                sysinfo: account(61_400),
                gateway: account(61_300),
            },
            programs: Programs {
                guard: program("guard"),
                worker: program("worker"),
                certd: program("certd"),
                authd: program("authd"),
                sysinfo: program("sysinfo"),
                gateway: program("gateway"),
            },
            port: 0,
            token_port: 0,
            redis: None,
            access_group: None,
            refusal_delay_ms: None,
        }
    }

    #[test]
    fn the_guard_listens_for_authd_alone() {
        let arguments = plan().arguments(Service::Guard).join(std::ffi::OsStr::new(" "));
        assert_eq!(
            arguments,
            "--listen /run/doorward-dev-x/run/pam/pam.sock --socket-owner 61200 --allow-uid 61200 \
             --worker /programs/worker --stop-at-eof"
        );
    }

    #[test]
    fn the_others_stay_in_the_foreground_with_a_file_of_their_own() {
        let arguments = plan().arguments(Service::Gateway).join(std::ffi::OsStr::new(" "));
        assert_eq!(arguments, "--foreground --stop-at-eof --config-file /run/doorward-dev-x/gateway.toml");
    }

    #[test]
    fn a_name_that_leaves_no_room_for_sockets_is_refused() {
        let longest = Path::new("/x/run/sysinfo/sysinfo.sock").as_os_str().len();
        let fits = "x".repeat(1 + SOCKET_PATH_MAX - longest);
        assert!(Layout::new(&Path::new("/").join(&fits)).is_ok());
        assert!(matches!(Layout::new(&Path::new("/").join(fits + "x")), Err(Error::Usage(_))));
    }

    #[test]
    fn programs_are_found_beside_ours_or_where_packages_put_them() {
        let root = tempfile::tempdir().expect("a directory");
        let own = root.path().join("bin/doorward");
        for (directory, name) in [
            ("bin", "doorward-authd"),
            ("bin", "doorward-certd"),
            ("libexec/doorward", "doorward-authd"),
            ("sbin", "doorward-gateway"),
            ("sbin", "doorward-sysinfo"),
            ("libexec/doorward", "doorward-pam-guard"),
        ] {
            let directory = root.path().join(directory);
            std::fs::create_dir_all(&directory).expect("a directory");
            std::fs::write(directory.join(name), "").expect("a file");
        }
        let error = Programs::find(&own, None, None).expect_err("the worker is missing");
        assert!(error.to_string().starts_with("doorward-pam-worker is in none of"), "{error}");
        let programs = Programs::find(&own, None, Some("/worker".into())).expect("all are there");
        assert_eq!(programs.authd, root.path().join("bin/doorward-authd"));
        assert!(programs.gateway.ends_with("sbin/doorward-gateway"));
        assert_eq!(programs.worker, Path::new("/worker"));
    }
}
