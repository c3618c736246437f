//! `Proofs`: what authd asks. Every refusal looks the same and comes at the same times.

use std::{pin::Pin, sync::Arc, time::Duration};

use doorward_proto::certd::v1::{
    ChallengeReply, ChallengeRequest, LoadedRequest, RevokedEvent, Verified, VerifyRequest,
    WatchRevokedRequest, proofs_server,
};
use futures_util::{Stream, StreamExt as _, stream};
use tokio::{
    sync::broadcast::error::RecvError,
    time::{Instant, sleep_until, timeout_at},
};
use tonic::{Request, Response, Status};

use super::{Core, check_connection, check_source, now};
use crate::{
    challenge::Purpose,
    config::TlsLogin,
    error::CertError,
    key::{Fingerprint, PublicKey, SIGNATURE_MAX, SignatureClass},
    proof::{self, Asked, Forms},
    registry::{Candidate, Revocation, Search},
    x509,
};

/// From the request to the verdict, waiting for a turn included.
const DEADLINE: Duration = Duration::from_secs(10);

/// The service.
#[derive(Debug, Clone)]
pub struct ProofsService(pub Arc<Core>);

#[tonic::async_trait]
impl proofs_server::Proofs for ProofsService {
    type WatchRevokedStream = Pin<Box<dyn Stream<Item = Result<RevokedEvent, Status>> + Send>>;

    async fn challenge(
        &self,
        request: Request<ChallengeRequest>,
    ) -> Result<Response<ChallengeReply>, Status> {
        let request = request.into_inner();
        let reply = self.0.challenge(&request.connection, Purpose::Login, &request.server_key);
        reply.map(Response::new).map_err(|error| self.0.refused("challenge", &error))
    }

    async fn verify(&self, request: Request<VerifyRequest>) -> Result<Response<Verified>, Status> {
        let started = Instant::now();
        let request = request.into_inner();
        let verdict = match check_connection(&request.connection).and(check_source(&request.source)) {
            Ok(()) => {
                timeout_at(started + DEADLINE, self.answer(&request)).await.unwrap_or(Err(CertError::Late))
            }
            Err(malformed) => Err(malformed),
        };
        let verdict = self.at_its_time(started, verdict).await;
        if let Ok(verified) = &verdict {
            tracing::info!(user = verified.user, source = request.source, "a key answered");
        }
        verdict.map(Response::new).map_err(|error| self.0.refused("verify", &error))
    }

    async fn loaded(&self, request: Request<LoadedRequest>) -> Result<Response<Verified>, Status> {
        let started = Instant::now();
        let request = request.into_inner();
        let verdict = match check_source(&request.source) {
            Ok(()) => {
                timeout_at(started + DEADLINE, self.known(&request)).await.unwrap_or(Err(CertError::Late))
            }
            Err(malformed) => Err(malformed),
        };
        let verdict = self.at_its_time(started, verdict).await;
        if let Ok(verified) = &verdict {
            tracing::info!(user = verified.user, source = request.source, "a loaded key is registered");
        }
        verdict.map(Response::new).map_err(|error| self.0.refused("loaded", &error))
    }

    async fn watch_revoked(
        &self,
        request: Request<WatchRevokedRequest>,
    ) -> Result<Response<Self::WatchRevokedStream>, Status> {
        let watch = self.watch(request.get_ref().since).await;
        watch.map(Response::new).map_err(|error| self.0.refused("watch", &error))
    }
}

impl ProofsService {
    async fn answer(&self, request: &VerifyRequest) -> Result<Verified, CertError> {
        let core = &self.0;
        // Used up by the attempt; what a success leaves over is given back below.
        let taken = core.challenges().take(&request.connection, &Purpose::Login, std::time::Instant::now());
        let asked = taken.asked();
        if asked.is_empty() || request.signature.len() > SIGNATURE_MAX {
            return Err(CertError::NotAnswered);
        }
        let search = search(request).ok_or(CertError::NotAnswered)?;
        let (turn, computing) = if search.is_hinted() {
            (None, &core.hinted)
        } else {
            (Some(core.searches.turn(&request.source).await?), &core.unhinted)
        };
        let candidates = core.registry.candidates(search).await?;
        let permit = Core::computing(computing).await?;
        let signature = request.signature.clone();
        // Both go along: the next search of this source begins when this one has really ended.
        let found = tokio::task::spawn_blocking(move || {
            let _held = (turn, permit);
            first_that_answered(candidates, &signature, &asked)
        });
        let (candidate, place) = found.await.map_err(|_| CertError::Fault)?.ok_or(CertError::NotAnswered)?;
        let uid = self.may_log_in(&candidate.user, candidate.fingerprint, &request.source, true).await?;
        core.challenges().give_back(&request.connection, taken.without(place), std::time::Instant::now());
        let fingerprint = candidate.fingerprint.0.to_vec();
        Ok(Verified { user: candidate.user, fingerprint, full_access: true, uid })
    }

