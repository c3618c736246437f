//! `subscribe` and `publish`, against a gateway that has channels.

use serde_json::{Value, json};

use crate::World;

fn lines(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn said(world: &World) -> Vec<Value> {
    world.gateway.take_requests().into_iter().filter(|request| request["action"].is_string()).collect()
}

#[test]
fn what_is_said_comes_a_line_each_and_an_interruption_is_told_beside_it() {
    let world = World::new();
    world.run(&["subscribe", "room"], "").expect(1).says("log in first");
    world.log_in();
    let ran = world.run(&["--json", "subscribe", "room", "3", "--count", "2"], "").expect(0);
    let told = lines(&ran.out);
    assert_eq!(told.len(), 2, "{}", ran.out);
    assert_eq!((&told[0]["channel"], &told[0]["pk"]), (&json!("room"), &json!("3")));
    assert_eq!(told[0]["message"], json!({"n": 1, "error": "no error", "code": 400}), "that is no refusal");
    assert!(told[0]["time"].is_string() && !ran.out.contains('\u{1b}'));
    ran.says("delivery is interrupted").says("delivery goes on");
    assert_eq!(said(&world), [json!({"action": "subscribe", "channel": "room", "pk": "3"})]);

    let ran = world.run(&["subscribe", "room", "--count", "2"], "").expect(0);
    assert!(ran.out.contains(" room {\"") && !ran.out.contains('\u{1b}'), "{}", ran.out);
    assert_eq!(said(&world), [json!({"action": "subscribe", "channel": "room"})]);
    let ran = world.run(&["--json", "subscribe", "down", "--count", "1"], "").expect(0);
    assert_eq!(lines(&ran.out)[0]["message"], Value::Null);
    ran.says("delivery is interrupted");
}

#[test]
fn whatever_ends_a_subscription_says_so_by_the_exit_code() {
    let world = World::new();
    world.log_in();
    world.run(&["subscribe", "closed"], "").expect(1).says("subscribe permission denied (403)");
    assert_eq!(world.run(&["--json", "subscribe", "closed"], "").expect(1).json()["error"]["code"], 403);
    world.run(&["subscribe", "revoked"], "").expect(1).says("ended by somebody else");
    world.run(&["subscribe", "slow"], "").expect(3).says("4008 messages were not read");
}

#[test]
fn a_message_is_published_as_it_was_written_and_that_is_awaited() {
    let world = World::new();
    world.run(&["publish", "room", "1"], "").expect(1).says("log in first");
    world.log_in();
    world.gateway.take_requests();
    world.run(&["publish", "room", r#"{"a": 1.0}"#], "").expect(0);
    let told = world.run(&["--json", "publish", "room", "3", "-"], "[true]\n").expect(0).json();
    assert_eq!(told, json!({"published": true, "channel": "room", "pk": "3"}));
    world.run(&["publish", "room", "-5"], "").expect(0);
    let messages: Vec<_> = said(&world).into_iter().map(|mut request| request["message"].take()).collect();
    assert_eq!(messages, [json!({"a": 1.0}), json!([true]), json!(-5)]);
    world.run(&["publish", "closed", "1"], "").expect(1).says("publish permission denied (403)");
    world.run(&["publish", "down", "1"], "").expect(3).says("Service Unavailable (503)");
}

#[test]
fn what_cannot_be_a_channel_or_a_message_is_not_sent() {
    let world = World::new();
    let large = format!("\"{}\"", "x".repeat(128 << 10));
    for wrong in [
        &["subscribe"][..],
        &["subscribe", "a b"],
        &["subscribe", "room", "a:b"],
        &["subscribe", "room", "1", "2"],
        &["subscribe", "room", "--count", "0"],
        &["publish", "room"],
        &["publish", "a.b", "1"],
        &["publish", "room", "a:b", "1"],
        &["publish", "room", "hello"],
        &["publish", "room", "{} {}"],
        &["publish", "room", "1", "2", "3"],
    ] {
        world.run(wrong, "").expect(2);
    }
    world.run(&["publish", "room", "-"], &large).expect(2).says("128 KiB");
    assert_eq!(world.gateway.take_requests(), Vec::<Value>::new());
}
