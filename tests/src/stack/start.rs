//! How a stack is put together: directories, configuration, service files, accounts, uids.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use super::{Listening, Stack, Uids, activation};
use crate::accounts::{self, Accounts, PREFIX, Service};
use crate::cast::{Cast, FULL, LIMITED};
use crate::daemon::{Daemon, Plan};
use crate::options::{Options, Pam, set_default};
use crate::pam::{self, Wrapper};
use crate::programs::{for_any_uid, programs};
use crate::{leftovers, skip};

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Where everything of a stack lies.
struct Layout<'a> {
    root: &'a Path,
}

impl Layout<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("the temporary directory has a UTF-8 name").to_owned()
    }

    fn make(&self, name: &str, mode: u32, owner: Option<u32>) {
        let path = self.path(name);
        fs::create_dir_all(&path).expect("a directory in ours");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod of our directory");
        chown(&path, owner, owner).expect("chown of our directory");
    }
}

impl Stack {
    fn new_dir() -> (TempDir, u32) {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        leftovers::purge();
        // Short: a socket's name has room for 107 bytes. With our pid, for `purge`.
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let dir = tempfile::Builder::new().prefix(&prefix).tempdir().expect("a temporary directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod of our directory");
        (dir, number)
    }

    /// The whole stack under one unprivileged uid.
    pub(super) fn wrapped(options: &Options, wrapper: &Wrapper) -> Self {
        let (dir, number) = Self::new_dir();
        let layout = Layout { root: dir.path() };
        let other = skip::is_root()
            .then(|| *accounts::unused_uids(1, number).first().expect("an unused uid below 65,000"));
        let own = other.unwrap_or_else(|| rustix::process::geteuid().as_raw());
        chown(dir.path(), other, other).expect("chown of our directory");
        for name in [
            "bin",
            "lib",
            "log",
            "notify",
            "nss",
            "remember",
            "services",
            "run/pam",
            "run/authd",
            "run/certd",
        ] {
            layout.make(name, 0o755, other);
        }
        for name in ["run", "state", "subsystems.d"] {
            layout.make(name, 0o755, other);
        }
        for name in ["state/authd", "state/certd", "state/gateway"] {
            layout.make(name, 0o700, other);
        }
        let service = format!("{PREFIX}{}n{number}", std::process::id());
        let cast = Cast::new("", &layout.text("remember"));
        let module = pam::compile_module(&layout.path("lib"));
        let passdb = layout.path("nss/passdb");
        fs::write(&passdb, pam::passdb(&cast, &service)).expect("a file in our directory");
        let text = pam::service(&cast, &module, &wrapper.rest(&passdb));
        let file = layout.path("services").join(&service);
        fs::write(&file, text).expect("a file in our directory");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("chmod of our file");
        chown(&file, other, other).expect("chown of our file");
        let (passwd, group) = accounts::write_files(&cast, "", own, &layout.path("nss"));

        let bin = layout.path("bin");
        let mut guard = Self::guard_plan(&layout, &service, own, options);
        guard.program = for_any_uid(&programs().wrapped_guard, &bin);
        guard.arguments.push("--worker".into());
        guard.arguments.push(path_text(&for_any_uid(&programs().wrapped_worker, &bin)));
        guard.environment = vec![
            ("LD_PRELOAD".into(), path_text(&pam::compile_confdir(&layout.path("lib")))),
            ("PAM_WRAPPER".into(), "1".into()),
            ("PAM_WRAPPER_SERVICE_DIR".into(), layout.text("services")),
        ];
        let uids = Uids { certd: own, authd: own, gateway: own };
        // libnss-wrapper reads its files inside authd, where they are out of reach like any other.
        let mut options = options.clone();
        set_default(&mut options.authd, "sandbox.read", vec![layout.text("nss")]);
        let options = &options;
        let [mut certd, mut authd, mut gateway] = Self::service_plans(&layout, options, uids, "");
        authd.environment = vec![
            ("LD_PRELOAD".into(), path_text(&wrapper.nss)),
            ("NSS_WRAPPER_PASSWD".into(), path_text(&passwd)),
            ("NSS_WRAPPER_GROUP".into(), path_text(&group)),
        ];
        if options.wall_clock {
            for plan in [&mut certd, &mut authd, &mut gateway] {
                give_wall_clock(plan, &layout);
            }
        }
        for plan in [&mut guard, &mut certd, &mut authd, &mut gateway] {
            plan.uid = other;
        }
        Self::run(dir, options.pam, service, cast, uids, [guard, certd, authd, gateway], None)
    }

