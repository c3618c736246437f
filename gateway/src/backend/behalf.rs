//! What services are asked on behalf of a session: with authd's word for whose it is.

use std::time::Duration;

use doorward_proto::authd::v1 as proto;
use tokio::time::Instant;

use super::{Backend, Connection, Failure, Pass};
use crate::call::{Answer, Error, KeyRequest, Secret};

/// An assertion is not used when it has less than this left: it must still be good when the service reads it.
const ASSERTION_MARGIN: Duration = Duration::from_secs(2);
/// The longest that one is kept, whatever authd says.
const ASSERTION_MAX: Duration = Duration::from_secs(60);
/// What assertions for certd say in `aud`.
const CERTD: &str = "certd";

impl Backend {
    /// Has certd answer, for the session of `pass`.
    pub async fn settings(
        &self,
        connection: Connection,
        pass: Option<Pass>,
        request: KeyRequest,
    ) -> Result<Answer, Failure> {
        let pass = pass.ok_or_else(Failure::unheld)?;
        let certd = self.certd.as_ref().ok_or_else(|| Failure::new(Error::NotFound, "there is no certd"))?;
        let (connection, request, who) = (&connection, &request, pass.who());
        self.as_holder(
            &pass,
            |assertion| async move { certd.answer(connection, who, &assertion, request).await },
        )
        .await
    }

    /// Asks certd with the assertion that is kept, and with a new one if certd refuses that.
    pub(super) async fn as_holder<T, F>(&self, pass: &Pass, ask: impl Fn(Secret) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        if let Some(assertion) = pass.kept_assertion(CERTD) {
            match ask(assertion).await {
                // authd's key may have changed since; nothing was done.
                Err(Failure { error: Error::Unauthorized, .. }) => {}
                result => return result,
            }
        }
        let assertion = self.assertion_to_keep(pass, CERTD).await?;
        ask(assertion).await.map_err(|failure| match failure.error {
            // The session is good, as authd has just said: the client cannot mend this by a login.
            Error::Unauthorized => Failure::new(Error::Fault, failure.detail),
            _ => failure,
        })
    }

    /// authd's word for a service (`certd`, or `NAMESPACE/NAME`) whose session this is: a new one, which is kept.
    pub(crate) async fn assertion_to_keep(&self, pass: &Pass, audience: &str) -> Result<Secret, Failure> {
        let asked = Instant::now();
        let (assertion, valid) = self.assert(pass, audience).await?;
        let until = asked + valid.saturating_sub(ASSERTION_MARGIN);
        pass.0.keep_assertion(audience, assertion.clone(), until);
        Ok(assertion)
    }

    /// The same, to be used once.
    pub(crate) async fn assertion_for_once(&self, pass: &Pass, audience: &str) -> Result<Secret, Failure> {
        Ok(self.assert(pass, audience).await?.0)
    }

    async fn assert(&self, pass: &Pass, audience: &str) -> Result<(Secret, Duration), Failure> {
        let request =
            proto::AssertRequest { token: pass.0.token.expose().to_owned(), audience: audience.to_owned() };
        let mut client = self.sessions.clone();
        let answer =
            self.session_call("assert", Some(&pass.0.who), async move { client.assert(request).await }).await;
        let answer = answer.map_err(|failure| match failure.error {
            // There is no such session any more.
            Error::NotFound => Failure::new(Error::Unauthorized, failure.detail),
            _ => failure,
        })?;
        let valid = Duration::from_millis(answer.valid_ms).min(ASSERTION_MAX);
        Ok((Secret::new(answer.jwt), valid))
    }
}

impl Pass {
    /// Whose session it is: the id, which says nothing without the kind.
    pub(crate) fn auth_id(&self) -> &str {
        &self.0.auth_id
    }

    /// Whose session it is: kind and id.
    pub(crate) fn who(&self) -> &str {
        &self.0.who
    }

    /// The one that was kept, while it is good.
    pub(crate) fn kept_assertion(&self, audience: &str) -> Option<Secret> {
        self.0.assertion(audience)
    }
}
