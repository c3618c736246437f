//! A listener in a scratch directory, fake workers, connections, and a way to see that nobody is left.
//!
//! Every wait has a deadline, which a test that fails runs into.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType, connect, recv,
    send, shutdown, socket_with, socketpair,
};
use rustix::process::{Pid, Signal, geteuid, kill_process};

pub const GUARD: &str = env!("CARGO_BIN_EXE_doorward-pam-guard");

/// Far above anything that shall happen, so that only a hang reaches it.
const DEADLINE: Duration = Duration::from_secs(30);

/// A directory for one test.
pub struct Scratch(tempfile::TempDir);

impl Scratch {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A fake worker: a shell script. If [`Self::watch`] was called before, it holds that FIFO open as
    /// descriptor 3, and so does everything that it starts.
    pub fn worker(&self, script: &str) -> PathBuf {
        let path = self.path("worker");
        let fifo = self.path("alive");
        let hold = if fifo.exists() { format!("exec 3>{}\n", fifo.display()) } else { String::new() };
        // Written under another name: a descriptor that is open for writing, and copied by a fork of
        // another test at this moment, would make exec answer "text file busy".
        let made = Command::new("install")
            .args(["-m", "755", "/dev/stdin"])
            .arg(&path)
            .stdin(Stdio::piped())
            .spawn()
            .and_then(|mut child| {
                let mut input = child.stdin.take().expect("a pipe");
                std::io::Write::write_all(&mut input, format!("#!/bin/sh\n{hold}{script}\n").as_bytes())?;
                drop(input);
                child.wait()
            })
            .expect("install runs");
        assert!(made.success());
        path
    }

    /// From now on, see when the last process that came out of a worker is gone.
    pub fn watch(&self) -> Gone {
        let fifo = self.path("alive");
        if !fifo.exists() {
            let made = Command::new("mkfifo").arg(&fifo).status().expect("mkfifo runs");
            assert!(made.success());
        }
        let (tell, told) = channel();
        std::thread::spawn(move || {
            let mut lines = String::new();
            // Opens when the first writer does, ends when the last one is gone.
            let read = fs::File::open(&fifo).and_then(|mut file| file.read_to_string(&mut lines));
            let _ = tell.send(read.map(|_| lines));
        });
        Gone(told)
    }
}

pub struct Gone(Receiver<std::io::Result<String>>);

impl Gone {
    pub fn wait(self) {
        self.0.recv_timeout(DEADLINE).expect("a process is left").expect("the FIFO is readable");
    }
}

/// The program in its listening role.
pub struct Listener {
    child: Child,
    socket: PathBuf,
}

impl Listener {
    /// Started, and ready. Options given here replace the defaults.
    pub fn start(scratch: &Scratch, worker: &Path, options: &[&str]) -> Self {
        Self::start_by(Command::new(GUARD), scratch, worker, options)
    }

    pub fn start_with_ignored_signals(scratch: &Scratch, worker: &Path, options: &[&str]) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' HUP INT QUIT PIPE ALRM CHLD USR1 TSTP; exec \"$@\"", "sh", GUARD]);
        command.env("SECRET", "must not reach the worker");
        Self::start_by(command, scratch, worker, options)
    }

    fn start_by(mut command: Command, scratch: &Scratch, worker: &Path, options: &[&str]) -> Self {
        let notify = scratch.path("notify");
        let _ = fs::remove_file(&notify);
        let readiness = UnixDatagram::bind(&notify).expect("a new name");
        readiness.set_read_timeout(Some(DEADLINE)).expect("a deadline");
        let socket = scratch.path("run/pam.sock");
        let child = configure(&mut command, &socket, worker, options)
            .env("NOTIFY_SOCKET", &notify)
            .spawn()
            .expect("the listener starts");
        let listener = Self { child, socket };
        let mut message = [0; 64];
        let length = readiness.recv(&mut message).expect("READY=1");
        assert_eq!(&message[..length], b"READY=1");
        listener
    }

    /// Starts it where it must fail; what it said.
    pub fn fails(scratch: &Scratch, worker: &Path) -> String {
        let output = configure(&mut Command::new(GUARD), &scratch.path("run/pam.sock"), worker, &[])
            .output()
            .expect("the listener starts");
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).expect("text")
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    pub fn connect(&self) -> Connection {
        connect_to(&self.socket)
    }

    /// SIGTERM, then its exit status.
    pub fn stop(mut self) -> ExitStatus {
        self.terminate();
        self.child.wait().expect("our child")
    }

    fn terminate(&self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.terminate();
            let _ = self.child.wait();
        }
    }
}

/// systemd's half of a `doorward-pam.socket`: one guard for each connection.
pub struct Activator {
    child: Child,
    socket: PathBuf,
}

impl Activator {
    /// Started, and listening; `None` where there is no such program.
    pub fn start(scratch: &Scratch, worker: &Path) -> Option<Self> {
        let socket = scratch.path("pam.sock");
        let mut child = Command::new("systemd-socket-activate")
            .args(["--accept", "--inetd", "--seqpacket", "--listen"])
            .args([socket.as_os_str(), OsStr::new(GUARD), OsStr::new("--allow-owner-of"), socket.as_os_str()])
            .arg("--worker")
            .arg(worker)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .ok()?;
        let mut said = std::io::BufReader::new(child.stderr.take().expect("a pipe"));
        let mut line = String::new();
        std::io::BufRead::read_line(&mut said, &mut line).expect("text");
        assert!(line.contains("Listening on"), "{line}");
        // It says more, and must not find the pipe closed.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Some(Self { child, socket })
    }

    pub fn connect(&self) -> Connection {
        connect_to(&self.socket)
    }
}

impl Drop for Activator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn connect_to(path: &Path) -> Connection {
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .expect("a socket");
    connect(&socket, &SocketAddrUnix::new(path).expect("a short path")).expect("it listens");
    Connection(socket)
}

fn configure<'a>(
    command: &'a mut Command,
    socket: &Path,
    worker: &Path,
    options: &[&str],
) -> &'a mut Command {
    let uid = geteuid().as_raw().to_string();
    command.arg("--listen").arg(socket).arg("--worker").arg(worker);
    for (name, default) in [("--socket-owner", &uid), ("--allow-uid", &uid)] {
        if !options.contains(&name) {
            command.args([OsStr::new(name), OsStr::new(default)]);
        }
    }
    command.args(options)
}

/// authd's end of a conversation.
pub struct Connection(OwnedFd);

impl Connection {
    /// Two ends without a listener.
    pub fn pair() -> (Self, OwnedFd) {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .expect("a pair");
        (Self(ours), theirs)
    }

    /// The next packet; `None` at end of file.
    pub fn receive(&self) -> Option<String> {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        let deadline = Timespec::try_from(DEADLINE).expect("a short time");
        assert_eq!(poll(&mut fds, Some(&deadline)), Ok(1), "no packet and no end");
        let mut packet = [0; 4096];
        match recv(&self.0, &mut packet[..], RecvFlags::empty()) {
            Ok((0, _)) | Err(rustix::io::Errno::CONNRESET) => None,
            Ok((length, _)) => Some(String::from_utf8(packet[..length].to_vec()).expect("text")),
            Err(error) => panic!("recv: {error}"),
        }
    }

    pub fn send(&self, packet: &str) {
        send(&self.0, packet.as_bytes(), SendFlags::NOSIGNAL).expect("the worker reads");
    }

    pub fn half_close(&self) {
        shutdown(&self.0, Shutdown::Write).expect("connected");
    }
}
