//! Why a call failed: a sentence for the client, the chain for the log.

use doorward_assertion as assertion;
use doorward_launch::audit::Unread;
use doorward_proto::Reason;

use crate::{
    key,
    registry::{Failed, Refusal},
    rights, x509,
};

/// Every failure of a call.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// A field that only a defective peer sends.
    #[error("{0}")]
    Malformed(&'static str),
    /// A key that is not taken.
    #[error("the public key {0}")]
    Key(#[from] key::Refused),
    /// A certificate that is not taken.
    #[error("the certificate {0}")]
    Certificate(#[from] x509::Refused),
    /// The caller is not known.
    #[error("not authenticated")]
    Caller(#[source] assertion::Refused),
    /// The caller may not.
    #[error(transparent)]
    Denied(#[from] rights::Denied),
    /// No proof, where one is needed.
    #[error("the key is not proven: load its certificate in the TLS connection or send a proof")]
    NotProven,
    /// A proof that proves nothing.
    #[error("the proof does not fit the key and an open challenge of this connection")]
    WrongProof,
    /// The registry's rules.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No such key.
    #[error("no such key")]
    NoSuchKey,
    /// A login that failed, for whatever cause.
    #[error("not authenticated")]
    NotAnswered,
    /// A bound on what is under way.
    #[error("too much is under way; try again")]
    Busy,
    /// The deadline.
    #[error("certd did not finish in time")]
    Late,
    /// The audit records cannot be read.
    #[error("the audit records cannot be read now")]
    Unread(#[from] Unread),
    /// No random bytes.
    #[error("no random bytes")]
    Random(#[from] getrandom::Error),
    /// A watcher that does not keep up.
    #[error("the watch fell behind; watch again")]
    FellBehind,
    /// certd is stopping.
    #[error("certd is stopping")]
    Stopping,
    /// The registry's files.
    #[error("{}{}", shown(.0), unchanged(.0))]
    Store(#[from] Failed),
    /// An import that broke off. What was written before stays.
    #[error("{}; {added} entries were added before, {known} were known", of_a_part(why))]
    BrokeOff {
        /// Entries that are new.
        added: u64,
        /// Entries that were there.
        known: u64,
        /// Why there are no more.
        #[source]
        why: Box<CertError>,
    },
    /// A task that broke off.
    #[error("a fault of certd")]
    Fault,
}

/// What a client may know of the files.
fn shown(failed: &Failed) -> &'static str {
    match failed {
        Failed::NoSpace => "no space is left for the registry",
        Failed::ReadOnly => "the registry is on a read-only file system",
        Failed::Io(_) => "the registry's file cannot be used",
        Failed::Late => "the registry did not answer in time",
        Failed::Closed => "certd is stopping",
        Failed::Fault(_) => "a fault of certd",
    }
}

fn unchanged(failed: &Failed) -> &'static str {
    match failed {
        Failed::NoSpace | Failed::ReadOnly | Failed::Io(_) => "; nothing was changed",
        Failed::Late | Failed::Closed | Failed::Fault(_) => "",
    }
}

/// That nothing was changed is true of the part that failed alone.
fn of_a_part(why: &CertError) -> String {
    match why {
        CertError::Store(failed) => shown(failed).to_owned(),
        other => other.to_string(),
    }
}

impl CertError {
    /// What it is in the words of all services.
    pub fn reason(&self) -> Reason {
        match self {
            Self::BrokeOff { why, .. } => why.reason(),
            Self::Malformed(_) | Self::Key(_) | Self::Certificate(_) => Reason::BadRequest,
            Self::Caller(assertion::Refused::NoKey(_)) => Reason::Unavailable,
            Self::Caller(assertion::Refused::NoUser) => Reason::Forbidden,
            Self::Caller(
                assertion::Refused::TooLong
                | assertion::Refused::Invalid(_)
                | assertion::Refused::Time
                | assertion::Refused::Claim(_),
            )
            | Self::NotAnswered => Reason::Unauthenticated,
            Self::Denied(_) | Self::NotProven | Self::WrongProof | Self::Refused(Refusal::OfAnother) => {
                Reason::Forbidden
            }
            Self::NoSuchKey => Reason::NotFound,
            Self::Refused(Refusal::UserFull(_) | Refusal::Full) | Self::Busy | Self::Unread(Unread::Busy) => {
                Reason::TooMany
            }
            Self::Unread(Unread::Late) | Self::Late | Self::Store(Failed::Late) => Reason::TimedOut,
            Self::FellBehind
            | Self::Stopping
            | Self::Unread(Unread::File(_) | Unread::Io(_))
            | Self::Store(Failed::NoSpace | Failed::ReadOnly | Failed::Io(_) | Failed::Closed) => {
                Reason::Unavailable
            }
            Self::Unread(Unread::Broken) | Self::Random(_) | Self::Store(Failed::Fault(_)) | Self::Fault => {
                Reason::Fault
            }
        }
    }

    /// Every word of [`CertError::code`] that a refused change of a key may have.
    pub const OF_CHANGES: [&str; 24] = [
        "malformed",
        "key-not-taken",
        "certificate-not-taken",
        "not-authenticated",
        "no-user",
        "acl",
        "method",
        "not-recent",
        "another-user",
        "root",
        "not-proven",
        "wrong-proof",
        "of-another",
        "user-full",
        "full",
        "no-such-key",
        "by-root",
        "busy",
        "late",
        "stopping",
        "no-space",
        "read-only",
        "io",
        "fault",
    ];

    /// Its word in audit records. Stable: programs look for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BrokeOff { why, .. } => why.code(),
            Self::Malformed(_) => "malformed",
            Self::Key(_) => "key-not-taken",
            Self::Certificate(_) => "certificate-not-taken",
            Self::Caller(assertion::Refused::NoUser) => "no-user",
            Self::Caller(_) => "not-authenticated",
            Self::Denied(rights::Denied::Acl) => "acl",
            Self::Denied(rights::Denied::Method) => "method",
            Self::Denied(rights::Denied::NotRecent) => "not-recent",
            Self::Denied(rights::Denied::Another) => "another-user",
            Self::Denied(rights::Denied::ByRoot) => "by-root",
            Self::Denied(rights::Denied::Root) => "root",
            Self::NotProven => "not-proven",
            Self::WrongProof => "wrong-proof",
            Self::Refused(Refusal::OfAnother) => "of-another",
            Self::Refused(Refusal::UserFull(_)) => "user-full",
            Self::Refused(Refusal::Full) => "full",
            Self::NoSuchKey => "no-such-key",
            Self::NotAnswered => "not-answered",
            Self::Busy => "busy",
            Self::FellBehind => "fell-behind",
            Self::Late | Self::Store(Failed::Late) => "late",
            Self::Unread(_) => "unread",
            Self::Stopping | Self::Store(Failed::Closed) => "stopping",
            Self::Store(Failed::NoSpace) => "no-space",
            Self::Store(Failed::ReadOnly) => "read-only",
            Self::Store(Failed::Io(_)) => "io",
            Self::Random(_) | Self::Store(Failed::Fault(_)) | Self::Fault => "fault",
        }
    }

    /// What the peer is told.
    pub fn to_wire(&self) -> tonic::Status {
        self.reason().to_wire(self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_is_not_told_what_the_disk_said() {
        let failed = CertError::Store(Failed::Io("/var/lib/somewhere: EIO".into()));
        assert_eq!(failed.to_wire().code(), tonic::Code::Unavailable);
        assert!(!failed.to_wire().message().contains("/var"));
        let fault = CertError::Store(Failed::Fault("no such column".into()));
        assert_eq!(fault.to_wire().message(), "a fault of certd");
    }

    #[test]
    fn the_page_lists_every_reason_of_a_refused_change_and_no_other() {
        let page = include_str!("../../docs/audit.md");
        let (_, rest) = page.split_once("### Reasons of key_refused\n").expect("its heading");
        let section = rest.split("\n#").next().unwrap_or_default();
        let mut listed: Vec<_> =
            section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        let mut codes = CertError::OF_CHANGES.to_vec();
        listed.sort_unstable();
        codes.sort_unstable();
        assert_eq!(listed, codes);
    }

    #[test]
    fn a_refused_login_says_the_same_as_an_unknown_caller() {
        let caller = CertError::Caller(assertion::Refused::Time).to_wire();
        let login = CertError::NotAnswered.to_wire();
        assert_eq!((caller.code(), caller.message()), (login.code(), login.message()));
    }
}
