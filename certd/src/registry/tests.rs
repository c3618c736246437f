//! The registry of keys on a real file.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::*;

mod accounts;
mod history;

const LIMITS: Limits = Limits { per_user: 3, total: 5 };

/// An entry that no key was made for: the registry looks into none.
fn entry(number: u16, user: &str) -> Entry {
    let key = number.to_be_bytes().to_vec();
    Entry {
        fingerprint: Fingerprint::of(&key),
        key,
        class: SignatureClass(64),
        user: user.into(),
        uid: None,
        certificate: b"certificate".to_vec(),
        nickname: "nick".into(),
        email: "a@b".into(),
        registered: 100,
        registered_session: "session".into(),
        registered_method: "password".into(),
        proven: true,
        last_used: None,
        last_source: String::new(),
        revoked: None,
        revoked_by: String::new(),
    }
}

fn unproven(number: u16, user: &str) -> Entry {
    Entry { proven: false, ..entry(number, user) }
}

struct Fixture {
    directory: tempfile::TempDir,
    registry: Registry,
}

fn fixture() -> Fixture {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let registry = open(&directory).expect("an empty registry");
    Fixture { directory, registry }
}

fn open(directory: &tempfile::TempDir) -> Result<Registry, OpenError> {
    Registry::open(directory.path(), LIMITS, Watch::nothing())
}

/// Opens what was closed just now. Another test's fork() holds the lock until it calls exec().
fn open_again(directory: &tempfile::TempDir) -> Result<Registry, OpenError> {
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        match open(directory) {
            Err(error) if error.to_string().contains("another doorward-certd") => {
                assert!(std::time::Instant::now() < patience, "{error}");
                std::thread::yield_now();
            }
            opened => return opened,
        }
    }
}

impl Fixture {
    async fn reopened(self) -> Self {
        let Self { directory, registry } = self;
        tokio::task::spawn_blocking(move || registry.close()).await.expect("closed");
        let registry = open_again(&directory).expect("opened again");
        Self { directory, registry }
    }

    async fn register(&self, entry: Entry) -> Result<Entry, Refusal> {
        self.registry
            .register(entry, |_| ())
            .await
            .expect("the store works")
            .map(|registered| registered.entry)
    }

    async fn all(&self) -> Vec<Entry> {
        let (entries, _) = self.registry.export(0).await.expect("the store works");
        entries
    }

    async fn users(&self, search: Search) -> Vec<String> {
        let found = self.registry.candidates(search).await.expect("the store works");
        found.into_iter().map(|candidate| candidate.user).collect()
    }
}

fn unhinted(source: &str) -> Search {
    Search { class: SignatureClass(64), user: None, fingerprint: None, source: source.into() }
}

#[test]
fn the_rules() {
    let facts = |holder: Option<(&str, bool)>, of_user, total| Facts {
        holder: holder.map(|(user, proven)| KeyHolder { user: user.to_owned(), uid: None, proven }),
        of_user,
        total,
    };
    for (facts, proven, expected) in [
        (facts(None, 0, 0), true, Ok(Decision::Add)),
        (facts(None, 0, 0), false, Ok(Decision::Add)),
        (facts(None, 2, 4), false, Ok(Decision::Add)),
        (facts(None, 3, 4), true, Err(Refusal::UserFull(3))),
        (facts(None, 0, 5), true, Err(Refusal::Full)),
        (facts(Some(("alice", true)), 3, 5), true, Ok(Decision::Keep)),
        (facts(Some(("alice", true)), 3, 5), false, Ok(Decision::Keep)),
        (facts(Some(("alice", false)), 3, 5), false, Ok(Decision::Keep)),
        (facts(Some(("alice", false)), 3, 5), true, Ok(Decision::Prove)),
        (facts(Some(("bob", true)), 0, 1), true, Err(Refusal::OfAnother)),
        (facts(Some(("bob", true)), 0, 1), false, Err(Refusal::OfAnother)),
        (facts(Some(("bob", false)), 0, 1), false, Err(Refusal::OfAnother)),
        (facts(Some(("bob", false)), 0, 5), true, Ok(Decision::Displace)),
        (facts(Some(("bob", false)), 3, 5), true, Err(Refusal::UserFull(3))),
        (facts(Some(("Alice", true)), 0, 1), true, Err(Refusal::OfAnother)),
    ] {
        let new = Entry { proven, ..entry(1, "alice") };
        assert_eq!(decide(&facts, &new, LIMITS), expected, "{facts:?} {proven}");
    }
}

