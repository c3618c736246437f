//! One running program of a stack: started, waited for until it is ready, stopped, killed.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long a program may take to get ready or to stop; far more than it needs.
const DEADLINE: Duration = Duration::from_secs(20);

/// What is needed to start it, also again.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    /// The uid (and gid) to start it under, when it is not that of the tests.
    pub(crate) uid: Option<u32>,
    /// What it listens on, opened before it: as a service manager keeps them, for every start. At most three.
    pub(crate) sockets: Vec<Arc<OwnedFd>>,
    pub(crate) log: PathBuf,
    /// The directory for the socket on which it says that it is ready.
    pub(crate) notify: PathBuf,
}

impl Plan {
    /// In a network namespace of its own. Root makes it, so the uid is changed after that.
    pub(crate) fn alone(&mut self) {
        let uid = self.uid.take().expect("started under a uid").to_string();
        let words = ["--net", "setpriv", "--reuid", &uid, "--regid", &uid, "--clear-groups", "--"];
        let mut arguments: Vec<String> = words.map(str::to_owned).into();
        arguments.push(self.program.display().to_string());
        arguments.append(&mut self.arguments);
        self.arguments = arguments;
        self.program = "/usr/bin/unshare".into();
    }
}

#[derive(Debug)]
pub(crate) struct Daemon {
    plan: Plan,
    child: Child,
    killed: bool,
    /// Open as long as the program runs: it also tells that it reloads and stops.
    notify: UnixDatagram,
}

impl Daemon {
    /// Starts it and waits until it says that it is ready.
    pub(crate) fn start(plan: Plan) -> Self {
        let path = plan.notify.join(format!("{}.notify", plan.name));
        let _ = fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).expect("a socket to be notified on");
        // The program has dropped its privileges by the time it writes here.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("chmod of the socket");
        let child = spawn(&plan, &path);
        let again = socket.try_clone().expect("a second descriptor");
        let mut daemon = Self { child, plan, killed: false, notify: again };
        daemon.await_ready(&socket);
        daemon
    }

    fn await_ready(&mut self, socket: &UnixDatagram) {
        let deadline = Instant::now() + DEADLINE;
        // Short waits, only to notice when the program dies before it is ready.
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        let mut buffer = [0_u8; 1024];
        loop {
            match socket.recv(&mut buffer) {
                Ok(length) => {
                    let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                    if text.lines().any(|line| line == "READY=1") {
                        return;
                    }
                }
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                Err(e) => panic!("waiting for {}: {e}", self.plan.name),
            }
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                panic!("{} ended before it was ready: {status}\n{}", self.plan.name, self.log_text());
            }
            assert!(Instant::now() < deadline, "{} did not get ready:\n{}", self.plan.name, self.log_text());
        }
    }

    /// Asks it to reload, and waits until it says that this is over.
    pub(crate) fn reload(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
        kill(pid, Signal::SIGHUP).expect("a child of ours");
        let socket = self.notify.try_clone().expect("a second descriptor");
        self.await_ready(&socket);
    }

    pub(crate) fn name(&self) -> &'static str {
        self.plan.name
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log_path(&self) -> &Path {
        &self.plan.log
    }

    pub(crate) fn log_text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.plan.log).unwrap_or_default()).into_owned()
    }

    /// The last lines of its log; all of it when `DOORWARD_LOGS` is set.
    pub(crate) fn log_end(&self) -> String {
        let text = self.log_text();
        let lines: Vec<&str> = text.lines().collect();
        let from =
            if std::env::var_os("DOORWARD_LOGS").is_some() { 0 } else { lines.len().saturating_sub(12) };
        lines.get(from..).unwrap_or_default().join("\n")
    }

    /// Starts it again under strace, which writes these calls of it to `file`.
    pub(crate) fn start_traced(&mut self, calls: &str, file: &Path) {
        let plain = self.plan.clone();
        let mut plan = plain.clone();
        // -D: the program stays our child, and strace becomes its grandchild.
        plan.arguments =
            ["-D", "-f", "-q", "-a", "1", "-e", "signal=none", "-e", &format!("trace={calls}"), "-o"]
                .into_iter()
                .map(str::to_owned)
                .chain([file.display().to_string(), plain.program.display().to_string()])
                .chain(plan.arguments)
                .collect();
        plan.program = "/usr/bin/strace".into();
        assert!(!self.runs(), "{} still runs", plan.name);
        *self = Self::start(plan);
        self.plan = plain;
    }

    pub(crate) fn program(&self) -> &Path {
        &self.plan.program
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().expect("a child of ours").is_none()
    }

    /// Kills it as `kill -9` does, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.killed = true;
        self.child.kill().expect("a child of ours");
        self.child.wait().expect("a child of ours");
    }

    /// Closes what it was given to listen on, as the service manager does at its own end.
    pub(crate) fn close_sockets(&mut self) {
        self.plan.sockets.clear();
    }

    /// Asks it to stop; the exit status, or what went wrong.
    pub(crate) fn stop(&mut self) -> Result<(), String> {
        if !self.killed && self.runs() {
            let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
            kill(pid, Signal::SIGTERM).map_err(|e| format!("{}: {e}", self.plan.name))?;
        }
        match wait(&mut self.child, DEADLINE) {
            Some(status) if status.success() || self.killed => Ok(()),
            Some(status) => Err(format!("{} ended with {status}\n{}", self.plan.name, self.log_text())),
            None => {
                self.kill();
                Err(format!("{} did not stop when asked to\n{}", self.plan.name, self.log_text()))
            }
        }
    }

    /// Starts it and kills it as soon as it is so, ready or not.
    pub(crate) fn kill_in_start(&mut self, what: &str, so: impl Fn() -> bool) {
        assert!(!self.runs(), "{} still runs", self.plan.name);
        self.child = spawn(&self.plan, &self.plan.notify.join(format!("{}.notify", self.plan.name)));
        let deadline = Instant::now() + DEADLINE;
        while !so() {
            assert!(Instant::now() < deadline, "{}: no {what}", self.plan.name);
        }
        assert!(self.runs(), "{} ended by itself before {what}:\n{}", self.plan.name, self.log_text());
        self.kill();
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
        kill(pid, signal).expect("a child of ours");
    }

    /// Starts it again after it was stopped or killed.
    pub(crate) fn start_again(&mut self) {
        assert!(!self.runs(), "{} still runs", self.plan.name);
        *self = Self::start(self.plan.clone());
    }
}

