//! `kill -9` at any moment: what was acknowledged before is as it was acknowledged.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use doorward_tests::{Client, Options, Pam, Person, Program, Role, Stack, skip};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

/// What the clients were told.
#[derive(Debug, Default)]
struct Told {
    live: Vec<String>,
    ended: Vec<String>,
}

/// Logs in again and again, and ends every other session, until authd is gone.
async fn come_and_go(stack: Arc<Stack>, person: Person, told: Arc<Mutex<Told>>) {
    for round in 0.. {
        let mut client = Client::unix(&stack).await;
        let Ok(token) = client.login(&person).await else { return };
        if round % 2 == 0 {
            told.lock().expect("no panic").live.push(token);
        } else if client.ask("rpc/auth_clear", json!({"reply": true})).await.is_ok() {
            told.lock().expect("no panic").ended.push(token);
        } else {
            // Neither lost nor ended: nobody was told.
            return;
        }
        client.close().await;
    }
}

async fn killed_authd_keeps_its_word(pam: Pam) {
    let mut options = Options::new(pam).authd("sessions.per_user", 10_000).authd("pam.conversations", 64);
    for bound in ["pam.per_source", "pam.per_account"] {
        options = options.authd(bound, 16);
    }
    let Some(stack) = Stack::start(&options) else { return };
    let mut stack = Arc::new(stack);
    let told = Arc::new(Mutex::new(Told::default()));
    let rounds = if skip::long() { 40 } else { 3 };
    for round in 1..=rounds {
        let people = [Role::Full, Role::Limited, Role::Spare].map(|role| stack.person(role).clone());
        let tasks =
            people.map(|person| tokio::spawn(come_and_go(Arc::clone(&stack), person, Arc::clone(&told))));
        // In the middle of their work: after some more words were given.
        until("logins and logouts", || {
            let told = told.lock().expect("no panic");
            told.live.len() >= round * 6 && told.ended.len() >= round * 4
        })
        .await;
        kill(pid(&stack, Program::Authd), Signal::SIGKILL).expect("authd runs");
        for task in tasks {
            task.await.expect("the clients end when authd is gone");
        }
        let owned = Arc::get_mut(&mut stack).expect("the clients are gone");
        owned.kill(Program::Authd);
        owned.start_again(Program::Authd);
        compare(&stack, &told).await;
    }
    // The gateway holds nothing that counts.
    let owned = Arc::get_mut(&mut stack).expect("the clients are gone");
    owned.kill(Program::Gateway);
    owned.start_again(Program::Gateway);
    compare(&stack, &told).await;
}

async fn compare(stack: &Stack, told: &Mutex<Told>) {
    let (live, ended) = {
        let told = told.lock().expect("no panic");
        (told.live.clone(), told.ended.clone())
    };
    for (tokens, valid) in [(live, true), (ended, false)] {
        for token in tokens {
            let mut client = Client::unix(stack).await;
            let reply = client.ask("rpc/auth_token", json!({"token": token})).await;
            assert_eq!(
                reply.is_ok(),
                valid,
                "a token that {}: {reply:?}",
                if valid { "lives" } else { "ended" }
            );
            client.close().await;
        }
    }
}

/// Waits until it is so.
async fn until(what: &str, so: impl Fn() -> bool) {
    let all = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), all).await.unwrap_or_else(|_| panic!("no {what} in time"));
}

fn pid(stack: &Stack, program: Program) -> Pid {
    Pid::from_raw(stack.pid(program).try_into().expect("a pid"))
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_authd_keeps_its_word_under_libpam_wrapper() {
    killed_authd_keeps_its_word(Pam::Wrapper).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_authd_keeps_its_word_with_real_accounts() {
    killed_authd_keeps_its_word(Pam::Real).await;
}

async fn killed_conversations(pam: Pam) {
    let Some(mut stack) = Stack::start(&Options::new(pam)) else { return };
    // A worker: its login fails, the next one does not.
    let mut client = Client::tls(&stack).await;
    let conversation = client.login_prompts(stack.person(Role::Code)).await;
    for worker in stack.conversations().iter().filter(|line| line.contains("--guard-pid")) {
        let pid = worker.split(' ').next().and_then(|pid| pid.parse().ok()).expect("a pid");
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("the worker runs");
    }
    let code = client.respond(&conversation, &[doorward_tests::CODE]).await.expect_err("its worker is dead");
    assert!(matches!(code, 401 | 500 | 503), "{code}");
    stack.await_no_conversations(Duration::from_secs(20));
    client.login(stack.person(Role::Full)).await.expect("a login after that");
    // The listening guard, with a conversation open: whatever becomes of that, nothing stays.
    let mut other = Client::tls(&stack).await;
    let conversation = other.login_prompts(stack.person(Role::Code)).await;
    stack.kill(Program::Guard);
    assert!(client.logged_in().await, "sessions do not need the guard");
    let refused = Client::tls(&stack).await.login(stack.person(Role::Limited)).await;
    assert_eq!(refused, Err(503));
    drop(other.respond(&conversation, &[doorward_tests::CODE]).await);
    stack.start_again(Program::Guard);
    Client::tls(&stack).await.login(stack.person(Role::Limited)).await.expect("a login after the restart");
    other.close().await;
    client.close().await;
    stack.await_no_conversations(Duration::from_secs(20));
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_workers_and_guards_leave_nothing_under_libpam_wrapper() {
    killed_conversations(Pam::Wrapper).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_workers_and_guards_leave_nothing_with_real_accounts() {
    killed_conversations(Pam::Real).await;
}
