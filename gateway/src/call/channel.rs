//! Channels: their names, and what clients ask of them.

use std::{fmt, sync::Arc};

use bytes::Bytes;

use super::{Credentials, Error, Secret, Token};

/// The longest name of a channel, a facility or an action, in bytes.
const NAME_MAX: usize = 64;
/// The longest pk, in bytes.
const PK_MAX: usize = 128;
/// The most channels in one request.
pub const CHANNELS_MAX: usize = 256;

/// 1 to 64 of `A-Z a-z 0-9 _ -`: nothing in it needs an escape anywhere, nor reaches into another part of a key.
fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(plain)
}

macro_rules! name {
    ($(#[$what:meta])* $name:ident) => {
        $(#[$what])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// None for what is no name.
            pub fn parse(text: &str) -> Option<Self> {
                is_name(text).then(|| Self(text.into()))
            }

            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// The name of a channel, and of a kind of identity, whose own channel is called like it.
    ChannelName
}
name! {
    /// Whose messages a connection deals in: the last part of its path.
    Facility
}
name! {
    /// What a custom message wants.
    ActionName
}

impl Default for Facility {
    /// Of connections whose path names none.
    fn default() -> Self {
        Self("events".into())
    }
}

/// Which one of a channel's: 1 to 128 bytes without `:` or control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pk(Arc<str>);

impl Pk {
    /// None for what is none.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=PK_MAX).contains(&text.len()) && !text.contains(|c: char| c == ':' || c.is_control());
        fits.then(|| Self(text.into()))
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Pk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// Where messages go to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The channel.
    pub channel: ChannelName,
    /// None: the channel as a whole, which is an address of its own.
    pub pk: Option<Pk>,
    /// As the connection has it.
    pub facility: Facility,
}

/// What is done at an address, as rights to it are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    /// Hear.
    Subscribe,
    /// Say.
    Publish,
    /// Something that the channel's handler knows.
    Action(ActionName),
}

impl Address {
    /// What ACL entries are asked for: `ws.CHANNEL.PK.VERB`.
    pub fn subject(&self, verb: &Verb) -> String {
        let mut subject = format!("ws.{}.", self.channel.as_str());
        match &self.pk {
            None => subject.push('_'),
            Some(pk) => subject.push_str(&as_word(pk.as_str())),
        }
        match verb {
            Verb::Subscribe => subject.push_str(".subscribe"),
            Verb::Publish => subject.push_str(".publish"),
            Verb::Action(name) => {
                subject.push_str(".action.");
                subject.push_str(name.as_str());
            }
        }
        subject
    }
}

/// A pk, or the id of whoever has it, as one word, in which nothing means anything. The words that mean the channel as
/// a whole or the holder of an entry are pks of nobody's.
pub(crate) fn as_word(pk: &str) -> String {
    let mut word = String::with_capacity(pk.len());
    let means_something = matches!(pk, "_" | "me" | "my_session");
    for (place, c) in pk.char_indices() {
        match c {
            '.' | '%' | '*' | '#' | '!' => push_escaped(&mut word, c),
            '_' | 'm' if means_something && place == 0 => push_escaped(&mut word, c),
            c => word.push(c),
        }
    }
    word
}

/// Of ASCII alone.
fn push_escaped(subject: &mut String, c: char) {
    subject.push_str(&format!("%{:02X}", u32::from(c)));
}

/// What a client asks.
#[derive(Debug)]
pub enum ChannelCall {
    /// To hear what is said there.
    Subscribe(Address),
    /// To hear it no more.
    Unsubscribe(Address),
    /// The first, for each of these by itself.
    Resubscribe(Vec<Address>),
    /// To say this there.
    Publish(Address, Payload),
    /// Whatever the handler of the channel makes of it.
    Custom(Box<Custom>),
}

/// A login by the dialect of channels.
#[derive(Debug)]
pub enum ChannelAuth {
    /// By user name and password.
    Password(Credentials),
    /// By a live session's token; nothing where the text given cannot be one.
    Token(Option<Token>),
    /// By what an issuer of authd's configuration has signed.
    Jwt(Secret),
    /// By whatever the authenticator of this kind wants.
    Model {
        /// Which.
        kind: ChannelName,
        /// A JSON object.
        credentials: Secret,
    },
}

/// What comes back.
#[derive(Debug)]
pub enum ChannelAnswer {
    /// Of each, how many subscriptions there are then, or why there is none.
    Joined(Vec<(Address, Result<usize, Error>)>),
    /// There is none there now, and so many in all.
    Left(Address, usize),
    /// It was passed on.
    Published,
    /// A custom message was taken; this is said to the client alone.
    Handled(Address, Option<Payload>),
}

/// A custom message.
#[derive(Debug, Clone)]
pub struct Custom {
    /// Where.
    pub at: Address,
    /// What it wants.
    pub action: ActionName,
    /// The whole message.
    pub message: Payload,
}

/// JSON that a client sent. It can hold anything, so it is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload(pub Bytes);

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} bytes]", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(channel: &str, pk: Option<&str>) -> Address {
        Address {
            channel: ChannelName::parse(channel).expect("a name"),
            pk: pk.map(|pk| Pk::parse(pk).expect("a pk")),
            facility: Facility::default(),
        }
    }

    #[test]
    fn names_are_plain_and_short() {
        for text in ["a", "A-z_09", &"x".repeat(64)] {
            assert!(ChannelName::parse(text).is_some(), "{text:?}");
        }
        for text in ["", "a:b", "a.b", "a b", "a/b", "ä", "a\n", "a*", &"x".repeat(65)] {
            assert_eq!(ChannelName::parse(text), None, "{text:?}");
            assert_eq!(Facility::parse(text), None, "{text:?}");
            assert_eq!(ActionName::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_pk_is_anything_short_that_stays_in_its_part_of_a_key() {
        for text in ["3", "-1.5e3", "a b", "ä", "*", "a.b", "/", "_", "me", &"x".repeat(128)] {
            assert!(Pk::parse(text).is_some(), "{text:?}");
        }
        for text in ["", ":", "a:b", "a\n", "a\0", "\u{7f}", "a\u{85}", &"x".repeat(129), &"ä".repeat(65)] {
            assert_eq!(Pk::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn subjects_are_told_apart_whatever_the_pk() {
        let action = Verb::Action(ActionName::parse("status").expect("a name"));
        for (pk, verb, expected) in [
            (None, &Verb::Subscribe, "ws.group._.subscribe"),
            (Some("3"), &Verb::Publish, "ws.group.3.publish"),
            (Some("3"), &action, "ws.group.3.action.status"),
            (Some("a.b"), &Verb::Subscribe, "ws.group.a%2Eb.subscribe"),
            (Some("%2E"), &Verb::Subscribe, "ws.group.%252E.subscribe"),
            (Some("*#!"), &Verb::Subscribe, "ws.group.%2A%23%21.subscribe"),
            (Some("_"), &Verb::Subscribe, "ws.group.%5F.subscribe"),
            (Some("me"), &Verb::Subscribe, "ws.group.%6De.subscribe"),
            (Some("my_session"), &Verb::Subscribe, "ws.group.%6Dy_session.subscribe"),
            (Some("men_"), &Verb::Subscribe, "ws.group.men_.subscribe"),
            (Some("ä b"), &Verb::Subscribe, "ws.group.ä b.subscribe"),
        ] {
            assert_eq!(address("group", pk).subject(verb), expected);
        }
    }
}
