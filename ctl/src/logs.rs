//! `doorward logs`: what the services recorded, by time.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    client::{Endpoint, REPLY_DEADLINE},
    error::Error,
    login,
    output::{Output, json_text, printable, still_read},
    utc,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// From this moment on: RFC 3339, seconds of UTC, or -90s, -30m, -1h, -2d before now
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    from: Option<String>,
    /// Up to this moment
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    until: Option<String>,
    /// At most so many, the oldest of that time
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    most: u64,
}

/// As many as one reply has at most.
const PAGE: u64 = 10_000;

/// One reply.
#[derive(Deserialize)]
struct Page {
    /// The oldest first.
    records: Vec<Map<String, Value>>,
    /// What the next request goes on after; nothing: these were all.
    #[serde(default)]
    next: Option<String>,
    /// Services that did not answer.
    #[serde(default)]
    missing: Vec<String>,
    /// Services that have more than they look at.
    #[serde(default)]
    unread: Vec<String>,
}

/// Asks until there are no more or there are enough, and prints a line for each record.
pub(crate) async fn logs(options: Options, endpoint: &Endpoint, output: Output) -> Result<(), Error> {
    let mut args = asked(&options, utc::now())?;
    let (mut client, _) = login::with_session(endpoint).await?;
    let (mut left, mut told) = (options.most, BTreeSet::new());
    loop {
        args.insert("most".to_owned(), json!(left.min(PAGE)));
        let reply = client.request("rpc", "logs", &Value::Object(args), REPLY_DEADLINE).await?;
        let page = Page::deserialize(reply)
            .map_err(|_| Error::unreachable("the gateway's records make no sense"))?;
        let lines: String = page.records.iter().map(|record| line(record, output.json)).collect();
        let read = still_read(&lines)?;
        told.extend(
            page.missing.iter().map(|service| format!("{service} does not answer: its records are missing")),
        );
        told.extend(page.unread.iter().map(|service| {
            format!("{service} has recorded more than it looks at: older records may be missing")
        }));
        let came = u64::try_from(page.records.len()).unwrap_or(u64::MAX);
        left = left.saturating_sub(came);
        match page.next {
            // A page without a record would go on for ever.
            Some(next) if read && left > 0 && came > 0 => {
                args =
                    Map::from_iter([("action".to_owned(), json!(ACTION)), ("after".to_owned(), json!(next))]);
            }
            next => {
                if next.is_some() && read {
                    told.insert("there are more: ask with --most, or --from a later time".to_owned());
                }
                break;
            }
        }
    }
    client.close().await;
    told.iter().for_each(|sentence| say(sentence));
    Ok(())
}

const ACTION: &str = "read_logs";

fn asked(options: &Options, now: u64) -> Result<Map<String, Value>, Error> {
    let mut args = Map::from_iter([("action".to_owned(), json!(ACTION))]);
    for (name, text) in [("from", &options.from), ("until", &options.until)] {
        if let Some(text) = text {
            let moment = utc::moment(text, now).ok_or_else(|| {
                Error::Usage(format!(
                    "--{name} {text:?} is no moment: write 2026-11-22T03:47:02Z, seconds of UTC, or -1h before now"
                ))
            })?;
            args.insert(name.to_owned(), json!(moment));
        }
    }
    Ok(args)
}

fn line(record: &Map<String, Value>, json: bool) -> String {
    if json { json_text(&Value::Object(record.clone())) + "\n" } else { record_line(record) + "\n" }
}

fn say(sentence: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "doorward: {}", printable(sentence));
}

/// When, who says it, what, about whom, why; then all the rest by name, but for the record's own name.
fn record_line(record: &Map<String, Value>) -> String {
    let first = ["time", "service", "event", "user", "reason"];
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut words: Vec<String> =
        first.iter().map(|name| record.get(*name).map_or_else(|| "-".to_owned(), word)).collect();
    if let Some(service) = words.get_mut(1)
        && let Some(short) = service.strip_prefix("doorward-")
    {
        *service = short.to_owned();
    }
    let rest = record.iter().filter(|(name, _)| !first.contains(&name.as_str()) && *name != "id");
    words.extend(rest.map(|(name, value)| format!("{name}={}", word(value))));
    printable(&words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_a_line_of_what_matters_and_the_rest_by_name() {
        let record = json!({"time": "2026-11-25T23:10:59.123Z", "id": "9-17", "event": "login_refused",
            "service": "doorward-authd", "reason": "pam-denied", "user": "al ice\u{1b}[2J", "uid": 1000,
            "method": "password"});
        let record = record.as_object().expect("an object");
        assert_eq!(
            record_line(record),
            "2026-11-25T23:10:59.123Z authd login_refused al ice\\u{1b}[2J pam-denied method=password uid=1000"
        );
        assert_eq!(record_line(&Map::new()), "- - - - -");
        let line = line(record, true);
        assert_eq!(serde_json::from_str::<Value>(&line).expect("JSON").as_object(), Some(record));
        assert_eq!(line.matches('\n').count(), 1);
    }
}
