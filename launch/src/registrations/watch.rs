//! Seeing that the directory has changed. By looking, once a second: it is small, and the same on every system.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use super::{Registrations, files, read};
use crate::file::Stamp;

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// Users come and go without a change of the files.
const ANEW: Duration = Duration::from_secs(60);

/// Tells what the directory holds, whenever that has changed.
#[derive(Debug)]
pub struct Watch {
    directory: PathBuf,
    seen: Stamps,
    read: Option<(Instant, Registrations)>,
}

type Stamps = BTreeMap<PathBuf, Stamp>;

impl Watch {
    /// Nothing is told yet.
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), seen: Stamps::new(), read: None }
    }

    /// What there is: at once the first time, then when it is not what it was. Dropped, it has told nothing.
    pub async fn changed(&mut self) -> Registrations {
        loop {
            if self.read.is_some() {
                sleep(PAUSE).await;
            }
            let due = self.read.as_ref().is_none_or(|(then, _)| then.elapsed() >= ANEW);
            let (directory, seen) = (self.directory.clone(), self.seen.clone());
            let looked = spawn_blocking(move || {
                // Before the files are read: what changes in between is seen at the next look.
                let stamps = stamps(&directory);
                (due || stamps != seen).then(|| (stamps, read(&directory)))
            });
            // Nobody cancels it, and a panic is no reason to look no more.
            let Ok(Some((stamps, now))) = looked.await else { continue };
            self.seen = stamps;
            let same = self.read.as_ref().is_some_and(|(_, before)| *before == now);
            self.read = Some((Instant::now(), now.clone()));
            if !same {
                return now;
            }
        }
    }
}

/// What cannot be looked at has no stamp; reading says why.
fn stamps(directory: &Path) -> Stamps {
    let files = files(directory).unwrap_or_default().into_iter();
    files.filter_map(|path| Stamp::at(&path).map(|stamp| (path, stamp))).collect()
}
