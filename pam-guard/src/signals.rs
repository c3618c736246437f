//! Signals: a pipe that wakes the poll, and the guarantee that the worker starts with defaults.
//!
//! "Ignored" survives exec, a handler does not. Started under a shell or nohup, this process may have
//! INT, QUIT, HUP, CHLD or PIPE ignored, and a PAM module whose child it cannot wait for hangs. So
//! every signal that can be caught gets a handler here, and is default in whatever is exec'ed next.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{FORBIDDEN, SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM};

/// The signals that end both roles. HUP too: there is nothing to read again, and a terminal that is
/// gone must not leave a process of root behind.
const ENDING: [i32; 4] = [SIGTERM, SIGINT, SIGHUP, SIGQUIT];

/// Signal numbers go up to here (Linux 64, FreeBSD 126 with real-time ones; the tail is unused).
const LAST: i32 = 64;

/// What the poll looks at.
pub(crate) struct Signals {
    wake: UnixStream,
    ending: Arc<AtomicBool>,
}

impl Signals {
    /// Handlers for everything. Before the first child is started.
    pub(crate) fn install() -> io::Result<Self> {
        let (wake, write) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let ending = Arc::new(AtomicBool::new(false));
        let nothing = Arc::new(AtomicBool::new(false));
        for signal in (1..=LAST).filter(|signal| !FORBIDDEN.contains(signal)) {
            let flag = if ENDING.contains(&signal) { &ending } else { &nothing };
            // The C library keeps two real-time signals for itself and answers EINVAL.
            match signal_hook::flag::register(signal, Arc::clone(flag)) {
                Err(error) if error.kind() != io::ErrorKind::InvalidInput => return Err(error),
                _ => {}
            }
        }
        // After the flags: the pipe is written when the flag is already set.
        for signal in ENDING.into_iter().chain([SIGCHLD]) {
            signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
        }
        Ok(Self { wake, ending })
    }

    /// Readable when a child ended or a signal asks for the end.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Empties the pipe: before looking at children, so that none is missed.
    pub(crate) fn drain(&self) {
        let mut bytes = [0_u8; 64];
        while matches!((&self.wake).read(&mut bytes), Ok(count) if count > 0) {}
    }

    /// Whether a signal asked for the end.
    pub(crate) fn asked_to_end(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }
}
