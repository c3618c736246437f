//! What the session has back ends asked.

use std::sync::Arc;

use super::{Connection, Told};
use crate::{
    backend::{self, Caller, Failure, Holding, Method},
    call::{KeyRequest, SessionsRequest},
    session::{Login, Ticket},
};

impl Connection {
    pub(super) fn caller(&self) -> Caller {
        let counted = Some(self.client.source).filter(|_| !self.client.exempt);
        Caller { connection: self.client.id, origin: self.client.origin(), counted }
    }

    pub(super) fn log_in(&mut self, login: Login) {
        let caller = self.caller();
        let (backend, asked) = (Arc::clone(&self.shared.backend), self.shared.backend.moment());
        let method = match login {
            Login::Password(credentials) => Ok(Method::Password(credentials)),
            Login::Token(token) => Ok(Method::Token(token)),
            Login::Answers(answers) => Ok(Method::Answers(answers)),
            Login::CertificateProof(proof) => Ok(Method::CertificateProof(proof)),
            Login::TlsCertificate { username } => match &self.shown.certificate {
                Some(shown) => Ok(Method::TlsCertificate { username, shown: shown.as_ref().clone() }),
                None => Err(std::io::Error::other("no certificate was shown")),
            },
            Login::LocalPeer { username } => self.frames.descriptor().map(|descriptor| {
                // Nobody is found by a certificate alone.
                let shown = self.shown.certificate.as_deref().filter(|_| !username.is_empty()).cloned();
                Method::LocalPeer { username, descriptor, shown }
            }),
        };
        self.asking = Some(Box::pin(async move {
            let outcome = match method {
                Ok(method) => backend.log_in(caller, method, asked).await,
                Err(error) => Err(Failure::fault(error)),
            };
            Told::LoggedIn(outcome, asked)
        }));
    }

    pub(super) fn settings(&mut self, ticket: Ticket, request: KeyRequest) {
        let connection = backend::Connection {
            id: self.client.id,
            server_key: self.shown.server_key,
            loaded_key: self.shown.certificate.as_ref().map(|shown| shown.key.clone()),
        };
        let (backend, pass) = (Arc::clone(&self.shared.backend), self.holding.as_ref().map(Holding::pass));
        self.calls.push(Box::pin(async move {
            let answer = match pass {
                Some(pass) => backend.settings(connection, pass, request).await,
                None => Err(Failure::fault("a session that nobody holds")),
            };
            Told::Answered(ticket, answer)
        }));
    }

    pub(super) fn sessions(&mut self, ticket: Ticket, request: SessionsRequest) {
        let (backend, pass) = (Arc::clone(&self.shared.backend), self.holding.as_ref().map(Holding::pass));
        self.calls.push(Box::pin(async move {
            let answer = match pass {
                Some(pass) => backend.sessions(pass, request).await,
                None => Err(Failure::fault("a session that nobody holds")),
            };
            Told::Answered(ticket, answer)
        }));
    }
}
