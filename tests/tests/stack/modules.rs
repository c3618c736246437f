//! PAM modules that behave badly, end to end: answered in time, nothing remains, others go on.

use std::process::Command;
use std::time::{Duration, Instant};

use doorward_tests::{Client, Options, Pam, Program, Role, Stack};

/// The budget for a module that says nothing, as configured here, in seconds.
const SILENT_SECONDS: i64 = 8;
const SILENT: Duration = Duration::from_secs(SILENT_SECONDS as u64);
/// What an answer may take beyond its budget on a busy machine: ending the processes, the way back.
const SLACK: Duration = Duration::from_secs(15);

async fn bad_modules(pam: Pam) {
    let options = Options::new(pam).authd("pam.silent_seconds", SILENT_SECONDS);
    let Some(mut stack) = Stack::start(&options) else { return };
    a_hanging_login_stops_nobody(&stack).await;
    for (role, expected) in [
        // Neither a crash nor another user's name, nor more questions than fit, is a success.
        (Role::Crash, Err(401)),
        (Role::Changer, Err(401)),
        (Role::Flood, Err(401)),
        // What a module prints, forks or leaves behind does not reach the answer.
        (Role::Stdout, Ok(())),
        (Role::Fork, Ok(())),
        (Role::Daemon, Ok(())),
        (Role::Clean, Ok(())),
    ] {
        let mut client = Client::tls(&stack).await;
        let seen = client.login(stack.person(role)).await.map(drop);
        assert_eq!(seen, expected, "{role:?}");
        assert_eq!(client.logged_in().await, expected.is_ok(), "{role:?}");
        stack.await_no_conversations(SLACK);
        client.close().await;
    }
    assert!(stack.runs());
}

async fn a_hanging_login_stops_nobody(stack: &Stack) {
    let mut hanging = Client::tls(stack).await;
    let started = Instant::now();
    let person = stack.person(Role::Hang);
    hanging
        .request("rpc/auth", serde_json::json!({"username": person.name, "password": person.password}))
        .await;
    // Its worker and the orphan are there while the others log in.
    stack.await_conversations(3);
    for _ in 0..3 {
        let mut other = Client::unix(stack).await;
        other.login(stack.person(Role::Full)).await.expect("others log in meanwhile");
        other.close().await;
    }
    assert!(stack.conversations().len() >= 3, "the hanging conversation was over before its time");
    let reply = hanging.json().await;
    assert_eq!(reply["args"]["code"], 408, "{reply}");
    assert!(started.elapsed() >= SILENT, "{:?}", started.elapsed());
    assert!(started.elapsed() < SILENT + SLACK, "{:?}", started.elapsed());
    // Worker, guard, and the double-forked child that ignores every signal.
    stack.await_no_conversations(SLACK);
    // The connection is usable as before.
    hanging.login(stack.person(Role::Limited)).await.expect("a login after the hanging one");
    hanging.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_modules_under_libpam_wrapper() {
    bad_modules(Pam::Wrapper).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_modules_with_real_accounts() {
    bad_modules(Pam::Real).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_ends_its_conversations() {
    let Some(mut stack) = Stack::start(&Options::new(Pam::Wrapper)) else { return };
    for role in [Role::Code, Role::Hang] {
        let mut client = Client::tls(&stack).await;
        let person = stack.person(role).clone();
        let args = serde_json::json!({"username": person.name, "password": person.password});
        client.request("rpc/auth", args).await;
        stack.await_conversations(2);
        drop(client);
        stack.await_no_conversations(Duration::from_secs(20));
    }
    // And so does a gateway that dies.
    let mut client = Client::tls(&stack).await;
    let person = stack.person(Role::Code).clone();
    client.login_prompts(&person).await;
    stack.kill(Program::Authd);
    stack.await_no_conversations(Duration::from_secs(20));
    stack.start_again(Program::Authd);
    let mut client = Client::tls(&stack).await;
    client.login(stack.person(Role::Full)).await.expect("a login after the restart");
}

/// pam_faillock as its manual page writes it, with a directory of this test's own.
fn with_faillock(tally: &str) -> String {
    format!(
        "auth required pam_faillock.so preauth dir={tally} deny=2 unlock_time=600\n\
         auth [success=1 default=bad] pam_unix.so nodelay\n\
         auth [default=die] pam_faillock.so authfail dir={tally} deny=2 unlock_time=600\n\
         auth sufficient pam_faillock.so authsucc dir={tally} deny=2 unlock_time=600\n\
         auth required pam_deny.so\n\
         account required pam_faillock.so dir={tally} deny=2 unlock_time=600\n\
         account required pam_unix.so\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_pam_faillock_locks_is_refused_like_any_other_until_root_unlocks_it() {
    let Some(stack) = Stack::start(&Options::new(Pam::Real)) else { return };
    let tally = tempfile::tempdir().expect("a directory");
    let tally = tally.path().to_str().expect("its name is a text");
    std::fs::write(stack.pam_service(), with_faillock(tally)).expect("our service file");
    let good = stack.person(Role::Full);
    let mut wrong = good.clone();
    wrong.password = "Zaunkoenig".to_owned();
    let mut client = Client::unix(&stack).await;
    assert_eq!(client.login(&wrong).await, Err(401));
    assert_eq!(client.login(&wrong).await, Err(401));
    assert_eq!(client.login(good).await, Err(401), "two failures lock the account");
    let mut other = Client::unix(&stack).await;
    other.login(stack.person(Role::Limited)).await.expect("nobody else is locked");
    let unlocked = Command::new("faillock").args(["--dir", tally, "--user", &good.name, "--reset"]).status();
    assert!(unlocked.expect("faillock runs (package libpam-modules-bin)").success());
    client.login(good).await.expect("root unlocked the account");
}
