//! A place for one daemon, and the daemon that runs there.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// As long as any of this may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Whom a daemon of root becomes.
pub(crate) const SERVICE: u32 = 41_003;

/// A place for one daemon, and what it says there.
pub(crate) struct Place {
    directory: tempfile::TempDir,
    notify: UnixDatagram,
}

impl Place {
    pub(crate) fn new() -> Place {
        let directory = tempfile::tempdir().expect("a directory");
        // The service may have another uid.
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).expect("open");
        let path = directory.path().join("notify");
        let notify = UnixDatagram::bind(&path).expect("bound");
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o777)).expect("open");
        notify.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Place { directory, notify }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes the configuration: a user that root may become, a socket, and what is added.
    pub(crate) fn configure(&self, more: &str) -> PathBuf {
        let user = if is_root() { SERVICE } else { rustix::process::geteuid().as_raw() };
        let text = format!("user = \"{user}\"\nsocket = {:?}\n{more}\n", self.path("socket"));
        self.write(&text)
    }

    pub(crate) fn write(&self, text: &str) -> PathBuf {
        let path = self.path("fixture.toml");
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).expect("set");
        path
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(&std::env::current_exe().expect("this program"), arguments)
    }

    /// Another program, which starts this one in the end.
    pub(crate) fn command_of(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("DOORWARD_TEST_DAEMON", "1")
            .env("NOTIFY_SOCKET", self.path("notify"))
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs to the end.
    pub(crate) fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let Output { status, stdout, stderr } = self.command(arguments).output().expect("ran");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (status.code(), text(stdout), text(stderr))
    }

    /// Starts in the foreground and waits until it is ready.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        self.start_with(arguments, Stdio::null())
    }

    pub(crate) fn start_with(&self, arguments: &[&str], stdin: Stdio) -> Running {
        let running = self.spawn(arguments, stdin);
        assert_eq!(self.told(), "READY=1\n");
        running
    }

    /// Starts it and does not wait.
    pub(crate) fn spawn(&self, arguments: &[&str], stdin: Stdio) -> Running {
        let config = self.path("fixture.toml");
        let mut all = vec!["-f", "-c", config.to_str().expect("text")];
        all.extend(arguments);
        let mut command = self.command(&all);
        command.stdin(stdin);
        Running(Some(command.spawn().expect("started")))
    }

    /// Starts it, whatever the command is, and waits until it is ready.
    pub(crate) fn start_command(&self, mut command: Command) -> Running {
        let running = Running(Some(command.spawn().expect("started")));
        assert_eq!(self.told(), "READY=1\n");
        running
    }

    /// Waits until the daemon tells its manager that a reload is over.
    pub(crate) fn reloaded(&self) {
        let told = self.told();
        assert!(told.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{told}");
        assert_eq!(self.told(), "READY=1\n");
    }

    /// The next thing that the daemon tells its manager.
    pub(crate) fn told(&self) -> String {
        let mut buffer = [0; 256];
        let length = self.notify.recv(&mut buffer).expect("told in time");
        String::from_utf8(buffer[..length].to_vec()).expect("text")
    }

    /// What the daemon knows about itself, and its uid as its client sees it.
    pub(crate) fn status(&self) -> (Status, u32) {
        let mut stream = UnixStream::connect(self.path("socket")).expect("connected");
        let mut text = String::new();
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.read_to_string(&mut text).expect("read");
        let uid = rustix::net::sockopt::socket_peercred(&stream).expect("the kernel answers").uid;
        (Status(text), uid.as_raw())
    }
}

pub(crate) struct Status(String);

impl Status {
    pub(crate) fn line(&self, key: &str) -> String {
        let line = self.0.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.expect("the kernel tells").split_whitespace().collect::<Vec<_>>().join(" ")
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.line("Pid").parse().expect("a number")).expect("a process")
    }
}

/// A daemon in the foreground; killed if the test forgets it.
pub(crate) struct Running(Option<Child>);

impl Running {
    pub(crate) fn signal(&self, signal: Signal) {
        let child = self.0.as_ref().expect("running");
        kill_process(Pid::from_child(child), signal).expect("sent");
    }

    /// Waits until it is its own program and holds hangups back, which is the first thing that it does,
    /// or has got so far that it handles them.
    pub(crate) fn await_own_signals(&self) {
        let path = format!("/proc/{}/status", self.0.as_ref().expect("running").id());
        loop {
            let status = Status(std::fs::read_to_string(&path).expect("it runs"));
            // Bit 0 is signal 1.
            let has = |line| u64::from_str_radix(&status.line(line), 16).is_ok_and(|set| set & 1 == 1);
            if has("SigBlk") || has("SigCgt") {
                return;
            }
            std::thread::yield_now();
        }
    }

    /// Its stdin, if that is a pipe.
    pub(crate) fn stdin(&mut self) -> Option<std::process::ChildStdin> {
        self.0.as_mut().and_then(|child| child.stdin.take())
    }

    /// Waits for its end: exit code and log.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let child = self.0.take().expect("running");
        let output = child.wait_with_output().expect("ended");
        (output.status.code(), String::from_utf8(output.stderr).expect("text"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}
