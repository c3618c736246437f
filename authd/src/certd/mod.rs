//! certd, asked by authd itself: challenges, whose key answered one, and which keys are revoked.
//!
//! The gateway relays no verdict. What authd does not tell apart is left to certd: it parses keys,
//! certificates and signatures, and it alone knows which challenges are open.

mod watch;

use std::{
    error::Error as _,
    fmt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use doorward_proto::{
    Reason,
    certd::v1::{self as wire, proofs_client::ProofsClient},
};
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Status, transport::Channel};

use crate::{
    account::{Account, Username},
    error::AuthError,
    line,
    peer::Connection,
    session::{Fingerprint, Proven, Sessions},
};

/// A challenge is there within this.
const CHALLENGE_WITHIN: Duration = Duration::from_secs(5);
/// A verdict, too: a little longer than certd takes at most.
const VERDICT_WITHIN: Duration = Duration::from_secs(12);
/// Calls at a time.
const CHALLENGES: usize = 256;
const VERDICTS: usize = 256;
/// The largest answer that is read.
const ANSWER_MAX: usize = 16 << 10;
/// Longer than any signature, key or certificate that certd takes.
const SIGNATURE_MAX: usize = 4 << 10;
const KEY_MAX: usize = 4 << 10;
const CERTIFICATE_MAX: usize = 16 << 10;

/// Where certd is, and whose it must be.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its socket for authd.
    pub socket: PathBuf,
    /// Who must have called listen() on it.
    pub uid: u32,
}

/// What is shown of a registered key.
#[derive(Clone, PartialEq, Eq)]
pub enum Proof {
    /// An answer to an open challenge of the connection.
    Challenge {
        /// The signature.
        signature: Vec<u8>,
        /// A hint at the key; empty for none.
        fingerprint: Vec<u8>,
    },
    /// The gateway says that the client proved it in the TLS handshake.
    Loaded {
        /// SubjectPublicKeyInfo, DER.
        key: Vec<u8>,
        /// DER.
        certificate: Vec<u8>,
    },
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proof [redacted]")
    }
}

impl Proof {
    /// Whether it may be one, by its lengths alone.
    pub fn fits(&self) -> bool {
        match self {
            Self::Challenge { signature, fingerprint } => {
                (1..=SIGNATURE_MAX).contains(&signature.len()) && matches!(fingerprint.len(), 0 | 32)
            }
            Self::Loaded { key, certificate } => {
                (1..=KEY_MAX).contains(&key.len()) && (1..=CERTIFICATE_MAX).contains(&certificate.len())
            }
        }
    }
}

/// A registered key that was proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Its owner.
    pub user: Username,
    /// Its identity.
    pub fingerprint: Fingerprint,
    /// Whether members of full-access groups may log in this way.
    pub full_access: bool,
    /// The uid of the account that registered it; None: certd does not know.
    pub uid: Option<u32>,
}

impl Verified {
    /// Whether it is this account's. A name may have become somebody else's since the key was registered.
    pub fn is_of(&self, account: &Account) -> bool {
        self.uid.is_none_or(|uid| uid == account.uid.as_u32())
    }

    /// The key, without its owner.
    pub fn proven(&self) -> Proven {
        Proven { fingerprint: self.fingerprint, full_access: self.full_access }
    }
}

/// What a client is to sign.
#[derive(Debug, Clone)]
pub struct Challenge {
    /// Random letters and digits.
    pub test_string: String,
    /// What is signed together with them.
    pub context: String,
}

/// certd.
#[derive(Debug)]
pub struct Certd {
    proofs: ProofsClient<Channel>,
    challenges: Semaphore,
    verdicts: Semaphore,
    /// Whether revocations are told.
    watching: Arc<AtomicBool>,
}

impl Certd {
    /// Connects when it is first needed. Revocations end sessions from now on; `tasks` owns the watch,
    /// `stop` ends it.
    pub fn start(
        settings: Settings,
        sessions: Arc<Sessions>,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let client = || {
            let channel = line::channel(settings.socket.clone(), settings.uid, "certd's".to_owned());
            ProofsClient::new(channel).max_decoding_message_size(ANSWER_MAX)
        };
        let watching = Arc::new(AtomicBool::new(false));
        // A connection of its own, so that revocations do not wait behind verdicts.
        let watch = watch::run(client(), sessions, watching.clone());
        tasks.spawn(stop.run_until_cancelled_owned(watch));
        Self {
            proofs: client(),
            challenges: Semaphore::new(CHALLENGES),
            verdicts: Semaphore::new(VERDICTS),
            watching,
        }
    }

    /// A string for a client to sign, for this connection. `server_key`: SHA-256 of the server's TLS key,
    /// or empty.
    ///
    /// # Errors
    /// At a bound, and when certd cannot be asked.
    pub async fn challenge(
        &self,
        connection: Connection,
        server_key: Vec<u8>,
    ) -> Result<Challenge, AuthError> {
        self.is_watched()?;
        let busy = |_| AuthError::TooManyLogins("asking for a challenge");
        let _place = self.challenges.try_acquire().map_err(busy)?;
        let request = wire::ChallengeRequest { connection: connection.to_string(), server_key };
        let reply = timeout(CHALLENGE_WITHIN, self.proofs.clone().challenge(request)).await;
        let reply = reply.map_err(|_| AuthError::CertdTimedOut)?.map_err(failure)?.into_inner();
        Ok(Challenge { test_string: reply.test_string, context: reply.context })
    }

