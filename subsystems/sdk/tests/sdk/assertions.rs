//! Who is believed: authd, for this subsystem, in time, and once for what writes.

use std::sync::atomic::Ordering;

use doorward_launch::Identity;
use doorward_proto::subsystem::v1::{DescribeRequest, subsystem_client::SubsystemClient};
use serde_json::{Value, json};

use crate::fixture::{connect, now, start, start_for};

#[tokio::test]
async fn the_caller_is_whom_authd_says() {
    let stage = start().await;
    let assertion = stage.authd.with(json!({ "sub": "bob" }));
    let answer = stage.call_as(assertion, "echo", json!({ "action": "ECHO", "a": 1 })).await;
    assert_eq!(answer, Ok(json!({ "args": { "a": 1 }, "user": "bob" })), "and `action` is taken out");
    stage.stop().await;
}

#[tokio::test]
async fn an_assertion_reads_often_and_writes_once() {
    let stage = start().await;
    let assertion = stage.authd.fresh();
    for _ in 0..3 {
        assert!(stage.call_as(assertion.clone(), "echo", Value::Null).await.is_ok());
    }
    let add = || stage.call_as(assertion.clone(), "add", json!({ "note": "x" }));
    assert_eq!(add().await, Ok(json!(1)));
    for _ in 0..2 {
        assert_eq!(add().await.expect_err("replayed").0, 401);
    }
    assert!(stage.call_as(assertion.clone(), "echo", Value::Null).await.is_ok());
    assert_eq!(stage.call("add", json!({ "note": "x" })).await, Ok(json!(2)));
    assert_eq!(stage.writes.load(Ordering::SeqCst), 2);
    stage.stop().await;
}

#[tokio::test]
async fn of_two_at_the_same_time_one_writes() {
    let stage = start().await;
    let assertion = stage.authd.fresh();
    let calls = (0..20).map(|_| stage.call_as(assertion.clone(), "add", json!({ "note": "x" })));
    let answers = futures_util::future::join_all(calls).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    assert_eq!(stage.writes.load(Ordering::SeqCst), 1);
    stage.stop().await;
}

#[tokio::test]
async fn what_was_signed_before_the_start_writes_nothing() {
    let stage = start().await;
    let assertion = stage.authd.with(json!({ "iat": now() - 30, "exp": now() + 30 }));
    let refused = stage.call_as(assertion.clone(), "add", json!({ "note": "x" })).await;
    assert_eq!(refused.expect_err("it may have been used").0, 401);
    assert!(stage.call_as(assertion, "echo", Value::Null).await.is_ok());
    stage.stop().await;
}

#[tokio::test]
async fn what_was_signed_in_the_second_of_the_start_writes_nothing_and_the_next_writes() {
    let before = now();
    let stage = start().await;
    let assertion = stage.authd.with(json!({ "iat": before, "exp": before + 60 }));
    let refused = stage.call_as(assertion, "add", json!({ "note": "x" })).await;
    assert_eq!(refused.expect_err("one that ran before may have used it").0, 401);
    assert_eq!(stage.call("add", json!({ "note": "x" })).await, Ok(json!(1)));
    stage.stop().await;
}

#[tokio::test]
async fn nobody_else_is_believed() {
    let stage = start().await;
    for (what, assertion) in stage.authd.forgeries() {
        for action in ["echo", "add", "no-such-action"] {
            let refused = stage.call_as(assertion.clone(), action, json!({ "note": "x" })).await;
            assert_eq!(refused.expect_err(what).0, 401, "{what}: {action}");
        }
    }
    assert_eq!(stage.writes.load(Ordering::SeqCst), 0);
    stage.stop().await;
}

#[tokio::test]
async fn a_right_to_read_is_none_to_write() {
    let stage = start().await;
    let note = json!({ "note": "x" });
    for (acl, action, code) in [
        (json!(["sysadm.test.stage.echo"]), "echo", None),
        (json!(["sysadm.test.stage.echo"]), "add", Some(403)),
        (json!(["sysadm.test.stage.*", "!sysadm.test.stage.add"]), "add", Some(403)),
        (json!(["sysadm.other.stage.#", "sysadm.test.stage"]), "echo", Some(403)),
        (json!([]), "echo", Some(403)),
        (json!(["#"]), "add", None),
        (json!(["#"]), "no-such-action", Some(404)),
        (json!([]), "no-such-action", Some(404)),
        (json!(["#"]), "ECHO", Some(404)),
        (json!(["#"]), "count", Some(404)),
    ] {
        let assertion = stage.authd.with(json!({ "acl": acl }));
        let answer = stage.call_as(assertion, action, note.clone()).await;
        assert_eq!(answer.err().map(|refused| refused.0), code, "{acl} {action}");
    }
    stage.stop().await;
}

#[tokio::test]
async fn without_authds_key_nobody_is_believed_and_it_may_come_later() {
    let stage = start().await;
    let key = stage.path().join("assertion.pub");
    let pem = std::fs::read(&key).expect("read");
    std::fs::remove_file(&key).expect("removed");
    assert_eq!(stage.call("echo", Value::Null).await.expect_err("no key").0, 503);
    std::fs::write(&key, pem).expect("written");
    assert!(stage.call("echo", Value::Null).await.is_ok());
    stage.stop().await;
}

#[tokio::test]
async fn another_uid_than_the_gateways_gets_no_answer() {
    let own = Identity::current().uid;
    let stage = start_for(own + 1).await;
    let mut client = stage.client.clone();
    client.describe(DescribeRequest {}).await.expect_err("a stranger");
    if let Ok(channel) = connect(stage.path().join("socket")).await {
        SubsystemClient::new(channel).describe(DescribeRequest {}).await.expect_err("a stranger");
    }
    stage.stop().await;
}