fn spawn(plan: &Plan, notify: &Path) -> Child {
    let log = File::options().create(true).append(true).open(&plan.log).expect("a log file");
    let mut command = Command::new(&plan.program);
    command
        .args(&plan.arguments)
        .env_clear()
        .envs(plan.environment.iter().map(|(name, value)| (name, value)))
        .env("NOTIFY_SOCKET", notify)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a second descriptor"))
        .stderr(log);
    if !plan.sockets.is_empty() {
        pass_sockets(&mut command, plan);
    }
    if let Some(uid) = plan.uid {
        // With a uid, std also drops the supplementary groups.
        command.uid(uid).gid(uid);
    }
    command.spawn().unwrap_or_else(|e| panic!("{}: {e}", plan.program.display()))
}

/// Makes `command` a shell that moves the sockets to where systemd puts them, and becomes the program: so
/// the announcement can name the pid.
fn pass_sockets(command: &mut Command, plan: &Plan) {
    let log = File::options().append(true).open(&plan.log).expect("a log file");
    let mut given: Vec<OwnedFd> =
        plan.sockets.iter().map(|socket| socket.try_clone().expect("a second descriptor")).collect();
    let (names, moved) = match given.len() {
        2 => ("one:other", "3<&0 4<&1"),
        // Its uid is changed after the shell: this one opens the log.
        3 => ("one:other:third", "3<&0 4<&1 5<&2 2>>\"$log\""),
        count => panic!("{count} sockets for a service"),
    };
    let count = given.len();
    given.push(log.into());
    let script = format!(
        "export LISTEN_PID=$$ LISTEN_FDS={count} LISTEN_FDNAMES={names}; log=$1; shift
        exec \"$0\" \"$@\" {moved} </dev/null >/dev/null"
    );
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(script).arg(&plan.program).arg(&plan.log).args(&plan.arguments).env_clear();
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut given = given.into_iter();
    let mut next = || given.next().expect("two sockets, and one more or the log");
    shell.current_dir("/").stdin(next()).stdout(next()).stderr(next());
    *command = shell;
}

/// Waits for a child, at most so long.
pub(crate) fn wait(child: &mut Child, most: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + most;
    loop {
        if let Some(status) = child.try_wait().expect("a child of ours") {
            return Some(status);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