    /// Whose registered key this proves; None: nobody's. `user` is whom they say to be.
    ///
    /// # Errors
    /// At a bound, and when certd cannot be asked.
    pub async fn verify(
        &self,
        proof: Proof,
        user: Option<&Username>,
        connection: Connection,
        source: String,
    ) -> Result<Option<Verified>, AuthError> {
        self.is_watched()?;
        let busy = |_| AuthError::TooManyLogins("by key");
        let _place = self.verdicts.try_acquire().map_err(busy)?;
        let user = user.map_or_else(String::new, |user| user.as_str().to_owned());
        let mut proofs = self.proofs.clone();
        let asked = async {
            match proof {
                Proof::Challenge { signature, fingerprint } => {
                    let connection = connection.to_string();
                    proofs
                        .verify(wire::VerifyRequest { connection, signature, user, fingerprint, source })
                        .await
                }
                Proof::Loaded { key, certificate } => {
                    proofs.loaded(wire::LoadedRequest { user, key, certificate, source }).await
                }
            }
        };
        match timeout(VERDICT_WITHIN, asked).await {
            Ok(Ok(verified)) => from_wire(verified.into_inner()).map(Some),
            Ok(Err(status)) if is_refusal(&status) => Ok(None),
            Ok(Err(status)) => Err(failure(status)),
            Err(_) => Err(AuthError::CertdTimedOut),
        }
    }

    /// A session that no revocation could end must not be opened.
    fn is_watched(&self) -> Result<(), AuthError> {
        if self.watching.load(Ordering::Acquire) {
            Ok(())
        } else {
            Err(AuthError::Certd("it does not tell which keys are revoked".into()))
        }
    }
}

fn from_wire(verified: wire::Verified) -> Result<Verified, AuthError> {
    let wrong = |what: &str| AuthError::Certd(format!("its answer is wrong: {what}"));
    let user = Username::parse(verified.user).ok_or_else(|| wrong("no user name"))?;
    let fingerprint = verified.fingerprint.try_into().map_err(|_| wrong("no fingerprint"))?;
    Ok(Verified {
        user,
        fingerprint: Fingerprint(fingerprint),
        full_access: verified.full_access,
        uid: verified.uid,
    })
}

/// Whether certd itself says that nothing was proven. What has a source was made by the connection.
fn is_refusal(status: &Status) -> bool {
    let stated = status.source().is_none();
    stated && matches!(Reason::from_wire(status), Ok(Reason::Unauthenticated))
}

fn failure(status: Status) -> AuthError {
    let stated = status.source().is_none();
    match Reason::from_wire(&status) {
        Ok(Reason::TooMany) if stated => AuthError::TooManyLogins("in certd"),
        Ok(Reason::TimedOut) if stated => AuthError::CertdTimedOut,
        _ => {
            // The connection's errors repeat each other; the innermost says it.
            let mut cause = status.message().to_owned();
            let mut next = status.source();
            while let Some(source) = next {
                cause = source.to_string();
                next = source.source();
            }
            AuthError::Certd(format!("{:?}: {cause}", status.code()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proofs_are_bounded_before_they_are_sent() {
        let challenge = |signature, fingerprint| Proof::Challenge {
            signature: vec![1; signature],
            fingerprint: vec![1; fingerprint],
        };
        let loaded =
            |key, certificate| Proof::Loaded { key: vec![1; key], certificate: vec![1; certificate] };
        for (place, (proof, fits)) in [
            (challenge(64, 0), true),
            (challenge(SIGNATURE_MAX, 32), true),
            (challenge(0, 0), false),
            (challenge(SIGNATURE_MAX + 1, 0), false),
            (challenge(64, 31), false),
            (challenge(64, 33), false),
            (loaded(KEY_MAX, CERTIFICATE_MAX), true),
            (loaded(0, 1), false),
            (loaded(1, 0), false),
            (loaded(KEY_MAX + 1, 1), false),
            (loaded(1, CERTIFICATE_MAX + 1), false),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(proof.fits(), fits, "line {place}");
        }
    }

    #[test]
    fn only_certds_own_refusal_is_one() {
        assert!(is_refusal(&Reason::Unauthenticated.to_wire("no")));
        assert!(!is_refusal(&Reason::Forbidden.to_wire("no row")));
        assert!(!is_refusal(&Reason::Unavailable.to_wire("stopping")));
        let broken = Status::from_error(Box::new(std::io::Error::other("broken")));
        assert!(!is_refusal(&broken));
        assert!(matches!(failure(broken), AuthError::Certd(_)));
        assert!(matches!(failure(Reason::TooMany.to_wire("")), AuthError::TooManyLogins(_)));
        assert!(matches!(failure(Reason::TimedOut.to_wire("")), AuthError::CertdTimedOut));
    }

    #[test]
    fn an_answer_without_a_user_or_a_key_is_none() {
        let good =
            wire::Verified { user: "alice".into(), fingerprint: vec![1; 32], full_access: true, uid: None };
        assert!(from_wire(good.clone()).is_ok());
        for wrong in [
            wire::Verified { user: String::new(), ..good.clone() },
            wire::Verified { user: "a/b".into(), ..good.clone() },
            wire::Verified { fingerprint: vec![1; 31], ..good.clone() },
            wire::Verified { fingerprint: Vec::new(), ..good },
        ] {
            assert!(matches!(from_wire(wrong), Err(AuthError::Certd(_))));
        }
    }
}
