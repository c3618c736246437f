//! A redis-server of the test's own, on a Unix socket in a temporary directory.

#![allow(dead_code, reason = "the stack tests use it, too, and not all of it")]

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

/// One that runs. It is killed when this is dropped.
pub(crate) struct Redis {
    place: TempDir,
    arguments: Vec<String>,
    child: Child,
}

impl Redis {
    /// None, loudly, where there is no redis-server.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// With more of its arguments.
    pub(crate) fn start_with(arguments: &[&str]) -> Option<Self> {
        if Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_err() {
            assert!(std::env::var_os("DOORWARD_NO_SKIP").is_none(), "there is no redis-server");
            let _ = std::io::Write::write_all(&mut std::io::stderr(), b"SKIPPED: there is no redis-server\n");
            return None;
        }
        let place = TempDir::new().expect("a directory");
        // Other uids connect in the tests of the whole stack.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(place.path(), open).expect("ours");
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect::<Vec<_>>();
        let child = run(place.path(), &arguments);
        Some(Self { place, arguments, child })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.place.path().join("redis.sock")
    }

    /// As a crash would.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// After [`Redis::kill`].
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.child = run(self.place.path(), &self.arguments);
    }

    /// It answers nobody any more, or does again.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let done = Command::new("sh").args(["-c", &format!("kill -{signal} {pid}")]).status();
        assert!(done.expect("a shell").success());
    }

    /// redis-cli with these arguments, not started yet.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("redis-cli");
        command.arg("-s").arg(self.socket()).args(arguments).stdin(Stdio::null());
        command
    }

    /// What redis-cli answers.
    pub(crate) fn cli(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("redis-cli");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// The same with a last argument of any bytes.
    pub(crate) fn publish(&self, key: &str, payload: &[u8]) -> String {
        use std::io::Write;
        let mut command = self.command(&["-x", "PUBLISH", key]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("redis-cli");
        let mut input = child.stdin.take().expect("piped");
        input.write_all(payload).expect("written");
        drop(input);
        let output = child.wait_with_output().expect("it ends");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Returns when it serves.
fn run(place: &Path, arguments: &[String]) -> Child {
    let socket = place.join("redis.sock");
    let mut child = Command::new("redis-server")
        .args(["--port", "0", "--unixsocketperm", "777", "--save", "", "--appendonly", "no", "--unixsocket"])
        .arg(&socket)
        .arg("--dir")
        .arg(place)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let ready = lines.by_ref().map_while(Result::ok).any(|line| line.contains("ready to accept connections"));
    assert!(ready, "redis-server does not serve");
    // Read on, or it would stop when the pipe is full.
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    child
}
