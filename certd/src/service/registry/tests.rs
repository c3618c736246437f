//! Which records changes of keys leave.

use std::sync::mpsc;

use doorward_launch::{Audit, audit::Place};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    config::Config,
    key::SignatureClass,
    registry::{Point, Registry, Watch},
};

struct Fixture {
    directory: tempfile::TempDir,
    core: Arc<Core>,
    audit: Audit,
}

fn fixture(watch: Watch) -> Fixture {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let config = Config::default();
    let registry =
        Registry::open(directory.path(), config.registry_limits(), watch).expect("an empty registry");
    let place = Place { file: directory.path().join("audit.jsonl"), required: false };
    let audit = Audit::open("doorward-certd", &place).expect("opened");
    let core = Core::new(&config, registry, 0, audit.clone(), CancellationToken::new());
    Fixture { directory, core, audit }
}

impl Fixture {
    /// All records, once all that is queued is done.
    async fn records(self) -> Vec<Value> {
        let Self { directory, core, audit } = self;
        tokio::task::spawn_blocking(move || core.close()).await.expect("closed");
        audit.settle();
        let text = std::fs::read_to_string(directory.path().join("audit.jsonl")).expect("readable");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

/// An entry that no key was made for.
fn entry(user: &str, proven: bool) -> registry::Entry {
    registry::Entry {
        key: b"key".to_vec(),
        fingerprint: Fingerprint::of(b"key"),
        class: SignatureClass(64),
        user: user.into(),
        uid: None,
        certificate: Vec::new(),
        nickname: String::new(),
        email: String::new(),
        registered: 100,
        registered_session: "s".into(),
        registered_method: "password".into(),
        proven,
        last_used: None,
        last_source: String::new(),
        revoked: None,
        revoked_by: String::new(),
    }
}

fn known(user: &str) -> Record {
    Record {
        user: Some(user.into()),
        session: Some("s".into()),
        key: Some(Fingerprint::of(b"key").to_string()),
        ..Record::of(Event::KeyRefused)
    }
}

fn word<'a>(record: &'a Value, field: &str) -> &'a str {
    record[field].as_str().unwrap_or_default()
}

/// Nothing changes on disk, so it costs nothing.
#[tokio::test]
async fn registering_ones_own_key_again_and_again_leaves_few_records() {
    let fixture = fixture(Watch::nothing());
    let started = Instant::now();
    for _ in 0..1_000 {
        fixture.core.register(entry("alice", true), known("alice")).await.expect("registered");
    }
    // Of each second: 20 of one session, and one with the count of the others.
    let bound = 1 + 21 * (started.elapsed().as_secs() + 2);
    let records = fixture.records().await;
    assert!(records.len() as u64 <= bound, "{} records, {bound} at most", records.len());
    let counted: u64 = records.iter().map(|record| record["count"].as_u64().unwrap_or(1)).sum();
    assert_eq!(counted, 1_000);
    assert!(records.iter().all(|record| word(record, "event") == "key_registered"));
}

/// Has a change begun whose caller is gone before it is on disk, as at the deadline of a slow one.
async fn given_up<T>(change: impl Future<Output = T>, go_on: &mpsc::Sender<()>) {
    let mut change = Box::pin(change);
    assert!(futures_util::poll!(&mut change).is_pending());
    drop(change);
    go_on.send(()).expect("the writer is there");
}

#[tokio::test]
async fn a_change_that_is_on_disk_later_than_its_caller_waits_is_recorded() {
    let (go_on, wait) = mpsc::channel();
    let fixture = fixture(Watch::by(move |at| {
        if at == Point::Applied {
            let _ = wait.recv();
        }
    }));
    let core = fixture.core.clone();
    given_up(core.register(entry("bob", false), known("bob")), &go_on).await;
    given_up(core.register(entry("alice", true), known("alice")), &go_on).await;
    let key = Fingerprint::of(b"key");
    given_up(core.revoke(key, "alice".into(), "alice".into(), known("alice")), &go_on).await;
    let revoked = registry::Entry { revoked: Some(200), ..entry("carol", true) };
    given_up(core.import(vec![revoked]), &go_on).await;
    drop(core);
    let records = fixture.records().await;
    let told: Vec<_> = records
        .iter()
        .map(|record| ["event", "user", "reason", "by"].map(|field| word(record, field)))
        .collect();
    let expected = [
        ["key_registered", "bob", "unproven", ""],
        ["key_registered", "alice", "proven", ""],
        ["key_revoked", "bob", "displaced", "alice"],
        ["key_revoked", "alice", "asked", ""],
        ["key_imported", "carol", "revoked", "root"],
    ];
    assert_eq!(told, expected);
}
