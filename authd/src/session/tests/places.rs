//! Who has how many places for sessions, and whose end makes room.

use super::*;

#[tokio::test]
async fn the_bounds_hold_and_an_end_makes_room() {
    let (directory, hand) = (tempfile::tempdir().expect("temp dir"), hand());
    let sessions = open(directory.path(), &hand);
    let mut tokens = Vec::new();
    for _ in 0..3 {
        tokens.push(sessions.grant(holder("alice")).await.expect("granted").0);
    }
    assert!(matches!(sessions.grant(holder("alice")).await, Err(AuthError::TooManySessions("of this user"))));
    sessions.grant(holder("bob")).await.expect("granted");
    assert!(matches!(sessions.grant(holder("carol")).await, Err(AuthError::TooManySessions("in all"))));
    sessions.end(&tokens[0], EndReason::Cleared).await.expect("ended");
    sessions.grant(holder("carol")).await.expect("granted");
    sessions.close().await;
}

#[tokio::test]
async fn at_the_bound_of_a_user_the_oldest_ends_where_that_is_configured() {
    let (directory, hand) = (tempfile::tempdir().expect("temp dir"), hand());
    let sessions = open(directory.path(), &hand);
    sessions.bound(Bounds { total: 6, at_limit: AtLimit::EndOldest, ..bounds() });
    let others = sessions.grant(holder("bob")).await.expect("granted").0;
    let mut all = Vec::new();
    for _ in 0..4 {
        hand.forward(1_000);
        all.push(sessions.grant(holder("alice")).await.expect("granted").0);
    }
    let live =
        |tokens: &[Token]| tokens.iter().map(|t| sessions.check(t, None).is_some()).collect::<Vec<_>>();
    assert_eq!(live(&all), [false, true, true, true]);
    // Used lately is not begun lately.
    hand.forward(1_000);
    assert!(sessions.check(&all[1], Some(0)).is_some());
    // A bound that was made smaller holds from the next login on.
    sessions.bound(Bounds { total: 6, per_user: 2, at_limit: AtLimit::EndOldest, ..bounds() });
    all.push(sessions.grant(holder("alice")).await.expect("granted").0);
    assert_eq!(live(&all), [false, false, false, true, true]);
    assert!(sessions.check(&others, None).is_some(), "nobody else's");
    sessions.bound(Bounds { total: 2, at_limit: AtLimit::EndOldest, ..bounds() });
    assert!(matches!(sessions.grant(holder("carol")).await, Err(AuthError::TooManySessions("in all"))));
    sessions.close().await;
    let sessions = open(directory.path(), &hand);
    assert!(sessions.check(&all[1], None).is_none(), "it was on disk");
    sessions.close().await;
}

fn other(id: &str) -> Holder {
    let text = |text: &str| text.to_owned();
    let who =
        Identity::Other { kind: text("terminal"), id: text(id), pk: text("7"), name: text("Terminal 7") };
    Holder { who, method: "model".into(), dialect: Dialect::Channel, source: String::new() }
}

#[tokio::test]
async fn somebody_without_an_account_is_counted_by_himself_and_kept_over_a_restart() {
    let (directory, hand) = (tempfile::tempdir().expect("temp dir"), hand());
    let sessions = open(directory.path(), &hand);
    sessions.bound(Bounds { total: 10, per_user: 2, ..bounds() });
    let (oldest, _) = sessions.grant_on(other("alice"), terms(&[])).await.expect("granted");
    hand.forward(1);
    sessions.grant_on(other("alice"), terms(&[])).await.expect("granted");
    let (token, _) = sessions.grant_on(other("alice"), terms(&["ws.#"])).await.expect("granted");
    assert!(sessions.check(&oldest, None).is_none(), "as many as may be");
    // The same word is another identity: a user of the host, or of another kind.
    let (of_user, _) = sessions.grant(holder("alice")).await.expect("granted");
    assert_eq!(sessions.user_after(None).as_deref(), Some("alice"));
    assert_eq!(sessions.user_after(Some("alice")), None, "of others no database is asked");
    let own = Scope::Account { user: "alice".into(), uid: 1000 };
    assert_eq!(sessions.page(&own, None, 10).len(), 1);
    assert_eq!(sessions.page(&Scope::Everybody, None, 10).len(), 3);
    assert_eq!(sessions.end_departed("alice", |_| false).await.expect("on disk"), 1);
    assert!(sessions.check(&of_user, None).is_none());
    sessions.close().await;
    let sessions = open(directory.path(), &hand);
    let (found, standing) = sessions.check(&token, Some(0)).expect("alive");
    assert_eq!(
        (Holder::clone(&found.holder), found.acl.as_deref()),
        (other("alice"), Some(&["ws.#".to_owned()][..]))
    );
    assert_eq!(standing, Standing::Live { idle_left: 7_200_000, absolute_left: 7_200_000 });
    sessions.close().await;
}

