//! What the HTTP token API asks and is told.

use super::{Credentials, Identity};

/// The most ACLs of one question.
pub const SCOPES_MAX: usize = 512;

/// What a session is looked at for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// To act with it: envelopes and REST.
    Act,
    /// To act with it on channels.
    Channel,
    /// To tell others of it: the token API. Every live session can be looked at so.
    Tell,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Act, Self::Channel, Self::Tell];
}

/// A token that is asked for.
#[derive(Debug)]
pub struct TokenWish {
    /// Whose, and how that is shown.
    pub credentials: Credentials,
    /// A back end's name; empty: the default.
    pub backend: String,
    /// In seconds. None: the default; 0: what was given is no positive integer, which authd tells only to
    /// those whose credentials are right.
    pub expiration: Option<u64>,
}

/// What came of it.
#[derive(Debug)]
pub enum TokenAsked {
    /// There it is.
    Issued(Box<Identity>),
    /// The credentials are wrong.
    Denied,
    /// They are right; the life that was asked for is not to be had.
    InvalidExpiration,
    /// Not tried: the source is under a penalty for so long.
    Penalised(std::time::Duration),
}
