//! The statements.

use rusqlite::{Connection, OptionalExtension as _, Result, Row, params};

use super::{Candidate, Entry, Facts, KeyHolder, Page, Revocation, Search};
use crate::{
    key::{Fingerprint, SignatureClass},
    registry::{PAGE, SEARCH_MAX},
};

const COLUMNS: &str = "id, fingerprint, key, class, user, certificate, nickname, email, registered, \
    registered_session, registered_method, proven, last_used, last_source, revoked, revoked_by, uid";

fn entry(row: &Row<'_>) -> Result<Entry> {
    Ok(Entry {
        fingerprint: Fingerprint(row.get("fingerprint")?),
        key: row.get("key")?,
        class: SignatureClass(row.get("class")?),
        user: row.get("user")?,
        certificate: row.get("certificate")?,
        nickname: row.get("nickname")?,
        email: row.get("email")?,
        registered: row.get("registered")?,
        registered_session: row.get("registered_session")?,
        registered_method: row.get("registered_method")?,
        proven: row.get("proven")?,
        last_used: row.get("last_used")?,
        last_source: row.get("last_source")?,
        revoked: row.get("revoked")?,
        revoked_by: row.get("revoked_by")?,
        uid: row.get("uid")?,
    })
}

pub(super) fn facts(database: &Connection, new: &Entry) -> Result<Facts> {
    let holder = database
        .prepare_cached("SELECT user, uid, proven FROM keys WHERE fingerprint = ?1 AND revoked IS NULL")?
        .query_row([new.fingerprint.0], |row| {
            Ok(KeyHolder { user: row.get(0)?, uid: row.get(1)?, proven: row.get(2)? })
        })
        .optional()?;
    let of_user = database
        .prepare_cached("SELECT count(*) FROM keys WHERE user = ?1 AND revoked IS NULL")?
        .query_row([&new.user], |row| row.get(0))?;
    let total = database.prepare_cached("SELECT live FROM totals")?.query_row([], |row| row.get(0))?;
    Ok(Facts { holder, of_user, total })
}

pub(super) fn find(database: &Connection, key: Fingerprint) -> Result<Option<Entry>> {
    database
        .prepare_cached(&format!("SELECT {COLUMNS} FROM keys WHERE fingerprint = ?1 AND revoked IS NULL"))?
        .query_row([key.0], entry)
        .optional()
}

/// What is revoked already was revoked elsewhere.
pub(super) fn insert(database: &Connection, new: &Entry) -> Result<()> {
    database
        .prepare_cached(
            "INSERT INTO keys (fingerprint, key, class, user, certificate, nickname, email, registered,
                registered_session, registered_method, proven, last_used, last_source, revoked, revoked_by,
                revoked_elsewhere, uid)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?14 IS NOT NULL, ?16)",
        )?
        .execute(params![
            new.fingerprint.0,
            new.key,
            new.class.0,
            new.user,
            new.certificate,
            new.nickname,
            new.email,
            new.registered,
            new.registered_session,
            new.registered_method,
            new.proven,
            new.last_used,
            new.last_source,
            new.revoked,
            new.revoked_by,
            new.uid,
        ])?;
    if new.revoked.is_none() {
        database.prepare_cached("UPDATE totals SET live = live + 1")?.execute([])?;
    }
    Ok(())
}

pub(super) fn prove(database: &Connection, by: &Entry) -> Result<()> {
    database
        .prepare_cached(
            "UPDATE keys SET proven = 1, uid = coalesce(uid, ?2) WHERE fingerprint = ?1 AND revoked IS NULL",
        )?
        .execute(params![by.fingerprint.0, by.uid])
        .map(drop)
}

/// Revokes the key of `user`, or of whoever has it; false when there is none.
pub(super) fn revoke(
    database: &Connection,
    key: Fingerprint,
    user: Option<&str>,
    by: &str,
    now: i64,
) -> Result<bool> {
    let revoked = database
        .prepare_cached(
            "UPDATE keys SET revoked = ?3, revoked_by = ?4
             WHERE fingerprint = ?1 AND (?2 IS NULL OR user = ?2) AND revoked IS NULL",
        )?
        .execute(params![key.0, user, now, by])?;
    // The index `live` allows one row at most.
    if revoked > 0 {
        database.prepare_cached("UPDATE totals SET live = live - 1")?.execute([])?;
    }
    Ok(revoked > 0)
}

/// Keeps so many of a user's revoked keys: registering and revoking in turn must not fill the disk. The oldest
/// go, but first those that were revoked elsewhere: their times are an importer's, and no watcher misses them.
pub(super) fn forget_old(database: &Connection, user: &str, keep: u32) -> Result<()> {
    database
        .prepare_cached(
            "DELETE FROM keys WHERE id IN (SELECT id FROM keys WHERE user = ?1 AND revoked IS NOT NULL
             ORDER BY revoked_elsewhere, revoked DESC, id DESC LIMIT -1 OFFSET ?2)",
        )?
        .execute(params![user, keep])
        .map(drop)
}

