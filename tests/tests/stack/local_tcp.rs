//! Login without a password over TLS on loopback: for whom the kernel's word is enough, and what it is not
//! asked for.

use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};

use doorward_tests::client::{raw_tls, token_of};
use doorward_tests::door::{connect_tcp_as, connect_tcp_as_root_of, listen_tcp_as};
use doorward_tests::grpc::ask_peer;
use doorward_tests::keys::{Key, Kind};
use doorward_tests::{Client, Options, Pam, Program, Role, Stack, skip};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Comer, comers, named};

const C1: &str = "7a0b1f04-6b1c-4c54-9d5e-7f3f0f1c0001";

/// One login on a new connection of this user's; who it became.
async fn try_as(stack: &Stack, uid: u32, user: Option<&str>) -> Result<String, u64> {
    let mut client = Client::tls_as(stack, uid).await;
    let token = client.ask("rpc/auth", named(user)).await.map(|args| token_of(&args));
    assert_eq!(client.logged_in().await, token.is_ok());
    client.close().await;
    token
}

async fn who_may(pam: Pam) {
    let Some(stack) = Stack::start(&Options::new(pam)) else { return };
    if !skip::root("connections of other users") {
        return;
    }
    for Comer { uid, user, may, what } in comers(&stack) {
        match try_as(&stack, uid, user.as_deref()).await {
            Ok(_) if may => {}
            Err(401) if !may => {}
            other => panic!("{what} (uid {uid}, {user:?}): {other:?}"),
        }
    }
    let name = |role| stack.person(role).name.clone();
    let uid = |role| stack.person(role).uid;
    let (alice, bob) = (name(Role::Full), name(Role::Limited));
    // On one connection again and again, also after a refusal; then with a password.
    let mut client = Client::tls_as(&stack, uid(Role::Full)).await;
    for (user, expected) in [(&bob, false), (&alice, true), (&alice, true)] {
        assert_eq!(client.ask("rpc/auth", named(Some(user))).await.is_ok(), expected, "{user}");
    }
    client.login(stack.person(Role::Limited)).await.expect("bob's password is bob's");
    client.close().await;
    // Root of a user namespace of alice's own is alice outside of it.
    match connect_tcp_as_root_of(uid(Role::Full), stack.tls_address()) {
        Ok(descriptor) => {
            let mut client = Client::tls_over(&stack, descriptor, &[], None).await.expect("a WebSocket");
            client.ask("rpc/auth", named(Some(&alice))).await.expect("alice");
            client.close().await;
        }
        Err(error) => skip::skipped(&format!("no user namespace: {error}")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_log_in_over_loopback_under_libpam_wrapper() {
    who_may(Pam::Wrapper).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_log_in_over_loopback_with_real_accounts() {
    who_may(Pam::Real).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_loopback_is_one() {
    if !skip::root("a connection of another user") {
        return;
    }
    for listen in ["[::]:0", "[::1]:0", "0.0.0.0:0"] {
        let options = Options::new(Pam::Wrapper).gateway("listen.tls", vec![listen.to_owned()]);
        let Some(stack) = Stack::start(&options) else { return };
        let port = stack.tls_address().rsplit(':').next().expect("a port").to_owned();
        let to = if listen.starts_with('[') { format!("[::1]:{port}") } else { format!("127.0.0.2:{port}") };
        let alice = stack.person(Role::Full).clone();
        let descriptor = connect_tcp_as(alice.uid, &to).expect("connected");
        let host = [("host", to.as_str())];
        let mut client = Client::tls_over(&stack, descriptor, &host, None).await.expect("a WebSocket");
        client.ask("rpc/auth", named(Some(&alice.name))).await.expect("alice");
        client.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_through_somebody_is_not_the_local_users() {
    if !skip::root("a connection of another user") {
        return;
    }
    let options = Options::new(Pam::Wrapper)
        .gateway("http.origins", vec!["https://panel.example".to_owned()])
        .gateway("http.hosts", vec!["box.example".to_owned()]);
    let Some(stack) = Stack::start(&options) else { return };
    let alice = stack.person(Role::Full).clone();
    let own = format!("https://{}", stack.tls_address());
    let rows: Vec<(Vec<(&'static str, &str)>, bool)> = vec![
        (vec![], true),
        (vec![("origin", "sysadm-client")], true),
        (vec![("origin", "https://panel.example")], true),
        (vec![("host", "localhost")], true),
        (vec![("host", "box.example:1")], true),
        (vec![("origin", &own)], false),
        (vec![("origin", &own), ("sec-fetch-site", "same-origin")], false),
        (vec![("forwarded", "for=127.0.0.1")], false),
        (vec![("x-forwarded-for", "127.0.0.1")], false),
        (vec![("x-forwarded-host", "localhost")], false),
        (vec![("x-real-ip", "127.0.0.1")], false),
        (vec![("via", "1.1 x")], false),
        (vec![("origin", "sysadm-client"), ("via", "1.1 x")], false),
    ];
    for (headers, expected) in rows {
        let descriptor = connect_tcp_as(alice.uid, stack.tls_address()).expect("connected");
        let mut client = Client::tls_over(&stack, descriptor, &headers, None).await.expect("a WebSocket");
        let answer = client.ask("rpc/auth", named(Some(&alice.name))).await;
        assert_eq!(answer.is_ok(), expected, "{headers:?}: {answer:?}");
        if !expected {
            client.login(&alice).await.expect("with the password it works");
        }
        client.close().await;
    }
    // Not let in at all.
    for headers in [
        vec![("origin", "https://evil.example")],
        vec![("origin", "null")],
        vec![("host", "evil.example")],
        vec![("sec-fetch-site", "cross-site")],
    ] {
        let descriptor = connect_tcp_as(alice.uid, stack.tls_address()).expect("connected");
        assert!(Client::tls_over(&stack, descriptor, &headers, None).await.is_err(), "{headers:?}");
    }
    // Plain HTTP takes no empty password over TCP.
    let mut stream = raw_tls(&stack, rustls::ALL_VERSIONS, None).await.expect("TLS");
    let body = format!(r#"{{"username":"{}","password":""}}"#, alice.name);
    let request = format!(
        "PUT /rpc/auth HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    drop(stream.read_to_string(&mut answer).await);
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mode_and_the_ports_decide() {
    if !skip::root("a connection of another user") {
        return;
    }
    let rows: [(&str, Vec<i64>, bool, bool); 5] = [
        ("kernel", vec![0], true, true),
        ("kernel", vec![12_150], false, true),
        ("unix", vec![0], false, true),
        ("unix", vec![], false, true),
        ("off", vec![0], false, false),
    ];
    for (mode, ports, over_tcp, over_unix) in rows {
        let options = Options::new(Pam::Wrapper)
            .authd("local_login.mode", mode)
            .authd("peers.gateway_ports", ports.clone());
        let Some(stack) = Stack::start(&options) else { return };
        let alice = stack.person(Role::Full).clone();
        let answer = try_as(&stack, alice.uid, Some(&alice.name)).await;
        assert_eq!(answer.is_ok(), over_tcp, "{mode} {ports:?}: {answer:?}");
        let mut client = Client::unix_as(&stack, alice.uid).await;
        let answer = client.ask("rpc/auth", json!({})).await;
        assert_eq!(answer.is_ok(), over_unix, "{mode}: {answer:?}");
        client.close().await;
        let mut client = Client::tls_as(&stack, alice.uid).await;
        client.login(&alice).await.expect("with the password it works");
        client.close().await;
    }
}

/// A certificate in the same connection opens the door for its own user, and the kernel's word for its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_and_the_kernels_word_do_not_hinder_each_other() {
    if !skip::root("connections of other users") {
        return;
    }
    let Some(stack) = Stack::start(&Options::new(Pam::Wrapper)) else { return };
    let (alice, bob) = (stack.person(Role::Full).clone(), stack.person(Role::Limited).clone());
    let key = Key::generate(Kind::P256);
    let mut owner = Client::tls_with(&stack, &key).await;
    owner.login(&bob).await.expect("bob logs in");
    let register = json!({"action": "register_ssl_cert", "pub_key": key.packed(), "nickname": "loaded"});
    owner.ask("rpc/settings", register).await.expect("bob's key");
    owner.close().await;
    let refusals = || stack.log(Program::Authd).matches("login refused").count();
    let before = refusals();
    // Who connects, with bob's certificate or without, and as whom.
    for (uid, with, user, expected) in [
        (alice.uid, true, &alice, Some("local_peer")),
        (alice.uid, true, &bob, Some("tls_certificate")),
        (bob.uid, true, &bob, Some("local_peer")),
        (0, true, &bob, Some("tls_certificate")),
        (65_534, true, &bob, Some("tls_certificate")),
        (bob.uid, true, &alice, None),
        (0, true, &alice, None),
        (alice.uid, false, &bob, None),
    ] {
        let descriptor = connect_tcp_as(uid, stack.tls_address()).expect("connected");
        let own = with.then_some(&key);
        let mut client = Client::tls_over(&stack, descriptor, &[], own).await.expect("a WebSocket");
        let seen = stack.log(Program::Authd).len();
        let answer = client.ask("rpc/auth", named(Some(&user.name))).await;
        assert_eq!(answer.is_ok(), expected.is_some(), "{uid} {with} {}: {answer:?}", user.name);
        if let (Ok(args), Some(method)) = (&answer, expected) {
            token_of(args);
            let log = stack.log(Program::Authd);
            let line = log[seen..].lines().find(|line| line.contains("login granted")).expect("a line");
            for word in
                [&format!("user={}", user.name), &format!("uid={}", user.uid), &format!("method={method}")]
            {
                assert!(line.replace('"', "").contains(word.as_str()), "{word}: {line}");
            }
        }
        client.close().await;
    }
    assert_eq!(refusals() - before, 3, "one refusal for each login that was refused");
    let mut client = Client::tls_as(&stack, alice.uid).await;
    client.ask("rpc/auth", json!({})).await.expect("whoever it is");
    client.close().await;
}

/// What a gateway that was taken over may pass: all of it is made under its uid.
#[tokio::test(flavor = "multi_thread")]
async fn tcp_connections_that_prove_nothing_are_refused() {
    let Some(mut stack) = Stack::start(&Options::new(Pam::Wrapper)) else { return };
    if !skip::root("sockets of other users") {
        return;
    }
    let alice = stack.person(Role::Full).uid;
    let gateway = stack.gateway_uid();
    // Made by the gateway to what alice and root listen on: the kernel would name them.
    for uid in [alice, 0] {
        let listener = TcpListener::from(listen_tcp_as(uid, "127.0.0.1:0").expect("a listener"));
        let address = listener.local_addr().expect("an address").to_string();
        let made = connect_tcp_as(gateway, &address).expect("connected");
        let (far, _) = listener.accept().expect("accepted");
        for end in [made, OwnedFd::from(far)] {
            let answer = ask_peer(&stack, C1, &[end.as_fd()]);
            assert!(answer.is_err(), "{uid}: {answer:?}");
        }
    }
    // Alice's own end of her connection to the gateway, one that somebody else accepted, and two at once.
    let hers = connect_tcp_as(alice, stack.tls_address()).expect("connected");
    let elsewhere = TcpListener::bind("127.0.0.1:0").expect("bound");
    let _client = TcpStream::connect(elsewhere.local_addr().expect("an address")).expect("connected");
    let (near, _) = elsewhere.accept().expect("accepted");
    for (what, descriptors) in [
        ("her own end", vec![hers.as_fd()]),
        ("root accepted it", vec![near.as_fd()]),
        ("two", vec![hers.as_fd(), near.as_fd()]),
        ("a listener", vec![elsewhere.as_fd()]),
    ] {
        let answer = ask_peer(&stack, C1, &descriptors);
        assert!(answer.is_err(), "{what}: {answer:?}");
    }
    assert!(stack.runs());
}
