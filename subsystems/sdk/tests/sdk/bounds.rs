//! How much: args, results, depth, deadlines; and what a handler does wrong.

use doorward_proto::subsystem::v1::{DescribeRequest, Right};
use doorward_subsystem::bounds::{ARGS_MAX, CALLS_BY_ONE, CALLS_MAX, RESULT_MAX};
use serde_json::{Value, json};
use tonic::Code;

use crate::fixture::start;

#[tokio::test]
async fn args_are_what_the_schema_says() {
    let stage = start().await;
    for (args, says) in [
        (json!({ "note": "too long" }), "args/note"),
        (json!({ "note": 1 }), "args/note"),
        (json!({ "nota": "x" }), "nota"),
        (json!([]), "args"),
    ] {
        let (code, message) = stage.call("add", args.clone()).await.expect_err("against the schema");
        assert!(code == 400 && message.contains(says), "{args}: {code} {message}");
    }
    let with_action = json!({ "action": "Add", "note": "x" });
    assert_eq!(stage.call("add", with_action).await, Ok(json!(1)), "`action` is no stranger");
    stage.stop().await;
}

#[tokio::test]
async fn a_refused_call_uses_no_assertion_up() {
    let stage = start().await;
    let assertion = stage.authd.fresh();
    let add = |note: Value| stage.call_as(assertion.clone(), "add", json!({ "note": note }));
    assert_eq!(add(json!(7)).await.expect_err("against the schema").0, 400);
    assert_eq!(add(json!("x")).await, Ok(json!(1)));
    stage.stop().await;
}

#[tokio::test]
async fn args_that_are_no_json_or_too_long_are_refused() {
    let stage = start().await;
    let deep = "[".repeat(100_000);
    for args in ["", "{", "\u{0}", "nul", "{} {}", deep.as_str()] {
        let request = stage.request(stage.authd.fresh(), "echo", args.as_bytes());
        let refused = stage.send(request).await.expect_err("no JSON");
        assert_eq!(refused.0, 400, "{:.20}", args);
    }
    let request = stage.request(stage.authd.fresh(), "echo", b"\"\xff\xfe\"");
    assert_eq!(stage.send(request).await.expect_err("no UTF-8").0, 400);
    let text = |length: usize| json!("x".repeat(length - 2));
    assert!(stage.call("echo", text(ARGS_MAX)).await.is_ok());
    assert_eq!(stage.call("echo", text(ARGS_MAX + 1)).await.expect_err("too long").0, 400);
    let huge = stage.request(stage.authd.fresh(), "echo", text(1 << 20).to_string().as_bytes());
    let refused = stage.client.clone().call(huge).await.expect_err("not even received");
    assert_eq!(refused.code(), Code::OutOfRange);
    stage.stop().await;
}

/// Nearly 128 KiB of JSON within texts of JSON, which serde_json's own values would be read from level by level.
fn json_within_texts() -> String {
    let (mut text, mut whole) = ("[".repeat(126), String::new());
    loop {
        let quoted = text.replace('\\', "\\u005c").replace('"', "\\u0022");
        let member = format!("{{\"$serde_json::private::RawValue\":\"{quoted}\"}}");
        if member.len() + 8 > ARGS_MAX {
            return whole;
        }
        whole = format!("{{\"x\":{member}}}");
        text = format!("{}{member}", "[".repeat(126));
    }
}