    /// Each program as it is installed: the guard root, the others started as root and dropping it.
    pub(super) fn real(options: &Options) -> Self {
        let (dir, number) = Self::new_dir();
        let layout = Layout { root: dir.path() };
        let ids = accounts::unused_uids(3, number);
        let &[certd, authd, gateway] = ids.as_slice() else { panic!("no three unused uids below 65,000") };
        let uids = Uids { certd, authd, gateway };
        for name in ["bin", "lib", "log", "notify", "remember", "run", "state", "subsystems.d"] {
            layout.make(name, 0o755, None);
        }
        for name in ["run/pam", "run/authd", "run/certd"] {
            layout.make(name, 0o755, None);
        }
        layout.make("state/certd", 0o700, Some(certd));
        layout.make("state/authd", 0o700, Some(authd));
        layout.make("state/gateway", 0o700, Some(gateway));
        let service = format!("{PREFIX}{}n{number}", std::process::id());
        let prefix = format!("{PREFIX}{}", std::process::id());
        let mut cast = Cast::new(&prefix, &layout.text("remember"));
        let module = pam::compile_module(&layout.path("lib"));
        let text = pam::service(&cast, &module, pam::UNIX);
        let accounts = Accounts::share(&mut cast, &prefix);
        let file = Service::create(&service, &text);

        let mut guard = Self::guard_plan(&layout, &service, uids.authd, options);
        guard.program.clone_from(&programs().guard);
        guard.arguments.push("--worker".into());
        guard.arguments.push(path_text(&programs().worker));
        let plans = if options.activated {
            let (options, [at_certd, at_authd, at_gateway]) = activation::open(dir.path(), options, uids);
            let [mut certd, mut authd, mut gateway] = Self::service_plans(&layout, &options, uids, &prefix);
            (certd.sockets, certd.uid) = (at_certd, Some(uids.certd));
            (authd.sockets, authd.uid) = (at_authd, Some(uids.authd));
            (gateway.sockets, gateway.uid) = (at_gateway, Some(uids.gateway));
            // As the unit has it.
            authd.alone();
            if options.gateway_alone {
                gateway.alone();
            }
            [guard, certd, authd, gateway]
        } else {
            let [certd, authd, gateway] = Self::service_plans(&layout, options, uids, &prefix);
            [guard, certd, authd, gateway]
        };
        Self::run(dir, options.pam, service, cast, uids, plans, Some((file, accounts)))
    }

    fn guard_plan(layout: &Layout<'_>, service: &str, authd_uid: u32, options: &Options) -> Plan {
        let uid = authd_uid.to_string();
        let mut arguments: Vec<String> =
            ["--listen", &layout.text("run/pam/pam.sock"), "--socket-owner", &uid]
                .into_iter()
                .chain(["--allow-uid", &uid, "--service", service])
                .map(str::to_owned)
                .collect();
        arguments.extend(options.guard.iter().cloned());
        Self::plan(layout, "doorward-pam-guard", PathBuf::new(), arguments)
    }

