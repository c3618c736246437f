//! Sessions that keys opened: remembered, ended by revocations and by nothing else, over restarts too.

use std::{path::Path, sync::Arc, time::Duration};

use super::*;
use crate::{error::AuthError, secret::Token};

const KEY: Fingerprint = Fingerprint([7; 32]);
const OTHER: Fingerprint = Fingerprint([8; 32]);

fn holder(user: &str) -> Holder {
    Holder {
        who: Identity::User { name: user.into(), uid: 1000 },
        method: "certificate_challenge".into(),
        dialect: Dialect::Sysadm,
        source: "192.0.2.1".into(),
    }
}

fn open(directory: &Path) -> Arc<Sessions> {
    let bounds = Bounds {
        idle: Duration::from_secs(300),
        absolute: Duration::from_secs(43_200),
        per_user: 10,
        total: 10,
        at_limit: AtLimit::Refuse,
    };
    let boot = Boot("11111111-2222-3333-4444-555555555555".into());
    Arc::new(Sessions::open(directory, &boot, Clock::from_fn(|| 1_000_000), bounds).expect("opened"))
}

fn proven(fingerprint: Fingerprint) -> Proven {
    Proven { fingerprint, full_access: true }
}

async fn by_key(sessions: &Arc<Sessions>, user: &str, key: Fingerprint) -> (Token, Session) {
    let login = sessions.key_login();
    sessions.grant_by_key(holder(user), proven(key), &login).await.expect("granted")
}

fn revoked(user: &str, key: Fingerprint, utc: u64) -> Revoked {
    Revoked { fingerprint: key, user: user.into(), utc }
}

#[tokio::test]
async fn a_revocation_ends_the_sessions_of_that_user_and_that_key_and_no_others() {
    let directory = tempfile::tempdir().expect("temp dir");
    let sessions = open(directory.path());
    let (first, session) = by_key(&sessions, "alice", KEY).await;
    let (second, _) = by_key(&sessions, "alice", KEY).await;
    let (other_key, _) = by_key(&sessions, "alice", OTHER).await;
    let (other_user, _) = by_key(&sessions, "bob", KEY).await;
    let (no_key, _) = sessions.grant(holder("alice")).await.expect("granted");
    let mut watch = sessions.watch().expect("room");
    assert_eq!(sessions.end_by_key(&revoked("alice", KEY, utc())).await.expect("on disk"), 2);
    assert_eq!(
        watch.next().await,
        Some(News::Ended(Ended { session: session.id, reason: EndReason::KeyRevoked }))
    );
    let alive = |token| sessions.check(token, None).is_some();
    assert_eq!([&first, &second].map(alive), [false; 2]);
    assert_eq!([&other_key, &other_user, &no_key].map(alive), [true; 3]);
    assert_eq!(sessions.end_by_key(&revoked("alice", KEY, utc())).await.expect("fine"), 0);
    sessions.close().await;

    let sessions = open(directory.path());
    let alive = |token| sessions.check(token, None).is_some();
    assert_eq!([&first, &second].map(alive), [false; 2], "on disk");
    assert_eq!([&other_key, &other_user, &no_key].map(alive), [true; 3]);
    sessions.close().await;
}

#[tokio::test]
async fn the_key_of_a_session_is_known_after_a_restart() {
    let directory = tempfile::tempdir().expect("temp dir");
    let sessions = open(directory.path());
    let before = utc();
    let (token, session) = by_key(&sessions, "alice", KEY).await;
    assert_eq!(session.key.as_ref().expect("a key").fingerprint, KEY);
    let login = sessions.key_login();
    let limited = Proven { full_access: false, ..proven(OTHER) };
    let (other, by_other) = sessions.grant_by_key(holder("alice"), limited, &login).await.expect("granted");
    assert!(!by_other.key.as_ref().expect("a key").full_access);
    drop(login);
    sessions.close().await;
    let sessions = open(directory.path());
    assert_eq!(sessions.check(&token, None).expect("alive").0.key, session.key);
    assert_eq!(sessions.check(&other, None).expect("alive").0.key, by_other.key);
    assert!(sessions.revocable_since() <= before, "it is asked for what was revoked meanwhile");
    assert_eq!(sessions.end_by_key(&revoked("alice", KEY, utc())).await.expect("on disk"), 1);
    assert!(sessions.check(&token, None).is_none());
    sessions.close().await;
}