#[tokio::test]
async fn sessions_of_channels_take_no_place_of_a_users_others() {
    let (directory, hand) = (tempfile::tempdir().expect("temp dir"), hand());
    let sessions = open(directory.path(), &hand);
    sessions.bound(Bounds { total: 100, ..bounds() });
    let by_jwt = || Holder { method: BY_JWT.into(), dialect: Dialect::Channel, ..holder("alice") };
    let own = sessions.grant(holder("alice")).await.expect("granted").0;
    let mut all = Vec::new();
    for _ in 0..5 {
        hand.forward(1_000);
        all.push(sessions.grant_on(by_jwt(), terms(&["ws.#"])).await.expect("the oldest ends").0);
    }
    let live: Vec<_> = all.iter().map(|token| sessions.check(token, None).is_some()).collect();
    assert_eq!(live, [false, false, true, true, true]);
    assert!(sessions.check(&own, None).is_some(), "it is older, and no session of channels");
    for _ in 0..2 {
        sessions.grant(holder("alice")).await.expect("as many as may be");
    }
    assert!(matches!(sessions.grant(holder("alice")).await, Err(AuthError::TooManySessions("of this user"))));
    sessions.close().await;
    // Those of the store are counted alike.
    let sessions = open(directory.path(), &hand);
    sessions.bound(Bounds { total: 100, ..bounds() });
    sessions.grant_on(by_jwt(), terms(&["ws.#"])).await.expect("the oldest ends");
    assert_eq!(sessions.page(&Scope::Everybody, None, 100).len(), 6);
    sessions.close().await;
}

#[tokio::test]
async fn whoever_makes_names_without_end_leaves_most_of_the_table_to_users_of_the_host() {
    let (directory, hand) = (tempfile::tempdir().expect("temp dir"), hand());
    let sessions = open(directory.path(), &hand);
    sessions.bound(Bounds { total: 12, ..bounds() });
    let by_jwt = |user| Holder { method: BY_JWT.into(), dialect: Dialect::Channel, ..holder(user) };
    let (first, _) = sessions.grant_on(other("1"), terms(&[])).await.expect("granted");
    sessions.grant_on(other("2"), terms(&[])).await.expect("granted");
    sessions.grant_on(by_jwt("alice"), terms(&[])).await.expect("granted");
    let full = AuthError::TooManySessions("by the word of issuers and plug-ins").to_string();
    for one in [other("4"), by_jwt("bob")] {
        let refused = sessions.grant_on(one, terms(&[])).await.map(drop);
        assert_eq!(refused.map_err(|failure| failure.to_string()), Err(full.clone()));
    }
    for user in ["alice", "bob", "carol"] {
        for _ in 0..3 {
            sessions.grant(holder(user)).await.expect("three quarters are the host's");
        }
    }
    sessions.end(&first, EndReason::Cleared).await.expect("ended");
    sessions.grant_on(other("4"), terms(&[])).await.expect("an end makes room");
    sessions.close().await;
}

#[tokio::test]
async fn where_all_places_are_taken_a_session_of_channels_takes_that_of_its_own_that_a_killed_gateway_left() {
    let (directory, hand) = (tempfile::tempdir().expect("temp dir"), hand());
    let sessions = open(directory.path(), &hand);
    sessions.bound(Bounds { total: 12, ..bounds() });
    let mut left = Vec::new();
    for id in ["1", "2", "3"] {
        left.push(sessions.grant_on(other(id), terms(&[])).await.expect("granted").0);
    }
    assert!(sessions.grant_on(other("4"), terms(&[])).await.is_err(), "it has none that could end");
    sessions.grant_on(other("2"), terms(&[])).await.expect("in the place of its own");
    let live: Vec<_> = left.iter().map(|token| sessions.check(token, None).is_some()).collect();
    assert_eq!(live, [true, false, true]);
    assert_eq!(sessions.page(&Scope::Everybody, None, 100).len(), 3);
    sessions.close().await;
}

