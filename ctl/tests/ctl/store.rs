//! Root's commands on the whole registry, against a fake certd that keeps what it was sent.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
};

use doorward_proto::certd::v1::{
    Entry, ExportRequest, ImportReply,
    store_server::{Store, StoreServer},
};
use futures_util::{Stream, StreamExt, stream};
use serde_json::json;
use tokio::runtime::Runtime;
use tonic::{Request, Response, Status, Streaming, transport::Server};

use crate::{World, listening};

#[derive(Clone, Default)]
struct FakeStore {
    entries: Arc<Mutex<Vec<Entry>>>,
    closed: bool,
}

#[tonic::async_trait]
impl Store for FakeStore {
    type ExportStream = Pin<Box<dyn Stream<Item = Result<Entry, Status>> + Send>>;

    async fn export(&self, _: Request<ExportRequest>) -> Result<Response<Self::ExportStream>, Status> {
        if self.closed {
            return Err(Status::permission_denied("no"));
        }
        let entries = self.entries.lock().unwrap().clone();
        Ok(Response::new(Box::pin(stream::iter(entries).map(Ok))))
    }

    async fn import(&self, request: Request<Streaming<Entry>>) -> Result<Response<ImportReply>, Status> {
        let mut incoming = request.into_inner();
        let mut reply = ImportReply::default();
        let mut number = 0;
        while let Some(entry) = incoming.message().await? {
            number += 1;
            let mut entries = self.entries.lock().unwrap();
            if entry.user == "mallory" {
                reply.refused.push(format!("entry {number}: not her"));
            } else if entries.contains(&entry) {
                reply.known += 1;
            } else {
                entries.push(entry);
                reply.added += 1;
            }
        }
        Ok(Response::new(reply))
    }
}

/// A certd at `certd.sock`.
fn serve(world: &World, store: FakeStore) -> (Runtime, String) {
    let path = world.directory.path().join("certd.sock");
    let runtime = listening::grpc(&path, Server::builder().add_service(StoreServer::new(store)));
    (runtime, path.display().to_string())
}

fn entry(world: &World, name: &str, user: &str) -> Entry {
    let path = world.directory.path().join(name).display().to_string();
    world.run(&["keygen", &path], "").expect(0);
    let output = std::process::Command::new("openssl")
        .args(["pkey", "-in", &path, "-pubout", "-outform", "DER"])
        .output()
        .unwrap();
    let fingerprint = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &output.stdout);
    Entry {
        key: output.stdout,
        fingerprint: fingerprint.as_ref().to_vec(),
        user: user.into(),
        uid: Some(1001),
        nickname: "n\n\u{e9}".into(),
        registered: 1_700_000_000,
        registered_method: "password".into(),
        proven: true,
        last_used: Some(1_700_000_001),
        revoked: Some(1_700_000_002),
        revoked_by: "root".into(),
        ..Entry::default()
    }
}

#[test]
fn what_is_exported_is_imported() {
    let world = World::new();
    let store = FakeStore::default();
    let entries = vec![entry(&world, "a", "alice"), entry(&world, "b", "bob")];
    store.entries.lock().unwrap().clone_from(&entries);
    let (_runtime, certd) = serve(&world, store.clone());
    let exported = world.run(&["certs", "export", "--certd", &certd], "").expect(0).out;
    assert_eq!(exported.lines().count(), 2);
    let counts = |ran: crate::Ran| {
        let counts = ran.json();
        [&counts["added"], &counts["known"], &counts["refused"]].map(|count| count.as_u64().unwrap())
    };
    let import = ["certs", "import", "-", "--certd", &certd, "--json"];
    assert_eq!(counts(world.run(&import, &exported).expect(0)), [0, 2, 0]);
    store.entries.lock().unwrap().clear();
    assert_eq!(counts(world.run(&import, &exported).expect(0)), [2, 0, 0]);
    assert_eq!(*store.entries.lock().unwrap(), entries);
}

