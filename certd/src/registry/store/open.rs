//! The files: who may hold them, which version they have, whether they are whole.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig};
use rustix::{
    fs::{FlockOperation, OFlags, flock},
    io::Errno,
};

/// Newer schemas are refused; older ones are brought up to this here.
const VERSION: i64 = 3;

/// `totals` holds the number of live keys: counting 100,000 for each registration is dear.
/// `revoked_elsewhere`: an import said that it was revoked.
const SCHEMA: &str = "
BEGIN IMMEDIATE;
CREATE TABLE keys (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    fingerprint BLOB NOT NULL CHECK (length(fingerprint) = 32),
    key BLOB NOT NULL,
    class INTEGER NOT NULL,
    user TEXT NOT NULL,
    certificate BLOB NOT NULL,
    nickname TEXT NOT NULL,
    email TEXT NOT NULL,
    registered INTEGER NOT NULL,
    registered_session TEXT NOT NULL,
    registered_method TEXT NOT NULL,
    proven INTEGER NOT NULL,
    last_used INTEGER,
    last_source TEXT NOT NULL,
    revoked INTEGER,
    revoked_by TEXT NOT NULL,
    revoked_elsewhere INTEGER NOT NULL DEFAULT 0,
    uid INTEGER
) STRICT;
CREATE UNIQUE INDEX live ON keys (fingerprint) WHERE revoked IS NULL;
CREATE INDEX of_user ON keys (user, class) WHERE revoked IS NULL;
CREATE INDEX recent ON keys (class, last_used DESC) WHERE revoked IS NULL;
CREATE INDEX recent_here ON keys (class, last_source, last_used DESC) WHERE revoked IS NULL;
CREATE INDEX history ON keys (user, revoked_elsewhere, revoked DESC, id DESC) WHERE revoked IS NOT NULL;
CREATE INDEX revocations ON keys (revoked) WHERE revoked IS NOT NULL;
CREATE TABLE totals (live INTEGER NOT NULL) STRICT;
INSERT INTO totals VALUES (0);
PRAGMA user_version = 3;
COMMIT;";

/// From version 1, which did not know which revocations were imported: its are taken for its own.
const FROM_1: &str = "
BEGIN IMMEDIATE;
ALTER TABLE keys ADD COLUMN revoked_elsewhere INTEGER NOT NULL DEFAULT 0;
DROP INDEX history;
CREATE INDEX history ON keys (user, revoked_elsewhere, revoked DESC, id DESC) WHERE revoked IS NOT NULL;
PRAGMA user_version = 2;
COMMIT;";
/// From version 2, whose keys belonged to names alone.
const FROM_2: &str = "
BEGIN IMMEDIATE;
ALTER TABLE keys ADD COLUMN uid INTEGER;
PRAGMA user_version = 3;
COMMIT;";

/// Why the registry cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file cannot be made or opened.
    #[error("cannot open {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file must not be used as it is.
    #[error("{path} {what}")]
    Refused {
        /// Which.
        path: PathBuf,
        /// What is wrong, and how to mend it.
        what: String,
    },
    /// SQLite cannot use it.
    #[error("cannot use {path}")]
    Database {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// No thread for it.
    #[error("cannot start a thread for the registry")]
    Thread(#[source] io::Error),
}

/// Two certds on one registry would each answer for what the other changed.
///
/// One that is just ending, or a child of it between fork() and exec(), is waited for a little.
pub(super) fn lock(directory: &Path) -> Result<File, OpenError> {
    const PATIENCE: Duration = Duration::from_secs(2);
    const PAUSE: Duration = Duration::from_millis(10);
    let path = directory.join("registry.lock");
    let file = private_file(&path)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            Err(Errno::WOULDBLOCK) => {
                return Err(OpenError::Refused {
                    path: directory.to_owned(),
                    what: "is in use by another doorward-certd; stop that one first".into(),
                });
            }
            Err(error) => return Err(OpenError::File { path, source: error.into() }),
        }
    }
}

/// The connection that writes; makes the tables of a new registry, and brings those of an older one up.
pub(super) fn writer(path: &Path) -> Result<Connection, OpenError> {
    drop(private_file(path)?);
    let failed = |source: rusqlite::Error| judged(path, source);
    let database = connect(path).map_err(failed)?;
    let version = version(&database).map_err(failed)?;
    if version > VERSION {
        return Err(OpenError::Refused {
            path: path.to_owned(),
            what: format!(
                "has schema version {version}, this program knows {VERSION}: it was written by a newer doorward"
            ),
        });
    }
    database.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
    database.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    let changes: &[&str] = match version {
        0 => &[SCHEMA],
        1 => &[FROM_1, FROM_2],
        2 => &[FROM_2],
        _ => &[],
    };
    for change in changes {
        database.execute_batch(change).map_err(failed)?;
    }
    let found: String = database.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
    if found == "ok" { Ok(database) } else { Err(damaged(path, &found)) }
}