#[tokio::test]
async fn what_was_registered_is_there_after_a_restart() {
    let fixture = fixture();
    let first = fixture.register(entry(1, "alice")).await.expect("registered");
    assert_eq!(first, entry(1, "alice"));
    let fixture = fixture.reopened().await;
    assert_eq!(fixture.all().await, std::slice::from_ref(&first));
    assert_eq!(fixture.registry.find(first.fingerprint).await, Ok(Some(first)));
}

#[tokio::test]
async fn registered_twice_is_the_same_entry() {
    let fixture = fixture();
    fixture.register(unproven(1, "alice")).await.expect("registered");
    let again = Entry { nickname: "other".into(), registered: 200, ..unproven(1, "alice") };
    assert_eq!(fixture.register(again.clone()).await, Ok(unproven(1, "alice")));
    let proven = fixture.register(Entry { proven: true, ..again }).await.expect("the same");
    assert_eq!(proven, entry(1, "alice"));
    assert_eq!(fixture.all().await.len(), 1);
    let once_more =
        fixture.registry.register(unproven(1, "alice"), |_| ()).await.expect("works").expect("the same");
    assert!(!once_more.changed);
}

#[tokio::test]
async fn a_proven_registration_displaces_an_unproven_one_and_nothing_else() {
    let fixture = fixture();
    fixture.register(unproven(1, "mallory")).await.expect("registered");
    assert_eq!(fixture.register(unproven(1, "alice")).await, Err(Refusal::OfAnother));
    let registered =
        fixture.registry.register(entry(1, "alice"), |_| ()).await.expect("works").expect("displaced");
    let expected = Registered { entry: entry(1, "alice"), displaced: Some("mallory".into()), changed: true };
    assert_eq!(registered, expected);
    assert_eq!(fixture.users(unhinted("")).await, ["alice"]);
    assert_eq!(fixture.register(entry(1, "mallory")).await, Err(Refusal::OfAnother));
    let all = fixture.all().await;
    assert_eq!((all[0].user.as_str(), all[0].revoked_by.as_str()), ("mallory", "displaced"));
    assert_eq!(all.len(), 2);
}

#[tokio::test]
async fn the_bounds_hold_and_revoking_makes_room() {
    let fixture = fixture();
    for number in 1..=3 {
        fixture.register(entry(number, "alice")).await.expect("room");
    }
    assert_eq!(fixture.register(entry(4, "alice")).await, Err(Refusal::UserFull(3)));
    fixture.register(entry(5, "bob")).await.expect("room");
    fixture.register(entry(6, "bob")).await.expect("room");
    assert_eq!(fixture.register(entry(7, "carol")).await, Err(Refusal::Full));
    let revoke = |number, user: &str| {
        let key = entry(number, user).fingerprint;
        fixture.registry.revoke(key, user.into(), "x".into(), 300, || ())
    };
    assert_eq!(revoke(5, "bob").await, Ok(true));
    assert_eq!(revoke(5, "bob").await, Ok(false));
    assert_eq!(revoke(1, "bob").await, Ok(false), "another user's");
    let fixture = fixture.reopened().await;
    fixture.register(entry(7, "carol")).await.expect("room");
    assert_eq!(fixture.register(entry(8, "carol")).await, Err(Refusal::Full));
}

#[tokio::test]
async fn a_revoked_key_is_no_candidate_and_may_be_registered_anew() {
    let fixture = fixture();
    let key = fixture.register(entry(1, "alice")).await.expect("registered").fingerprint;
    assert_eq!(fixture.registry.revoke(key, "alice".into(), "root".into(), 300, || ()).await, Ok(true));
    for search in [
        unhinted(""),
        Search { user: Some("alice".into()), ..unhinted("") },
        Search { fingerprint: Some(key), ..unhinted("") },
    ] {
        assert!(fixture.users(search).await.is_empty());
    }
    assert_eq!(fixture.registry.find(key).await, Ok(None));
    assert_eq!(fixture.registry.used(key, "alice".into(), "s".into(), true, 400).await, Ok(false));
    assert!(fixture.registry.list(Whose::All, 0).await.expect("works").0.is_empty());
    fixture.register(entry(1, "bob")).await.expect("registered anew");
    let revocation = Revocation { fingerprint: key, user: "alice".into(), revoked: 300 };
    assert_eq!(fixture.registry.revocations(300).await, Ok(vec![revocation]));
    assert_eq!(fixture.registry.revocations(301).await, Ok(vec![]));
    assert_eq!(fixture.users(unhinted("")).await, ["bob"]);
    let history = &fixture.all().await[0];
    assert_eq!((history.revoked, history.revoked_by.as_str()), (Some(300), "root"));
}

