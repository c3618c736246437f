//! Decode, call, encode: the three gRPC services over one shared state.

mod logs;
mod proofs;
mod registry;
mod searches;
mod store;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use doorward_assertion::{Caller, Verifier};
use doorward_launch::{Audit, Current, log::Sparingly};
use doorward_proto::certd::v1 as wire;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tonic::Status;

pub use self::{proofs::ProofsService, registry::RegistryService, store::StoreService};
use crate::{
    challenge::{self, Challenges, Purpose, ServerKey},
    config::{Config, Registration, TlsLogin},
    error::CertError,
    key::PublicKey,
    registry::{Entry, Registry},
    rights::Registrations,
    x509,
};

/// What assertions must be for.
const AUDIENCE: &str = "certd";
/// Watchers at a time: authd, and one that it replaces.
const WATCHERS: usize = 8;
/// Listings that are being read, each a page in memory; exports, which are root's, have their own.
const LISTINGS: usize = 16;
const EXPORTS: usize = 2;
/// Changes of the registry at a time: it does many of them in one transaction.
const CHANGES: usize = 256;
/// How long a proof may wait to be computed.
const COMPUTING: Duration = Duration::from_secs(10);
/// Lines about refusals in a second; the others are counted.
const LINES: u32 = 20;
/// Refused proofs that wait for their time.
const WAITING_REFUSALS: usize = 1024;

/// What all three services share.
#[derive(Debug)]
pub struct Core {
    registry: Registry,
    verifier: Verifier,
    challenges: Mutex<Challenges>,
    rules: Current<Rules>,
    watchers: Arc<Semaphore>,
    listings: Arc<Semaphore>,
    exports: Arc<Semaphore>,
    refusals: Semaphore,
    searches: searches::Searches,
    /// Proofs that are computed: those with a hint do not wait for searches.
    hinted: Arc<Semaphore>,
    unhinted: Arc<Semaphore>,
    /// New keys that are looked at: logins do not wait for them.
    fitting: Arc<Semaphore>,
    lines: Mutex<Sparingly>,
    /// Changes of the registry under way.
    changes: Arc<Semaphore>,
    audit: Audit,
    stop: CancellationToken,
}

/// The configuration, as far as calls depend on it.
#[derive(Debug)]
struct Rules {
    require_possession: bool,
    registrations: Registrations,
    /// Where nothing is registered through the gateway, its word proves nothing either.
    loaded_registers: bool,
    loaded_login: TlsLogin,
    refusal_step: Duration,
}

impl Rules {
    fn of(config: &Config) -> Self {
        let in_sessions = match config.trust.registration {
            Registration::Gateway => true,
            Registration::Root => false,
        };
        Self {
            require_possession: config.policy.require_key_possession,
            registrations: Registrations { in_sessions, for_root: config.policy.keys_for_root },
            loaded_registers: in_sessions && config.trust.registration_by_loaded_certificate,
            loaded_login: config.trust.tls_certificate_login,
            refusal_step: Duration::from_millis(config.limits.refusal_step_ms.into()),
        }
    }
}

impl Core {
    /// Over an open registry; `authd` is the uid whose word is believed.
    pub fn new(
        config: &Config,
        registry: Registry,
        authd: u32,
        audit: Audit,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Arc::new(Self {
            registry,
            verifier: Verifier::new(config.assertion.key.clone(), authd, AUDIENCE),
            challenges: Mutex::new(Challenges::new(config.limits.challenges_total)),
            rules: Current::new(Rules::of(config)),
            watchers: Arc::new(Semaphore::new(WATCHERS)),
            listings: Arc::new(Semaphore::new(LISTINGS)),
            exports: Arc::new(Semaphore::new(EXPORTS)),
            refusals: Semaphore::new(WAITING_REFUSALS),
            searches: searches::Searches::default(),
            hinted: Arc::new(Semaphore::new(cores)),
            unhinted: Arc::new(Semaphore::new(cores.div_ceil(2))),
            fitting: Arc::new(Semaphore::new(cores.div_ceil(2))),
            lines: Mutex::new(Sparingly::of(LINES)),
            changes: Arc::new(Semaphore::new(CHANGES)),
            audit,
            stop,
        })
    }

    /// Takes over what a running certd can change. Calls that are under way end by the old rules.
    pub fn take_over(&self, config: &Config) {
        self.registry.limit(config.registry_limits());
        self.challenges().limit(config.limits.challenges_total);
        self.rules.set(Rules::of(config));
    }

    /// Ends the registry's threads after what is queued. Blocks.
    pub fn close(&self) {
        self.registry.close();
    }

    fn caller(&self, jwt: &str) -> Result<Caller, CertError> {
        self.verifier.user(jwt, now()).map_err(CertError::Caller)
    }

    fn challenges(&self) -> MutexGuard<'_, Challenges> {
        self.challenges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a challenge for a connection.
    fn challenge(
        &self,
        connection: &str,
        purpose: Purpose,
        server_key: &[u8],
    ) -> Result<wire::ChallengeReply, CertError> {
        check_connection(connection)?;
        let server = ServerKey::from_wire(server_key)
            .ok_or(CertError::Malformed("server_key is neither 32 bytes nor empty"))?;
        let text = challenge::text(getrandom::fill)?;
        let asked = self.challenges().open(connection, purpose, server, text, Instant::now());
        Ok(wire::ChallengeReply { test_string: asked.text, context: asked.context })
    }

