//! Registered keys through the whole stack: replays, other people's challenges, who exists, and `kill -9`.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use doorward_proto::authd::v1::AssertRequest;
use doorward_proto::certd::v1::RevokeRequest;
use doorward_tests::client::PATIENCE;
use doorward_tests::grpc::{Authd, Certd};
use doorward_tests::keys::{Key, Kind as KeyKind, Quick};
use doorward_tests::{Client, Options, Pam, Program, Received, Role, Stack, secrets, skip};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::support::{Purpose, answer, challenge, listed, log_in_with, register, revoke};

fn options(pam: Pam) -> Options {
    Options::new(pam).authd("pam.refusal_delay_ms", 1).certd("limits.refusal_step_ms", 1)
}

/// An answer counts once, on the connection that asked, for what was asked.
async fn no_answer_counts_twice_or_elsewhere(pam: Pam) {
    let Some(stack) = Stack::start(&options(pam)) else { return };
    let key = Quick::generate();
    let mut owner = Client::tls(&stack).await;
    owner.login(stack.person(Role::Limited)).await.expect("bob logs in");
    register(&mut owner, &key, "").await.expect("bob's key");
    let mut own = Client::tls(&stack).await;
    for round in 0..if skip::long() { 5_000 } else { 150 } {
        let (context, text) = challenge(&mut own, Purpose::Login).await.expect("a challenge");
        let signature = key.prove(&context, &text);
        for mut thief in [Client::tls(&stack).await, Client::unix(&stack).await] {
            // With a challenge of its own open, and without.
            if round % 2 == 0 {
                challenge(&mut thief, Purpose::Login).await.expect("a challenge");
            }
            assert_eq!(
                answer(&mut thief, &signature, json!({})).await,
                Err(401),
                "another connection's answer"
            );
            thief.close().await;
        }
        let (registration, other_text) =
            challenge(&mut owner, Purpose::Registration).await.expect("a challenge");
        match answer(&mut own, &signature, json!({})).await {
            Ok(_) => {}
            // libnss-wrapper cannot read groups for two at a time, and loses some now and then.
            Err(503) if pam == Pam::Wrapper => continue,
            Err(code) => panic!("the right answer is refused, round {round}: {code}"),
        }
        assert_eq!(answer(&mut own, &signature, json!({})).await, Err(401), "the same answer again");
        challenge(&mut own, Purpose::Login).await.expect("a challenge");
        assert_eq!(answer(&mut own, &signature, json!({})).await, Err(401), "and for another challenge");
        // Ten refusals in a row would close the owner's connection.
        if round < 8 {
            let crossed = key.prove(&registration, &other_text);
            assert_eq!(answer(&mut owner, &crossed, json!({})).await, Err(401), "an answer for registration");
        }
    }
    revoke(&mut owner, &key).await.expect("bob revokes it");
    owner.close().await;
    own.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_counts_twice_or_elsewhere_under_libpam_wrapper() {
    no_answer_counts_twice_or_elsewhere(Pam::Wrapper).await;
}

/// A login that waits for certd's verdict while its key is revoked gets no session that stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_races_its_revocation_and_loses() {
    let options = options(Pam::Wrapper).authd("pam.per_account", 16).authd("pam.per_source", 16);
    let Some(stack) = Stack::start(&options) else { return };
    let mut owner = Client::tls(&stack).await;
    owner.login(stack.person(Role::Limited)).await.expect("bob logs in");
    for round in 0..if skip::long() { 500 } else { 25 } {
        let key = Quick::generate();
        register(&mut owner, &key, "").await.expect("bob's key");
        let mut clients = Vec::new();
        for _ in 0..3 {
            let mut client = Client::tls(&stack).await;
            let (context, text) = challenge(&mut client, Purpose::Login).await.expect("a challenge");
            clients.push((client, key.prove(&context, &text)));
        }
        let logins = clients.into_iter().map(|(mut client, signature)| async move {
            let token = answer(&mut client, &signature, json!({})).await;
            (client, token)
        });
        let (revoked, logins) =
            tokio::join!(revoke(&mut owner, &key), futures_util::future::join_all(logins));
        revoked.expect("bob revokes it");
        for (mut client, token) in logins {
            match token {
                Ok(_) => {
                    let Received::Json(event) = client.receive().await else { panic!("no event") };
                    assert_eq!(event["args"]["reason"], "revoked", "round {round}: {event}");
                    assert_eq!(client.receive().await, Received::Closed(Some(1000)));
                }
                // libnss-wrapper cannot read groups for two at a time, and loses some now and then.
                Err(code) => assert!(matches!(code, 401 | 503), "round {round}: {code}"),
            }
        }
    }
    owner.close().await;
}

