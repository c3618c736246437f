//! The table of a policy, and what it decides.

use std::time::Duration;

use super::*;
use crate::call::{ActionName, Facility, Pk, Secret, SessionId, Token, Who};

fn identity(kind: &str, user: &str, auth_id: &str, acl: &[&str]) -> Identity {
    Identity {
        session: SessionId(uuid::Uuid::nil()),
        token: Token::parse(Secret::new(uuid::Uuid::nil().to_string())).expect("a token"),
        who: Arc::new(Who { kind: kind.into(), user: user.into(), auth_id: auth_id.into() }),
        has_access: true,
        is_token: false,
        is_channel: false,
        turn: 0,
        acl: acl.iter().map(|entry| (*entry).to_owned()).collect(),
        issued: 0,
        expires: 0,
        idle: None,
        absolute_left: Duration::ZERO,
        rights: Duration::ZERO,
    }
}

fn parsed(text: &str) -> Result<Policies, String> {
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let path = directory.path().join("channels.toml");
    std::fs::write(&path, text).map_err(|error| error.to_string())?;
    Policies::read(&path).map_err(|error| {
        std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string)
    })
}

fn at(text: &str) -> Address {
    let (channel, pk) = match text.split_once('/') {
        Some((channel, pk)) => (channel, Some(Pk::parse(pk).expect("a pk"))),
        None => (text, None),
    };
    Address { channel: ChannelName::parse(channel).expect("a name"), pk, facility: Facility::default() }
}

const TABLE: &str = r#"
    [channels.news]
    subscribe = "anyone"
    publish = "anyone"
    [channels.hall]
    subscribe = "member"
    publish = "member"
    [channels.shut]
    subscribe = "nobody"
    publish = "nobody"
    [channels.group]
    subscribe = "acl"
    publish = "acl"
    [channels.desk]
    subscribe = ["ws.desk.me.#", "!ws.desk.1001.#"]
    publish = ["ws.desk._.publish"]
    [channels.terminal]
    handler = { socket = "/run/x.sock", user = "root" }
    [channels.ward]
    subscribe = "nobody"
    publish = "anyone"
    handler = { socket = "/run/y.sock", user = "root", seconds = 2 }
    [channels.user]
    publish = "member"
"#;

#[test]
fn who_may_what() {
    let policies = parsed(TABLE).expect("a table");
    let alice = identity("user", "alice", "1000", &["ws.group.1000.subscribe", "ws.group.7.#", "ws.hall.#"]);
    let bob = identity("user", "bob", "1001", &["ws.#", "!ws.group.7.publish"]);
    let thing = identity("terminal", "T 7", "0af6", &["ws.group.me.subscribe"]);
    let people = [None, Some(&alice), Some(&bob), Some(&thing)];
    // Of nobody, alice, bob, the terminal: y(es), n(o), a(sk), u(nsupported).
    for (place, verb, expected) in [
        ("news", "subscribe", "yyyy"),
        ("news/3", "publish", "yyyy"),
        ("hall", "subscribe", "nyyy"),
        ("hall/1", "publish", "nyyy"),
        ("shut", "subscribe", "nnnn"),
        ("shut", "publish", "nnnn"),
        ("group/1000", "subscribe", "nyyn"),
        ("group/0af6", "subscribe", "nnyy"),
        ("group", "subscribe", "nnyn"),
        ("group/7", "subscribe", "nyyn"),
        ("group/7", "publish", "nynn"),
        // A pk is no wildcard and nobody's word.
        ("group/*", "publish", "nnyn"),
        ("group/me", "subscribe", "nnyn"),
        ("desk/1000", "subscribe", "nynn"),
        ("desk/1001", "subscribe", "nnnn"),
        ("desk/0af6", "subscribe", "nnnn"),
        ("desk", "subscribe", "nnnn"),
        ("desk", "publish", "nyyy"),
        ("desk/_", "publish", "nnnn"),
        ("desk/1000", "publish", "nnnn"),
        // Absent, with a handler and without; and one's own.
        ("terminal", "subscribe", "naaa"),
        ("terminal/0af6", "subscribe", "naay"),
        ("terminal/0af6", "publish", "naaa"),
        ("user/alice", "subscribe", "nynn"),
        ("user/1000", "subscribe", "nnnn"),
        ("user/bob", "subscribe", "nnyn"),
        ("user", "subscribe", "nnnn"),
        ("user/alice", "publish", "nyyy"),
        ("other", "subscribe", "nnnn"),
        ("other/alice", "publish", "nnnn"),
        // Custom messages are the handler's, of those who may publish.
        ("news", "status", "uuuu"),
        ("other", "status", "uuuu"),
        ("terminal", "status", "naaa"),
        ("ward/3", "status", "naaa"),
        ("ward", "subscribe", "nnnn"),
        ("ward", "publish", "yyyy"),
    ] {
        let asked = match verb {
            "subscribe" => Verb::Subscribe,
            "publish" => Verb::Publish,
            other => Verb::Action(ActionName::parse(other).expect("a name")),
        };
        let decided = people.map(|who| match policies.decide(who, &at(place), &asked) {
            Decision::Allow => 'y',
            Decision::Deny => 'n',
            Decision::Ask(handler) => {
                assert_eq!(handler.channel, at(place).channel);
                'a'
            }
            Decision::Unsupported => 'u',
        });
        assert_eq!(decided.iter().collect::<String>(), expected, "{verb} {place}");
    }
}

