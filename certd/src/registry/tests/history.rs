//! What is remembered of revoked keys, and what of it is told.

use super::*;

fn revoked(number: u16, when: i64) -> Entry {
    Entry { revoked: Some(when), revoked_by: "root".into(), ..entry(number, "alice") }
}

async fn come_and_go(registry: &Registry, number: u16, when: i64) {
    let key = registry
        .register(entry(number, "alice"), |_| ())
        .await
        .expect("works")
        .expect("room")
        .entry
        .fingerprint;
    assert_eq!(registry.revoke(key, "alice".into(), "alice".into(), when, || ()).await, Ok(true));
}

async fn times(registry: &Registry, since: i64) -> Vec<i64> {
    registry.revocations(since).await.expect("works").iter().map(|found| found.revoked).collect()
}

#[tokio::test]
async fn all_keys_that_a_user_may_have_can_be_revoked_and_are_told_to_a_watcher_that_comes_later() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let limits = Limits { per_user: 100, total: 1000 };
    let registry = Registry::open(directory.path(), limits, Watch::nothing()).expect("an empty registry");
    for number in 0..120 {
        come_and_go(&registry, number, i64::from(number)).await;
    }
    assert_eq!(times(&registry, 0).await, (20..120).rev().collect::<Vec<_>>());
}

/// An importer's clock is not ours.
#[tokio::test]
async fn times_that_an_import_has_push_no_revocation_of_ours_out() {
    let Fixture { directory: _directory, registry } = fixture();
    let imported = (100..164).map(|number| revoked(number, 1_000_000)).collect();
    registry.import(imported, |_| ()).await.expect("works");
    come_and_go(&registry, 1, 300).await;
    come_and_go(&registry, 2, 400).await;
    let found = times(&registry, 0).await;
    assert!(found.contains(&300) && found.contains(&400), "{found:?}");
}

#[tokio::test]
async fn what_was_revoked_elsewhere_ends_nothing_that_a_live_key_opened_here() {
    let fixture = fixture();
    fixture.register(entry(1, "alice")).await.expect("room");
    fixture.registry.import(vec![revoked(1, 200), revoked(2, 300)], |_| ()).await.expect("works");
    assert_eq!(times(&fixture.registry, 1).await, [300], "of a key that is not live here it is told");
    // What is revoked here is told, also of a key whose earlier end was imported.
    let key = entry(1, "alice").fingerprint;
    assert_eq!(fixture.registry.revoke(key, "alice".into(), "alice".into(), 400, || ()).await, Ok(true));
    fixture.register(Entry { registered: 500, ..entry(1, "alice") }).await.expect("room");
    let fixture = fixture.reopened().await;
    assert_eq!(times(&fixture.registry, 1).await, [400, 300]);
}
