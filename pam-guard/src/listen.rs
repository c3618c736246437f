//! The listener: accepts, starts a guard for each connection, reaps.
//!
//! A poll over the socket and the signals, nothing else. It is a reaper of orphans as well: a guard
//! that is killed with SIGKILL cannot clean up, so what it leaves comes here, and any child that is no
//! guard is killed.
//!
//! Guards get no parent-death signal. When the listener dies, logins that are under way go on, as
//! they do under systemd: each guard obeys its connection and its own deadline without a parent. What
//! is lost until the next start is only the second net, for guards that are killed with SIGKILL.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use rustix::process::{Pid, Signal, WaitStatus, kill_process};

use crate::arguments::{Allow, Options};
use crate::family::{Reaped, become_reaper, end_everything, kill_strangers, pause, reap};
use crate::signals::Signals;
use crate::socket::Listener;
use crate::{During, Failure, command, notify, option, report};

/// Without a signal the poll wakes this often; nothing depends on it.
const IDLE: Duration = Duration::from_secs(60);

/// After an error of accept (no descriptors, no memory) it would fail again at once.
const BACK_OFF: Duration = Duration::from_millis(50);

/// How long guards may take for their own cleaning when the listener ends, before they are killed.
const END_WITHIN: Duration = Duration::from_secs(5);

/// What the listener keeps.
struct State<'a> {
    options: &'a Options,
    allow_uid: u32,
    /// This very program.
    program: PathBuf,
    guards: HashSet<Pid>,
}

/// What to do after a connection.
#[derive(PartialEq, Eq)]
enum Next {
    /// Take the next one.
    Go,
    /// Rest first: it would fail again at once.
    Rest,
}

/// How much and how long.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    /// Conversations at once.
    pub(crate) max: usize,
    /// Whether the end of standard input is the end.
    pub(crate) stop_at_eof: bool,
}

/// Listens until a signal asks for the end.
pub(crate) fn run(options: &Options, path: &Path, owner: u32, bounds: Bounds) -> Result<(), Failure> {
    let Allow::Uid(allow_uid) = options.allow else {
        return Err(Failure("a listener needs --allow-uid".to_owned()));
    };
    let signals = Signals::install().during("signal handlers")?;
    become_reaper().during("reaper of orphans")?;
    let program = std::env::current_exe().during("own program")?;
    let mut state = State { options, allow_uid, program, guards: HashSet::new() };
    let listener = Listener::bind(path, owner)?;
    let served =
        notify::ready().during("NOTIFY_SOCKET").and_then(|()| state.serve(&listener, &signals, bounds));
    listener.remove();
    let ended = state.end(&signals);
    served.and(ended)
}

impl State<'_> {
    fn serve(&mut self, listener: &Listener, signals: &Signals, bounds: Bounds) -> Result<(), Failure> {
        let mut resting = false;
        let stdin = std::io::stdin();
        while !signals.asked_to_end() {
            let accepting = !resting && self.guards.len() < bounds.max;
            let mut fds = vec![PollFd::from_borrowed_fd(signals.fd(), PollFlags::IN)];
            if bounds.stop_at_eof {
                fds.push(PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN));
            }
            if accepting {
                fds.push(PollFd::from_borrowed_fd(listener.fd(), PollFlags::IN));
            }
            pause(&mut fds, if resting { BACK_OFF } else { IDLE }).during("poll")?;
            // Nobody writes there: the kernel says that whoever held the other end is gone.
            if bounds.stop_at_eof && fds.get(1).is_some_and(|stdin| !stdin.revents().is_empty()) {
                return Ok(());
            }
            resting = false;
            signals.drain();
            self.reap_all()?;
            // Without a look at the poll's answer: the socket does not block.
            if accepting && !signals.asked_to_end() {
                resting = self.accept(listener) == Next::Rest;
            }
        }
        Ok(())
    }

    /// Takes one connection.
    fn accept(&mut self, listener: &Listener) -> Next {
        let connection = match accept_with(listener.fd(), SocketFlags::CLOEXEC) {
            Ok(connection) => connection,
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => return Next::Go,
            Err(error) => {
                report(&format!("accept: {error}"));
                return Next::Rest;
            }
        };
        match doorward_peercred::uid_of_peer(connection.as_fd()) {
            Ok(uid) if uid.as_raw() == self.allow_uid => return self.start_guard(connection),
            Ok(uid) => report(&format!("refused a connection from uid {}", uid.as_raw())),
            Err(error) => report(&format!("uid of a peer: {error}")),
        }
        Next::Go
    }

    fn start_guard(&mut self, connection: OwnedFd) -> Next {
        let options = self.options;
        let guard = command(&self.program)
            .args(option("--allow-uid", self.allow_uid.to_string()))
            .args(option("--worker", &options.worker))
            .args(option("--service", &options.service))
            .args(option("--total-seconds", options.total.as_secs().to_string()))
            .stdin(Stdio::from(connection))
            .stdout(Stdio::null())
            .spawn();
        match guard {
            Ok(guard) => {
                self.guards.insert(Pid::from_child(&guard));
                Next::Go
            }
            Err(error) => {
                report(&format!("starting a guard: {error}"));
                Next::Rest
            }
        }
    }

    fn reap_all(&mut self) -> Result<(), Failure> {
        let mut any = false;
        while let Reaped::Ended(pid, status) = reap().during("reaping")? {
            any = true;
            if self.guards.remove(&pid) && !is_success(status) {
                report(&format!("guard {pid} failed or was killed"));
            }
        }
        // A guard that was killed left its orphans here before its own end was told.
        if any {
            kill_strangers(&self.guards).during("orphans")?;
        }
        Ok(())
    }

    /// Ends all conversations: asks the guards first, since each knows its own best.
    fn end(&mut self, signals: &Signals) -> Result<(), Failure> {
        for guard in &self.guards {
            // Not reaped yet, so the pid is still this guard's.
            let _ = kill_process(*guard, Signal::TERM);
        }
        let deadline = Instant::now() + END_WITHIN;
        while !self.guards.is_empty() && Instant::now() < deadline {
            let mut fds = [PollFd::from_borrowed_fd(signals.fd(), PollFlags::IN)];
            pause(&mut fds, deadline.saturating_duration_since(Instant::now())).during("poll")?;
            signals.drain();
            self.reap_all()?;
        }
        end_everything(signals, END_WITHIN).during("ending the conversations")
    }
}

fn is_success(status: WaitStatus) -> bool {
    status.exit_status() == Some(0)
}
