//! Penalties on disk and as they are told.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

const RULES: Rules = Rules { failures: 2, within_ms: 600_000, first_ms: 60_000, longest_ms: 3_600_000 };
const SOURCE: SourceKey = SourceKey::Uid(7);

struct Bench {
    directory: tempfile::TempDir,
    now: Arc<AtomicU64>,
}

impl Bench {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a directory"), now: Arc::new(AtomicU64::new(1_000)) }
    }

    fn open(&self, boot: &str) -> Arc<Penalties> {
        let now = self.now.clone();
        let clock = Clock::from_fn(move || now.load(Ordering::SeqCst));
        let boot = Boot(boot.to_owned());
        let penalties = Penalties::open(self.directory.path(), &boot, clock, RULES, Duration::ZERO);
        Arc::new(penalties.expect("opened"))
    }
}

fn penalise(penalties: &Arc<Penalties>) {
    for _ in 0..2 {
        penalties.begin(SOURCE).expect("a try").fail();
    }
}

#[tokio::test]
async fn a_restart_forgives_nobody_and_a_reboot_everybody() {
    let bench = Bench::new();
    let penalties = bench.open("one");
    penalise(&penalties);
    penalties.begin(SourceKey::Uid(8)).expect("a try").fail();
    penalties.close().await;
    drop(penalties);
    bench.now.fetch_add(10_000, Ordering::SeqCst);
    let again = bench.open("one");
    assert_eq!(again.left(&SOURCE), Some(Duration::from_millis(50_000)));
    again.begin(SourceKey::Uid(8)).expect("a try").fail();
    assert!(again.left(&SourceKey::Uid(8)).is_some(), "the failure before the restart counts");
    again.close().await;
    drop(again);
    assert_eq!(bench.open("two").left(&SOURCE), None);
}

#[tokio::test]
async fn what_is_counted_is_written_without_a_stop() {
    let bench = Bench::new();
    let penalties = bench.open("one");
    let stop = CancellationToken::new();
    let keeper = tokio::spawn({
        let (penalties, stop) = (penalties.clone(), stop.clone());
        async move { penalties.keep(&stop).await }
    });
    penalise(&penalties);
    // As after kill -9: the file is read while the first one has neither stopped nor closed.
    let written = async {
        while bench.open("one").left(&SOURCE).is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), written).await.expect("written");
    stop.cancel();
    keeper.await.expect("no panic");
}

#[tokio::test]
async fn a_damaged_file_is_begun_anew_and_somebody_elses_refused() {
    let bench = Bench::new();
    let penalties = bench.open("one");
    penalise(&penalties);
    penalties.close().await;
    drop(penalties);
    let file = bench.directory.path().join("penalties.sqlite");
    std::fs::write(&file, vec![0x5a; 8_192]).expect("written");
    let penalties = bench.open("one");
    assert_eq!(penalties.left(&SOURCE), None);
    penalise(&penalties);
    penalties.close().await;
    drop(penalties);
    assert!(bench.open("one").left(&SOURCE).is_some(), "the new one is kept");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("chmod");
    let open = Penalties::open(
        bench.directory.path(),
        &Boot("one".to_owned()),
        Clock::of_the_system(),
        RULES,
        Duration::ZERO,
    );
    assert!(matches!(open, Err(StoreError::Refused(_))));
}

#[tokio::test]
async fn a_watch_begins_with_all_there_are_and_goes_on_with_changes() {
    let bench = Bench::new();
    let penalties = bench.open("one");
    let mut watch = penalties.watch().expect("a place");
    assert_eq!(watch.next().await, Some((Vec::new(), true)));
    for number in 1_000..2_025 {
        penalties.begin(SourceKey::Uid(number)).expect("a try").fail();
    }
    let mut late = penalties.watch().expect("a place");
    let mut told = Vec::new();
    loop {
        let (some, ready) = late.next().await.expect("more");
        assert!(some.len() <= TOLD_AT_ONCE);
        told.extend(some);
        if ready {
            break;
        }
    }
    assert_eq!(told.len(), 1_025);
    assert_eq!(watch.next().await, None, "who does not listen is told to begin again");
    penalise(&penalties);
    let (some, _) = late.next().await.expect("changes");
    let penalty = some.last().expect("one").1;
    assert_eq!(penalty.penalty_ms, 60_000);
    let _others = [penalties.watch(), penalties.watch()];
    assert!(matches!(penalties.watch(), Err(AuthError::TooManyWatchers)));
    drop(watch);
    assert!(penalties.watch().is_ok());
}
