//! Limits through the whole stack, each just below, at and just above its number.

use std::time::Duration;

use doorward_tests::{Client, Options, Pam, Received, Role, Stack, skip};
use serde_json::{Value, json};

fn password_of(stack: &Stack, role: Role) -> Value {
    let person = stack.person(role);
    json!({"username": person.name, "password": person.password})
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_flight() {
    let options = Options::new(Pam::Wrapper).gateway("limits.in_flight", 4).authd("pam.silent_seconds", 3);
    let Some(stack) = Stack::start(&options) else { return };
    for (requests, refused) in [(3, 0), (4, 0), (5, 1), (7, 3)] {
        let mut client = Client::tls(&stack).await;
        // The first one takes its time, and the others must wait for it.
        client.request("rpc/auth", password_of(&stack, Role::Hang)).await;
        for _ in 1..requests {
            client.request("rpc/identify", json!({})).await;
        }
        let mut codes = Vec::new();
        for _ in 0..requests {
            codes.push(client.json().await["args"]["code"].as_u64());
        }
        assert_eq!(codes.iter().filter(|code| **code == Some(429)).count(), refused, "{requests}: {codes:?}");
        assert_eq!(codes.iter().filter(|code| **code == Some(408)).count(), 1, "{requests}: {codes:?}");
        // Those beyond the limit are told at once, not after the slow one.
        assert!(codes[..refused].iter().all(|code| *code == Some(429)), "{requests}: {codes:?}");
        client.close().await;
        stack.await_no_conversations(Duration::from_secs(20));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conversations_in_all() {
    let options = Options::new(Pam::Wrapper).authd("pam.conversations", 3);
    let Some(stack) = Stack::start(&options) else { return };
    let mut open = Vec::new();
    for role in [Role::Code, Role::Code, Role::Two] {
        let mut client = Client::tls(&stack).await;
        client.login_prompts(stack.person(role)).await;
        open.push(client);
    }
    let mut beyond = Client::tls(&stack).await;
    assert_eq!(beyond.login(stack.person(Role::Full)).await, Err(429));
    // One ends, by a client that hangs up; then there is room.
    drop(open.pop());
    room_again(&mut beyond, &stack, Role::Full).await;
    beyond.close().await;
    for client in open {
        client.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conversations_of_one_source() {
    let options = Options::new(Pam::Wrapper).authd("pam.per_source", 2);
    let Some(stack) = Stack::start(&options) else { return };
    let mut first = Client::tls(&stack).await;
    first.login_prompts(stack.person(Role::Code)).await;
    let mut second = Client::tls(&stack).await;
    second.login_prompts(stack.person(Role::Two)).await;
    let mut beyond = Client::tls(&stack).await;
    assert_eq!(beyond.login(stack.person(Role::Full)).await, Err(429));
    // Of this host a source is a user, whatever it comes by; another user is another source.
    let mut local = Client::unix(&stack).await;
    assert_eq!(local.login(stack.person(Role::Limited)).await, Err(429));
    if skip::root("another user's connection") {
        let mut other = Client::unix_as(&stack, stack.gateway_uid()).await;
        other.login(stack.person(Role::Limited)).await.expect("another source is not concerned");
        other.close().await;
    }
    second.close().await;
    room_again(&mut beyond, &stack, Role::Full).await;
    for client in [first, beyond, local] {
        client.close().await;
    }
}

/// Logs in as soon as it is let; the end of a conversation takes its moment.
async fn room_again(client: &mut Client, stack: &Stack, role: Role) {
    let all = async {
        while let Err(code) = client.login(stack.person(role)).await {
            assert_eq!(code, 429);
        }
    };
    tokio::time::timeout(Duration::from_secs(10), all).await.expect("room for a conversation");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_one_user() {
    let options = Options::new(Pam::Wrapper).authd("sessions.per_user", 2);
    let Some(stack) = Stack::start(&options) else { return };
    let mut first = Client::tls(&stack).await;
    first.login(stack.person(Role::Full)).await.expect("the first");
    let mut second = Client::tls(&stack).await;
    second.login(stack.person(Role::Full)).await.expect("the second");
    let mut third = Client::tls(&stack).await;
    assert_eq!(third.login(stack.person(Role::Full)).await, Err(429));
    third.login(stack.person(Role::Limited)).await.expect("another user's session");
    second.ask("rpc/auth_clear", json!({"reply": true})).await.expect("one ends");
    let mut fourth = Client::tls(&stack).await;
    fourth.login(stack.person(Role::Full)).await.expect("room for one more");
    for client in [first, second, third, fourth] {
        client.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_one_source_that_are_not_logged_in() {
    let options = Options::new(Pam::Wrapper).gateway("limits.per_source", 3);
    let Some(stack) = Stack::start(&options) else { return };
    let uid = stack.gateway_uid();
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut client = Client::unix_as(&stack, uid).await;
        client.ask("rpc/identify", json!({})).await.expect("there is room");
        open.push(client);
    }
    assert!(!one_more(&stack, uid).await, "a fourth connection was served");
    // Who has logged in does not count any more.
    open[0].login(stack.person(Role::Full)).await.expect("a login");
    assert!(one_more_in_time(&stack, uid).await, "no room after a login");
    open.pop().expect("three").close().await;
    for client in open {
        client.close().await;
    }
}

/// Whether one more connection is served.
async fn one_more(stack: &Stack, uid: u32) -> bool {
    let path = stack.path("run/gateway.sock");
    let Ok(descriptor) = doorward_tests::door::connect_as(uid, doorward_tests::door::Kind::Stream, &path)
    else {
        return false;
    };
    let Ok(mut client) = Client::unix_over(descriptor).await else { return false };
    if client.try_send(r#"{"namespace":"rpc","name":"identify"}"#).await.is_err() {
        return false;
    }
    let served = matches!(client.receive().await, Received::Json(reply) if reply["name"] == "response");
    client.close().await;
    served
}

async fn one_more_in_time(stack: &Stack, uid: u32) -> bool {
    let all = async { while !one_more(stack, uid).await {} };
    tokio::time::timeout(Duration::from_secs(10), all).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_and_names() {
    let Some(stack) = Stack::start(&Options::new(Pam::Wrapper)) else { return };
    let mut client = Client::tls(&stack).await;
    let person = stack.person(Role::Full);
    // All of these are wrong, and none of them may be told from the others.
    for (name, password) in [
        (person.name.clone(), "x".repeat(511)),
        (person.name.clone(), "x".repeat(512)),
        (person.name.clone(), "x".repeat(513)),
        (person.name.clone(), "x".repeat(4000)),
        ("u".repeat(255), person.password.clone()),
        ("u".repeat(256), person.password.clone()),
        ("u".repeat(257), person.password.clone()),
        (String::new(), person.password.clone()),
    ] {
        let lengths = (name.len(), password.len());
        let reply = client.ask("rpc/auth", json!({"username": name, "password": password})).await;
        assert_eq!(reply, Err(401), "{lengths:?}");
    }
    client.login(person).await.expect("the right ones");
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn depth_of_json() {
    let Some(stack) = Stack::start(&Options::new(Pam::Wrapper)) else { return };
    let mut client = Client::tls(&stack).await;
    // The request itself is the first level.
    for (levels, fine) in [(30, true), (31, true), (32, false), (33, false), (4000, false)] {
        let nested = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        client.send(&format!(r#"{{"namespace":"rpc","name":"identify","id":1,"args":{nested}}}"#)).await;
        let reply = client.json().await;
        let code = reply["args"]["code"].as_u64();
        assert_eq!(code, (!fine).then_some(400), "{levels} levels: {reply}");
    }
    client.close().await;
}
