//! A client that is not ours: the Python package `websockets`, unmodified.

use std::process::Stdio;
use std::{env, io};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::client::{PATIENCE, Received};
use crate::keys::Key;

/// One connection, held by a Python process.
#[derive(Debug)]
pub(crate) struct PythonClient {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

/// A Python that has the package `websockets`; `None`: there is none.
pub fn interpreter() -> Option<String> {
    interpreter_with(&["websockets"])
}

/// A Python that has all these packages; `None`: there is none.
pub fn interpreter_with(packages: &[&str]) -> Option<String> {
    let named = env::var("DOORWARD_PYTHON").ok();
    let candidates = named.into_iter().chain(["/usr/bin/python3", "python3"].map(str::to_owned));
    let import = format!("import {}", packages.join(", "));
    candidates.into_iter().find(|python| {
        let tried = std::process::Command::new(python)
            .args(["-c", &import])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        tried.is_ok_and(|status| status.success())
    })
}

impl PythonClient {
    /// Connects to `host:port` over TLS, or to a Unix socket by its path; `own` is the client's key whose
    /// certificate it shows.
    pub(crate) fn connect(python: &str, address: &str, path: &str, own: Option<&Key>) -> io::Result<Self> {
        let mut command = Command::new(python);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/python/relay.py")).arg(address).arg(path);
        if let Some(key) = own {
            key.certificate();
            command.arg(key.certificate_path()).arg(key.private_path());
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let input = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let output = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Self { child, input, output: BufReader::new(output).lines() })
    }

    pub(crate) async fn send(&mut self, kind: &str, text: &str) -> io::Result<()> {
        let line = format!("{}\n", json!({ kind: text }));
        self.input.write_all(line.as_bytes()).await
    }

    pub(crate) async fn receive(&mut self) -> Received {
        let line = timeout(PATIENCE, self.output.next_line()).await.expect("something from Python in time");
        let line = line.expect("Python's output").expect("Python says how a connection ends");
        let value: Value = serde_json::from_str(&line).expect("Python prints JSON");
        match value["text"].as_str() {
            Some(text) => Received::Json(serde_json::from_str(text).expect("the gateway sends JSON")),
            None => Received::Closed(value["closed"].as_u64().and_then(|code| code.try_into().ok())),
        }
    }

    pub(crate) async fn close(mut self) {
        let _ = self.input.write_all(b"{\"close\": true}\n").await;
        while let Received::Json(_) = self.receive().await {}
        drop(self.input);
        let ended = timeout(PATIENCE, self.child.wait()).await.expect("Python ends in time");
        assert!(ended.is_ok_and(|status| status.success()), "Python failed");
    }
}
