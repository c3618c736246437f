//! How bad it is, and when that is told. No I/O, no clock.
//!
//! Priorities are those of the original server: 0 to 2 information, 3 to 5 warning, 6 to 8 critical, 9 and 10
//! urgent; clients read the number in front.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::facts::{Disk, Load, Memory, percent};
use crate::settings::{Levels, Settings};

/// After how many looks in a row a lower priority is believed. A higher one is believed at once.
const CALM: u32 = 3;

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Seen {
    pub(crate) host: String,
    pub(crate) memory: Memory,
    pub(crate) load: Load,
    pub(crate) cpus: usize,
    /// None: the disks do not answer.
    pub(crate) disks: Option<Arc<Vec<Disk>>>,
}

/// How bad it is, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) priority: u8,
    pub(crate) causes: Vec<String>,
}

/// `"3 - Warning"`
pub(crate) fn priority(priority: u8) -> String {
    let word = match priority {
        0..3 => "Information",
        3..6 => "Warning",
        6..9 => "Critical",
        _ => "Urgent",
    };
    format!("{priority} - {word}")
}

fn level(value: u64, levels: Levels) -> u8 {
    match value {
        value if value >= levels.urgent => 9,
        value if value >= levels.critical => 6,
        value if value >= levels.warning => 3,
        _ => 0,
    }
}

/// The load of five minutes, in percent of the processors.
fn load_percent(load: Load, cpus: usize) -> u64 {
    let percent = load.five * 100.0 / f64::from(u32::try_from(cpus.max(1)).unwrap_or(u32::MAX));
    // A load is a small number; what is none counts as nothing.
    if percent > 0.0 { percent.min(1e9) as u64 } else { 0 }
}

/// Judges what was seen.
pub(crate) fn judge(seen: &Seen, settings: &Settings) -> State {
    let mut state = State::default();
    let mut count = |priority: u8, cause: &dyn Fn() -> String| {
        if priority > 0 {
            state.priority = state.priority.max(priority);
            state.causes.push(cause());
        }
    };
    match &seen.disks {
        Some(disks) => {
            // An image that is mounted to be read is always full.
            for disk in disks.iter().filter(|disk| !disk.read_only && disk.total > 0) {
                let full = disk.full();
                let cause = || format!("the disk at {} is {full} % full", disk.mount);
                count(level(full, settings.disk), &cause);
            }
        }
        None => count(6, &|| "a disk does not answer".to_owned()),
    }
    let used = percent(seen.memory.total.saturating_sub(seen.memory.available), seen.memory.total);
    count(level(used, settings.memory), &|| format!("{used} % of the memory are used"));
    let load = load_percent(seen.load, seen.cpus);
    count(level(load, settings.load), &|| format!("the load is {load} % of the processors"));
    state.causes.truncate(16);
    state
}

/// What was told last, and what speaks for telling something else.
#[derive(Debug, Clone, Default)]
pub(crate) struct Telling {
    told: Option<u8>,
    host: String,
    since: u64,
    lower: u32,
}

impl Telling {
    /// Whether something is to be told `now` (in seconds of any clock): the event's args.
    pub(crate) fn look(&mut self, seen: &Seen, settings: &Settings, now: u64) -> Option<Value> {
        let mut state = judge(seen, settings);
        let renamed = !self.host.is_empty() && self.host != seen.host;
        if renamed {
            // As in the original: once, a warning.
            state.priority = state.priority.max(3);
            state.causes.push("the host has another name".to_owned());
        }
        let due = now.saturating_sub(self.since) >= u64::from(settings.event_seconds);
        let worse = self.told.is_none_or(|told| state.priority > told);
        let better = self.told.is_some_and(|told| state.priority < told);
        self.lower = if better { self.lower + 1 } else { 0 };
        if !(due || worse || renamed || self.lower >= CALM) {
            return None;
        }
        if better && self.lower < CALM {
            // What is told because it is time says still what was.
            state.priority = self.told.unwrap_or(state.priority);
        } else {
            self.lower = 0;
        }
        self.told = Some(state.priority);
        self.since = now;
        self.host.clone_from(&seen.host);
        Some(event(seen, &state, renamed))
    }
}

