//! `rpc/logs`: args and records.
//!
//! `start_time`, `end_time`, `time_format` and `logs` are the original's; `from`, `until`, `most` and `after` ours.

use std::time::Duration;

use doorward_launch::audit::parse_time;
use serde_json::value::RawValue;

use super::{bad, json, object, put, settings::action, text, write_string};
use crate::{
    call::{Call, Cursor, Error, LogsRequest, Place, RECORDS, Records, Service, When},
    namespace::{Row, Subject},
};

/// Records of a reply where the client does not say.
const USUAL: usize = 1_000;
/// The most names of logs that are read.
const NAMES: usize = 16;

/// What the args ask for; see `settings::decode`.
pub(super) fn decode(row: &'static Row, args: &str) -> (Option<Subject>, Call) {
    let action = match action(args) {
        Ok(action) => action,
        Err(error) => return (None, Call::Malformed(error)),
    };
    let Some(subject) = row.subject(&action) else { return (None, Call::Absent) };
    (Some(subject), request(args).map_or_else(Call::Malformed, Call::Logs))
}

fn request(args: &str) -> Result<LogsRequest, Error> {
    let names = &["from", "until", "most", "after", "logs", "start_time", "end_time", "time_format"];
    let [from, until, most, after, logs, start, end, format] = object(args, names)?;
    let place = match text("after", after)? {
        Some(_) if from.or(until).or(start).or(end).is_some() => {
            return bad("after goes on with the time of the request before: it stands alone");
        }
        Some(given) => match Cursor::parse(&given) {
            Some(cursor) => Place::After(cursor),
            None => return bad("after is not what a reply had as next"),
        },
        None => {
            let format = text("time_format", format)?;
            let format = format.as_deref().filter(|format| !format.is_empty());
            let from = match from {
                Some(given) => Some(when("from", given, None)?),
                None => start.map(|given| when("start_time", given, format)).transpose()?,
            };
            let until = match until {
                Some(given) => Some(when("until", given, None)?),
                None => end.map(|given| when("end_time", given, format)).transpose()?,
            };
            Place::Span(from, until)
        }
    };
    let most = match most.map(RawValue::get).map(str::parse) {
        None => USUAL,
        Some(Ok(most)) if (1..=RECORDS).contains(&most) => most,
        Some(_) => return bad(format!("most must be a number from 1 to {RECORDS}")),
    };
    Ok(LogsRequest { place, most, of: services(logs)? })
}

/// A moment in the words of the original's `time_format`; without one seconds of UTC or RFC 3339.
fn when(field: &str, given: &RawValue, format: Option<&str>) -> Result<When, Error> {
    let words = json::string(given);
    let words = words.as_deref().unwrap_or_else(|| given.get()).trim();
    let number = || words.parse::<i64>().ok();
    let ago = |unit: Duration| {
        let back = number().filter(|number| *number <= 0)?.unsigned_abs();
        let unit = u64::try_from(unit.as_millis()).ok()?;
        back.checked_mul(unit).map(When::Ago)
    };
    let at = |factor: u64| {
        let number = u64::try_from(number()?).ok()?;
        number.checked_mul(factor).map(When::At)
    };
    let day = Duration::from_secs(86_400);
    let moment = match format {
        None => parse_time(words).map(When::At).or_else(|| at(1_000)),
        Some("time_t_seconds") => at(1_000),
        Some("epoch_mseconds") => at(1),
        Some("relative_second") => ago(Duration::from_secs(1)),
        Some("relative_day") => ago(day),
        Some("relative_month") => ago(day * 30),
        Some(_) => {
            return bad(
                "time_format must be time_t_seconds, epoch_mseconds, relative_second, relative_day, \
                        relative_month, or absent for RFC 3339",
            );
        }
    };
    match moment {
        Some(moment) => Ok(moment),
        None => bad(format!("{field} is no moment in this form")),
    }
}

/// Names of ours. Those of the original's logs are known and hold nothing here; none at all is all.
fn services(logs: Option<&RawValue>) -> Result<Option<Vec<Service>>, Error> {
    let Some(logs) = logs else { return Ok(None) };
    let names = match (json::string(logs), json::array(logs, NAMES)) {
        (Some(name), _) => vec![name],
        (None, Some(items)) => match items.into_iter().map(json::string).collect() {
            Some(names) => names,
            None => return bad("logs must be a string or an array of strings"),
        },
        (None, None) => return bad("logs must be a string or an array of at most 16 strings"),
    };
    if names.iter().all(|name| name.is_empty()) {
        return Ok(None);
    }
    let named = |service: &Service| names.iter().any(|name| name.eq_ignore_ascii_case(service.name()));
    Ok(Some(Service::ALL.into_iter().filter(named).collect()))
}

