//! `Registry`: what users do with keys, by authd's assertion.

use std::{pin::Pin, sync::Arc, time::Instant};

use doorward_assertion::Caller;
use doorward_launch::{
    Audit,
    audit::{Event, Record},
};
use doorward_proto::certd::v1::{
    ChallengeReply, Entry, ListRequest, LogsRequest, RegisterChallengeRequest, RegisterReply,
    RegisterRequest, RevokeReply, RevokeRequest, registry_server,
};
use futures_util::{Stream, StreamExt as _, stream};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use super::{Core, check_connection, check_texts, logs, now, to_wire};
use crate::{
    challenge::Purpose,
    error::CertError,
    key::{Fingerprint, PublicKey, SIGNATURE_MAX},
    proof::{self, Forms},
    registry::{self, Failed, Page, Registered},
    rights, x509,
};

/// The service.
#[derive(Debug, Clone)]
pub struct RegistryService(pub Arc<Core>);

/// Entries, a page of the registry after the other, as the reader takes them.
pub(super) type Entries = Pin<Box<dyn Stream<Item = Result<Entry, Status>> + Send>>;

#[tonic::async_trait]
impl registry_server::Registry for RegistryService {
    type ListStream = Entries;

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<Entries>, Status> {
        let whose = self
            .0
            .caller(&request.get_ref().assertion)
            .and_then(|caller| Ok(rights::list(&caller)?))
            .map_err(|error| self.0.refused("list", &error))?;
        let page = move |core: Arc<Core>, after| {
            let whose = whose.clone();
            async move { core.registry.list(whose, after).await }
        };
        entries(&self.0, &self.0.listings, page).map(Response::new)
    }

    type LogsStream = logs::Parts;

    async fn logs(&self, request: Request<LogsRequest>) -> Result<Response<logs::Parts>, Status> {
        let parts = logs::read(&self.0, request.into_inner()).await;
        parts.map(Response::new).map_err(|error| self.0.refused("logs", &error))
    }

    async fn register_challenge(
        &self,
        request: Request<RegisterChallengeRequest>,
    ) -> Result<Response<ChallengeReply>, Status> {
        let request = request.into_inner();
        let mut record = Record::of(Event::KeyRefused);
        let reply = self.challenge(&request, &mut record);
        reply.map(Response::new).map_err(|error| self.refused("register challenge", &error, record))
    }

    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<RegisterReply>, Status> {
        let mut record = Record::of(Event::KeyRefused);
        let reply = self.add(request.into_inner(), &mut record).await;
        reply.map(Response::new).map_err(|error| self.refused("register", &error, record))
    }

    async fn revoke(&self, request: Request<RevokeRequest>) -> Result<Response<RevokeReply>, Status> {
        let mut record = Record::of(Event::KeyRefused);
        let reply = self.withdraw(request.into_inner(), &mut record).await;
        reply.map(Response::new).map_err(|error| self.refused("revoke", &error, record))
    }
}

impl RegistryService {
    fn challenge(
        &self,
        request: &RegisterChallengeRequest,
        record: &mut Record,
    ) -> Result<ChallengeReply, CertError> {
        record.connection = Some(request.connection.clone());
        let caller = self.0.caller(&request.assertion)?;
        by_caller(record, &caller);
        rights::register(&caller, self.0.rules.get().registrations, now())?;
        self.0.challenge(&request.connection, purpose(&caller), &request.server_key)
    }

    /// A gateway that is taken over can have as many of these as it likes.
    fn refused(&self, what: &'static str, error: &CertError, record: Record) -> Status {
        self.0.audit.record_bounded(Record { reason: Some(error.code()), ..record });
        self.0.refused(what, error)
    }

    /// `record` becomes what is known of it.
    async fn add(&self, request: RegisterRequest, record: &mut Record) -> Result<RegisterReply, CertError> {
        let core = &self.0;
        record.connection = Some(request.connection.clone());
        let caller = core.caller(&request.assertion)?;
        by_caller(record, &caller);
        let now = now();
        rights::register(&caller, core.rules.get().registrations, now)?;
        check_connection(&request.connection)?;
        check_texts(&request.nickname, &request.email)?;
        let key = core.fit(request.public_key.clone()).await?;
        record.key = Some(key.fingerprint().to_string());
        let certificate = certificate(&request.certificate, &key, now)?;
        let proven = self.possession(&request, &caller, &key).await?;
        let entry = registry::Entry {
            certificate,
            nickname: request.nickname,
            email: request.email,
            registered_session: caller.session,
            registered_method: caller.method,
            proven,
            uid: caller.uid,
            ..registry::Entry::new(&key, caller.user, now)
        };
        let (change, known) = (core.clone(), record.clone());
        let entry = core.to_its_end(async move { change.register(entry, known).await }).await?;
        Ok(RegisterReply { entry: Some(to_wire(entry)) })
    }

