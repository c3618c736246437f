//! What can go wrong in authd, and what of it a caller is told.

use std::{
    collections::BTreeMap,
    io,
    sync::{Mutex, PoisonError},
};

use doorward_launch::{audit::Unread, chain, log::Sparingly};
use doorward_proto::Reason;
use tonic::Status;
use tracing::{error, warn};

/// Every failure of a call. A refused login is none of them: that is an outcome.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The request cannot be understood or breaks a rule that the caller should know.
    #[error("{0}")]
    BadRequest(&'static str),
    /// No open conversation of that name belongs to the connection, or none that waits for answers.
    #[error("no such conversation")]
    NoConversation,
    /// The token names no live session.
    #[error("no such token")]
    NoSuchToken,
    /// The token by which a caller asks about sessions names no live one.
    #[error("the caller has no session")]
    NoSession,
    /// No session of that name, or none that the caller may see: both look the same.
    #[error("no such session")]
    NoSuchSession,
    /// No such user: for root, who may know.
    #[error("no such user")]
    NoSuchUser,
    /// It is said that there is no such user, which one answer alone does not show.
    #[error("the user database says that there is no such user")]
    UserMissing,
    /// The caller's rights do not reach so far.
    #[error("not allowed")]
    Forbidden,
    /// One of the bounds on logins under way.
    #[error("too many logins under way: {0}")]
    TooManyLogins(&'static str),
    /// The user or the table has its maximum of sessions.
    #[error("too many sessions: {0}")]
    TooManySessions(&'static str),
    /// As many streams of ended sessions as may be.
    #[error("too many watchers")]
    TooManyWatchers,
    /// A PAM module said nothing for too long, or the conversation reached its end.
    #[error("PAM gave no answer: {0}")]
    PamTimedOut(&'static str),
    /// The guard cannot be reached, or is not who it should be.
    #[error("PAM cannot be reached")]
    PamUnreachable(#[source] io::Error),
    /// The worker refuses to start PAM: its service file is missing or open to others.
    #[error(
        "the PAM service file is missing, not root's, or writable by others: the guard's log says which, and how to mend it"
    )]
    PamServiceRefused,
    /// There is no certd in the configuration.
    #[error("no certd is configured")]
    NoCertd,
    /// certd cannot be reached, or is not who it should be, or fails.
    #[error("certd cannot be asked: {0}")]
    Certd(String),
    /// certd did not answer in time.
    #[error("certd gave no answer in time")]
    CertdTimedOut,
    /// A plug-in authenticator cannot be reached, or is not who it should be, or fails.
    #[error("an authenticator cannot be asked: {0}")]
    Authenticator(String),
    /// A plug-in authenticator did not answer in time.
    #[error("an authenticator gave no answer in time")]
    AuthenticatorTimedOut,
    /// The key of a login was revoked before its session was there.
    #[error("the key was revoked during the login")]
    KeyRevoked,
    /// The user or group database does not answer.
    #[error("the user database does not answer")]
    Directory(#[source] io::Error),
    /// The session store failed.
    #[error("the session store failed: {0}")]
    Store(String),
    /// The system gives no random bytes.
    #[error("no random bytes")]
    Random(#[from] getrandom::Error),
    /// What must be recorded could not be.
    #[error(transparent)]
    Unrecorded(#[from] doorward_launch::audit::Unwritten),
    /// The audit records cannot be read.
    #[error(transparent)]
    Unread(#[from] doorward_launch::audit::Unread),
    /// An assertion could not be signed.
    #[error("signing failed: {0}")]
    Signing(String),
    /// A part of authd is gone; only at shutdown unless there is a defect.
    #[error("{0} is gone")]
    Gone(&'static str),
}

impl AuthError {
    /// What the caller is told.
    pub fn reason(&self) -> Reason {
        match self {
            Self::BadRequest(_) => Reason::BadRequest,
            Self::NoConversation | Self::KeyRevoked | Self::NoSession => Reason::Unauthenticated,
            Self::NoSuchToken | Self::NoSuchSession | Self::NoSuchUser => Reason::NotFound,
            Self::Forbidden => Reason::Forbidden,
            Self::TooManyLogins(_)
            | Self::TooManySessions(_)
            | Self::TooManyWatchers
            | Self::Unread(Unread::Busy) => Reason::TooMany,
            Self::PamTimedOut(_) | Self::CertdTimedOut | Self::Unread(Unread::Late) => Reason::TimedOut,
            Self::PamUnreachable(_)
            | Self::PamServiceRefused
            | Self::NoCertd
            | Self::Certd(_)
            | Self::Authenticator(_)
            | Self::AuthenticatorTimedOut
            | Self::Directory(_)
            | Self::UserMissing
            | Self::Unrecorded(_)
            | Self::Unread(Unread::File(_) | Unread::Io(_))
            // As of a full disk: it works again when there is room.
            | Self::Store(_)
            | Self::Gone(_) => Reason::Unavailable,
            Self::Unread(Unread::Broken) | Self::Random(_) | Self::Signing(_) => Reason::Fault,
        }
    }
}

impl AuthError {
    /// The words of [`AuthError::code`] that a login may fail with.
    pub const OF_LOGINS: [&str; 18] = [
        "bad-request",
        "too-many-logins",
        "too-many-sessions",
        "pam-timed-out",
        "pam-unreachable",
        "pam-service-refused",
        "no-certd",
        "certd-unavailable",
        "certd-timed-out",
        "authenticator-unavailable",
        "authenticator-timed-out",
        "key-revoked",
        "directory",
        "user-missing",
        "store",
        "random",
        "unrecorded",
        "stopping",
    ];

    /// Its word in audit records. Stable: programs look for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad-request",
            Self::NoConversation => "no-conversation",
            Self::NoSuchToken => "no-such-token",
            Self::NoSession => "no-session",
            Self::NoSuchSession => "no-such-session",
            Self::NoSuchUser => "no-such-user",
            Self::UserMissing => "user-missing",
            Self::Forbidden => "forbidden",
            Self::TooManyLogins(_) => "too-many-logins",
            Self::TooManySessions(_) => "too-many-sessions",
            Self::TooManyWatchers => "too-many-watchers",
            Self::PamTimedOut(_) => "pam-timed-out",
            Self::PamUnreachable(_) => "pam-unreachable",
            Self::PamServiceRefused => "pam-service-refused",
            Self::NoCertd => "no-certd",
            Self::Certd(_) => "certd-unavailable",
            Self::CertdTimedOut => "certd-timed-out",
            Self::Authenticator(_) => "authenticator-unavailable",
            Self::AuthenticatorTimedOut => "authenticator-timed-out",
            Self::KeyRevoked => "key-revoked",
            Self::Directory(_) => "directory",
            Self::Store(_) => "store",
            Self::Random(_) => "random",
            Self::Unrecorded(_) => "unrecorded",
            Self::Unread(_) => "unread",
            Self::Signing(_) => "signing",
            Self::Gone(_) => "stopping",
        }
    }
}

impl AuthError {
    /// What the caller is told; the log has been told where it failed.
    pub fn to_wire(&self) -> Status {
        let reason = self.reason();
        let sentence = match reason {
            Reason::BadRequest => return reason.to_wire(self.to_string()),
            Reason::Unauthenticated => "not authenticated",
            Reason::NotFound => "not found",
            Reason::TooMany => "too many; try again later",
            Reason::TimedOut => "no answer in time",
            Reason::Forbidden => "not allowed",
            Reason::Unavailable => "not available now",
            Reason::Fault => "internal error",
        };
        reason.to_wire(sentence)
    }

    /// Whether somebody has to do something about it: it is the log's gravest kind of line.
    pub fn is_grave(&self) -> bool {
        self.reason() == Reason::Fault || matches!(self, Self::Store(_))
    }

    /// How many of its kind the log was not told of since the last line, if it may be told of this one: some of
    /// them anybody can cause as often as they like, before any login.
    pub fn may_log(&self) -> Option<u64> {
        LINES.lock().unwrap_or_else(PoisonError::into_inner).now(self.code())
    }
}

/// Lines in a second about one kind of failure.
const LINES_OF_ONE: u32 = 20;

static LINES: Mutex<Lines> = Mutex::new(Lines(BTreeMap::new()));

/// The lines of late, by kind: what somebody causes must not hide what else goes wrong.
struct Lines(BTreeMap<&'static str, Sparingly>);

impl Lines {
    fn now(&mut self, kind: &'static str) -> Option<u64> {
        self.0.entry(kind).or_insert_with(|| Sparingly::of(LINES_OF_ONE)).now()
    }
}

impl From<AuthError> for Status {
    fn from(failure: AuthError) -> Self {
        let told = match failure.reason() {
            Reason::Unavailable | Reason::Fault => true,
            Reason::BadRequest
            | Reason::Unauthenticated
            | Reason::NotFound
            | Reason::TooMany
            | Reason::TimedOut
            | Reason::Forbidden => false,
        };
        if told && let Some(unsaid) = failure.may_log() {
            if failure.is_grave() {
                error!(cause = %chain(&failure), unsaid, "a call failed");
            } else {
                warn!(cause = %chain(&failure), unsaid, "a call failed");
            }
        }
        failure.to_wire()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_keeps_its_details_to_itself() {
        let status = Status::from(AuthError::Store("disk /dev/sda1 is full".into()));
        assert_eq!(status.code(), tonic::Code::Unavailable);
        assert_eq!(status.message(), "not available now");
        let status = Status::from(AuthError::Signing("the key of /var/lib/x".into()));
        assert_eq!(status.code(), tonic::Code::Internal);
        assert_eq!(status.message(), "internal error");
    }

    #[test]
    fn one_kind_of_failure_hides_no_other_from_the_log() {
        let mut lines = Lines(BTreeMap::new());
        let said = (0..1_000).filter(|_| lines.now("no-certd").is_some()).count();
        // The second may have turned meanwhile.
        assert!((20..=40).contains(&said), "{said}");
        assert_eq!(lines.now("directory"), Some(0));
    }

    #[test]
    fn the_chain_names_every_source() {
        let failure = AuthError::PamUnreachable(io::Error::other("refused"));
        assert_eq!(chain(&failure), "PAM cannot be reached: refused");
    }
}
