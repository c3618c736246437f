//! Sessions of others through the whole stack: who sees and ends which, and what becomes of their connections.

use std::time::Duration;

use doorward_tests::{Client, Options, Pam, Program, Received, Role, Stack};
use serde_json::{Value, json};

async fn listed(client: &mut Client) -> Vec<Value> {
    let list = client.ask("rpc/sessions", json!({"action": "list"})).await.expect("a list");
    list.as_array().expect("an array").clone()
}

/// The caller's own session, by its name.
async fn own(client: &mut Client) -> String {
    let list = listed(client).await;
    let own = list.iter().find(|entry| entry["current"] == true).expect("its own");
    own["session"].as_str().expect("a name").to_owned()
}

async fn end(client: &mut Client, session: &str) -> Result<Value, u64> {
    client.ask("rpc/sessions", json!({"action": "end", "session": session})).await
}

async fn revoked_and_closed(client: &mut Client) {
    let told = json!({"namespace": "events", "name": "auth", "id": "",
        "args": {"reason": "revoked", "seconds": 0}});
    assert_eq!(client.json().await, told);
    assert_eq!(client.receive().await, Received::Closed(Some(1000)));
}

#[tokio::test(flavor = "multi_thread")]
async fn full_access_ends_any_session_and_limited_access_its_own() {
    let Some(stack) = Stack::start(&Options::new(Pam::Wrapper)) else { return };
    let (alice, bob) = (stack.person(Role::Full).clone(), stack.person(Role::Limited).clone());
    let mut boss = Client::tls(&stack).await;
    boss.login(&alice).await.expect("alice logs in");
    let mut first = Client::tls(&stack).await;
    let token = first.login(&bob).await.expect("bob logs in");
    let mut second = Client::unix(&stack).await;
    second.login(&bob).await.expect("bob logs in again");

    let users = |list: &[Value]| -> Vec<String> {
        let mut users: Vec<_> = list.iter().map(|e| e["user"].as_str().expect("a name").to_owned()).collect();
        users.sort();
        users
    };
    assert_eq!(users(&listed(&mut boss).await), [alice.name.clone(), bob.name.clone(), bob.name.clone()]);
    assert_eq!(users(&listed(&mut first).await), [bob.name.clone(), bob.name.clone()]);

    // What he may not see is not there.
    let (of_alice, of_second) = (own(&mut boss).await, own(&mut second).await);
    assert_eq!(end(&mut first, &of_alice).await, Err(404));
    assert!(boss.logged_in().await);
    assert_eq!(end(&mut first, &of_second).await, Ok(json!({"ended": 1})));
    revoked_and_closed(&mut second).await;

    // Every connection that holds the session goes with it.
    let mut shared = Client::unix(&stack).await;
    shared.ask("rpc/auth_token", json!({"token": token})).await.expect("taken up");
    let of_first = own(&mut first).await;
    assert_eq!(end(&mut boss, &of_first).await, Ok(json!({"ended": 1})));
    revoked_and_closed(&mut first).await;
    revoked_and_closed(&mut shared).await;
    assert_eq!(users(&listed(&mut boss).await), [alice.name]);
    boss.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_authd_is_gone_nothing_is_answered_and_afterwards_everything_is() {
    let Some(mut stack) = Stack::start(&Options::new(Pam::Wrapper)) else { return };
    let alice = stack.person(Role::Full).clone();
    let mut client = Client::tls(&stack).await;
    client.login(&alice).await.expect("alice logs in");
    client.ask("events/subscribe", json!("auth")).await.expect("subscribed");
    assert!(client.logged_in().await);
    stack.kill(Program::Authd);
    until(&mut client, Err(503)).await;
    assert_eq!(client.ask("rpc/sessions", json!({"action": "list"})).await, Err(503));
    assert_eq!(client.ask("events/subscribe", json!("auth")).await, Err(503));
    stack.start_again(Program::Authd);
    until(&mut client, Ok(())).await;
    assert_eq!(listed(&mut client).await.len(), 1, "the session has outlived authd");
    client.close().await;
}

/// Asks until the answer is this one.
async fn until(client: &mut Client, wanted: Result<(), u64>) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while client.ask("rpc/query", json!({})).await.map(drop) != wanted {
        assert!(std::time::Instant::now() < deadline, "never {wanted:?}");
    }
}
