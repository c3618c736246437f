//! All that a subsystem is: its name, its actions, its events.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;

use doorward_launch::registrations::is_word;
use doorward_proto::subsystem::v1 as wire;
use prost::Message as _;

use crate::action::{Action, Handler};
use crate::bounds::{ACTIONS_MAX, DESCRIPTION_MAX, TEXT_MAX};
use crate::call::Ended;
use crate::events::Publisher;
use crate::schema::Schema;

pub(crate) type Task = Box<dyn FnOnce(Ended) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// What is to be served.
pub struct Subsystem {
    namespace: String,
    name: String,
    version: String,
    help: String,
    actions: Vec<Action>,
    events: Vec<(String, String)>,
    publisher: Publisher,
    tasks: Vec<Task>,
}

/// A description that the gateway would not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {why}")]
pub struct Misdescribed {
    what: String,
    why: String,
}

/// A [`Subsystem`] whose description was checked.
pub(crate) struct Checked {
    pub(crate) description: wire::Description,
    pub(crate) actions: HashMap<String, Ready>,
    pub(crate) publisher: Publisher,
}

/// One action, ready to be called.
pub(crate) struct Ready {
    /// The ACL subject.
    pub(crate) subject: String,
    pub(crate) writes: bool,
    pub(crate) streams: bool,
    pub(crate) schema: Option<Schema>,
    pub(crate) handler: Handler,
}

impl Subsystem {
    /// A subsystem without actions. Clients call it `NAMESPACE/NAME`, which is what root's registration must
    /// say too; both are 1 to 64 of `a-z 0-9 _ -`. `help` is one line.
    pub fn new(namespace: &str, name: &str, version: &str, help: &str) -> Subsystem {
        Subsystem {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            version: version.to_owned(),
            help: help.to_owned(),
            actions: Vec::new(),
            events: Vec::new(),
            publisher: Publisher::default(),
            tasks: Vec::new(),
        }
    }

    /// Adds an action. One that is named `_` is called when a request names none.
    #[must_use]
    pub fn action(mut self, action: Action) -> Subsystem {
        self.actions.push(action);
        self
    }

    /// Adds an event. The gateway takes it if the registration lists it.
    #[must_use]
    pub fn event(mut self, name: &str, help: &str) -> Subsystem {
        self.publisher.declare(name);
        self.events.push((name.to_owned(), help.to_owned()));
        self
    }

    /// Publishes this subsystem's events.
    pub fn publisher(&self) -> Publisher {
        self.publisher.clone()
    }

    /// Adds work that goes on while the subsystem serves, until [`Ended`]. One that panics ends the subsystem.
    #[must_use]
    pub fn task<W: Future<Output = ()> + Send + 'static>(
        mut self,
        work: impl FnOnce(Ended) -> W + Send + 'static,
    ) -> Subsystem {
        self.tasks.push(Box::new(|ended| Box::pin(work(ended))));
        self
    }

    pub(crate) fn audience(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// The work beside the calls, taken out.
    pub(crate) fn tasks(&mut self) -> Vec<Task> {
        std::mem::take(&mut self.tasks)
    }

    /// Checks what the gateway would check.
    pub(crate) fn checked(self) -> Result<Checked, Misdescribed> {
        word("the namespace", &self.namespace)?;
        word("the name", &self.name)?;
        text("the version", &self.version)?;
        text("the help", &self.help)?;
        if self.actions.len() > ACTIONS_MAX || self.events.len() > ACTIONS_MAX {
            return Err(wrong("the subsystem", "has more than 256 actions or events"));
        }
        let mut described = Vec::new();
        let mut actions = HashMap::new();
        for action in self.actions {
            let what = format!("the action {:?}", action.name);
            word(&what, &action.name)?;
            text(&format!("the help of {what}"), &action.help)?;
            let schema = action.schema.as_ref().map(Schema::new).transpose();
            let schema = schema.map_err(|why| wrong(&format!("the schema of {what}"), &why))?;
            described.push(wire::Action {
                name: action.name.clone(),
                right: if action.writes { wire::Right::Write } else { wire::Right::Read }.into(),
                help: action.help,
                streams: action.streams,
                args_schema: schema.as_ref().map(|schema| schema.text.clone()).unwrap_or_default(),
            });
            let ready = Ready {
                subject: format!("sysadm.{}.{}.{}", self.namespace, self.name, action.name),
                writes: action.writes,
                streams: action.streams,
                schema,
                handler: action.handler,
            };
            if actions.insert(action.name, ready).is_some() {
                return Err(wrong(&what, "is there twice"));
            }
        }
        let mut events: Vec<wire::EventKind> = Vec::new();
        for (name, help) in self.events {
            let what = format!("the event {name:?}");
            word(&what, &name)?;
            text(&format!("the help of {what}"), &help)?;
            if events.iter().any(|event| event.name == name) {
                return Err(wrong(&what, "is there twice"));
            }
            events.push(wire::EventKind { name, help });
        }
        let description = wire::Description {
            namespace: self.namespace,
            name: self.name,
            version: self.version,
            help: self.help,
            actions: described,
            events,
        };
        if description.encoded_len() > DESCRIPTION_MAX {
            return Err(wrong("the description", "is longer than 128 KiB as a whole"));
        }
        Ok(Checked { description, actions, publisher: self.publisher })
    }
}

