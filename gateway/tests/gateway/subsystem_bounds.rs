//! What subsystems are told of a session, how much they are asked at once, and what they publish.

use std::time::Duration;

use doorward_proto::{authd::v1::EndReason, subsystem::v1::EventKind};
use serde_json::json;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    subsystems::{World, ask, ask_code, listed, request},
    support::{Client, PATIENCE, code, until, until_async},
    web::{Web, basic, bearer},
};

async fn subscribe(client: &mut Client, name: &str) -> u64 {
    let text = json!({"namespace": "events", "name": "subscribe", "id": "s", "args": name}).to_string();
    code(&client.call(text).await)
}

#[tokio::test]
async fn a_write_gets_an_assertion_of_its_own_and_reads_share_one() {
    let (world, fake) = World::with("a", "").await;
    let (mut client, _) = world.gateway.alice().await;
    for action in ["echo", "change", "echo", "change", "echo"] {
        assert_eq!(ask_code(&mut client, "a", json!({"action": action})).await, 0);
    }
    let words: Vec<_> = fake.received().into_iter().map(|call| call.assertion).collect();
    let word = |n: u32| format!("alice example/a {n}");
    assert_eq!(words, [0, 1, 0, 2, 0].map(word));
}

#[tokio::test]
async fn a_refused_assertion_is_asked_for_once_more() {
    let (world, fake) = World::with("a", "").await;
    let (mut client, _) = world.gateway.alice().await;
    fake.refuse("alice example/a 0");
    assert_eq!(
        ask(&mut client, "a", json!({"action": "echo"})).await["args"]["assertion"],
        "alice example/a 1"
    );
    fake.refuse("alice");
    assert_eq!(ask_code(&mut client, "a", json!({"action": "change"})).await, 500);
    assert_eq!(fake.received().len(), 4);
}

#[tokio::test]
async fn a_session_that_has_ended_gets_no_assertion() {
    let (world, fake) = World::with("a", "").await;
    let (mut client, token) = world.gateway.alice().await;
    world.gateway.authd.end_silently(&token);
    assert_eq!(ask_code(&mut client, "a", json!({"action": "change"})).await, 401);
    assert!(fake.received().is_empty());
}

#[tokio::test]
async fn one_more_than_a_user_is_given_at_once_is_429_and_others_are_answered() {
    let (world, fake) = World::with("a", "").await;
    let (mut client, _) = world.gateway.alice().await;
    for _ in 0..64 {
        client.send(request("a", "h", &json!({"action": "hang"}))).await;
    }
    fake.hang(64).await;
    // Another session makes no other user of her.
    let (mut other, _) = world.gateway.alice().await;
    assert_eq!(ask_code(&mut other, "a", json!({"action": "echo"})).await, 429);
    let mut dora = world.gateway.unix().await;
    dora.log_in("dora", "explorer").await;
    assert_eq!(ask_code(&mut dora, "a", json!({"action": "echo"})).await, 0);
    // It is asked on another connection whether it is well.
    assert_eq!(listed(&mut other).await, json!({"example/a": "read/write"}));
    let cancel = r#"{"namespace":"rpc","name":"cancel","id":"h"}"#;
    client.send(cancel).await;
    until_async(async || ask_code(&mut other, "a", json!({"action": "echo"})).await == 0).await;
    other.send(request("a", "h", &json!({"action": "hang"}))).await;
    fake.hang(1).await;
    drop((client, other));
    fake.hang(0).await;
    let (mut other, _) = world.gateway.alice().await;
    for _ in 0..64 {
        other.send(request("a", "h", &json!({"action": "hang"}))).await;
    }
    fake.hang(64).await;
}

