//! What went wrong behind the gateway: one kind for the client, the details for the log.

use std::{
    error::Error as _,
    sync::{Arc, Mutex, PoisonError},
};

use doorward_launch::log::Sparingly;
use doorward_proto::Reason;

use crate::call::Error;

/// The longest sentence of a back end that is shown to a client.
const SENTENCE_MAX: usize = 200;

/// A call that failed.
#[derive(Debug)]
pub struct Failure {
    /// What the client is told.
    pub error: Error,
    /// What the log is told.
    pub detail: String,
    /// With whose others it is counted in the log; one that has none is told there always.
    pub(crate) of: Option<Faults>,
}

/// The faults of one that is less trusted than this program: it could fill the log with them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults(Arc<Mutex<Sparingly>>);

impl Faults {
    /// How many were passed over since the last line, if this one may be told.
    pub(crate) fn now(&self) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).now()
    }
}

impl Failure {
    pub(crate) fn new(error: Error, detail: impl Into<String>) -> Self {
        Self { error, detail: detail.into(), of: None }
    }

    /// A fault on this side.
    pub fn fault(error: impl std::fmt::Display) -> Self {
        Self::new(Error::Fault, error.to_string())
    }

    /// A session acts here, and nobody holds one.
    pub(crate) fn unheld() -> Self {
        Self::fault("a session that nobody holds")
    }

    pub(crate) fn late(call: &str) -> Self {
        Self::new(Error::TimedOut, format!("{call}: no answer within the deadline"))
    }

    /// A back end that breaks the contract.
    pub(crate) fn contract(what: &str) -> Self {
        Self::new(Error::Fault, format!("the back end's answer is wrong: {what}"))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(Error::Unavailable, error.to_string())
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        let mut detail = format!("{:?}: {}", status.code(), status.message());
        let mut source = status.source();
        while let Some(cause) = source {
            detail.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        // What a service states comes as a header and has no source; what has one was made by the
        // connection below, whatever code it was given.
        if status.source().is_some() {
            return Self::new(Error::Unavailable, detail);
        }
        let error = match Reason::from_wire(&status) {
            Ok(Reason::BadRequest) => Error::BadRequest(shown(status.message()).into()),
            Ok(Reason::Unauthenticated) => Error::Unauthorized,
            Ok(Reason::Forbidden) => Error::Forbidden,
            Ok(Reason::NotFound) => Error::NotFound,
            Ok(Reason::TooMany) => Error::TooMany,
            Ok(Reason::TimedOut) => Error::TimedOut,
            Ok(Reason::Unavailable) => Error::Unavailable,
            Ok(Reason::Fault) | Err(doorward_proto::Unstated) => Error::Fault,
        };
        Self::new(error, detail)
    }
}

/// What of it clients are shown.
pub(crate) fn shown(sentence: &str) -> String {
    sentence.chars().filter(|c| !c.is_control()).take(SENTENCE_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_code() {
        for (reason, code) in [
            (Reason::BadRequest, 400),
            (Reason::Unauthenticated, 401),
            (Reason::Forbidden, 403),
            (Reason::NotFound, 404),
            (Reason::TooMany, 429),
            (Reason::TimedOut, 408),
            (Reason::Unavailable, 503),
            (Reason::Fault, 500),
        ] {
            assert_eq!(Failure::from(reason.to_wire("x")).error.code(), code);
        }
        assert_eq!(Failure::from(tonic::Status::unimplemented("x")).error.code(), 500);
    }

    #[test]
    fn what_the_connection_says_is_unavailable_whatever_its_code() {
        let broken = std::io::Error::other("broken");
        let status = tonic::Status::from_error(Box::new(broken));
        assert_eq!(Failure::from(status).error, Error::Unavailable);
    }

    #[test]
    fn sentences_are_cut_and_cleaned() {
        let status = Reason::BadRequest.to_wire(format!("a\nb{}", "x".repeat(500)));
        let Error::BadRequest(sentence) = Failure::from(status).error else { panic!("not a bad request") };
        assert!(sentence.starts_with("abx") && sentence.len() == SENTENCE_MAX);
    }
}
