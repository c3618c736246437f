//! Authd's word for who asks a handler.

use std::sync::Arc;

use crate::{
    backend::{Backend, Failure, Pass},
    call::Secret,
};

/// Authd's word for who is asking.
pub(crate) trait Word {
    /// Whose questions are counted together.
    fn who(&self) -> &str;
    /// The word that was given to the same audience lately.
    fn kept(&self, audience: &str) -> Option<Secret>;
    /// A new one.
    fn anew(&self, audience: &str) -> impl Future<Output = Result<Secret, Failure>> + Send;
}

/// Of a connection's session.
#[derive(Debug, Clone)]
pub struct Asker {
    /// Gives the word.
    pub backend: Arc<Backend>,
    /// Whose session it is.
    pub pass: Pass,
}

impl Word for Asker {
    fn who(&self) -> &str {
        self.pass.who()
    }

    fn kept(&self, audience: &str) -> Option<Secret> {
        self.pass.kept_assertion(audience)
    }

    async fn anew(&self, audience: &str) -> Result<Secret, Failure> {
        self.backend.assertion_to_keep(&self.pass, audience).await
    }
}
