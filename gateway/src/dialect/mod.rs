//! Text of a client's dialect to and from the one vocabulary of `call`.
//!
//! A message that cannot be understood still gets exactly one reply, so decoding gives back what
//! the reply has to repeat in either case.

pub mod channel;
mod json;
pub mod rest;
pub mod sysadm;
pub mod token;

use std::borrow::Cow;

use crate::{
    call::{Call, Error, Facility, Reply},
    namespace::Subject,
};

/// One message, as far as it was understood.
#[derive(Debug)]
pub struct Decoded<E> {
    /// What the reply repeats.
    pub echo: E,
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

/// What a reply repeats, in the dialect in which it is said.
#[derive(Debug)]
pub enum Echo<'a> {
    /// Of an envelope.
    Envelope(Envelope<'a>),
    /// Of a message about channels.
    Channel(Box<channel::Asked>),
}

/// JSON texts that a reply repeats as the request wrote them.
#[derive(Debug)]
pub struct Envelope<'a> {
    namespace: Cow<'a, str>,
    id: Cow<'a, str>,
}

/// Where a message came in.
#[derive(Debug, Clone)]
pub struct Place {
    /// Whose messages the connection deals in.
    pub facility: Facility,
    /// What cannot be understood is about channels, too.
    pub channels: bool,
}

/// Reads one message of a WebSocket. Nesting beyond `depth` is refused before it is parsed.
pub fn decode<'a>(text: &'a str, depth: usize, place: &Place) -> Decoded<Echo<'a>> {
    // Most envelopes are told by this from what has to be looked at twice; an escape can write any name.
    let may_be = place.channels || text.contains("\"action\"") || text.contains("\\u");
    let asked = may_be.then(|| about_channels(text, depth, place)).flatten();
    match asked {
        Some(Decoded { echo, request }) => Decoded { echo: Echo::Channel(Box::new(echo)), request },
        None => {
            let Decoded { echo, request } = sysadm::decode(text, depth);
            Decoded { echo: Echo::Envelope(echo), request }
        }
    }
}

/// None for what is an envelope, or is to be answered as one.
fn about_channels(text: &str, depth: usize, place: &Place) -> Option<Decoded<channel::Asked>> {
    let readable = !json::deeper_than(text, depth);
    let found = readable.then(|| json::members(text, &["namespace", "action"]).ok()).flatten();
    match found.map(|found| found.values) {
        Some([Some(_), _]) => None,
        Some([None, Some(_)]) => Some(channel::decode(text, &place.facility)),
        Some([None, None]) | None => place.channels.then(channel::undecoded),
    }
}

/// Writes a reply: as many messages as it takes, which may be none.
pub fn encode(echo: &Echo<'_>, reply: &Reply, mut out: impl FnMut(Vec<u8>)) {
    match echo {
        Echo::Envelope(envelope) => out(sysadm::encode(envelope, reply)),
        Echo::Channel(asked) => channel::encode(asked, reply, out),
    }
}

impl Echo<'_> {
    /// Of a message in which nothing can be read.
    pub fn unread(place: &Place) -> Self {
        match place.channels {
            true => Self::Channel(Box::default()),
            false => Self::Envelope(Envelope::default()),
        }
    }

    /// Of a login that came with the connection.
    pub fn auth() -> Self {
        Self::Channel(Box::new(channel::Asked::auth()))
    }

    /// Whether the request was an envelope that had this id, as a JSON text.
    pub fn has_id(&self, id: &str) -> bool {
        matches!(self, Self::Envelope(envelope) if envelope.id == id)
    }

    /// For requests that cannot be answered at once.
    pub fn into_owned(self) -> Echo<'static> {
        match self {
            Self::Envelope(Envelope { namespace, id }) => Echo::Envelope(Envelope {
                namespace: Cow::Owned(namespace.into_owned()),
                id: Cow::Owned(id.into_owned()),
            }),
            Self::Channel(asked) => Echo::Channel(asked),
        }
    }
}

/// For messages of which nothing could be read.
impl Default for Envelope<'_> {
    fn default() -> Self {
        Self { namespace: Cow::Borrowed(r#""rpc""#), id: Cow::Borrowed(r#""""#) }
    }
}
