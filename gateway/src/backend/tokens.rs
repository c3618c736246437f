//! What the token API has authd do.

use std::sync::Arc;

use doorward_proto::authd::v1 as proto;
use tokio::time::timeout;

use super::{Backend, Caller, Failure, wire};
use crate::call::{TokenAsked, TokenWish};

impl Backend {
    /// A token for whoever has these credentials.
    pub async fn issue(self: &Arc<Self>, caller: Caller, wish: &TokenWish) -> Result<TokenAsked, Failure> {
        let place = self.login_place(caller)?;
        let request = wire::begin_token(caller.connection, caller.origin, wish);
        let mut client = self.login.clone();
        let call = async move {
            let _place = place;
            client.begin(request).await
        };
        let answer = timeout(self.settings.login, self.heard_or_ended(true, call));
        let answer = answer.await.map_err(|_| Failure::late("login"))??;
        match wire::outcome(answer)? {
            wire::Outcome::Granted(identity) => Ok(TokenAsked::Issued(Box::new(identity))),
            wire::Outcome::Denied => Ok(TokenAsked::Denied),
            wire::Outcome::Penalised(left) => Ok(TokenAsked::Penalised(left)),
            wire::Outcome::InvalidExpiration => Ok(TokenAsked::InvalidExpiration),
            wire::Outcome::NoSuchKind => Err(Failure::contract("nobody named a kind")),
            wire::Outcome::Prompts(_) => Err(Failure::contract("prompts for a client that cannot answer")),
        }
    }

    /// The back ends that a login may name, the default first.
    pub async fn backends(&self) -> Result<Vec<String>, Failure> {
        let mut client = self.login.clone();
        let call = async move { client.backends(proto::BackendsRequest {}).await };
        Ok(self.session_call("backends", None, call).await?.names)
    }
}
