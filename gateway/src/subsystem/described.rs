//! What a subsystem says of itself, checked: it is shown to clients, and rights are asked of it.

use std::sync::Arc;

use doorward_launch::registrations::{Registration, is_word};
use doorward_proto::subsystem::v1 as proto;
use serde_json::value::RawValue;

use crate::{
    call::{Described, DescribedAction, EventName, Right, SubsystemName},
    depth::deeper_than,
    plain::is_plain,
};

/// The most actions, and the most events.
const NAMES_MAX: usize = 256;
/// The longest text for people, in characters.
const TEXT_MAX: usize = 200;
/// The largest schema, in bytes.
const SCHEMA_MAX: usize = 16 << 10;
/// How deeply JSON of a subsystem is nested at most.
pub(super) const DEPTH_MAX: usize = 64;

/// A description that keeps to the contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    version: Arc<str>,
    help: Arc<str>,
    /// In the order of their names.
    actions: Vec<Action>,
    /// Those that it may publish, too.
    events: Vec<(EventName, Arc<str>)>,
}

/// One of its actions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// What is told of it.
    pub told: DescribedAction,
    /// What rights are asked of: `sysadm.NAMESPACE.NAME.ACTION`.
    pub subject: Arc<str>,
}

impl Description {
    /// Checks what a subsystem said of itself.
    ///
    /// # Errors
    /// The first thing that is wrong with it, for the log.
    pub(super) fn from_wire(said: proto::Description, registration: &Registration) -> Result<Self, String> {
        let proto::Description { namespace, name, version, help, actions, events } = said;
        if (&namespace, &name) != (&registration.namespace, &registration.name) {
            return Err("it calls itself otherwise than it is registered".to_owned());
        }
        if actions.len() > NAMES_MAX || events.len() > NAMES_MAX {
            return Err(format!("more than {NAMES_MAX} actions or events"));
        }
        let subject = |action: &str| Arc::from(format!("sysadm.{namespace}.{name}.{action}"));
        let mut actions = actions
            .into_iter()
            .map(|action| {
                let subject = subject(&action.name);
                Ok(Action { told: action_of(action)?, subject })
            })
            .collect::<Result<Vec<_>, String>>()?;
        actions.sort_by(|one, other| one.told.name.cmp(&other.told.name));
        if let Some(twice) = actions.windows(2).find_map(|pair| match pair {
            [one, other] if one.told.name == other.told.name => Some(&one.told.name),
            _ => None,
        }) {
            return Err(format!("the action {twice} is there twice"));
        }
        let mut kinds: Vec<(EventName, Arc<str>)> = Vec::new();
        for event in events {
            let help = text("an event", event.help)?;
            let Some(name) = EventName::parse(&event.name) else {
                return Err("the name of an event is none".to_owned());
            };
            if kinds.iter().any(|(known, _)| *known == name) {
                return Err(format!("the event {name:?} is there twice"));
            }
            kinds.push((name, help));
        }
        // A service does not choose by itself what is said to everybody.
        kinds.retain(|(name, _)| registration.events.iter().any(|allowed| allowed == name.as_str()));
        kinds.sort();
        Ok(Self {
            version: text("the version", version)?,
            help: text("the help", help)?,
            actions,
            events: kinds,
        })
    }

    /// For the log.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// The action of this name, which is lower case.
    pub fn action(&self, name: &str) -> Option<&Action> {
        let place = self.actions.binary_search_by(|action| (*action.told.name).cmp(name)).ok()?;
        self.actions.get(place)
    }

    /// All of them, in the order of their names.
    pub fn actions(&self) -> impl Iterator<Item = &Action> {
        self.actions.iter()
    }

    /// The events that it publishes.
    pub(super) fn events(&self) -> impl Iterator<Item = &EventName> {
        self.events.iter().map(|(name, _)| name)
    }

    /// What somebody is told who may call those actions whose subject this says; None: there are none.
    pub fn told(&self, name: &SubsystemName, may: impl Fn(&str) -> bool) -> Option<Described> {
        let allowed = self.actions.iter().filter(|action| may(&action.subject));
        let actions: Vec<_> = allowed.map(|action| action.told.clone()).collect();
        let event = |(name, help): &(EventName, Arc<str>)| (Arc::from(name.as_str()), Arc::clone(help));
        (!actions.is_empty()).then(|| Described {
            name: name.clone(),
            version: Arc::clone(&self.version),
            help: Arc::clone(&self.help),
            actions,
            events: self.events.iter().map(event).collect(),
        })
    }
}

