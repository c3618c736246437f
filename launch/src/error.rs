//! Why a daemon did not start, in sentences for the person who has to mend it.

use std::error::Error;

/// A configuration that is well formed and still cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{sentence}", .key.as_ref().map(|key| format!("{key}: ")).unwrap_or_default())]
pub struct Misconfigured {
    key: Option<String>,
    sentence: String,
}

impl Misconfigured {
    /// The configuration as a whole is wrong.
    pub fn new(sentence: impl Into<String>) -> Misconfigured {
        Misconfigured { key: None, sentence: sentence.into() }
    }

    /// One key is wrong. `key` is its dotted path (`tls.key`); the line it stands on is added when
    /// the error is shown.
    pub fn at(key: impl Into<String>, sentence: impl Into<String>) -> Misconfigured {
        Misconfigured { key: Some(key.into()), sentence: sentence.into() }
    }

    /// The dotted path of the key that is wrong.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }
}

/// Why a daemon could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Misconfigured(#[from] Misconfigured),
    /// A file could not be used.
    #[error(transparent)]
    File(#[from] crate::file::FileError),
    /// A socket could not be made.
    #[error(transparent)]
    Socket(#[from] crate::socket::SocketError),
    /// A user does not exist or must not be used.
    #[error(transparent)]
    Account(#[from] crate::account::AccountError),
    /// Root could not be given up.
    #[error("cannot drop privileges: {what}")]
    Privileges {
        /// The step that failed.
        what: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Anything else; `what` is a phrase like "cannot open the session store".
    #[error("{what}")]
    Failed {
        /// What could not be done.
        what: String,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl StartError {
    /// Any other reason: `what` could not be done, and why.
    pub fn failed(what: impl Into<String>, why: impl Into<Box<dyn Error + Send + Sync>>) -> StartError {
        StartError::Failed { what: what.into(), source: why.into() }
    }
}

/// An error and everything that caused it, in one sentence.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Transparent errors repeat what was said already.
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
