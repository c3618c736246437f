//! Seeing that a file of keys has changed, by looking once a second.

use std::{path::Path, time::Duration};

use doorward_launch::{chain, file::Stamp};
use tokio::{task::spawn_blocking, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Issuer, Issuers, KeyFile, keys};

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// The file as it was at a look; None: it cannot be looked at.
type Found = Option<Stamp>;

/// The files at the last look, once there was one.
#[derive(Debug, Default)]
pub(super) struct Seen(Vec<Option<Found>>);

impl Issuers {
    /// Takes over what files of keys hold, until `stop`. A file that cannot be used changes nothing: the keys that
    /// there were go on to hold, and it is said once.
    pub async fn keep(&self, stop: &CancellationToken) {
        if self.0.is_empty() {
            return;
        }
        let mut seen = Seen::default();
        while stop.run_until_cancelled(sleep(PAUSE)).await.is_some() {
            self.look(&mut seen).await;
        }
    }

    /// One look at every file. At the first one each is read once more: it may have changed since the start.
    pub(super) async fn look(&self, seen: &mut Seen) {
        seen.0.resize(self.0.len(), None);
        for ((issuer, keys), seen) in self.0.iter().zip(&mut seen.0) {
            let looked = spawn_blocking({
                let (issuer, before) = (issuer.clone(), *seen);
                move || look(&issuer, before)
            });
            // Nobody cancels it, and a panic is no reason to look no more.
            let Ok(Some((stamp, read))) = looked.await else { continue };
            let first = seen.replace(stamp).is_none();
            match read {
                Ok(read) => {
                    if !first {
                        let file = path(&issuer.file).display();
                        info!(%file, keys = read.len(), "keys of an issuer are taken over");
                    }
                    keys.set(read);
                }
                Err(failure) => {
                    warn!(cause = %chain(&failure), "keys of an issuer cannot be used; those of before hold");
                }
            }
        }
    }
}

/// What the file holds, if it is not what it was.
fn look(issuer: &Issuer, before: Option<Found>) -> Option<(Found, Result<Vec<keys::Key>, keys::KeyError>)> {
    // Before the file is read: what changes in between is seen at the next look.
    let stamp = Stamp::at(path(&issuer.file));
    (before != Some(stamp)).then(|| (stamp, keys::read(&issuer.file, issuer.signing)))
}

fn path(file: &KeyFile) -> &Path {
    match file {
        KeyFile::Key(path) | KeyFile::Set(path) => path,
    }
}