impl fmt::Debug for Subsystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subsystem").field("name", &self.audience()).finish_non_exhaustive()
    }
}

fn wrong(what: &str, why: &str) -> Misdescribed {
    Misdescribed { what: what.to_owned(), why: why.to_owned() }
}

fn word(what: &str, text: &str) -> Result<(), Misdescribed> {
    match is_word(text) {
        true => Ok(()),
        false => Err(wrong(what, "must be 1 to 64 of a-z 0-9 _ -, and not me or my_session")),
    }
}

fn text(what: &str, text: &str) -> Result<(), Misdescribed> {
    match text.chars().count() <= TEXT_MAX && !text.contains(char::is_control) {
        true => Ok(()),
        false => Err(wrong(what, "must be one line of at most 200 characters")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::call::Call;
    use crate::failure::Failure;

    async fn nothing(_: Call, _: Value) -> Result<Value, Failure> {
        Ok(Value::Null)
    }

    fn action(name: &str) -> Action {
        Action::read(name, "Does nothing", nothing)
    }

    fn subsystem() -> Subsystem {
        Subsystem::new("example", "notes", "1.0", "Keeps notes")
    }

    #[test]
    fn a_description_says_what_there_is() {
        let schema = json!({ "type": "object" });
        let checked = subsystem()
            .action(Action::write("add", "Adds a note", nothing).args(schema))
            .action(action("_"))
            .event("added", "A note was added")
            .checked()
            .expect("good");
        let described = &checked.description.actions;
        assert_eq!((described[0].right(), described[1].right()), (wire::Right::Write, wire::Right::Read));
        assert_eq!(described[0].args_schema, r#"{"type":"object"}"#);
        assert_eq!(checked.actions["add"].subject, "sysadm.example.notes.add");
        assert_eq!(checked.description.events[0].name, "added");
    }

    #[test]
    fn what_the_gateway_would_not_take_is_refused_at_the_start() {
        let named = |namespace: &str, name: &str| Subsystem::new(namespace, name, "1", "x");
        let many = (0..257).fold(subsystem(), |all, number| all.action(action(&format!("a{number}"))));
        let comment = json!({ "$comment": "x".repeat(15 << 10) });
        let long = |actions: usize| {
            (0..actions)
                .fold(subsystem(), |all, n| all.action(action(&format!("a{n}")).args(comment.clone())))
        };
        assert!(long(8).checked().is_ok());
        for (subsystem, says) in [
            (named("Example", "notes"), "namespace"),
            (named("example", ""), "name"),
            (named("example", "me"), "name"),
            (Subsystem::new("example", "notes", "1\n2", "x"), "version"),
            (Subsystem::new("example", "notes", "1", &"x".repeat(201)), "help"),
            (subsystem().action(action("a b")), "a b"),
            (subsystem().action(action("a")).action(action("a")), "twice"),
            (subsystem().action(action("a").args(json!({ "type": 7 }))), "schema"),
            (subsystem().event("x", "y").event("x", "y"), "twice"),
            (subsystem().event("A", "y"), "event"),
            (many, "256"),
            (long(9), "128 KiB"),
        ] {
            let wrong = subsystem.checked().err().expect("refused").to_string();
            assert!(wrong.contains(says), "{says}: {wrong}");
        }
    }
}
