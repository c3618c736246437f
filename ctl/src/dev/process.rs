//! One service: started, waited for until it says that it is ready, stopped; and its log.

use std::{
    collections::VecDeque,
    fs::{self, File, Permissions},
    io::Write,
    os::unix::fs::{PermissionsExt, chown},
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::UnixDatagram,
    process::{Child, ChildStdin, Command},
    task::JoinHandle,
    time::timeout,
};

use crate::{
    dev::plan::{Plan, Service},
    error::Error,
    output::printable,
};

const READY_DEADLINE: Duration = Duration::from_secs(20);
const STOP_DEADLINE: Duration = Duration::from_secs(5);
/// The last of a log may still be in the pipe when its writer has ended.
const LOG_DEADLINE: Duration = Duration::from_secs(1);
/// A log that has grown to this gives its place to a new one.
const LOG_MAX: usize = 16 * 1024 * 1024;
/// How much of a log is kept for the report of its service's death.
const TAIL_MAX: usize = 4 * 1024;

/// A running service.
pub(super) struct Process {
    pub(super) service: Service,
    pub(super) pid: u32,
    child: Child,
    /// The other end of its stdin, see `--stop-at-eof`. Not left in `child`, which closes it to wait.
    _alive: ChildStdin,
    notify: UnixDatagram,
    tail: Arc<Mutex<VecDeque<u8>>>,
    /// Copies the log; nothing once it was waited for.
    log: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts the program with an environment that names the readiness socket and nothing of ours.
    pub(super) fn start(plan: &Plan, service: Service, verbose: bool) -> Result<Self, Error> {
        let failed =
            |error: std::io::Error| Error::Failed(format!("cannot start {}: {error}", service.name()));
        let socket = plan.layout.notify_socket(service);
        let notify = UnixDatagram::bind(&socket).map_err(failed)?;
        let account = plan.account(service);
        // The service says it after it gave up root.
        chown(&socket, Some(account.uid), Some(account.gid)).map_err(failed)?;
        fs::set_permissions(&socket, Permissions::from_mode(0o600)).map_err(failed)?;

        let log = Log::open(plan.layout.log(service), verbose).map_err(failed)?;
        let mut child = Command::new(plan.program(service))
            .args(plan.arguments(service))
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("NOTIFY_SOCKET", &socket)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C is for us: the services are ended in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let tail = Arc::new(Mutex::new(VecDeque::new()));
        let (pid, alive, stderr) = match (child.id(), child.stdin.take(), child.stderr.take()) {
            (Some(pid), Some(alive), Some(stderr)) => (pid, alive, stderr),
            _ => return Err(failed(std::io::Error::other("it has no number"))),
        };
        let log = tokio::spawn(log.keep(stderr, tail.clone()));
        Ok(Self { service, pid, child, _alive: alive, notify, tail, log: Some(log) })
    }

    /// Waits until the service says that it is ready.
    pub(super) async fn ready(&mut self) -> Result<(), Error> {
        let name = self.service.name();
        let mut buffer = [0; 4096];
        let said = async {
            loop {
                let length = self.notify.recv(&mut buffer).await?;
                let message = buffer.get(..length).unwrap_or_default();
                if message.split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
                    return Ok::<(), std::io::Error>(());
                }
            }
        };
        let ended = tokio::select! {
            said = timeout(READY_DEADLINE, said) => match said {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => Err(Error::Failed(format!("cannot hear from {name}: {error}"))),
                Err(_) => Err(Error::Failed(format!("{name} was not ready within 20 seconds"))),
            },
            status = self.child.wait() => Ok(status),
        };
        match ended {
            Ok(status) => Err(self.death(status).await),
            Err(error) => Err(error),
        }
    }

    /// Waits for the end of a service that should not end.
    pub(super) async fn ended(&mut self) -> Error {
        let status = self.child.wait().await;
        self.death(status).await
    }

    async fn death(&mut self, status: std::io::Result<ExitStatus>) -> Error {
        self.finish_log().await;
        let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        Error::Failed(format!("{} ended by itself ({status})", self.service.name()))
    }

    /// Waits for the end of the log, but not for a grandchild that keeps it open.
    async fn finish_log(&mut self) {
        if let Some(mut log) = self.log.take()
            && timeout(LOG_DEADLINE, &mut log).await.is_err()
        {
            log.abort();
        }
    }

    /// Whether it has ended.
    pub(super) fn is_over(&self) -> bool {
        self.child.id().is_none()
    }

    /// The last lines of its log, fit for a terminal.
    pub(super) fn last_lines(&self) -> Vec<String> {
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(tail.make_contiguous()).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines.iter().skip(lines.len().saturating_sub(10)).map(|line| printable(line)).collect()
    }

    /// Ends the service: asked first, and killed if it does not hear. Says so if it had to be killed.
    pub(super) async fn stop(mut self) -> Result<(), Error> {
        // Without a number it was waited for already.
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok());
        let mut killed = false;
        if let Some(pid) = pid {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            if timeout(STOP_DEADLINE, self.child.wait()).await.is_err() {
                killed = true;
                let _ = self.child.kill().await;
            }
        }
        self.finish_log().await;
        if killed {
            let name = self.service.name();
            return Err(Error::Failed(format!("{name} did not end within 5 seconds and was killed")));
        }
        Ok(())
    }
}