#[tokio::test]
async fn whoever_does_not_read_what_was_answered_keeps_nobody_else_from_calling() {
    let (world, fake) = World::with("a", "").await;
    fake.hold(true);
    let mut slow = Vec::new();
    for name in ["number-1", "number-2", "number-3", "number-4"] {
        let mut client = world.gateway.unix().await;
        client.log_in(name, "everything").await;
        for _ in 0..64 {
            client.send(request("a", "w", &json!({"action": "wait"}))).await;
        }
        slow.push(client);
    }
    fake.hang(256).await;
    let (mut other, _) = world.gateway.alice().await;
    assert_eq!(ask_code(&mut other, "a", json!({"action": "echo"})).await, 429);
    futures_util::future::join_all(slow.iter_mut().map(Client::stops_reading)).await;
    fake.hold(false);
    fake.hang(0).await;
    until_async(async || ask_code(&mut other, "a", json!({"action": "echo"})).await == 0).await;
    // What they have not taken is their own still.
    let mut own = world.gateway.unix().await;
    own.log_in("number-1", "everything").await;
    assert_eq!(ask_code(&mut own, "a", json!({"action": "echo"})).await, 429);
    drop(slow);
    until_async(async || ask_code(&mut own, "a", json!({"action": "echo"})).await == 0).await;
}

#[tokio::test]
async fn one_that_does_not_answer_for_itself_twice_is_down() {
    let (world, fake) = World::with("a", "").await;
    let (mut client, _) = world.gateway.alice().await;
    client.send(request("a", "h", &json!({"action": "hang"}))).await;
    fake.hang(1).await;
    fake.deafen(true);
    world.is_up("a", false).await;
    assert_eq!(code(&client.reply().await), 503, "what was under way ends with it");
    fake.deafen(false);
    world.is_up("a", true).await;
}

