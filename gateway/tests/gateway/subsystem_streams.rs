//! Calls of subsystems that take long: progress, cancelling, and what ends them.

use std::time::Duration;

use doorward_proto::authd::v1::EndReason;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    subsystems::{World, ask_code, request},
    support::{Client, code, until},
};

fn count(id: &str, args: Value) -> String {
    let mut args = args;
    args["action"] = json!("count");
    request("a", id, &args)
}

fn cancel(id: &Value) -> String {
    json!({"namespace": "rpc", "name": "cancel", "id": "c", "args": {"id": id}}).to_string()
}

/// The two replies to a cancel: to what was cancelled, and to the cancel.
async fn cancelled(client: &mut Client, id: &Value) -> (Value, Value) {
    client.send(cancel(id)).await;
    let (one, other) = (client.reply().await, client.reply().await);
    if one["id"] == "c" { (other, one) } else { (one, other) }
}

/// Waits until every call that hung was dropped, and not for long.
async fn dropped(fake: &crate::fake_subsystem::FakeSubsystem, count: usize) {
    let began = Instant::now();
    until(|| (fake.hanging() == (0, count)).then_some(())).await;
    // Within a second, and some for a machine that is busy.
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test]
async fn progress_comes_in_order_with_the_requests_id_and_then_one_reply() {
    let (world, _fake) = World::with("a", "").await;
    let (mut client, _) = world.gateway.alice().await;
    client
        .send(r#"{"namespace":"Example","name":"A","id":{"n":1},"args":{"action":"count","parts":5}}"#)
        .await;
    for n in 0..5 {
        let expected = json!({"namespace": "Example", "name": "progress", "id": {"n": 1}, "args": {"n": n}});
        assert_eq!(client.reply().await, expected);
    }
    let expected = json!({"namespace": "Example", "name": "response", "id": {"n": 1}, "args": {}});
    assert_eq!(client.reply().await, expected);
    assert_eq!(client.query().await, 0, "nothing more");
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_its_stream_up_and_nobody_elses() {
    let (world, fake) = World::with("a", "").await;
    let (mut slow, _) = world.gateway.alice().await;
    let (mut good, _) = world.gateway.alice().await;
    // 60 MB in all, of which the fake is asked for only as much as the way to the client holds.
    slow.send(count("s", json!({"parts": 1_000, "pad": 60_000}))).await;
    until(|| (fake.parts() > 0).then_some(())).await;
    let mut before = 0;
    for _ in 0..50 {
        assert_eq!(ask_code(&mut good, "a", json!({"action": "echo"})).await, 0);
        before = fake.parts();
    }
    assert!(before < 500, "{before} parts were read for nobody");
    for n in 0..1_000 {
        assert_eq!(slow.reply().await["args"]["n"], n);
    }
    assert_eq!(code(&slow.reply().await), 0);
}

#[tokio::test]
async fn a_cancel_ends_what_has_that_id_and_is_counted() {
    let (world, fake) = World::with("a", "").await;
    let (mut client, _) = world.gateway.alice().await;
    // A call, and a stream in the middle of its progress.
    client.send(request("a", "h", &json!({"action": "hang"}))).await;
    fake.hang(1).await;
    let (of_call, reply) = cancelled(&mut client, &json!("h")).await;
    assert_eq!((&reply["args"], code(&reply)), (&json!({"cancelled": 1}), 0));
    assert_eq!(of_call["args"], json!({"code": 499, "message": "Cancelled"}));
    assert_eq!((&of_call["id"], &of_call["namespace"]), (&json!("h"), &json!("example")));
    dropped(&fake, 1).await;
    client.send(count("s", json!({"parts": 2, "hang": true}))).await;
    assert_eq!(
        (client.reply().await["args"].clone(), client.reply().await["args"].clone()),
        (json!({"n": 0}), json!({"n": 1}))
    );
    let (of_stream, _) = cancelled(&mut client, &json!("s")).await;
    assert_eq!(code(&of_stream), 499);
    dropped(&fake, 2).await;
    // Nothing has this id, or it is another's.
    let (mut other, _) = world.gateway.alice().await;
    other.send(request("a", "o", &json!({"action": "hang"}))).await;
    fake.hang(1).await;
    for id in [json!("h"), json!("o"), json!(null)] {
        assert_eq!(client.call(cancel(&id)).await["args"], json!({"cancelled": 0}));
    }
    assert_eq!(fake.hanging().0, 1);
    // Without args, its own id is meant: of all requests that have it.
    for _ in 0..3 {
        client.send(request("a", "same", &json!({"action": "hang"}))).await;
    }
    fake.hang(4).await;
    client.send(r#"{"namespace":"rpc","name":"cancel","id":"same"}"#).await;
    let mut replies = Vec::new();
    for _ in 0..4 {
        replies.push(client.reply().await);
    }
    assert_eq!(replies.iter().filter(|reply| code(reply) == 499).count(), 3);
    assert_eq!(replies.iter().find(|reply| code(reply) == 0).expect("one")["args"], json!({"cancelled": 3}));
    fake.hang(1).await;
    // A session may cancel whatever its rights; who has none may not.
    let mut nobody = world.gateway.unix().await;
    assert_eq!(code(&nobody.call(cancel(&json!("o"))).await), 401);
    drop(other);
    fake.hang(0).await;
}

#[tokio::test]
async fn whoever_leaves_stops_the_work() {
    let (world, fake) = World::with("a", "").await;
    let (mut client, _) = world.gateway.alice().await;
    client.send(request("a", "h", &json!({"action": "hang"}))).await;
    client.send(count("s", json!({"hang": true}))).await;
    fake.hang(2).await;
    drop(client);
    dropped(&fake, 2).await;
}

#[tokio::test]
async fn the_end_of_a_session_stops_its_work_however_it_comes() {
    let (world, fake) = World::with("a", "").await;
    let hang = request("a", "h", &json!({"action": "hang"}));
    // By logging out: the connection stays.
    let (mut client, _) = world.gateway.alice().await;
    client.send(hang.clone()).await;
    fake.hang(1).await;
    client.send(r#"{"namespace":"rpc","name":"auth_clear"}"#).await;
    let reply = client.reply().await;
    assert_eq!((code(&reply), &reply["id"]), (401, &json!("h")));
    dropped(&fake, 1).await;
    // By going idle.
    let token = client.log_in("alice", "wonderland").await;
    client.send(hang.clone()).await;
    fake.hang(1).await;
    world.gateway.authd.end(&token, EndReason::Idle);
    assert_eq!(code(&client.reply().await), 401);
    dropped(&fake, 2).await;
    // By another login in its place.
    client.log_in("alice", "wonderland").await;
    client.send(hang.clone()).await;
    fake.hang(1).await;
    client.send(crate::support::auth("alice", "wonderland")).await;
    let (one, other) = (client.reply().await, client.reply().await);
    let codes = [&one, &other].map(|reply| (reply["id"].as_str().expect("an id").to_owned(), code(reply)));
    assert!(codes.contains(&("h".into(), 401)) && codes.contains(&("auth".into(), 0)), "{codes:?}");
    dropped(&fake, 3).await;
    // By somebody else, also where the client reads nothing.
    let (mut stuck, token) = world.gateway.alice().await;
    stuck.send(count("s", json!({"parts": 1_000, "pad": 60_000}))).await;
    stuck.send(hang).await;
    fake.hang(2).await;
    until(|| (fake.parts() > 3).then_some(())).await;
    world.gateway.authd.end(&token, EndReason::Revoked);
    dropped(&fake, 5).await;
}

#[tokio::test]
async fn what_is_stopped_ends_at_once_although_its_client_does_not_read_the_replies() {
    let (world, fake) = World::with("a", "").await;
    // The reply to each repeats it: far more than the socket's buffers hold.
    let long = "i".repeat(100_000);
    let clear = json!({"namespace": "rpc", "name": "auth_clear", "id": "c"}).to_string();
    let mut ended = 0;
    for end in [cancel(&json!(long)), clear, crate::support::auth("alice", "wonderland")] {
        let (mut client, _) = world.gateway.alice().await;
        for _ in 0..30 {
            client.send(request("a", &long, &json!({"action": "hang"}))).await;
        }
        fake.hang(30).await;
        client.send(end).await;
        ended += 30;
        dropped(&fake, ended).await;
    }
}

#[tokio::test]
async fn many_cancels_in_a_row_break_nothing_for_others() {
    let (world, fake) = World::with("a", "").await;
    let (mut client, _) = world.gateway.alice().await;
    let (mut other, _) = world.gateway.alice().await;
    other.send(request("a", "o", &json!({"action": "hang"}))).await;
    fake.hang(1).await;
    // Not one of them is looked at by then, as far as is known here.
    for n in 0..300 {
        client.send(request("a", "h", &json!({"action": "hang"}))).await;
        client.send(cancel(&json!("h"))).await;
        let (one, two) = (client.reply().await, client.reply().await);
        assert_eq!(code(&one).max(code(&two)), 499, "{n}");
    }
    assert_eq!(ask_code(&mut client, "a", json!({"action": "echo"})).await, 0);
    fake.hang(1).await;
    let (of_other, _) = cancelled(&mut other, &json!("o")).await;
    assert_eq!(code(&of_other), 499, "it hung all the time");
}

#[tokio::test]
async fn a_stream_that_falls_silent_is_408() {
    let (world, fake) = World::with("a", "silence_seconds = 1\nstream_seconds = 60").await;
    let (mut client, _) = world.gateway.alice().await;
    client.send(count("s", json!({"parts": 1, "hang": true}))).await;
    assert_eq!(client.reply().await["name"], "progress");
    assert_eq!(code(&client.reply().await), 408);
    fake.hang(0).await;
}

#[tokio::test]
async fn a_stream_has_an_end_however_much_it_says() {
    let (world, fake) = World::with("a", "stream_seconds = 1").await;
    let (mut client, _) = world.gateway.alice().await;
    client.send(count("s", json!({"parts": 1_000_000_000}))).await;
    let began = Instant::now();
    // Other requests are answered in between.
    client.send(r#"{"namespace":"rpc","name":"query","id":"q"}"#).await;
    let mut answered = false;
    loop {
        let reply = client.reply().await;
        match reply["id"].as_str() {
            Some("q") => answered = true,
            _ if reply["name"] == "progress" => {}
            _ => {
                assert_eq!(code(&reply), 408, "{reply}");
                break;
            }
        }
    }
    assert!(answered && began.elapsed() < Duration::from_secs(10));
    fake.hang(0).await;
}

#[tokio::test]
async fn a_crash_in_the_middle_of_a_stream_is_503() {
    let (world, mut fake) = World::with("a", "").await;
    let (mut client, _) = world.gateway.alice().await;
    client.send(count("s", json!({"parts": 1, "hang": true}))).await;
    assert_eq!(client.reply().await["name"], "progress");
    fake.kill().await;
    assert_eq!(code(&client.reply().await), 503);
}