/// Where the lines of a service go.
struct Log {
    path: PathBuf,
    file: File,
    written: usize,
    verbose: bool,
}

impl Log {
    fn open(path: PathBuf, verbose: bool) -> std::io::Result<Self> {
        let file = File::options().append(true).create(true).open(&path)?;
        let written = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
        Ok(Self { path, file, written, verbose })
    }

    /// Copies until the service and everything it started have closed the pipe. A log that cannot be
    /// written does not stop what is logged.
    async fn keep(mut self, mut from: impl AsyncRead + Unpin, tail: Arc<Mutex<VecDeque<u8>>>) {
        let mut buffer = vec![0; 4096];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let bytes = buffer.get(..length).unwrap_or_default();
            let _ = self.file.write_all(bytes);
            self.written = self.written.saturating_add(length);
            if self.written > LOG_MAX
                && fs::rename(&self.path, self.path.with_extension("log.old")).is_ok()
                && let Ok(next) = Self::open(self.path.clone(), self.verbose)
            {
                self = next;
            }
            if self.verbose {
                let _ = std::io::stderr().write_all(escaped(bytes).as_bytes());
            }
            let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
            tail.extend(bytes);
            let surplus = tail.len().saturating_sub(TAIL_MAX);
            tail.drain(..surplus);
        }
    }
}

/// Bytes for a terminal. A read may end inside a character, so anything but ASCII is shown as bytes.
fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'\n' | b' '..=b'~' => text.push(char::from(*byte)),
            byte => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_log_is_kept_whole_and_its_end_at_hand() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("x.log");
        let text: Vec<u8> = (0..TAIL_MAX * 3).map(|n| if n % 50 == 49 { b'\n' } else { b'x' }).collect();
        let tail = Arc::new(Mutex::new(VecDeque::new()));
        Log::open(path.clone(), false).expect("a log").keep(&*text, tail.clone()).await;
        assert_eq!(fs::read(path).expect("a file"), text);
        let tail = tail.lock().expect("no panic");
        assert!(tail.iter().eq(&text[text.len() - TAIL_MAX..]));
    }

    #[tokio::test]
    async fn a_log_does_not_grow_without_end() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("x.log");
        fs::write(&path, vec![b'x'; LOG_MAX]).expect("a file");
        let tail = Arc::new(Mutex::new(VecDeque::new()));
        Log::open(path.clone(), false).expect("a log").keep(&b"last\n"[..], tail).await;
        assert_eq!(fs::metadata(&path).expect("a new log").len(), 0);
        let old = fs::metadata(path.with_extension("log.old")).expect("the old log");
        assert_eq!(old.len(), LOG_MAX as u64 + 5);
    }

    #[test]
    fn a_log_cannot_command_the_terminal() {
        assert_eq!(escaped(b"a\x1b[2J\n\xc3"), "a\\x1b[2J\n\\xc3");
    }
}
