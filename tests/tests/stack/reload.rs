//! SIGHUP with everything running: nobody is thrown out, and what changed holds for whoever comes next.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;

use doorward_tests::keys::{Key, Kind};
use doorward_tests::{Client, Options, Pam, Program, Role, Stack, skip};
use serde_json::json;

/// Certificates as certbot keeps them: names that are links to the current files.
struct Live {
    dir: tempfile::TempDir,
    round: u32,
}

impl Live {
    /// Empty: the stack has to be told of it, and tells whose the files must be.
    fn new() -> Self {
        // Not below the stack's directory, whose owner may be another service.
        let dir = tempfile::Builder::new().prefix("dwt").tempdir().expect("a temporary directory");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("chmod of our directory");
        for name in ["live", "archive"] {
            fs::create_dir(dir.path().join(name)).expect("a directory in ours");
            fs::set_permissions(dir.path().join(name), Permissions::from_mode(0o755)).expect("chmod");
        }
        Self { dir, round: 0 }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join("live").join(name).to_str().expect("UTF-8").to_owned()
    }

    /// New files, and the links turned to them.
    fn renew(&mut self, key: &Key, group: u32) {
        self.round += 1;
        let certificate = key.certificate();
        let private = fs::read_to_string(key.private_path()).expect("the private key");
        for (name, text, mode) in [("cert.pem", certificate, 0o644), ("key.pem", private, 0o640)] {
            let file = format!("{}{name}", self.round);
            let target = self.dir.path().join("archive").join(&file);
            fs::write(&target, text).expect("a file in our directory");
            fs::set_permissions(&target, Permissions::from_mode(mode)).expect("chmod of our file");
            if skip::is_root() {
                chown(&target, Some(0), Some(group)).expect("chown of our file");
            }
            let link = self.dir.path().join("live").join(name);
            let _ = fs::remove_file(&link);
            symlink(Path::new("../archive").join(file), link).expect("a link");
        }
    }
}

/// A stack that allows so many clients of one source, and whose gateway may read `live`.
fn options(live: &Live) -> Options {
    let read = live.dir.path().to_str().expect("UTF-8").to_owned();
    Options::new(if skip::is_root() { Pam::Real } else { Pam::Wrapper })
        .gateway("limits.per_source", 2_000)
        .gateway("limits.connections_before_login", 2_000)
        .gateway("limits.connections_per_source", 2_000)
        .gateway("timers.login_seconds", 600)
        .gateway("sandbox.read", vec![read])
}

