//! The event `system-state`: a look every few seconds, and an event when there is something to tell.

use std::sync::Arc;
use std::time::{Duration, Instant};

use doorward_subsystem::{Ended, Publisher};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use crate::facts::Disk;
use crate::look::{self, Looks};
use crate::settings::Settings;
use crate::state::{Seen, Telling};

/// The name of the event.
pub(crate) const EVENT: &str = "system-state";
/// A disk that takes longer does not answer.
const DISKS_WITHIN: Duration = Duration::from_secs(5);

/// What is seen now.
pub(crate) async fn see(looks: &Arc<Looks>) -> Seen {
    let at = Arc::clone(looks);
    let asked: JoinHandle<_> = spawn_blocking(move || at.disks());
    // Busy: somebody has just asked, and has got no answer yet.
    let disks: Option<Vec<Disk>> = match timeout(DISKS_WITHIN, asked).await {
        Ok(Ok(Ok(disks))) => Some(disks),
        _ => None,
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
