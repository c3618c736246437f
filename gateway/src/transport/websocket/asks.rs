//! What the session has back ends asked.

use std::sync::Arc;

use super::{Connection, Told};
use crate::{
    backend::Holding,
    call::{KeyRequest, LogsRequest, SessionsRequest},
    session::{Login, Ticket},
    transport::asking,
};

impl Connection {
    pub(super) fn log_in(&mut self, login: Login) {
        let caller = self.client.caller();
        let (backend, asked) = (Arc::clone(&self.shared.backend), self.shared.backend.moment());
        let method = asking::method(login, &self.shown, || self.frames.descriptor());
        self.asking = Some(Box::pin(async move {
            let outcome = match method {
                Ok(method) => backend.log_in(caller, method, asked).await,
                Err(failure) => Err(failure),
            };
            Told::LoggedIn(outcome, asked)
        }));
    }

    pub(super) fn settings(&mut self, ticket: Ticket, request: KeyRequest) {
        let connection = self.client.connection(&self.shown);
        let (backend, pass) = (Arc::clone(&self.shared.backend), self.holding.as_ref().map(Holding::pass));
        self.calls.push(Box::pin(async move {
            Told::Answered(ticket, backend.settings(connection, pass, request).await)
        }));
    }

    pub(super) fn logs(&mut self, ticket: Ticket, request: LogsRequest) {
        let (backend, pass) = (Arc::clone(&self.shared.backend), self.holding.as_ref().map(Holding::pass));
        let audit = self.shared.audit.clone();
        self.calls
            .push(Box::pin(async move { Told::Answered(ticket, backend.logs(audit, pass, request).await) }));
    }

    pub(super) fn sessions(&mut self, ticket: Ticket, request: SessionsRequest) {
        let (backend, pass) = (Arc::clone(&self.shared.backend), self.holding.as_ref().map(Holding::pass));
        self.calls
            .push(Box::pin(async move { Told::Answered(ticket, backend.sessions(pass, request).await) }));
    }
}
