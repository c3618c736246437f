//! Who guesses, and who only takes up room: both are kept from everybody else.

use std::io::Write;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use doorward_proto::authd::v1::{
    BeginRequest, Dialect, Password, Source, begin_request::Method, outcome::Kind,
};
use doorward_tests::door::{Kind as Socket, connect_as, connect_many, connect_tcp_hidden_as};
use doorward_tests::grpc::Authd;
use doorward_tests::{Client, Options, Pam, Program, Received, Role, Stack, secrets, skip, wal};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use serde_json::json;

use crate::support::{bytes_until_closed, strangers};

/// So long is the first penalty here; a restart of authd must fit in.
const PENALTY: Duration = Duration::from_secs(15);

async fn guess(client: &mut Client, user: &str) -> Result<(), u64> {
    let args = json!({"username": user, "password": secrets::register("not the password")});
    client.ask("rpc/auth", args).await.map(drop)
}

/// Whether a connection of this user is served.
async fn served(stack: &Stack, uid: u32) -> bool {
    let Ok(descriptor) = connect_as(uid, Socket::Stream, &stack.path("run/gateway.sock")) else {
        return false;
    };
    match Client::unix_over(descriptor).await {
        Ok(client) => {
            client.close().await;
            true
        }
        Err(_) => false,
    }
}

/// What authd itself says to the right password from there.
async fn authd_says(stack: &Stack, uid: u32) -> Option<Kind> {
    let person = stack.person(Role::Full);
    let password = Password { username: person.name.clone(), password: person.password.clone() };
    let request = BeginRequest {
        connection: "7a0b1f04-6b1c-4c54-9d5e-7f3f0f1cffff".to_owned(),
        source: Some(Source { address: String::new(), local_uid: Some(uid), forwarded: String::new() }),
        dialect: Dialect::Sysadm.into(),
        wish: None,
        method: Some(Method::Password(password)),
    };
    let outcome = Authd::as_gateway(stack).await.login.begin(request).await.expect("an outcome");
    let kind = outcome.into_inner().kind;
    if let Some(Kind::Granted(granted)) = &kind {
        secrets::register(&granted.token);
    }
    kind
}