#[test]
fn root_registers_a_key_for_somebody_past_the_gateway() {
    let world = World::new();
    let store = FakeStore::default();
    let (_runtime, certd) = serve(&world, store.clone());
    let key = world.directory.path().join("k").display().to_string();
    world.run(&["keygen", &key], "").expect(0);
    let public = format!("{key}.pub");
    let register = [
        "certs",
        "register",
        &public,
        "--user",
        "alice",
        "--nickname",
        "laptop",
        "--certd",
        &certd,
        "--json",
    ];
    let told = world.run(&register, "").expect(0).json();
    assert_eq!((&told["user"], &told["new"]), (&json!("alice"), &json!(true)));
    let entries = store.entries.lock().unwrap().clone();
    let [entry] = entries.as_slice() else { panic!("{entries:?}") };
    assert_eq!((&*entry.user, &*entry.nickname, &*entry.registered_method), ("alice", "laptop", "root"));
    assert!(!entry.proven && entry.registered > 1_700_000_000);
    // The one user whom every host has.
    let root = ["certs", "register", &public, "--user", "root", "--certd", &certd];
    world.run(&root, "").expect(0);
    assert_eq!(store.entries.lock().unwrap().last().map(|entry| entry.uid), Some(Some(0)));
    let nobody = ["certs", "register", &public, "--user", "no-such-user", "--certd", &certd];
    world.run(&nobody, "").expect(0);
    assert_eq!(store.entries.lock().unwrap().last().map(|entry| entry.uid), Some(None));
    let mallory = ["certs", "register", &public, "--user", "mallory", "--certd", &certd];
    world.run(&mallory, "").expect(1).says("not her");
    let proven = ["--key", &key, "certs", "register", &public, "--user", "alice", "--certd", &certd];
    world.run(&proven, "").expect(2);
}

#[test]
fn one_line_that_makes_no_sense_keeps_all_of_them_out() {
    let world = World::new();
    let store = FakeStore::default();
    let (_runtime, certd) = serve(&world, store.clone());
    store.entries.lock().unwrap().push(entry(&world, "a", "alice"));
    let good = world.run(&["certs", "export", "--certd", &certd], "").expect(0).out;
    store.entries.lock().unwrap().clear();
    for bad in [
        "{}\n".to_owned(),
        "no\n".to_owned(),
        good.replacen("SHA256:", "SHA256:A", 1),
        good.replacen("\"user\"", "\"owner\":1,\"user\"", 1),
        good.replacen("BEGIN PUBLIC", "BEGIN PRIVATE", 1),
    ] {
        let text = format!("{good}\n{bad}");
        world.run(&["certs", "import", "-", "--certd", &certd], &text).expect(1).says("line 3");
    }
    assert!(store.entries.lock().unwrap().is_empty());
    let mallorys = good.replacen("alice", "mallory", 1);
    let ran = world.run(&["certs", "import", "-", "--certd", &certd], &format!("\n{mallorys}{good}"));
    ran.expect(1).says("line 2: not her");
    assert_eq!(store.entries.lock().unwrap().len(), 1);
}

#[test]
fn the_keys_of_the_original_server_are_read_from_its_file() {
    let world = World::new();
    let store = FakeStore::default();
    let (_runtime, certd) = serve(&world, store.clone());
    let file = world.directory.path().join("sysadm.conf");
    std::fs::write(
        &file,
        "[RegisteredCerts]\nalice\\QUJD%3D=\"Nickname: x\\nEmail: e\\nDate Registered: y\"\nbad\n",
    )
    .unwrap();
    let file = file.display().to_string();
    let import = ["certs", "import-sysadm", &file, "--certd", &certd, "--json"];
    let ran = world.run(&import, "").expect(1).says("line 3: is not of the form");
    assert!(ran.out.starts_with("{\"added\":1,"), "{}", ran.out);
    let entries = store.entries.lock().unwrap().clone();
    assert_eq!((entries.len(), &*entries[0].key, &*entries[0].user), (1, &b"QUJD="[..], "alice"));
    assert_eq!(json!([entries[0].nickname, entries[0].email]), json!(["x", "e"]));
    std::fs::write(&file, "[General]\n").unwrap();
    world.run(&import, "").expect(1).says("holds no key");
}

#[test]
fn a_certd_that_is_away_or_does_not_know_us_is_told() {
    let world = World::new();
    let none = world.directory.path().join("none.sock").display().to_string();
    world.run(&["certs", "export", "--certd", &none], "").expect(3).says("no certd at");
    let (_runtime, certd) = serve(&world, FakeStore { closed: true, ..FakeStore::default() });
    world.run(&["certs", "export", "--certd", &certd], "").expect(1).says("only root");
}
