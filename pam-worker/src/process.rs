//! Makes this process a place in which modules find nothing and leave nothing.
//!
//! The guard did what a parent can: empty environment and signal mask, a process group, default
//! dispositions. Here is the rest, and a check that it was the guard who started this.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::fs::{Mode, OFlags};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{
    DumpableBehavior, Pid, Resource, Rlimit, Signal, getppid, set_parent_process_death_signal,
    setpriority_process, setrlimit, umask,
};

/// Descriptors of our own are moved up here, above all that a module's program might use.
const HIGH: RawFd = 200;

/// How much those who are logged in go before those who are at it: a password is hashed for most of a tenth of a
/// second, and whoever may try one keeps a processor busy with that. As in nice(1).
const NICE: i32 = 5;

/// Variables that may be there: none, but in test builds those that the guard passes on for
/// libpam-wrapper, and the one that it sets itself when it is loaded.
#[cfg(feature = "pam-wrapper")]
const EXPECTED_VARIABLES: &[&str] = &[
    "LD_PRELOAD",
    "PAM_WRAPPER",
    "PAM_WRAPPER_SERVICE_DIR",
    "PAM_WRAPPER_DEBUGLEVEL",
    "PAM_WRAPPER_RUNTIME_DIR",
];
#[cfg(not(feature = "pam-wrapper"))]
const EXPECTED_VARIABLES: &[&str] = &[];

/// What this process keeps, out of the modules' way.
pub(crate) struct Stage {
    pub(crate) connection: OwnedFd,
    pub(crate) log: Log,
}

/// Standard error as it was given: modules get /dev/null, their noise must not look like our words.
pub(crate) struct Log(OwnedFd);

impl Log {
    /// One line. Never with what a peer or a module said.
    pub(crate) fn line(&self, message: &str) {
        let _ = rustix::io::write(&self.0, format!("{}: {message}\n", crate::NAME).as_bytes());
    }
}

/// Why this process cannot be used.
#[derive(Debug)]
pub(crate) enum Unfit {
    /// What was tried, and the system's word.
    Failed(&'static str, io::Error),
    /// Started by somebody else, or the guard died meanwhile.
    NotOurGuard,
    /// An environment that the guard did not make.
    Environment,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unfit::Failed(what, error) => write!(f, "{what}: {error}"),
            Unfit::NotOurGuard => f.write_str("the parent is not the guard of the command line"),
            Unfit::Environment => f.write_str("the environment is not empty"),
        }
    }
}

trait During<T> {
    fn during(self, what: &'static str) -> Result<T, Unfit>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn during(self, what: &'static str) -> Result<T, Unfit> {
        self.map_err(|error| Unfit::Failed(what, error.into()))
    }
}

/// All of it, before anything is read and before libpam is called.
pub(crate) fn prepare(guard: Pid) -> Result<Stage, Unfit> {
    // 077, not 0177: a module's library may make directories.
    umask(Mode::from_raw_mode(0o077));
    die_with(guard)?;
    // std's view of the environment is what execve gave: nothing was set since.
    if std::env::vars_os()
        .any(|(name, _)| !EXPECTED_VARIABLES.iter().any(|expected| name == OsStr::new(expected)))
    {
        return Err(Unfit::Environment);
    }
    let connection = fcntl_dupfd_cloexec(io::stdin().as_fd(), HIGH).during("standard input")?;
    let log = Log(fcntl_dupfd_cloexec(io::stderr().as_fd(), HIGH).during("standard error")?);
    close_all_but(&[connection.as_raw_fd(), log.0.as_raw_fd()])?;
    let kind = rustix::net::sockopt::socket_type(&connection).during("standard input is no socket")?;
    if kind != rustix::net::SocketType::SEQPACKET {
        return Err(Unfit::Failed("standard input", io::ErrorKind::InvalidInput.into()));
    }
    no_core_dumps()?;
    // Under systemd its unit says so, and nothing in here may.
    let _ = setpriority_process(None, NICE);
    // Rust's own start-up ignores SIGPIPE, and that would survive exec in a module's helper. A
    // handler does not.
    let seen = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGPIPE, seen).during("SIGPIPE")?;
    // Last, so that what fails above can still be told on standard error.
    silence_standard_descriptors()?;
    Ok(Stage { connection, log })
}

/// Ends with the guard. First the signal, then the look: a guard that died in between has already
/// changed the parent.
fn die_with(guard: Pid) -> Result<(), Unfit> {
    set_parent_process_death_signal(Some(Signal::KILL)).during("parent-death signal")?;
    if getppid() == Some(guard) { Ok(()) } else { Err(Unfit::NotOurGuard) }
}

/// Closes what a careless parent left open. Nothing but `kept` and 0, 1, 2 is in use yet.
fn close_all_but(kept: &[RawFd]) -> Result<(), Unfit> {
    for descriptor in open_descriptors().during("open descriptors")? {
        if descriptor > 2 && !kept.contains(&descriptor) {
            // EBADF for what is not open, and for the one that read the list.
            let _ = nix::unistd::close(descriptor);
        }
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn open_descriptors() -> io::Result<Vec<RawFd>> {
    std::fs::read_dir("/proc/self/fd")?
        .map(|entry| Ok(entry?.file_name().to_str().and_then(|name| name.parse().ok()).unwrap_or(-1)))
        .collect()
}

/// Every number that there could be: /dev/fd shows all only where fdescfs is mounted.
#[cfg(target_os = "freebsd")]
fn open_descriptors() -> io::Result<Vec<RawFd>> {
    let limit = rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(65_536).min(65_536);
    Ok((3..RawFd::try_from(limit).unwrap_or(65_536)).collect())
}

fn silence_standard_descriptors() -> Result<(), Unfit> {
    let null =
        rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).during("/dev/null")?;
    rustix::stdio::dup2_stdin(&null).during("standard input")?;
    rustix::stdio::dup2_stdout(&null).during("standard output")?;
    rustix::stdio::dup2_stderr(&null).during("standard error")
}

/// Passwords pass through this memory.
fn no_core_dumps() -> Result<(), Unfit> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).during("core limit")?;
    #[cfg(target_os = "linux")]
    let done = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    #[cfg(target_os = "freebsd")]
    let done = rustix::process::set_dumpable_behavior(None, DumpableBehavior::NotDumpable);
    done.during("not dumpable")
}
