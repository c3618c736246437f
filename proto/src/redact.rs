//! Debug for the messages that carry secrets: the type's name and nothing of its content.
//!
//! Enclosing messages derive Debug and so print `[redacted]` for these.

use std::fmt;

use crate::{authd::v1 as authd, certd::v1 as certd, pam::v1 as pam};

macro_rules! redacted {
    ($($message:ty),* $(,)?) => {$(
        impl fmt::Debug for $message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($message), " [redacted]"))
            }
        }
    )*};
}

redacted!(
    authd::Activity,
    authd::ActivityReport,
    authd::AssertRequest,
    authd::Assertion,
    authd::CheckRequest,
    authd::EndRequest,
    authd::Granted,
    authd::LocalPeer,
    authd::Password,
    authd::PeerAnswer,
    authd::peer_answer::Kind,
    authd::RespondRequest,
    authd::Token,
    certd::ListRequest,
    certd::RegisterChallengeRequest,
    certd::ChallengeReply,
    certd::RegisterRequest,
    certd::RevokeRequest,
    certd::VerifyRequest,
    pam::Answers,
);
