//! `--explain-channel`: what the table decides about somebody, and what it is that says so.
//!
//! A question and its answer are JSON, for `doorward channels explain`, which knows whose entries are which. The
//! decision is the one that a client meets: [`Policies::explain`].

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::policies::{Asks, Because, Decision, Policies};
use crate::call::{ActionName, Address, ChannelName, Facility, Pk, USER, Verb, Who};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    /// Absent: nobody in particular.
    who: Option<Somebody>,
    channel: String,
    pk: Option<String>,
    /// A custom message's.
    action: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Somebody {
    kind: String,
    /// Of a local user.
    name: Option<String>,
    /// Of a local user, the uid.
    id: String,
    /// Those of the session; absent: they are not known.
    entries: Option<Vec<String>>,
}

#[derive(Serialize)]
struct Answer<'a> {
    table: &'a Path,
    table_exists: bool,
    subscribe: One<'a>,
    publish: One<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<One<'a>>,
}

/// What is decided about one thing.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct One<'a> {
    /// `yes`, `no`, `handler` (which would be asked), `unknown`.
    answer: &'static str,
    /// The key of the table that decides, and what it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'static str>,
    /// The table's entry that decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    entry: Option<&'a str>,
    /// The place of the session's entry that decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<usize>,
    /// The socket of the handler that would be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    handler: Option<String>,
    /// A sentence.
    why: &'static str,
}

/// The answer to a question about this table.
///
/// # Errors
/// With the sentence for whoever asked.
pub fn explain(table: &Path, question: &str) -> Result<String, String> {
    let asked: Question =
        serde_json::from_str(question).map_err(|error| format!("this is no question: {error}"))?;
    let policies = Policies::read(table).map_err(|error| {
        std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string)
    })?;
    let channel =
        ChannelName::parse(&asked.channel).ok_or("a channel is called by 1 to 64 of A-Z a-z 0-9 _ -")?;
    let pk = match &asked.pk {
        Some(pk) => Some(Pk::parse(pk).ok_or("a pk is 1 to 128 bytes without `:` and control characters")?),
        None => None,
    };
    // The facility has no part in what is decided.
    let at = Address { channel, pk, facility: Facility::default() };
    let who = asked.who.as_ref().map(Somebody::who).transpose()?;
    let entries = asked.who.as_ref().and_then(|somebody| somebody.entries.as_deref());
    let asks = who.as_ref().map(|who| Asks { who, acl: entries.unwrap_or_default(), session: None });
    let known = asks.is_none() || entries.is_some();
    let one = |verb| One::of(policies.explain(asks, &at, &verb), &at, &verb, known);
    let action = match &asked.action {
        Some(name) => {
            Some(one(Verb::Action(ActionName::parse(name).ok_or("an action is 1 to 64 of A-Z a-z 0-9 _ -")?)))
        }
        None => None,
    };
    let (subscribe, publish) = (one(Verb::Subscribe), one(Verb::Publish));
    let answer = Answer { table, table_exists: table.exists(), subscribe, publish, action };
    serde_json::to_string(&answer).map_err(|error| error.to_string())
}

impl Somebody {
    fn who(&self) -> Result<Who, String> {
        if ChannelName::parse(&self.kind).is_none() {
            return Err("a kind is called by 1 to 64 of A-Z a-z 0-9 _ -".to_owned());
        }
        let name = match (self.kind == USER, &self.name) {
            (true, Some(name)) => name.as_str(),
            (true, None) => return Err("a local user has a name".to_owned()),
            (false, name) => name.as_deref().unwrap_or_default(),
        };
        Ok(Who { kind: self.kind.as_str().into(), user: name.into(), auth_id: self.id.as_str().into() })
    }
}

impl<'a> One<'a> {
    fn of((decision, because): (Decision, Because<'a>), at: &Address, verb: &Verb, known: bool) -> Self {
        let handler = match &decision {
            Decision::Ask(place) => Some(place.socket.display().to_string()),
            Decision::Allow | Decision::Deny | Decision::Unsupported => None,
        };
        let answer = match (&decision, because) {
            (_, Because::OwnEntries(_)) if !known => "unknown",
            (Decision::Allow, _) => "yes",
            (Decision::Deny | Decision::Unsupported, _) => "no",
            (Decision::Ask(_), _) => "handler",
        };
        let of_verb = match verb {
            Verb::Subscribe => ".subscribe",
            Verb::Publish | Verb::Action(_) => ".publish",
        };
        let key = |of: &str| Some(format!("channels.{}{of}", at.channel.as_str()));
        let one = |key, why| Self { answer, key, rule: None, entry: None, place: None, handler: None, why };
        let said = match because {
            Because::Own => one(None, "everybody hears what is said to themselves"),
            Because::NoChannel => one(None, "the table has no such channel"),
            Because::NoRule => one(key(""), "the channel has no rule for it, and no handler"),
            Because::NoHandler => one(None, "the channel has no handler, so it takes no custom messages"),
            Because::Handler => {
                one(key(".handler"), "the channel has no rule for it, so its handler decides")
            }
            Because::NotLoggedIn => one(key(""), "it takes somebody who is logged in"),
            Because::Word(word) => Self { rule: Some(word), ..one(key(of_verb), "that is the rule") },
            Because::OwnEntries(place) => {
                let why = match (known, place) {
                    (false, _) => "the session's own entries decide, which are not known",
                    (true, None) => "none of the session's own entries says anything of it",
                    (true, Some(_)) => "an entry of the session decides",
                };
                Self { rule: Some("acl"), place: place.filter(|_| known), ..one(key(of_verb), why) }
            }
            Because::TableEntries(entry) => {
                let why = match entry {
                    None => "none of the rule's entries says anything of it",
                    Some(_) => "an entry of the rule decides",
                };
                Self { rule: Some("entries"), entry, ..one(key(of_verb), why) }
            }
        };
        Self { handler, ..said }
    }
}

#[cfg(test)]
mod tests;
