//! The processes below this one: becoming their reaper, finding them, ending them.
//!
//! A module may fork twice and call setsid: the grandchild is in no group that anybody knows. As
//! reaper of orphans this process becomes its parent, and can list it, kill it and wait for it.

#[cfg(target_os = "freebsd")]
mod freebsd;
#[cfg(target_os = "linux")]
mod linux;

#[cfg(target_os = "freebsd")]
use freebsd as system;
#[cfg(target_os = "linux")]
use linux as system;

use std::collections::HashSet;
use std::io;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};

use crate::signals::Signals;

/// Orphans come to this process from now on.
pub(crate) fn become_reaper() -> io::Result<()> {
    Ok(system::become_reaper()?)
}

/// The next child that ended, whoever it is: `AllLive` when all that there are live on, `NoChildren` when
/// there are none.
pub(crate) enum Reaped {
    Ended(Pid, WaitStatus),
    AllLive,
    NoChildren,
}

/// Reaps one child without waiting.
pub(crate) fn reap() -> io::Result<Reaped> {
    loop {
        // Not `waitpid(None, ..)`: that one means "of my own process group", and sees no worker.
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => return Ok(Reaped::Ended(pid, status)),
            Ok(None) => return Ok(Reaped::AllLive),
            Err(Errno::CHILD) => return Ok(Reaped::NoChildren),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Kills every child that is not in `ours`.
pub(crate) fn kill_strangers(ours: &HashSet<Pid>) -> io::Result<()> {
    for pid in system::children()? {
        if !ours.contains(&pid) {
            // It may have ended by itself; unreaped it keeps its pid, so nobody else is hit.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    Ok(())
}

/// Kills and reaps until no child is left. Killing one hands its own children to this process, so it
/// takes as many turns as they are deep. Fails when some do not die in time: in the kernel, say.
pub(crate) fn end_everything(signals: &Signals, within: Duration) -> io::Result<()> {
    let deadline = Instant::now() + within;
    loop {
        signals.drain();
        match reap()? {
            Reaped::Ended(..) => continue,
            Reaped::NoChildren => return Ok(()),
            Reaped::AllLive => kill_strangers(&HashSet::new())?,
        }
        if Instant::now() >= deadline {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "a process does not die"));
        }
        // Every death wakes the pipe; the pause bounds the turns against a module that forks on and on.
        pause(&mut [PollFd::from_borrowed_fd(signals.fd(), PollFlags::IN)], Duration::from_millis(10))?;
    }
}

/// Polls for at most `timeout`; an interruption is an early return.
pub(crate) fn pause(fds: &mut [PollFd<'_>], timeout: Duration) -> io::Result<()> {
    let timeout = Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    match rustix::event::poll(fds, Some(&timeout)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