#[tokio::test(flavor = "multi_thread")]
async fn five_failures_shut_their_source_out_over_a_restart_and_for_its_time() {
    let seconds = i64::try_from(PENALTY.as_secs()).expect("short");
    let options =
        Options::new(Pam::Wrapper).authd("penalty.failures", 5).authd("penalty.first_seconds", seconds);
    let Some(mut stack) = Stack::start(&options) else { return };
    let Some([bad, other]) = strangers(&stack) else { return };
    let alice = stack.person(Role::Full).clone();
    let mut client = Client::unix_as(&stack, bad).await;
    let mut second = Client::unix_as(&stack, bad).await;
    for user in [&alice.name, "nobody-of-that-name", &alice.name, &alice.name] {
        assert_eq!(guess(&mut client, user).await, Err(401));
    }
    client.login(&alice).await.expect("four are forgiven");
    assert_eq!(guess(&mut second, &alice.name).await, Err(401));
    let began = Instant::now();
    // Told on the next login of every connection, which is its end.
    assert_eq!(second.login(&alice).await, Err(403));
    assert_eq!(second.receive().await, Received::Closed(Some(1008)));
    assert!(client.logged_in().await, "a session goes on");
    // No new connection, once the gateway has heard of it.
    while served(&stack, bad).await {
        assert!(began.elapsed() < PENALTY, "the gateway did not hear of it");
    }
    let mut good = Client::unix_as(&stack, other).await;
    good.login(&alice).await.expect("another user is not concerned");
    good.close().await;
    let mut good = Client::tls(&stack).await;
    good.login(&alice).await.expect("nor is root");
    good.close().await;
    stack.stop(Program::Authd);
    stack.start_again(Program::Authd);
    match authd_says(&stack, bad).await {
        Some(Kind::Penalised(penalised)) => {
            let left = Duration::from_millis(penalised.left_ms);
            assert!(left <= PENALTY.saturating_sub(began.elapsed()) + Duration::from_secs(3), "{left:?}");
        }
        other => assert!(began.elapsed() >= PENALTY, "a restart forgave it: {other:?}"),
    }
    while !served(&stack, bad).await {
        assert!(began.elapsed() < PENALTY + Duration::from_secs(20), "the penalty does not end");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(began.elapsed() + Duration::from_secs(3) >= PENALTY, "it ended after {:?}", began.elapsed());
    let mut client = Client::unix_as(&stack, bad).await;
    client.login(&alice).await.expect("after its time");
    client.close().await;
    stack.await_log(Program::Authd, &["penalty", "too many failed logins", &format!("uid:{bad}")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_authd_loses_no_penalty_that_is_a_moment_old() {
    let options = Options::new(Pam::Wrapper).authd("penalty.failures", 1);
    let Some(mut stack) = Stack::start(&options) else { return };
    let Some([bad]) = strangers(&stack) else { return };
    let mut client = Client::unix_as(&stack, bad).await;
    assert_eq!(guess(&mut client, "nobody-of-that-name").await, Err(401));
    // Counting is written after half a second; the database says when it was.
    let database = stack.path("state/authd/penalties.sqlite");
    let source = [&b"u"[..], &bad.to_be_bytes()].concat();
    let began = Instant::now();
    while !wal::database_has(&database, &source) {
        assert!(began.elapsed() < Duration::from_secs(20), "the penalty is not written");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stack.kill(Program::Authd);
    stack.start_again(Program::Authd);
    let says = authd_says(&stack, bad).await;
    assert!(matches!(says, Some(Kind::Penalised(_))), "{says:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_trusted_proxy_each_client_has_its_own_penalty() {
    let probe = Options::new(Pam::Wrapper);
    if !skip::root("connections of other users") {
        return;
    }
    let proxy = 64_999;
    let options =
        probe.authd("penalty.failures", 2).gateway("http.trusted_proxies", vec![format!("uid:{proxy}")]);
    let Some(stack) = Stack::start(&options) else { return };
    let alice = stack.person(Role::Full).clone();
    let mut bad = Client::unix_for(&stack, proxy, "198.51.100.7").await.expect("served");
    for _ in 0..2 {
        assert_eq!(guess(&mut bad, &alice.name).await, Err(401));
    }
    assert_eq!(bad.login(&alice).await, Err(403));
    let mut good = Client::unix_for(&stack, proxy, "198.51.100.7, 198.51.100.8").await.expect("served");
    good.login(&alice).await.expect("another client of the proxy's");
    let refused = async { while Client::unix_for(&stack, proxy, "198.51.100.7").await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(20), refused).await.expect("the gateway hears of it");
    good.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_hides_whose_connection_it_is_is_one_source_whatever_the_address() {
    let options = Options::new(Pam::Wrapper).authd("penalty.failures", 5).authd("penalty.first_seconds", 60);
    let Some(stack) = Stack::start(&options) else { return };
    let Some([bad, good]) = strangers(&stack) else { return };
    let alice = stack.person(Role::Full).clone();
    let hidden = async |last| {
        let source = Ipv4Addr::new(127, 3, 2, last);
        let descriptor = connect_tcp_hidden_as(bad, source, stack.tls_address()).expect("connected");
        Client::tls_over(&stack, descriptor, &[], None).await
    };
    for last in 1..=5 {
        let mut client = hidden(last).await.expect("served");
        assert_eq!(guess(&mut client, &alice.name).await, Err(401));
    }
    let refused = async {
        while let Ok(client) = hidden(9).await {
            client.close().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), refused).await.expect("another address is no other source");
    // Whoever does not hide is a source of their own, on the same loopback.
    let mut open = Client::tls_as(&stack, good).await;
    open.login(&alice).await.expect("the right password");
    open.close().await;
    let mut open = Client::tls(&stack).await;
    open.login(&alice).await.expect("the right password");
    open.close().await;
}

/// The first of the uids that useradd(8) gave to a user, and how many there are. It gives some where the file exists.
fn subordinate_uids(name: &str) -> Option<(u32, u32)> {
    let text = std::fs::read_to_string("/etc/subuid").ok()?;
    let (first, count) =
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.split_once(':'))?;
    Some((first.parse().expect("a uid"), count.parse().expect("a number")))
}

/// Whoever has 65,536 uids is no 65,536 strangers.
#[tokio::test(flavor = "multi_thread")]
async fn all_uids_that_one_user_was_given_are_one_source() {
    if !skip::root("connections of other users") {
        return;
    }
    let options = Options::new(Pam::Real).authd("penalty.failures", 2);
    let Some(stack) = Stack::start(&options) else { return };
    let (alice, bob) = (stack.person(Role::Full).clone(), stack.person(Role::Limited).clone());
    let ranges = (subordinate_uids(&bob.name), subordinate_uids(&alice.name));
    let (Some((first, count)), Some((of_another, _))) = ranges else {
        return skip::skipped("useradd(8) gives no subordinate uids here");
    };
    assert!(count > 1000, "{count}");
    for uid in [first + 7, first + count - 1] {
        let mut client = Client::unix_as(&stack, uid).await;
        assert_eq!(guess(&mut client, &alice.name).await, Err(401), "{uid}");
        client.close().await;
    }
    let line = stack.await_log(Program::Authd, &["penalty", "too many failed logins"]);
    assert!(line.contains(&format!("uid:{first}")), "{line}");
    let under_it = || async {
        let mut all = Vec::new();
        for uid in [first, first + 1, first + count - 1] {
            all.push(served(&stack, uid).await);
        }
        all
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while under_it().await != [false; 3] {
        assert!(Instant::now() < deadline, "the gateway is told of a penalty at once");
    }
    for uid in [of_another, first - 1, first + count, bob.uid, alice.uid] {
        assert!(served(&stack, uid).await, "{uid} is somebody else");
    }
}

/// Logs in on fresh connections of this user, and as root over TLS: every one must be let in.
async fn everybody_else_logs_in(stack: &Stack, uid: u32, times: usize) {
    for _ in 0..times {
        let mut client = Client::unix_as(stack, uid).await;
        client.login(stack.person(Role::Full)).await.expect("a login from elsewhere");
        client.ask("rpc/auth_clear", json!({"reply": true})).await.expect("its end");
        client.close().await;
        let mut client = Client::tls(stack).await;
        client.login(stack.person(Role::Limited)).await.expect("a login over TLS");
        client.ask("rpc/auth_clear", json!({"reply": true})).await.expect("its end");
        client.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_hung_conversations_of_one_source_keep_nobody_else_out() {
    // More connections than the gateway allows one source, so that authd's own bounds are tried, too.
    let options = Options::new(Pam::Wrapper).gateway("limits.per_source", 120);
    let Some(stack) = Stack::start(&options) else { return };
    let Some([bad, good]) = strangers(&stack) else { return };
    let hang = stack.person(Role::Hang);
    let mut hung = Vec::new();
    for descriptor in connect_many(bad, false, &stack.path("run/gateway.sock"), 100).expect("connected") {
        let mut client = Client::unix_over(descriptor).await.expect("served");
        client.request("rpc/auth", json!({"username": hang.name, "password": hang.password})).await;
        hung.push(client);
    }
    // One source may have two of one account; all others are told so, at once.
    let mut replies: FuturesUnordered<_> = hung.iter_mut().map(Client::json).collect();
    for _ in 0..98 {
        let reply =
            tokio::time::timeout(Duration::from_secs(10), replies.next()).await.expect("refused soon");
        let reply = reply.expect("a hundred asked");
        assert_eq!(reply["args"]["code"], 429, "{reply}");
    }
    stack.await_conversations(2);
    let began = Instant::now();
    everybody_else_logs_in(&stack, good, 5).await;
    // A module that hangs computes for a second at most before the next one does.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert!(stack.conversations().len() >= 2, "they hang all the time");
    drop(replies);
    drop(hung);
    stack.await_no_conversations(Duration::from_secs(40));
}

/// How long it takes until all of these are closed.
fn all_closed(sockets: Vec<OwnedFd>, since: Instant) -> Duration {
    for socket in sockets {
        bytes_until_closed(&socket).expect("closed");
    }
    since.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn half_handshakes_half_heads_and_silence_are_closed_and_keep_nobody_out() {
    const EACH: usize = 500;
    let Some(stack) = Stack::start(&Options::new(Pam::Wrapper)) else { return };
    let Some([handshakes, heads, silent, good]) = strangers(&stack) else { return };
    let door = stack.path("run/gateway.sock");
    let address = stack.tls_address().to_owned();
    let since = Instant::now();
    let many = |uid, tcp, place: &Path, count| connect_many(uid, tcp, place, count).expect("connected");
    let mut sockets = Vec::new();
    for (uid, tcp, place, text) in [
        (handshakes, true, Path::new(&address), &b"\x16\x03\x01\x02\x00\x01\x00"[..]),
        (heads, false, &door, b"GET / HTTP/1.1\r\nHost: local"),
        (silent, false, &door, b""),
        (silent, true, Path::new(&address), b""),
    ] {
        let count = if uid == silent { EACH / 2 } else { EACH };
        for socket in many(uid, tcp, place, count) {
            let mut stream = UnixStream::from(socket);
            // Those that are beyond the bound are closed already.
            let _ = stream.write_all(text);
            sockets.push(OwnedFd::from(stream));
        }
    }
    let opened = Instant::now();
    let closed = tokio::task::spawn_blocking(move || all_closed(sockets, opened));
    everybody_else_logs_in(&stack, good, 3).await;
    let took = closed.await.expect("no panic");
    assert!(took <= Duration::from_secs(30), "closed after {took:?}, opened in {:?}", opened - since);
}
