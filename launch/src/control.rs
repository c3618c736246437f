//! What a running daemon hears from outside, and what it says: stop, reload, ready.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{Audit, StartError};

type Announce = Box<dyn FnOnce() + Send>;

/// Handed to [`crate::Daemon::serve`], with the type of its configuration; clones are the same control.
pub struct Control<C> {
    /// Cancelled when the daemon is asked to stop (SIGTERM, SIGINT).
    pub shutdown: CancellationToken,
    /// Takes what is to be recorded; nothing, unless the daemon's configuration says where.
    pub audit: Audit,
    ready: Arc<AtomicBool>,
    announce: Arc<Mutex<Option<Announce>>>,
    offers: mpsc::Sender<Reload<C>>,
    reloads: Arc<Mutex<Option<mpsc::Receiver<Reload<C>>>>>,
}

/// A configuration that was read anew and passed the checks of a start.
#[derive(Debug)]
pub struct Reload<C> {
    /// All of it; keys that take a restart have values of which nothing comes yet.
    pub config: C,
    answer: oneshot::Sender<Result<(), StartError>>,
}

impl<C> Reload<C> {
    /// Says whether it holds from now on. On an error nothing may have changed.
    pub fn done(self, outcome: Result<(), StartError>) {
        // Whoever asked may have been stopped meanwhile.
        let _ = self.answer.send(outcome);
    }
}

/// The new configurations, one after the other.
#[derive(Debug)]
pub struct Reloads<C>(Option<mpsc::Receiver<Reload<C>>>);

impl<C> Reloads<C> {
    /// Waits for the next one, for ever if there is none.
    pub async fn next(&mut self) -> Reload<C> {
        if let Some(receiver) = &mut self.0
            && let Some(reload) = receiver.recv().await
        {
            return reload;
        }
        std::future::pending().await
    }
}

impl<C> Clone for Control<C> {
    fn clone(&self) -> Control<C> {
        Control {
            shutdown: self.shutdown.clone(),
            audit: self.audit.clone(),
            ready: Arc::clone(&self.ready),
            announce: Arc::clone(&self.announce),
            offers: self.offers.clone(),
            reloads: Arc::clone(&self.reloads),
        }
    }
}

impl<C> std::fmt::Debug for Control<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").field("shutdown", &self.shutdown.is_cancelled()).finish_non_exhaustive()
    }
}

impl<C> Default for Control<C> {
    fn default() -> Control<C> {
        Control::new()
    }
}

impl<C> Control<C> {
    /// A control that listens to no signal and tells nobody: for a service inside a test, which
    /// stops it by `shutdown`.
    pub fn new() -> Control<C> {
        Control::announcing(None)
    }

    pub(crate) fn announcing(announce: Option<Announce>) -> Control<C> {
        let (offers, reloads) = mpsc::channel(1);
        Control {
            shutdown: CancellationToken::new(),
            audit: Audit::default(),
            ready: Arc::default(),
            announce: Arc::new(Mutex::new(announce)),
            offers,
            reloads: Arc::new(Mutex::new(Some(reloads))),
        }
    }

    /// The same control, with records.
    #[must_use]
    pub fn with_audit(self, audit: Audit) -> Control<C> {
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

    /// The new configurations, for the service; there is one taker.
    pub fn reloads(&self) -> Reloads<C> {
        Reloads(self.reloads.lock().unwrap_or_else(PoisonError::into_inner).take())
    }

    /// Offers a new configuration and waits until the service has taken it. One that is not ready yet
    /// takes it when it is.
    ///
    /// # Errors
    /// The service's reason why the old one stays.
    pub async fn reload(&self, config: C) -> Result<(), StartError> {
        let gone = || StartError::failed("cannot reload", "the service is ending");
        let (answer, outcome) = oneshot::channel();
        self.offers.send(Reload { config, answer }).await.map_err(|_| gone())?;
        outcome.await.map_err(|_| gone())?
    }

    /// Turns signals into `shutdown` and `hangups` until the daemon stops. Handlers are in place when
    /// this returns, so a signal after it is never fatal. Many hangups at once are one.
    pub(crate) fn listen_to_signals(
        &self,
        hangups: Arc<Notify>,
    ) -> std::io::Result<impl Future<Output = ()> + Send + use<C>>
    where
        C: Send + 'static,
    {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let shutdown = self.shutdown.clone();
        Ok(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => break,
                    _ = interrupt.recv() => break,
                    () = shutdown.cancelled() => return,
                    _ = hangup.recv() => hangups.notify_one(),
                }
            }
            stop(&shutdown);
        })
    }
}

/// Asks the daemon to stop and tells the service manager that it does. It is told first: once the
/// daemon knows, the process may be gone before anything else is done.
pub(crate) fn stop(shutdown: &CancellationToken) {
    tell_manager(&[NotifyState::Stopping]);
    shutdown.cancel();
}

/// Tells systemd, or whoever set NOTIFY_SOCKET; nobody is not an error.
pub(crate) fn tell_manager(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot tell the service manager");
    }
}
