//! The time of day set back and forth under running services, which have one of their own here: nothing that has
//! a life of its own ends by it, and nothing lives on.

use std::time::{Duration, Instant};

use doorward_tests::keys::Quick;
use doorward_tests::{Client, Options, Pam, Program, Received, Role, Stack};
use serde_json::json;

use crate::support::{listed, log_in_with, register, revoke};

const DAY: i64 = 86_400;

/// Whether an audit record of this moment is of the day that the services are in.
fn believes(stack: &Stack, seconds: i64) -> bool {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
    let day = now.checked_add_signed(seconds).expect("after 1970") / 86_400;
    let records = stack.records(Program::Authd, &[]);
    let time = records.last().expect("a record")["time"].as_str().expect("a time").to_owned();
    // Days since 1970 of YYYY-MM-DD (the months of a year that begins in March).
    let part = |range| time.get(range).and_then(|text: &str| text.parse::<u64>().ok()).expect("a date");
    let (year, month, date) = (part(0..4), part(5..7), part(8..10));
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + date - 1 - 719_468;
    days.abs_diff(day) <= 1 && (seconds == 0 || days.abs_diff(now / 86_400) > 0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_of_the_wall_clock_ends_no_session_and_stops_nothing() {
    let Some(stack) = Stack::start(&Options::new(Pam::Wrapper).wall_clock()) else { return };
    let (alice, bob) = (stack.person(Role::Full).clone(), stack.person(Role::Limited).clone());
    let mut held = Client::tls(&stack).await;
    let token = held.login(&alice).await.expect("alice logs in");
    let mut owner = Client::tls(&stack).await;
    owner.login(&bob).await.expect("bob logs in");
    let key = Quick::generate();
    register(&mut owner, &key, "").await.expect("bob's key");
    let mut by_key = Client::tls(&stack).await;
    log_in_with(&mut by_key, &key).await.expect("bob's key opens the door");
    let now = [30 * DAY, -30 * DAY, 2 * DAY, -2 * DAY, 0];
    for seconds in now {
        // What certd is asked with was signed a moment ago, by the other time.
        listed(&mut held).await;
        stack.set_wall_clock(seconds);
        for client in [&mut held, &mut owner, &mut by_key] {
            assert!(client.logged_in().await, "{seconds}");
        }
        let list = held.ask("rpc/sessions", json!({"action": "list"})).await.expect("a list");
        assert!(list.as_array().expect("an array").len() >= 3, "{seconds}: {list}");
        assert!(listed(&mut held).await.contains_key(&key.packed()), "{seconds}");
        let mut other = Client::tls(&stack).await;
        other.ask("rpc/auth_token", json!({"token": token})).await.expect("alice's session");
        other.close().await;
        // Whoever comes now is as welcome.
        let mut other = Client::tls(&stack).await;
        other.login(&bob).await.expect("a login");
        assert!(believes(&stack, seconds), "{seconds}");
        register(&mut other, &Quick::generate(), "").await.expect("a key of a login of this time");
        other.ask("rpc/auth_clear", json!({"reply": true})).await.expect("its end");
        other.close().await;
        let mut other = Client::tls(&stack).await;
        log_in_with(&mut other, &key).await.expect("bob's key still opens the door");
        other.ask("rpc/auth_clear", json!({"reply": true})).await.expect("its end");
        other.close().await;
    }
    held.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_of_the_wall_clock_prolongs_no_session() {
    let options = Options::new(Pam::Wrapper).wall_clock().authd("sessions.absolute_seconds", 4);
    let Some(stack) = Stack::start(&options) else { return };
    for seconds in [-DAY, DAY] {
        stack.set_wall_clock(0);
        let mut client = Client::tls(&stack).await;
        let began = Instant::now();
        client.login(stack.person(Role::Full)).await.expect("alice logs in");
        stack.set_wall_clock(seconds);
        let last = loop {
            match client.receive().await {
                Received::Json(event) => assert_eq!(event["namespace"], "events", "{event}"),
                Received::Closed(code) => break code,
            }
        };
        assert_eq!(last, Some(1000), "{seconds}");
        let lived = began.elapsed();
        assert!(lived >= Duration::from_secs(4) && lived < Duration::from_secs(20), "{lived:?}");
    }
}

/// What is revoked is void, also what a key opened on a day that is yet to come.
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_counts_when_the_wall_clock_was_set_back() {
    let Some(stack) = Stack::start(&Options::new(Pam::Wrapper).wall_clock()) else { return };
    let bob = stack.person(Role::Limited).clone();
    stack.set_wall_clock(DAY);
    let mut owner = Client::tls(&stack).await;
    owner.login(&bob).await.expect("bob logs in");
    let key = Quick::generate();
    register(&mut owner, &key, "").await.expect("bob's key");
    let mut by_key = Client::tls(&stack).await;
    log_in_with(&mut by_key, &key).await.expect("bob's key opens the door");
    stack.set_wall_clock(0);
    // authd knows how long ago bob logged in, whatever day it is.
    revoke(&mut owner, &key).await.expect("bob's key");
    let Received::Json(event) = by_key.receive().await else { panic!("no event") };
    assert_eq!(event["args"]["reason"], "revoked", "{event}");
    assert_eq!(by_key.receive().await, Received::Closed(Some(1000)));
    assert_eq!(log_in_with(&mut Client::tls(&stack).await, &key).await, Err(401));
    owner.close().await;
}
