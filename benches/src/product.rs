//! doorward itself, as it is installed: real programs, real uids, the system's PAM.

use std::{
    env, io,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use doorward_tests::{Client, Options, Pam, Program, Role, Stack};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command as TokioCommand},
};

use crate::client::{Door, Socket};

/// Where the tests' stack looks for programs.
const PROGRAMS: &str = "DOORWARD_BIN_DIR";

/// Builds the programs, optimised, and starts this one again with the place where they are.
///
/// # Errors
/// With the exit code of what was started, which is the end of this process.
pub(crate) fn with_programs() -> Result<(), ExitCode> {
    if env::var_os(PROGRAMS).is_some() {
        return Ok(());
    }
    let own = env::current_exe().unwrap_or_default();
    let beside = own.parent().unwrap_or(Path::new(".")).to_owned();
    let built = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .args(["build", "--release", "--locked", "--quiet", "--workspace", "--bins", "--target-dir"])
        .arg(beside.parent().unwrap_or(Path::new("target")))
        .status();
    if !built.is_ok_and(|status| status.success()) {
        eprintln!("doorward-bench: the programs cannot be built");
        return Err(ExitCode::FAILURE);
    }
    let again = Command::new(&own).args(env::args_os().skip(1)).env(PROGRAMS, beside).status();
    Err(match again.ok().and_then(|status| status.code()) {
        Some(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        None => ExitCode::FAILURE,
    })
}

/// The services, and a session of somebody with full access.
pub(crate) struct Product {
    pub(crate) stack: Stack,
    pub(crate) token: String,
}

impl Product {
    /// As shipped, with room for what many clients have, which here is one client's.
    pub(crate) async fn start() -> io::Result<Self> {
        Self::start_as(|options| options).await
    }

    /// The same with more of its configuration.
    pub(crate) async fn start_as(configured: impl FnOnce(Options) -> Options) -> io::Result<Self> {
        let options = Options::new(Pam::Real)
            .gateway("log.level", "info")
            .authd("log.level", "info")
            .certd("log.level", "info")
            .gateway("limits.connections", 20_000)
            .gateway("limits.connections_per_source", 20_000)
            .authd("pam.per_source", 64)
            .authd("pam.per_account", 64)
            .authd("sessions.per_user", 65_536)
            .authd("sessions.total", 1_048_576)
            .certd("limits.keys_per_user", 1_000)
            .certd("limits.keys_total", 200_000);
        let stack = Stack::start(&configured(options))
            .ok_or_else(|| io::Error::other("the services cannot be started here: run it as root"))?;
        let mut client = Client::unix(&stack).await;
        let token = client.login(stack.person(Role::Full)).await;
        let token = token.map_err(|code| io::Error::other(format!("the login failed: {code}")))?;
        // The session stays; a connection that is closed does not end it.
        drop(client);
        Ok(Self { stack, token })
    }

    pub(crate) fn door(&self) -> Door {
        Door::new(self.stack.tls_address())
    }

    pub(crate) fn pids(&self, programs: &[Program]) -> Vec<u32> {
        programs.iter().map(|program| self.stack.pid(*program)).collect()
    }

    /// Connections that hold the session.
    pub(crate) async fn sockets(&self, count: usize) -> io::Result<Vec<Socket>> {
        let door = self.door();
        let take_up = envelope("rpc", "auth_token", &format!(r#"{{"token":"{}"}}"#, self.token));
        let mut sockets = Vec::with_capacity(count);
        for _ in 0..count {
            let mut socket = door.websocket().await?;
            socket.succeed(&take_up).await?;
            sockets.push(socket);
        }
        Ok(sockets)
    }
}

/// A request as clients write it.
pub(crate) fn envelope(namespace: &str, name: &str, args: &str) -> String {
    format!(r#"{{"namespace":"{namespace}","name":"{name}","id":"1","args":{args}}}"#)
}

/// The args of a reply, as they were written.
pub(crate) fn args_of(reply: &str) -> io::Result<String> {
    #[derive(serde::Deserialize)]
    struct Reply<'a> {
        #[serde(borrow)]
        args: &'a serde_json::value::RawValue,
    }
    Ok(serde_json::from_str::<Reply<'_>>(reply)?.args.get().to_owned())
}

/// A floor that runs. It ends when this is dropped.
pub(crate) struct Floor {
    child: Child,
    pub(crate) address: String,
}

impl Floor {
    pub(crate) async fn start(kind: &str, arguments: &[String]) -> io::Result<Self> {
        let mut child = TokioCommand::new(env::current_exe()?)
            .args(["toy", kind])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let output = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let address = BufReader::new(output).lines().next_line().await?;
        let address = address.ok_or_else(|| io::Error::other(format!("the floor {kind} did not start")))?;
        Ok(Self { child, address })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }
}

/// A floor in two processes: what clients see, and what it asks.
pub(crate) async fn with_a_hop(answer: &str, directory: &Path) -> io::Result<[Floor; 2]> {
    hop(answer, directory, &[]).await
}

/// The same, which checks the signature of a request that brings one and puts a row on disk for it. The answer is
/// what was to be signed; `key` is whose signatures they are where the request does not say.
pub(crate) async fn with_commits(challenge: &str, key: &str, directory: &Path) -> io::Result<[Floor; 2]> {
    let store = directory.display().to_string();
    hop(challenge, directory, &["--store".to_owned(), store, "--key".to_owned(), key.to_owned()]).await
}

async fn hop(answer: &str, directory: &Path, of_the_backend: &[String]) -> io::Result<[Floor; 2]> {
    let socket: PathBuf = directory.join("backend.sock");
    let socket = socket.display().to_string();
    let arguments = ["--socket".to_owned(), socket, "--answer".to_owned(), answer.to_owned()];
    let backend = Floor::start("backend", &[&arguments, of_the_backend].concat()).await?;
    let front = Floor::start("hop", &arguments).await?;
    Ok([front, backend])
}