pub(super) fn is_history(database: &Connection, old: &Entry) -> Result<bool> {
    database
        .prepare_cached("SELECT 1 FROM keys WHERE user = ?1 AND revoked = ?2 AND fingerprint = ?3")?
        .exists(params![old.user, old.revoked, old.fingerprint.0])
}

/// Whether a registration was followed by a revocation.
pub(super) fn is_revoked_since(database: &Connection, new: &Entry) -> Result<bool> {
    database
        .prepare_cached("SELECT 1 FROM keys WHERE user = ?1 AND revoked > ?2 AND fingerprint = ?3")?
        .exists(params![new.user, new.registered, new.fingerprint.0])
}

/// Revocations since a time, the newest 100,000 at most. That a key was revoked elsewhere says nothing of one
/// that is live here, and must not end what it opened.
pub(super) fn revocations(database: &Connection, since: i64) -> Result<Vec<Revocation>> {
    database
        .prepare_cached(
            "SELECT fingerprint, user, revoked FROM keys AS gone
             WHERE revoked >= ?1 AND (NOT revoked_elsewhere OR NOT EXISTS (
                SELECT 1 FROM keys WHERE fingerprint = gone.fingerprint AND user = gone.user AND revoked IS NULL))
             ORDER BY revoked DESC LIMIT 100000",
        )?
        .query_map([since], |row| {
            Ok(Revocation {
                fingerprint: Fingerprint(row.get(0)?),
                user: row.get(1)?,
                revoked: row.get(2)?,
            })
        })?
        .collect()
}

pub(super) fn used(
    database: &Connection,
    key: Fingerprint,
    user: &str,
    source: &str,
    proves: bool,
    now: i64,
) -> Result<bool> {
    let changed = database
        .prepare_cached(
            "UPDATE keys SET proven = proven OR ?5, last_used = ?2, last_source = ?3
             WHERE fingerprint = ?1 AND user = ?4 AND revoked IS NULL",
        )?
        .execute(params![key.0, now, source, user, proves])?;
    Ok(changed > 0)
}

pub(super) fn page(database: &Connection, after: i64, user: Option<&str>, history: bool) -> Result<Page> {
    let mut last = None;
    let read = |row: &Row<'_>| {
        last = Some(row.get("id")?);
        entry(row)
    };
    let which = match (user, history) {
        (Some(_), _) => "user = ?3 AND revoked IS NULL",
        (None, false) => "?3 IS NULL AND revoked IS NULL",
        (None, true) => "?3 IS NULL",
    };
    let entries = database
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM keys WHERE id > ?1 AND {which} ORDER BY id LIMIT ?2"
        ))?
        .query_map(params![after, PAGE, user], read)?
        .collect::<Result<Vec<_>>>()?;
    Ok((entries, last))
}

fn candidate(row: &Row<'_>) -> Result<Candidate> {
    Ok(Candidate {
        user: row.get("user")?,
        fingerprint: Fingerprint(row.get("fingerprint")?),
        key: row.get("key")?,
    })
}

pub(super) fn candidates(database: &Connection, search: &Search) -> Result<Vec<Candidate>> {
    let class = search.class.0;
    if let Some(key) = search.fingerprint {
        let found = database
            .prepare_cached(
                "SELECT user, fingerprint, key FROM keys
                 WHERE fingerprint = ?1 AND class = ?2 AND (?3 IS NULL OR user = ?3) AND revoked IS NULL",
            )?
            .query_row(params![key.0, class, search.user], candidate)
            .optional()?;
        return Ok(found.into_iter().collect());
    }
    if let Some(user) = &search.user {
        return database
            .prepare_cached(
                "SELECT user, fingerprint, key FROM keys WHERE user = ?1 AND class = ?2 AND revoked IS NULL
                 ORDER BY last_used DESC LIMIT ?3",
            )?
            .query_map(params![user, class, SEARCH_MAX], candidate)?
            .collect();
    }
    // Both statements see the same registry: a use in between moves a key from the second to the first.
    let reading = database.unchecked_transaction()?;
    let mut found = reading
        .prepare_cached(
            "SELECT user, fingerprint, key FROM keys WHERE class = ?1 AND last_source = ?2 AND revoked IS NULL
             ORDER BY last_used DESC LIMIT ?3",
        )?
        .query_map(params![class, search.source, SEARCH_MAX], candidate)?
        .collect::<Result<Vec<_>>>()?;
    let left = SEARCH_MAX.saturating_sub(u32::try_from(found.len()).unwrap_or(SEARCH_MAX));
    let others = reading
        .prepare_cached(
            "SELECT user, fingerprint, key FROM keys WHERE class = ?1 AND last_source <> ?2 AND revoked IS NULL
             ORDER BY last_used DESC LIMIT ?3",
        )?
        .query_map(params![class, search.source, left], candidate)?
        .collect::<Result<Vec<_>>>()?;
    found.extend(others);
    reading.finish()?;
    Ok(found)
}