#[test]
fn nobody_is_me_where_another_kind_is_meant_and_no_id_reaches_further_than_itself() {
    let policies = parsed(
        r#"
        [channels.desk]
        publish = ["ws.desk.me.publish"]
        [channels.lamp]
        publish = ["ws.lamp.me.#"]
        [channels.box]
        publish = "acl"
        "#,
    )
    .expect("a table");
    let alice = identity("user", "alice", "1000", &["ws.box.me.publish"]);
    let lamp = identity("lamp", "L", "1000", &["ws.box.me.publish"]);
    let mail = identity("lamp", "M", "a@example.org", &["ws.box.me.publish"]);
    let wild = identity("lamp", "W", "*", &["ws.box.me.publish"]);
    let reach = identity("lamp", "R", "a.publish", &["ws.box.me.#"]);
    for (who, place, expected) in [
        (&alice, "desk/1000", Decision::Allow),
        (&lamp, "desk/1000", Decision::Deny),
        (&lamp, "lamp/1000", Decision::Allow),
        (&lamp, "box/1000", Decision::Allow),
        (&mail, "lamp/a@example.org", Decision::Allow),
        (&mail, "box/a@example.org", Decision::Allow),
        (&wild, "lamp/1000", Decision::Deny),
        (&wild, "lamp/*", Decision::Allow),
        (&reach, "box/a", Decision::Deny),
        (&reach, "box/a.publish", Decision::Allow),
    ] {
        assert_eq!(policies.decide(Some(who), &at(place), &Verb::Publish), expected, "{who:?} {place}");
    }
}

#[test]
fn without_a_table_there_is_nothing_but_ones_own() {
    let none = Policies::read(Path::new("/nonexistent/channels.toml")).expect("no file is no fault");
    let root = identity("user", "root", "0", &["#"]);
    for (place, verb, expected) in [
        ("user/root", Verb::Subscribe, Decision::Allow),
        ("user/alice", Verb::Subscribe, Decision::Deny),
        ("user/root", Verb::Publish, Decision::Deny),
        ("news", Verb::Subscribe, Decision::Deny),
    ] {
        assert_eq!(none.decide(Some(&root), &at(place), &verb), expected, "{verb:?} {place}");
        assert_eq!(none.decide(None, &at(place), &verb), Decision::Deny, "{verb:?} {place}");
    }
}

#[test]
fn what_is_wrong_with_a_table_is_said_with_its_line() {
    for (text, expected) in [
        ("[channels.\"a b\"]", "a channel is called by"),
        ("[channels.a]\nsubscribe = \"everyone\"", ":2: channels.a.subscribe: \"everyone\" is none of"),
        ("[channels.a]\npublish = [\"sysadm.#\"]", ":2: channels.a.publish: \"sysadm.#\" does not begin"),
        ("[channels.a]\npublish = [\"ws..a\"]", "has an empty word"),
        ("[channels.a]\npublish = 1", "channels.toml:2"),
        ("[channels.a]\nspeak = \"anyone\"", "unknown field `speak`"),
        ("[channels.system]", "can be called so"),
        ("[channels.member]", "can be called so"),
        ("[channels.facility]", "can be called so"),
        ("channel = 1", "unknown field `channel`"),
        ("[channels.a]\nhandler = { socket = \"x\", user = \"root\" }", "must be an absolute path"),
        ("[channels.a]\nhandler = { socket = \"/x\", user = \"no such user\" }", "handler.user"),
        ("[channels.a]\nhandler = { socket = \"/x\", user = \"root\", seconds = 0 }", "must be from 1 to 30"),
    ] {
        let wrong = parsed(text).expect_err(text);
        assert!(wrong.contains(expected), "{text}: {wrong}");
    }
    let many: String = (0..=CHANNELS_MAX).map(|number| format!("[channels.c{number}]\n")).collect();
    assert!(parsed(&many).expect_err("too many").contains("at most 1024"));
    let long = format!("[channels.a]\npublish = [{}]", "\"ws.a\",".repeat(ENTRIES_MAX + 1));
    assert!(parsed(&long).expect_err("too many").contains("at most 64"));
}
