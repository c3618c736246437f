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

mod places;

#[derive(Clone)]
pub(super) struct Hand(Arc<AtomicU64>);

impl Hand {
    fn clock(&self) -> Clock {
        let now = self.0.clone();
        Clock::from_fn(move || now.load(Ordering::SeqCst))
    }

    pub(super) fn forward(&self, millis: u64) {
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

pub(super) fn hand() -> Hand {
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

pub(super) fn holder(user: &str) -> Holder {
    Holder {
        who: Identity::User { name: user.into(), uid: 1000 },
        method: "password".into(),
        dialect: Dialect::Sysadm,
        source: "192.0.2.1".into(),
    }
}

pub(super) fn open(directory: &std::path::Path, hand: &Hand) -> Sessions {
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
async fn the_end_by_a_reboot_is_told_again_if_authd_is_killed_while_it_is_told() {
    let (directory, hand) = (tempfile::tempdir().expect("temp dir"), hand());
    let sessions = open(directory.path(), &hand);
    for user in ["alice", "bob"] {
        sessions.grant(holder(user)).await.expect("granted");
    }
    sessions.close().await;
    let other = Boot("99999999-2222-3333-4444-555555555555".into());
    let told = AtomicU64::new(0);
    let ended = |_: &Session| {
        assert_ne!(told.fetch_add(1, Ordering::SeqCst), 1, "killed");
    };
    let start = || store::Store::open(directory.path(), &other, &ended);
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(start)).expect_err("killed");
    assert_eq!(told.load(Ordering::SeqCst), 2);
    for all in [4, 4] {
        let (store, sessions) = start().expect("opened");
        assert_eq!((told.load(Ordering::SeqCst), sessions.len()), (all, 0));
        store.close();
    }
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
    header[60..64].copy_from_slice(&7_u32.to_be_bytes());
    std::fs::write(&path, header).expect("written");
    let refused = Sessions::open(directory.path(), &boot(), hand.clock(), bounds()).expect_err("refused");
    assert!(refused.to_string().contains("version 7"), "{refused}");
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
