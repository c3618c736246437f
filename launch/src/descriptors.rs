//! Descriptors: those that were inherited and not asked for are closed, and as many as may be can be had.

use std::os::fd::RawFd;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::StartError;

/// The first that is neither standard input, output nor error.
const FIRST: RawFd = 3;

/// Closes what a careless parent left open, but for the `activated` first ones that a service manager
/// passed on purpose; returns how many. A file that root had open is out of reach of every uid and of
/// every sandbox, so nothing that was not asked for stays. Must run before anything else is opened.
pub(crate) fn close_inherited(activated: RawFd) -> std::io::Result<usize> {
    let kept = FIRST.saturating_add(activated.max(0));
    let mut closed = 0;
    for descriptor in open_ones()? {
        // EBADF for the one that read the list, and on FreeBSD for what is not open.
        if descriptor >= kept && nix::unistd::close(descriptor).is_ok() {
            closed += 1;
        }
    }
    all_open(kept)?;
    Ok(closed)
}

/// What was announced and not passed has a number that the next file would get, and that file would be
/// taken for a socket. Looked at by name, because looking at a number on trust is unsafe.
#[cfg(target_os = "linux")]
fn all_open(kept: RawFd) -> std::io::Result<()> {
    match (FIRST..kept).find(|number| std::fs::read_link(format!("/proc/self/fd/{number}")).is_err()) {
        Some(missing) => Err(std::io::Error::other(format!(
            "the service manager announced {} sockets, but descriptor {missing} is not open",
            kept - FIRST
        ))),
        None => Ok(()),
    }
}

/// No service manager passes sockets there.
#[cfg(target_os = "freebsd")]
fn all_open(_kept: RawFd) -> std::io::Result<()> {
    Ok(())
}

#[cfg(target_os = "linux")]
fn open_ones() -> std::io::Result<Vec<RawFd>> {
    let numbers = std::fs::read_dir("/proc/self/fd")?
        .map(|entry| Ok(entry?.file_name().to_str().and_then(|name| name.parse().ok()).unwrap_or(-1)));
    numbers.collect()
}

/// Every number that there could be: /dev/fd shows all only where fdescfs is mounted.
#[cfg(target_os = "freebsd")]
fn open_ones() -> std::io::Result<Vec<RawFd>> {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(65_536).min(65_536);
    Ok((FIRST..RawFd::try_from(limit).unwrap_or(65_536)).collect())
}

/// Nothing to read from a terminal or from whatever the starter had there.
pub(crate) fn empty_stdin() -> Result<(), Errno> {
    let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)
}

/// As many descriptors as the administrator allows: the low soft limit is for programs that use
/// select(), and a service that runs out of descriptors is closed to everybody.
pub(crate) fn raise_limit() -> Result<(), StartError> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).map_err(|error| {
        StartError::failed("cannot raise the limit on open files", std::io::Error::from(error))
    })
}

/// How many descriptors this process may have open.
pub fn descriptors() -> usize {
    getrlimit(Resource::Nofile)
        .current
        .map_or(usize::MAX, |current| usize::try_from(current).unwrap_or(usize::MAX))
}