/// The lines are JSON objects: the back end has looked.
pub(super) fn write_records(out: &mut Vec<u8>, records: &Records) {
    out.extend_from_slice(br#"{"missing":"#);
    write_names(out, &records.missing);
    out.extend_from_slice(br#","next":"#);
    match records.next {
        Some(next) => write_string(out, &next.text()),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(br#","records":["#);
    for (place, line) in records.lines.iter().enumerate() {
        let comma = if place == 0 { "" } else { "," };
        put(out, format_args!("{comma}{line}"));
    }
    out.extend_from_slice(br#"],"unread":"#);
    write_names(out, &records.unread);
    out.push(b'}');
}

fn write_names(out: &mut Vec<u8>, names: &[&str]) {
    out.push(b'[');
    for (place, name) in names.iter().enumerate() {
        let comma = if place == 0 { "" } else { "," };
        put(out, format_args!(r#"{comma}"{name}""#));
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::dialect::sysadm;

    fn decoded(args: serde_json::Value) -> Call {
        let text = json!({"namespace": "rpc", "name": "logs", "args": args}).to_string();
        let request = sysadm::decode(&text, 32).request.expect("an envelope");
        if !matches!(request.call, Call::Absent) {
            assert_eq!(request.subject.map(|subject| subject.action.name), Some("read_logs"));
        }
        request.call
    }

    fn asked(mut args: serde_json::Value) -> LogsRequest {
        args["action"] = "read_logs".into();
        match decoded(args) {
            Call::Logs(request) => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn times_are_taken_in_our_forms_and_in_the_originals() {
        let at = |seconds: u64| When::At(seconds * 1_000);
        for (args, from, until) in [
            (json!({}), None, None),
            (json!({"from": 5, "until": "7"}), Some(at(5)), Some(at(7))),
            (json!({"from": "2026-11-23T10:11:12Z"}), Some(at(1_795_428_672)), None),
            (json!({"from": "2026-11-23T11:11:12.5+01:00"}), Some(When::At(1_795_428_672_500)), None),
            (json!({"start_time": "2026-11-23T10:11:12Z"}), Some(at(1_795_428_672)), None),
            (
                json!({"time_format": "time_t_seconds", "start_time": "5", "end_time": 6}),
                Some(at(5)),
                Some(at(6)),
            ),
            (json!({"time_format": "epoch_mseconds", "start_time": 5}), Some(When::At(5)), None),
            (
                json!({"time_format": "relative_second", "start_time": "-3600", "end_time": 0}),
                Some(When::Ago(3_600_000)),
                Some(When::Ago(0)),
            ),
            (json!({"time_format": "relative_day", "start_time": -2}), Some(When::Ago(172_800_000)), None),
            (
                json!({"time_format": "relative_month", "start_time": -1}),
                Some(When::Ago(2_592_000_000)),
                None,
            ),
            (json!({"from": 1, "start_time": 2}), Some(at(1)), None),
        ] {
            let said = args.to_string();
            assert_eq!(asked(args).place, Place::Span(from, until), "{said}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_a_bad_request() {
        for args in [
            json!({"from": "yesterday"}),
            json!({"from": -1}),
            json!({"from": u64::MAX}),
            json!({"from": {}}),
            json!({"from": 1.5}),
            json!({"time_format": "dd.MM.yyyy", "start_time": "1.1.2026"}),
            json!({"time_format": "relative_second", "start_time": 5}),
            json!({"time_format": "relative_month", "start_time": i64::MIN}),
            json!({"most": 0}),
            json!({"most": 10_001}),
            json!({"most": "5"}),
            json!({"after": "5"}),
            json!({"after": "1-2-3-4-5", "from": 1}),
            json!({"logs": 5}),
            json!({"logs": vec!["x"; 17]}),
        ] {
            let said = args.to_string();
            let mut args = args;
            args["action"] = "read_logs".into();
            assert!(matches!(decoded(args), Call::Malformed(Error::BadRequest(_))), "{said}");
        }
        assert!(matches!(decoded(json!({"action": "write_logs"})), Call::Absent));
    }

    #[test]
    fn logs_are_services_and_no_name_is_all_of_them() {
        for (logs, of) in [
            (json!(""), None),
            (json!([]), None),
            (json!("authd"), Some(vec![Service::Authd])),
            (json!(["Gateway", "certd"]), Some(vec![Service::Certd, Service::Gateway])),
            (json!(["hostinfo", "events-state"]), Some(vec![])),
        ] {
            assert_eq!(asked(json!({"logs": logs})).of, of, "{logs}");
        }
        let asked = asked(json!({"after": "1-2-3-4-5", "most": 7}));
        let cursor = Cursor { from: 1, until: 2, known: [3, 4, 5] };
        assert_eq!((asked.place, asked.most, asked.of), (Place::After(cursor), 7, None));
    }

    #[test]
    fn a_reply_is_json_with_the_records_as_they_are() {
        let mut out = Vec::new();
        write_records(&mut out, &Records::default());
        assert_eq!(out, br#"{"missing":[],"next":null,"records":[],"unread":[]}"#);
        let records = Records {
            lines: vec![r#"{"time":"a"}"#.to_owned(), r#"{"time":"b","user":"\u00e9"}"#.to_owned()],
            next: Some(Cursor { from: 1, until: 2, known: [0, 1, 2] }),
            unread: vec!["authd", "gateway"],
            missing: vec!["certd"],
        };
        let mut out = Vec::new();
        write_records(&mut out, &records);
        let text = String::from_utf8(out).expect("text");
        assert_eq!(
            text,
            "{\"missing\":[\"certd\"],\"next\":\"1-2-0-1-2\",\"records\":[{\"time\":\"a\"},\
             {\"time\":\"b\",\"user\":\"\\u00e9\"}],\"unread\":[\"authd\",\"gateway\"]}"
        );
        serde_json::from_str::<serde_json::Value>(&text).expect("JSON");
    }
}
