//! A stop that was asked for, and a restart: what is under way gets one answer each, and soon.

use std::time::{Duration, Instant};

use doorward_tests::{Client, Options, Pam, Program, Received, Role, Stack};
use serde_json::json;

/// No request under way waits longer than this when what it needs goes away; most of it is a busy machine's.
const ANSWERED: Duration = Duration::from_secs(15);
/// After a restart the gateway is back within this; the promise is one second, the rest is a busy machine's.
const AGAIN: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_says_goodbye_to_its_clients() {
    let Some(mut stack) = Stack::start(&Options::new(Pam::Wrapper)) else { return };
    let mut idle = Client::tls(&stack).await;
    let mut local = Client::unix(&stack).await;
    local.login(stack.person(Role::Full)).await.expect("a login");
    let mut waiting = Client::tls(&stack).await;
    let person = stack.person(Role::Hang);
    waiting.request("rpc/auth", json!({"username": person.name, "password": person.password})).await;
    stack.await_conversations(1);
    let began = Instant::now();
    stack.stop(Program::Gateway);
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    for client in [&mut idle, &mut local, &mut waiting] {
        let mut last = client.receive().await;
        // The one under way may be answered first.
        if let Received::Json(reply) = &last {
            assert_eq!(reply["name"], "error", "{reply}");
            last = client.receive().await;
        }
        assert_eq!(last, Received::Closed(Some(1001)));
    }
    stack.await_no_conversations(Duration::from_secs(20));
    stack.start_again(Program::Gateway);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_authd_answers_each_login_once_and_is_over_soon() {
    let options = Options::new(Pam::Wrapper).authd("pam.per_source", 16).authd("pam.per_account", 16);
    let Some(mut stack) = Stack::start(&options) else { return };
    let mut held = Client::tls(&stack).await;
    let token = held.login(stack.person(Role::Full)).await.expect("a login");
    let mut waiting = Vec::new();
    for _ in 0..4 {
        let mut client = Client::tls(&stack).await;
        let person = stack.person(Role::Hang);
        client.request("rpc/auth", json!({"username": person.name, "password": person.password})).await;
        waiting.push(client);
    }
    stack.await_conversations(4);
    let began = Instant::now();
    stack.stop(Program::Authd);
    for client in &mut waiting {
        let reply = client.json().await;
        assert_eq!(reply["name"], "error", "{reply}");
        assert!(began.elapsed() < ANSWERED, "{:?}", began.elapsed());
        // One answer each, and the connection is as good as before.
        client.ask("rpc/identify", json!({})).await.expect("an answer");
    }
    stack.await_no_conversations(Duration::from_secs(20));
    // While it is away a login is told so, and does not hang.
    let asked = Instant::now();
    let away = Client::tls(&stack).await.login(stack.person(Role::Full)).await;
    assert!(matches!(away, Err(503 | 408)), "{away:?}");
    assert!(asked.elapsed() < ANSWERED, "{:?}", asked.elapsed());

    stack.start_again(Program::Authd);
    let ready = Instant::now();
    let mut again = Client::tls(&stack).await;
    loop {
        match again.ask("rpc/auth_token", json!({"token": token})).await {
            Ok(_) => break,
            Err(503 | 408) => assert!(ready.elapsed() < AGAIN, "the gateway does not come back"),
            Err(code) => panic!("the session is gone: {code}"),
        }
    }
    assert!(ready.elapsed() < AGAIN, "{:?}", ready.elapsed());
    for client in waiting.into_iter().chain([held, again]) {
        client.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certd_stops_clean_and_comes_back_with_what_it_had() {
    let Some(mut stack) = Stack::start(&Options::new(Pam::Wrapper)) else { return };
    let mut client = Client::tls(&stack).await;
    client.login(stack.person(Role::Full)).await.expect("a login");
    let began = Instant::now();
    stack.stop(Program::Certd);
    assert!(began.elapsed() < ANSWERED, "{:?}", began.elapsed());
    let asked = Instant::now();
    let away = client.ask("rpc/settings", json!({"action": "list_ssl_certs"})).await;
    assert!(matches!(away, Err(503 | 408)), "{away:?}");
    assert!(asked.elapsed() < ANSWERED, "{:?}", asked.elapsed());
    stack.start_again(Program::Certd);
    let ready = Instant::now();
    while client.ask("rpc/settings", json!({"action": "list_ssl_certs"})).await.is_err() {
        assert!(ready.elapsed() < AGAIN, "the gateway does not come back");
    }
    client.close().await;
}
