//! Events: subscriptions to them, and the events themselves.

use std::time::Duration;

use serde_json::value::RawValue;

use super::{bad, json, put, write_string};
use crate::{
    call::{Call, EVENTS_MAX, EndReason, Error, EventName, EventNames, Listen},
    hub::Event,
};

/// The args of `events/subscribe` and `events/unsubscribe`: a name or an array of names.
pub(super) fn decode(listen: Listen, args: &str) -> Call {
    match names(args) {
        Ok(names) => Call::Listen(listen, names),
        Err(error) => Call::Malformed(error),
    }
}

fn names(args: &str) -> Result<EventNames, Error> {
    let Ok(args) = serde_json::from_str::<&RawValue>(args) else { return bad("args is not JSON") };
    if let Some(name) = json::string(args) {
        return Ok(EventNames::One(EventName::parse(&name)));
    }
    let Some(items) = json::array(args, EVENTS_MAX) else {
        return bad(format!("args must be the name of an event, or an array of at most {EVENTS_MAX}"));
    };
    let mut names = Vec::new();
    for item in items {
        let Some(name) = json::string(item) else { return bad("the name of an event must be a string") };
        names.extend(EventName::parse(&name).filter(|name| !names.contains(name)));
    }
    Ok(EventNames::Several(names))
}

/// `{"subscribe": ...}` or `{"unsubscribe": ...}`.
pub(super) fn write_names(out: &mut Vec<u8>, listen: Listen, names: &EventNames) {
    let verb = match listen {
        Listen::Subscribe => "subscribe",
        Listen::Unsubscribe => "unsubscribe",
    };
    put(out, format_args!(r#"{{"{verb}":"#));
    let several = matches!(names, EventNames::Several(_));
    if several {
        out.push(b'[');
    }
    for (place, name) in names.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        write_string(out, name.as_str());
    }
    out.extend_from_slice(if several { b"]}" } else { b"}" });
}

/// Writes a published event as one message.
pub fn encode_event(event: &Event) -> Vec<u8> {
    write_event(event.name.as_str(), event.args.get())
}

/// Writes the event that tells a client that its session has ended.
pub fn encode_ended(reason: EndReason) -> Vec<u8> {
    encode_auth(
        match reason {
            EndReason::Idle | EndReason::Expired => "expired",
            EndReason::Cleared | EndReason::Revoked => "revoked",
        },
        0,
    )
}

/// Writes the event that tells a client how much is left of its session's whole life.
pub fn encode_expiring(left: Duration) -> Vec<u8> {
    encode_auth("expiring", left.as_millis().div_ceil(1_000))
}

fn encode_auth(reason: &str, seconds: u128) -> Vec<u8> {
    write_event("auth", &format!(r#"{{"reason":"{reason}","seconds":{seconds}}}"#))
}

fn write_event(name: &str, args: &str) -> Vec<u8> {
    format!(r#"{{"args":{args},"id":"","name":"{name}","namespace":"events"}}"#).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::sysadm;

    fn decoded(args: &str) -> Call {
        let text = format!(r#"{{"namespace":"Events","name":"SUBSCRIBE","args":{args}}}"#);
        let request = sysadm::decode(&text, 32).request.expect("an envelope");
        assert_eq!(request.subject.map(|subject| subject.row.name), Some("subscribe"));
        request.call
    }

    fn listed(args: &str) -> String {
        match decoded(args) {
            Call::Listen(Listen::Subscribe, EventNames::One(name)) => format!("{name:?}"),
            Call::Listen(Listen::Subscribe, EventNames::Several(names)) => format!("{names:?}"),
            Call::Malformed(Error::BadRequest(why)) => why.into_owned(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn args_are_a_name_or_an_array_of_names() {
        for (args, expected) in [
            (r#""auth""#, "Some(auth)"),
            (r#"" auth""#, "None"),
            (r#""""#, "None"),
            (r#"["auth","system-state","auth"]"#, "[auth, system-state]"),
            (r#"["AUTH","a"]"#, "[a]"),
            ("[]", "[]"),
            ("[1]", "the name of an event must be a string"),
            ("{}", "args must be the name of an event, or an array of at most 256"),
            ("7", "args must be the name of an event, or an array of at most 256"),
        ] {
            assert_eq!(listed(args), expected, "{args}");
        }
        let many = serde_json::to_string(&vec!["a"; EVENTS_MAX + 1]).expect("JSON");
        assert!(listed(&many).starts_with("args must be"));
        let absent = r#"{"namespace":"events","name":"subscribe"}"#;
        let call = sysadm::decode(absent, 32).request.expect("an envelope").call;
        assert!(matches!(call, Call::Malformed(_)), "the envelope is no name");
    }

    #[test]
    fn replies_have_the_form_of_the_request() {
        let name = EventName::parse("auth").expect("a name");
        for (listen, names, expected) in [
            (Listen::Subscribe, EventNames::One(Some(name.clone())), r#"{"subscribe":"auth"}"#),
            (Listen::Unsubscribe, EventNames::Several(vec![name.clone()]), r#"{"unsubscribe":["auth"]}"#),
            (
                Listen::Subscribe,
                EventNames::Several(vec![name.clone(), name]),
                r#"{"subscribe":["auth","auth"]}"#,
            ),
        ] {
            let mut out = Vec::new();
            write_names(&mut out, listen, &names);
            assert_eq!(String::from_utf8(out).expect("text"), expected);
        }
    }

    #[test]
    fn seconds_are_rounded_up() {
        for (millis, seconds) in [(60_000, 60), (59_001, 60), (59_000, 59), (0, 0)] {
            let text = String::from_utf8(encode_expiring(Duration::from_millis(millis))).expect("text");
            assert_eq!(
                text,
                format!(
                    r#"{{"args":{{"reason":"expiring","seconds":{seconds}}},"id":"","name":"auth","namespace":"events"}}"#
                )
            );
        }
    }
}