#[tokio::test]
async fn events_are_those_that_are_allowed_and_described() {
    let (world, mut fake) = World::with("a", "events = [\"a-ticked\", \"a-never\"]").await;
    let (mut client, _) = world.gateway.alice().await;
    fake.heard().await;
    assert_eq!(subscribe(&mut client, "a-ticked").await, 0);
    assert_eq!(subscribe(&mut client, "a-never").await, 400, "it is not described");
    // Of these only the last is an event.
    fake.tell("a-never", "1");
    fake.tell("auth", "{}");
    fake.tell("a-ticked", "{");
    fake.tell("a-ticked", b"\"\xff\"".to_vec());
    fake.tell("a-ticked", format!("\"{}\"", "x".repeat(64 << 10)));
    fake.tell("a-ticked", r#"{"n": 1}"#);
    let expected = json!({"namespace": "events", "name": "a-ticked", "id": "", "args": {"n": 1}});
    assert_eq!(client.reply().await, expected);
    // Who comes later hears the last; who may call nothing of it, nothing.
    let (mut later, _) = world.gateway.alice().await;
    assert_eq!(subscribe(&mut later, "a-ticked").await, 0);
    assert_eq!(later.reply().await, expected);
    // It goes away, and the event with it; subscriptions stay for when it is back.
    fake.kill().await;
    world.is_up("a", false).await;
    let (mut last, _) = world.gateway.alice().await;
    assert_eq!(subscribe(&mut last, "a-ticked").await, 400);
    fake.resume();
    fake.heard().await;
    fake.tell("a-ticked", "2");
    assert_eq!(client.reply().await["args"], 2);
}

#[tokio::test]
async fn an_event_that_no_registration_allows_is_not_published() {
    let (world, fake) = World::with("a", "events = [\"b-ticked\"]").await;
    fake.describe(|said| said.events.push(EventKind { name: "b-ticked".into(), help: String::new() }));
    let (mut client, _) = world.gateway.alice().await;
    until_async(async || subscribe(&mut client, "b-ticked").await == 0).await;
    fake.heard().await;
    assert_eq!(subscribe(&mut client, "a-ticked").await, 400);
    fake.tell("a-ticked", "1");
    fake.tell("b-ticked", "2");
    assert_eq!(client.reply().await["args"], 2);
}

#[tokio::test]
async fn a_thousand_events_a_second_reach_a_hundred_subscribers_and_none_is_lost() {
    const SECONDS: u64 = 3;
    let (world, fake) = World::with("a", "events = [\"a-ticked\"]").await;
    fake.heard().await;
    let mut readers = Vec::new();
    for _ in 0..100 {
        let (mut client, _) = world.gateway.alice().await;
        assert_eq!(subscribe(&mut client, "a-ticked").await, 0);
        readers.push(tokio::spawn(async move {
            for n in 0..SECONDS * 1_000 {
                assert_eq!(client.reply().await["args"]["n"], n);
            }
            client.query().await
        }));
    }
    let (mut deaf, _) = world.gateway.alice().await;
    assert_eq!(subscribe(&mut deaf, "a-ticked").await, 0);
    // Large enough that the socket of one that does not read is full before its inbox is.
    let pad = "x".repeat(1_000);
    let began = Instant::now();
    for n in 0..SECONDS * 1_000 {
        fake.tell("a-ticked", json!({"n": n, "pad": pad}).to_string());
        if n % 10 == 9 {
            tokio::time::sleep_until(began + Duration::from_millis(n + 1)).await;
        }
    }
    for reader in readers {
        assert_eq!(reader.await.expect("all of them"), 0);
    }
    let closed = timeout(PATIENCE, async {
        loop {
            if let Message::Close(frame) = deaf.message().await.expect("a close") {
                return frame.expect("a reason");
            }
        }
    });
    let frame = closed.await.expect("in time");
    assert_eq!((u16::from(frame.code), frame.reason.as_str()), (1008, "events were not read"));
}

#[tokio::test]
async fn get_reaches_what_reads_and_a_stream_is_its_result() {
    let (world, fake) = World::with("a", "").await;
    let (_client, token) = world.gateway.alice().await;
    let mut web = Web(world.gateway.unix_stream().await);
    let alice = bearer(&token);
    let echo = web.ask("GET /Example/a", &alice, r#"{"action":"echo","x":1}"#).await;
    assert_eq!((echo.status, &echo.json()["args"]["args"]), (200, &json!({"action": "echo", "x": 1})));
    let change = web.ask("GET /example/a", &alice, r#"{"action":"change"}"#).await;
    assert_eq!((change.status, change.header("allow")), (405, Some("POST, PUT, OPTIONS")));
    assert!(fake.received().iter().all(|call| call.action != "change"));
    let change = web.ask("POST /example/a", &alice, r#"{"args":{"action":"change"}}"#).await;
    assert_eq!((change.status, &change.json()["args"]["action"]), (200, &json!("change")));
    let count = web.ask("POST /example/a", &alice, r#"{"action":"count","parts":3}"#).await;
    assert_eq!((count.status, count.json()), (200, json!({"args": {}})));
    let cancel = web.ask("POST /rpc/cancel", &alice, r#"{"id":1}"#).await;
    assert_eq!(cancel.json(), json!({"args": {"cancelled": 0}}));
    assert_eq!(web.ask("GET /example/a", "", "").await.status, 401);
    assert_eq!(web.ask("GET /example/b", &alice, "").await.status, 404);
    // Who may not is not told whether it writes.
    let bob = web.ask("GET /example/a", &basic("bob", "builder"), r#"{"action":"change"}"#).await;
    assert_eq!(bob.status, 403);
}

#[tokio::test]
async fn a_plain_request_ends_with_its_client_and_with_its_session() {
    let (world, fake) = World::with("a", "").await;
    let (_client, token) = world.gateway.alice().await;
    let hang = r#"{"action":"hang"}"#;
    let mut web = Web(world.gateway.unix_stream().await);
    let alice = bearer(&token);
    let left = timeout(Duration::from_millis(300), web.ask("POST /example/a", &alice, hang));
    assert!(left.await.is_err(), "it hangs");
    fake.hang(1).await;
    drop(web);
    fake.hang(0).await;
    let mut web = Web(world.gateway.unix_stream().await);
    let asked = tokio::spawn(async move { web.ask("POST /example/a", &alice, hang).await.status });
    fake.hang(1).await;
    world.gateway.authd.end(&token, EndReason::Revoked);
    fake.hang(0).await;
    assert_eq!(asked.await.expect("an answer"), 401);
}

#[tokio::test]
async fn who_may_call_nothing_of_a_subsystem_hears_nothing_of_it() {
    let (world, a) = World::with("a", "events = [\"a-ticked\"]").await;
    let b = world.fake("b");
    world.register("b", &b.file("events = [\"b-ticked\"]"));
    world.is_up("b", true).await;
    a.heard().await;
    b.heard().await;
    let mut dora = world.gateway.unix().await;
    dora.log_in("dora", "explorer").await;
    assert_eq!(listed(&mut dora).await, json!({"example/a": "read"}), "she may echo");
    assert_eq!(subscribe(&mut dora, "b-ticked").await, 400);
    assert_eq!(subscribe(&mut dora, "a-ticked").await, 0);
    assert_eq!(ask_code(&mut dora, "a", json!({"action": "change"})).await, 403);
    // What she may call is gone, and its events with it.
    let before = a.listeners();
    a.describe(|said| said.actions.retain(|action| action.name != "echo"));
    until_async(async || listed(&mut dora).await == json!({})).await;
    // The gateway listens anew, since what it may hear has changed.
    until(|| (a.listeners() > before).then_some(())).await;
    let (mut alice, _) = world.gateway.alice().await;
    assert_eq!(subscribe(&mut alice, "a-ticked").await, 0);
    a.tell("a-ticked", "1");
    assert_eq!(alice.reply().await["args"], 1);
    assert_eq!(dora.query().await, 0, "no event in between");
}

#[tokio::test]
async fn the_first_sixty_four_registrations_count_and_one_more_does_not() {
    let world = World::empty().await;
    let fakes: Vec<_> = (0..65).map(|n| (format!("s{n:02}"), world.fake(&format!("s{n:02}")))).collect();
    for (name, fake) in &fakes {
        world.register(name, &fake.file(""));
    }
    let (mut client, _) = world.gateway.alice().await;
    let all: Vec<_> = fakes.iter().take(64).map(|(name, _)| format!("example/{name}")).collect();
    let rows =
        |listed: &serde_json::Value| listed.as_object().expect("rows").keys().cloned().collect::<Vec<_>>();
    until_async(async || rows(&listed(&mut client).await) == all).await;
    for (name, code) in [("s00", 0), ("s63", 0), ("s64", 404)] {
        assert_eq!(ask_code(&mut client, name, json!({"action": "echo"})).await, code, "{name}");
    }
    // The place of one that goes is the next one's.
    world.unregister("s07");
    world.is_up("s64", true).await;
    assert_eq!(ask_code(&mut client, "s64", json!({"action": "echo"})).await, 0);
    assert_eq!(ask_code(&mut client, "s07", json!({"action": "echo"})).await, 404);
}

#[tokio::test]
async fn a_report_of_progress_has_a_bound_and_more_is_a_fault() {
    let (world, fake) = World::with("a", "").await;
    let (mut client, _) = world.gateway.alice().await;
    // `{"n":0,"pad":"..."}` is 16 bytes more than what is in it.
    let padded = |id, pad: usize| request("a", id, &json!({"action": "count", "parts": 1, "pad": pad}));
    client.send(padded("most", (64 << 10) - 16)).await;
    let progress = client.reply().await;
    assert_eq!((&progress["name"], progress["args"].to_string().len()), (&json!("progress"), 64 << 10));
    assert_eq!(code(&client.reply().await), 0);
    client.send(padded("more", (64 << 10) - 15)).await;
    let reply = client.reply().await;
    assert_eq!((code(&reply), &reply["id"]), (500, &json!("more")), "and nothing of it is told");
    fake.hang(0).await;
    assert_eq!(ask_code(&mut client, "a", json!({"action": "echo"})).await, 0);
}
