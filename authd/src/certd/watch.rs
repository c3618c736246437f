//! The stream of revoked keys. While it is down nobody logs in with a key.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use doorward_launch::chain;
use doorward_proto::certd::v1::{RevokedEvent, WatchRevokedRequest, proofs_client::ProofsClient};
use tokio::time::{sleep, timeout};
use tonic::{Streaming, transport::Channel};
use tracing::{info, warn};

use super::failure;
use crate::{
    error::AuthError,
    session::{Fingerprint, Revoked, Sessions},
};

/// From asking to the first message.
const FIRST: Duration = Duration::from_secs(5);
/// Between two tries: this much at first, twice as much each time, up to the most.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Asked for again with each new watch: clocks that were read on two sides of a second.
const OVERLAP: u64 = 5;

/// Keeps the stream up; never ends. `up` says whether it is.
pub(super) async fn run(mut client: ProofsClient<Channel>, sessions: Arc<Sessions>, up: Arc<AtomicBool>) {
    let mut pause = PAUSE;
    let mut told = false;
    loop {
        let failure = match timeout(FIRST, open(&mut client, &sessions)).await {
            Ok(Ok(mut stream)) => {
                up.store(true, Ordering::Release);
                info!("certd tells which keys are revoked");
                (pause, told) = (PAUSE, false);
                let failure = follow(&mut stream, &sessions).await;
                up.store(false, Ordering::Release);
                failure
            }
            Ok(Err(failure)) => failure,
            Err(_) => AuthError::CertdTimedOut,
        };
        if !told {
            warn!(cause = %chain(&failure), "certd does not tell which keys are revoked: no login by key");
            told = true;
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// The stream, after its first message, which says that the watch is in place.
async fn open(
    client: &mut ProofsClient<Channel>,
    sessions: &Sessions,
) -> Result<Streaming<RevokedEvent>, AuthError> {
    // Never 0, which would leave out what is revoked while the request is on its way.
    let since = sessions.revocable_since().saturating_sub(OVERLAP).max(1);
    let request = WatchRevokedRequest { since: i64::try_from(since).unwrap_or(i64::MAX) };
    let mut stream = client.watch_revoked(request).await.map_err(failure)?.into_inner();
    match stream.message().await.map_err(failure)? {
        Some(first) if first.fingerprint.is_empty() => Ok(stream),
        Some(_) => Err(AuthError::Certd("the watch began with an event".into())),
        None => Err(AuthError::Certd("the watch ended before it began".into())),
    }
}

/// Ends what is revoked, until the stream ends: why it did.
async fn follow(stream: &mut Streaming<RevokedEvent>, sessions: &Sessions) -> AuthError {
    loop {
        let event = match stream.message().await {
            Ok(Some(event)) => event,
            Ok(None) => return AuthError::Certd("the watch ended".into()),
            Err(status) => return failure(status),
        };
        let Ok(fingerprint) = <[u8; 32]>::try_from(event.fingerprint.as_slice()) else {
            return AuthError::Certd("an event names no key".into());
        };
        let revoked = Revoked {
            fingerprint: Fingerprint(fingerprint),
            user: event.user,
            utc: u64::try_from(event.revoked).unwrap_or(0),
        };
        match sessions.end_by_key(&revoked).await {
            Ok(0) => {}
            Ok(count) => {
                info!(key = %revoked.fingerprint, user = revoked.user, count, "a key was revoked: its sessions ended");
            }
            // They are ended; what is left on disk is removed later, and logged there.
            Err(failure) => warn!(cause = %chain(&failure), "sessions of a revoked key are not yet removed"),
        }
    }
}
