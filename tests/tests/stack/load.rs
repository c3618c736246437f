//! Many of everything, for a while: nothing grows, nothing is left open, nobody waits.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use doorward_tests::client::PATIENCE;
use doorward_tests::web::{Way, Web};
use doorward_tests::{Client, Options, Pam, Program, Received, Role, Stack, skip};
use serde_json::json;
use tokio::task::JoinSet;

use crate::noise::Noise;

const SERVICES: [Program; 3] = [Program::Gateway, Program::Authd, Program::Certd];
const MIB: u64 = 1 << 20;

/// What a program has in memory, in bytes.
fn resident(stack: &Stack, program: Program) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", stack.pid(program))).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// Bytes that the kernel has for the gateway's TLS connections and that it has not read: the second number of
/// `tx_queue:rx_queue` in proc(5)'s net/tcp.
fn unread(stack: &Stack) -> u64 {
    let port = stack.tls_address().rsplit(':').next().expect("a port").parse::<u16>().expect("a port");
    let local = format!(":{port:04X}");
    let table =
        fs::read_to_string(format!("/proc/{}/net/tcp", stack.pid(Program::Gateway))).expect("a table");
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let open =
        rows.filter(|row| row.get(1).is_some_and(|own| own.ends_with(&local)) && row.get(3) == Some(&"01"));
    let queues: Vec<_> = open
        .map(|row| {
            let (_, unread) = row[4].split_once(':').expect("two queues");
            u64::from_str_radix(unread, 16).expect("a number")
        })
        .collect();
    assert!(!queues.is_empty(), "no connection is in the table");
    queues.iter().sum()
}

/// How many descriptors a program has open, by what they are.
fn descriptors(stack: &Stack, program: Program) -> BTreeMap<String, usize> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{}/fd", stack.pid(program))).expect("it runs").flatten() {
        if let Ok(target) = fs::read_link(entry.path()) {
            // socket:[1234] and the like, and files by their name.
            let kind = target.display().to_string().split(":[").next().unwrap_or_default().to_owned();
            *all.entry(kind).or_default() += 1;
        }
    }
    all
}

/// Children that ended and were not waited for.
fn zombies(stack: &Stack, program: Program) -> usize {
    let pid = stack.pid(program).to_string();
    let processes = fs::read_dir("/proc").expect("there").flatten();
    let stats = processes.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    // PID (name) STATE PPID ...
    let ended = stats.filter(|stat| {
        let rest = stat.rsplit(") ").next().unwrap_or_default();
        rest.starts_with("Z ") && rest.split(' ').nth(1) == Some(&pid)
    });
    ended.count()
}

/// Messages that were valid once, over TLS, logged in and not.
#[tokio::test(flavor = "multi_thread")]
async fn mutated_messages_stop_nobody_and_take_no_memory() {
    const CONNECTIONS: usize = 8;
    const BATCH: usize = 24;
    let messages = if skip::long() { 1_000_000 } else { 8_000 };
    // libnss-wrapper cannot read groups for two at a time.
    let pam = if skip::is_root() { Pam::Real } else { Pam::Wrapper };
    let Some(mut stack) = Stack::start(&Options::new(pam)) else { return };
    let mut client = Client::tls(&stack).await;
    let token = client.login(stack.person(Role::Full)).await.expect("alice logs in");
    let turns = std::sync::Arc::new(tokio::sync::Mutex::new(()));
    let stack_of_all = std::sync::Arc::new(stack);
    let mut before = 0;
    for (round, share) in [(0, 1_600), (1, messages)] {
        // Once to have everything in place, then for the figure.
        before = if round == 0 { before } else { resident(&stack_of_all, Program::Gateway) };
        let mut tasks = JoinSet::new();
        for number in 0..CONNECTIONS {
            let (stack, token) = (std::sync::Arc::clone(&stack_of_all), token.clone());
            let turns = std::sync::Arc::clone(&turns);
            let mut noise = Noise::of(number as u64 + 1 + round * 100);
            tasks.spawn(async move {
                let mut sent = 0;
                while sent < share / CONNECTIONS {
                    let mut client = Client::tls(&stack).await;
                    if number % 2 == 0 {
                        let _turn = turns.lock().await;
                        client.ask("rpc/auth_token", json!({"token": token})).await.expect("taken up");
                    }
                    sent += one_connection(&mut client, &mut noise, BATCH, share / CONNECTIONS - sent).await;
                    client.close().await;
                }
                sent
            });
        }
        let sent: usize = tasks.join_all().await.into_iter().sum();
        assert!(sent >= share, "{sent}");
    }
    let grown = resident(&stack_of_all, Program::Gateway).saturating_sub(before);
    println!("{messages} messages; the gateway grew by {} KiB", grown / 1024);
    assert!(grown <= 20 * MIB, "{grown}");
    assert!(client.logged_in().await, "a session that had nothing to do with it");
    client.close().await;
    stack = std::sync::Arc::into_inner(stack_of_all).expect("the tasks are over");
    assert!(stack.runs());
}

/// Sends batches until it has sent so many or the gateway closes; how many.
async fn one_connection(client: &mut Client, noise: &mut Noise, batch: usize, most: usize) -> usize {
    let mut sent = 0;
    while sent < most {
        for _ in 0..batch {
            let text = noise.mutated();
            if client.try_send(&text).await.is_err() {
                return sent;
            }
            sent += 1;
        }
        // Handled in order where order counts: with the answer to this one they were answered, too.
        let Ok(id) = client.try_request("rpc/identify", json!({})).await else { return sent };
        loop {
            match client.receive_within(Duration::from_secs(10)).await.expect("an answer or an end in 10 s") {
                Received::Json(reply) if reply["id"] == json!(id) => break,
                Received::Json(_) => {}
                Received::Closed(_) => return sent,
            }
        }
    }
    sent
}