#[tokio::test]
async fn a_users_history_is_bounded() {
    let fixture = fixture();
    for round in 0..100 {
        let key = fixture.register(entry(round, "alice")).await.expect("room").fingerprint;
        let revoked =
            fixture.registry.revoke(key, "alice".into(), "alice".into(), i64::from(round), || ()).await;
        assert_eq!(revoked, Ok(true));
    }
    let mut kept = Vec::new();
    let mut after = 0;
    while let (page, Some(next)) = fixture.registry.export(after).await.expect("works") {
        kept.extend(page.into_iter().map(|entry| entry.revoked));
        after = next;
    }
    assert_eq!(kept, (36..100).map(Some).collect::<Vec<_>>());
}

#[tokio::test]
async fn candidates_follow_the_hints_and_the_source() {
    let fixture = fixture();
    for (number, user) in [(1, "alice"), (2, "bob"), (3, "bob"), (4, "carol")] {
        fixture.register(unproven(number, user)).await.expect("room");
    }
    let other = Entry { class: SignatureClass(256), ..entry(5, "dave") };
    fixture.register(other.clone()).await.expect("room");
    let key = |number| entry(number, "").fingerprint;
    for (number, user, source, now) in
        [(4, "carol", "here", 10), (2, "bob", "there", 20), (3, "bob", "here", 15)]
    {
        assert_eq!(fixture.registry.used(key(number), user.into(), source.into(), true, now).await, Ok(true));
    }
    assert_eq!(fixture.registry.used(key(1), "bob".into(), "here".into(), true, 1).await, Ok(false));
    assert_eq!(fixture.users(unhinted("here")).await, ["bob", "carol", "bob", "alice"]);
    assert_eq!(fixture.users(unhinted("nowhere")).await, ["bob", "bob", "carol", "alice"]);
    assert_eq!(fixture.users(Search { user: Some("bob".into()), ..unhinted("") }).await, ["bob", "bob"]);
    assert!(fixture.users(Search { user: Some("nobody".into()), ..unhinted("") }).await.is_empty());
    let by_key = |number, user: Option<&str>| Search {
        fingerprint: Some(key(number)),
        user: user.map(str::to_owned),
        ..unhinted("")
    };
    assert_eq!(fixture.users(by_key(1, None)).await, ["alice"]);
    assert_eq!(fixture.users(by_key(1, Some("alice"))).await, ["alice"]);
    assert!(fixture.users(by_key(1, Some("bob"))).await.is_empty());
    assert!(fixture.users(by_key(5, None)).await.is_empty(), "its signatures have another length");
    let used = fixture.registry.find(key(3)).await.expect("works").expect("there");
    assert!(used.proven && used.last_used == Some(15) && used.last_source == "here");
}

/// Its source changes with every use, also between the statements of a search.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_used_all_the_time_is_a_candidate_all_the_time() {
    let Fixture { directory: _directory, registry } = fixture();
    let registry = Arc::new(registry);
    let key = registry
        .register(entry(1, "ann"), |_| ())
        .await
        .expect("the store works")
        .expect("taken")
        .entry
        .fingerprint;
    let over = Arc::new(AtomicBool::new(false));
    let uses = tokio::spawn({
        let (registry, over) = (Arc::clone(&registry), Arc::clone(&over));
        async move {
            for source in ["here", "there"].into_iter().cycle() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let used = registry.used(key, "ann".into(), source.into(), true, 200).await;
                assert_eq!(used, Ok(true));
            }
        }
    });
    let mut lost = 0;
    for _ in 0..5_000 {
        lost += usize::from(registry.candidates(unhinted("here")).await.expect("the store works").is_empty());
    }
    over.store(true, Ordering::Relaxed);
    uses.await.expect("used");
    assert_eq!(lost, 0);
}

#[tokio::test]
async fn a_login_on_somebody_elses_word_proves_nothing() {
    let fixture = fixture();
    let key = fixture.register(unproven(1, "alice")).await.expect("room").fingerprint;
    let used = fixture.registry.used(key, "alice".into(), "here".into(), false, 5).await;
    assert_eq!(used, Ok(true));
    let entry = fixture.registry.find(key).await.expect("works").expect("there");
    assert!(!entry.proven && entry.last_used == Some(5));
    let _ = fixture.registry.used(key, "alice".into(), "here".into(), true, 6).await;
    let _ = fixture.registry.used(key, "alice".into(), "here".into(), false, 7).await;
    assert!(fixture.registry.find(key).await.expect("works").expect("there").proven);
}

