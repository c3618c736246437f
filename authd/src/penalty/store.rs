//! Penalties on disk, so that a restart forgives nobody. The only file of this module that names the database.
//!
//! They are worth no more than their boot, and nothing else depends on them: what is damaged is made anew, and
//! the disk is not waited for.

use std::{
    fs::{self, OpenOptions},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags, TransactionBehavior, params};
use rustix::fs::OFlags;
use tracing::error;

use super::table::{FAILURES_MAX, Record};
use crate::{conversation::SourceKey, session::Boot};

const VERSION: i64 = 1;
const SCHEMA: &str = "
    CREATE TABLE boot (id TEXT NOT NULL) STRICT;
    CREATE TABLE source (
        source BLOB PRIMARY KEY NOT NULL, until INTEGER NOT NULL, level INTEGER NOT NULL, last INTEGER NOT NULL,
        failed BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    PRAGMA user_version = 1;";

/// Why penalties cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened or made.
    #[error("{path}")]
    File {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is there but must not be used.
    #[error("{0}: must be a regular file of the user that authd runs as, mode 0600; remove it")]
    Refused(String),
    /// The database failed.
    #[error("{0}")]
    Database(#[from] rusqlite::Error),
}

/// The file.
#[derive(Debug)]
pub(super) struct Store {
    database: Connection,
}

impl Store {
    /// Opens `penalties.sqlite` in `directory`, or makes it: with what it says of this boot, `most` at most.
    pub(super) fn open(
        directory: &Path,
        boot: &Boot,
        most: usize,
    ) -> Result<(Self, Vec<(SourceKey, Record)>), StoreError> {
        let path = directory.join("penalties.sqlite");
        prepare(&path)?;
        match Self::load(&path, boot, most) {
            Err(rusqlite::Error::SqliteFailure(failure, _)) if is_damage(failure.code) => {
                error!(path = %path.display(), cause = %failure, "the file of penalties is damaged: begun anew");
            }
            Err(rusqlite::Error::InvalidQuery) => {
                error!(path = %path.display(), "the file of penalties is of another version: begun anew");
            }
            loaded => return Ok(loaded?),
        }
        for suffix in ["", "-wal", "-shm"] {
            let file = PathBuf::from(format!("{}{suffix}", path.display()));
            match fs::remove_file(&file) {
                Err(failure) if failure.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError::File { path: file.display().to_string(), source: failure });
                }
                Ok(()) | Err(_) => {}
            }
        }
        prepare(&path)?;
        Ok(Self::load(&path, boot, most)?)
    }

    fn load(path: &Path, boot: &Boot, most: usize) -> rusqlite::Result<(Self, Vec<(SourceKey, Record)>)> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        // NOFOLLOW is about every part of the path; only the last is ours to judge.
        let real = path.parent().and_then(|parent| parent.canonicalize().ok()).unwrap_or_default();
        let mut database =
            Connection::open_with_flags(real.join(path.file_name().unwrap_or_default()), flags)?;
        database.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        // What a power cut takes along is void after it anyway.
        database.pragma_update(None, "synchronous", "OFF")?;
        let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
        match transaction.query_row("PRAGMA user_version", [], |row| row.get(0))? {
            0 => transaction.execute_batch(SCHEMA)?,
            VERSION => {}
            _ => return Err(rusqlite::Error::InvalidQuery),
        }
        let same: bool =
            transaction
                .query_row("SELECT EXISTS (SELECT 1 FROM boot WHERE id = ?1)", [&boot.0], |row| row.get(0))?;
        if !same {
            transaction.execute("DELETE FROM source", [])?;
            transaction.execute("DELETE FROM boot", [])?;
            transaction.execute("INSERT INTO boot VALUES (?1)", [&boot.0])?;
        }
        transaction.commit()?;
        let mut rows = database.prepare("SELECT source, until, level, last, failed FROM source LIMIT ?1")?;
        let records = rows.query_map([most], |row| {
            let failed: Vec<u8> = row.get(4)?;
            let failed: Vec<u32> = failed
                .as_chunks::<4>()
                .0
                .iter()
                .take(FAILURES_MAX)
                .map(|four| u32::from_be_bytes(*four))
                .collect();
            let record = Record::from_parts(row.get(1)?, row.get(2)?, row.get(3)?, &failed);
            Ok(key_from_bytes(&row.get::<_, Vec<u8>>(0)?).zip(record))
        })?;
        let records = records.filter_map(Result::transpose).collect::<Result<_, _>>()?;
        drop(rows);
        Ok((Self { database }, records))
    }

    /// Writes what changed; with `all` nothing else stays.
    pub(super) fn write(
        &mut self,
        changes: &[(SourceKey, Option<Record>)],
        all: bool,
    ) -> Result<(), StoreError> {
        let transaction = self.database.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if all {
            transaction.execute("DELETE FROM source", [])?;
        }
        for (source, record) in changes {
            let key = key_to_bytes(source);
            let Some(record) = record else {
                transaction.prepare_cached("DELETE FROM source WHERE source = ?1")?.execute([key])?;
                continue;
            };
            let (last, failed) = record.failures();
            let failed: Vec<u8> = failed.iter().flat_map(|time| time.to_be_bytes()).collect();
            transaction
                .prepare_cached("INSERT OR REPLACE INTO source VALUES (?1, ?2, ?3, ?4, ?5)")?
                .execute(params![key, record.until, record.level, last, failed])?;
        }
        transaction.commit()?;
        Ok(())
    }
}