    /// The rules for a key that logs in, and the note that it did. Of which account it is, if that is known:
    /// authd compares.
    async fn may_log_in(
        &self,
        user: &str,
        fingerprint: Fingerprint,
        source: &str,
        proves: bool,
    ) -> Result<Option<u32>, CertError> {
        let core = &self.0;
        let live = async || core.registry.find(fingerprint).await;
        let entry = live().await?.filter(|entry| entry.user == user).ok_or(CertError::NotAnswered)?;
        if user == "root" && !core.rules.get().registrations.for_root {
            tracing::warn!(key = %fingerprint, "keys for root are switched off");
            return Err(CertError::NotAnswered);
        }
        if !entry.certificate.is_empty()
            && let Err(why) = x509::policy(&entry.certificate, now())
        {
            tracing::info!(user, key = %fingerprint, %why, "the key's certificate is not valid");
            return Err(CertError::NotAnswered);
        }
        match core.registry.used(fingerprint, user.to_owned(), source.to_owned(), proves, now()).await {
            Ok(true) => Ok(entry.uid),
            Ok(false) => Err(CertError::NotAnswered),
            Err(failed) => {
                // A full disk must not lock people out; whether the key still counts is asked again.
                tracing::error!(%failed, "the use of a key cannot be noted");
                let still = live().await?.is_some_and(|entry| entry.user == user);
                if still { Ok(entry.uid) } else { Err(CertError::NotAnswered) }
            }
        }
    }

    async fn known(&self, request: &LoadedRequest) -> Result<Verified, CertError> {
        let rules = self.0.rules.get();
        let full_access = match rules.loaded_login {
            TlsLogin::Off => return Err(CertError::NotAnswered),
            TlsLogin::Limited => false,
            TlsLogin::All => true,
        };
        // Never root, whatever is configured for keys.
        if !doorward_assertion::is_user(&request.user) || request.user == "root" {
            return Err(CertError::NotAnswered);
        }
        let key = PublicKey::from_spki(&request.key).map_err(|_| CertError::NotAnswered)?;
        // Only a registered key goes on from here, so a fit one.
        match x509::policy(&request.certificate, now()) {
            Ok(certificate) if certificate.key == key => {}
            other => {
                let why = other.err().unwrap_or(x509::Refused::OtherKey);
                tracing::info!(user = request.user, %why, "a loaded certificate is not taken");
                return Err(CertError::NotAnswered);
            }
        }
        let fingerprint = key.fingerprint();
        let proves = rules.loaded_registers;
        let uid = self.may_log_in(&request.user, fingerprint, &request.source, proves).await?;
        Ok(Verified { user: request.user.clone(), fingerprint: fingerprint.0.to_vec(), full_access, uid })
    }

    /// Answers a refusal at a whole multiple of the step after the request came: how many keys were tried
    /// does not show. Waiting holds nothing but a place among 1,024.
    async fn at_its_time(
        &self,
        started: Instant,
        verdict: Result<Verified, CertError>,
    ) -> Result<Verified, CertError> {
        if !matches!(verdict, Err(CertError::NotAnswered)) {
            return verdict;
        }
        let _place = self.0.refusals.try_acquire().map_err(|_| CertError::Busy)?;
        let step = self.0.rules.get().refusal_step;
        let passed = started.elapsed().as_nanos() / step.as_nanos().max(1);
        let steps = u32::try_from(passed).unwrap_or(u32::MAX).saturating_add(1);
        tokio::select! {
            () = sleep_until(started + step.saturating_mul(steps)) => verdict,
            () = self.0.stop.cancelled() => Err(CertError::Stopping),
        }
    }

    async fn watch(
        &self,
        since: i64,
    ) -> Result<<Self as proofs_server::Proofs>::WatchRevokedStream, CertError> {
        let place = self.0.watchers.clone().try_acquire_owned().map_err(|_| CertError::Busy)?;
        // First listen, then look back: what happens in between comes twice rather than never.
        let live = self.0.registry.revoked();
        let past = if since > 0 { self.0.registry.revocations(since).await? } else { Vec::new() };
        let head = std::iter::once(RevokedEvent::default()).chain(past.into_iter().map(event)).map(Ok);
        let tail = stream::unfold(Some((live, place, self.0.clone())), |state| async move {
            let (mut live, place, core) = state?;
            let next = tokio::select! {
                next = live.recv() => next.map_err(|error| match error {
                    RecvError::Lagged(_) => CertError::FellBehind,
                    RecvError::Closed => CertError::Stopping,
                }),
                () = core.stop.cancelled() => Err(CertError::Stopping),
            };
            match next {
                Ok(revocation) => Some((Ok(event(revocation)), Some((live, place, core)))),
                Err(error) => Some((Err(core.refused("watch", &error)), None)),
            }
        });
        Ok(Box::pin(stream::iter(head).chain(tail)))
    }
}

fn event(revocation: Revocation) -> RevokedEvent {
    RevokedEvent {
        fingerprint: revocation.fingerprint.0.to_vec(),
        user: revocation.user,
        revoked: revocation.revoked,
    }
}

/// What to try; None when nothing can fit.
fn search(request: &VerifyRequest) -> Option<Search> {
    let class = SignatureClass::of_length(request.signature.len())?;
    let user = match request.user.as_str() {
        "" => None,
        user => Some(doorward_assertion::is_user(user).then(|| user.to_owned())?),
    };
    let fingerprint = match request.fingerprint.as_slice() {
        [] => None,
        bytes => Some(Fingerprint::from_wire(bytes)?),
    };
    Some(Search { class, user, fingerprint, source: request.source.clone() })
}

fn first_that_answered(
    candidates: Vec<Candidate>,
    signature: &[u8],
    asked: &[Asked],
) -> Option<(Candidate, usize)> {
    candidates.into_iter().find_map(|candidate| {
        let key = PublicKey::from_spki(&candidate.key).ok()?;
        let place = proof::answered(&key, signature, asked, Forms::Login)?;
        Some((candidate, place))
    })
}
