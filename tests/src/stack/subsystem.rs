//! Subsystems beside a stack: real programs with a registration, that come and go while it runs.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::Stack;
use super::start::path_text;
use crate::daemon::{Daemon, Plan};
use crate::options::set_default;
use crate::programs::{for_any_uid, programs};
use crate::{accounts, leftovers, skip};

const SYSINFO: &str = "doorward-sysinfo";

/// doorward-fake-subsystem, until it is dropped: before its stack.
#[derive(Debug)]
pub struct Fake {
    command: PathBuf,
    uid: u32,
    socket: PathBuf,
    log: PathBuf,
    child: Child,
}

impl Stack {
    /// Starts doorward-sysinfo and registers it. The gateway takes it up soon after that.
    ///
    /// # Panics
    /// When it does not start.
    pub fn add_sysinfo(&mut self) {
        let uid = self.subsystem_uid();
        let real = self.accounts.is_some();
        let owned = skip::is_root().then_some(uid);
        // The state is the subsystem's, its socket's directory root's, as they are installed.
        self.make_directory("state/sysinfo", 0o700, owned);
        self.make_directory("run/sysinfo", 0o755, owned.filter(|_| !real));
        let text = |name: &str| path_text(&self.path(name));
        let mut table = toml::Table::new();
        set_default(&mut table, "user", uid.to_string());
        set_default(&mut table, "state_dir", text("state/sysinfo"));
        set_default(&mut table, "log.level", "debug");
        set_default(&mut table, "socket.path", text("run/sysinfo/sysinfo.sock"));
        set_default(&mut table, "peers.gateway", self.uids.gateway.to_string());
        set_default(&mut table, "peers.authd", self.uids.authd.to_string());
        set_default(&mut table, "assertion.key", text("run/authd/assertion.pub"));
        let file = self.path("doorward-sysinfo.toml");
        self.write_for_services(&file, &table);
        let plan = Plan {
            name: SYSINFO,
            program: for_any_uid(&programs().sysinfo, &self.path("bin")),
            arguments: vec!["-f".into(), "-c".into(), path_text(&file)],
            environment: Vec::new(),
            uid: owned.filter(|_| !real),
            sockets: Vec::new(),
            log: self.path("log").join(SYSINFO),
            notify: self.path("notify"),
        };
        self.sysinfo = Some(Daemon::start(plan));
        self.register_sysinfo("");
    }

    /// Registers doorward-sysinfo in a way that differs in these keys from what is installed.
    pub fn register_sysinfo(&self, keys: &str) {
        let usual =
            "namespace = 'sysadm'\nname = 'systemmanager'\nevents = ['system-state']\nlimited_acl = ['*']";
        self.register("sysinfo", usual, &self.path("run/sysinfo/sysinfo.sock"), keys);
    }

    /// Starts a subsystem that does what it is told, `test/fake`, and registers it with these keys.
    ///
    /// # Panics
    /// When it does not start.
    pub fn add_fake(&self, keys: &str) -> Fake {
        let uid = self.subsystem_uid();
        self.make_directory("run/fake", 0o755, skip::is_root().then_some(uid));
        let socket = self.path("run/fake/fake.sock");
        let command = for_any_uid(&programs().fake, &self.path("bin"));
        let log = self.path("log/fake");
        let child = spawn(&command, uid, &socket, &log);
        self.register("fake", "namespace = 'test'\nname = 'fake'", &socket, keys);
        Fake { command, uid, socket, log, child }
    }

    /// Takes a registration away: of `sysinfo` or `fake`.
    ///
    /// # Panics
    /// When there is none.
    pub fn unregister(&self, short: &str) {
        fs::remove_file(self.path(&format!("subsystems.d/{short}.toml"))).expect("registered");
    }

    /// The process of doorward-sysinfo.
    ///
    /// # Panics
    /// When it was not added.
    pub fn sysinfo_pid(&self) -> u32 {
        self.sysinfo.as_ref().expect("added").pid()
    }

    /// What doorward-sysinfo has logged.
    ///
    /// # Panics
    /// When it was not added.
    pub fn sysinfo_log(&self) -> String {
        self.sysinfo.as_ref().expect("added").log_text()
    }

    /// The program that runs as doorward-sysinfo.
    ///
    /// # Panics
    /// When it was not added.
    pub fn sysinfo_program(&self) -> &Path {
        self.sysinfo.as_ref().expect("added").program()
    }

    /// Kills doorward-sysinfo as `kill -9` does.
    ///
    /// # Panics
    /// When it was not added.
    pub fn kill_sysinfo(&mut self) {
        self.sysinfo.as_mut().expect("added").kill();
    }

