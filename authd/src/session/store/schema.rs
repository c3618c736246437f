//! The tables, and how those of older versions become them.

/// The version of these tables; a newer one is refused, an older one is brought up.
pub(super) const VERSION: i64 = 6;

const SCHEMA: &str = "
    CREATE TABLE boot (id TEXT NOT NULL) STRICT;
    CREATE TABLE session (
        id BLOB PRIMARY KEY NOT NULL, token BLOB NOT NULL UNIQUE, user TEXT NOT NULL, uid INTEGER,
        method TEXT NOT NULL, dialect TEXT NOT NULL, source TEXT NOT NULL, started_utc INTEGER NOT NULL,
        started INTEGER NOT NULL, last_used INTEGER NOT NULL, idle_ms INTEGER NOT NULL, ends INTEGER NOT NULL,
        key BLOB, proven_utc INTEGER, acl TEXT, kind TEXT, auth_id TEXT, pk TEXT, turn INTEGER,
        full_access INTEGER,
        CHECK (CASE WHEN uid IS NULL THEN kind IS NOT NULL AND auth_id IS NOT NULL AND pk IS NOT NULL
                                          AND acl IS NOT NULL
                    ELSE kind IS NULL AND auth_id IS NULL AND pk IS NULL END)
    ) STRICT, WITHOUT ROWID;
    PRAGMA user_version = 6;";
/// From version 1, which knew no keys.
const FROM_1: &str = "
    ALTER TABLE session ADD COLUMN key BLOB;
    ALTER TABLE session ADD COLUMN proven_utc INTEGER;";
/// From version 2, which knew no tokens with entries of their own.
const FROM_2: &str = "
    ALTER TABLE session ADD COLUMN acl TEXT;";
/// From version 3, whose sessions were all local users'. That every one has a uid can only be taken back by a
/// new table.
const FROM_3: &str = "
    ALTER TABLE session RENAME TO session_3;
    ALTER TABLE boot RENAME TO boot_3;";
const FROM_3_MOVE: &str = "
    INSERT INTO session SELECT id, token, user, uid, method, dialect, source, started_utc, started, last_used,
        idle_ms, ends, key, proven_utc, acl, NULL, NULL, NULL, NULL,
        CASE WHEN key IS NOT NULL THEN method <> 'tls_certificate' END FROM session_3;
    INSERT INTO boot SELECT id FROM boot_3;
    DROP TABLE session_3;
    DROP TABLE boot_3;";
/// From version 4, all of whose sessions any number of connections could hold.
const FROM_4: &str = "
    ALTER TABLE session ADD COLUMN turn INTEGER;";
/// From version 5, which did not know whether a key was taken from those with full access, too: of certificates
/// certd may have said so or not.
const FROM_5: &str = "
    ALTER TABLE session ADD COLUMN full_access INTEGER;
    UPDATE session SET full_access = method <> 'tls_certificate' WHERE key IS NOT NULL;
    PRAGMA user_version = 6;";

/// What makes the tables of this version out of those of another, 0 being none; None: they are.
pub(super) fn change(version: i64) -> Option<String> {
    let anew = format!("{FROM_3} {SCHEMA} {FROM_3_MOVE}");
    match version {
        0 => Some(SCHEMA.to_owned()),
        1 => Some(format!("{FROM_1} {FROM_2} {anew}")),
        2 => Some(format!("{FROM_2} {anew}")),
        3 => Some(anew),
        4 => Some(format!("{FROM_4} {FROM_5}")),
        5 => Some(FROM_5.to_owned()),
        _ => None,
    }
}
