//! Guard and worker, killed. The listening guard is a service; the others live for one conversation.

use std::time::Instant;

use doorward_tests::client::{PATIENCE, outcome, token_of};
use doorward_tests::{CODE, Client, Program, Role};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::authd::{hang, one_error};
use crate::bed::{ANSWERED, Bed};

/// What a login is told whose worker died: it was refused, and has made its source wait by that.
fn is_refusal(code: u64) -> bool {
    matches!(code, 401 | 403 | 500 | 503)
}

/// Kills all processes of conversations that have this word in their command line; how many.
fn kill_those_with(bed: &Bed, word: &str) -> usize {
    let all = bed.stack.conversations();
    let ours = all.iter().filter(|line| line.contains(word));
    let pids = ours.filter_map(|line| line.split(' ').next()?.parse().ok());
    pids.filter(|pid| kill(Pid::from_raw(*pid), Signal::SIGKILL).is_ok()).count()
}

/// The worker's command line names its guard; the guard's names the program of the worker.
const WORKER: &str = "--guard-pid";
const GUARD: &str = "--total-seconds";

async fn prompts(bed: &mut Bed) -> (Client, String) {
    let mut client = bed.stranger().await;
    let conversation = client.login_prompts(bed.stack.person(Role::Code)).await;
    (client, conversation)
}

pub(super) async fn starting_listener(bed: &mut Bed) {
    bed.stack.kill(Program::Guard);
    let bound = bed.anew("run/pam/pam.sock");
    bed.stack.kill_in_start(Program::Guard, "socket", bound);
    bed.again(Program::Guard).await;
}

pub(super) async fn listener(bed: &mut Bed) {
    let (mut client, conversation) = prompts(bed).await;
    bed.stack.kill(Program::Guard);
    let token = client.respond(&conversation, &[CODE]).await.expect("its guard needs no listener");
    bed.lives(&token).await;
    bed.again(Program::Guard).await;
}

pub(super) async fn guard(bed: &mut Bed) {
    let mut client = hang(bed).await;
    assert_eq!(kill_those_with(bed, GUARD), 1);
    one_error(&mut client).await;
    bed.stack.await_no_conversations(ANSWERED);
}

pub(super) async fn starting_worker(bed: &mut Bed) {
    let mut client = bed.stranger().await;
    let person = bed.stack.person(Role::Code);
    client.request("rpc/auth", json!({"username": person.name, "password": person.password})).await;
    let asked = Instant::now();
    while kill_those_with(bed, WORKER) == 0 {
        assert!(asked.elapsed() < PATIENCE, "no worker");
    }
    // Prompts at most, which nobody can answer any more.
    if let Ok(args) = outcome(&client.json().await) {
        let conversation = args["conversation"].as_str().expect("prompts").to_owned();
        client.respond(&conversation, &[CODE]).await.expect_err("its worker is dead");
    }
    bed.stack.await_no_conversations(ANSWERED);
}

pub(super) async fn asking_worker(bed: &mut Bed) {
    let (mut client, conversation) = prompts(bed).await;
    assert_eq!(kill_those_with(bed, WORKER), 1);
    let code = client.respond(&conversation, &[CODE]).await.expect_err("its worker is dead");
    assert!(is_refusal(code), "{code}");
    bed.stack.await_no_conversations(ANSWERED);
}

pub(super) async fn hanging_worker(bed: &mut Bed) {
    let mut client = hang(bed).await;
    // The orphan has its command line; only the worker is a child of its guard's at this time.
    let guard = bed.stack.conversations().iter().find(|line| line.contains(GUARD)).cloned();
    let guard = guard.and_then(|line| line.split(' ').next().map(str::to_owned)).expect("a guard");
    let children =
        std::fs::read_to_string(format!("/proc/{guard}/task/{guard}/children")).expect("its guard");
    let worker = children.split_whitespace().next().and_then(|pid| pid.parse().ok()).expect("a worker");
    kill(Pid::from_raw(worker), Signal::SIGKILL).expect("it hangs there");
    one_error(&mut client).await;
    bed.stack.await_no_conversations(ANSWERED);
}

pub(super) async fn answered_worker(bed: &mut Bed) {
    let (mut client, conversation) = prompts(bed).await;
    let args = json!({"conversation": conversation, "answers": [CODE]});
    client.request("rpc/auth_respond", args).await;
    kill_those_with(bed, WORKER);
    match outcome(&client.json().await) {
        Ok(args) => bed.lives(&token_of(&args)).await,
        Err(code) => assert!(is_refusal(code), "{code}"),
    }
    bed.stack.await_no_conversations(ANSWERED);
}