    fn service_plans(layout: &Layout<'_>, options: &Options, uids: Uids, prefix: &str) -> [Plan; 3] {
        let mut certd = options.certd.clone();
        set_default(&mut certd, "user", uids.certd.to_string());
        set_default(&mut certd, "state_dir", layout.text("state/certd"));
        set_default(&mut certd, "log.level", "debug");
        set_default(&mut certd, "socket.path", layout.text("run/certd/certd.sock"));
        set_default(&mut certd, "socket.authd_path", layout.text("run/certd/authd.sock"));
        set_default(&mut certd, "peers.gateway", uids.gateway.to_string());
        set_default(&mut certd, "peers.authd", uids.authd.to_string());
        set_default(&mut certd, "assertion.key", layout.text("run/authd/assertion.pub"));
        let mut authd = options.authd.clone();
        set_default(&mut authd, "user", uids.authd.to_string());
        set_default(&mut authd, "state_dir", layout.text("state/authd"));
        set_default(&mut authd, "log.level", "debug");
        set_default(&mut authd, "socket.path", layout.text("run/authd/authd.sock"));
        set_default(&mut authd, "socket.peer_path", layout.text("run/authd/peer.sock"));
        set_default(&mut authd, "socket.assertion_key", layout.text("run/authd/assertion.pub"));
        set_default(&mut authd, "peers.gateway", uids.gateway.to_string());
        set_default(&mut authd, "peers.gateway_socket", layout.text("run/gateway.sock"));
        // The gateway is given whatever port is free.
        set_default(&mut authd, "peers.gateway_ports", vec![0]);
        set_default(&mut authd, "certd.socket", layout.text("run/certd/authd.sock"));
        set_default(&mut authd, "certd.user", uids.certd.to_string());
        set_default(&mut authd, "pam.socket", layout.text("run/pam/pam.sock"));
        set_default(&mut authd, "access.full_groups", vec![format!("{prefix}{FULL}")]);
        set_default(&mut authd, "access.limited_groups", vec![format!("{prefix}{LIMITED}")]);
        set_default(&mut authd, "subsystems.directory", layout.text("subsystems.d"));
        let mut gateway = options.gateway.clone();
        set_default(&mut gateway, "user", uids.gateway.to_string());
        set_default(&mut gateway, "state_dir", layout.text("state/gateway"));
        set_default(&mut gateway, "log.level", "debug");
        set_default(&mut gateway, "listen.tls", vec!["127.0.0.1:0".to_owned()]);
        set_default(&mut gateway, "listen.token", vec!["127.0.0.1:0".to_owned()]);
        set_default(&mut gateway, "listen.token_plain", vec!["127.0.0.1:0".to_owned()]);
        set_default(&mut gateway, "subsystems.directory", layout.text("subsystems.d"));
        set_default(&mut gateway, "listen.unix", layout.text("run/gateway.sock"));
        set_default(&mut gateway, "authd.socket", layout.text("run/authd/authd.sock"));
        set_default(&mut gateway, "authd.peer_socket", layout.text("run/authd/peer.sock"));
        set_default(&mut gateway, "authd.user", uids.authd.to_string());
        set_default(&mut gateway, "certd.socket", layout.text("run/certd/certd.sock"));
        set_default(&mut gateway, "certd.user", uids.certd.to_string());
        // Never the host's.
        set_default(&mut gateway, "channels.file", layout.text("channels.toml"));
        let channels = toml::Table::from_iter([("channels".to_owned(), options.channels.clone().into())]);
        fs::write(layout.path("channels.toml"), channels.to_string()).expect("a file in our directory");
        let mode = fs::Permissions::from_mode(0o644);
        fs::set_permissions(layout.path("channels.toml"), mode).expect("chmod of our file");
        let plan = |name, program: &Path, table: &toml::Table| {
            let file = layout.path(&format!("{name}.toml"));
            fs::write(&file, table.to_string()).expect("a file in our directory");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("chmod of our file");
            let arguments = vec!["-f".into(), "-c".into(), path_text(&file)];
            Self::plan(layout, name, for_any_uid(program, &layout.path("bin")), arguments)
        };
        [
            plan("doorward-certd", &programs().certd, &certd),
            plan("doorward-authd", &programs().authd, &authd),
            plan("doorward-gateway", &programs().gateway, &gateway),
        ]
    }

    fn plan(layout: &Layout<'_>, name: &'static str, program: PathBuf, arguments: Vec<String>) -> Plan {
        Plan {
            name,
            program,
            arguments,
            environment: Vec::new(),
            uid: None,
            sockets: Vec::new(),
            log: layout.path("log").join(name),
            notify: layout.path("notify"),
        }
    }

    fn run(
        dir: TempDir,
        pam: Pam,
        service: String,
        cast: Cast,
        uids: Uids,
        plans: [Plan; 4],
        accounts: Option<(Service, Arc<Accounts>)>,
    ) -> Self {
        for file in ["channels.toml", "doorward-certd.toml", "doorward-authd.toml", "doorward-gateway.toml"] {
            // A service takes its configuration from root or from its own uid only.
            let owner = plans.first().and_then(|plan| plan.uid);
            chown(dir.path().join(file), owner, owner).expect("chown of our file");
        }
        let daemons: Vec<Daemon> = plans.into_iter().map(Daemon::start).collect();
        let listening = read_listening(dir.path());
        Self { dir, pam, service, cast, uids, daemons, sysinfo: None, accounts, listening }
    }
}

/// Where the seconds are that a stack's wall clock is ahead of the machine's.
pub(super) const WALL_CLOCK: &str = "lib/wallclock";

/// Beside what it loads already.
fn give_wall_clock(plan: &mut Plan, layout: &Layout<'_>) {
    let file = layout.path(WALL_CLOCK);
    if !file.exists() {
        fs::write(&file, 0_i64.to_ne_bytes()).expect("a file in our directory");
    }
    let library = path_text(&pam::compile_wallclock(&layout.path("lib")));
    let loaded = plan.environment.iter().position(|(name, _)| name == "LD_PRELOAD");
    let loaded = loaded.map(|at| plan.environment.remove(at).1);
    let all = loaded.into_iter().chain([library]).collect::<Vec<_>>().join(":");
    plan.environment.push(("LD_PRELOAD".into(), all));
    plan.environment.push(("WALLCLOCK".into(), path_text(&file)));
}

pub(super) fn read_listening(dir: &Path) -> Listening {
    let file = dir.join("state/gateway/listening.json");
    let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}: {text}", file.display()))
}

pub(super) fn path_text(path: &Path) -> String {
    path.to_str().expect("paths of programs are UTF-8").to_owned()
}
