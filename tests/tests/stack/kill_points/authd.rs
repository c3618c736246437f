//! authd, killed.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use doorward_tests::client::{outcome, token_of};
use doorward_tests::wal::Wal;
use doorward_tests::{CODE, Client, Program, Received, Role};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::bed::{ANSWERED, Bed, answers, settled, tail, taken_up};
use crate::support::listed;

/// Frozen before the reply, nothing of it comes within this.
const SILENCE: Duration = Duration::from_millis(20);
/// So often a moment that is short may be missed.
const TRIES: usize = 100;

pub(super) async fn starting(bed: &mut Bed) {
    bed.stack.kill(Program::Authd);
    let bound = bed.anew("run/authd/authd.sock");
    bed.stack.kill_in_start(Program::Authd, "socket", bound);
    bed.again(Program::Authd).await;
}

pub(super) async fn making_its_key(bed: &mut Bed) {
    let (mut client, _) = bed.enter(Role::Limited).await;
    listed(&mut client).await;
    bed.stack.kill(Program::Authd);
    let key = bed.stack.path("state/authd/assertion.key");
    fs::remove_file(&key).expect("authd's key");
    bed.stack.kill_in_start(Program::Authd, "new key", || key.exists());
    bed.again(Program::Authd).await;
    assert_eq!(settled(&mut client).await, Some(true));
    // Not by an assertion that was signed with the old one and kept.
    listed(&mut client).await;
}

pub(super) async fn asking(bed: &mut Bed) {
    let mut client = bed.stranger().await;
    let conversation = client.login_prompts(bed.stack.person(Role::Code)).await;
    bed.stack.kill(Program::Authd);
    let args = json!({"conversation": conversation, "answers": [CODE]});
    let reply = client.try_ask("rpc/auth_respond", args.clone()).await.expect("the gateway is there");
    assert!(matches!(reply, Err(401 | 408 | 503)), "{reply:?}");
    bed.stack.await_no_conversations(ANSWERED);
    bed.again(Program::Authd).await;
    let reply = client.try_ask("rpc/auth_respond", args).await.expect("the gateway is there");
    assert!(matches!(reply, Err(401 | 408 | 503)), "{reply:?}");
}

/// Asks for a login by the password of somebody whose module does not return.
pub(super) async fn hang(bed: &mut Bed) -> Client {
    let mut client = bed.stranger().await;
    let person = bed.stack.person(Role::Hang);
    client.request("rpc/auth", json!({"username": person.name, "password": person.password})).await;
    // Guard, worker, orphan.
    bed.stack.await_conversations(3);
    client
}

pub(super) async fn waiting_for_a_module(bed: &mut Bed) {
    let mut client = hang(bed).await;
    bed.stack.kill(Program::Authd);
    one_error(&mut client).await;
    bed.stack.await_no_conversations(ANSWERED);
    bed.again(Program::Authd).await;
}

pub(super) async fn one_error(client: &mut Client) {
    let asked = Instant::now();
    let code = outcome(&client.json().await).expect_err("nobody can have said yes");
    assert!(matches!(code, 401 | 408 | 500 | 503), "{code}");
    assert!(asked.elapsed() < ANSWERED, "{:?}", asked.elapsed());
}

pub(super) async fn granting(bed: &mut Bed) {
    let person = bed.stack.person(Role::Clean).clone();
    let database = bed.stack.path("state/authd/sessions.sqlite");
    for _ in 0..TRIES {
        let mut client = bed.stranger().await;
        let wal = Wal::of(&database);
        let user = person.name.clone();
        let frozen = bed.freeze(Program::Authd, move || wal.has(user.as_bytes()));
        client.request("rpc/auth", json!({"username": person.name, "password": person.password})).await;
        frozen.await.expect("no panic");
        if let Some(reply) = client.receive_within(SILENCE).await {
            // Too late: it was told.
            bed.thaw(Program::Authd);
            let Received::Json(reply) = reply else { panic!("{reply:?}") };
            bed.lives(&token_of(&outcome(&reply).expect("a login"))).await;
            continue;
        }
        bed.stack.kill(Program::Authd);
        let answer = outcome(&client.json().await);
        if let Ok(args) = &answer {
            // On a busy machine the answer was on its way.
            bed.lives(&token_of(args)).await;
        } else {
            assert!(!client.logged_in().await, "a login that was answered by an error");
        }
        bed.again(Program::Authd).await;
        match answer {
            Ok(_) => continue,
            Err(code) => return assert!(matches!(code, 408 | 503), "{code}"),
        }
    }
    panic!("the moment was missed {TRIES} times");
}

pub(super) async fn granted(bed: &mut Bed) {
    // Remembered as living.
    let (mut client, _) = bed.enter(Role::Limited).await;
    bed.stack.kill(Program::Authd);
    bed.again(Program::Authd).await;
    assert_eq!(settled(&mut client).await, Some(true));
}