#[tokio::test]
async fn a_revocation_from_before_the_key_was_proven_again_ends_nothing() {
    let directory = tempfile::tempdir().expect("temp dir");
    let sessions = open(directory.path());
    let (token, session) = by_key(&sessions, "alice", KEY).await;
    let proven = session.key.expect("a key").proven_utc;
    assert_eq!(sessions.end_by_key(&revoked("alice", KEY, proven - 60)).await.expect("fine"), 0);
    assert!(sessions.check(&token, None).is_some());
    assert_eq!(sessions.end_by_key(&revoked("alice", KEY, proven)).await.expect("on disk"), 1);
    sessions.close().await;
}

#[tokio::test]
async fn a_key_that_is_revoked_during_the_login_opens_nothing() {
    let directory = tempfile::tempdir().expect("temp dir");
    let sessions = open(directory.path());
    let login = sessions.key_login();
    let since = sessions.revocable_since();
    assert!(since <= utc(), "a login under way counts");
    assert_eq!(sessions.end_by_key(&revoked("alice", KEY, utc())).await.expect("fine"), 0);
    for _ in 0..20 {
        // More often than there are places: each is given back.
        let granted = sessions.grant_by_key(holder("alice"), proven(KEY), &login).await;
        assert!(matches!(granted, Err(AuthError::KeyRevoked)));
    }
    sessions.grant_by_key(holder("bob"), proven(KEY), &login).await.expect("another user's");
    drop(login);
    assert_eq!(
        sessions.end_by_key(&revoked("alice", KEY, u64::MAX)).await.expect("fine"),
        0,
        "not in memory"
    );
    sessions.reap().await;
    sessions.close().await;
    let sessions = open(directory.path());
    assert_eq!(sessions.end_by_key(&revoked("alice", KEY, u64::MAX)).await.expect("fine"), 0, "nor on disk");
    assert_eq!(sessions.end_by_key(&revoked("bob", KEY, u64::MAX)).await.expect("on disk"), 1);
    sessions.close().await;
}

