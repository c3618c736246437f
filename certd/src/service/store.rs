//! `Store`: the whole registry, for root.

use std::{sync::Arc, time::Duration};

use doorward_launch::audit::{Event, Record};
use doorward_proto::certd::v1::{Entry, ExportRequest, ImportReply, store_server};
use futures_util::future::join_all;
use tokio::time::timeout;
use tonic::{Request, Response, Status, Streaming};

use super::{
    Core, check_source, check_texts, now,
    registry::{Entries, certificate, entries},
};
use crate::{
    error::CertError,
    registry::{self, Imported, Refusal},
};

/// Entries that are written together.
const TOGETHER: usize = 64;
/// Refusals that are told; all are counted.
const TOLD: usize = 100;
/// Of a key that its user has lost since.
const REVOKED: &str =
    "the key was revoked after this registration; whoever is to have it again registers it anew";
/// How long an importer may be silent.
const SILENCE: Duration = Duration::from_secs(30);

/// The service.
#[derive(Debug, Clone)]
pub struct StoreService(pub Arc<Core>);

#[tonic::async_trait]
impl store_server::Store for StoreService {
    type ExportStream = Entries;

    async fn export(&self, _request: Request<ExportRequest>) -> Result<Response<Entries>, Status> {
        let page = |core: Arc<Core>, after| async move { core.registry.export(after).await };
        entries(&self.0, &self.0.exports, page).map(Response::new)
    }

    async fn import(&self, request: Request<Streaming<Entry>>) -> Result<Response<ImportReply>, Status> {
        let mut reply = ImportReply::default();
        let taken = self.take_all(request.into_inner(), &mut reply).await;
        let ImportReply { added, known, .. } = reply;
        match taken {
            Ok(()) => {
                tracing::info!(added, known, refused = reply.refused.len(), "imported");
                Ok(Response::new(reply))
            }
            Err(Broken::Stream(status)) => Err(status),
            // Nothing came before: what the failure says of this part is true of all.
            Err(Broken::Here(why)) if added + known == 0 => Err(self.0.refused("import", &why)),
            Err(Broken::Here(why)) => {
                Err(self.0.refused("import", &CertError::BrokeOff { added, known, why: Box::new(why) }))
            }
        }
    }
}

/// Why an import ends early.
enum Broken {
    /// The importer's side.
    Stream(Status),
    /// This side.
    Here(CertError),
}

impl From<Status> for Broken {
    fn from(status: Status) -> Self {
        Self::Stream(status)
    }
}

impl From<CertError> for Broken {
    fn from(error: CertError) -> Self {
        Self::Here(error)
    }
}

impl StoreService {
    /// Takes what comes, a part after the other; `reply` becomes what is known of it.
    async fn take_all(&self, mut incoming: Streaming<Entry>, reply: &mut ImportReply) -> Result<(), Broken> {
        let mut more = true;
        let mut number = 0;
        while more {
            let mut batch = Vec::new();
            while batch.len() < TOGETHER {
                let next = tokio::select! {
                    next = timeout(SILENCE, incoming.message()) => next,
                    () = self.0.stop.cancelled() => return Err(CertError::Stopping.into()),
                };
                match next.map_err(|_| CertError::Late)?? {
                    Some(entry) => batch.push(entry),
                    None => {
                        more = false;
                        break;
                    }
                }
            }
            for result in self.take(batch).await? {
                number += 1;
                let why = match result {
                    Ok(Imported::Added) => {
                        reply.added += 1;
                        continue;
                    }
                    Ok(Imported::Known) => {
                        reply.known += 1;
                        continue;
                    }
                    Ok(Imported::Revoked) => REVOKED.to_owned(),
                    Err(error) => error.to_string(),
                };
                if reply.refused.len() < TOLD {
                    reply.refused.push(format!("entry {number}: {why}"));
                }
            }
        }
        Ok(())
    }

