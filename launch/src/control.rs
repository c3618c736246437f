//! What a running daemon hears from outside, and what it says: stop, reload, ready.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Audit;

type Announce = Box<dyn FnOnce() + Send>;

/// Handed to [`crate::Daemon::serve`]; clones are the same control.
#[derive(Clone)]
pub struct Control {
    /// Cancelled when the daemon is asked to stop (SIGTERM, SIGINT).
    pub shutdown: CancellationToken,
    /// Takes what is to be recorded; nothing, unless the daemon's configuration says where.
    pub audit: Audit,
    reloads: Arc<watch::Sender<u64>>,
    ready: Arc<AtomicBool>,
    announce: Arc<Mutex<Option<Announce>>>,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").field("shutdown", &self.shutdown.is_cancelled()).finish_non_exhaustive()
    }
}

impl Default for Control {
    fn default() -> Control {
        Control::new()
    }
}

impl Control {
    /// A control that listens to no signal and tells nobody: for a service inside a test, which
    /// stops it by `shutdown`.
    pub fn new() -> Control {
        Control::announcing(None)
    }

    pub(crate) fn announcing(announce: Option<Announce>) -> Control {
        Control {
            shutdown: CancellationToken::new(),
            audit: Audit::default(),
            reloads: Arc::new(watch::Sender::new(0)),
            ready: Arc::default(),
            announce: Arc::new(Mutex::new(announce)),
        }
    }

    /// The same control, with records.
    #[must_use]
    pub fn with_audit(self, audit: Audit) -> Control {
        Control { audit, ..self }
    }

    /// Requests are answered from now on: tells the service manager and whoever started this
    /// process, the first time it is called.
    pub fn ready(&self) {
        if !self.ready.swap(true, Ordering::SeqCst) {
            let announce = self.announce.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(announce) = announce {
                announce();
            }
        }
    }

    /// Whether [`Control::ready`] was called.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::SeqCst)
    }

    /// Changes each time the daemon is asked to read its files again (SIGHUP).
    pub fn reload(&self) -> watch::Receiver<u64> {
        self.reloads.subscribe()
    }

    /// Asks for a reload, as SIGHUP does.
    pub fn ask_reload(&self) {
        self.reloads.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Turns signals into `shutdown` and `reload` until the daemon stops. Handlers are in place when
    /// this returns, so a signal after it is never fatal.
    pub(crate) fn listen_to_signals(&self) -> std::io::Result<impl Future<Output = ()> + Send + use<>> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let control = self.clone();
        Ok(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => break,
                    _ = interrupt.recv() => break,
                    _ = hangup.recv() => control.ask_reload(),
                }
            }
            tell_manager(&[NotifyState::Stopping]);
            control.shutdown.cancel();
        })
    }
}

/// Tells systemd, or whoever set NOTIFY_SOCKET; nobody is not an error.
pub(crate) fn tell_manager(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot tell the service manager");
    }
}
