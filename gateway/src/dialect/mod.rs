//! Text of a client's dialect to and from the one vocabulary of `call`.
//!
//! A message that cannot be understood still gets exactly one reply, so decoding gives back what
//! the reply has to repeat in either case.

mod json;
pub mod rest;
pub mod sysadm;
pub mod token;

use std::borrow::Cow;

use crate::{
    call::{Call, Error},
    namespace::Subject,
};

/// One message, as far as it was understood.
#[derive(Debug)]
pub struct Decoded<'a> {
    /// What the reply repeats.
    pub echo: Echo<'a>,
    /// The request, or why there is none.
    pub request: Result<Request, Error>,
}

/// A request that was understood.
#[derive(Debug)]
pub struct Request {
    /// The row and the action that it means, if there are such.
    pub subject: Option<Subject>,
    /// What it asks.
    pub call: Call,
}

/// JSON texts that a reply repeats as the request wrote them.
#[derive(Debug)]
pub struct Echo<'a> {
    namespace: Cow<'a, str>,
    id: Cow<'a, str>,
}

impl Echo<'_> {
    /// Whether the request had this id, as a JSON text.
    pub fn has_id(&self, id: &str) -> bool {
        self.id == id
    }

    /// For requests that cannot be answered at once.
    pub fn into_owned(self) -> Echo<'static> {
        Echo { namespace: Cow::Owned(self.namespace.into_owned()), id: Cow::Owned(self.id.into_owned()) }
    }
}

/// For messages of which nothing could be read.
impl Default for Echo<'_> {
    fn default() -> Self {
        Self { namespace: Cow::Borrowed(r#""rpc""#), id: Cow::Borrowed(r#""""#) }
    }
}