/// The shape that deployed clients read: `priority` and `hostname`; what else is there they leave alone.
pub(crate) fn event(seen: &Seen, state: &State, renamed: bool) -> Value {
    let mut args = Map::new();
    args.insert("hostname".into(), json!(seen.host));
    if renamed {
        args.insert("hostnamechanged".into(), json!("true"));
    }
    args.insert("priority".into(), json!(priority(state.priority)));
    args.insert("causes".into(), json!(state.causes));
    let Load { one, five, fifteen } = seen.load;
    args.insert("load".into(), json!([one, five, fifteen]));
    let used = percent(seen.memory.total.saturating_sub(seen.memory.available), seen.memory.total);
    args.insert("memory".into(), json!({ "capacity": used.to_string() }));
    let disks = seen.disks.iter().flat_map(|disks| disks.iter()).filter(|disk| disk.total > 0).take(64);
    let disks: Map<String, Value> =
        disks.map(|disk| (disk.mount.clone(), json!({ "capacity": disk.full().to_string() }))).collect();
    args.insert("disks".into(), Value::Object(disks));
    Value::Object(args)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(disk: u64, memory: u64, load: f64) -> Seen {
        Seen {
            host: "h".into(),
            memory: Memory { total: 100, available: 100 - memory, ..Memory::default() },
            load: Load { five: load, ..Load::default() },
            cpus: 2,
            disks: Some(Arc::new(vec![Disk {
                mount: "/".into(),
                total: 100,
                available: 100 - disk,
                ..Disk::default()
            }])),
        }
    }

    #[test]
    fn the_worst_counts_and_each_cause_is_told() {
        let settings = Settings::default();
        for (disk, memory, load, expected, causes) in [
            (10, 10, 0.1, 0, 0),
            (84, 89, 3.9, 0, 0),
            (85, 10, 0.1, 3, 1),
            (91, 10, 0.1, 6, 1),
            (97, 90, 0.1, 9, 2),
            (10, 95, 0.1, 6, 1),
            (10, 10, 4.0, 3, 1),
            (10, 10, 16.0, 9, 1),
            (100, 100, f64::MAX, 9, 3),
            (10, 10, f64::NAN, 0, 0),
        ] {
            let state = judge(&seen(disk, memory, load), &settings);
            assert_eq!((state.priority, state.causes.len()), (expected, causes), "{disk} {memory} {load}");
        }
        let silent = Seen { disks: None, ..seen(10, 10, 0.1) };
        assert_eq!(judge(&silent, &settings).priority, 6);
    }

    #[test]
    fn what_is_mounted_to_be_read_may_be_full() {
        let mut full = seen(100, 10, 0.1);
        for disk in Arc::make_mut(full.disks.as_mut().expect("there are some")) {
            disk.read_only = true;
        }
        assert_eq!(judge(&full, &Settings::default()).priority, 0);
    }

    #[test]
    fn clients_read_the_number_in_front() {
        for (number, text) in
            [(0, "0 - Information"), (3, "3 - Warning"), (6, "6 - Critical"), (9, "9 - Urgent")]
        {
            assert_eq!(priority(number), text);
        }
        let args = event(&seen(12, 50, 0.5), &State::default(), true);
        assert_eq!(args["priority"], "0 - Information");
        assert_eq!((&args["hostname"], &args["hostnamechanged"]), (&json!("h"), &json!("true")));
        assert_eq!(args["disks"]["/"]["capacity"], "12");
    }

    #[test]
    fn it_is_told_each_minute_when_it_gets_worse_and_when_it_stays_better() {
        let settings = Settings::default();
        let (good, bad) = (seen(10, 10, 0.1), seen(98, 10, 0.1));
        let mut telling = Telling::default();
        let mut told = |seen: &Seen, now: u64| {
            telling.look(seen, &settings, now).map(|args| args["priority"].as_str().unwrap_or("").to_owned())
        };
        assert_eq!(told(&good, 0).as_deref(), Some("0 - Information"), "the first");
        assert_eq!(told(&good, 10), None);
        assert_eq!(told(&good, 59), None);
        assert_eq!(told(&good, 60).as_deref(), Some("0 - Information"), "a minute later");
        assert_eq!(told(&bad, 70).as_deref(), Some("9 - Urgent"), "at once");
        assert_eq!(told(&bad, 80), None);
        assert_eq!(told(&good, 90), None, "a moment is no change");
        assert_eq!(told(&bad, 100), None);
        assert_eq!(told(&good, 110), None);
        assert_eq!(told(&good, 120), None);
        assert_eq!(told(&good, 130).as_deref(), Some("0 - Information"));
        assert_eq!(told(&good, 189), None);
    }

    #[test]
    fn another_name_is_told_once() {
        let settings = Settings::default();
        let mut telling = Telling::default();
        let named = |name: &str| Seen { host: name.into(), ..seen(10, 10, 0.1) };
        assert!(telling.look(&named("a"), &settings, 0).is_some());
        let args = telling.look(&named("b"), &settings, 1).expect("told");
        assert_eq!((&args["hostnamechanged"], &args["priority"]), (&json!("true"), &json!("3 - Warning")));
        assert_eq!(telling.look(&named("b"), &settings, 2), None);
    }
}
