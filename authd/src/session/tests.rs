//! The table and its store, with a clock that the test moves.

use std::{
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::*;
use crate::{error::AuthError, secret::Token};

#[derive(Clone)]
struct Hand(Arc<AtomicU64>);

impl Hand {
    fn clock(&self) -> Clock {
        let now = self.0.clone();
        Clock::from_fn(move || now.load(Ordering::SeqCst))
    }

    fn forward(&self, millis: u64) {
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

fn hand() -> Hand {
    Hand(Arc::new(AtomicU64::new(1_000_000)))
}

fn boot() -> Boot {
    Boot("11111111-2222-3333-4444-555555555555".into())
}

fn bounds() -> Bounds {
    Bounds {
        idle: Duration::from_secs(300),
        absolute: Duration::from_secs(43_200),
        per_user: 3,
        total: 4,
        at_limit: AtLimit::Refuse,
    }
}

fn holder(user: &str) -> Holder {
    Holder {
        who: Identity::User { name: user.into(), uid: 1000 },
        method: "password".into(),
        dialect: Dialect::Sysadm,
        source: "192.0.2.1".into(),
    }
}

fn open(directory: &std::path::Path, hand: &Hand) -> Sessions {
    Sessions::open(directory, &boot(), hand.clock(), bounds()).expect("opened")
}

#[tokio::test]
async fn a_session_survives_a_restart_with_its_clocks_and_without_its_token_on_disk() {
    let (directory, hand) = (tempfile::tempdir().expect("temp dir"), hand());
    let sessions = open(directory.path(), &hand);
    let (token, session) = sessions.grant(holder("alice")).await.expect("granted");
    hand.forward(100_000);
    sessions.report(vec![Used { token: token.clone(), ago_ms: 40_000 }]).await.expect("on disk");
    sessions.close().await;
    let files = std::fs::read(directory.path().join("sessions.sqlite")).expect("read");
    assert!(!files.windows(36).any(|window| window == token.expose().as_bytes()));

    hand.forward(10_000);
    let sessions = open(directory.path(), &hand);
    let (found, standing) = sessions.check(&token, None).expect("alive");
    assert_eq!((found.id, found.holder.clone()), (session.id, session.holder));
    assert_eq!(standing, Standing::Live { idle_left: 250_000, absolute_left: 43_090_000 });
    sessions.close().await;
}

#[tokio::test]
async fn an_ended_session_stays_ended_over_a_restart() {
    let (directory, hand) = (tempfile::tempdir().expect("temp dir"), hand());
    let sessions = open(directory.path(), &hand);
    let (token, session) = sessions.grant(holder("alice")).await.expect("granted");
    let mut watch = sessions.watch().expect("room");
    assert!(sessions.end(&token, EndReason::Cleared).await.expect("ended"));
    assert_eq!(
        watch.next().await,
        Some(News::Ended(Ended { session: session.id, reason: EndReason::Cleared }))
    );
    assert!(sessions.check(&token, Some(0)).is_none());
    assert!(!sessions.end(&token, EndReason::Cleared).await.expect("fine"));
    sessions.close().await;
    let sessions = open(directory.path(), &hand);
    assert!(sessions.check(&token, None).is_none());
    sessions.close().await;
}

#[tokio::test]
async fn a_reboot_ends_every_session() {
    let (directory, hand) = (tempfile::tempdir().expect("temp dir"), hand());
    let sessions = open(directory.path(), &hand);
    let (token, _) = sessions.grant(holder("alice")).await.expect("granted");
    sessions.close().await;
    let other = Boot("99999999-2222-3333-4444-555555555555".into());
    let sessions = Sessions::open(directory.path(), &other, hand.clock(), bounds()).expect("opened");
    assert!(sessions.check(&token, None).is_none());
    sessions.close().await;
    let sessions = open(directory.path(), &hand);
    assert!(sessions.check(&token, None).is_none(), "nor does the old boot come back");
    sessions.close().await;
}

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
async fn a_use_told_late_keeps_a_session_that_nobody_may_use_meanwhile() {
    let (directory, hand) = (tempfile::tempdir().expect("temp dir"), hand());
    let sessions = open(directory.path(), &hand);
    let (token, session) = sessions.grant(holder("alice")).await.expect("granted");
    let mut watch = sessions.watch().expect("room");
    hand.forward(300_500);
    sessions.reap().await;
    assert!(sessions.check(&token, None).is_none(), "idle to the millisecond");
    sessions.report(vec![Used { token: token.clone(), ago_ms: 1_000 }]).await.expect("on disk");
    assert!(sessions.check(&token, None).is_some(), "it was used in time");
    hand.forward(301_500);
    sessions.reap().await;
    assert_eq!(watch.next().await, Some(News::Ended(Ended { session: session.id, reason: EndReason::Idle })));
    sessions.report(vec![Used { token: token.clone(), ago_ms: 301_000 }]).await.expect("fine");
    assert!(sessions.check(&token, None).is_none(), "what is gone stays gone");
    sessions.close().await;
}

#[tokio::test]
async fn the_whole_life_ends_at_once_and_is_told_so() {
    let (directory, hand) = (tempfile::tempdir().expect("temp dir"), hand());
    let sessions = open(directory.path(), &hand);
    let (token, session) = sessions.grant(holder("alice")).await.expect("granted");
    let mut watch = sessions.watch().expect("room");
    hand.forward(43_200_000);
    assert!(sessions.check(&token, Some(0)).is_none());
    sessions.reap().await;
    assert_eq!(
        watch.next().await,
        Some(News::Ended(Ended { session: session.id, reason: EndReason::Expired }))
    );
    sessions.close().await;
}

#[tokio::test]
async fn a_watcher_that_falls_behind_is_told_to_begin_again() {
    let (directory, hand) = (tempfile::tempdir().expect("temp dir"), hand());
    let many = Bounds { total: 10_000, per_user: 10_000, ..bounds() };
    let sessions = Sessions::open(directory.path(), &boot(), hand.clock(), many).expect("opened");
    let mut watch = sessions.watch().expect("room");
    let grants = (0..4097).map(|_| sessions.grant(holder("alice")));
    for granted in futures_util::future::join_all(grants).await {
        granted.expect("granted");
    }
    hand.forward(43_200_000);
    sessions.reap().await;
    assert_eq!(watch.next().await, None);
    assert_eq!(sessions.watch().expect("room").news.len(), 0);
    sessions.close().await;
}

#[tokio::test]
async fn watchers_are_bounded() {
    let (directory, hand) = (tempfile::tempdir().expect("temp dir"), hand());
    let sessions = open(directory.path(), &hand);
    let held: Vec<_> = (0..16).map(|_| sessions.watch().expect("room")).collect();
    assert!(matches!(sessions.watch(), Err(AuthError::TooManyWatchers)));
    drop(held);
    assert!(sessions.watch().is_ok());
    sessions.close().await;
}

#[tokio::test]
async fn a_closed_store_grants_nothing_and_gives_the_place_back() {
    let (directory, hand) = (tempfile::tempdir().expect("temp dir"), hand());
    let sessions = open(directory.path(), &hand);
    sessions.close().await;
    for _ in 0..5 {
        assert!(matches!(sessions.grant(holder("alice")).await, Err(AuthError::Gone(_))));
    }
}

#[tokio::test]
async fn files_are_0600_and_others_or_a_second_authd_are_refused() {
    let (directory, hand) = (tempfile::tempdir().expect("temp dir"), hand());
    let sessions = open(directory.path(), &hand);
    sessions.grant(holder("alice")).await.expect("granted");
    for entry in directory.path().read_dir().expect("listed") {
        let entry = entry.expect("entry");
        let mode = entry.metadata().expect("there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.file_name());
    }
    let refused = Sessions::open(directory.path(), &boot(), hand.clock(), bounds()).expect_err("locked");
    assert!(refused.to_string().contains("another doorward-authd"), "{refused}");
    sessions.close().await;

    let path = directory.path().join("sessions.sqlite");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("chmod");
    let refused = Sessions::open(directory.path(), &boot(), hand.clock(), bounds()).expect_err("refused");
    assert!(refused.to_string().contains("mode 0600"), "{refused}");
}

#[tokio::test]
async fn a_damaged_or_newer_store_is_refused_with_what_to_do() {
    let hand = hand();
    for (content, says) in [
        (&b"this is not a database, and it is longer than its header would be: refuse it and say so.........."[..], "move it"),
        (&[0xff; 8192][..], "move it"),
    ] {
        let directory = tempfile::tempdir().expect("temp dir");
        let path = directory.path().join("sessions.sqlite");
        std::fs::write(&path, content).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
        let refused = Sessions::open(directory.path(), &boot(), hand.clock(), bounds()).expect_err("refused");
        assert!(refused.to_string().contains(says), "{refused}");
        assert_eq!(std::fs::read(&path).expect("there"), content, "it is left as it was");
    }
    let directory = tempfile::tempdir().expect("temp dir");
    open(directory.path(), &hand).close().await;
    let path = directory.path().join("sessions.sqlite");
    let mut header = std::fs::read(&path).expect("read");
    // The format's header: the user version is a big-endian number at offset 60.
    header[60..64].copy_from_slice(&6_u32.to_be_bytes());
    std::fs::write(&path, header).expect("written");
    let refused = Sessions::open(directory.path(), &boot(), hand.clock(), bounds()).expect_err("refused");
    assert!(refused.to_string().contains("version 6"), "{refused}");
}

/// Not a test of its own: the process that `no_acknowledged_grant_or_end_is_lost_by_kill_9` kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by another test, in a process of its own"]
async fn writes_until_killed() {
    let Some(directory) = std::env::var_os("DOORWARD_TEST_STORE") else { return };
    let many = Bounds { total: 1_000_000, per_user: 1_000_000, ..bounds() };
    let clock = Clock::of_the_system();
    let sessions = Arc::new(Sessions::open(directory.as_ref(), &boot(), clock, many).expect("opened"));
    let writers = (0..8).map(|_| {
        let sessions = sessions.clone();
        tokio::spawn(async move {
            loop {
                let (kept, _) = sessions.grant(holder("alice")).await.expect("granted");
                println!("\ngranted {}", kept.expose());
                let (ended, _) = sessions.grant(holder("bob")).await.expect("granted");
                sessions.end(&ended, EndReason::Cleared).await.expect("ended");
                println!("\nended {}", ended.expose());
            }
        })
    });
    futures_util::future::join_all(writers).await;
}

#[tokio::test]
async fn no_acknowledged_grant_or_end_is_lost_by_kill_9() {
    let directory = tempfile::tempdir().expect("temp dir");
    let (mut granted, mut ended) = (Vec::new(), Vec::new());
    for round in 0..4 {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "session::tests::writes_until_killed", "--ignored", "--nocapture"])
            .env("DOORWARD_TEST_STORE", directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut note = |line: String| {
            if let Some((what, token)) = line.split_once(' ')
                && let Ok(token) = Token::parse(token.to_owned())
            {
                match what {
                    "granted" => granted.push(token),
                    "ended" => ended.push(token),
                    _ => {}
                }
            }
        };
        for _ in 0..200 + round * 37 {
            note(lines.next().expect("it writes until it is killed").expect("text"));
        }
        child.kill().expect("killed");
        // What it said before it died counts, too; its last line may be cut off.
        lines.map_while(Result::ok).for_each(&mut note);
        child.wait().expect("reaped");
    }
    let sessions =
        Sessions::open(directory.path(), &boot(), Clock::of_the_system(), bounds()).expect("opened");
    let lost = granted.iter().filter(|token| sessions.check(token, None).is_none()).count();
    let alive = ended.iter().filter(|token| sessions.check(token, None).is_some()).count();
    assert!(granted.len() > 100 && ended.len() > 100, "{} {}", granted.len(), ended.len());
    assert_eq!((lost, alive), (0, 0), "of {} grants and {} ends", granted.len(), ended.len());
    sessions.close().await;
}

fn terms(entries: &[&str]) -> Terms {
    let acl = entries.iter().map(|entry| (*entry).to_owned()).collect();
    Terms { life: Duration::from_secs(7_200), acl: Some(acl), only_one: false }
}

async fn grant_token(sessions: &Sessions, user: &str, entries: &[&str]) -> Token {
    let holder = Holder { dialect: Dialect::Token, ..holder(user) };
    sessions.grant_on(holder, terms(entries)).await.expect("granted").0
}

#[tokio::test]
async fn one_list_of_entries_is_in_memory_once_and_goes_with_its_last_session() {
    let (directory, hand) = (tempfile::tempdir().expect("temp dir"), hand());
    let mut sessions = open(directory.path(), &hand);
    let (one, two) = (
        grant_token(&sessions, "alice", &["a.#", "!a.b"]).await,
        grant_token(&sessions, "bob", &["a.#", "!a.b"]).await,
    );
    let empty = grant_token(&sessions, "carol", &[]).await;
    let list =
        |sessions: &Sessions, token: &Token| sessions.check(token, None).expect("alive").0.acl.expect("one");
    for _ in 0..2 {
        let (first, second) = (list(&sessions, &one), list(&sessions, &two));
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(*first, ["a.#".to_owned(), "!a.b".to_owned()]);
        assert!(list(&sessions, &empty).is_empty());
        sessions.close().await;
        sessions = open(directory.path(), &hand);
    }
    let held = Arc::downgrade(&list(&sessions, &one));
    sessions.end(&one, EndReason::Cleared).await.expect("ended");
    assert!(held.upgrade().is_some());
    sessions.end(&two, EndReason::Cleared).await.expect("ended");
    assert!(held.upgrade().is_none());
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
    let mut left = 0;
    for one in racing {
        left += usize::from(lives(&one.await.expect("no panic")));
    }
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
