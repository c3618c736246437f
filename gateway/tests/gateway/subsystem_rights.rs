//! Calls that are under way when their caller loses the right to them, and when nobody tells which sessions end.

use std::time::Duration;

use serde_json::json;

use crate::{
    subsystems::{World, request},
    support::{Client, code, until, until_async},
    web::{Web, bearer},
};

/// Rights are relied upon for so long, in place of a minute.
const RIGHTS: Duration = Duration::from_millis(300);
/// All but the subsystem.
const LESS: [&str; 2] = ["sysadm.rpc.#", "sysadm.events.#"];

#[tokio::test]
async fn calls_end_with_the_right_to_them_and_the_session_goes_on() {
    let (world, fake) = World::with("a", "").await;
    world.gateway.authd.set_rights(RIGHTS);
    let (mut client, token) = world.gateway.alice().await;
    client.send(request("a", "s", &json!({"action": "count", "parts": 1, "hang": true}))).await;
    assert_eq!(client.reply().await["name"], "progress");
    client.send(request("a", "h", &json!({"action": "hang"}))).await;
    fake.hang(2).await;
    world.gateway.authd.set_acl(&token, &LESS);
    let replies = [client.reply().await, client.reply().await];
    let codes = replies.each_ref().map(|reply| (reply["id"].as_str().expect("an id"), code(reply)));
    assert!(codes.contains(&("s", 403)) && codes.contains(&("h", 403)), "{codes:?}");
    fake.hang(0).await;
    assert_eq!(client.query().await, 0);
}

#[tokio::test]
async fn a_call_that_keeps_its_right_goes_on_however_often_the_session_is_looked_at() {
    let (world, fake) = World::with("a", "").await;
    world.gateway.authd.set_rights(RIGHTS);
    let (mut client, token) = world.gateway.alice().await;
    client.send(request("a", "h", &json!({"action": "hang"}))).await;
    fake.hang(1).await;
    let looks = || world.gateway.authd.received("check").iter().filter(|call| call.about == token).count();
    until(|| (looks() >= 3).then_some(())).await;
    assert_eq!(fake.hanging().0, 1);
    drop(client);
}

#[tokio::test]
async fn a_plain_request_ends_with_the_right_to_it() {
    let (world, fake) = World::with("a", "").await;
    world.gateway.authd.set_rights(RIGHTS);
    let (_client, token) = world.gateway.alice().await;
    let mut web = Web(world.gateway.unix_stream().await);
    let asked = tokio::spawn(async move {
        let answer = web.ask("POST /example/a", &bearer(&token), r#"{"action":"hang"}"#).await;
        answer.status
    });
    fake.hang(1).await;
    let (looks, sessions) = (world.gateway.authd.received("check").len(), &world.gateway.authd);
    until(|| (sessions.received("check").len() >= looks + 2).then_some(())).await;
    assert!(!asked.is_finished(), "it goes on as long as it may");
    let alice: Vec<_> = sessions.received("check").into_iter().map(|call| call.about).collect();
    sessions.set_acl(alice.last().expect("it was looked at"), &LESS);
    assert_eq!(asked.await.expect("it ended"), 403);
    fake.hang(0).await;
}

/// Whether this is refused because nobody tells which sessions end; what comes of a stream before is not looked at.
async fn waits(client: &mut Client) -> bool {
    client.send(r#"{"namespace":"rpc","name":"query","id":"q"}"#).await;
    loop {
        let reply = client.reply().await;
        if reply["id"] == "q" {
            return code(&reply) == 503;
        }
    }
}

#[tokio::test]
async fn no_progress_is_told_while_nobody_tells_which_sessions_end() {
    let (world, _fake) = World::with("a", "").await;
    let (mut client, token) = world.gateway.alice().await;
    client.send(request("a", "s", &json!({"action": "count", "parts": 1_000_000_000, "pad": 20_000}))).await;
    assert_eq!(client.reply().await["name"], "progress");
    world.gateway.authd.fall_silent();
    until_async(async || waits(&mut client).await).await;
    for id in ["one", "two", "three"] {
        client.send(json!({"namespace": "rpc", "name": "identify", "id": id}).to_string()).await;
        assert_eq!(client.reply().await["id"], id, "nothing but the reply comes");
    }
    world.gateway.authd.speak();
    assert_eq!(client.reply().await["name"], "progress", "it goes on by itself");
    // What was lost meanwhile is lost before the next report.
    world.gateway.authd.fall_silent();
    until_async(async || waits(&mut client).await).await;
    world.gateway.authd.set_acl(&token, &LESS);
    world.gateway.authd.speak();
    let reply = client.reply().await;
    assert_eq!((code(&reply), &reply["id"]), (403, &json!("s")));
}
