//! `rpc/sessions`: what is asked of authd and with what, and what ends at once.

use doorward_proto::authd::v1::EndReason;
use serde_json::json;

use crate::support::{Client, Gateway, code};

const LIST: &str = r#"{"namespace":"rpc","name":"sessions","id":"list","args":{"action":"list"}}"#;

async fn list(client: &mut Client) -> serde_json::Value {
    client.call(LIST).await
}

async fn own_name(client: &mut Client) -> String {
    let listed = list(client).await;
    let listed = listed["args"].as_array().expect("an array").clone();
    let own = listed.into_iter().find(|entry| entry["current"] == true).expect("its own");
    own["session"].as_str().expect("a name").to_owned()
}

fn end(session: &str) -> String {
    json!({"namespace": "rpc", "name": "sessions", "id": "end", "args": {"action": "end", "session": session}})
        .to_string()
}

async fn told_and_closed(client: &mut Client) {
    assert_eq!(client.reply().await["args"], json!({"reason": "revoked", "seconds": 0}));
    assert_eq!(client.closed().await, (1000, "session ended".to_owned()));
}

#[tokio::test]
async fn authd_is_asked_with_the_token_and_its_list_is_shown() {
    let gateway = Gateway::start().await;
    let (mut client, token) = gateway.alice().await;
    let reply = list(&mut client).await;
    let name = reply["args"][0]["session"].as_str().expect("a name").to_owned();
    assert_eq!(
        reply["args"],
        json!([{"session": name, "user": "alice", "method": "fake", "dialect": "sysadm", "source": "",
            "started": 1_000, "last_used": 2_000, "current": true}])
    );
    assert_eq!(gateway.authd.received("list")[0].about, token);
}

#[tokio::test]
async fn the_end_of_another_session_closes_all_its_connections_at_once() {
    let gateway = Gateway::start().await;
    let (mut boss, _) = gateway.alice().await;
    let (mut first, token) = gateway.alice().await;
    let mut second = gateway.tls().await;
    let take = json!({"namespace": "rpc", "name": "auth_token", "args": {"token": token}}).to_string();
    assert_eq!(code(&second.call(take.clone()).await), 0);
    // The same session twice on one connection is once.
    assert_eq!(code(&second.call(take).await), 0);
    let name = own_name(&mut first).await;
    assert_eq!(boss.call(end(&name)).await["args"], json!({"ended": 1}));
    told_and_closed(&mut first).await;
    told_and_closed(&mut second).await;
    assert_eq!(boss.query().await, 0);
    assert_eq!(code(&boss.call(end(&name)).await), 404, "it has ended");
}

#[tokio::test]
async fn all_others_of_a_user_end_at_once() {
    let gateway = Gateway::start().await;
    let (mut kept, _) = gateway.alice().await;
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(gateway.alice().await.0);
    }
    let mut bob = gateway.unix().await;
    bob.log_in("bob", "builder").await;
    let all = r#"{"namespace":"rpc","name":"sessions","args":{"action":"end_others"}}"#;
    assert_eq!(kept.call(all).await["args"], json!({"ended": 3}));
    for client in &mut others {
        told_and_closed(client).await;
    }
    assert_eq!((kept.query().await, bob.query().await), (0, 403));
}

#[tokio::test]
async fn the_end_of_its_own_session_is_answered_and_leaves_the_connection() {
    let gateway = Gateway::start().await;
    let (mut client, token) = gateway.alice().await;
    let mut sharer = gateway.unix().await;
    let take = json!({"namespace": "rpc", "name": "auth_token", "args": {"token": token}}).to_string();
    assert_eq!(code(&sharer.call(take).await), 0);
    let name = own_name(&mut client).await;
    assert_eq!(client.call(end(&name)).await["args"], json!({"ended": 1}));
    assert_eq!(client.query().await, 401);
    told_and_closed(&mut sharer).await;
    assert!(!gateway.authd.lives(&token));
    client.log_in("alice", "wonderland").await;
}

