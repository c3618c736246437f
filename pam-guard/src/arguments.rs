//! The command line, by hand: the guard has ten options and must stay small.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

const DEFAULT_SERVICE: &str = "doorward";
/// A little above the 300 s after which authd ends a conversation by itself.
const DEFAULT_TOTAL_SECONDS: u32 = 330;
const DEFAULT_MAX: u32 = 64;

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Arguments {
    /// `--version`.
    Version,
    /// One of the two roles.
    Run(Options),
}

/// What both roles need to know.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    /// Which role.
    pub role: Role,
    /// The only user that may be at the other end.
    pub allow: Allow,
    /// The program that holds the conversation; an absolute path.
    pub worker: PathBuf,
    /// The PAM service.
    pub service: String,
    /// How long a conversation may take.
    pub total: Duration,
}

/// Who may be at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allow {
    /// The user with this uid.
    Uid(u32),
    /// Whoever owns this socket; an absolute path. A systemd unit knows the name of a user, not its
    /// number, and systemd made the socket that user's; to look names up takes more code than this
    /// program may have.
    OwnerOf(PathBuf),
}

/// What this process is.
#[derive(Debug, PartialEq, Eq)]
pub enum Role {
    /// Accepts connections, starts a guard for each.
    Listen {
        /// The socket; an absolute path.
        path: PathBuf,
        /// Who owns the socket.
        socket_owner: u32,
        /// How many conversations at once.
        max: usize,
        /// Whether it ends when its standard input does: for a parent that must not leave it behind.
        stop_at_eof: bool,
    },
    /// Guards the connection that is standard input.
    Guard,
}

/// What is wrong with the command line.
#[derive(Debug, PartialEq, Eq)]
pub struct Usage(String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; see doorward-pam-guard(8)", self.0)
    }
}

/// Options that may be given once, each with a value.
#[derive(Default)]
struct Given {
    listen: Option<OsString>,
    socket_owner: Option<OsString>,
    allow_uid: Option<OsString>,
    allow_owner_of: Option<OsString>,
    worker: Option<OsString>,
    service: Option<OsString>,
    total_seconds: Option<OsString>,
    max: Option<OsString>,
    stop_at_eof: bool,
}

/// Reads the command line, program name taken off.
pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Arguments, Usage> {
    let mut given = Given::default();
    let mut arguments = arguments.take(32);
    while let Some(name) = arguments.next() {
        let name = name.to_str().unwrap_or_default();
        let slot = match name {
            "--version" => return Ok(Arguments::Version),
            "--stop-at-eof" => {
                given.stop_at_eof = true;
                continue;
            }
            "--listen" => &mut given.listen,
            "--socket-owner" => &mut given.socket_owner,
            "--allow-uid" => &mut given.allow_uid,
            "--allow-owner-of" => &mut given.allow_owner_of,
            "--worker" => &mut given.worker,
            "--service" => &mut given.service,
            "--total-seconds" => &mut given.total_seconds,
            "--max" => &mut given.max,
            other => return Err(Usage(format!("unknown option {other:?}"))),
        };
        let value = arguments.next().ok_or_else(|| Usage(format!("{name} needs a value")))?;
        if slot.replace(value).is_some() {
            return Err(Usage(format!("{name} is given twice")));
        }
    }
    check(given).map(Arguments::Run)
}

fn check(given: Given) -> Result<Options, Usage> {
    let role = match given.listen {
        Some(path) => Role::Listen {
            path: absolute("--listen", path)?,
            socket_owner: uid("--socket-owner", given.socket_owner)?,
            max: number("--max", given.max, DEFAULT_MAX, 1024)? as usize,
            stop_at_eof: given.stop_at_eof,
        },
        // Without --listen standard input is the connection.
        None if given.socket_owner.is_some() || given.max.is_some() || given.stop_at_eof => {
            return Err(Usage("--socket-owner, --max and --stop-at-eof go with --listen".to_owned()));
        }
        None => Role::Guard,
    };
    let allow = match (given.allow_owner_of, given.allow_uid) {
        (None, given) => Allow::Uid(uid("--allow-uid", given)?),
        (Some(_), Some(_)) => {
            return Err(Usage("--allow-uid and --allow-owner-of exclude each other".to_owned()));
        }
        (Some(_), None) if role != Role::Guard => {
            return Err(Usage("--allow-owner-of does not go with --listen".to_owned()));
        }
        (Some(path), None) => Allow::OwnerOf(absolute("--allow-owner-of", path)?),
    };
    let worker = given.worker.ok_or_else(|| Usage("--worker is missing".to_owned()))?;
    Ok(Options {
        role,
        allow,
        worker: absolute("--worker", worker)?,
        service: service(given.service)?,
        total: Duration::from_secs(
            number("--total-seconds", given.total_seconds, DEFAULT_TOTAL_SECONDS, 3600)?.into(),
        ),
    })
}

