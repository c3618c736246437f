//! Defects of the original server that were seen live, tried here the way they were tried there.
//!
//! SECURITY.md has the whole list and says which test covers which; these are the ones that no other
//! test of this tree is about. The number in a name is the defect's number there.

use std::time::{Duration, Instant};

use doorward_tests::client::PATIENCE;
use doorward_tests::{Client, Options, Pam, Program, Received, Role, Stack, logs, skip};
use serde_json::{Value, json};

fn stack() -> Option<Stack> {
    Stack::start(&Options::new(Pam::Wrapper))
}

/// S1: with somebody logged in, an empty token was anybody's session, and a failed login a success.
#[tokio::test(flavor = "multi_thread")]
async fn s1_nobody_has_the_session_of_somebody_else() {
    let options = Options::new(Pam::Wrapper).gateway("timers.login_seconds", 3);
    let Some(stack) = Stack::start(&options) else { return };
    let mut somebody = Client::tls(&stack).await;
    somebody.login(stack.person(Role::Full)).await.expect("alice logs in");

    let started = Instant::now();
    let mut nobody = Client::tls(&stack).await;
    for token in ["", "::::", " ", "null", "00000000-0000-0000-0000-000000000000"] {
        assert_eq!(nobody.ask("rpc/auth_token", json!({"token": token})).await, Err(401), "{token:?}");
    }
    let wrong = json!({"username": stack.person(Role::Full).name, "password": "wrong"});
    assert_eq!(nobody.ask("rpc/auth", wrong).await, Err(401));
    for name in ["rpc/query", "rpc/settings", "sysadm/settings"] {
        assert_eq!(nobody.ask(name, json!({"action": "register_ssl_cert", "pub_key": "x"})).await, Err(401));
    }
    // The limit of time before a login is not off either, whoever else is logged in.
    assert!(matches!(nobody.receive().await, Received::Closed(Some(1000 | 1008))));
    assert!(started.elapsed() >= Duration::from_secs(3), "closed after {:?}", started.elapsed());
    assert!(somebody.logged_in().await);
    somebody.close().await;
}

/// S2: any end of a token, and the word "operator", was a token.
#[tokio::test(flavor = "multi_thread")]
async fn s2_a_part_of_a_token_is_no_token() {
    let Some(stack) = stack() else { return };
    let mut somebody = Client::unix(&stack).await;
    let token = somebody.login(stack.person(Role::Full)).await.expect("alice logs in");
    let mut parts: Vec<String> = (1..token.len()).map(|at| token[at..].to_owned()).collect();
    parts.extend((0..token.len()).map(|at| token[..at].to_owned()));
    parts.extend(["operator".into(), format!("{token} "), format!("{token}\0"), token.replace('-', "")]);
    parts.push(format!("{{{token}}}"));
    for part in parts {
        // A connection may fail a few times only.
        let mut nobody = Client::unix(&stack).await;
        assert_eq!(nobody.ask("rpc/auth_token", json!({"token": part})).await, Err(401), "{part:?}");
        assert!(!nobody.logged_in().await);
        nobody.close().await;
    }
    assert_eq!(
        somebody.ask("rpc/auth_token", json!({"token": token})).await.expect("the whole one")[0],
        token
    );
    somebody.close().await;
}

/// S3 and S4: tokens and challenges came from a generator that was seeded with the time, or not at all.
#[tokio::test(flavor = "multi_thread")]
async fn s3_neither_tokens_nor_challenges_repeat_over_restarts() {
    let Some(mut stack) = stack() else { return };
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..3 {
        for _ in 0..5 {
            let mut client = Client::unix(&stack).await;
            let challenge = client.ask("rpc/auth_ssl", json!("")).await.expect("a challenge");
            assert!(seen.insert(challenge["test_string"].to_string()), "a challenge came twice");
            let token = client.login(stack.person(Role::Full)).await.expect("alice logs in");
            assert!(seen.insert(token), "a token came twice");
            client.close().await;
        }
        for program in [Program::Certd, Program::Authd] {
            stack.kill(program);
            stack.start_again(program);
        }
        // The gateway notices the new certd at its own pace.
        let mut client = Client::unix(&stack).await;
        let all = async { while client.ask("rpc/auth_ssl", json!("")).await.is_err() {} };
        tokio::time::timeout(PATIENCE, all).await.expect("challenges after the restart");
        client.close().await;
    }
}

