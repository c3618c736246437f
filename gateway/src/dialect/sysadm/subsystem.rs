//! Subsystems: what is asked of them, what they report, and what they say of themselves.

use serde_json::value::RawValue;

use super::{
    bad,
    json::{NoMembers, members},
    object, put, right_in_words, text, write_echo, write_string,
};
use crate::{
    call::{Call, Described, Error, SubsystemName, SubsystemRequest},
    dialect::Envelope,
    plain::is_plain,
};

/// Said of args whose meaning depends on who reads them.
const UNLIKE: &str = "args is not JSON, or has a lone surrogate or a number that is not finite";

/// The args of a subsystem are its own; only the action is read here.
pub(super) fn decode(name: SubsystemName, args: &str) -> Call {
    Call::Subsystem(Box::new(SubsystemRequest {
        name,
        action: action(args),
        args: args.to_owned(),
        reads_only: false,
    }))
}

fn action(args: &str) -> Result<Option<Box<str>>, Error> {
    // What is read as no action here could be read as one there.
    if !is_plain(args) {
        return bad(UNLIKE);
    }
    let found = match members(args, &["action"]) {
        Ok(found) => found,
        Err(NoMembers::NotObject) => return Ok(None),
        Err(NoMembers::NotJson) => return bad(UNLIKE),
    };
    if let Some(twice) = found.twice {
        // Two readers could read two different actions.
        return bad(format!("{twice} is given twice"));
    }
    let [action] = found.values;
    Ok(text("action", action)?.map(|action| action.to_ascii_lowercase().into()))
}

/// The args of `rpc/describe`: `{"name": "NAMESPACE/NAME"}`.
pub(super) fn decode_describe(args: &str) -> Call {
    let name = object(args, &["name"]).and_then(|[name]| match text("name", name)? {
        Some(name) => {
            Ok(name.split_once('/').and_then(|(first, second)| SubsystemName::parse(first, second)))
        }
        None => bad("name is missing"),
    });
    name.map_or_else(Call::Malformed, Call::Describe)
}

/// The args of `rpc/cancel`: `{"id": ID}`, where an id is any JSON.
pub(super) fn decode_cancel(args: &str) -> Call {
    match object(args, &["id"]) {
        Ok([Some(id)]) => Call::Cancel(id.get().to_owned()),
        Ok([None]) => Call::Malformed(Error::BadRequest("id is missing".into())),
        Err(error) => Call::Malformed(error),
    }
}