    /// Whether the caller has shown the private key; an error where he has to and has not.
    async fn possession(
        &self,
        request: &RegisterRequest,
        caller: &Caller,
        key: &PublicKey,
    ) -> Result<bool, CertError> {
        if !request.proof.is_empty() {
            if request.proof.len() > SIGNATURE_MAX {
                return Err(CertError::WrongProof);
            }
            // Used up by the attempt, whatever comes of it.
            let taken = self.0.challenges().take(&request.connection, &purpose(caller), Instant::now());
            let permit = Core::computing(&self.0.hinted).await?;
            let (key, proof) = (key.clone(), request.proof.clone());
            let verdict = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                proof::answered(&key, &proof, &taken.asked(), Forms::Registration)
            });
            return match verdict.await.map_err(|_| CertError::Fault)? {
                Some(_) => Ok(true),
                None => Err(CertError::WrongProof),
            };
        }
        if self.0.rules.get().loaded_registers && request.loaded_key == key.spki() {
            return Ok(true);
        }
        if self.0.rules.get().require_possession { Err(CertError::NotProven) } else { Ok(false) }
    }

    async fn withdraw(&self, request: RevokeRequest, record: &mut Record) -> Result<RevokeReply, CertError> {
        let caller = self.0.caller(&request.assertion)?;
        by_caller(record, &caller);
        let now = now();
        let user = rights::revoke(&caller, &request.user, now)?;
        // Fit or not: what was registered can be revoked.
        let fingerprint = PublicKey::read(&request.public_key)?.fingerprint();
        record.key = Some(fingerprint.to_string());
        let (change, known) = (self.0.clone(), record.clone());
        self.0.to_its_end(async move { change.revoke(fingerprint, user, caller.user, known).await }).await?;
        Ok(RevokeReply {})
    }
}

impl Core {
    async fn register(&self, entry: registry::Entry, known: Record) -> Result<registry::Entry, CertError> {
        let audit = self.audit.clone();
        let record = move |registered: &Registered| record_registered(&audit, registered, known);
        Ok(self.registry.register(entry, record).await??.entry)
    }

    async fn revoke(
        &self,
        fingerprint: Fingerprint,
        user: String,
        by: String,
        known: Record,
    ) -> Result<(), CertError> {
        let audit = self.audit.clone();
        let own = user == by;
        let revoked = Record {
            event: Event::KeyRevoked,
            reason: Some("asked"),
            user: Some(user.clone()),
            uid: if own { known.uid } else { None },
            by: (!own).then(|| by.clone()),
            ..known
        };
        let (of, revoker) = (user.clone(), by.clone());
        let record = move || {
            audit.record(revoked);
            tracing::info!(user = of, key = %fingerprint, by = revoker, "a key is revoked");
        };
        match self.registry.revoke(fingerprint, user, by, now(), record).await? {
            true => Ok(()),
            false => Err(CertError::NoSuchKey),
        }
    }
}

/// Once it is on disk.
fn record_registered(audit: &Audit, registered: &Registered, known: Record) {
    let Registered { entry, displaced, changed } = registered;
    let reason = if entry.proven { "proven" } else { "unproven" };
    let record = Record { event: Event::KeyRegistered, reason: Some(reason), ..known.clone() };
    if !changed {
        // It costs no room in the registry, so its owner has as many of these as he likes.
        return audit.record_bounded(record);
    }
    audit.record(record);
    tracing::info!(user = entry.user, key = %entry.fingerprint, reason, "a key is registered");
    if let Some(user) = displaced {
        audit.record(Record {
            event: Event::KeyRevoked,
            reason: Some("displaced"),
            user: Some(user.clone()),
            uid: None,
            by: Some(entry.user.clone()),
            ..known
        });
        tracing::warn!(user, key = %entry.fingerprint, by = entry.user, "an unproven key is displaced");
    }
}

fn by_caller(record: &mut Record, caller: &Caller) {
    record.user = Some(caller.user.clone());
    record.uid = caller.uid;
    record.session = Some(caller.session.clone());
    record.method = Some(caller.method.clone());
}

fn purpose(caller: &Caller) -> Purpose {
    Purpose::Registration { session: caller.session.clone() }
}

/// The DER of a certificate that is taken for `key`, which is fit; empty for none.
pub(super) fn certificate(given: &[u8], key: &PublicKey, now: i64) -> Result<Vec<u8>, x509::Refused> {
    if given.is_empty() {
        return Ok(Vec::new());
    }
    let accepted = x509::policy(given, now)?;
    if accepted.key != *key { Err(x509::Refused::OtherKey) } else { Ok(accepted.der) }
}

/// All pages of a listing. Nothing is read before it is asked for, so a slow reader holds one page; how
/// many there may be at a time is `among`'s bound.
pub(super) fn entries<P, F>(core: &Arc<Core>, among: &Arc<Semaphore>, page: P) -> Result<Entries, Status>
where
    P: Fn(Arc<Core>, i64) -> F + Send + 'static,
    F: Future<Output = Result<Page, Failed>> + Send,
{
    let place = among.clone().try_acquire_owned().map_err(|_| core.refused("list", &CertError::Busy))?;
    let start = (core.clone(), place, page, Some(0));
    let pages = stream::try_unfold(start, |(core, place, page, after)| async move {
        let Some(after) = after else { return Ok(None) };
        let fetched = tokio::select! {
            fetched = page(core.clone(), after) => fetched.map_err(CertError::Store),
            () = core.stop.cancelled() => Err(CertError::Stopping),
        };
        let (entries, next) = fetched.map_err(|error| core.refused("list", &error))?;
        Ok(Some((entries, (core, place, page, next))))
    });
    let flat = pages.flat_map(|page: Result<Vec<registry::Entry>, Status>| {
        let items: Vec<Result<Entry, Status>> = match page {
            Ok(entries) => entries.into_iter().map(|entry| Ok(to_wire(entry))).collect(),
            Err(status) => vec![Err(status)],
        };
        stream::iter(items)
    });
    Ok(Box::pin(flat))
}

#[cfg(test)]
mod tests;