/// S6: an answer of 403 crashed the whole server.
#[tokio::test(flavor = "multi_thread")]
async fn s6_a_forbidden_request_crashes_nothing() {
    let options = Options::new(Pam::Wrapper).authd("pam.per_account", 16).authd("pam.per_source", 16);
    let Some(mut stack) = Stack::start(&options) else { return };
    let mut client = Client::tls(&stack).await;
    client.login(stack.person(Role::Limited)).await.expect("bob logs in");
    let args = json!({"action": "revoke_ssl_cert", "pub_key": "x", "user": stack.person(Role::Full).name});
    let mut others = Vec::new();
    for _ in 0..3 {
        let mut other = Client::tls(&stack).await;
        other.login(stack.person(Role::Limited)).await.expect("bob logs in");
        others.push(other);
    }
    let forbidden = others.into_iter().map(|mut other| async {
        for _ in 0..20 {
            other.request("rpc/settings", args.clone()).await;
        }
        for _ in 0..20 {
            let code = other.json().await["args"]["code"].as_u64();
            assert!(matches!(code, Some(400 | 403)), "{code:?}");
        }
        other.close().await;
    });
    futures_util::future::join_all(forbidden).await;
    assert!(client.logged_in().await);
    client.close().await;
    assert!(stack.runs());
}

/// S7: whoever connected from this host was any user of it.
#[tokio::test(flavor = "multi_thread")]
async fn s7_a_local_client_is_nobody_but_its_own_user() {
    if !skip::root("other users' connections") {
        return;
    }
    let Some(stack) = Stack::start(&Options::new(Pam::Real)) else { return };
    let (alice, bob) = (stack.person(Role::Full), stack.person(Role::Limited));
    let ask = |user: &str, password: &str| json!({"username": user, "password": password});
    let mut client = Client::unix_as(&stack, bob.uid).await;
    assert_eq!(client.ask("rpc/auth", ask(&alice.name, "")).await, Err(401));
    assert_eq!(client.ask("rpc/auth", ask(&alice.name, "x")).await, Err(401), "a password is never ignored");
    assert_eq!(client.ask("rpc/auth", ask("root", "")).await, Err(401));
    client.ask("rpc/auth", ask(&bob.name, "")).await.expect("itself");
    client.close().await;
    // And the right password counts, whoever sits at the other end.
    let mut client = Client::unix_as(&stack, bob.uid).await;
    client.login(alice).await.expect("alice's password");
    client.close().await;
}

/// S8 and S9: names that are words of a command's output, or options of a command.
#[tokio::test(flavor = "multi_thread")]
async fn s8_a_name_is_data() {
    let Some(mut stack) = stack() else { return };
    let full = &stack.person(Role::Full).name;
    let names = [
        "a wheel b".to_owned(),
        "x sudo".to_owned(),
        "wheel".to_owned(),
        format!("{full} "),
        format!(" {full}"),
        format!("{full}\n"),
        format!("{full}\0"),
        format!("-u{full}"),
        "--help".to_owned(),
        format!("../{full}"),
        format!("{full};id"),
        format!("$({full})"),
        "%s%n".to_owned(),
        "0".to_owned(),
        stack.person(Role::Full).uid.to_string(),
    ];
    for name in names {
        let mut client = Client::unix(&stack).await;
        let args = json!({"username": name, "password": stack.person(Role::Full).password});
        assert_eq!(client.ask("rpc/auth", args).await, Err(401), "{name:?}");
        assert!(!client.logged_in().await, "{name:?}");
        client.close().await;
    }
    assert!(stack.runs());
}

/// S13: 120,000 closing braces kept the original busy for a minute. S32: it sent such text back.
#[tokio::test(flavor = "multi_thread")]
async fn s13_braces_are_refused_and_stop_nobody() {
    let Some(stack) = stack() else { return };
    let mut client = Client::tls(&stack).await;
    client.login(stack.person(Role::Full)).await.expect("alice logs in");
    let mut other = Client::tls(&stack).await;
    for (open, close) in [("}", ""), ("{", "}"), ("[", "]"), ("{\"a\":", "")] {
        let times = 120_000 / (open.len() + close.len());
        let started = Instant::now();
        client.send(&format!("{}{}", open.repeat(times), close.repeat(times))).await;
        other.ask("rpc/identify", json!({})).await.expect("others are answered meanwhile");
        let reply = client.json().await;
        assert_eq!(reply["args"]["code"], 400, "{open:?}");
        // What a person would call hanging; it takes a millisecond.
        assert!(started.elapsed() < Duration::from_secs(10), "{open:?}: {:?}", started.elapsed());
    }
    assert!(client.logged_in().await);
    client.close().await;
    other.close().await;
}

/// S15: a message of any size was taken in before a login.
#[tokio::test(flavor = "multi_thread")]
async fn s15_a_large_message_is_refused_unread() {
    let Some(stack) = stack() else { return };
    let before = resident(&stack);
    for _ in 0..8 {
        let mut client = Client::tls(&stack).await;
        // Sending may fail half-way: the gateway does not wait for the rest.
        drop(client.try_send(&"x".repeat(60 << 20)).await);
        let all = async {
            loop {
                match client.receive().await {
                    Received::Json(reply) => assert_eq!(reply["args"]["code"], 413, "{reply}"),
                    Received::Closed(code) => break code,
                }
            }
        };
        let code = tokio::time::timeout(PATIENCE, all).await.expect("closed in time");
        assert!(matches!(code, Some(1009) | None), "{code:?}");
    }
    let after = resident(&stack);
    assert!(after < before + (16 << 10), "the gateway went from {before} to {after} KiB");
}