/// Clients that are logged in and silent.
#[tokio::test(flavor = "multi_thread")]
async fn idle_clients_take_little_memory_and_nobodys_time() {
    // The client's end and the gateway's each need a descriptor.
    let all: usize = if skip::long() { 9_500 } else { 500 };
    let Some(stack) = Stack::start(&Options::new(Pam::Wrapper)) else { return };
    let mut first = Client::tls(&stack).await;
    let token = first.login(stack.person(Role::Limited)).await.expect("bob logs in");
    let alone = logins(&stack).await;
    let before = resident(&stack, Program::Gateway);
    let mut idle = Vec::new();
    for _ in 0..all {
        let mut client = Client::tls(&stack).await;
        client.ask("rpc/auth_token", json!({"token": token})).await.expect("taken up");
        idle.push(client);
    }
    let each = resident(&stack, Program::Gateway).saturating_sub(before) / all as u64;
    let beside = logins(&stack).await;
    println!(
        "{all} idle clients of {} KiB each; a login takes {alone:?} alone, {beside:?} beside them",
        each >> 10
    );
    // 512 MiB for 10,000 of them.
    assert!(each <= 52 << 10, "{each} bytes each");
    assert!(beside <= alone + Duration::from_millis(250), "{beside:?}, alone {alone:?}");
    for client in idle.iter_mut().step_by(100) {
        assert!(client.logged_in().await);
    }
}

/// Clients that are not logged in and leave their requests unfinished: a body in pieces of one byte takes no more
/// than one in a single piece.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_come_byte_by_byte_take_little_memory() {
    const CLIENTS: usize = 50;
    let Some(stack) = Stack::start(&Options::new(Pam::Wrapper)) else { return };
    let before = resident(&stack, Program::Gateway);
    let mut open = Vec::new();
    for _ in 0..CLIENTS {
        let mut web = Web::connect(&stack, Way::Door).await;
        let head = "PUT /rpc/identify HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
        web.send(&format!("{head}{}", "1\r\nx\r\n".repeat(8_000))).await;
        open.push(web);
    }
    let began = Instant::now();
    while unread(&stack) > 0 {
        assert!(began.elapsed() < PATIENCE, "the gateway does not read what was sent");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let most = resident(&stack, Program::Gateway);
    let each = most.saturating_sub(before) / CLIENTS as u64;
    println!("{} KiB for each", each >> 10);
    assert!(each <= 128 << 10, "{each} bytes each");
}

/// The median of some logins.
async fn logins(stack: &Stack) -> Duration {
    let mut times = Vec::new();
    for _ in 0..20 {
        let mut client = Client::tls(stack).await;
        let began = Instant::now();
        client.login(stack.person(Role::Stdout)).await.expect("a login");
        times.push(began.elapsed());
        client.ask("rpc/auth_clear", json!({"reply": true})).await.expect("its end");
        client.close().await;
    }
    times.sort_unstable();
    times[10]
}

/// Logins of all kinds, each with its end, again and again.
#[tokio::test(flavor = "multi_thread")]
async fn logins_leave_nothing_behind() {
    let rounds = if skip::long() { 4_000 } else { 40 };
    let Some(mut stack) = Stack::start(&Options::new(Pam::Wrapper)) else { return };
    // Once, so that all that is kept is there.
    come_and_go(&stack, 10).await;
    stack.await_no_conversations(Duration::from_secs(20));
    let memory = SERVICES.map(|program| resident(&stack, program));
    let open = SERVICES.map(|program| descriptors(&stack, program));
    come_and_go(&stack, rounds).await;
    stack.await_no_conversations(Duration::from_secs(20));
    for (program, (memory, open)) in SERVICES.into_iter().zip(memory.into_iter().zip(open)) {
        let grown = resident(&stack, program).saturating_sub(memory);
        println!("{program:?}: {} KiB more after {} logins", grown / 1024, rounds * 5);
        assert!(grown <= 12 * MIB, "{program:?} grew by {grown}");
        let closed = Instant::now() + Duration::from_secs(20);
        // The last connections close a moment after their clients; so it was with those before, too.
        loop {
            let now = descriptors(&stack, program);
            if now.iter().all(|(kind, count)| open.get(kind).is_some_and(|before| count <= before)) {
                break;
            }
            assert!(Instant::now() < closed, "{program:?} has {now:?} open, had {open:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(zombies(&stack, program), 0, "{program:?}");
    }
    assert!(stack.runs());
}

async fn come_and_go(stack: &Stack, rounds: usize) {
    for _ in 0..rounds {
        for (role, right) in [
            (Role::Stdout, true),
            (Role::Clean, true),
            (Role::Full, true),
            (Role::Code, false),
            (Role::Crash, false),
        ] {
            let mut client = Client::tls(stack).await;
            let person = stack.person(role);
            if role == Role::Code {
                // Left in the middle of its conversation.
                client.login_prompts(person).await;
            } else {
                assert_eq!(client.login(person).await.is_ok(), right, "{role:?}");
                client.ask("rpc/auth_clear", json!({"reply": true})).await.expect("its end");
            }
            client.close().await;
        }
    }
}