/// The tables of version 1, as they were.
const VERSION_1: &str = "
    CREATE TABLE boot (id TEXT NOT NULL) STRICT;
    CREATE TABLE session (
        id BLOB PRIMARY KEY NOT NULL, token BLOB NOT NULL UNIQUE, user TEXT NOT NULL, uid INTEGER NOT NULL,
        method TEXT NOT NULL, dialect TEXT NOT NULL, source TEXT NOT NULL, started_utc INTEGER NOT NULL,
        started INTEGER NOT NULL, last_used INTEGER NOT NULL, idle_ms INTEGER NOT NULL, ends INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    PRAGMA user_version = 1;";

/// The tables of version 2, as they were.
const VERSION_2: &str = "
    CREATE TABLE boot (id TEXT NOT NULL) STRICT;
    CREATE TABLE session (
        id BLOB PRIMARY KEY NOT NULL, token BLOB NOT NULL UNIQUE, user TEXT NOT NULL, uid INTEGER NOT NULL,
        method TEXT NOT NULL, dialect TEXT NOT NULL, source TEXT NOT NULL, started_utc INTEGER NOT NULL,
        started INTEGER NOT NULL, last_used INTEGER NOT NULL, idle_ms INTEGER NOT NULL, ends INTEGER NOT NULL,
        key BLOB, proven_utc INTEGER
    ) STRICT, WITHOUT ROWID;
    PRAGMA user_version = 2;";

/// The tables of version 3, as they were.
const VERSION_3: &str = "
    CREATE TABLE boot (id TEXT NOT NULL) STRICT;
    CREATE TABLE session (
        id BLOB PRIMARY KEY NOT NULL, token BLOB NOT NULL UNIQUE, user TEXT NOT NULL, uid INTEGER NOT NULL,
        method TEXT NOT NULL, dialect TEXT NOT NULL, source TEXT NOT NULL, started_utc INTEGER NOT NULL,
        started INTEGER NOT NULL, last_used INTEGER NOT NULL, idle_ms INTEGER NOT NULL, ends INTEGER NOT NULL,
        key BLOB, proven_utc INTEGER, acl TEXT
    ) STRICT, WITHOUT ROWID;
    PRAGMA user_version = 3;";

/// The tables of version 4, as they were.
const VERSION_4: &str = "
    CREATE TABLE boot (id TEXT NOT NULL) STRICT;
    CREATE TABLE session (
        id BLOB PRIMARY KEY NOT NULL, token BLOB NOT NULL UNIQUE, user TEXT NOT NULL, uid INTEGER,
        method TEXT NOT NULL, dialect TEXT NOT NULL, source TEXT NOT NULL, started_utc INTEGER NOT NULL,
        started INTEGER NOT NULL, last_used INTEGER NOT NULL, idle_ms INTEGER NOT NULL, ends INTEGER NOT NULL,
        key BLOB, proven_utc INTEGER, acl TEXT, kind TEXT, auth_id TEXT, pk TEXT,
        CHECK (CASE WHEN uid IS NULL THEN kind IS NOT NULL AND auth_id IS NOT NULL AND pk IS NOT NULL
                                          AND acl IS NOT NULL
                    ELSE kind IS NULL AND auth_id IS NULL AND pk IS NULL END)
    ) STRICT, WITHOUT ROWID;
    PRAGMA user_version = 4;";

/// The tables of version 5: those of version 4 with a further column.
const VERSION_5: &str = "
    ALTER TABLE session ADD COLUMN turn INTEGER;
    PRAGMA user_version = 5;";

#[tokio::test]
async fn a_store_of_an_older_version_is_brought_up_with_its_sessions() {
    use std::os::unix::fs::OpenOptionsExt as _;

    let given = || Some(Arc::from(["a.#".to_owned()]));
    let version_5 = format!("{VERSION_4} {VERSION_5}");
    // Of a certificate no older version says whether it was taken from those with full access, too.
    for (tables, method, more, key, acl) in [
        (VERSION_1, "password", "", None, None),
        (VERSION_2, "certificate_challenge", ", ?3, 1", Some(true), None),
        (VERSION_3, "tls_certificate", ", ?3, 1, 'a.#'", Some(false), given()),
        (VERSION_4, "tls_certificate", ", ?3, 1, 'a.#', NULL, NULL, NULL", Some(false), given()),
        (&version_5, "certificate_challenge", ", ?3, 1, 'a.#', NULL, NULL, NULL, NULL", Some(true), given()),
        (&version_5, "tls_certificate", ", ?3, 1, 'a.#', NULL, NULL, NULL, NULL", Some(false), given()),
    ] {
        let directory = tempfile::tempdir().expect("temp dir");
        let path = directory.path().join("sessions.sqlite");
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).expect("made");
        let token = Token::mint([3; 16]);
        {
            let database = rusqlite::Connection::open(&path).expect("opened");
            database.execute_batch(tables).expect("made");
            let boot = "INSERT INTO boot VALUES ('11111111-2222-3333-4444-555555555555')";
            database.execute(boot, []).expect("ok");
            let row = format!(
                "INSERT INTO session VALUES (?1, ?2, 'alice', 1000, '{method}', 'sysadm', '', 1, 999000,
                                             999000, 300000, 44000000{more})"
            );
            let mut insert = database.prepare(&row).expect("good");
            insert.raw_bind_parameter(1, [1_u8; 16]).expect("bound");
            insert.raw_bind_parameter(2, token.hash().0).expect("bound");
            if key.is_some() {
                insert.raw_bind_parameter(3, KEY.0).expect("bound");
            }
            assert_eq!(insert.raw_execute().expect("inserted"), 1);
        }
        let sessions = open(directory.path());
        let (found, _) = sessions.check(&token, None).expect("alive");
        let by = found.key.map(|key| (key.fingerprint, key.full_access));
        let alice = Identity::User { name: "alice".into(), uid: 1000 };
        assert_eq!((found.holder.who.clone(), by, found.acl), (alice, key.map(|full| (KEY, full)), acl));
        assert_eq!(sessions.turn(found.id), 0, "any number of connections, as before");
        let (by_key, _) = by_key(&sessions, "bob", KEY).await;
        let acl = Some(Arc::from(["a.#".to_owned()]));
        let terms = Terms { life: Duration::from_secs(7_200), acl, only_one: false };
        let handed_out = Holder { dialect: Dialect::Token, ..holder("alice") };
        let (of_api, _) = sessions.grant_on(handed_out.clone(), terms.clone()).await.expect("granted");
        sessions.close().await;
        let sessions = open(directory.path());
        assert!(sessions.check(&token, None).is_some());
        assert_eq!(sessions.check(&by_key, None).expect("alive").0.key.expect("a key").fingerprint, KEY);
        let (found, standing) = sessions.check(&of_api, Some(0)).expect("alive");
        assert_eq!((Holder::clone(&found.holder), found.acl), (handed_out, terms.acl));
        assert_eq!(standing, Standing::Live { idle_left: 7_200_000, absolute_left: 7_200_000 });
        sessions.close().await;
        let database = rusqlite::Connection::open(&path).expect("opened");
        let version: i64 = database.query_row("PRAGMA user_version", [], |row| row.get(0)).expect("told");
        assert_eq!(version, 6);
    }
}