#[tokio::test(flavor = "multi_thread")]
async fn no_connection_is_lost_to_new_certificates() {
    let many = if skip::long() { 1_000 } else { 200 };
    let keys: Vec<Key> = (0..3).map(|_| Key::generate(Kind::P256)).collect();
    let mut live = Live::new();
    let Some(mut stack) = Stack::start(&options(&live)) else { return };
    let group = stack.gateway_uid();
    live.renew(&keys[0], group);
    let own = stack.fingerprint().to_owned();

    let mut clients = Vec::new();
    for _ in 0..many {
        clients.push(Client::tls(&stack).await);
    }
    let mut session = Client::unix(&stack).await;
    session.login(stack.person(Role::Full)).await.expect("a login");

    stack.set(Program::Gateway, "tls.certificate", live.path("cert.pem"));
    stack.set(Program::Gateway, "tls.key", live.path("key.pem"));
    let log = stack.reload(Program::Gateway);
    assert!(log.contains("reloaded changed=\"tls.certificate tls.key\""), "{log}");
    assert_ne!(stack.fingerprint(), own);
    for key in &keys {
        live.renew(key, group);
        stack.reload(Program::Gateway);
        assert_eq!(stack.fingerprint(), key.fingerprint());
        // The client pins what the gateway says of itself: the handshake showed that key.
        let mut new = Client::tls(&stack).await;
        new.ask("rpc/identify", json!({})).await.expect("an answer");
        new.close().await;
    }
    let mut dropped = 0;
    for client in &mut clients {
        dropped += usize::from(client.ask("rpc/identify", json!({})).await.is_err());
    }
    assert_eq!(dropped, 0, "of {many}");
    assert!(session.logged_in().await);
    for client in clients {
        client.close().await;
    }
    session.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_signs_names_the_key_of_its_own_handshake() {
    let (old, new) = (Key::generate(Kind::P256), Key::generate(Kind::P256));
    let mut live = Live::new();
    let Some(mut stack) = Stack::start(&options(&live)) else { return };
    let group = stack.gateway_uid();
    live.renew(&old, group);
    stack.set(Program::Gateway, "tls.certificate", live.path("cert.pem"));
    stack.set(Program::Gateway, "tls.key", live.path("key.pem"));
    stack.reload(Program::Gateway);
    let mut before = Client::tls(&stack).await;
    live.renew(&new, group);
    stack.reload(Program::Gateway);
    let mut after = Client::tls(&stack).await;
    for (client, key) in [(&mut before, &old), (&mut after, &new)] {
        let reply = client.ask("rpc/auth_ssl", json!("")).await.expect("a challenge");
        let context = reply["context"].as_str().expect("a context");
        let hash = key.fingerprint();
        assert!(context.ends_with(hash.trim_start_matches("SHA256:")), "{context} {hash}");
    }
    before.close().await;
    after.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_served_changes_nothing_and_says_how_to_mend_it() {
    let (good, other) = (Key::generate(Kind::P256), Key::generate(Kind::P256));
    let mut live = Live::new();
    let Some(mut stack) = Stack::start(&options(&live)) else { return };
    live.renew(&good, stack.gateway_uid());
    stack.set(Program::Gateway, "tls.certificate", live.path("cert.pem"));
    stack.set(Program::Gateway, "tls.key", live.path("key.pem"));
    stack.reload(Program::Gateway);
    let key = live.dir.path().join("archive/1key.pem");
    let text = fs::read_to_string(&key).expect("our file");
    let stale = fs::read_to_string(other.private_path()).expect("the private key");
    let mut recorded = vec!["done"];
    for (content, mode, word) in [
        (stale.as_str(), 0o640, "is not the key of"),
        ("nothing", 0o640, "holds no PEM private key"),
        (text.as_str(), 0o644, "chmod o="),
        (text.as_str(), 0o660, "chmod go-w"),
        (text.as_str(), 0o600, "chmod 640"),
    ] {
        if mode == 0o600 && !skip::root("a key of root's") {
            continue;
        }
        fs::write(&key, content).expect("our file");
        fs::set_permissions(&key, Permissions::from_mode(mode)).expect("chmod of our file");
        let log = stack.reload(Program::Gateway);
        assert!(
            log.contains("not reloaded, the old configuration stays") && log.contains(word),
            "{word}: {log}"
        );
        recorded.push("refused");
        assert_eq!(stack.fingerprint(), good.fingerprint());
        Client::tls(&stack).await.close().await;
    }
    // An unknown key: file and line.
    fs::write(&key, &text).expect("our file");
    fs::set_permissions(&key, Permissions::from_mode(0o640)).expect("chmod of our file");
    let path = stack.config_path(Program::Gateway);
    let config = fs::read_to_string(&path).expect("our file");
    fs::write(&path, format!("colour = 1\n{config}")).expect("our file");
    let log = stack.reload(Program::Gateway);
    assert!(log.contains(&format!("{}:1: unknown field `colour`", path.display())), "{log}");
    fs::write(&path, config).expect("our file");
    assert!(stack.reload(Program::Gateway).contains("reloaded changed="));
    recorded.extend(["refused", "done"]);
    let records = stack.records(Program::Gateway, &[("event", "reload")]);
    let reasons: Vec<_> = records.iter().map(|record| record["reason"].as_str().expect("a reason")).collect();
    assert_eq!(reasons, recorded, "one each, in their order");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_a_restart_is_said() {
    let Some(mut stack) = Stack::start(&options(&Live::new())) else { return };
    stack.set(Program::Gateway, "listen.tls", vec!["127.0.0.1:1".to_owned()]);
    stack.set(Program::Gateway, "limits.in_flight", 3);
    let log = stack.reload(Program::Gateway);
    assert!(log.contains("reloaded changed=limits.in_flight"), "{log}");
    assert!(log.contains("changed keys that take a restart keys=listen.tls"), "{log}");
    stack.set(Program::Certd, "socket.path", "/nowhere");
    let log = stack.reload(Program::Certd);
    assert!(log.contains("changed keys that take a restart keys=socket.path"), "{log}");
    Client::tls(&stack).await.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn authd_takes_over_groups_and_local_login() {
    let Some(mut stack) = Stack::start(&options(&Live::new())) else { return };
    let mut held = Client::tls(&stack).await;
    let token = held.login(stack.person(Role::Full)).await.expect("a login");

    stack.set(Program::Authd, "sessions.idle_seconds", 77);
    stack.set(Program::Authd, "sessions.per_user", 5);
    let log = stack.reload(Program::Authd);
    assert!(log.contains("reloaded changed=\"sessions.idle_seconds sessions.per_user\""), "{log}");
    let mut new = Client::tls(&stack).await;
    let person = stack.person(Role::Full).clone();
    let args = json!({"username": person.name, "password": person.password});
    let reply = new.ask("rpc/auth", args).await.expect("a login");
    assert_eq!(reply[1], json!(77), "the idle clock of new sessions: {reply}");
    let reply = new.ask("rpc/auth_token", json!({"token": token})).await.expect("it lives on");
    assert_ne!(reply[1], json!(77), "that of an older session: {reply}");

    // Local users are known over loopback, and after the reload on the Unix socket only.
    if skip::root("a local user's connection") {
        for (mode, over_tcp) in [("kernel", true), ("unix", false), ("kernel", true), ("off", false)] {
            stack.set(Program::Authd, "local_login.mode", mode);
            stack.reload(Program::Authd);
            let mut local = Client::tls_as(&stack, person.uid).await;
            let reply = local.ask("rpc/auth", json!({"username": person.name})).await;
            assert_eq!(reply.is_ok(), over_tcp, "{mode} over TLS: {reply:?}");
            local.ask("rpc/auth_clear", json!({"reply": true})).await.expect("cleared");
            local.close().await;
            let mut local = Client::unix_as(&stack, person.uid).await;
            let reply = local.ask("rpc/auth", json!({"username": person.name})).await;
            assert_eq!(reply.is_ok(), mode != "off", "{mode} over the Unix socket: {reply:?}");
            local.ask("rpc/auth_clear", json!({"reply": true})).await.expect("cleared");
            local.close().await;
        }
    }

    // Nobody is in these groups: logins are refused, and sessions end where they are looked at.
    stack.set(Program::Authd, "access.full_groups", vec!["no-such-group".to_owned()]);
    stack.set(Program::Authd, "access.limited_groups", vec!["no-such-group".to_owned()]);
    stack.reload(Program::Authd);
    let mut late = Client::tls(&stack).await;
    assert_eq!(late.login(stack.person(Role::Full)).await, Err(401));
    assert_eq!(late.ask("rpc/auth_token", json!({"token": token})).await, Err(401));
    for client in [held, new, late] {
        client.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certd_takes_over_its_policy() {
    let Some(mut stack) = Stack::start(&options(&Live::new())) else { return };
    let key = Key::generate(Kind::P256);
    let mut client = Client::tls(&stack).await;
    client.login(stack.person(Role::Full)).await.expect("a login");
    let register = json!({"action": "register_ssl_cert", "pub_key": key.packed()});
    assert!(client.ask("rpc/settings", register.clone()).await.is_err(), "without a proof");
    stack.set(Program::Certd, "policy.require_key_possession", false);
    let log = stack.reload(Program::Certd);
    assert!(log.contains("reloaded changed=policy.require_key_possession"), "{log}");
    client.ask("rpc/settings", register).await.expect("it is taken");
    client.close().await;
}
