//! The real programs in a directory of their own, from start to an end that leaves nothing.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use crate::accounts::{self, Accounts, PREFIX};
use crate::cast::{Cast, FULL, LIMITED, Person, Role};
use crate::daemon::{Daemon, Plan};
use crate::options::{Options, Pam, set_default};
use crate::pam::{self, Wrapper};
use crate::programs::{for_any_uid, programs};
use crate::{leftovers, logs, skip};

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// One of the programs of a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// doorward-pam-guard, listening.
    Guard,
    /// doorward-authd.
    Authd,
    /// doorward-gateway.
    Gateway,
}

/// Guard, authd and gateway, ready to be spoken to.
#[derive(Debug)]
pub struct Stack {
    dir: TempDir,
    pam: Pam,
    service: String,
    cast: Cast,
    authd_uid: u32,
    gateway_uid: u32,
    /// Guard, authd, gateway, in the order of their start.
    daemons: Vec<Daemon>,
    accounts: Option<Accounts>,
    listening: Listening,
}

/// What the gateway says of itself once it is ready.
#[derive(Debug, Clone, serde::Deserialize)]
struct Listening {
    tls: Vec<String>,
    fingerprint: String,
}

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
    /// Starts everything; `None` when this machine cannot (and that was said).
    ///
    /// # Panics
    /// When a program does not start.
    pub fn start(options: &Options) -> Option<Self> {
        match options.pam {
            Pam::Real if !skip::root("real PAM") => None,
            Pam::Real => Some(Self::real(options)),
            Pam::Wrapper => match Wrapper::find() {
                Some(wrapper) => Some(Self::wrapped(options, &wrapper)),
                None => {
                    skip::skipped("packages libpam-wrapper and libnss-wrapper are missing");
                    None
                }
            },
        }
    }

    fn new_dir() -> (TempDir, u32) {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // Short: a socket's name has room for 107 bytes.
        let dir = tempfile::Builder::new().prefix("dwt").tempdir().expect("a temporary directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod of our directory");
        (dir, number)
    }

    /// The whole stack under one unprivileged uid.
    fn wrapped(options: &Options, wrapper: &Wrapper) -> Self {
        let (dir, number) = Self::new_dir();
        let layout = Layout { root: dir.path() };
        let other = skip::is_root()
            .then(|| *accounts::unused_uids(1, number).first().expect("an unused uid below 65,000"));
        let own = other.unwrap_or_else(|| rustix::process::geteuid().as_raw());
        chown(dir.path(), other, other).expect("chown of our directory");
        for name in
            ["bin", "lib", "log", "notify", "nss", "remember", "services", "run/pam", "run/authd", "state"]
        {
            layout.make(name, 0o755, other);
        }
        layout.make("run", 0o755, other);
        for name in ["state/authd", "state/gateway"] {
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
        let (mut authd, mut gateway) = Self::service_plans(&layout, options, own, own, "");
        authd.environment = vec![
            ("LD_PRELOAD".into(), path_text(&wrapper.nss)),
            ("NSS_WRAPPER_PASSWD".into(), path_text(&passwd)),
            ("NSS_WRAPPER_GROUP".into(), path_text(&group)),
        ];
        for plan in [&mut guard, &mut authd, &mut gateway] {
            plan.uid = other;
        }
        Self::run(dir, options.pam, service, cast, (own, own), [guard, authd, gateway], None)
    }

    /// Each program as it is installed: the guard root, the others started as root and dropping it.
    fn real(options: &Options) -> Self {
        let (dir, number) = Self::new_dir();
        let layout = Layout { root: dir.path() };
        let ids = accounts::unused_uids(2, number);
        let &[authd_uid, gateway_uid] = ids.as_slice() else { panic!("no two unused uids below 65,000") };
        for name in ["bin", "lib", "log", "notify", "remember", "run", "run/pam", "run/authd", "state"] {
            layout.make(name, 0o755, None);
        }
        layout.make("state/authd", 0o700, Some(authd_uid));
        layout.make("state/gateway", 0o700, Some(gateway_uid));
        let service = format!("{PREFIX}{}n{number}", std::process::id());
        let prefix = format!("{PREFIX}{}", std::process::id());
        let mut cast = Cast::new(&prefix, &layout.text("remember"));
        let module = pam::compile_module(&layout.path("lib"));
        let text = pam::service(&cast, &module, pam::UNIX);
        let accounts = Accounts::create(&mut cast, &prefix, &service, &text);

        let bin = layout.path("bin");
        let mut guard = Self::guard_plan(&layout, &service, authd_uid, options);
        guard.program.clone_from(&programs().guard);
        guard.arguments.push("--worker".into());
        guard.arguments.push(path_text(&programs().worker));
        let (mut authd, mut gateway) = Self::service_plans(&layout, options, authd_uid, gateway_uid, &prefix);
        authd.program = for_any_uid(&authd.program, &bin);
        gateway.program = for_any_uid(&gateway.program, &bin);
        let uids = (authd_uid, gateway_uid);
        Self::run(dir, options.pam, service, cast, uids, [guard, authd, gateway], Some(accounts))
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

    fn service_plans(
        layout: &Layout<'_>,
        options: &Options,
        authd_uid: u32,
        gateway_uid: u32,
        prefix: &str,
    ) -> (Plan, Plan) {
        let mut authd = options.authd.clone();
        set_default(&mut authd, "user", authd_uid.to_string());
        set_default(&mut authd, "state_dir", layout.text("state/authd"));
        set_default(&mut authd, "log.level", "debug");
        set_default(&mut authd, "socket.path", layout.text("run/authd/authd.sock"));
        set_default(&mut authd, "socket.peer_path", layout.text("run/authd/peer.sock"));
        set_default(&mut authd, "socket.assertion_key", layout.text("run/authd/assertion.pub"));
        set_default(&mut authd, "peers.gateway", gateway_uid.to_string());
        set_default(&mut authd, "peers.gateway_socket", layout.text("run/gateway.sock"));
        set_default(&mut authd, "pam.socket", layout.text("run/pam/pam.sock"));
        set_default(&mut authd, "access.full_groups", vec![format!("{prefix}{FULL}")]);
        set_default(&mut authd, "access.limited_groups", vec![format!("{prefix}{LIMITED}")]);
        let mut gateway = options.gateway.clone();
        set_default(&mut gateway, "user", gateway_uid.to_string());
        set_default(&mut gateway, "state_dir", layout.text("state/gateway"));
        set_default(&mut gateway, "log.level", "debug");
        set_default(&mut gateway, "listen.tls", vec!["127.0.0.1:0".to_owned()]);
        set_default(&mut gateway, "listen.unix", layout.text("run/gateway.sock"));
        set_default(&mut gateway, "authd.socket", layout.text("run/authd/authd.sock"));
        set_default(&mut gateway, "authd.peer_socket", layout.text("run/authd/peer.sock"));
        set_default(&mut gateway, "authd.user", authd_uid.to_string());
        let plan = |name, program: &Path, table: &toml::Table| {
            let file = layout.path(&format!("{name}.toml"));
            fs::write(&file, table.to_string()).expect("a file in our directory");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("chmod of our file");
            let arguments = vec!["-f".into(), "-c".into(), path_text(&file)];
            Self::plan(layout, name, for_any_uid(program, &layout.path("bin")), arguments)
        };
        (
            plan("doorward-authd", &programs().authd, &authd),
            plan("doorward-gateway", &programs().gateway, &gateway),
        )
    }

    fn plan(layout: &Layout<'_>, name: &'static str, program: PathBuf, arguments: Vec<String>) -> Plan {
        Plan {
            name,
            program,
            arguments,
            environment: Vec::new(),
            uid: None,
            log: layout.path("log").join(name),
            notify: layout.path("notify"),
        }
    }

    fn run(
        dir: TempDir,
        pam: Pam,
        service: String,
        cast: Cast,
        (authd_uid, gateway_uid): (u32, u32),
        plans: [Plan; 3],
        accounts: Option<Accounts>,
    ) -> Self {
        for file in ["doorward-authd.toml", "doorward-gateway.toml"] {
            // A service takes its configuration from root or from its own uid only.
            let owner = plans.first().and_then(|plan| plan.uid);
            chown(dir.path().join(file), owner, owner).expect("chown of our file");
        }
        let daemons: Vec<Daemon> = plans.into_iter().map(Daemon::start).collect();
        let listening = read_listening(dir.path());
        Self { dir, pam, service, cast, authd_uid, gateway_uid, daemons, accounts, listening }
    }

    /// Everybody that has an account.
    pub fn cast(&self) -> &Cast {
        &self.cast
    }

    /// Somebody of the cast.
    pub fn person(&self, role: Role) -> &Person {
        self.cast.person(role)
    }

    /// Which PAM is behind it.
    pub fn pam(&self) -> Pam {
        self.pam
    }

    /// authd's uid.
    pub fn authd_uid(&self) -> u32 {
        self.authd_uid
    }

    /// The gateway's uid.
    pub fn gateway_uid(&self) -> u32 {
        self.gateway_uid
    }

    /// The address of the first TLS listener.
    ///
    /// # Panics
    /// When the gateway has none.
    pub fn tls_address(&self) -> &str {
        self.listening.tls.first().expect("a TLS listener")
    }

    /// The fingerprint of the gateway's key, as the gateway tells it.
    pub fn fingerprint(&self) -> &str {
        &self.listening.fingerprint
    }

    /// A path below the stack's directory: `run/gateway.sock`, `run/authd/authd.sock`,
    /// `run/authd/peer.sock`, `run/pam/pam.sock`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// All that a program has logged.
    pub fn log(&self, program: Program) -> String {
        self.daemon(program).log_text()
    }

    /// The pid of a program.
    pub fn pid(&self, program: Program) -> u32 {
        self.daemon(program).pid()
    }

    /// Kills a program as `kill -9` does.
    pub fn kill(&mut self, program: Program) {
        self.daemon_mut(program).kill();
    }

    /// Asks a program to stop, and waits until it has.
    ///
    /// # Panics
    /// When it does not, or says that it failed.
    pub fn stop(&mut self, program: Program) {
        self.daemon_mut(program).stop().expect("a clean end");
    }

    /// Starts a program that was stopped or killed.
    pub fn start_again(&mut self, program: Program) {
        self.daemon_mut(program).start_again();
        if program == Program::Gateway {
            self.listening = read_listening(self.dir.path());
        }
    }

    /// Lets `Role::Expired` have the old password again.
    pub fn forget_changed_passwords(&self) {
        let _ = fs::remove_file(self.path("remember/expired"));
    }

    /// Whether all three still run.
    pub fn runs(&mut self) -> bool {
        self.daemons.iter_mut().all(Daemon::runs)
    }

    /// The processes of PAM conversations: all that have this stack's service in their command line,
    /// the listening guard apart.
    pub fn conversations(&self) -> Vec<String> {
        let listener = format!("{} ", self.pid(Program::Guard));
        let found = leftovers::processes(&[&self.service]);
        found.into_iter().filter(|line| !line.starts_with(&listener)).collect()
    }

    /// Waits until so many processes of conversations are there.
    ///
    /// # Panics
    /// When they are not, after 10 s.
    pub fn await_conversations(&self, processes: usize) {
        let check = || match self.conversations() {
            there if there.len() >= processes => Ok(()),
            there => Err(format!("{there:?}")),
        };
        leftovers::wait_for("processes of a conversation", Duration::from_secs(10), check)
            .expect("they are there");
    }

    /// Waits until no process of any conversation is left.
    ///
    /// # Panics
    /// When some are, after `most`.
    pub fn await_no_conversations(&self, most: Duration) {
        let check = || match self.conversations() {
            left if left.is_empty() => Ok(()),
            left => Err(format!("{left:?}")),
        };
        leftovers::wait_for("no process of a conversation", most, check).expect("nothing remains");
    }

    /// Waits until a line with all these words is in a program's log, and returns it.
    ///
    /// # Panics
    /// When there is none after 10 s.
    pub fn await_log(&self, program: Program, words: &[&str]) -> String {
        let mut found = String::new();
        let check = || {
            let log = self.log(program);
            let line = log.lines().find(|line| words.iter().all(|word| line.contains(word)));
            line.map(|line| line.clone_into(&mut found))
                .ok_or_else(|| format!("no line with {words:?} in\n{log}"))
        };
        leftovers::wait_for("a log line", Duration::from_secs(10), check).expect("the line");
        found
    }

    fn daemon(&self, program: Program) -> &Daemon {
        self.daemons.get(program as usize).expect("guard, authd and gateway")
    }

    fn daemon_mut(&mut self, program: Program) -> &mut Daemon {
        self.daemons.get_mut(program as usize).expect("guard, authd and gateway")
    }

    /// Stops everything and looks at what is left: processes, sockets, secrets in logs.
    fn finish(&mut self) -> Result<(), String> {
        let mut wrong: Vec<String> = Vec::new();
        for daemon in self.daemons.iter_mut().rev() {
            wrong.extend(daemon.stop().err());
        }
        wrong.extend(leftovers::wait_until_none(self.dir.path(), &self.service).err());
        for daemon in &self.daemons {
            let text = daemon.log_text();
            let complaints = logs::complaints(daemon.name(), &text);
            // What modules print on the guard's side has no form, but holds no secret either.
            let is_guard = daemon.name() == "doorward-pam-guard";
            wrong.extend(complaints.into_iter().filter(|c| !is_guard || c.contains("a secret")));
            if text.contains("panicked at") {
                wrong.push(format!("{} panicked:\n{text}", daemon.name()));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for daemon in &self.daemons {
                eprintln!("--- the end of {} ---\n{}", daemon.log_path().display(), daemon.log_end());
            }
        }
        let finished = self.finish();
        // Accounts first: whatever is wrong, they must not stay.
        self.accounts.take();
        match finished {
            Err(wrong) if std::thread::panicking() => eprintln!("{wrong}"),
            Err(wrong) => panic!("{wrong}"),
            Ok(()) => {}
        }
    }
}

fn read_listening(dir: &Path) -> Listening {
    let file = dir.join("state/gateway/listening.json");
    let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}: {text}", file.display()))
}

fn path_text(path: &Path) -> String {
    path.to_str().expect("paths of programs are UTF-8").to_owned()
}