/// Whether somebody exists, and has keys, shows neither in replies nor, in the long form, in their time.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_learns_who_exists_and_has_keys() {
    // Timed with the step as it is shipped.
    let step: i64 = if skip::long() { 250 } else { 20 };
    let options = Options::new(Pam::Wrapper).certd("limits.refusal_step_ms", step);
    let Some(stack) = Stack::start(&options) else { return };
    let (key, stranger) = (Quick::generate(), Quick::generate());
    let mut owner = Client::tls(&stack).await;
    owner.login(stack.person(Role::Limited)).await.expect("bob logs in");
    register(&mut owner, &key, "").await.expect("bob's key");
    let names = [
        stack.person(Role::Limited).name.clone(),
        stack.person(Role::Full).name.clone(),
        "nosuchuser".into(),
    ];
    let mut times: [Vec<[Duration; 2]>; 3] = Default::default();
    for _ in 0..if skip::long() { 100 } else { 5 } {
        let mut client = Client::tls(&stack).await;
        for (name, times) in names.iter().zip(&mut times) {
            let hint = json!({"username": name});
            let started = Instant::now();
            let first = reply(&mut client, hint.clone()).await;
            let asked = started.elapsed();
            assert_eq!(shape(&first), ["args", "id", "name", "namespace"], "{first}");
            assert_eq!(shape(&first["args"]), ["context", "test_string"], "{first}");
            let text = first["args"]["test_string"].as_str().expect("a text");
            let context = first["args"]["context"].as_str().expect("a text");
            let signature = stranger.prove(context, text);
            let started = Instant::now();
            assert_eq!(answer(&mut client, &signature, hint).await, Err(401));
            times.push([asked, started.elapsed()]);
        }
        client.close().await;
    }
    if skip::long() {
        for stage in [0, 1] {
            let medians: Vec<Duration> = times.iter().map(|times| median(times, stage)).collect();
            let (least, most) = (medians.iter().min().expect("three"), medians.iter().max().expect("three"));
            assert!(*most - *least < Duration::from_millis(5), "stage {}: {medians:?}", stage + 1);
        }
    }
    owner.close().await;
}

async fn reply(client: &mut Client, args: Value) -> Value {
    client.request("rpc/auth_ssl", args).await;
    client.json().await
}

fn shape(value: &Value) -> Vec<String> {
    let members: BTreeSet<String> = value.as_object().expect("an object").keys().cloned().collect();
    members.into_iter().collect()
}

fn median(times: &[[Duration; 2]], stage: usize) -> Duration {
    let mut times: Vec<Duration> = times.iter().map(|both| both[stage]).collect();
    times.sort();
    times[times.len() / 2]
}

/// What the clients were told, each key as the base64 of its DER.
#[derive(Debug, Default)]
struct Told {
    registered: Vec<Arc<Quick>>,
    revoked: Vec<Arc<Quick>>,
}

/// Registers keys and revokes every other one, until certd is gone.
async fn come_and_go(mut client: Client, told: Arc<Mutex<Told>>) {
    for round in 0.. {
        let key = Arc::new(Quick::generate());
        if register(&mut client, &key, "round and round").await.is_err() {
            break;
        }
        if round % 2 == 0 {
            told.lock().expect("no panic").registered.push(key);
        } else if revoke(&mut client, &key).await.is_ok() {
            told.lock().expect("no panic").revoked.push(key);
        } else {
            // Neither lost nor revoked: nobody was told.
            break;
        }
    }
    client.close().await;
}

async fn killed_certd_keeps_its_word(pam: Pam) {
    let options = options(pam).certd("limits.keys_per_user", 1000);
    let Some(mut stack) = Stack::start(&options) else { return };
    let told = Arc::new(Mutex::new(Told::default()));
    for round in 1..=if skip::long() { 30 } else { 3 } {
        let mut clients = Vec::new();
        for role in [Role::Full, Role::Limited, Role::Spare] {
            // One after the other: libnss-wrapper cannot read groups for two at a time.
            let mut client = Client::tls(&stack).await;
            client.login(stack.person(role)).await.expect("certd is not needed for that");
            clients.push(client);
        }
        // All at once, since keys beyond the first 1,000 of all rounds would open no door without a hint.
        let tasks: Vec<_> =
            clients.into_iter().map(|client| tokio::spawn(come_and_go(client, Arc::clone(&told)))).collect();
        // In the middle of their work: after some more words were given.
        let working = async {
            while !enough(&told, round) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), working).await.expect("registrations and revocations");
        let pid = Pid::from_raw(stack.pid(Program::Certd).try_into().expect("a pid"));
        kill(pid, Signal::SIGKILL).expect("certd runs");
        for task in tasks {
            task.await.expect("the clients end when certd is gone");
        }
        stack.kill(Program::Certd);
        stack.start_again(Program::Certd);
        compare(&stack, &told).await;
    }
}

fn enough(told: &Mutex<Told>, rounds: usize) -> bool {
    let told = told.lock().expect("no panic");
    told.registered.len() >= rounds * 9 && told.revoked.len() >= rounds * 6
}

