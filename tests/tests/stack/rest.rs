//! SysAdm requests over plain HTTP through the whole stack, with real PAM behind.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use doorward_tests::client::{PATIENCE, token_of};
use doorward_tests::keys::Quick;
use doorward_tests::web::{Way, Web, basic, basic_of, bearer};
use doorward_tests::{Client, Options, Pam, Program, Received, Role, Stack, secrets};
use serde_json::{Value, json};

use crate::support::register;

const LIST: &str = r#"{"action":"list"}"#;

async fn sessions(web: &mut Web, token: &str) -> Vec<Value> {
    let answer = web.ask("GET /rpc/sessions", &bearer(token), LIST).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["args"].as_array().expect("an array").clone()
}

/// A login for one request leaves nothing, and one that is kept is used until it is given back.
async fn a_login_for_one_request_and_one_for_many(pam: Pam, way: Way) {
    let Some(stack) = Stack::start(&Options::new(pam)) else { return };
    let (alice, carol) = (stack.person(Role::Full).clone(), stack.person(Role::Nobody).clone());
    let mut web = Web::connect(&stack, way).await;
    for body in ["", "{}", r#"{"args":{}}"#] {
        let answer = web.ask("GET /rpc/query", &basic_of(&alice), body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.json()["args"].is_object(), "{answer:?}");
    }
    let of = |event: &str| stack.records(Program::Authd, &[("event", event), ("dialect", "sysadm")]);
    let (logins, ended) = (of("login"), of("session_ended"));
    assert_eq!((logins.len(), ended.len()), (3, 3), "{logins:?} {ended:?}");
    for (login, end) in logins.iter().zip(&ended) {
        assert_eq!((&login["session"], &end["reason"]), (&end["session"], &json!("cleared")));
    }

    // Whoever is not let in hears one thing.
    let wrong = basic(&alice.name, secrets::register("wrong-Zaunkoenig-7"));
    let unknown = basic("nosuchuser", secrets::register("wrong-Zaunkoenig-7"));
    let mut told = Vec::new();
    for headers in [&wrong, &unknown, &basic_of(&carol), &basic(&alice.name, "")] {
        let answer = web.ask("GET /rpc/query", headers, "").await;
        assert_eq!(answer.header("www-authenticate"), Some(r#"Basic realm="doorward", charset="UTF-8""#));
        told.push((answer.status, answer.body));
    }
    assert!(told.iter().all(|each| *each == told[0] && each.0 == 401), "{told:?}");

    let args = json!({"username": alice.name, "password": alice.password}).to_string();
    let answer = web.ask("PUT /rpc/auth", "", &args).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let token = token_of(&answer.json()["args"]);
    let of_token = web.issue(&alice, "{}").await;
    let list = sessions(&mut web, &token).await;
    let mut dialects: Vec<_> = list.iter().map(|entry| entry["dialect"].as_str().expect("text")).collect();
    dialects.sort_unstable();
    assert_eq!(dialects, ["sysadm", "token"], "what was opened for one request is gone");
    assert_eq!(list.iter().filter(|entry| entry["current"] == true).count(), 1);
    // It is the session that a WebSocket has.
    let mut client = Client::tls(&stack).await;
    client.ask("rpc/auth_token", json!({"token": token})).await.expect("taken up");
    assert_eq!(web.ask("POST /rpc/auth_clear", &bearer(&token), "").await.status, 200);
    assert_eq!(web.ask("GET /rpc/query", &bearer(&token), "").await.status, 401);
    let told = client.json().await;
    assert_eq!((&told["name"], &told["args"]["reason"]), (&json!("auth"), &json!("revoked")));
    assert_eq!(client.receive().await, Received::Closed(Some(1000)), "it ended there, too");
    assert_eq!(web.check(&of_token, "").await, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_for_one_request_and_one_for_many_under_libpam_wrapper() {
    a_login_for_one_request_and_one_for_many(Pam::Wrapper, Way::Unix).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_for_one_request_and_one_for_many_with_real_pam() {
    a_login_for_one_request_and_one_for_many(Pam::Real, Way::Door).await;
}

/// Nobody can answer here, so nobody is asked; and no conversation stays behind.
#[tokio::test(flavor = "multi_thread")]
async fn who_would_be_asked_more_is_not_let_in() {
    let Some(stack) = Stack::start(&Options::new(Pam::Wrapper)) else { return };
    let mut web = Web::connect(&stack, Way::Door).await;
    for role in [Role::Code, Role::Expired, Role::Two] {
        let person = stack.person(role).clone();
        assert_eq!(web.ask("GET /rpc/query", &basic_of(&person), "").await.status, 401, "{role:?}");
        let answer = web.ask("POST /0.1/token", &basic_of(&person), "{}").await;
        assert_eq!((answer.status, answer.reason().as_str()), (401, "Authentication Failed"), "{role:?}");
    }
    stack.await_no_conversations(Duration::from_secs(40));
}

#[tokio::test(flavor = "multi_thread")]
async fn locked_and_lapsed_accounts_get_nothing() {
    let Some(stack) = Stack::start(&Options::new(Pam::Real)) else { return };
    let mut web = Web::connect(&stack, Way::Door).await;
    for role in [Role::Locked, Role::Lapsed] {
        let person = stack.person(role).clone();
        assert_eq!(web.ask("GET /rpc/query", &basic_of(&person), "").await.status, 401, "{role:?}");
        assert_eq!(web.ask("POST /0.1/token", &basic_of(&person), "{}").await.status, 401, "{role:?}");
    }
}

/// A row that writes is not reached by a method that reads, whoever asks.
#[tokio::test(flavor = "multi_thread")]
async fn what_writes_is_not_read() {
    let Some(stack) = Stack::start(&Options::new(Pam::Wrapper)) else { return };
    let alice = stack.person(Role::Full).clone();
    let mut web = Web::connect(&stack, Way::Unix).await;
    let basic = basic_of(&alice);
    for (request, body) in [
        ("GET /rpc/auth", ""),
        ("GET /rpc/sessions", r#"{"action":"end_others"}"#),
        ("GET /rpc/settings", r#"{"action":"register_challenge"}"#),
        ("DELETE /rpc/query", ""),
        ("PATCH /rpc/query", ""),
    ] {
        let answer = web.ask(request, &basic, body).await;
        assert_eq!((answer.status, answer.header("allow").is_some()), (405, true), "{request} {body}");
    }
    assert_eq!(
        web.ask("POST /rpc/query", &format!("{basic}Origin: http://localhost\r\n"), "{}").await.status,
        415
    );
    for request in ["GET /rpc/no_such", "GET /no/such", "GET /", "GET /ws/x"] {
        let answer = web.ask(request, &basic, "").await;
        assert_eq!(answer.status, 404, "{request}");
    }
    let answer = web.ask("POST /events/subscribe", &basic, r#"{"args":["auth"]}"#).await;
    assert_eq!(answer.status, 400, "events come over a WebSocket: {answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_outlives_killed_services() {
    let Some(mut stack) = Stack::start(&Options::new(Pam::Wrapper)) else { return };
    let alice = stack.person(Role::Full).clone();
    let mut web = Web::connect(&stack, Way::Unix).await;
    let args = json!({"username": alice.name, "password": alice.password}).to_string();
    let token = token_of(&web.ask("PUT /rpc/auth", "", &args).await.json()["args"]);
    for program in [Program::Authd, Program::Gateway] {
        stack.kill(program);
        stack.start_again(program);
        let began = Instant::now();
        loop {
            let mut web = Web::connect(&stack, Way::Unix).await;
            match web.ask("GET /rpc/query", &bearer(&token), "").await.status {
                200 => break,
                status => assert_eq!(status, 503, "{program:?}"),
            }
            assert!(began.elapsed() < PATIENCE, "{program:?} does not know it");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A challenge is answered on the connection that it was told on.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_opens_a_session_on_the_connection_of_its_challenge() {
    let Some(stack) = Stack::start(&Options::new(Pam::Wrapper)) else { return };
    let alice = stack.person(Role::Full).clone();
    let key = Quick::generate();
    let mut client = Client::tls(&stack).await;
    client.login(&alice).await.expect("logs in");
    register(&mut client, &key, "for REST").await.expect("registered");
    client.close().await;
    let mut web = Web::connect(&stack, Way::Door).await;
    let mut proofs = Vec::new();
    for _ in 0..2 {
        let args = web.ask("POST /rpc/auth_ssl", "", r#"{"args":""}"#).await.json()["args"].clone();
        let text = |name: &str| args[name].as_str().unwrap_or_else(|| panic!("no {name}: {args}"));
        let proof = STANDARD.encode(key.prove(text("context"), text("test_string")));
        proofs.push(json!({"encrypted_string": proof, "username": alice.name}).to_string());
    }
    let mut elsewhere = Web::connect(&stack, Way::Door).await;
    assert_eq!(elsewhere.ask("POST /rpc/auth_ssl", "", &proofs[0]).await.status, 401);
    let answer = web.ask("POST /rpc/auth_ssl", "", &proofs[1]).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let token = token_of(&answer.json()["args"]);
    assert_eq!(elsewhere.ask("GET /rpc/query", &bearer(&token), "").await.status, 200);
    assert_eq!(web.ask("POST /rpc/auth_ssl", "", &proofs[1]).await.status, 401, "it was used up");
}