    /// Starts it again after that.
    ///
    /// # Panics
    /// When it was not added, or does not start.
    pub fn start_sysinfo_again(&mut self) {
        self.sysinfo.as_mut().expect("added").start_again();
    }

    /// Whom subsystems run as.
    pub fn subsystem_uid(&self) -> u32 {
        if self.accounts.is_none() {
            return self.uids.gateway;
        }
        // None of the services' own, which no account has either.
        let own = [self.uids.certd, self.uids.authd, self.uids.gateway];
        let unused = accounts::unused_uids(8, self.uids.gateway).into_iter();
        unused.rev().find(|uid| !own.contains(uid)).expect("an unused uid")
    }

    /// The audit records of doorward-sysinfo that match all of these fields.
    ///
    /// # Panics
    /// When one is no JSON.
    pub fn sysinfo_records(&self, fields: &[(&str, &str)]) -> Vec<Value> {
        super::matching(&self.sysinfo_audit(), fields)
    }

    fn sysinfo_audit(&self) -> String {
        fs::read_to_string(self.path("state/sysinfo/audit.jsonl")).unwrap_or_default()
    }

    /// What goes wrong with it at the end.
    pub(super) fn finish_sysinfo(&mut self) -> Vec<String> {
        let mut wrong = Vec::new();
        let Some(daemon) = &mut self.sysinfo else { return wrong };
        wrong.extend(daemon.stop().err());
        let text = daemon.log_text();
        wrong.extend(crate::logs::complaints(SYSINFO, &text));
        if text.contains("panicked at") {
            wrong.push(format!("{SYSINFO} panicked:\n{text}"));
        }
        wrong.extend(crate::logs::audit_complaints(SYSINFO, &self.sysinfo_audit()));
        wrong
    }

    fn register(&self, short: &str, usual: &str, socket: &Path, keys: &str) {
        let read = |text: &str| text.parse::<toml::Table>().expect("TOML");
        let mut table = read(usual);
        table.insert("socket".into(), path_text(socket).into());
        table.insert("user".into(), self.subsystem_uid().to_string().into());
        table.extend(read(keys));
        // At once: nobody reads half of it.
        let new = self.path(&format!("subsystems.d/{short}.new"));
        self.write_for_services(&new, &table);
        fs::rename(new, self.path(&format!("subsystems.d/{short}.toml"))).expect("a rename in our directory");
    }

    fn make_directory(&self, name: &str, mode: u32, owner: Option<u32>) {
        let path = self.path(name);
        fs::create_dir_all(&path).expect("a directory in ours");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod of our directory");
        chown(&path, owner, owner).expect("chown of our directory");
    }

    fn write_for_services(&self, file: &Path, table: &toml::Table) {
        fs::write(file, table.to_string()).expect("a file in our directory");
        fs::set_permissions(file, fs::Permissions::from_mode(0o644)).expect("chmod of our file");
        // A service takes what it reads from root or from its own uid only.
        let owner = (skip::is_root() && self.accounts.is_none()).then_some(self.uids.gateway);
        chown(file, owner, owner).expect("chown of our file");
    }
}

impl Fake {
    /// Starts it again, after it was told to crash.
    ///
    /// # Panics
    /// When it still runs, or does not start.
    pub fn start_again(&mut self) {
        let check = || match self.child.try_wait() {
            Ok(Some(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        };
        leftovers::wait_for("the end of the fake", Duration::from_secs(10), check).expect("it has ended");
        self.child = spawn(&self.command, self.uid, &self.socket, &self.log);
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed: a line for each thing that it did.
    pub fn printed(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        // It may have crashed, as it was told.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(command: &Path, uid: u32, socket: &Path, log: &Path) -> Child {
    let printed = File::options().create(true).append(true).open(log).expect("a file in our directory");
    let already = fs::read_to_string(log).unwrap_or_default().lines().filter(|line| *line == "ready").count();
    let mut spawned = Command::new(command);
    spawned.arg("--socket").arg(socket).stdin(Stdio::null()).stdout(printed);
    if skip::is_root() {
        spawned.uid(uid).gid(uid);
    }
    let child = spawned.spawn().expect("a program");
    let check = || match fs::read_to_string(log).unwrap_or_default() {
        text if text.lines().filter(|line| *line == "ready").count() > already => Ok(()),
        text => Err(text),
    };
    leftovers::wait_for("the fake to be ready", Duration::from_secs(10), check).expect("it is ready");
    child
}