fn action_of(action: proto::Action) -> Result<DescribedAction, String> {
    let right = match action.right() {
        proto::Right::Unspecified => None,
        proto::Right::Read => Some(Right::Read),
        proto::Right::Write => Some(Right::Write),
    };
    let proto::Action { name, help, streams, args_schema, .. } = action;
    if !is_word(&name) {
        return Err("the name of an action is none".to_owned());
    }
    let right = right.ok_or_else(|| format!("{name}: it is not said whether it writes"))?;
    let args = match args_schema.as_str() {
        "" => None,
        schema if schema.len() > SCHEMA_MAX => return Err(format!("{name}: the schema is too large")),
        schema if deeper_than(schema, DEPTH_MAX) || serde_json::from_str::<&RawValue>(schema).is_err() => {
            return Err(format!("{name}: the schema is not JSON"));
        }
        schema if !is_plain(schema) => {
            return Err(format!("{name}: the schema has a lone surrogate or a number that is not finite"));
        }
        schema => Some(Arc::from(schema)),
    };
    Ok(DescribedAction { right, help: text(&name, help)?, streams, args, name: name.into() })
}

/// One line for people.
fn text(of: &str, text: String) -> Result<Arc<str>, String> {
    if text.chars().count() > TEXT_MAX || text.contains(char::is_control) {
        return Err(format!("{of}: a text of more than {TEXT_MAX} characters, or with control characters"));
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn registration() -> Registration {
        let second = Duration::from_secs(1);
        Registration {
            file: "/a.toml".into(),
            namespace: "example".into(),
            name: "a".into(),
            socket: "/a.sock".into(),
            uid: 0,
            events: vec!["allowed".into(), "never".into()],
            limited_acl: vec![],
            call: second,
            stream: second,
            silence: second,
        }
    }

    fn action(name: &str) -> proto::Action {
        proto::Action { name: name.into(), right: proto::Right::Read.into(), ..proto::Action::default() }
    }

    fn description() -> proto::Description {
        let event = |name: &str| proto::EventKind { name: name.into(), help: "h".into() };
        proto::Description {
            namespace: "example".into(),
            name: "a".into(),
            version: "1".into(),
            help: "An example".into(),
            actions: vec![action("list"), proto::Action { right: 2, ..action("change") }],
            events: vec![event("unasked"), event("allowed")],
        }
    }

    fn refused(change: impl FnOnce(&mut proto::Description)) -> bool {
        let mut said = description();
        change(&mut said);
        Description::from_wire(said, &registration()).is_err()
    }

    #[test]
    fn what_keeps_to_the_contract_is_taken() {
        let found = Description::from_wire(description(), &registration()).expect("good");
        let list = found.action("list").expect("there");
        assert_eq!((list.told.right, &*list.subject), (Right::Read, "sysadm.example.a.list"));
        assert_eq!(found.action("change").map(|found| found.told.right), Some(Right::Write));
        assert_eq!((found.action("List"), found.action("")), (None, None));
        assert_eq!(found.events().map(EventName::as_str).collect::<Vec<_>>(), ["allowed"]);
    }

    #[test]
    fn only_what_may_be_called_is_told() {
        let found = Description::from_wire(description(), &registration()).expect("good");
        let name = SubsystemName::parse("example", "a").expect("a name");
        let told = found.told(&name, |subject| subject.ends_with(".list")).expect("something");
        assert_eq!(told.actions.iter().map(|action| &*action.name).collect::<Vec<_>>(), ["list"]);
        assert_eq!(found.told(&name, |_| false), None);
    }

    #[test]
    fn what_does_not_is_refused_whole() {
        assert!(!refused(|_| {}));
        assert!(refused(|said| said.name = "b".into()));
        assert!(refused(|said| said.namespace = "Example".into()));
        assert!(refused(|said| said.help = "two\nlines".into()));
        assert!(refused(|said| said.version = "x".repeat(201)));
        assert!(!refused(|said| said.help = "ä".repeat(200)));
        assert!(refused(|said| said.actions.push(action("list"))), "twice");
        for name in ["", "List", "a.b", "me", "a b", &"x".repeat(65)] {
            assert!(refused(|said| said.actions.push(action(name))), "{name}");
        }
        for right in [0, 3, -1] {
            assert!(refused(|said| said.actions.push(proto::Action { right, ..action("x") })), "{right}");
        }
        let many = |count: usize| {
            move |said: &mut proto::Description| {
                said.actions = (0..count).map(|n| action(&format!("a{n}"))).collect();
            }
        };
        assert!(!refused(many(256)) && refused(many(257)));
        let schema = |schema: String| {
            move |said: &mut proto::Description| {
                said.actions.push(proto::Action { args_schema: schema, ..action("x") });
            }
        };
        assert!(!refused(schema("{}".into())) && !refused(schema(format!("\"{}\"", "x".repeat(16_382)))));
        assert!(refused(schema("{".into())) && refused(schema(format!("\"{}\"", "x".repeat(16_383)))));
        assert!(refused(schema("1e999".into())) && refused(schema(r#""\udc00""#.into())));
        assert!(refused(schema("[".repeat(65) + &"]".repeat(65))));
        assert!(refused(|said| said.events.push(proto::EventKind { name: "A".into(), help: "".into() })));
        assert!(refused(|said| said
            .events
            .push(proto::EventKind { name: "allowed".into(), help: "".into() })));
    }
}