fn absolute(name: &str, value: OsString) -> Result<PathBuf, Usage> {
    let path = PathBuf::from(value);
    if path.is_absolute() { Ok(path) } else { Err(Usage(format!("{name} needs an absolute path"))) }
}

/// All ones is no uid: the kernel reads it as "leave as it is".
fn uid(name: &str, value: Option<OsString>) -> Result<u32, Usage> {
    let value = value.ok_or_else(|| Usage(format!("{name} is missing")))?;
    digits(&value).filter(|&uid| uid != u32::MAX).ok_or_else(|| Usage(format!("{name} needs a numeric uid")))
}

fn number(name: &str, value: Option<OsString>, default: u32, most: u32) -> Result<u32, Usage> {
    match value {
        None => Ok(default),
        Some(value) => digits(&value)
            .filter(|number| (1..=most).contains(number))
            .ok_or_else(|| Usage(format!("{name} needs a number from 1 to {most}"))),
    }
}

/// Digits only: `parse` alone would take a sign.
fn digits(value: &OsStr) -> Option<u32> {
    value.to_str().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()
}

/// The service becomes a file name in the worker: letters, digits, `-` and `_` only.
fn service(value: Option<OsString>) -> Result<String, Usage> {
    let Some(value) = value else {
        return Ok(DEFAULT_SERVICE.to_owned());
    };
    value
        .to_str()
        .filter(|name| (1..=64).contains(&name.len()) && !name.starts_with('-'))
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')))
        .map(str::to_owned)
        .ok_or_else(|| Usage("--service needs letters, digits, - and _".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Arguments, Usage> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn a_guard_has_defaults() {
        let expected = Options {
            role: Role::Guard,
            allow: Allow::Uid(990),
            worker: PathBuf::from("/w"),
            service: "doorward".to_owned(),
            total: Duration::from_secs(330),
        };
        assert_eq!(parsed("--allow-uid 990 --worker /w"), Ok(Arguments::Run(expected)));
    }

    #[test]
    fn a_guard_may_be_told_a_socket_in_place_of_a_number() {
        let Ok(Arguments::Run(options)) = parsed("--allow-owner-of /run/s --worker /w") else {
            panic!("refused");
        };
        assert_eq!(options.allow, Allow::OwnerOf(PathBuf::from("/run/s")));
    }

    #[test]
    fn a_listener_takes_all_options() {
        let line = "--listen /run/s --socket-owner 1 --allow-uid 2 --worker /w --service su-1_x --total-seconds 5 --stop-at-eof --max 3";
        let expected = Options {
            role: Role::Listen { path: PathBuf::from("/run/s"), socket_owner: 1, max: 3, stop_at_eof: true },
            allow: Allow::Uid(2),
            worker: PathBuf::from("/w"),
            service: "su-1_x".to_owned(),
            total: Duration::from_secs(5),
        };
        assert_eq!(parsed(line), Ok(Arguments::Run(expected)));
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for line in [
            "",
            "--allow-uid 1",
            "--worker /w",
            "--worker w --allow-uid 1",
            "--worker /w --allow-uid 4294967295",
            "--worker /w --allow-uid -1",
            "--worker /w --allow-uid +1",
            "--worker /w --allow-uid root",
            "--worker /w --allow-uid 1 --allow-uid 1",
            "--worker /w --allow-uid",
            "--worker /w --allow-uid 1 --max 3",
            "--worker /w --allow-uid 1 --stop-at-eof",
            "--worker /w --allow-uid 1 --socket-owner 3",
            "--worker /w --allow-uid 1 --listen /s",
            "--worker /w --allow-uid 1 --listen s --socket-owner 1",
            "--worker /w --allow-uid 1 --listen /s --socket-owner 1 --max 0",
            "--worker /w --allow-uid 1 --listen /s --socket-owner 1 --max 1025",
            "--worker /w --allow-uid 1 --total-seconds 0",
            "--worker /w --allow-uid 1 --total-seconds 3601",
            "--worker /w --allow-uid 1 --service ../etc",
            "--worker /w --allow-uid 1 --service -x",
            "--worker /w --allow-uid 1 --allow-owner-of /s",
            "--worker /w --allow-owner-of s",
            "--worker /w --allow-owner-of",
            "--worker /w --allow-owner-of /s --listen /s --socket-owner 1",
            "--worker /w --allow-uid 1 --other",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }
}
