//! Audit records of real logins: one each, with the right reason; and a disk that has no room for them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use doorward_tests::keys::Quick;
use doorward_tests::{Client, Options, Pam, Person, Program, Role, Stack, secrets, skip};
use serde_json::{Value, json};

use crate::support::{log_in_with, register, revoke};

/// A login by somebody with a word for a password; the code it was refused with.
async fn refused(stack: &Stack, name: &str, word: &str) -> u64 {
    let mut client = Client::tls(stack).await;
    let args = json!({"username": name, "password": secrets::register(word)});
    let code = client.ask("rpc/auth", args).await.expect_err("refused");
    client.close().await;
    code
}

async fn each_outcome_has_one_record(pam: Pam) {
    let Some(stack) = Stack::start(&Options::new(pam)) else { return };
    let person = |role| -> Person { stack.person(role).clone() };
    let full = person(Role::Full);
    let mut client = Client::tls(&stack).await;
    let token = client.login(&full).await.expect("logs in");
    let cases = [
        (full.name.clone(), "wrong-Zaunkoenig-1".to_owned(), 401, "login_refused", "pam-denied"),
        (person(Role::Nobody).name, person(Role::Nobody).password, 401, "login_refused", "no-access-group"),
        ("nosuchuser".to_owned(), "wrong-Zaunkoenig-2".to_owned(), 401, "login_refused", "pam-denied"),
        ("x\"event\":1".to_owned(), "wrong-Zaunkoenig-3".to_owned(), 401, "login_refused", "pam-denied"),
        (person(Role::Changer).name, person(Role::Changer).password, 401, "login_refused", "user-changed"),
        (person(Role::Crash).name, person(Role::Crash).password, 401, "login_refused", "worker-died"),
    ];
    for (name, word, code, event, reason) in cases {
        assert_eq!(refused(&stack, &name, &word).await, code, "{name}");
        let found = stack.records(Program::Authd, &[("user", &name), ("event", event)]);
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        assert_eq!(found[0]["reason"], reason, "{name}");
        assert_eq!(found[0]["reported_source"], "127.0.0.1", "{name}");
        assert_eq!(found[0]["method"], "password", "{name}");
    }
    let login = stack.records(Program::Authd, &[("event", "login")]);
    assert_eq!(login.len(), 1, "{login:?}");
    assert_eq!((&login[0]["user"], &login[0]["method"]), (&json!(full.name), &json!("password")));
    let session = login[0]["session"].as_str().expect("a session").to_owned();

    let mut second = Client::tls(&stack).await;
    second.ask("rpc/auth_token", json!({"token": secrets::register(&token)})).await.expect("taken up");
    assert_eq!(
        stack.records(Program::Authd, &[("event", "session_taken_up"), ("session", &session)]).len(),
        1
    );
    second.ask("rpc/auth_clear", json!({"reply": true})).await.expect("cleared");
    let ended = stack.records(Program::Authd, &[("event", "session_ended")]);
    assert_eq!(ended.len(), 1, "{ended:?}");
    assert_eq!((&ended[0]["session"], &ended[0]["reason"]), (&json!(session), &json!("cleared")));
    second.close().await;
    client.close().await;

    // Whoever leaves in the middle of a conversation.
    let mut client = Client::tls(&stack).await;
    client.login_prompts(&person(Role::Code)).await;
    client.close().await;
    let code = person(Role::Code).name;
    stack.await_record(Program::Authd, &[("user", &code), ("event", "login_abandoned")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_outcome_has_one_record_under_libpam_wrapper() {
    each_outcome_has_one_record(Pam::Wrapper).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_outcome_has_one_record_with_real_pam() {
    each_outcome_has_one_record(Pam::Real).await;
}

/// What the gateway need not ask authd about is in the gateway's file, and all others are in authd's.
#[tokio::test(flavor = "multi_thread")]
async fn each_refused_login_is_in_one_file_once() {
    let Some(stack) = Stack::start(&Options::new(Pam::Wrapper)) else { return };
    let word = secrets::register("wrong-Zaunkoenig-4");
    let login = |user: &str, word: &str| ("rpc/auth", json!({"username": user, "password": word}));
    let cases = [
        (login("-rf", word), Program::Gateway, "malformed-user", "-rf"),
        (login("a/b", ""), Program::Gateway, "malformed-user", "a/b"),
        (login("two\nlines", word), Program::Gateway, "malformed-user", "two\nlines"),
        (login(&"n".repeat(257), word), Program::Gateway, "malformed-user", ""),
        (login("", word), Program::Gateway, "malformed-user", ""),
        (login("nul", "x\0"), Program::Gateway, "malformed-password", "nul"),
        (login("long", &"x".repeat(513)), Program::Gateway, "malformed-password", "long"),
        (("rpc/auth_token", json!({"token": "x"})), Program::Gateway, "no-such-token", ""),
        (("rpc/auth_ssl", json!({"encrypted_string": "?"})), Program::Gateway, "malformed-proof", ""),
        (login("nosuchuser", word), Program::Authd, "pam-denied", "nosuchuser"),
        (login("root", ""), Program::Authd, "root", "root"),
        (
            ("rpc/auth_token", json!({"token": "0f9d5f2c-1b7e-4c55-9a0e-2a6a4f0c9b11"})),
            Program::Authd,
            "no-such-token",
            "",
        ),
    ];
    for (number, ((name, args), file, reason, user)) in cases.iter().enumerate() {
        let mut client = Client::unix(&stack).await;
        assert_eq!(client.ask(name, args.clone()).await, Err(401), "{args}");
        client.close().await;
        let all = [Program::Gateway, Program::Authd].map(|program| {
            let found = stack.records(program, &[("event", "login_refused")]);
            assert!(program != *file || found.last().is_some_and(|last| last["reason"] == *reason), "{args}");
            assert!(program != *file || user.is_empty() || found.last().expect("one")["user"] == *user);
            found.len()
        });
        assert_eq!(all.iter().sum::<usize>(), number + 1, "{args}");
    }
    let records = stack.records(Program::Gateway, &[("event", "login_refused")]);
    for record in &records {
        assert!(record["reported_source"].as_str().is_some_and(|from| from.starts_with("uid:")), "{record}");
        assert!(record["connection"].is_string() && record["dialect"] == "sysadm", "{record}");
    }
    assert_eq!(records[3]["cut"], true, "{}", records[3]);
}

/// A name for each try, as fast as one client can: the counts add up to what happened, in few records.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_malformed_names_is_counted_and_bounded() {
    const TRIES: usize = 500;
    let Some(mut stack) = Stack::start(&Options::new(Pam::Wrapper)) else { return };
    let mut tried = 0;
    while tried < TRIES {
        let mut client = Client::unix(&stack).await;
        // After ten refusals in a row the client is sent away.
        for _ in 0..10 {
            let args = json!({"username": format!("-{tried}"), "password": "x"});
            assert_eq!(client.ask("rpc/auth", args).await, Err(401));
            tried += 1;
        }
        client.close().await;
    }
    // The counts that are not told yet are told at the end.
    stack.stop(Program::Gateway);
    let records =
        stack.records(Program::Gateway, &[("event", "login_refused"), ("reason", "malformed-user")]);
    let counted: u64 = records.iter().map(|record| record["count"].as_u64().unwrap_or(1)).sum();
    assert_eq!(counted, TRIES as u64);
    assert!(records.len() < TRIES, "{} records", records.len());
    stack.start_again(Program::Gateway);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_leaves_its_fingerprint_behind_when_it_is_registered_used_and_revoked() {
    let Some(stack) = Stack::start(&Options::new(Pam::Wrapper)) else { return };
    let key = Quick::generate();
    let mut owner = Client::tls(&stack).await;
    owner.login(stack.person(Role::Limited)).await.expect("logs in");
    register(&mut owner, &key, "").await.expect("registered");
    let mut client = Client::tls(&stack).await;
    log_in_with(&mut client, &key).await.expect("by key");
    assert!(
        register(&mut client, &Quick::generate(), "").await.is_err(),
        "a key must not enrol the next one"
    );
    revoke(&mut owner, &key).await.expect("revoked");
    let registered = stack.records(Program::Certd, &[("event", "key_registered")]);
    let fingerprint = registered[0]["key"].as_str().expect("a fingerprint").to_owned();
    let user = stack.person(Role::Limited).name.clone();
    for (program, event) in [
        (Program::Certd, "key_registered"),
        (Program::Authd, "login"),
        (Program::Certd, "key_revoked"),
        (Program::Authd, "session_ended"),
    ] {
        stack.await_record(program, &[("event", event), ("key", &fingerprint), ("user", &user)]);
    }
    let ended = stack.records(Program::Authd, &[("event", "session_ended")]);
    assert_eq!(ended[0]["reason"], "key-revoked");
    assert_eq!(stack.records(Program::Certd, &[("event", "key_refused"), ("reason", "method")]).len(), 1);
    owner.close().await;
}

/// A small file system of its own; unmounted when dropped.
struct Disk(PathBuf, tempfile::TempDir);

impl Disk {
    /// None, said loudly, where that cannot be had.
    fn small() -> Option<Self> {
        if !skip::root("a file system of its own") {
            return None;
        }
        let directory = tempfile::Builder::new().prefix("dwt").tempdir().expect("a temporary directory");
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("chmod of ours");
        let at = directory.path().join("disk");
        fs::create_dir(&at).expect("made");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64k,mode=1777", "tmpfs"]).arg(&at);
        if !mount.status().is_ok_and(|status| status.success()) {
            skip::skipped("may not mount");
            return None;
        }
        Some(Self(at, directory))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Takes all the room there is.
    fn fill(&self) {
        let mut room = 64 << 10;
        while room > 0 {
            let more = vec![b'x'; room];
            let mut held = fs::read(self.path("filler")).unwrap_or_default();
            held.extend(more);
            if fs::write(self.path("filler"), &held).is_err() {
                room /= 2;
            }
        }
    }

    fn empty(&self) {
        fs::remove_file(self.path("filler")).expect("it is there");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        let _ = &self.1;
    }
}

fn read(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("the records");
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_logins_go_on_and_what_was_lost_is_recorded_when_there_is_room() {
    let Some(disk) = Disk::small() else { return };
    let file = disk.path("audit.jsonl");
    let options = Options::new(Pam::Wrapper).authd("audit.file", file.to_str().expect("UTF-8"));
    let Some(stack) = Stack::start(&options) else { return };
    let full = stack.person(Role::Full).clone();
    disk.fill();
    let mut lost = 0;
    // Until the last page of the file is full, too.
    while read(&file).len() as u64 + lost < 60 {
        let before = read(&file).len();
        refused(&stack, &full.name, "wrong-Zaunkoenig-4").await;
        lost += u64::from(read(&file).len() == before);
    }
    assert!(lost > 10, "the disk is full");
    let mut client = Client::tls(&stack).await;
    client.login(&full).await.expect("goes on");
    stack.await_log(Program::Authd, &["an audit record cannot be written"]);
    disk.empty();
    client.ask("rpc/auth_clear", json!({"reply": true})).await.expect("cleared");
    let records = read(&file);
    let told: Vec<_> = records.iter().filter(|record| record["event"] == "records_lost").collect();
    let counts: Vec<_> = told.iter().map(|record| record["count"].as_u64()).collect();
    assert_eq!(counts, [Some(lost + 1)]);
    assert_eq!(records.last().expect("some")["event"], "session_ended");
    stack.await_log(Program::Authd, &["audit records are written again"]);
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_records_are_required_nobody_logs_in_without_one() {
    let Some(disk) = Disk::small() else { return };
    let file = disk.path("audit.jsonl");
    let options = Options::new(Pam::Wrapper)
        .authd("audit.file", file.to_str().expect("UTF-8"))
        .authd("audit.required", true);
    let Some(stack) = Stack::start(&options) else { return };
    let full = stack.person(Role::Full).clone();
    let mut client = Client::tls(&stack).await;
    let token = client.login(&full).await.expect("there is room");
    disk.fill();
    let mut codes = Vec::new();
    for _ in 0..40 {
        let mut client = Client::tls(&stack).await;
        codes.push(client.login(&full).await.map_or_else(|code| code, |_| 200));
        client.close().await;
    }
    assert_eq!(codes.last(), Some(&503), "{codes:?}");
    let args = json!({"token": secrets::register(&token)});
    let mut second = Client::tls(&stack).await;
    assert_eq!(second.ask("rpc/auth_token", args.clone()).await.err(), Some(503));
    disk.empty();
    second.ask("rpc/auth_token", args).await.expect("healed");
    let records = read(&file);
    let logins = records.iter().filter(|record| record["event"] == "login").count();
    assert_eq!(logins, 1 + codes.iter().filter(|code| **code == 200).count(), "no login without its record");
    second.close().await;
    client.close().await;
}