/// The gateway's memory, KiB.
fn resident(stack: &Stack) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", stack.pid(Program::Gateway)));
    let status = status.expect("the gateway runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// S21: old versions of TLS.
#[tokio::test(flavor = "multi_thread")]
async fn s21_no_tls_before_1_2() {
    let Some(stack) = stack() else { return };
    let handshake = |version: &'static str| {
        let address = stack.tls_address().to_owned();
        tokio::task::spawn_blocking(move || {
            let mut openssl = std::process::Command::new("openssl");
            openssl.args(["s_client", "-connect", &address, version, "-cipher", "ALL:@SECLEVEL=0"]);
            let output = openssl.stdin(std::process::Stdio::null()).output().expect("openssl runs");
            String::from_utf8_lossy(&output.stdout).into_owned()
        })
    };
    for (version, name) in [("-tls1", "TLSv1"), ("-tls1_1", "TLSv1.1"), ("-tls1_2", "TLSv1.2")] {
        let told = handshake(version).await.expect("no panic");
        let agreed = told.contains(&format!("Protocol  : {name}\n")) && !told.contains("Cipher is (NONE)");
        assert_eq!(agreed, name == "TLSv1.2", "{name}: {told}");
    }
}

/// S23: everything was one process, and root's.
#[tokio::test(flavor = "multi_thread")]
async fn s23_who_speaks_to_the_network_is_not_root() {
    if !skip::root("services that drop root") {
        return;
    }
    let Some(stack) = Stack::start(&Options::new(Pam::Real)) else { return };
    let uids = |program| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", stack.pid(program)));
        let status = status.expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).expect("uids").to_owned();
        line.split_whitespace().map(|uid| uid.parse().expect("a uid")).collect::<Vec<u32>>()
    };
    assert_eq!(uids(Program::Gateway), [stack.gateway_uid(); 4]);
    assert_eq!(uids(Program::Authd), [stack.authd_uid(); 4]);
    assert_eq!(uids(Program::Certd), [stack.certd_uid(); 4]);
    let mut all = vec![0, stack.gateway_uid(), stack.authd_uid(), stack.certd_uid()];
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 4, "each has a uid of its own, and none is root's");
}

/// S27: a login stopped everybody else.
#[tokio::test(flavor = "multi_thread")]
async fn s27_logins_stop_nobody() {
    let options = Options::new(Pam::Wrapper).authd("pam.silent_seconds", 5);
    let Some(stack) = Stack::start(&options) else { return };
    let mut client = Client::tls(&stack).await;
    client.login(stack.person(Role::Full)).await.expect("alice logs in");
    let mut hanging = Vec::new();
    for _ in 0..2 {
        let mut other = Client::tls(&stack).await;
        let person = stack.person(Role::Hang);
        other.request("rpc/auth", json!({"username": person.name, "password": person.password})).await;
        hanging.push(other);
    }
    stack.await_conversations(4);
    let started = Instant::now();
    for _ in 0..50 {
        assert!(client.logged_in().await);
    }
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    for mut other in hanging {
        assert_eq!(other.json().await["args"]["code"], 408, "they hung all the while");
        other.close().await;
    }
    client.close().await;
}

/// S30: who is in no group and fails left no trace.
#[tokio::test(flavor = "multi_thread")]
async fn s30_every_failed_login_is_logged() {
    let Some(stack) = stack() else { return };
    let mut client = Client::tls(&stack).await;
    let nobody = stack.person(Role::Nobody);
    for (name, password) in
        [(nobody.name.as_str(), nobody.password.as_str()), (&nobody.name, "wrong"), ("nobody-at-all", "x")]
    {
        let args = json!({"username": name, "password": password});
        assert_eq!(client.ask("rpc/auth", args).await, Err(401));
        let line = stack.await_log(Program::Authd, &["login refused", &format!("user={name} ")]);
        assert!(logs::value(&line, "source").is_some() && logs::value(&line, "cause").is_some(), "{line}");
    }
    client.close().await;
}

/// S32: text that is no request came back in the reply.
#[tokio::test(flavor = "multi_thread")]
async fn s32_text_is_not_sent_back() {
    let Some(stack) = stack() else { return };
    let mut client = Client::tls(&stack).await;
    for text in [
        "<script>Nachtigall</script>",
        "Nachtigall",
        "[\"Nachtigall\"]",
        "\"Nachtigall\"",
        "{\"Nachtigall\":",
    ] {
        client.send(text).await;
        let reply: Value = client.json().await;
        assert_eq!(reply["args"]["code"], 400, "{reply}");
        assert!(!reply.to_string().contains("Nachtigall"), "{reply}");
    }
    client.close().await;
}
