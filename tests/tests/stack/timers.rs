//! The clocks of a connection and of a session, shortened by the configuration.
//!
//! Here time is the thing under test, so these tests wait for it.

use std::time::{Duration, Instant};

use doorward_tests::{Client, Options, Pam, Received, Role, Stack};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_log_in_is_closed_and_who_is_at_it_is_not() {
    let options = Options::new(Pam::Wrapper).gateway("timers.login_seconds", 2);
    let Some(stack) = Stack::start(&options) else { return };
    let started = Instant::now();
    let mut silent = Client::tls(&stack).await;
    let mut asking = Client::tls(&stack).await;
    let conversation = asking.login_prompts(stack.person(Role::Code)).await;
    assert!(matches!(silent.receive().await, Received::Closed(Some(1000 | 1008))));
    assert!(started.elapsed() >= Duration::from_secs(2), "closed after {:?}", started.elapsed());
    // The clock stands still while a conversation is open: past its end the login still succeeds.
    tokio::time::sleep(Duration::from_secs(1)).await;
    asking.respond(&conversation, &[doorward_tests::CODE]).await.expect("the login goes on");
    // And once logged in there is no such clock.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert!(asking.logged_in().await);
    asking.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_session_ends_and_the_connection_stays() {
    let options = Options::new(Pam::Wrapper).authd("sessions.idle_seconds", 6);
    let Some(stack) = Stack::start(&options) else { return };
    let mut client = Client::tls(&stack).await;
    let person = stack.person(Role::Full);
    let args = json!({"username": person.name, "password": person.password});
    let reply = client.ask("rpc/auth", args).await.expect("alice logs in");
    let token = doorward_tests::client::token_of(&reply);
    assert_eq!(reply[1], 6, "the reply says how long the session stays valid");
    // Every successful request resets the clock: alive after more than one whole span.
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(2500)).await;
        assert!(client.logged_in().await);
    }
    tokio::time::sleep(Duration::from_millis(6300)).await;
    assert_eq!(client.ask("rpc/query", json!({})).await, Err(401));
    assert_eq!(client.ask("rpc/auth_token", json!({"token": token})).await, Err(401));
    // The connection is open and can log in again.
    client.login(person).await.expect("a new login");
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_at_its_end_however_busy_it_is() {
    let options = Options::new(Pam::Wrapper).authd("sessions.absolute_seconds", 6);
    let Some(stack) = Stack::start(&options) else { return };
    let mut client = Client::tls(&stack).await;
    let started = Instant::now();
    let token = client.login(stack.person(Role::Full)).await.expect("alice logs in");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(client.logged_in().await);
    let told = client.json().await;
    assert_eq!(
        told,
        json!({"namespace": "events", "name": "auth", "id": "", "args": {"reason": "expired", "seconds": 0}})
    );
    assert_eq!(client.receive().await, Received::Closed(Some(1000)));
    assert!(started.elapsed() >= Duration::from_secs(6), "{:?}", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    let mut other = Client::tls(&stack).await;
    assert_eq!(other.ask("rpc/auth_token", json!({"token": token})).await, Err(401));
    other.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_too_late_finds_no_conversation() {
    let options = Options::new(Pam::Wrapper).authd("pam.answer_seconds", 1);
    let Some(stack) = Stack::start(&options) else { return };
    let mut client = Client::tls(&stack).await;
    let conversation = client.login_prompts(stack.person(Role::Code)).await;
    // Its processes are gone by themselves, without the client's doing.
    stack.await_no_conversations(Duration::from_secs(20));
    assert_eq!(client.respond(&conversation, &[doorward_tests::CODE]).await, Err(401));
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_messages_is_closed() {
    let options = Options::new(Pam::Wrapper).gateway("timers.connection_idle_seconds", 2);
    let Some(stack) = Stack::start(&options) else { return };
    let mut client = Client::tls(&stack).await;
    client.login(stack.person(Role::Full)).await.expect("alice logs in");
    let started = Instant::now();
    assert!(matches!(client.receive().await, Received::Closed(Some(_))));
    assert!(started.elapsed() >= Duration::from_millis(1900), "{:?}", started.elapsed());
}
