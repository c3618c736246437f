//! What is remembered of revoked keys, and what of it is told.

use super::*;

fn revoked(number: u16, when: i64) -> Entry {
    Entry { revoked: Some(when), revoked_by: "root".into(), ..entry(number, "alice") }
}

async fn times(registry: &Registry, since: i64) -> Vec<i64> {
    registry.revocations(since).await.expect("works").iter().map(|found| found.revoked).collect()
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
