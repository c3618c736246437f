//! What comes due without anybody asking: idle sessions end, uses and ends get to the disk.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::{
    SessionId, Sessions,
    undo::{Grave, Owed},
};
use crate::error::AuthError;

/// How often what went idle is looked for and activity is written.
const REAP_EVERY: Duration = Duration::from_millis(500);

impl Sessions {
    /// Ends what is due and writes activity, until `stop`; then closes the store.
    pub async fn keep(&self, stop: &CancellationToken) {
        let mut stirred = self.stirring();
        while self.rest(&mut stirred, REAP_EVERY, stop).await {
            self.reap().await;
        }
    }

    /// Tells when there may be something to keep; for [`Sessions::rest`].
    pub fn stirring(&self) -> watch::Receiver<()> {
        self.stirred.subscribe()
    }

    /// Waits for `pause` where there is a session, for the first one where there is none. False: `stop`.
    pub async fn rest(
        &self,
        stirred: &mut watch::Receiver<()>,
        pause: Duration,
        stop: &CancellationToken,
    ) -> bool {
        let asleep = async {
            if self.table().idle() {
                // The sender is ours, so it is there.
                let _ = stirred.changed().await;
            } else {
                tokio::time::sleep(pause).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => false,
            () = asleep => true,
        }
    }

    /// Writes what is unwritten and closes the store. Later calls fail.
    pub async fn close(&self) {
        // Both have been logged where they failed; nothing more can be done for them here.
        let _ = self.save_uses().await;
        let Some(store) = self.store.write().await.take() else { return };
        if tokio::task::spawn_blocking(move || store.close()).await.is_err() {
            error!("closing the session store panicked");
        }
    }

    /// One round of [`Sessions::keep`].
    pub(in crate::session) async fn reap(&self) {
        let (due, again) = {
            let now = self.clock.now();
            let mut table = self.table();
            let due = table.take_due(now);
            (due, std::mem::take(&mut table.undeleted))
        };
        let mut gone = again;
        for (session, reason) in due {
            self.tell(&session, reason);
            gone.push(session.id);
        }
        // Failures are logged there and tried again in the next round.
        let _ = self.forget(gone).await;
        let _ = self.save_uses().await;
    }

    pub(super) async fn forget(&self, sessions: Vec<SessionId>) -> Result<(), AuthError> {
        if sessions.is_empty() {
            return Ok(());
        }
        let grave = Grave::of(self, sessions.clone());
        let result = self.with_store(async |store| store.end(sessions).await).await;
        match result {
            Ok(()) => grave.empty(),
            Err(ref failure) => error!(cause = %failure, "ended sessions are not yet removed from disk"),
        }
        result
    }

    pub(super) async fn save_uses(&self) -> Result<(), AuthError> {
        let (hashes, times): (Vec<_>, Vec<_>) = {
            let mut table = self.table();
            let hashes = std::mem::take(&mut table.unsaved);
            let found =
                |hash| table.by_token.get(&hash).map(|session| (hash, (session.id, session.last_used)));
            hashes.into_iter().filter_map(found).unzip()
        };
        if times.is_empty() {
            return Ok(());
        }
        let owed = Owed::of(self, hashes);
        let result = self.with_store(async |store| store.used(times).await).await;
        match &result {
            Ok(()) => owed.written(),
            Err(failure) => {
                if let Some(unsaid) = self.table().unwritten.now() {
                    error!(cause = %failure, unsaid, "activity is not yet on disk");
                }
            }
        }
        result
    }
}