/// Writes a report of progress as one message.
pub fn encode_progress(echo: &Envelope<'_>, args: &RawValue) -> Vec<u8> {
    let mut out = Vec::with_capacity(96 + echo.id.len() + echo.namespace.len() + args.get().len());
    out.extend_from_slice(br#"{"args":"#);
    out.extend_from_slice(args.get().as_bytes());
    write_echo(&mut out, echo, "progress");
    out
}

pub(super) fn write_described(out: &mut Vec<u8>, described: &Described) {
    let Described { name, version, help, actions, events } = described;
    put(out, format_args!(r#"{{"namespace":"{}","name":"{}","version":"#, name.namespace(), name.name()));
    write_string(out, version);
    out.extend_from_slice(br#","help":"#);
    write_string(out, help);
    out.extend_from_slice(br#","actions":{"#);
    for (place, action) in actions.iter().enumerate() {
        let comma = if place == 0 { "" } else { "," };
        let right = right_in_words(action.right);
        put(out, format_args!(r#"{comma}"{}":{{"right":"{right}","help":"#, action.name));
        write_string(out, &action.help);
        put(out, format_args!(r#","streams":{}"#, action.streams));
        if let Some(schema) = &action.args {
            out.extend_from_slice(br#","args":"#);
            out.extend_from_slice(schema.as_bytes());
        }
        out.push(b'}');
    }
    out.extend_from_slice(br#"},"events":{"#);
    for (place, (name, help)) in events.iter().enumerate() {
        let comma = if place == 0 { "" } else { "," };
        put(out, format_args!(r#"{comma}"{name}":"#));
        write_string(out, help);
    }
    out.extend_from_slice(b"}}");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        call::{DescribedAction, Right},
        dialect::sysadm,
    };

    fn decoded(text: &str) -> Call {
        sysadm::decode(text, 32).request.expect("an envelope").call
    }

    fn request(args: &str) -> SubsystemRequest {
        match decoded(&format!(r#"{{"namespace":"Example","name":"A","args":{args}}}"#)) {
            Call::Subsystem(request) => *request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_action_is_read_and_the_args_are_kept_as_they_are() {
        for (args, action) in [
            (r#"{"action": "List",  "x":1}"#, Ok(Some("list".into()))),
            (r#"{"x":1}"#, Ok(None)),
            ("[1]", Ok(None)),
            ("\"list\"", Ok(None)),
            (r#"{"action":7}"#, bad("action must be a string")),
            (r#"{"\ud800":1,"action":"delete"}"#, bad(UNLIKE)),
            (r#"{"a":"\udc00","action":"delete"}"#, bad(UNLIKE)),
            (r#"["\ud800"]"#, bad(UNLIKE)),
            ("1e999", bad(UNLIKE)),
            (r#"{"action":"a","action":"b"}"#, bad("action is given twice")),
        ] {
            let found = request(args);
            assert_eq!((found.name.as_str(), found.args.as_str()), ("example/a", args));
            assert_eq!(found.action, action, "{args}");
        }
    }

    #[test]
    fn without_args_they_are_the_object_without_its_envelope() {
        for (rest, args, action) in [
            (r#","action":"x","id":"7","y": [1]"#, r#"{"action":"x","y":[1]}"#, Ok(Some("x".into()))),
            ("", "{}", Ok(None)),
            (r#","action":"a","action":"b""#, r#"{"action":"a","action":"b"}"#, bad("action is given twice")),
        ] {
            let whole = format!(r#"{{"namespace":"example","name":"a"{rest}}}"#);
            let Call::Subsystem(found) = decoded(&whole) else { panic!("no subsystem") };
            assert_eq!((found.args.as_str(), found.action), (args, action), "{whole}");
        }
        let unlike = r#"{"namespace":"example","name":"a","x":"\udc00","action":"delete"}"#;
        let Call::Subsystem(found) = decoded(unlike) else { panic!("no subsystem") };
        assert_eq!(found.action, bad(UNLIKE));
    }

    #[test]
    fn an_id_is_a_json_text() {
        for (args, id) in [(r#"{"id":"a"}"#, r#""a""#), (r#"{"id":[1, 2]}"#, "[1, 2]")] {
            let text = format!(r#"{{"namespace":"rpc","name":"cancel","id":"own","args":{args}}}"#);
            assert!(matches!(decoded(&text), Call::Cancel(found) if found == id), "{args}");
        }
        let own = r#"{"namespace":"rpc","name":"cancel","id":7}"#;
        assert!(matches!(decoded(own), Call::Cancel(found) if found == "7"));
        let none = r#"{"namespace":"rpc","name":"cancel"}"#;
        assert!(matches!(decoded(none), Call::Malformed(_)));
    }

    #[test]
    fn what_is_described_has_two_words() {
        let describe = |args: &str| {
            let text = format!(r#"{{"namespace":"rpc","name":"describe","args":{args}}}"#);
            match decoded(&text) {
                Call::Describe(name) => Ok(name.map(|name| name.as_str().to_owned())),
                Call::Malformed(Error::BadRequest(why)) => Err(why.into_owned()),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(describe(r#"{"name":"SysAdm/A"}"#), Ok(Some("sysadm/a".to_owned())));
        for name in ["a", "a/b/c", "", "/"] {
            assert_eq!(describe(&json!({"name": name}).to_string()), Ok(None), "{name}");
        }
        assert_eq!(describe("{}"), Err("name is missing".to_owned()));
        assert_eq!(describe("[]"), Err("args must be an object".to_owned()));
    }

    #[test]
    fn a_description_is_json_whatever_the_texts() {
        let action = |name: &str, args: Option<&str>| DescribedAction {
            name: name.into(),
            right: Right::Write,
            help: "a \"b\"".into(),
            streams: true,
            args: args.map(Into::into),
        };
        let mut out = Vec::new();
        write_described(
            &mut out,
            &Described {
                name: SubsystemName::parse("example", "a").expect("a name"),
                version: "1\"".into(),
                help: "h".into(),
                actions: vec![action("x", None), action("y", Some(r#"{"type":"object"}"#))],
                events: vec![("e".into(), "an event".into())],
            },
        );
        let found: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!(
            found,
            json!({"namespace": "example", "name": "a", "version": "1\"", "help": "h", "actions": {
                "x": {"right": "read/write", "help": "a \"b\"", "streams": true},
                "y": {"right": "read/write", "help": "a \"b\"", "streams": true, "args": {"type": "object"}},
            }, "events": {"e": "an event"}})
        );
    }
}
