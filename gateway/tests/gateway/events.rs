//! Events over real connections: order, bounds, and what ends them.

use std::time::Duration;

use doorward_gateway::{call::EventName, hub::Publisher};
use doorward_proto::authd::v1::EndReason;
use futures_util::StreamExt;
use serde_json::{json, value::RawValue};

use crate::support::{Client, Gateway, PATIENCE, until};

fn publisher(gateway: &Gateway, name: &str) -> Publisher {
    gateway.hub.register(EventName::parse(name).expect("a name")).expect("registered")
}

fn publish(publisher: &Publisher, args: &serde_json::Value) {
    publisher.publish(RawValue::from_string(args.to_string()).expect("JSON")).expect("published");
}

async fn subscribe(client: &mut Client, names: serde_json::Value) -> serde_json::Value {
    let text = json!({"namespace": "events", "name": "subscribe", "id": "s", "args": names}).to_string();
    let reply = client.call(text).await;
    assert_eq!(reply["id"], "s", "the reply comes before any event: {reply}");
    reply["args"].clone()
}

fn event(name: &str, args: serde_json::Value) -> serde_json::Value {
    json!({"namespace": "events", "name": name, "id": "", "args": args})
}

#[tokio::test]
async fn the_last_event_follows_the_reply_and_later_ones_follow_it() {
    let gateway = Gateway::start().await;
    let load = publisher(&gateway, "load");
    publish(&load, &json!({"n": 1}));
    for mut client in [gateway.unix().await, gateway.tls().await] {
        client.log_in("alice", "wonderland").await;
        assert_eq!(subscribe(&mut client, json!("load")).await, json!({"subscribe": "load"}));
        assert_eq!(client.reply().await, event("load", json!({"n": 1})));
        let again = subscribe(&mut client, json!(["load", "nothing"])).await;
        assert_eq!(again, json!({"subscribe": ["load"]}));
        publish(&load, &json!({"n": 1}));
        assert_eq!(client.reply().await, event("load", json!({"n": 1})), "once");
        assert_eq!(client.code("events", "unsubscribe", r#""load""#).await, 0);
        publish(&load, &json!({"n": 1}));
        assert_eq!(client.query().await, 0, "no event in between");
    }
}

#[tokio::test]
async fn s28_losing_the_session_ends_event_delivery() {
    let gateway = Gateway::start().await;
    let load = publisher(&gateway, "load");
    let (mut client, token) = gateway.alice().await;
    // By logging out.
    subscribe(&mut client, json!("load")).await;
    assert_eq!(client.code("rpc", "auth_clear", r#"{"reply":true}"#).await, 0);
    publish(&load, &json!(1));
    assert_eq!(client.query().await, 401, "no event in between");
    assert!(!gateway.authd.lives(&token));
    // By going idle.
    let token = client.log_in("alice", "wonderland").await;
    assert_eq!(client.query().await, 0, "no event for the next session either");
    subscribe(&mut client, json!("load")).await;
    assert_eq!(client.reply().await, event("load", json!(1)));
    gateway.authd.end(&token, EndReason::Idle);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while client.query().await == 0 {
        assert!(tokio::time::Instant::now() < deadline, "still answered");
    }
    publish(&load, &json!(2));
    assert_eq!(client.query().await, 401);
    // By another login in its place.
    client.log_in("alice", "wonderland").await;
    subscribe(&mut client, json!("load")).await;
    assert_eq!(client.reply().await, event("load", json!(2)));
    client.log_in("alice", "wonderland").await;
    publish(&load, &json!(3));
    assert_eq!(client.query().await, 0, "no event in between");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed_and_slows_nobody() {
    let gateway = Gateway::start_with(|config| config.timers.write_seconds = 86_400).await;
    let load = publisher(&gateway, "load");
    let (mut slow, _) = gateway.alice().await;
    let (mut good, _) = gateway.alice().await;
    subscribe(&mut slow, json!("load")).await;
    subscribe(&mut good, json!("load")).await;
    let args = json!({"pad": "x".repeat(32 << 10)});
    // More than the socket and the inbox of the slow one hold.
    for _ in 0..600 {
        publish(&load, &args);
        assert_eq!(good.reply().await["args"], args);
    }
    // Now it reads: what was on its way, and then that it is too late.
    let closed = tokio::time::timeout(PATIENCE, async {
        let mut events = 0;
        loop {
            match slow.0.next().await.expect("a close").expect("a frame") {
                tokio_tungstenite::tungstenite::Message::Close(frame) => return (events, frame),
                _ => events += 1,
            }
        }
    });
    let (events, frame) = closed.await.expect("in time");
    let frame = frame.expect("a reason");
    assert_eq!((u16::from(frame.code), frame.reason.as_str()), (1008, "events were not read"));
    assert!(events < 600, "{events}");
    assert_eq!(good.query().await, 0);
}

#[tokio::test]
async fn events_wait_while_ends_are_not_told_and_none_reaches_a_session_that_ended_meanwhile() {
    let gateway = Gateway::start().await;
    let load = publisher(&gateway, "load");
    let (mut kept, _) = gateway.alice().await;
    let (mut ended, token) = gateway.alice().await;
    subscribe(&mut kept, json!("load")).await;
    subscribe(&mut ended, json!("load")).await;
    gateway.authd.fall_silent();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while kept.query().await != 503 {
        assert!(tokio::time::Instant::now() < deadline, "still answered");
    }
    gateway.authd.end_silently(&token);
    publish(&load, &json!(1));
    assert_eq!(kept.query().await, 503, "no event in between");
    gateway.authd.speak();
    assert_eq!(kept.reply().await, event("load", json!(1)));
    assert_eq!(ended.reply().await, event("auth", json!({"reason": "revoked", "seconds": 0})));
    assert_eq!(ended.closed().await, (1000, "session ended".to_owned()));
}

#[tokio::test]
async fn rights_are_asked_again_before_an_event_is_sent() {
    let gateway = Gateway::start().await;
    let load = publisher(&gateway, "load");
    gateway.authd.set_rights(Duration::ZERO);
    let (mut client, token) = gateway.alice().await;
    subscribe(&mut client, json!("load")).await;
    let checks = gateway.authd.received("check").len();
    publish(&load, &json!(1));
    assert_eq!(client.reply().await, event("load", json!(1)));
    gateway.authd.received_at_least("check", checks + 1).await;
    gateway.authd.end_silently(&token);
    publish(&load, &json!(2));
    assert_eq!(client.reply().await, event("auth", json!({"reason": "revoked", "seconds": 0})));
    assert_eq!(client.closed().await, (1000, "session ended".to_owned()));
}

#[tokio::test]
async fn a_session_is_told_when_its_end_is_near_and_once() {
    let gateway = Gateway::start().await;
    gateway.authd.set_life(Duration::from_secs(63));
    let (mut client, token) = gateway.alice().await;
    assert_eq!(client.query().await, 0);
    assert_eq!(client.reply().await, event("auth", json!({"reason": "expiring", "seconds": 60})));
    gateway.authd.set_life(Duration::from_secs(60));
    let (mut late, _) = gateway.alice().await;
    assert_eq!((client.query().await, late.query().await), (0, 0), "no event in between");
    gateway.authd.end(&token, EndReason::Expired);
    assert_eq!(client.reply().await, event("auth", json!({"reason": "expired", "seconds": 0})));
    assert_eq!(client.closed().await.0, 1000);
}

#[tokio::test]
async fn a_thousand_events_reach_each_of_many_subscribers_once_and_in_order() {
    let gateway = Gateway::start().await;
    let load = publisher(&gateway, "load");
    let mut readers = Vec::new();
    for _ in 0..20 {
        let (mut client, _) = gateway.alice().await;
        subscribe(&mut client, json!("load")).await;
        readers.push(tokio::spawn(async move {
            for n in 0..1_000 {
                assert_eq!(client.reply().await["args"], n);
            }
            client.query().await
        }));
    }
    for n in 0..1_000 {
        publish(&load, &json!(n));
        if n % 50 == 0 {
            tokio::task::yield_now().await;
        }
    }
    for reader in readers {
        assert_eq!(reader.await.expect("all of them"), 0);
    }
    // Nothing is left of connections that went.
    let name = EventName::parse("load").expect("a name");
    drop(load);
    until(|| gateway.hub.register(name.clone()).ok().map(drop)).await;
}
