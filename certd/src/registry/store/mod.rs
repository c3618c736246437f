//! The registry on disk: SQLite, one thread that writes and one that reads.
//!
//! What waits is written in one transaction, and nobody is answered before it is on disk. This directory
//! is the only place that names the database.

mod open;
mod rows;
mod thread;

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

pub use open::OpenError;
use rusqlite::Connection;
pub use thread::{Failed, Point, Watch};

use super::{
    Candidate, Decision, Entry, Facts, Imported, KeyHolder, Page, Refusal, Registered, Revocation, Search,
};
use crate::key::Fingerprint;

/// The threads and the lock that keeps a second certd away.
#[derive(Debug)]
pub(super) struct Store {
    writer: thread::Thread,
    reader: thread::Thread,
    _lock: File,
}

impl Store {
    pub(super) fn open(directory: &Path, watch: Watch) -> Result<Self, OpenError> {
        let lock = open::lock(directory)?;
        let path: Arc<PathBuf> = Arc::new(directory.join("registry.sqlite"));
        let writing = open::writer(&path)?;
        let reading = open::reader(&path)?;
        let again = path.clone();
        let files = thread::Files::default();
        let writer = thread::Thread::writer(writing, move || open::writer(&path), files.clone(), watch)
            .map_err(OpenError::Thread)?;
        let reader = thread::Thread::reader(reading, move || open::reader(&again), files)
            .map_err(OpenError::Thread)?;
        Ok(Self { writer, reader, _lock: lock })
    }

    pub(super) async fn register(
        &self,
        entry: Entry,
        keep: u32,
        decide: impl FnOnce(&Facts, &Entry) -> Result<Decision, Refusal> + Send + 'static,
        done: impl FnOnce(&Registered) + Send + 'static,
    ) -> Result<Result<Registered, Refusal>, Failed> {
        let accepted = move |registered: &Result<Registered, Refusal>| {
            if let Ok(registered) = registered {
                done(registered);
            }
        };
        self.writer
            .call_and(accepted, move |database| {
                let facts = rows::facts(database, &entry)?;
                let decision = match decide(&facts, &entry) {
                    Err(refusal) => return Ok(Err(refusal)),
                    Ok(decision) => decision,
                };
                let mut displaced = None;
                match decision {
                    Decision::Keep => {}
                    Decision::Prove => rows::prove(database, &entry)?,
                    Decision::Add => rows::insert(database, &entry)?,
                    Decision::Displace | Decision::Renew => {
                        rows::revoke(database, entry.fingerprint, None, "displaced", entry.registered)?;
                        rows::insert(database, &entry)?;
                        displaced = facts.holder.map(|holder| holder.user);
                        rows::forget_old(database, displaced.as_deref().unwrap_or_default(), keep)?;
                    }
                }
                let entry = rows::find(database, entry.fingerprint)?.unwrap_or(entry);
                Ok(Ok(Registered { entry, displaced, changed: decision != Decision::Keep }))
            })
            .await
    }

    pub(super) async fn import(
        &self,
        entries: Vec<Entry>,
        keep: u32,
        decide: impl Fn(&Facts, &Entry) -> Result<Decision, Refusal> + Send + 'static,
        done: impl FnOnce(&[Result<Imported, Refusal>]) + Send + 'static,
    ) -> Result<Vec<Result<Imported, Refusal>>, Failed> {
        let one = move |database: &Connection, entry: Entry| {
            if entry.revoked.is_some() {
                if rows::is_history(database, &entry)? {
                    return Ok(Ok(Imported::Known));
                }
                rows::insert(database, &entry)?;
                rows::forget_old(database, &entry.user, keep)?;
                return Ok(Ok(Imported::Added));
            }
            let facts = rows::facts(database, &entry)?;
            Ok(match decide(&facts, &entry) {
                Err(refusal) => Err(refusal),
                // Known ones are left as they are, and nobody loses a key by an import.
                Ok(Decision::Keep | Decision::Prove | Decision::Renew) => Ok(Imported::Known),
                Ok(Decision::Displace) => Err(Refusal::OfAnother),
                Ok(Decision::Add) if rows::is_revoked_since(database, &entry)? => Ok(Imported::Revoked),
                Ok(Decision::Add) => {
                    rows::insert(database, &entry)?;
                    Ok(Imported::Added)
                }
            })
        };
        let done = move |imported: &Vec<_>| done(imported);
        self.writer
            .call_and(done, move |database| entries.into_iter().map(|entry| one(database, entry)).collect())
            .await
    }

    pub(super) async fn revoke(
        &self,
        revocation: Revocation,
        by: String,
        keep: u32,
        done: impl FnOnce() + Send + 'static,
    ) -> Result<bool, Failed> {
        let done = move |revoked: &bool| {
            if *revoked {
                done();
            }
        };
        self.writer
            .call_and(done, move |database| {
                let Revocation { fingerprint, user, revoked: now } = revocation;
                let revoked = rows::revoke(database, fingerprint, Some(&user), &by, now)?;
                rows::forget_old(database, &user, keep)?;
                Ok(revoked)
            })
            .await
    }

    pub(super) async fn used(
        &self,
        key: Fingerprint,
        user: String,
        source: String,
        proves: bool,
        now: i64,
    ) -> Result<bool, Failed> {
        self.writer.call(move |database| rows::used(database, key, &user, &source, proves, now)).await
    }

    pub(super) async fn page(&self, after: i64, user: Option<String>, history: bool) -> Result<Page, Failed> {
        self.reader.call(move |database| rows::page(database, after, user.as_deref(), history)).await
    }

    pub(super) async fn candidates(&self, search: Search) -> Result<Vec<Candidate>, Failed> {
        self.reader.call(move |database| rows::candidates(database, &search)).await
    }

    pub(super) async fn find(&self, fingerprint: Fingerprint) -> Result<Option<Entry>, Failed> {
        self.reader.call(move |database| rows::find(database, fingerprint)).await
    }

    pub(super) async fn revocations(&self, since: i64) -> Result<Vec<Revocation>, Failed> {
        self.reader.call(move |database| rows::revocations(database, since)).await
    }

    pub(super) fn close(&self) {
        self.writer.close();
        self.reader.close();
    }
}