    /// Checks all, writes those that pass in their order, and says what became of each.
    async fn take(&self, batch: Vec<Entry>) -> Result<Vec<Result<Imported, CertError>>, CertError> {
        let mut results = Vec::new();
        let mut passed = Vec::new();
        for checked in join_all(batch.into_iter().map(|entry| self.checked(entry))).await {
            results.push(match checked {
                Ok(entry) => {
                    passed.push(entry);
                    None
                }
                // Not the entry's fault: the rest would fail too.
                Err(error @ (CertError::Busy | CertError::Stopping | CertError::Fault)) => return Err(error),
                Err(error) => Some(error),
            });
        }
        let core = self.0.clone();
        let imported = self.0.to_its_end(async move { core.import(passed).await }).await?;
        let mut written = imported.into_iter();
        let result = |refused| match refused {
            Some(error) => Err(error),
            None => written.next().ok_or(CertError::Fault)?.map_err(CertError::from),
        };
        Ok(results.into_iter().map(result).collect())
    }

    /// The checks of a registration, on an entry that says everything itself.
    async fn checked(&self, entry: Entry) -> Result<registry::Entry, CertError> {
        let key = self.0.fit(entry.key.clone()).await?;
        let fingerprint = key.fingerprint();
        if !entry.fingerprint.is_empty() && entry.fingerprint != fingerprint.0 {
            return Err(CertError::Malformed("the fingerprint is not the key's"));
        }
        if !doorward_assertion::is_user(&entry.user) {
            return Err(CertError::Malformed("the user's name cannot be one"));
        }
        if entry.user == "root" && !self.0.rules.get().registrations.for_root {
            return Err(crate::rights::Denied::Root.into());
        }
        check_texts(&entry.nickname, &entry.email)?;
        check_source(&entry.last_source)?;
        for word in [&entry.registered_session, &entry.registered_method] {
            if !word.is_empty() && !doorward_assertion::is_word(word) {
                return Err(CertError::Malformed("the session or method is malformed"));
            }
        }
        if !entry.revoked_by.is_empty() && !doorward_assertion::is_user(&entry.revoked_by) {
            return Err(CertError::Malformed("the name of the revoker cannot be one"));
        }
        // The two that are no account's: "no change", and the kernel's for what it cannot say.
        if matches!(entry.uid, Some(u32::MAX | 65534)) {
            return Err(CertError::Malformed("the uid can be no account's"));
        }
        let now = now();
        let times = [Some(entry.registered), entry.last_used, entry.revoked];
        // Another host's clock may be ahead of ours.
        if times.iter().flatten().any(|time| !(0..=now + 86_400).contains(time)) {
            return Err(CertError::Malformed("a time is before 1970 or in the future"));
        }
        Ok(registry::Entry {
            certificate: certificate(&entry.certificate, &key, now)?,
            nickname: entry.nickname,
            email: entry.email,
            registered_session: entry.registered_session,
            registered_method: entry.registered_method,
            proven: entry.proven,
            last_used: entry.last_used,
            last_source: entry.last_source,
            revoked: entry.revoked,
            revoked_by: entry.revoked_by,
            uid: entry.uid,
            ..registry::Entry::new(&key, entry.user, entry.registered)
        })
    }
}

impl Core {
    pub(super) async fn import(
        &self,
        entries: Vec<registry::Entry>,
    ) -> Result<Vec<Result<Imported, Refusal>>, CertError> {
        let audit = self.audit.clone();
        let records: Vec<Record> = entries.iter().map(record).collect();
        let record = move |imported: &[Result<Imported, Refusal>]| {
            for (result, record) in imported.iter().zip(records) {
                if *result == Ok(Imported::Added) {
                    audit.record(record);
                }
            }
        };
        Ok(self.registry.import(entries, record).await?)
    }
}

fn record(entry: &registry::Entry) -> Record {
    Record {
        reason: Some(if entry.revoked.is_some() { "revoked" } else { "live" }),
        user: Some(entry.user.clone()),
        key: Some(entry.fingerprint.to_string()),
        by: Some("root".to_owned()),
        ..Record::of(Event::KeyImported)
    }
}
