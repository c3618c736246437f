//! What the client of a connection has back ends asked, whichever way it came.

use std::{io, os::fd::OwnedFd, time::Duration};

use super::{Client, tls::Shown};
use crate::{
    backend::{Caller, Connection, Failure, Method},
    call::Error,
    session::Login,
};

impl Client {
    pub(super) fn caller(&self) -> Caller {
        let counted = Some(self.source).filter(|_| !self.exempt);
        Caller { connection: self.id, origin: self.origin(), counted }
    }

    /// As certd is told of it.
    pub(super) fn connection(&self, shown: &Shown) -> Connection {
        Connection {
            id: self.id,
            server_key: shown.server_key,
            loaded_key: shown.certificate.as_ref().map(|shown| shown.key.clone()),
        }
    }

    /// What the client is told of a failure of the `number`-th request; the rest goes to the log.
    pub(super) fn told_of(&self, failure: Failure, number: u32) -> Error {
        let Failure { error, detail, of } = failure;
        let request = format!("{}/{number}", self.id);
        match error {
            Error::Fault => {
                let unsaid = of.map_or(Some(0), |faults| faults.now());
                match unsaid {
                    Some(0) => tracing::error!(request, detail, "request failed"),
                    Some(unsaid) => tracing::error!(request, detail, unsaid, "request failed"),
                    None => {}
                }
            }
            _ => tracing::debug!(request, code = error.code(), detail, "request failed"),
        }
        error
    }
}

/// A login as authd is asked for it; `descriptor` is the connection itself.
pub(super) fn method(
    login: Login,
    shown: &Shown,
    descriptor: impl FnOnce() -> io::Result<OwnedFd>,
) -> Result<Method, Failure> {
    Ok(match login {
        Login::Password(credentials) => Method::Password(credentials),
        Login::Token(token) => Method::Token(token),
        Login::Channel(auth) => Method::Channel(auth),
        Login::Answers(answers) => Method::Answers(answers),
        Login::CertificateProof(proof) => Method::CertificateProof(proof),
        Login::TlsCertificate { username } => match &shown.certificate {
            Some(shown) => Method::TlsCertificate { username, shown: shown.as_ref().clone() },
            None => return Err(Failure::fault("no certificate was shown")),
        },
        Login::LocalPeer { username } => {
            // Nobody is found by a certificate alone.
            let shown = shown.certificate.as_deref().filter(|_| !username.is_empty()).cloned();
            let descriptor = descriptor().map_err(Failure::fault)?;
            Method::LocalPeer { username, descriptor, shown }
        }
    })
}

/// What is told of a login that failed: a token or a conversation that authd does not know is one more
/// refused login.
pub(super) fn of_login(error: Error) -> Error {
    match error {
        Error::NotFound | Error::Forbidden => Error::Unauthorized,
        error => error,
    }
}

/// Rounded up: at the end of that second it is over.
pub(super) fn whole_seconds(left: Duration) -> u64 {
    u64::try_from(left.as_millis().div_ceil(1000)).unwrap_or(u64::MAX)
}