async fn compare(stack: &Stack, told: &Mutex<Told>) {
    let (registered, revoked) = {
        let told = told.lock().expect("no panic");
        (told.registered.clone(), told.revoked.clone())
    };
    let mut client = Client::tls(stack).await;
    client.login(stack.person(Role::Full)).await.expect("alice logs in");
    let there = listed(&mut client).await;
    for key in &registered {
        assert!(there.contains_key(&key.packed()), "a registered key is lost");
    }
    for key in &revoked {
        assert!(!there.contains_key(&key.packed()), "a revoked key is there again");
    }
    client.close().await;
    let mut client = Client::tls(stack).await;
    let opens = async {
        // authd must hear of revocations again first.
        while let Err(code) = log_in_with(&mut client, registered.last().expect("some")).await {
            assert_eq!(code, 503, "a registered key does not open the door");
        }
    };
    tokio::time::timeout(PATIENCE, opens).await.expect("keys open the door again");
    for key in revoked.iter().rev().take(5) {
        assert_eq!(log_in_with(&mut client, key).await, Err(401), "a revoked key opens the door");
    }
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_certd_keeps_its_word_under_libpam_wrapper() {
    killed_certd_keeps_its_word(Pam::Wrapper).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_certd_keeps_its_word_with_real_accounts() {
    killed_certd_keeps_its_word(Pam::Real).await;
}

/// authd was gone, or killed, while a key was revoked: what the key opened ends all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_authd_missed_is_made_up_for() {
    let Some(mut stack) = Stack::start(&options(Pam::Wrapper)) else { return };
    for killed in [false, true] {
        let key = Quick::generate();
        let mut owner = Client::tls(&stack).await;
        let owners_token = owner.login(stack.person(Role::Limited)).await.expect("bob logs in");
        // After a restart of authd's the gateway must hear of ended sessions again first.
        let hears = async {
            while !owner.logged_in().await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, hears).await.expect("sessions go on");
        register(&mut owner, &key, "").await.expect("bob's key");
        let mut opened = Client::tls(&stack).await;
        let token = log_in_with(&mut opened, &key).await.expect("it opens the door");
        let authd =
            |stack: &mut Stack| if killed { stack.kill(Program::Authd) } else { stack.stop(Program::Authd) };
        let request = AssertRequest { token: owners_token, audience: "certd".to_owned() };
        let assertion =
            Authd::as_gateway(&stack).await.sessions.assert(request).await.expect("a live session");
        authd(&mut stack);
        // Without authd the gateway answers nothing that needs a session; certd does for a minute.
        let mut certd = Certd::connect(&stack, stack.gateway_uid()).await.expect("certd runs");
        let assertion = secrets::register(&assertion.into_inner().jwt).to_owned();
        let request = RevokeRequest { assertion, public_key: key.spki(), user: String::new() };
        certd.registry.revoke(request).await.expect("bob revokes it");
        stack.start_again(Program::Authd);
        let gone = async {
            // Refused for good, not because nobody can say. A connection that has taken it up a moment too early
            // hears of its end, so each try has its own.
            loop {
                let mut client = Client::tls(&stack).await;
                let answer = client.ask("rpc/auth_token", json!({"token": token})).await;
                drop(client);
                if answer == Err(401) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.expect("the session ends");
        owner.close().await;
    }
}

/// A certificate of X.509 v1 is a key like any other, in TLS 1.3 (the library verifies none in 1.2): it is
/// registered by showing it, opens the door, and when it is revoked opens nothing.
async fn a_certificate_of_version_1_does_it_all(pam: Pam) {
    let Some(stack) = Stack::start(&options(pam)) else { return };
    let bob = stack.person(Role::Limited);
    let empty = || json!({"username": bob.name, "password": ""});
    let connect = async |key: &Key| Client::tls_with_of(&stack, key, &[&rustls::version::TLS13]).await;
    let mut owner = Client::unix(&stack).await;
    owner.login(bob).await.expect("bob logs in");
    let key = Key::generate(KeyKind::Rsa);
    key.make_certificate_v1();
    let mut first = connect(&key).await;
    assert_eq!(first.ask("rpc/auth", empty()).await, Err(401), "not registered yet");
    first.login(bob).await.expect("bob logs in");
    let certificate = STANDARD.encode(key.certificate());
    let args = json!({"action": "register_ssl_cert", "pub_key": key.packed(), "certificate": certificate});
    first.ask("rpc/settings", args).await.expect("its handshake proved it");
    let (_, text) = listed(&mut owner).await.pop_first().expect("one key");
    assert!(text.contains("Proven: yes") && text.contains("BEGIN CERTIFICATE"), "{text}");
    first.close().await;

    let mut again = connect(&key).await;
    again.ask("rpc/auth", empty()).await.expect("the certificate opens the door");
    let args = json!({"action": "revoke_ssl_cert", "pub_key": key.packed()});
    owner.ask("rpc/settings", args).await.expect("bob revokes it");
    let Received::Json(event) = again.receive().await else { panic!("no event") };
    assert_eq!(event["args"]["reason"], "revoked", "{event}");
    assert_eq!(again.receive().await, Received::Closed(Some(1000)));
    let mut revoked = connect(&key).await;
    assert_eq!(revoked.ask("rpc/auth", empty()).await, Err(401));
    revoked.close().await;
    owner.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_version_1_does_it_all_under_libpam_wrapper() {
    a_certificate_of_version_1_does_it_all(Pam::Wrapper).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_version_1_does_it_all_with_real_accounts() {
    a_certificate_of_version_1_does_it_all(Pam::Real).await;
}
