//! What SIGHUP does: the log file is opened anew, the configuration is read and checked as at a start,
//! and the service takes over what can change while it runs.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::Notify;

use super::{Daemon, configuration};
use crate::audit::{Event, Record};
use crate::config::Loaded;
use crate::control::{Control, tell_manager};
use crate::error::chain;
use crate::keys::Running;
use crate::log;
use crate::options::Options;

/// A service that needs longer for a new configuration is stuck.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a reload needs to know of the start.
pub(crate) struct Reloading {
    pub(crate) options: Options,
    pub(crate) running: Running,
    /// There was a configuration file: one that is gone is no configuration of defaults.
    pub(crate) from_file: bool,
}

impl Reloading {
    /// One reload for each hangup, until the daemon stops.
    pub(crate) async fn run<D: Daemon>(mut self, hangups: Arc<Notify>, control: Control<D::Config>) {
        loop {
            tokio::select! {
                () = control.shutdown.cancelled() => return,
                () = hangups.notified() => {}
            }
            tell_reloading();
            let reason = tokio::select! {
                // In this order: what is done has its record, also if a stop comes at this moment.
                biased;
                outcome = tokio::time::timeout(PATIENCE, self.once::<D>(&control)) => match outcome {
                    Ok(Ok(())) => "done",
                    // A service that stops takes nothing over.
                    Ok(Err(_)) if control.shutdown.is_cancelled() => return,
                    Ok(Err(why)) => {
                        tracing::error!(why, "not reloaded, the old configuration stays");
                        "refused"
                    }
                    Err(_) => {
                        tracing::error!("not reloaded: the service takes too long");
                        "late"
                    }
                },
                () = control.shutdown.cancelled() => return,
            };
            control.audit.record(Record { reason: Some(reason), ..Record::of(Event::Reload) });
            // Nothing but STOPPING=1 is true of one that stops.
            if control.shutdown.is_cancelled() {
                return;
            }
            tell_manager(&[NotifyState::Ready]);
        }
    }

    async fn once<D: Daemon>(&mut self, control: &Control<D::Config>) -> Result<(), String> {
        // First and in any case: where this is told is where somebody looks for it.
        if let Err(error) = log::reopen() {
            tracing::warn!(why = chain(&error), "the log file is not opened anew, the old one stays");
        }
        if let Err(error) = control.audit.reopen() {
            tracing::warn!(why = chain(&error), "the audit file is not opened anew, the old one stays");
        }
        let options = self.options.clone();
        let reading = tokio::task::spawn_blocking(move || configuration::<D>(&options));
        let loaded = reading.await.map_err(|_| "a defect in this program".to_owned())??;
        if self.from_file && !loaded.source.from_file {
            return Err(format!("{} is gone", loaded.source.path().display()));
        }
        let next = Running::of(&loaded.config);
        let changes = self.running.compare(&next, D::KEYS);
        let level = self.options.level().unwrap_or(D::log(&loaded.config).level);
        let Loaded { config, source } = loaded;
        control.reload(config).await.map_err(|error| source.told(&error))?;
        log::set_level(level);
        self.running.apply(&next, D::KEYS);
        self.from_file = source.from_file;
        tracing::info!(changed = changes.applied.join(" "), "reloaded");
        if !changes.waiting.is_empty() {
            tracing::warn!(keys = changes.waiting.join(" "), "changed keys that take a restart");
        }
        Ok(())
    }
}

/// systemd's `Type=notify-reload` waits for the next READY=1 after this.
fn tell_reloading() {
    let mut state = vec![NotifyState::Reloading];
    state.extend(NotifyState::monotonic_usec_now().ok());
    tell_manager(&state);
}