fn is_damage(code: rusqlite::ErrorCode) -> bool {
    matches!(code, rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt)
}

/// SQLite makes its files 0644, so the file is made here; its companions take its mode.
fn prepare(path: &Path) -> Result<(), StoreError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
        .open(path);
    let found = file.and_then(|file| file.metadata());
    let found = found.map_err(|source| StoreError::File { path: path.display().to_string(), source })?;
    let ours = found.is_file() && found.uid() == rustix::process::geteuid().as_raw();
    if ours && found.mode() & 0o077 == 0 {
        Ok(())
    } else {
        Err(StoreError::Refused(path.display().to_string()))
    }
}

fn key_to_bytes(source: &SourceKey) -> Vec<u8> {
    match source {
        SourceKey::Address(IpAddr::V4(address)) => [&b"4"[..], &address.octets()].concat(),
        SourceKey::Address(IpAddr::V6(address)) => [&b"6"[..], &address.octets()].concat(),
        SourceKey::Uid(uid) => [&b"u"[..], &uid.to_be_bytes()].concat(),
        SourceKey::Local => b"l".to_vec(),
    }
}

fn key_from_bytes(bytes: &[u8]) -> Option<SourceKey> {
    let (kind, rest) = bytes.split_first()?;
    Some(match kind {
        b'4' => SourceKey::of(Some(Ipv4Addr::from(<[u8; 4]>::try_from(rest).ok()?).into())),
        b'6' => SourceKey::of(Some(Ipv6Addr::from(<[u8; 16]>::try_from(rest).ok()?).into())),
        b'u' => SourceKey::Uid(u32::from_be_bytes(rest.try_into().ok()?)),
        b'l' if rest.is_empty() => SourceKey::Local,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read_as_they_were_written() {
        for source in [
            SourceKey::of("192.0.2.1".parse().ok()),
            SourceKey::of("2001:db8:1:2:3::4".parse().ok()),
            SourceKey::Uid(1000),
            SourceKey::Local,
        ] {
            assert_eq!(key_from_bytes(&key_to_bytes(&source)), Some(source));
        }
        for bytes in [&b""[..], b"4", b"4abc", b"x", b"u12345", b"lx"] {
            assert_eq!(key_from_bytes(bytes), None, "{bytes:?}");
        }
    }
}