#[tokio::test]
async fn a_list_of_one_page_is_one_question_and_a_longer_one_begins_again_when_there_is_room() {
    let gateway = Gateway::start().await;
    let (mut client, _) = gateway.alice().await;
    let asked = |from: usize| -> Vec<bool> {
        gateway.authd.received("list")[from..].iter().map(|call| call.connection.is_empty()).collect()
    };
    assert_eq!(list(&mut client).await["args"].as_array().map(Vec::len), Some(1));
    assert_eq!(asked(0), [true]);
    gateway.authd.set_copies(150);
    assert_eq!(list(&mut client).await["args"].as_array().map(Vec::len), Some(150));
    assert_eq!(asked(1), [true, true, false, false], "the first page twice");
}

#[tokio::test]
async fn four_longer_lists_are_made_at_a_time_two_of_one_user_and_others_wait_without_holding_anybody_up() {
    let gateway = Gateway::start().await;
    gateway.authd.set_copies(150);
    gateway.authd.answer_pages(false);
    // So that what dora may counts at once.
    gateway.authd.set_rights(std::time::Duration::ZERO);
    let (mut clients, mut alices) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let (alice, token) = gateway.alice().await;
        let mut dora = gateway.unix().await;
        let hers = dora.log_in("dora", "explorer").await;
        gateway.authd.set_acl(&hers, &["sysadm.rpc.sessions.#"]);
        clients.extend([alice, dora]);
        alices.push(token);
    }
    for client in &mut clients {
        client.send(LIST).await;
    }
    // All have asked for a first page, four of them again and for the second, which does not come.
    gateway.authd.received_at_least("list", 6 + 2 * 4).await;
    for client in &mut clients {
        let other = client.call(end("f81d4fae-7dec-41d0-a765-00a0c91e6bf6")).await;
        assert_eq!(code(&other), 404, "what else it asks is answered");
    }
    let mut seconds = gateway.authd.received("list");
    seconds.retain(|call| !call.connection.is_empty());
    let of_alice = seconds.iter().filter(|call| alices.contains(&call.about)).count();
    assert_eq!((seconds.len(), of_alice), (4, 2));
    gateway.authd.answer_pages(true);
    for client in &mut clients {
        assert_eq!(client.reply().await["args"].as_array().map(Vec::len), Some(6 * 150));
    }
}

#[tokio::test]
async fn a_list_that_is_too_large_is_refused_whole() {
    let gateway = Gateway::start().await;
    let (mut client, _) = gateway.alice().await;
    gateway.authd.set_copies(40_000);
    assert_eq!(list(&mut client).await["args"].as_array().map(Vec::len), Some(40_000));
    gateway.authd.set_copies(80_000);
    let reply = list(&mut client).await;
    assert_eq!(reply["args"], json!({"code": 413, "message": "Payload Too Large"}));
    assert_eq!(client.query().await, 0, "the connection stays");
}

#[tokio::test]
async fn while_ends_are_not_told_nothing_cached_is_used_although_authd_answers() {
    let gateway = Gateway::start().await;
    let (mut kept, _) = gateway.alice().await;
    let (mut ended, token) = gateway.alice().await;
    assert_eq!((kept.query().await, ended.query().await), (0, 0));
    gateway.authd.fall_silent();
    let deadline = tokio::time::Instant::now() + crate::support::PATIENCE;
    while kept.query().await != 503 {
        assert!(tokio::time::Instant::now() < deadline, "still answered");
    }
    assert_eq!(list(&mut kept).await["args"]["code"], 503);
    let checks = gateway.authd.received("check").len();
    gateway.authd.end(&token, EndReason::Revoked);
    assert_eq!(ended.query().await, 503, "nobody was told");
    assert_eq!(
        gateway.authd.received("check").len(),
        checks,
        "what is not told of an end could be old by now"
    );
    gateway.authd.speak();
    told_and_closed(&mut ended).await;
    while kept.query().await == 503 {
        assert!(tokio::time::Instant::now() < deadline, "still refused");
    }
    assert_eq!(kept.query().await, 0);
}
