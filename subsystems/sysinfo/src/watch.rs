//! The event `system-state`: a look every few seconds, and an event when there is something to tell.

use std::sync::Arc;
use std::time::{Duration, Instant};

use doorward_subsystem::{Ended, Publisher};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::look::{self, Looks};
use crate::settings::Settings;
use crate::shared::{Busy, WITHIN};
use crate::state::{Seen, Telling};

/// The name of the event.
pub(crate) const EVENT: &str = "system-state";

/// What is seen now.
pub(crate) async fn see(looks: &Arc<Looks>) -> Seen {
    let at = Arc::clone(looks);
    let asked = spawn_blocking(move || at.disks());
    // Busy: a look, our own or another's whose result would be ours, has been under way for as long.
    let disks = match timeout(WITHIN, asked).await {
        Ok(Ok(Ok(disks))) => Some(disks),
        Ok(Ok(Err(Busy)) | Err(_)) | Err(_) => None,
    };
    let others = spawn_blocking(|| (look::host_name(), look::memory(), look::load(), look::cpus()));
    let (host, memory, load, cpus) = others.await.unwrap_or_default();
    Seen { host, memory, load, cpus, disks }
}

/// Looks and tells until it is to end.
pub(crate) async fn watch(
    looks: Arc<Looks>,
    settings: impl Fn() -> Settings,
    publisher: Publisher,
    ended: Ended,
) {
    let began = Instant::now();
    let mut telling = Telling::default();
    loop {
        let Some(seen) = ended.run_until_cancelled(see(&looks)).await else { return };
        let settings = settings();
        if let Some(args) = telling.look(&seen, &settings, began.elapsed().as_secs())
            && let Err(why) = publisher.publish(EVENT, &args)
        {
            tracing::warn!(%why, "the state of the host is not told");
        }
        let pause = tokio::time::sleep(Duration::from_secs(settings.look_seconds.into()));
        if ended.run_until_cancelled(pause).await.is_none() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test]
    async fn whoever_asks_for_disks_all_the_time_hides_none_from_the_watch() {
        let looks = Arc::new(Looks::default());
        let over = Arc::new(AtomicBool::new(false));
        let askers: Vec<_> = (0..32)
            .map(|_| {
                let (looks, over) = (Arc::clone(&looks), Arc::clone(&over));
                std::thread::spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        assert!(looks.disks().is_ok(), "an asker's");
                    }
                })
            })
            .collect();
        for _ in 0..20 {
            let (one, other) = tokio::join!(see(&looks), see(&looks));
            assert!(one.disks.is_some() && other.disks.is_some());
        }
        over.store(true, Ordering::Relaxed);
        for asker in askers {
            asker.join().expect("never busy");
        }
    }

    #[tokio::test]
    async fn processors_and_processes_are_never_busy_for_who_asks_at_once() {
        let looks = Arc::new(Looks::default());
        let asked: Vec<_> = (0..8)
            .map(|_| {
                let looks = Arc::clone(&looks);
                spawn_blocking(move || looks.busy().is_ok() && looks.processes().is_ok())
            })
            .collect();
        for asked in asked {
            assert!(asked.await.expect("no panic"));
        }
    }
}
