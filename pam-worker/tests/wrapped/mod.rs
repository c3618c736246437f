//! The real worker and the real libpam over stacks in a scratch directory: no root.
//!
//! libpam is told the directory by the worker's test build; libpam-wrapper is not loaded, since two
//! processes that load it at the same moment may read each other's stacks. Its modules are used.
//!
//! The test is the guard here. Every wait has a deadline, which a test that fails runs into.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use doorward_proto::pam::v1 as wire;
use prost::Message as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, recv, send, shutdown, socketpair,
};

pub const WORKER: &str = env!("CARGO_BIN_EXE_doorward-pam-worker");

/// Far above anything that shall happen, so that only a hang reaches it.
const DEADLINE: Duration = Duration::from_secs(30);

/// What is needed beside the worker; `None`, with a word about it, where it is missing and may be.
pub fn tools() -> Option<&'static Tools> {
    static TOOLS: OnceLock<Option<Tools>> = OnceLock::new();
    TOOLS.get_or_init(Tools::find).as_ref()
}

pub struct Tools {
    /// libpam-wrapper's own modules.
    pub modules: PathBuf,
    /// pam_doorward_test.so, built here.
    pub test_module: PathBuf,
}

impl Tools {
    fn find() -> Option<Self> {
        let found = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"]
            .map(|directory| Path::new(directory).join("pam_wrapper"))
            .into_iter()
            .find(|path| path.join("pam_matrix.so").exists());
        let header = Path::new("/usr/include/security/pam_modules.h").exists();
        let (Some(modules), true) = (found, header) else {
            assert!(
                std::env::var_os("DOORWARD_NO_SKIP").is_none(),
                "install libpam-wrapper and libpam0g-dev"
            );
            eprintln!("SKIPPED: libpam-wrapper or libpam0g-dev is missing");
            return None;
        };
        Some(Self { modules, test_module: build_test_module() })
    }
}

fn build_test_module() -> PathBuf {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/pam-modules/pam_doorward_test.c");
    let module = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pam_doorward_test.so");
    // Under a name of our own first: another test program may be doing the same.
    let own = module.with_extension(std::process::id().to_string());
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-o"])
        .args([own.as_os_str(), source.as_ref(), "-lpam".as_ref()])
        .status()
        .expect("cc runs");
    assert!(built.success());
    fs::rename(&own, &module).expect("the same directory");
    module
}

/// A directory of service files.
pub struct Stack {
    tools: &'static Tools,
    directory: tempfile::TempDir,
}

impl Stack {
    /// Service `doorward` with these lines. `TEST` is the test module, `MATRIX` and `CHATTY` are
    /// libpam-wrapper's, `HERE` is the directory.
    pub fn new(tools: &'static Tools, lines: &str) -> Self {
        let stack = Self { tools, directory: tempfile::tempdir().expect("a temporary directory") };
        stack.write("doorward", lines);
        // libpam reads it at every start, and everything in it would be a wrong success.
        stack.write("other", "auth required TEST\naccount required TEST\npassword required TEST\n");
        stack
    }

    /// The usual one: these arguments in all groups.
    pub fn with(tools: &'static Tools, arguments: &str) -> Self {
        let groups = ["auth", "account", "password"];
        Self::new(tools, &groups.map(|group| format!("{group} required TEST {arguments}\n")).concat())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn write(&self, name: &str, lines: &str) {
        let text = lines
            .replace("TEST", &self.tools.test_module.to_string_lossy())
            .replace("MATRIX", &self.tools.modules.join("pam_matrix.so").to_string_lossy())
            .replace("CHATTY", &self.tools.modules.join("pam_chatty.so").to_string_lossy())
            .replace("HERE", &self.directory.path().to_string_lossy());
        fs::write(self.path(name), text).expect("our directory");
        fs::set_permissions(self.path(name), PermissionsExt::from_mode(0o644)).expect("our file");
    }

    pub fn command(&self, socket: OwnedFd) -> Command {
        let mut command = Command::new(WORKER);
        command
            .args(["--service", "doorward", "--guard-pid", &std::process::id().to_string()])
            .env_clear()
            .env("PAM_WRAPPER_SERVICE_DIR", self.directory.path())
            .stdin(Stdio::from(socket))
            .stderr(Stdio::piped());
        command
    }

    /// A worker that waits for its `Start`.
    pub fn worker(&self) -> Worker {
        Self::spawn(|theirs| self.command(theirs))
    }

    /// The same below a shell with this script: `$1` is the worker, `$2` the directory.
    pub fn worker_below(&self, script: &str) -> Worker {
        Self::spawn(|theirs| {
            let mut command = Command::new("sh");
            command.args(["-c", script, "sh", WORKER]).arg(self.directory.path()).stdin(Stdio::from(theirs));
            command
        })
    }

    fn spawn(command: impl FnOnce(OwnedFd) -> Command) -> Worker {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .expect("a pair");
        let mut command = command(theirs);
        let child = command.spawn().expect("the worker starts");
        // The command holds the worker's end, and so end of file back.
        drop(command);
        Worker { socket: ours, child }
    }

    /// A login of `bob` that has begun.
    pub fn login(&self) -> Worker {
        let worker = self.worker();
        worker.start(start());
        worker
    }

    /// Account management for `bob` and its verdict.
    pub fn account(&self) -> wire::Verdict {
        let worker = self.worker();
        worker.start(wire::Start { task: wire::Task::Account.into(), ..start() });
        worker.verdict()
    }
}

pub fn start() -> wire::Start {
    wire::Start {
        user: "bob".to_owned(),
        rhost: "192.0.2.7".to_owned(),
        tty: "doorward".to_owned(),
        task: wire::Task::Login.into(),
    }
}

pub struct Worker {
    socket: OwnedFd,
    pub child: Child,
}

impl Worker {
    pub fn start(&self, start: wire::Start) {
        self.send(wire::to_worker::Kind::Start(start));
    }

