//! One conversation: exec the worker, wait for an end of any kind, leave nothing behind.

use std::os::fd::{AsFd, OwnedFd};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, getpid, kill_process, kill_process_group, waitid};

use crate::arguments::{Allow, Options};
use crate::family::{become_reaper, end_everything, pause};
use crate::signals::Signals;
use crate::{During, Failure, command, option, report};

/// After a hang-up the worker may end by itself: a prompt sees end of file and lets modules clean up.
const GRACE: Duration = Duration::from_millis(200);

/// Killed processes are gone within a moment, or sit in the kernel where no signal reaches them.
const END_WITHIN: Duration = Duration::from_secs(10);

/// Why the conversation is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The worker ended.
    Worker,
    /// The peer half-closed or hung up.
    HungUp,
    /// A signal asked for it.
    Asked,
    /// The total time is over.
    Overtime,
}

/// Guards the connection that is standard input until nothing of the conversation is left.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let connection = accept_stdin(allowed(&options.allow)?)?;
    let signals = Signals::install().during("signal handlers")?;
    become_reaper().during("reaper of orphans")?;
    let worker = start_worker(options)?;
    let mut end = watch(worker, &connection, &signals, options.total)?;
    if end == End::HungUp {
        end = await_worker(worker, &signals, GRACE)?;
    }
    finish(worker, end);
    end_everything(&signals, END_WITHIN).during("ending the conversation")
    // Here `connection` closes, and standard input with the process: the peer reads end of file.
}

fn allowed(allow: &Allow) -> Result<u32, Failure> {
    match allow {
        Allow::Uid(uid) => Ok(*uid),
        Allow::OwnerOf(path) => crate::socket::owner(path),
    }
}

/// Our own copy of standard input, if it is a packet socket with the right peer.
fn accept_stdin(allow_uid: u32) -> Result<OwnedFd, Failure> {
    let stdin = std::io::stdin();
    let kind = rustix::net::sockopt::socket_type(stdin.as_fd()).during("standard input is no connection")?;
    if kind != rustix::net::SocketType::SEQPACKET {
        return Err(Failure("standard input is no SEQPACKET connection".to_owned()));
    }
    // Under systemd this is the only check of who connected.
    let uid = doorward_peercred::uid_of_peer(stdin.as_fd()).during("uid of the peer")?;
    if uid.as_raw() != allow_uid {
        return Err(Failure(format!("refused a connection from uid {}", uid.as_raw())));
    }
    fcntl_dupfd_cloexec(stdin.as_fd(), 3).during("copy of the connection")
}

fn start_worker(options: &Options) -> Result<Pid, Failure> {
    use std::os::unix::process::CommandExt;
    let worker = command(&options.worker)
        .args(option("--service", &options.service))
        .args(option("--guard-pid", getpid().to_string()))
        .current_dir("/")
        .stdin(Stdio::inherit())
        .stdout(Stdio::null())
        .process_group(0)
        .spawn()
        .during(&format!("starting {}", options.worker.display()))?;
    // Dropping the handle neither kills nor reaps; both are done here, in an order that std lacks.
    Ok(Pid::from_child(&worker))
}

/// Waits for the first end of any kind.
fn watch(worker: Pid, connection: &OwnedFd, signals: &Signals, total: Duration) -> Result<End, Failure> {
    let deadline = Instant::now() + total;
    loop {
        signals.drain();
        if ended(worker)? {
            return Ok(End::Worker);
        }
        if signals.asked_to_end() {
            return Ok(End::Asked);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(End::Overtime);
        }
        let mut fds = [
            PollFd::from_borrowed_fd(signals.fd(), PollFlags::IN),
            // Not IN: packets are the worker's. HUP and ERR come unasked.
            PollFd::from_borrowed_fd(connection.as_fd(), PollFlags::RDHUP),
        ];
        pause(&mut fds, left).during("poll")?;
        let [_, connection] = fds;
        if !connection.revents().is_empty() {
            return Ok(End::HungUp);
        }
    }
}

/// Waits for the worker alone. The hung-up connection is out of the poll: it would wake it for ever.
fn await_worker(worker: Pid, signals: &Signals, within: Duration) -> Result<End, Failure> {
    let deadline = Instant::now() + within;
    loop {
        signals.drain();
        if ended(worker)? {
            return Ok(End::Worker);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || signals.asked_to_end() {
            return Ok(End::HungUp);
        }
        let mut fds = [PollFd::from_borrowed_fd(signals.fd(), PollFlags::IN)];
        pause(&mut fds, left).during("poll")?;
    }
}

/// Whether the worker ended. It is not reaped: that would set its pid, and its group's id, free
/// before the group is killed.
fn ended(worker: Pid) -> Result<bool, Failure> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    loop {
        match waitid(WaitId::Pid(worker), options) {
            Ok(status) => return Ok(status.is_some()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).during("waiting for the worker"),
        }
    }
}

/// Kills the worker and its group. Its orphans in other groups are the caller's next step.
fn finish(worker: Pid, end: End) {
    match end {
        End::Worker => {}
        End::HungUp => report(&format!("worker {worker} did not end after the hang-up: killed")),
        End::Asked => report(&format!("worker {worker} killed: asked to end")),
        End::Overtime => report(&format!("worker {worker} killed: the conversation took too long")),
    }
    // ESRCH is what an empty group answers. The worker is killed by itself too: it may have left its group.
    let _ = kill_process_group(worker, Signal::KILL);
    let _ = kill_process(worker, Signal::KILL);
}