/// The connection that reads, and cannot write.
pub(super) fn reader(path: &Path) -> Result<Connection, OpenError> {
    let failed = |source: rusqlite::Error| judged(path, source);
    let database = connect(path).map_err(failed)?;
    database.pragma_update(None, "query_only", true).map_err(failed)?;
    Ok(database)
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let database = Connection::open_with_flags(path, flags)?;
    database.busy_timeout(Duration::from_secs(2))?;
    database.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    database.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    database.pragma_update(None, "temp_store", "MEMORY")?;
    database.pragma_update(None, "cell_size_check", true)?;
    Ok(database)
}

fn version(database: &Connection) -> rusqlite::Result<i64> {
    database.query_row("PRAGMA user_version", [], |row| row.get(0))
}

fn judged(path: &Path, source: rusqlite::Error) -> OpenError {
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => damaged(path, &source.to_string()),
        _ => OpenError::Database { path: path.to_owned(), source },
    }
}

fn damaged(path: &Path, found: &str) -> OpenError {
    OpenError::Refused {
        path: path.to_owned(),
        what: format!("is damaged ({found}); move it and its -wal and -shm away, and import the last export"),
    }
}

/// A file of ours that nobody else can open. SQLite would make it 0644; its companions take its mode.
fn private_file(path: &Path) -> Result<File, OpenError> {
    let failed = |source| OpenError::File { path: path.to_owned(), source };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
        .open(path)
        .map_err(failed)?;
    let found = file.metadata().map_err(failed)?;
    if found.is_file() && found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o077 == 0 {
        return Ok(file);
    }
    Err(OpenError::Refused {
        path: path.to_owned(),
        what: "must be a regular file of the user that certd runs as, mode 0600: chown and chmod it".into(),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{key::Fingerprint, registry::store::rows};

    const VERSION_1: &str = "
        CREATE TABLE keys (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            fingerprint BLOB NOT NULL CHECK (length(fingerprint) = 32),
            key BLOB NOT NULL, class INTEGER NOT NULL, user TEXT NOT NULL, certificate BLOB NOT NULL,
            nickname TEXT NOT NULL, email TEXT NOT NULL, registered INTEGER NOT NULL,
            registered_session TEXT NOT NULL, registered_method TEXT NOT NULL, proven INTEGER NOT NULL,
            last_used INTEGER, last_source TEXT NOT NULL, revoked INTEGER, revoked_by TEXT NOT NULL
        ) STRICT;
        CREATE UNIQUE INDEX live ON keys (fingerprint) WHERE revoked IS NULL;
        CREATE INDEX of_user ON keys (user, class) WHERE revoked IS NULL;
        CREATE INDEX recent ON keys (class, last_used DESC) WHERE revoked IS NULL;
        CREATE INDEX recent_here ON keys (class, last_source, last_used DESC) WHERE revoked IS NULL;
        CREATE INDEX history ON keys (user, revoked DESC, id DESC) WHERE revoked IS NOT NULL;
        CREATE INDEX revocations ON keys (revoked) WHERE revoked IS NOT NULL;
        CREATE TABLE totals (live INTEGER NOT NULL) STRICT;
        INSERT INTO totals VALUES (1);
        INSERT INTO keys (fingerprint, key, class, user, certificate, nickname, email, registered,
                registered_session, registered_method, proven, last_used, last_source, revoked, revoked_by)
            VALUES (zeroblob(32), x'01', 64, 'alice', x'', 'n', 'e', 5, 's', 'password', 1, 7, 'here', NULL, ''),
                   (zeroblob(32), x'01', 64, 'bob', x'', '', '', 3, 's', 'password', 1, NULL, '', 4, 'root');
        PRAGMA user_version = 1;";

    /// The tables and indexes, without the order of columns, which a new file need not share.
    fn layout(database: &Connection) -> Vec<String> {
        let columns = "SELECT 'column ' || name || type || \"notnull\" || coalesce(dflt_value, '')
                       FROM pragma_table_info('keys')";
        let indexes = "SELECT sql FROM sqlite_schema WHERE type = 'index'";
        let text = format!("{columns} UNION ALL {indexes} ORDER BY 1");
        let mut statement = database.prepare(&text).expect("SQL");
        let rows = statement.query_map([], |row| row.get(0)).expect("read");
        rows.collect::<rusqlite::Result<_>>().expect("text")
    }

    #[test]
    fn a_registry_of_an_older_version_is_brought_up_with_all_that_is_in_it() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let [old, new] = ["old", "new"].map(|name| directory.path().join(name));
        drop(private_file(&old).expect("made"));
        Connection::open(&old).and_then(|file| file.execute_batch(VERSION_1)).expect("an old one");
        let fresh = writer(&new).expect("made");
        // Once more: the second time there is nothing to do.
        for _ in 0..2 {
            let database = writer(&old).expect("brought up");
            assert_eq!(version(&database), Ok(VERSION));
            assert_eq!(layout(&database), layout(&fresh));
            let found = rows::find(&database, Fingerprint([0; 32])).expect("read").expect("alice's");
            assert_eq!((found.user.as_str(), found.last_used, found.proven), ("alice", Some(7), true));
            assert_eq!(found.uid, None, "nobody knows which account had the name");
            let revoked = rows::revocations(&database, 1).expect("read");
            assert_eq!(revoked.iter().map(|row| row.user.as_str()).collect::<Vec<_>>(), ["bob"]);
        }
        assert_eq!(fs::metadata(&old).expect("there").mode() & 0o777, 0o600);
    }
}