#[tokio::test]
async fn a_listing_shows_live_keys_of_one_or_of_all() {
    let fixture = fixture();
    for (number, user) in [(1, "alice"), (2, "bob"), (3, "alice")] {
        fixture.register(entry(number, user)).await.expect("room");
    }
    let list = async |whose, after| fixture.registry.list(whose, after).await.expect("works");
    let (all, last) = list(Whose::All, 0).await;
    assert_eq!(all, [entry(1, "alice"), entry(2, "bob"), entry(3, "alice")]);
    assert_eq!(list(Whose::All, last.expect("a place")).await, (vec![], None));
    assert_eq!(list(Whose::One("alice".into()), 0).await.0, [entry(1, "alice"), entry(3, "alice")]);
    assert!(list(Whose::One("Alice".into()), 0).await.0.is_empty());
}

#[tokio::test]
async fn an_import_leaves_known_entries_as_they_are() {
    let fixture = fixture();
    let import =
        async |entry: Entry| fixture.registry.import(vec![entry], |_| ()).await.expect("works").remove(0);
    assert_eq!(import(unproven(1, "alice")).await, Ok(Imported::Added));
    assert_eq!(import(entry(1, "alice")).await, Ok(Imported::Known));
    assert!(!fixture.all().await[0].proven);
    assert_eq!(import(entry(1, "bob")).await, Err(Refusal::OfAnother));
    let old = Entry { revoked: Some(5), revoked_by: "root".into(), ..entry(2, "alice") };
    assert_eq!(import(old.clone()).await, Ok(Imported::Added));
    assert_eq!(import(old).await, Ok(Imported::Known));
    assert_eq!(fixture.all().await.len(), 2);
    assert_eq!(fixture.users(unhinted("")).await, ["alice"]);
}

#[tokio::test]
async fn an_import_takes_entries_in_their_order() {
    let fixture = fixture();
    let old = Entry { revoked: Some(5), revoked_by: "root".into(), ..entry(3, "carol") };
    let entries = vec![old.clone(), entry(2, "bob"), entry(2, "alice"), entry(1, "alice")];
    let imported = fixture.registry.import(entries, |_| ()).await.expect("works");
    let (added, refused) = (Ok(Imported::Added), Err(Refusal::OfAnother));
    assert_eq!(imported, [added, added, refused, added]);
    assert_eq!(fixture.all().await, [old, entry(2, "bob"), entry(1, "alice")]);
}

#[tokio::test]
async fn an_import_of_an_old_export_brings_no_revoked_key_back() {
    let fixture = fixture();
    let import =
        async |entry: Entry| fixture.registry.import(vec![entry], |_| ()).await.expect("works").remove(0);
    let registered = |when| Entry { registered: when, ..entry(1, "alice") };
    fixture.register(registered(10)).await.expect("room");
    let key = entry(1, "alice").fingerprint;
    assert_eq!(fixture.registry.revoke(key, "alice".into(), "alice".into(), 20, || ()).await, Ok(true));
    assert_eq!(import(registered(10)).await, Ok(Imported::Revoked));
    assert!(fixture.users(unhinted("")).await.is_empty());
    // Somebody else's is another matter, and so is what was registered later.
    assert_eq!(import(Entry { registered: 10, ..entry(1, "bob") }).await, Ok(Imported::Added));
    assert_eq!(fixture.registry.revoke(key, "bob".into(), "root".into(), 30, || ()).await, Ok(true));
    assert_eq!(import(registered(21)).await, Ok(Imported::Added));
    assert_eq!(import(registered(10)).await, Ok(Imported::Known));
}

#[tokio::test]
async fn many_at_once_all_get_their_own_answer() {
    let fixture = fixture();
    let calls = (0..200_u16).map(|number| fixture.registry.register(entry(number % 100, "alice"), |_| ()));
    let answers = futures_util::future::join_all(calls).await;
    let registered = answers.iter().filter(|answer| matches!(answer, Ok(Ok(_)))).count();
    let refused = answers.iter().filter(|answer| **answer == Ok(Err(Refusal::UserFull(3)))).count();
    assert_eq!(refused, 200 - registered);
    assert_eq!(fixture.all().await.len(), 3);
}

