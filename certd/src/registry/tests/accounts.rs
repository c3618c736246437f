//! Whose a key is when a name becomes somebody else's.

use super::*;

fn of(uid: Option<u32>, proven: bool) -> Entry {
    Entry { uid, proven, ..entry(1, "alice") }
}

#[test]
fn the_rules_for_accounts_of_one_name() {
    for (was, was_proven, is, proven, expected) in [
        (Some(1), true, Some(1), true, Decision::Keep),
        (Some(1), true, Some(1), false, Decision::Keep),
        (Some(1), false, Some(1), true, Decision::Prove),
        (Some(1), true, None, true, Decision::Keep),
        (None, true, None, true, Decision::Keep),
        // Whoever proves a key of an account that nobody knows makes it theirs, and nobody else does.
        (None, true, Some(1), true, Decision::Prove),
        (None, true, Some(1), false, Decision::Keep),
        (Some(1), true, Some(2), true, Decision::Renew),
        (Some(1), true, Some(2), false, Decision::Renew),
        (Some(1), false, Some(2), false, Decision::Renew),
    ] {
        let holder = Some(KeyHolder { user: "alice".into(), uid: was, proven: was_proven });
        let facts = Facts { holder, of_user: LIMITS.per_user, total: LIMITS.total };
        let decided = decide(&facts, &of(is, proven), LIMITS);
        assert_eq!(decided, Ok(expected), "{was:?} {was_proven} {is:?} {proven}");
    }
}

#[tokio::test]
async fn an_account_that_has_the_name_by_now_takes_the_key_by_a_registration_of_its_own() {
    let fixture = fixture();
    fixture.register(of(None, true)).await.expect("room");
    // What was of nobody in particular is whoever's who proves it.
    assert_eq!(fixture.register(of(Some(1001), true)).await.map(|entry| entry.uid), Ok(Some(1001)));
    let mut watcher = fixture.registry.revoked();
    let new = Entry { registered: 200, ..of(Some(1002), false) };
    let registered = fixture.registry.register(new.clone(), |_| ()).await.expect("works").expect("taken");
    let displaced = Some("alice".to_owned());
    assert_eq!(registered, Registered { entry: new, displaced, changed: true });
    let told = Revocation { fingerprint: of(None, true).fingerprint, user: "alice".into(), revoked: 200 };
    assert_eq!(watcher.try_recv(), Ok(told), "what the other account's key opened ends");
    let fixture = fixture.reopened().await;
    let uids: Vec<_> = fixture.all().await.iter().map(|entry| (entry.uid, entry.revoked.is_some())).collect();
    assert_eq!(uids, [(Some(1001), true), (Some(1002), false)]);
}

#[tokio::test]
async fn an_import_gives_no_key_to_another_account() {
    let fixture = fixture();
    let import =
        async |uid| fixture.registry.import(vec![of(uid, true)], |_| ()).await.expect("works").remove(0);
    assert_eq!(import(None).await, Ok(Imported::Added));
    assert_eq!(import(Some(1001)).await, Ok(Imported::Known));
    assert_eq!(fixture.all().await[0].uid, None);
    fixture.register(of(Some(1001), true)).await.expect("proven");
    assert_eq!(import(Some(1002)).await, Ok(Imported::Known));
    assert_eq!(fixture.all().await[0].uid, Some(1001));
}
