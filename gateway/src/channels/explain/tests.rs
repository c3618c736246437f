//! Questions about one table, and every sort of answer.

use serde_json::{Value, json};

use super::*;

const TABLE: &str = r#"
    [channels.news]
    subscribe = "anyone"
    publish = "nobody"
    [channels.hall]
    subscribe = "member"
    [channels.group]
    subscribe = "acl"
    publish = "acl"
    [channels.desk]
    subscribe = ["ws.desk.me.#", "!ws.desk.1001.#"]
    publish = "member"
    [channels.terminal]
    handler = { socket = "/run/x.sock", user = "root" }
"#;

fn asked(question: &Value) -> Result<Value, String> {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("channels.toml");
    std::fs::write(&path, TABLE).expect("written");
    let text = explain(&path, &question.to_string())?;
    let mut answer: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(answer["table"].take(), path.to_str().expect("UTF-8"));
    Ok(answer)
}

fn question(who: &Value, place: &str) -> Value {
    let (channel, pk) = place.split_once('/').map_or((place, None), |(channel, pk)| (channel, Some(pk)));
    json!({"who": who, "channel": channel, "pk": pk, "action": "status"})
}

#[test]
fn each_answer_names_what_decides() {
    let alice = json!({"kind": "user", "name": "alice", "id": "1000",
        "entries": ["ws.#", "!ws.group.7.publish", "ws.group.7.#"]});
    let bob = json!({"kind": "user", "name": "bob", "id": "1001", "entries": []});
    let thing = json!({"kind": "terminal", "id": "0af6"});
    // Answer, key, rule, the table's entry, the place of the session's.
    let row = |said: &Value| {
        ["answer", "key", "rule", "entry", "place"].map(|name| match &said[name] {
            Value::String(text) => text.clone(),
            Value::Null => "-".to_owned(),
            other => other.to_string(),
        })
    };
    for (who, place, verb, expected) in [
        (&Value::Null, "news", "subscribe", ["yes", "channels.news.subscribe", "anyone", "-", "-"]),
        (&alice, "news", "publish", ["no", "channels.news.publish", "nobody", "-", "-"]),
        (&Value::Null, "hall", "subscribe", ["no", "channels.hall", "-", "-", "-"]),
        (&thing, "hall", "subscribe", ["yes", "channels.hall.subscribe", "member", "-", "-"]),
        (&alice, "hall", "publish", ["no", "channels.hall", "-", "-", "-"]),
        (&alice, "group/7", "subscribe", ["yes", "channels.group.subscribe", "acl", "-", "0"]),
        (&alice, "group/7", "publish", ["no", "channels.group.publish", "acl", "-", "1"]),
        (&bob, "group/7", "publish", ["no", "channels.group.publish", "acl", "-", "-"]),
        (&thing, "group/7", "publish", ["unknown", "channels.group.publish", "acl", "-", "-"]),
        (
            &alice,
            "desk/1000",
            "subscribe",
            ["yes", "channels.desk.subscribe", "entries", "ws.desk.me.#", "-"],
        ),
        (
            &bob,
            "desk/1001",
            "subscribe",
            ["no", "channels.desk.subscribe", "entries", "!ws.desk.1001.#", "-"],
        ),
        (&thing, "desk/0af6", "subscribe", ["no", "channels.desk.subscribe", "entries", "-", "-"]),
        (&thing, "terminal/0af6", "subscribe", ["yes", "-", "-", "-", "-"]),
        (&thing, "terminal/0af6", "publish", ["handler", "channels.terminal.handler", "-", "-", "-"]),
        (&alice, "terminal/0af6", "action", ["handler", "channels.terminal.handler", "-", "-", "-"]),
        (&Value::Null, "terminal", "subscribe", ["no", "channels.terminal", "-", "-", "-"]),
        (&alice, "user/alice", "subscribe", ["yes", "-", "-", "-", "-"]),
        (&alice, "user/alice", "publish", ["no", "-", "-", "-", "-"]),
        (&alice, "elsewhere", "subscribe", ["no", "-", "-", "-", "-"]),
        (&alice, "hall", "action", ["no", "-", "-", "-", "-"]),
    ] {
        let answer = asked(&question(who, place)).expect("an answer");
        assert_eq!(row(&answer[verb]), expected, "{verb} {place} {who}: {answer}");
        assert!(answer[verb]["why"].as_str().is_some_and(|why| !why.is_empty()));
        let asks = answer[verb]["answer"] == "handler";
        assert_eq!(answer[verb]["handler"], if asks { json!("/run/x.sock") } else { Value::Null });
    }
}

#[test]
fn what_cannot_be_asked_is_said() {
    let alice = json!({"kind": "user", "name": "alice", "id": "1000", "entries": []});
    for (question, expected) in [
        (json!({}), "this is no question"),
        (json!({"channel": "a", "verb": "subscribe"}), "unknown field `verb`"),
        (json!({"channel": "a:b"}), "a channel is called by"),
        (json!({"channel": "a", "pk": "1:2"}), "a pk is"),
        (json!({"channel": "a", "action": ""}), "an action is"),
        (json!({"channel": "a", "who": {"kind": "a b", "id": "1"}}), "a kind is called by"),
        (json!({"channel": "a", "who": {"kind": "user", "id": "1"}}), "a local user has a name"),
    ] {
        let wrong = asked(&question).expect_err("no answer");
        assert!(wrong.contains(expected), "{question}: {wrong}");
    }
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("channels.toml");
    let asks = json!({"channel": "a", "who": alice}).to_string();
    let none: Value =
        serde_json::from_str(&explain(&path, &asks).expect("no file is no fault")).expect("JSON");
    assert_eq!((&none["table_exists"], &none["subscribe"]["answer"]), (&json!(false), &json!("no")));
    std::fs::write(&path, "[channels.a]\nsubscribe = \"everyone\"").expect("written");
    let wrong = explain(&path, &asks).expect_err("a bad table");
    assert!(wrong.contains("channels.toml:2: channels.a.subscribe"), "{wrong}");
}