#[tokio::test]
async fn every_file_is_private() {
    let fixture = fixture();
    fixture.register(entry(1, "alice")).await.expect("registered");
    let mut names = Vec::new();
    for file in fs::read_dir(fixture.directory.path()).expect("readable") {
        let file = file.expect("an entry");
        assert_eq!(file.metadata().expect("there").permissions().mode() & 0o777, 0o600, "{file:?}");
        names.push(file.file_name());
    }
    assert!(names.contains(&"registry.sqlite-wal".into()), "{names:?}");
}

#[test]
fn a_second_certd_is_refused() {
    let fixture = fixture();
    let refused = open(&fixture.directory).expect_err("refused").to_string();
    assert!(refused.contains("another doorward-certd"), "{refused}");
}

fn refused_with(change: impl FnOnce(&Path)) -> String {
    let Fixture { directory, registry } = fixture();
    registry.close();
    drop(registry);
    change(&directory.path().join("registry.sqlite"));
    open_again(&directory).expect_err("refused").to_string()
}

#[test]
fn files_that_must_not_be_used_are_refused_with_a_way_out() {
    let said =
        refused_with(|path| fs::set_permissions(path, fs::Permissions::from_mode(0o640)).expect("chmod"));
    assert!(said.contains("mode 0600"), "{said}");
    let said =
        refused_with(|path| fs::write(path, "not a database, and longer than its header").expect("written"));
    assert!(said.contains("damaged") && said.contains("export"), "{said}");
    let said = refused_with(|path| {
        // The header's user_version.
        let mut bytes = fs::read(path).expect("read");
        bytes[60..64].copy_from_slice(&99_u32.to_be_bytes());
        fs::write(path, bytes).expect("written");
    });
    assert!(said.contains("newer"), "{said}");
    let said = refused_with(|path| {
        fs::rename(path, path.with_extension("moved")).expect("moved");
        std::os::unix::fs::symlink(path.with_extension("moved"), path).expect("linked");
    });
    assert!(said.contains("cannot open"), "{said}");
}

#[test]
fn a_page_that_was_overwritten_is_noticed_at_the_start() {
    let said = refused_with(|path| {
        let mut bytes = fs::read(path).expect("read");
        let end = bytes.len();
        bytes[4096..end].fill(0xa5);
        fs::write(path, bytes).expect("written");
    });
    assert!(said.contains("damaged"), "{said}");
}

#[tokio::test]
async fn displacing_fills_no_history() {
    let fixture = fixture();
    for round in 0..100 {
        fixture.register(unproven(round, "mallory")).await.expect("room");
        let key = fixture.register(entry(round, "accomplice")).await.expect("displaced").fingerprint;
        let revoked =
            fixture.registry.revoke(key, "accomplice".into(), "x".into(), i64::from(round), || ()).await;
        assert_eq!(revoked, Ok(true));
    }
    let (mut count, mut after) = (0, 0);
    while let (page, Some(next)) = fixture.registry.export(after).await.expect("works") {
        count += page.len();
        after = next;
    }
    assert_eq!(count, 2 * 64);
}

/// A client that hangs up, or a disk so slow that the call is given up, must not keep alive what the key opened.
#[tokio::test]
async fn who_watches_hears_of_a_revocation_whose_caller_gave_up() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (go_on, wait) = std::sync::mpsc::channel();
    let watch = Watch::by(move |at| {
        if at == Point::Applied {
            let _ = wait.recv();
        }
    });
    let registry = Registry::open(directory.path(), LIMITS, watch).expect("an empty registry");
    go_on.send(()).expect("the writer is there");
    let key = entry(1, "alice").fingerprint;
    registry.register(unproven(1, "alice"), |_| ()).await.expect("works").expect("room");
    let mut watcher = registry.revoked();
    let mut given_up = Box::pin(registry.revoke(key, "alice".into(), "alice".into(), 300, || ()));
    assert!(futures_util::poll!(&mut given_up).is_pending());
    drop(given_up);
    assert!(watcher.try_recv().is_err(), "it is not on disk yet");
    go_on.send(()).expect("the writer is there");
    let soon = std::time::Duration::from_secs(60);
    let told = tokio::time::timeout(soon, watcher.recv()).await.expect("told in time").expect("told");
    assert_eq!(told, Revocation { fingerprint: key, user: "alice".into(), revoked: 300 });
    assert_eq!(registry.find(key).await, Ok(None));
    tokio::task::spawn_blocking(move || registry.close()).await.expect("closed");
}