pub(super) async fn listing(bed: &mut Bed) {
    let (mut client, _) = bed.enter(Role::Full).await;
    let mut open = BTreeSet::new();
    for _ in 0..24 {
        open.insert(client.request("rpc/sessions", json!({"action": "list"})).await);
    }
    let first = client.json().await;
    assert!(open.remove(first["id"].as_str().expect("an id")), "{first}");
    bed.stack.kill(Program::Authd);
    let asked = Instant::now();
    let rest = answers(&mut client, open).await;
    assert_eq!(rest.len(), 23, "the gateway closed the connection");
    assert!(asked.elapsed() < ANSWERED, "{:?}", asked.elapsed());
    let codes: BTreeSet<u64> = rest.iter().filter_map(|reply| outcome(reply).err()).collect();
    assert!(codes.iter().all(|code| matches!(code, 408 | 503)), "{codes:?}");
    bed.again(Program::Authd).await;
    assert_eq!(settled(&mut client).await, Some(true));
}

/// The name of the session of the caller.
async fn own(client: &mut Client) -> Value {
    let list = client.ask("rpc/sessions", json!({"action": "list"})).await.expect("a list");
    let own = list.as_array().expect("a list").iter().find(|entry| entry["current"] == true);
    own.expect("its own")["session"].clone()
}

pub(super) async fn ending(bed: &mut Bed) {
    let database = bed.stack.path("state/authd/sessions.sqlite");
    for _ in 0..TRIES {
        let (mut boss, _) = bed.enter(Role::Full).await;
        let (mut held, token) = bed.enter(Role::Limited).await;
        let session = own(&mut held).await;
        bed.may_have_ended(&token);
        let wal = Wal::of(&database);
        let frozen = bed.freeze(Program::Authd, move || wal.grew());
        boss.request("rpc/sessions", json!({"action": "end", "session": session})).await;
        frozen.await.expect("no panic");
        if boss.receive_within(SILENCE).await.is_some() {
            bed.thaw(Program::Authd);
            bed.has_ended(&token);
            continue;
        }
        bed.stack.kill(Program::Authd);
        let answer = outcome(&boss.json().await);
        bed.again(Program::Authd).await;
        match answer {
            Ok(_) => {
                bed.has_ended(&token);
                continue;
            }
            Err(code) => assert!(matches!(code, 408 | 503), "{code}"),
        }
        // What was committed may have been a report of activity, and the end lost: nobody was told that it is
        // done. Who held the session may have heard of it all the same, since that waits for no disk.
        let opens = taken_up(&bed.stack, &token, Instant::now() + ANSWERED).await;
        assert!(opens || settled(&mut held).await != Some(true), "it has ended, and who held it goes on");
        return;
    }
    panic!("the moment was missed {TRIES} times");
}

pub(super) async fn ended(bed: &mut Bed) {
    let (mut boss, _) = bed.enter(Role::Full).await;
    let (mut held, token) = bed.enter(Role::Limited).await;
    let session = own(&mut held).await;
    boss.ask("rpc/sessions", json!({"action": "end", "session": session})).await.expect("its end");
    bed.stack.kill(Program::Authd);
    bed.has_ended(&token);
    bed.again(Program::Authd).await;
    assert_ne!(settled(&mut held).await, Some(true), "who held it goes on");
}

pub(super) async fn penalising(bed: &mut Bed) {
    let mut client = bed.stranger().await;
    bed.guess(&mut client).await;
    bed.stack.kill(Program::Authd);
    bed.again(Program::Authd).await;
}

pub(super) async fn stopping(bed: &mut Bed) {
    let mut first = hang(bed).await;
    let mut other = bed.stranger().await;
    let conversation = other.login_prompts(bed.stack.person(Role::Code)).await;
    bed.stack.signal(Program::Authd, Signal::SIGTERM);
    one_error(&mut first).await;
    bed.stack.kill(Program::Authd);
    let args = json!({"conversation": conversation, "answers": [CODE]});
    let reply = other.try_ask("rpc/auth_respond", args).await.expect("the gateway is there");
    assert!(matches!(reply, Err(401 | 408 | 503)), "{reply:?}");
    bed.stack.await_no_conversations(ANSWERED);
    bed.again(Program::Authd).await;
}

pub(super) async fn reloading(bed: &mut Bed) {
    let (mut client, _) = bed.enter(Role::Limited).await;
    let audit = bed.stack.path("state/authd/audit.jsonl");
    let before = fs::metadata(&audit).expect("records").len();
    let pid = bed.pid(Program::Authd);
    let recorded = move || tail(&audit, before).contains("\"reload\"");
    let frozen = bed.freeze(Program::Authd, recorded);
    nix::sys::signal::kill(pid, Signal::SIGHUP).expect("it runs");
    frozen.await.expect("no panic");
    bed.again(Program::Authd).await;
    assert_eq!(settled(&mut client).await, Some(true));
}

pub(super) async fn watched(bed: &mut Bed) {
    let (first, token) = bed.enter(Role::Limited).await;
    let mut held = vec![first];
    for _ in 1..16 {
        let mut client = bed.stranger().await;
        client.ask("rpc/auth_token", json!({"token": token})).await.expect("taken up");
        held.push(client);
    }
    bed.stack.kill(Program::Authd);
    for client in &mut held {
        // One answer may be on its way still.
        while client.ask("rpc/query", json!({})).await.is_ok() {}
        assert_eq!(client.ask("rpc/query", json!({})).await, Err(503), "nothing that is cached is used");
    }
    bed.again(Program::Authd).await;
    for client in &mut held {
        assert_eq!(settled(client).await, Some(true), "the same connection works again");
    }
}
