//! `rpc/sessions`: args and lists.

use uuid::Uuid;

use super::{object, put, settings::action, text, write_string};
use crate::{
    call::{Call, Error, ListedSession, SessionId, SessionsRequest},
    namespace::{Row, Subject},
};

/// What the args ask for; see `settings::decode`.
pub(super) fn decode(row: &'static Row, args: &str) -> (Option<Subject>, Call) {
    let action = match action(args) {
        Ok(action) => action,
        Err(error) => return (None, Call::Malformed(error)),
    };
    let Some(subject) = row.subject(&action) else { return (None, Call::Absent) };
    let request = match subject.action.name {
        "list" => Ok(SessionsRequest::List),
        "end" => end(args),
        "end_others" => Ok(SessionsRequest::EndOthers),
        _ => return (None, Call::Absent),
    };
    (Some(subject), request.map_or_else(Call::Malformed, Call::Sessions))
}

fn end(args: &str) -> Result<SessionsRequest, Error> {
    let [session] = object(args, &["session"])?;
    match text("session", session)? {
        Some(name) => Ok(SessionsRequest::End(session_id(&name))),
        None => super::bad("session is missing"),
    }
}

/// In the one form in which names of sessions are told.
fn session_id(text: &str) -> Option<SessionId> {
    let hyphenated = text.len() == uuid::fmt::Hyphenated::LENGTH;
    Uuid::try_parse(text).ok().filter(|_| hyphenated).map(SessionId)
}

/// A list, those that began first first.
pub(super) fn write_list(out: &mut Vec<u8>, sessions: &[ListedSession]) {
    out.push(b'[');
    for (place, session) in sessions.iter().enumerate() {
        let comma = if place == 0 { "" } else { "," };
        put(out, format_args!(r#"{comma}{{"current":{},"dialect":"#, session.current));
        write_string(out, &session.dialect);
        put(out, format_args!(r#","last_used":{},"method":"#, session.last_used));
        write_string(out, &session.method);
        put(out, format_args!(r#","session":"{}","source":"#, session.session.0.hyphenated()));
        write_string(out, &session.source);
        put(out, format_args!(r#","started":{},"user":"#, session.started));
        write_string(out, &session.user);
        out.push(b'}');
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::dialect::sysadm;

    const ONE: &str = "0af6c1a8-9c4d-4f0a-9a53-0123456789ab";

    fn decoded(args: serde_json::Value) -> (Option<&'static str>, Call) {
        let text = json!({"namespace": "rpc", "name": "sessions", "args": args}).to_string();
        let request = sysadm::decode(&text, 32).request.expect("an envelope");
        (request.subject.map(|subject| subject.action.name), request.call)
    }

    #[test]
    fn every_action_of_the_table_is_decoded() {
        for action in crate::namespace::find("rpc", "sessions").expect("in the table").actions {
            let (subject, call) = decoded(json!({"action": action.name, "session": ONE}));
            assert_eq!(subject, Some(action.name));
            assert!(matches!(call, Call::Sessions(_)), "{call:?}");
        }
        assert!(matches!(decoded(json!({"action": "close"})), (None, Call::Absent)));
    }

    #[test]
    fn a_name_has_one_form_and_what_has_another_is_nobodys() {
        let upper = ONE.to_uppercase();
        let (simple, braced) = (ONE.replace('-', ""), format!("{{{ONE}}}"));
        for (name, is_one) in [(ONE, true), (&upper, true), (&simple, false), (&braced, false), ("", false)] {
            let (_, call) = decoded(json!({"action": "end", "session": name}));
            let Call::Sessions(SessionsRequest::End(session)) = call else { panic!("{name}: {call:?}") };
            assert_eq!(session.is_some(), is_one, "{name}");
        }
    }

    #[test]
    fn wrong_args_are_told_what_is_wrong() {
        for (args, expected) in [
            (json!("list"), "args must be an object"),
            (json!({}), "action is missing"),
            (json!({"action": "end"}), "session is missing"),
            (json!({"action": "end", "session": 7}), "session must be a string"),
        ] {
            let (_, call) = decoded(args.clone());
            let Call::Malformed(Error::BadRequest(why)) = call else { panic!("{args}: {call:?}") };
            assert_eq!(why, expected);
        }
    }

    #[test]
    fn a_list_is_json_whatever_the_names() {
        let listed = ListedSession {
            session: SessionId(Uuid::try_parse(ONE).expect("a UUID")),
            user: "a\"b".into(),
            method: "password".into(),
            dialect: "sysadm".into(),
            source: "192.0.2.1".into(),
            started: 1,
            last_used: 2,
            current: true,
        };
        let mut out = Vec::new();
        write_list(&mut out, &[listed.clone(), ListedSession { current: false, ..listed }]);
        let found: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!(
            found[0],
            json!({"session": ONE, "user": "a\"b", "method": "password", "dialect": "sysadm",
                "source": "192.0.2.1", "started": 1, "last_used": 2, "current": true})
        );
        assert_eq!((&found[1]["current"], found.as_array().map(Vec::len)), (&json!(false), Some(2)));
    }
}