    /// Carries a change out even when its caller goes away; a stop waits for what has begun.
    async fn to_its_end<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, CertError>> + Send + 'static,
    ) -> Result<T, CertError> {
        let place = self.changes.clone().try_acquire_owned().map_err(|_| CertError::Busy)?;
        let done = tokio::spawn(async move {
            let _place = place;
            change.await
        });
        done.await.map_err(|_| CertError::Fault)?
    }

    /// Waits until no change is under way, and lets none begin.
    pub async fn finish_changes(&self) {
        let all = u32::try_from(CHANGES).unwrap_or(u32::MAX);
        // Each has the registry's deadline.
        if let Ok(places) = self.changes.acquire_many(all).await {
            places.forget();
        }
    }

    /// A turn to compute.
    async fn computing(among: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, CertError> {
        let turn = timeout(COMPUTING, among.clone().acquire_owned()).await;
        turn.map_err(|_| CertError::Busy)?.map_err(|_| CertError::Stopping)
    }

    /// A key that is fit to be registered. Looking for weaknesses in one of 8,192 bits takes its time, which the
    /// runtime's threads have not.
    async fn fit(&self, given: Vec<u8>) -> Result<PublicKey, CertError> {
        let permit = Self::computing(&self.fitting).await?;
        let looked = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            PublicKey::parse(&given)
        });
        Ok(looked.await.map_err(|_| CertError::Fault)??)
    }

    /// Logs a failure once, as it is answered.
    fn refused(&self, what: &'static str, error: &CertError) -> Status {
        let cause = std::error::Error::source(error).map(ToString::to_string);
        let of_all = match error {
            CertError::BrokeOff { why, .. } => why.as_ref(),
            whole => whole,
        };
        match of_all {
            CertError::Store(failed) => tracing::error!(what, %failed, %error, "refused"),
            CertError::Fault | CertError::Random(_) => tracing::error!(what, %error, "refused"),
            // A client makes as many of these as it likes.
            _ => {
                if let Some(unsaid) = self.lines.lock().unwrap_or_else(PoisonError::into_inner).now() {
                    tracing::info!(what, %error, cause, unsaid, "refused");
                }
            }
        }
        error.to_wire()
    }
}

/// Seconds of UTC.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    i64::try_from(since).unwrap_or(i64::MAX)
}

fn check_connection(connection: &str) -> Result<(), CertError> {
    if doorward_assertion::is_word(connection) {
        Ok(())
    } else {
        Err(CertError::Malformed("connection is not 1 to 64 printable characters"))
    }
}

/// A source as the gateway reports it: an address, or the uid of a local peer.
fn check_source(source: &str) -> Result<(), CertError> {
    if source.len() <= 128 && source.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(())
    } else {
        Err(CertError::Malformed("source is not at most 128 printable characters"))
    }
}

/// A nickname or an e-mail address: it is shown in lines of text, so it must not begin one.
fn check_text(text: &str, limit: usize, sentence: &'static str) -> Result<(), CertError> {
    if text.chars().count() <= limit && !text.chars().any(|c| c.is_control() || arranges(c)) {
        Ok(())
    } else {
        Err(CertError::Malformed(sentence))
    }
}

/// Characters that show nothing and arrange what is around them: line and paragraph ends (which graphical
/// clients take for a new line), and marks that turn the direction of writing.
fn arranges(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn check_texts(nickname: &str, email: &str) -> Result<(), CertError> {
    check_text(nickname, 128, "nickname is longer than 128 characters or holds control characters")?;
    check_text(email, 254, "email is longer than 254 characters or holds control characters")
}

fn to_wire(entry: Entry) -> wire::Entry {
    // A certificate that was taken once is readable for ever; one of a damaged file is shown without.
    let certificate = (!entry.certificate.is_empty()).then(|| x509::read(&entry.certificate).ok()).flatten();
    let (subject, not_before, not_after) =
        certificate.map_or_else(Default::default, |found| (found.subject, found.not_before, found.not_after));
    wire::Entry {
        key: entry.key,
        fingerprint: entry.fingerprint.0.to_vec(),
        user: entry.user,
        certificate: entry.certificate,
        nickname: entry.nickname,
        email: entry.email,
        registered: entry.registered,
        registered_session: entry.registered_session,
        registered_method: entry.registered_method,
        proven: entry.proven,
        last_used: entry.last_used,
        last_source: entry.last_source,
        revoked: entry.revoked,
        revoked_by: entry.revoked_by,
        subject,
        not_before,
        not_after,
        uid: entry.uid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_begins_a_line_or_turns_one_around() {
        for good in
            ["", "laptop", "B\u{fc}ro \u{2014} 2", "\u{5e9}\u{5dc}\u{5d5}\u{5dd}", "\u{1f4bb}", "a: b"]
        {
            assert!(check_texts(good, "").is_ok() && check_texts("", good).is_ok(), "{good:?}");
        }
        for bad in
            ['\n', '\r', '\0', '\u{1b}', '\u{85}', '\u{2028}', '\u{2029}', '\u{202e}', '\u{2066}', '\u{200f}']
        {
            let text = format!("laptop{bad}Proven: yes");
            assert!(check_texts(&text, "").is_err() && check_texts("", &text).is_err(), "{text:?}");
        }
        assert!(check_texts(&"x".repeat(129), "").is_err());
    }
}
