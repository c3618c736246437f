//! What is recorded of calls.

use serde_json::{Value, json};

use crate::fixture::start;

#[tokio::test]
async fn each_call_has_one_record_that_says_whose_it_was_and_how_it_ended() {
    let mut stage = start().await;
    let _ = stage.call("echo", json!("secret args")).await;
    let assertion = stage.authd.fresh();
    let _ = stage.call_as(assertion.clone(), "add", json!({ "note": "x" })).await;
    let _ = stage.call_as(assertion, "add", json!({ "note": "x" })).await;
    let _ = stage.call("fail", json!("gone")).await;
    let _ = stage.call("panic", json!(1)).await;
    let _ = stage.call("no-such", Value::Null).await;
    let _ = stage.call_as(stage.authd.with(json!({ "acl": [] })), "echo", Value::Null).await;
    let _ = stage.call_as("x.y.z".into(), "echo", Value::Null).await;
    let _ = stage.call("add", json!(7)).await;
    let request = stage.request(stage.authd.fresh(), "hang", b"null");
    let mut client = stage.client.clone();
    let call = tokio::spawn(async move { client.call(request).await });
    assert_eq!(stage.told().await, "began");
    call.abort();
    assert_eq!(stage.told().await, "dropped");
    let directory = stage.path().to_owned();
    let found = loop {
        // The record follows the handler's end, which is what was told.
        let found = stage.records(&["event", "action", "reason", "user", "uid"]);
        if found.len() == 10 {
            break found;
        }
        tokio::task::yield_now().await;
    };
    let row = |event: &str, action: &str, reason: &str| {
        vec![json!(event), json!(action), json!(reason), json!("alice"), json!(1000)]
    };
    let mut stranger = row("call_refused", "echo", "not-authenticated");
    (stranger[3], stranger[4]) = (Value::Null, Value::Null);
    assert_eq!(
        found,
        [
            row("call", "echo", "done"),
            row("call", "add", "done"),
            row("call_refused", "add", "used"),
            row("call", "fail", "not-found"),
            row("call", "panic", "broke-off"),
            row("call_refused", "no-such", "no-such-action"),
            row("call_refused", "echo", "acl"),
            stranger,
            row("call_refused", "add", "bad-args"),
            row("call", "hang", "taken-back"),
        ]
    );
    let of = stage.records(&["session", "request", "method"]);
    assert_eq!(of[0], [json!("session-alice"), json!("request-7"), json!("password")]);
    let text = std::fs::read_to_string(directory.join("audit.jsonl")).expect("read");
    assert!(!text.contains("secret args") && !text.contains("jti-"), "{text}");
    stage.stop().await;
}

#[test]
fn the_page_for_authors_shows_the_example_that_is_compiled() {
    let page = include_str!("../../../../docs/subsystems.md");
    let example = include_str!("../../examples/notes.rs");
    let shown: Vec<&str> = page.lines().map(|line| line.strip_prefix("    ").unwrap_or(line)).collect();
    let (_, program) = example.split_once("\n\n").expect("a line that says what it is for");
    assert!(
        shown.join("\n").contains(program.trim_end()),
        "docs/subsystems.md differs from examples/notes.rs"
    );
}