#[tokio::test]
async fn who_is_to_be_the_only_one_ends_the_older_and_nobody_elses() {
    let (directory, hand) = (tempfile::tempdir().expect("temp dir"), hand());
    let sessions = Arc::new(open(directory.path(), &hand));
    sessions.bound(Bounds { total: 400, per_user: 100, ..bounds() });
    let only = || Terms { only_one: true, ..terms(&["ws.#"]) };
    let (first, session) = sessions.grant_on(other("t-7"), only()).await.expect("granted");
    let (another, _) = sessions.grant_on(other("t-8"), only()).await.expect("granted");
    let mut watch = sessions.watch().expect("room");
    let (second, _) = sessions.grant_on(other("t-7"), only()).await.expect("granted");
    assert_eq!(
        watch.next().await,
        Some(News::Ended(Ended { session: session.id, reason: EndReason::Replaced }))
    );
    let lives = |token: &Token| sessions.check(token, None).is_some();
    assert_eq!([&first, &second, &another].map(lives), [false, true, true]);
    // Of many at once exactly one is left.
    let racing: Vec<_> = (0..50)
        .map(|_| {
            let sessions = sessions.clone();
            tokio::spawn(async move { sessions.grant_on(other("t-7"), only()).await.expect("granted").0 })
        })
        .collect();
    let all = futures_util::future::join_all(racing).await;
    let left = all.iter().filter(|one| lives(one.as_ref().expect("no panic"))).count();
    assert_eq!((left, lives(&second)), (1, false));
    sessions.close().await;
    let sessions = open(directory.path(), &hand);
    assert_eq!(sessions.page(&Scope::Everybody, None, 100).len(), 2, "on disk, too");
    sessions.close().await;
}

#[tokio::test]
async fn a_session_of_the_only_one_has_one_connection_at_a_time_and_others_any_number() {
    let (directory, hand) = (tempfile::tempdir().expect("temp dir"), hand());
    let mut sessions = Arc::new(open(directory.path(), &hand));
    sessions.bound(Bounds { total: 400, ..bounds() });
    let only = Terms { only_one: true, ..terms(&["ws.#"]) };
    let (_, session) = sessions.grant_on(other("t-7"), only).await.expect("granted");
    let (_, any) = sessions.grant_on(other("t-8"), terms(&["ws.#"])).await.expect("granted");
    let name = uuid::Uuid::from_u128;
    for by in [name(1), name(2)] {
        assert_eq!(sessions.take_turn(any.id, by).await.expect("fine"), 0);
    }
    let mut watch = sessions.watch().expect("room");
    let granted = sessions.turn(session.id);
    let first = sessions.take_turn(session.id, name(1)).await.expect("on disk");
    assert!(granted > 0 && first > granted);
    assert_eq!(watch.next().await, Some(News::TakenUp { session: session.id, turn: first }));
    assert_eq!(sessions.take_turn(session.id, name(1)).await.expect("fine"), first, "from nobody");
    assert!(watch.news.is_empty());
    // Of many at once one has the highest number, and it is the last that is told.
    let racing: Vec<_> = (10..40)
        .map(|by| {
            let sessions = sessions.clone();
            tokio::spawn(async move { sessions.take_turn(session.id, name(by)).await.expect("on disk") })
        })
        .collect();
    let mut numbers = std::collections::BTreeSet::new();
    for one in racing {
        numbers.insert(one.await.expect("no panic"));
    }
    let highest = *numbers.last().expect("some");
    assert_eq!((numbers.len(), sessions.turn(session.id)), (30, highest));
    let mut told = Vec::new();
    while let Ok(News::TakenUp { turn, .. }) = watch.news.try_recv() {
        told.push(turn);
    }
    assert!(told.is_sorted() && told.last() == Some(&highest), "{told:?}");
    // Killed in that moment it knows the same.
    sessions.close().await;
    sessions = Arc::new(open(directory.path(), &hand));
    assert_eq!((sessions.turn(session.id), sessions.turn(any.id)), (highest, 0));
    assert!(sessions.take_turn(session.id, name(1)).await.expect("on disk") > highest);
    sessions.end_named(&Scope::Everybody, session.id).await.expect("ended");
    assert_eq!(sessions.turn(session.id), 0);
    sessions.close().await;
}
