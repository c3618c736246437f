//! Events: their names, and what clients say of them.

use std::{fmt, sync::Arc};

/// The longest name of an event, in bytes.
const NAME_MAX: usize = 64;
/// The most names in one request, and the most that a connection can be subscribed to.
pub const EVENTS_MAX: usize = 256;

/// The name of an event: 1 to 64 of `a-z`, `0-9`, `_` and `-`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventName(Arc<str>);

impl EventName {
    /// None for what is no name.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
        let fits = !text.is_empty() && text.len() <= NAME_MAX && text.bytes().all(plain);
        fits.then(|| Self(text.into()))
    }

    /// The text itself: nothing in it needs an escape.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The events that a request names; those that cannot be names are left out already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventNames {
    /// Given as a string, and answered as one.
    One(Option<EventName>),
    /// Given as an array, and answered as one.
    Several(Vec<EventName>),
}

impl EventNames {
    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &EventName> {
        match self {
            Self::One(name) => name.as_slice().iter(),
            Self::Several(names) => names.iter(),
        }
    }

    /// In the same form, those of which this is true.
    #[must_use]
    pub fn only(self, accepts: impl FnMut(&EventName) -> bool) -> Self {
        let none = match &self {
            Self::One(_) => Self::One(None),
            Self::Several(_) => Self::Several(Vec::new()),
        };
        self.accepted(accepts).unwrap_or(none)
    }

    /// In the same form, those of which this is true; None where it is true of none.
    pub fn accepted(self, mut accepts: impl FnMut(&EventName) -> bool) -> Option<Self> {
        match self {
            Self::One(name) => name.filter(|name| accepts(name)).map(|name| Self::One(Some(name))),
            Self::Several(names) => {
                let kept: Vec<_> = names.into_iter().filter(|name| accepts(name)).collect();
                (!kept.is_empty()).then_some(Self::Several(kept))
            }
        }
    }
}

/// What is done about events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// `events/subscribe`
    Subscribe,
    /// `events/unsubscribe`
    Unsubscribe,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_short() {
        for (text, fits) in [
            ("auth", true),
            ("system-state", true),
            ("a_1", true),
            ("", false),
            ("Auth", false),
            ("a b", false),
            ("a\"", false),
            ("ä", false),
        ] {
            assert_eq!(EventName::parse(text).is_some(), fits, "{text:?}");
        }
        assert!(EventName::parse(&"x".repeat(64)).is_some() && EventName::parse(&"x".repeat(65)).is_none());
    }

    #[test]
    fn what_is_accepted_keeps_its_form() {
        let name = |text: &str| EventName::parse(text).expect("a name");
        let a = |name: &EventName| name.as_str() == "a";
        assert_eq!(EventNames::One(Some(name("a"))).accepted(a), Some(EventNames::One(Some(name("a")))));
        assert_eq!(EventNames::One(Some(name("b"))).accepted(a), None);
        assert_eq!(EventNames::One(None).accepted(a), None);
        let both = EventNames::Several(vec![name("b"), name("a")]);
        assert_eq!(both.accepted(a), Some(EventNames::Several(vec![name("a")])));
        assert_eq!(EventNames::Several(vec![]).accepted(a), None);
    }
}
