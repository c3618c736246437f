//! What the services' logs may look like: one event, one line of printable ASCII, no secret.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::secrets;

/// The longest line, its end included.
const LINE_MAX: usize = 2048;
const LEVELS: [&str; 5] = ["critical", "error", "warning", "info", "debug"];

/// What is wrong with a daemon's log, line by line.
pub fn complaints(name: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    if !text.is_empty() && !text.ends_with('\n') {
        complaints.push(format!("{name}: the last line has no end"));
    }
    for line in text.lines() {
        if let Some(why) = complaint(name, line) {
            complaints.push(format!("{name}: {why}: {line:?}"));
        }
    }
    for secret in secrets::found_in(text) {
        // The secret itself would make the test's output a leak of its own.
        let start: String = secret.chars().take(3).collect();
        complaints.push(format!("{name}: a secret that starts with {start:?} is in the log"));
    }
    complaints
}

fn complaint(name: &str, line: &str) -> Option<&'static str> {
    if line.len() >= LINE_MAX {
        return Some("too long");
    }
    if !line.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        return Some("not printable ASCII");
    }
    // 2026-11-23T10:11:12.123Z warning doorward-authd: message key=value
    let (time, rest) = line.split_once(' ')?;
    let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let (level, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    if shape != "0000-00-00T00:00:00.000Z" || !LEVELS.contains(&level) {
        return Some("does not start with time and level");
    }
    (!rest.starts_with(&format!("{name}: "))).then_some("does not name its program")
}

/// What is wrong with a daemon's audit records: each is one JSON object on one line of printable ASCII, says
/// who says so and when, has a number of its own, and no secret.
pub fn audit_complaints(name: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut ids = BTreeSet::new();
    for line in text.split_inclusive('\n') {
        let record: Value = serde_json::from_str(line).unwrap_or_default();
        let ascii = line.trim_end_matches('\n').bytes().all(|b| (0x20..0x7f).contains(&b));
        let whole = line.ends_with('\n') && line.len() <= LINE_MAX && record.is_object();
        let words = ["time", "id", "event"].iter().all(|field| record[field].is_string());
        let new = ids.insert(record["id"].to_string());
        if !(ascii && whole && words && new && record["service"] == name) {
            complaints.push(format!("{name}: not a record: {line:?}"));
        }
    }
    for secret in secrets::found_in(text) {
        let start: String = secret.chars().take(3).collect();
        complaints.push(format!("{name}: a secret that starts with {start:?} is in the audit records"));
    }
    complaints
}

/// The value of `key=` in a log line, with its escapes still in it.
pub fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let at = line.find(&format!(" {key}="))? + key.len() + 2;
    let rest = &line[at..];
    match rest.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').map(|(value, _)| value),
        None => rest.split(' ').next(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_wrong_are_told() {
        let good = "2026-11-23T10:11:12.123Z info doorward-authd: ready key=value\n";
        assert_eq!(complaints("doorward-authd", good), Vec::<String>::new());
        for bad in [
            "2026-11-23T10:11:12.123Z info doorward-gateway: x\n",
            "2026-11-23 10:11:12 info doorward-authd: x\n",
            "2026-11-23T10:11:12.123Z notice doorward-authd: x\n",
            "2026-11-23T10:11:12.123Z info doorward-authd: \u{e9}\n",
            "2026-11-23T10:11:12.123Z info doorward-authd: x",
            "thread 'main' panicked at x\n",
        ] {
            assert_eq!(complaints("doorward-authd", bad).len(), 1, "{bad}");
        }
        let long = format!("2026-11-23T10:11:12.123Z info doorward-authd: {}\n", "x".repeat(2048));
        assert_eq!(complaints("doorward-authd", &long).len(), 1);
    }

    #[test]
    fn a_secret_in_a_log_is_told_without_its_text() {
        secrets::register("Nachtigall-99");
        let line = "2026-11-23T10:11:12.123Z info doorward-authd: x password=Nachtigall-99\n";
        let told = complaints("doorward-authd", line);
        assert_eq!(told.len(), 1);
        assert!(!told[0].contains("Nachtigall"));
    }

    #[test]
    fn records_that_are_wrong_are_told() {
        let good = r#"{"time":"t","id":"r-1","event":"login","service":"doorward-authd"}"#;
        let good = format!("{good}\n");
        assert_eq!(audit_complaints("doorward-authd", &good), Vec::<String>::new());
        for bad in [
            good.repeat(2),
            good.replace('\n', ""),
            good.replace("login", "\u{e9}"),
            good.replace("authd", "certd"),
            good.replace("\"id\":\"r-1\",", ""),
            "{}\n".to_owned(),
            "{\"time\":\n".to_owned(),
        ] {
            assert_eq!(audit_complaints("doorward-authd", &bad).len(), 1, "{bad}");
        }
    }

    #[test]
    fn values_are_found() {
        let line = "t info n: m user=\"a b\" uid=7 x=";
        assert_eq!(value(line, "user"), Some("a b"));
        assert_eq!(value(line, "uid"), Some("7"));
        assert_eq!(value(line, "y"), None);
    }
}
