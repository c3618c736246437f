//! Requests about sessions, and what is known of one.

use super::SessionId;

/// The actions of `rpc/sessions`.
#[derive(Debug)]
pub enum SessionsRequest {
    /// `list`
    List,
    /// `end`; nothing where the text given cannot be a session's name.
    End(Option<SessionId>),
    /// `end_others`
    EndOthers,
}

/// A session as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedSession {
    /// Its name.
    pub session: SessionId,
    /// Whose it is.
    pub user: String,
    /// How it was opened.
    pub method: String,
    /// In which dialect.
    pub dialect: String,
    /// From where; empty: over the Unix socket.
    pub source: String,
    /// Seconds of UTC.
    pub started: u64,
    /// Seconds of UTC.
    pub last_used: u64,
    /// It is the one that asks.
    pub current: bool,
}
