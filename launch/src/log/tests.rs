//! One event is one line, and the line says what the event said.

use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use tracing_subscriber::layer::SubscriberExt;

use super::sink::{Out, Sink};
use super::{Level, Settings, line, printable};

/// What is logged by `act`, at this level.
fn logged(level: Level, act: impl FnOnce()) -> String {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = Sink { name: "doorward-test", level: (level as u8).into(), out: Out::Memory(lines.clone()) };
    tracing::subscriber::with_default(tracing_subscriber::registry().with(sink), act);
    let bytes = lines.lock().expect("no panic").clone();
    String::from_utf8(bytes).expect("text")
}

/// A line of the log, read back.
#[derive(Debug, Default, PartialEq)]
struct Event {
    level: String,
    message: String,
    fields: Vec<(String, String)>,
    /// Whether something had no room.
    cut: bool,
}

fn read(line: &str) -> Event {
    let line = line.strip_suffix('\n').expect("a whole line");
    let (time, rest) = line.split_once(' ').expect("a time");
    assert_eq!(time.len(), "2026-11-23T10:11:12.123Z".len());
    let (level, rest) = rest.split_once(' ').expect("a level");
    let rest = rest.strip_prefix("doorward-test: ").expect("the name");
    let mut event = Event { level: level.to_owned(), ..Event::default() };
    // No message has a `=`, so the first one ends the first key.
    let (message, mut rest) = match rest.find('=') {
        Some(end) => rest.split_at(rest[..end].rfind(' ').expect("a space before a key")),
        None => (rest, ""),
    };
    event.message = unescape(message, &mut event.cut);
    while let Some(field) = rest.strip_prefix(' ') {
        if field == "\\..." {
            event.cut = true;
            break;
        }
        let (key, value) = field.split_once('=').expect("a field");
        let end = match value.strip_prefix('"') {
            Some(quoted) => 2 + closing_quote(quoted),
            None => value.find(' ').unwrap_or(value.len()),
        };
        let (value, after) = value.split_at(end);
        let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
        event.fields.push((key.to_owned(), unescape(value, &mut event.cut)));
        rest = after;
    }
    event
}

fn closing_quote(text: &str) -> usize {
    let mut escaped = false;
    text.find(|c| match (escaped, c) {
        (false, '\\') => {
            escaped = true;
            false
        }
        (false, '"') => true,
        _ => {
            escaped = false;
            false
        }
    })
    .expect("a closing quote")
}

fn unescape(text: &str, cut: &mut bool) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        match rest.chars().next().expect("something after a backslash") {
            'u' => {
                let end = rest.find('}').expect("a closing brace");
                let number = u32::from_str_radix(&rest[2..end], 16).expect("a number");
                out.push(char::from_u32(number).expect("a character"));
                rest = &rest[end + 1..];
            }
            '.' => {
                assert_eq!(rest, "...", "the mark is the end");
                *cut = true;
                rest = "";
            }
            c @ ('"' | '\\') => {
                out.push(c);
                rest = &rest[1..];
            }
            c => panic!("unknown escape {c}"),
        }
    }
    out + rest
}

/// What was said is what is read, or its beginning where something was cut.
fn check(event: &Event, message: &str, fields: &[(&str, &str)]) {
    assert!(message.starts_with(&event.message));
    assert!(event.fields.len() <= fields.len());
    for ((key, value), (said_key, said_value)) in event.fields.iter().zip(fields) {
        assert_eq!(key, said_key);
        assert!(said_value.starts_with(value.as_str()), "{said_value:?} as {value:?}");
    }
    if !event.cut {
        assert_eq!(event.message, message);
        let read: Vec<(&str, &str)> = event.fields.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(read, fields);
    }
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[ -~\\n\\r\\t\\x00\\x1b\"\\\\=]{0,40}",
        "\\PC{0,3000}",
        "[\"\\\\\\n =]{700,2100}",
        Just(String::new()),
        Just("\" user=root x=\"".to_owned()),
        Just("\\...".to_owned()),
    ]
}

proptest! {
    #[test]
    fn any_event_is_one_short_printable_line_that_reads_back(
        message in any_text(), a in any_text(), b in any_text(), c in any_text(),
    ) {
        let line = logged(Level::Info, || {
            tracing::info!(a = a, second.name = %b, c = c.as_str(), "{message}");
        });
        prop_assert!(line.len() <= line::LIMIT, "{}", line.len());
        prop_assert_eq!(line.matches('\n').count(), 1);
        prop_assert!(line.trim_end_matches('\n').bytes().all(|b| (b' '..=b'~').contains(&b)));
        check(&read(&line), &message, &[("a", &a), ("second.name", &b), ("c", &c)]);
    }

    #[test]
    fn what_fits_is_whole(message in "\\PC{0,60}", a in "\\PC{0,60}") {
        let line = logged(Level::Info, || tracing::info!(a, "{message}"));
        prop_assert!(!read(&line).cut, "{}", line);
    }

    #[test]
    fn a_sentence_for_stderr_is_one_printable_line(text in any_text()) {
        prop_assert!(printable(&text).bytes().all(|b| (b' '..=b'~').contains(&b)));
    }
}

#[test]
fn plain_values_are_bare_and_others_quoted() {
    let line = logged(Level::Info, || {
        tracing::info!(
            uid = 1000,
            path = "/run/x.sock",
            text = "two words",
            empty = "",
            yes = true,
            "hello, world"
        );
    });
    assert!(
        line.ends_with(
            " info doorward-test: hello, world uid=1000 path=/run/x.sock text=\"two words\" empty=\"\" yes=true\n"
        ),
        "{line}"
    );
}

#[test]
fn each_level_has_its_name_and_hides_those_below() {
    let all = || {
        crate::critical!(why = "x", "c");
        tracing::error!("e");
        tracing::warn!("w");
        tracing::info!("i");
        tracing::debug!("d");
        tracing::trace!("t");
    };
    let names = ["critical", "error", "warning", "info", "debug"];
    let levels = [Level::Critical, Level::Error, Level::Warning, Level::Info, Level::Debug];
    for (count, level) in levels.into_iter().enumerate() {
        let text = logged(level, all);
        let seen: Vec<String> = text.split_inclusive('\n').map(|line| read(line).level).collect();
        assert_eq!(seen, names[..=count], "{level}");
    }
}

#[test]
fn an_error_brings_its_causes() {
    let error = crate::StartError::failed("cannot open the store", std::io::Error::other("disk on fire"));
    let line = logged(Level::Info, || {
        tracing::error!(error = &error as &(dyn std::error::Error + 'static), "stopped");
    });
    assert_eq!(read(&line).fields, [("error".into(), "cannot open the store: disk on fire".into())]);
}

#[test]
fn libraries_are_heard_when_they_warn_and_not_below() {
    let text = logged(Level::Debug, || {
        tracing::warn!(target: "h2::proto", "odd frame");
        tracing::info!(target: "h2::proto", "header: token");
        tracing::debug!(target: "hyper", "header: token");
    });
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("odd frame"));
}

#[test]
fn settings_take_the_five_levels_and_no_other() {
    for level in ["critical", "error", "warning", "info", "debug"] {
        let settings: Settings = toml::from_str(&format!("level = \"{level}\"")).expect("a level");
        assert_eq!(settings.level.to_string(), level);
    }
    for wrong in ["level = \"loud\"", "level = 3", "levle = \"info\""] {
        assert!(toml::from_str::<Settings>(wrong).is_err(), "{wrong}");
    }
    assert_eq!(toml::from_str::<Settings>("").expect("defaults"), Settings::default());
}
