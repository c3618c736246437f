//! Who may do what on the channels `group` and `terminal`, and what becomes of a status. No I/O.

use std::collections::BTreeMap;

use doorward_assertion::Caller;
use doorward_launch::Plain;
use doorward_proto::channel::v1::{Forbidden, Handled, Publication, Unsupported, message_reply::Outcome};
use serde_json::{Value, json};

use crate::register::Terminal;

/// The channel of what is said to a group of terminals: its pk is the group's number.
pub(crate) const GROUP: &str = "group";
/// The channel of single terminals, and what the identities that log in as one are called by authd's configuration.
pub(crate) const TERMINAL: &str = "terminal";

/// The longest message with a status, in bytes.
const STATUS_MAX: usize = 2_048;

/// Who asks, as far as this handler cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Who {
    /// One of the register, as it is in there now.
    Terminal(Terminal),
    /// A user of the host with full access.
    Staff,
    /// Anybody else, and a terminal that was taken out.
    Nobody,
}

impl Who {
    /// Of a caller whom authd vouches for. `find` looks a terminal up by its number.
    ///
    /// # Errors
    /// Those of `find`.
    pub(crate) fn is<E>(
        caller: &Caller,
        find: impl FnOnce(&str) -> Result<Option<Terminal>, E>,
    ) -> Result<Self, E> {
        Ok(match &caller.pk {
            Some(pk) if caller.kind == TERMINAL => find(pk)?.map_or(Self::Nobody, Self::Terminal),
            None if caller.full => Self::Staff,
            _ => Self::Nobody,
        })
    }

    /// The pks that it may hear. The gateway gives it the one that it has asked for, or all of them if it asked for none.
    pub(crate) fn hears(&self, channel: &str, asked_for: Option<&str>) -> Vec<String> {
        let pk = match self {
            Self::Terminal(terminal) if channel == GROUP => Some(terminal.group.as_str()),
            Self::Terminal(terminal) => Some(terminal.terminal.as_str()),
            Self::Staff => asked_for,
            Self::Nobody => None,
        };
        pk.into_iter().map(str::to_owned).collect()
    }

    /// Whether it may say something there. Terminals have their status for that.
    pub(crate) fn says(&self, pk: Option<&str>) -> bool {
        *self == Self::Staff && pk.is_some()
    }
}

/// What is known of the terminals that were there since the start, of which there are no more than the register had.
#[derive(Debug, Default)]
pub(crate) struct Known(BTreeMap<String, Last>);

#[derive(Debug, Default)]
struct Last {
    /// The connection that it has. Only the newest counts, because authd ends the others: see `only_one`.
    presence: Option<Vec<u8>>,
    status: Option<Value>,
}

impl Known {
    /// A custom message.
    pub(crate) fn on_message(
        &mut self,
        who: &Who,
        (channel, pk): (&str, Option<&str>),
        action: &str,
        text: &[u8],
    ) -> Outcome {
        match (channel, action, who) {
            (TERMINAL, "status", Who::Terminal(own)) if pk == Some(&*own.terminal) => self.status(own, text),
            (TERMINAL, "look", _) if pk.is_some_and(|pk| who.hears(channel, Some(pk)) == [pk]) => {
                let last = pk.and_then(|pk| self.0.get(pk));
                let online = last.is_some_and(|last| last.presence.is_some());
                told(
                    &json!({ "online": online, "status": last.and_then(|last| last.status.as_ref()) }),
                    vec![],
                )
            }
            (TERMINAL, "status" | "look", _) => Outcome::Forbidden(Forbidden {}),
            _ => Outcome::Unsupported(Unsupported {}),
        }
    }

    /// `{"action": "status", "channel": "terminal", "pk": "7", "status": {...}}`
    fn status(&mut self, own: &Terminal, text: &[u8]) -> Outcome {
        let wrong = |why: &str| told(&json!({ "error": why, "code": 400 }), vec![]);
        if text.len() > STATUS_MAX {
            return wrong("the message is longer than 2048 bytes");
        }
        let status = match Plain::read(text).ok().as_mut().and_then(Value::as_object_mut) {
            Some(message) => message.remove("status"),
            None => None,
        };
        let Some(status @ Value::Object(_)) = status else { return wrong("status must be an object") };
        let news = json!({ "terminal": own.terminal, "status": status }).to_string().into_bytes();
        let at = |channel: &str, pk: &str| Publication {
            channel: channel.to_owned(),
            pk: Some(pk.to_owned()),
            message: news.clone(),
        };
        // Who looks after this one terminal hears it, and the whole group does.
        let publications = vec![at(TERMINAL, &own.terminal), at(GROUP, &own.group)];
        self.0.entry(own.terminal.clone()).or_default().status = Some(status);
        told(&json!({ "status": "taken" }), publications)
    }

    /// A connection of its own. `presence` is what comes back with its end.
    pub(crate) fn on_online(&mut self, who: &Who, presence: &[u8]) -> bool {
        let Who::Terminal(own) = who else { return false };
        self.0.entry(own.terminal.clone()).or_default().presence = Some(presence.to_owned());
        true
    }

    /// The end of it, which may be told after a newer one has come.
    pub(crate) fn on_offline(&mut self, presence: &[u8]) {
        for last in self.0.values_mut().filter(|last| last.presence.as_deref() == Some(presence)) {
            last.presence = None;
        }
    }
}

fn told(reply: &Value, publications: Vec<Publication>) -> Outcome {
    Outcome::Handled(Handled { reply: reply.to_string().into_bytes(), publications })
}
