//! Calls that go on when nobody waits for them any more: a client that says goodbye closes its
//! connection at once, and its session must end all the same.

use std::sync::Arc;

use doorward_proto::authd::v1 as proto;
use tokio::sync::oneshot;
use tonic::{Response, Status};

use super::{Backend, Failure, wire};
use crate::call::{ConnectionId, Error, Token};

impl Backend {
    /// Ends the session of a token, whether or not the answer is waited for; whether there was one.
    pub fn end(self: &Arc<Self>, token: Token) -> impl Future<Output = Result<bool, Failure>> + Send + use<> {
        let (answer, answered) = oneshot::channel();
        let backend = Arc::clone(self);
        self.tasks.spawn(async move {
            let request = proto::EndRequest { token: token.expose().to_owned() };
            let mut client = backend.sessions.clone();
            let result = backend.session_call("end", None, async move { client.end(request).await }).await;
            if let Ok(reply) = &result {
                // Before the stream of ended sessions tells it: the next request must not find it known.
                backend.forget(&token, reply.ended);
            }
            if let Err(unheard) = answer.send(result.map(|reply| reply.ended))
                && let Err(failure) = unheard
            {
                tracing::warn!(error = %failure.detail, "a session could not be ended");
            }
        });
        async move { answered.await.unwrap_or_else(|_| Err(Failure::new(Error::Fault, "the call was lost"))) }
    }

    /// Ends every login and conversation of a connection that has closed, or whose client cannot answer,
    /// whether or not it is waited for. A connection that goes on must wait: its next login is not to end, too.
    pub fn abandon(self: &Arc<Self>, connection: ConnectionId) -> impl Future<Output = ()> + Send + use<> {
        let backend = Arc::clone(self);
        let (done, ended) = oneshot::channel::<()>();
        self.tasks.spawn(async move {
            let _done = done;
            let request = proto::AbandonRequest { connection: connection.to_string() };
            // On the connection of the logins, so that it cannot arrive before what it is to end.
            let mut client = backend.login.clone();
            let call = async move { client.abandon(request).await };
            if let Err(failure) = backend.session_call("abandon", None, call).await {
                tracing::debug!(%connection, error = %failure.detail, "authd was not told that a client is gone");
            }
        });
        // Nothing is sent: the other half is dropped when all is done.
        async move { drop(ended.await) }
    }

    /// A step of a login. If nobody waits for its outcome any more, a `new` session that it brings is
    /// ended: nobody was told its token.
    pub(super) async fn heard_or_ended(
        self: &Arc<Self>,
        new: bool,
        call: impl Future<Output = Result<Response<proto::Outcome>, Status>> + Send + 'static,
    ) -> Result<proto::Outcome, Failure> {
        let backend = Arc::clone(self);
        let unheard = move |answer: Response<proto::Outcome>| {
            if new && let Ok(wire::Outcome::Granted(identity)) = wire::outcome(answer.into_inner()) {
                drop(backend.end(identity.token));
            }
        };
        Ok(self.keeper.keep(self.settings.login, call, unheard).await?.into_inner())
    }
}
