//! The keys of a configuration: which of them changed, and when a change takes effect. Pure.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// When a changed key takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// When the daemon is asked to read its files again (SIGHUP).
    Reload,
    /// When it is started again: sockets, users, directories, which need root or are held open.
    Restart,
}

/// Every key of a configuration file by its dotted name, and when it takes effect. A table whose keys are
/// names that its writer chose, such as groups, is one key.
pub type Keys = &'static [(&'static str, Takes)];

/// The keys of the configuration that is in effect, with their values.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Running(BTreeMap<String, Value>);

/// What a reload changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Keys that take effect with it.
    pub(crate) applied: Vec<String>,
    /// Keys whose change waits for a restart.
    pub(crate) waiting: Vec<String>,
}

impl Running {
    /// Those of a configuration that was just read.
    pub(crate) fn of(config: &impl Serialize) -> Running {
        let mut keys = BTreeMap::new();
        // A configuration is made of tables, numbers, texts and lists: nothing that JSON cannot say.
        if let Ok(Value::Object(table)) = serde_json::to_value(config) {
            flatten(&mut keys, "", table);
        }
        Running(keys)
    }

    /// What would change with `next`. A key that no table lists waits for a restart.
    pub(crate) fn compare(&self, next: &Running, keys: Keys) -> Changes {
        let mut changes = Changes::default();
        let names = self.0.keys().chain(next.0.keys().filter(|name| !self.0.contains_key(*name)));
        for name in names.filter(|name| self.0.get(*name) != next.0.get(*name)) {
            match takes(keys, name) {
                Takes::Reload => changes.applied.push(name.clone()),
                Takes::Restart => changes.waiting.push(name.clone()),
            }
        }
        changes
    }

    /// `next` was applied: what waits for a restart is still as it was, and is told again next time.
    pub(crate) fn apply(&mut self, next: &Running, keys: Keys) {
        self.0.retain(|name, _| next.0.contains_key(name) || takes(keys, name) == Takes::Restart);
        for (name, value) in &next.0 {
            if takes(keys, name) == Takes::Reload {
                self.0.insert(name.clone(), value.clone());
            }
        }
    }
}

fn takes(keys: Keys, name: &str) -> Takes {
    keys.iter().find(|(key, _)| is_of(name, key)).map_or(Takes::Restart, |(_, takes)| *takes)
}

/// Whether `name` is this key, or in the table that this key is.
fn is_of(name: &str, key: &str) -> bool {
    name.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Every key is there, those without a value too: a key that is only sometimes there would be missed.
fn flatten(keys: &mut BTreeMap<String, Value>, prefix: &str, table: serde_json::Map<String, Value>) {
    for (name, value) in table {
        let name = format!("{prefix}{name}");
        match value {
            Value::Object(inner) if !inner.is_empty() => flatten(keys, &format!("{name}."), inner),
            value => {
                keys.insert(name, value);
            }
        }
    }
}

/// What a daemon's table of keys has wrong: keys of the configuration that it does not list, and listed
/// ones that are none. For the test that every daemon has.
pub fn unlisted(config: &impl Serialize, keys: Keys) -> Vec<String> {
    let Running(there) = Running::of(config);
    let missing = there.keys().filter(|name| !keys.iter().any(|(key, _)| is_of(name, key))).cloned();
    let strange = keys.iter().filter(|(key, _)| !there.keys().any(|name| is_of(name, key)));
    missing.chain(strange.map(|(key, _)| (*key).to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: Keys = &[("user", Takes::Restart), ("limits.a", Takes::Reload), ("limits.b", Takes::Reload)];

    fn running(text: &str) -> Running {
        Running::of(&serde_json::from_str::<Value>(text).expect("JSON"))
    }

    #[test]
    fn changed_keys_are_told_by_when_they_take_effect() {
        let mut now = running(r#"{"user":"x","limits":{"a":1,"b":null},"new":[1]}"#);
        let same = now.clone();
        assert_eq!(now.compare(&same, KEYS), Changes::default());
        let next = running(r#"{"user":"y","limits":{"a":2,"b":3},"new":[2]}"#);
        let changes = now.compare(&next, KEYS);
        assert_eq!(changes.applied, ["limits.a", "limits.b"]);
        assert_eq!(changes.waiting, ["new", "user"], "what is not listed waits");
        now.apply(&next, KEYS);
        let again = now.compare(&next, KEYS);
        assert_eq!((again.applied, again.waiting), (vec![], changes.waiting), "told until it is done");
    }

    #[test]
    fn a_table_of_chosen_names_is_one_key_and_a_name_that_is_gone_is_told_once() {
        const KEYS: Keys = &[("groups", Takes::Reload)];
        let empty = running(r#"{"groups":{}}"#);
        let full = running(r#"{"groups":{"wheel":["a"],"x.y":["b"]}}"#);
        assert_eq!(unlisted(&serde_json::json!({"groups": {}}), KEYS), Vec::<String>::new());
        assert_eq!(unlisted(&serde_json::json!({"groups": {"a": []}}), KEYS), Vec::<String>::new());
        assert_eq!(unlisted(&serde_json::json!({"groupsies": 1}), KEYS), ["groupsies", "groups"]);
        let mut now = full.clone();
        assert_eq!(now.compare(&empty, KEYS).waiting, Vec::<String>::new());
        now.apply(&empty, KEYS);
        assert_eq!(now.compare(&empty, KEYS), Changes::default());
        assert_eq!(now.compare(&full, KEYS).applied, ["groups", "groups.wheel", "groups.x.y"]);
        now.apply(&full, KEYS);
        assert_eq!(now.compare(&full, KEYS), Changes::default());
    }

    #[test]
    fn a_table_that_forgot_a_key_or_has_one_too_many_is_told() {
        let config = serde_json::json!({"user": "x", "limits": {"a": 1}, "new": null});
        assert_eq!(unlisted(&config, KEYS), ["new", "limits.b"]);
    }
}
