//! Runs one PAM worker for each connection and ends everything that came out of it.
//!
//! Two roles in one program. With `--listen` it accepts connections and starts itself once for each;
//! without, standard input is the connection, from the listener or from systemd (`Accept=yes`). Then
//! it execs one worker, and when the peer half-closes or hangs up, or the time is over, it kills the
//! worker and all that the worker left behind. The peer learns the end by end of file: the guard
//! closes its copy of the connection only when nothing is left.
//!
//! It runs as root, so it does little: no libpam, no threads, not one byte read from the connection.

mod arguments;
mod family;
mod guard;
mod inherited;
mod listen;
mod notify;
mod signals;
mod socket;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Command, ExitCode};

use listen::Bounds;

pub use arguments::{Allow, Arguments, Options, Role, Usage};

/// The name in front of every message.
const NAME: &str = "doorward-pam-guard";

/// Everything: arguments, then the role they name. 0 stopped or done, 1 failed, 2 usage.
pub fn run() -> ExitCode {
    if let Err(error) = inherited::close() {
        report(&format!("cannot tell which descriptors were inherited: {error}"));
        return ExitCode::FAILURE;
    }
    let options = match arguments::parse(std::env::args_os().skip(1)) {
        Ok(Arguments::Run(options)) => options,
        Ok(Arguments::Version) => {
            println!("{NAME} {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Err(usage) => {
            report(&usage.to_string());
            return ExitCode::from(2);
        }
    };
    // Nothing made from here on, by libraries either, is for anybody else.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let done = match &options.role {
        Role::Listen { path, socket_owner, max, stop_at_eof } => {
            listen::run(&options, path, *socket_owner, Bounds { max: *max, stop_at_eof: *stop_at_eof })
        }
        Role::Guard => guard::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            report(&failure.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Why a role failed: what was tried, and the system's word on it.
#[derive(Debug)]
struct Failure(String);

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names what failed.
trait During<T> {
    fn during(self, what: &str) -> Result<T, Failure>;
}

impl<T, E: std::fmt::Display> During<T> for Result<T, E> {
    fn during(self, what: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure(format!("{what}: {error}")))
    }
}

/// One line on standard error. Nothing that a peer sent gets here: the guard reads nothing.
fn report(message: &str) {
    use std::io::Write;
    // One write, so that lines of several guards do not mix; if nobody takes it, nobody can be told.
    let _ = std::io::stderr().write_all(format!("{NAME}: {message}\n").as_bytes());
}

/// A command with an empty environment: what this process got is nobody else's business, and PAM
/// modules must not read it.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    for name in PASSED_ON {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

#[cfg(feature = "pam-wrapper")]
const PASSED_ON: &[&str] =
    &["LD_PRELOAD", "PAM_WRAPPER", "PAM_WRAPPER_SERVICE_DIR", "PAM_WRAPPER_DEBUGLEVEL"];
#[cfg(not(feature = "pam-wrapper"))]
const PASSED_ON: &[&str] = &[];

/// `--name value`, for a command line.
fn option(name: &str, value: impl AsRef<OsStr>) -> [OsString; 2] {
    [OsString::from(name), value.as_ref().to_owned()]
}