#[tokio::test]
async fn args_that_would_be_read_twice_are_refused() {
    let stage = start().await;
    let deep = json_within_texts();
    assert!((ARGS_MAX / 2..=ARGS_MAX).contains(&deep.len()), "{}", deep.len());
    for args in [&deep, r#"{"x":{"$serde_json::private::RawValue":"[1]"}}"#] {
        let request = stage.request(stage.authd.fresh(), "echo", args.as_bytes());
        let (code, message) = stage.send(request).await.expect_err("a reserved name");
        assert!(code == 400 && message.contains("reserved"), "{code} {message}");
    }
    assert!(stage.call("echo", json!({"RawValue": "[1]"})).await.is_ok(), "it is there for others");
    stage.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_args_is_told_without_their_values() {
    let stage = start().await;
    let (code, message) = stage.call("large", json!("hunter2")).await.expect_err("no number");
    assert_eq!((code, message.as_str()), (400, "args: invalid type, expected usize"));
    stage.stop().await;
}

#[tokio::test]
async fn a_result_that_is_too_long_is_a_fault() {
    let stage = start().await;
    assert!(stage.call("large", json!(RESULT_MAX - 2)).await.is_ok());
    assert_eq!(stage.call("large", json!(RESULT_MAX)).await.expect_err("too long").0, 500);
    stage.stop().await;
}

#[tokio::test]
async fn a_failure_has_its_code_and_a_fault_no_words() {
    let stage = start().await;
    for (which, code, message) in
        [("args", 400, "the note is bad"), ("gone", 404, "no such note"), ("fault", 500, "a fault")]
    {
        let failure = stage.call("fail", json!(which)).await.expect_err("fails");
        assert_eq!(failure, (code, message.to_owned()));
    }
    assert_eq!(stage.call("fail", json!(7)).await.expect_err("no text").0, 400, "by the handler's type");
    stage.stop().await;
}

#[tokio::test]
async fn a_panic_is_one_fault_and_others_go_on() {
    let stage = start().await;
    for _ in 0..3 {
        assert_eq!(stage.call("panic", json!(1)).await.expect_err("a defect").0, 500);
    }
    assert_eq!(stage.call("panic", Value::Null).await, Ok(Value::Null));
    stage.stop().await;
}

#[tokio::test]
async fn calls_at_once_are_bounded_and_one_user_leaves_places_for_others() {
    let mut stage = start().await;
    let mut under_way = Vec::new();
    for user in ["u1", "u2", "u3", "u4"] {
        let of_user = || stage.authd.with(json!({ "sub": user }));
        assert!(stage.call_as(of_user(), "echo", Value::Null).await.is_ok(), "{user} has places");
        for _ in 0..CALLS_BY_ONE {
            let request = stage.request(of_user(), "hang", b"null");
            let mut client = stage.client.clone();
            under_way.push(tokio::spawn(async move { client.call(request).await }));
        }
        for _ in 0..CALLS_BY_ONE {
            assert_eq!(stage.told().await, "began");
        }
        let of_user = stage.authd.with(json!({ "sub": user }));
        assert_eq!(stage.call_as(of_user, "echo", Value::Null).await.expect_err("no place").0, 429);
    }
    assert_eq!(under_way.len(), CALLS_MAX);
    assert_eq!(stage.call("echo", Value::Null).await.expect_err("no place").0, 429);
    under_way.iter().for_each(tokio::task::JoinHandle::abort);
    for _ in 0..CALLS_MAX {
        assert_eq!(stage.told().await, "dropped");
    }
    while stage.call("echo", Value::Null).await.is_err() {
        tokio::task::yield_now().await;
    }
    stage.stop().await;
}

#[tokio::test]
async fn it_describes_itself() {
    let stage = start().await;
    let description =
        stage.client.clone().describe(DescribeRequest {}).await.expect("described").into_inner();
    assert_eq!((description.namespace.as_str(), description.name.as_str()), ("test", "stage"));
    let action = |name: &str| {
        let found = description.actions.iter().find(|action| action.name == name).expect(name);
        (found.right(), found.streams, found.args_schema.is_empty())
    };
    assert_eq!(action("echo"), (Right::Read, false, true));
    assert_eq!(action("add"), (Right::Write, false, false));
    assert_eq!(action("count"), (Right::Read, true, true));
    assert_eq!(description.events.len(), 1);
    stage.stop().await;
}
