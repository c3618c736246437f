//! Failures, as clients are told of them.

use std::borrow::Cow;

/// A failure as the client sees it; the details are in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The request is wrong; says which field and what.
    BadRequest(Cow<'static, str>),
    /// There is no such kind of login.
    NoSuchKind,
    /// Not authenticated. One text for every cause.
    Unauthorized,
    /// Authenticated but not allowed.
    Forbidden,
    /// No such thing.
    NotFound,
    /// The action writes, and the request came in a way that only reads.
    ReadsOnly,
    /// A back end did not answer within its deadline.
    TimedOut,
    /// Over the size limit.
    TooLarge,
    /// A bound is reached; later may work.
    TooMany,
    /// The client wanted it no more.
    Cancelled,
    /// A fault of ours.
    Fault,
    /// A back end cannot be reached.
    Unavailable,
}

impl Error {
    /// The number that clients are told.
    pub fn code(&self) -> u16 {
        match self {
            Self::BadRequest(_) | Self::NoSuchKind => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::ReadsOnly => 405,
            Self::TimedOut => 408,
            Self::TooLarge => 413,
            Self::TooMany => 429,
            Self::Cancelled => 499,
            Self::Fault => 500,
            Self::Unavailable => 503,
        }
    }

    /// The text for people, without the details of a bad request.
    pub fn title(&self) -> &'static str {
        match self {
            Self::BadRequest(_) | Self::NoSuchKind => "Bad Request",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden => "Forbidden",
            Self::NotFound => "Not Found",
            Self::ReadsOnly => "Method Not Allowed",
            Self::TimedOut => "Request Timeout",
            Self::TooLarge => "Payload Too Large",
            Self::TooMany => "Too Many Requests",
            Self::Cancelled => "Cancelled",
            Self::Fault => "Internal Server Error",
            Self::Unavailable => "Service Unavailable",
        }
    }
}