    pub fn send(&self, kind: wire::to_worker::Kind) {
        self.send_bytes(&wire::ToWorker { kind: Some(kind) }.encode_to_vec());
    }

    pub fn send_bytes(&self, packet: &[u8]) {
        send(&self.socket, packet, SendFlags::NOSIGNAL).expect("the worker reads");
    }

    pub fn answer(&self, answers: &[&str]) {
        let answers = answers.iter().map(|&answer| answer.to_owned()).collect();
        self.send(wire::to_worker::Kind::Answers(wire::Answers { answers }));
    }

    pub fn half_close(&self) {
        shutdown(&self.socket, Shutdown::Write).expect("connected");
    }

    /// The next packet; `None` at end of file.
    pub fn receive(&self) -> Option<wire::from_worker::Kind> {
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
        let deadline = Timespec::try_from(DEADLINE).expect("a short time");
        assert_eq!(poll(&mut fds, Some(&deadline)), Ok(1), "no packet and no end");
        let mut packet = [0; 8192];
        match recv(&self.socket, &mut packet[..], RecvFlags::empty()) {
            Ok((0, _)) | Err(rustix::io::Errno::CONNRESET) => None,
            Ok((length, _)) => {
                assert!(length <= doorward_proto::PAM_PACKET_MAX);
                let message = wire::FromWorker::decode(&packet[..length]).expect("a message");
                Some(message.kind.expect("a kind"))
            }
            Err(error) => panic!("recv: {error}"),
        }
    }

    /// The next round as it is.
    pub fn whole_round(&self) -> wire::Round {
        match self.receive() {
            Some(wire::from_worker::Kind::Round(round)) => round,
            other => panic!("no round but {other:?}"),
        }
    }

    /// Its messages.
    pub fn messages(&self) -> Vec<wire::Message> {
        self.whole_round().messages
    }

    /// The next round, as `H:text` for hidden, `V:` visible, `I:` info, `E:` error.
    pub fn round(&self) -> Vec<String> {
        let letter = |message: &wire::Message| match message.style() {
            wire::Style::Hidden => 'H',
            wire::Style::Visible => 'V',
            wire::Style::Info => 'I',
            wire::Style::Error => 'E',
            wire::Style::Unspecified => panic!("no style"),
        };
        self.messages().iter().map(|message| format!("{}:{}", letter(message), message.text)).collect()
    }

    /// Exactly this round, then these answers.
    pub fn round_and_answer(&self, expected: &[&str], answers: &[&str]) {
        assert_eq!(self.round(), expected);
        self.answer(answers);
    }

    /// The verdict, the last packet of a worker that then exits by itself.
    pub fn verdict(mut self) -> wire::Verdict {
        let verdict = match self.receive() {
            Some(wire::from_worker::Kind::Verdict(verdict)) => verdict,
            other => panic!("no verdict but {other:?}"),
        };
        assert_eq!(self.receive(), None);
        assert_eq!(self.child.wait().expect("our child").code(), Some(0));
        verdict
    }

    pub fn result(self) -> wire::Result {
        self.verdict().result()
    }

    /// No verdict: end of file is the next thing, and within its own time.
    pub fn gone(mut self) -> std::process::ExitStatus {
        let before = Instant::now();
        assert_eq!(self.receive(), None);
        let status = self.child.wait().expect("our child");
        assert!(before.elapsed() < DEADLINE);
        status
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
