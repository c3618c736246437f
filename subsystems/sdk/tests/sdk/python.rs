//! The example in Python over its socket: it believes whom the crate believes, and refuses what the crate refuses.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use doorward_launch::Identity;
use doorward_proto::subsystem::v1::{
    self as wire, call_part::Part, call_reply::Outcome, subsystem_client::SubsystemClient,
};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;
use tonic::transport::Channel;

use crate::fixture::{Authd, PATIENCE, connect, now};
use crate::interpreter;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/subsystem-python");

fn python() -> Option<String> {
    interpreter::with(&["grpc", "jwt", "cryptography", "google.protobuf"])
}

struct Notes {
    authd: Authd,
    client: SubsystemClient<Channel>,
    log: Lines<BufReader<ChildStderr>>,
    child: Child,
    before: i64,
    directory: tempfile::TempDir,
}

fn command(python: &str, socket: PathBuf, key: PathBuf) -> Command {
    let mut command = Command::new(python);
    command.arg("-B").arg(format!("{EXAMPLE}/notes.py")).arg("--socket").arg(socket).arg("--key").arg(key);
    command.arg("--authd").arg(Identity::current().uid.to_string());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

async fn start(python: &str) -> Notes {
    let directory = tempfile::tempdir().expect("a directory");
    fs::set_permissions(directory.path(), Permissions::from_mode(0o710)).expect("chmod");
    let (socket, key) = (directory.path().join("socket"), directory.path().join("assertion.pub"));
    let authd = Authd::new("example/notes");
    fs::write(&key, &authd.pem).expect("written");
    let before = now();
    let mut child = command(python, socket.clone(), key).spawn().expect("Python starts");
    let mut said = BufReader::new(child.stdout.take().expect("its output")).lines();
    let ready = timeout(PATIENCE, said.next_line()).await.expect("it says something in time");
    assert_eq!(ready.expect("its output").as_deref(), Some("ready"));
    let log = BufReader::new(child.stderr.take().expect("its log")).lines();
    let client = SubsystemClient::new(connect(socket).await.expect("connected"));
    Notes { authd, client, log, child, before, directory }
}

impl Notes {
    fn request(&self, assertion: String, action: &str, args: &[u8]) -> wire::CallRequest {
        let (action, args) = (action.to_owned(), args.to_vec());
        wire::CallRequest { assertion, action, args, request_id: "request-7".into(), deadline_ms: 20_000 }
    }

    async fn send(&self, request: wire::CallRequest) -> Result<Value, u32> {
        let reply = timeout(PATIENCE, self.client.clone().call(request)).await.expect("an answer in time");
        match reply.expect("a reply").into_inner().outcome.expect("an outcome") {
            Outcome::Result(result) => Ok(serde_json::from_slice(&result).expect("JSON")),
            Outcome::Failure(failure) => Err(failure.code),
        }
    }

    async fn call_as(&self, assertion: String, action: &str, args: Value) -> Result<Value, u32> {
        self.send(self.request(assertion, action, args.to_string().as_bytes())).await
    }

    async fn call(&self, action: &str, args: Value) -> Result<Value, u32> {
        self.call_as(self.authd.fresh(), action, args).await
    }

    /// Waits until its log says this.
    async fn says(&mut self, word: &str) {
        loop {
            let line = timeout(PATIENCE, self.log.next_line()).await.expect("a line in time");
            if line.expect("its log").expect("it goes on").contains(word) {
                return;
            }
        }
    }

    async fn stop(mut self) {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).expect("it runs");
        let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("asked to stop");
        let ended = timeout(PATIENCE, self.child.wait()).await.expect("it stops in time").expect("it ends");
        assert!(ended.success(), "{ended}");
        drop(self.directory);
    }
}

#[tokio::test]
async fn the_example_believes_whom_the_crate_believes() {
    let Some(python) = python() else { return };
    let notes = start(&python).await;
    let note = json!({ "action": "ADD", "note": "milk" });
    for (what, assertion) in notes.authd.forgeries() {
        for action in ["list", "add", "no-such-action"] {
            assert_eq!(
                notes.call_as(assertion.clone(), action, note.clone()).await,
                Err(401),
                "{what}: {action}"
            );
        }
    }
    let assertion = notes.authd.fresh();
    assert_eq!(notes.call_as(assertion.clone(), "add", note.clone()).await, Ok(json!({ "count": 1 })));
    assert_eq!(notes.call_as(assertion.clone(), "add", note.clone()).await, Err(401), "replayed");
    for _ in 0..2 {
        let listed = notes.call_as(assertion.clone(), "list", Value::Null).await;
        assert_eq!(listed, Ok(json!({ "notes": [{ "by": "alice", "note": "milk" }] })));
    }
    let old = notes.authd.with(json!({ "iat": now() - 50, "exp": now() + 10 }));
    assert_eq!(notes.call_as(old, "add", note.clone()).await, Err(401), "signed before the start");
    let early = notes.authd.with(json!({ "iat": notes.before, "exp": notes.before + 60 }));
    assert_eq!(
        notes.call_as(early, "add", note.clone()).await,
        Err(401),
        "signed in the second of the start"
    );
    let reader =
        || notes.authd.with(json!({ "acl": ["sysadm.example.notes.*", "!sysadm.example.notes.add"] }));
    assert_eq!(notes.call_as(reader(), "add", note.clone()).await, Err(403));
    assert!(notes.call_as(reader(), "list", Value::Null).await.is_ok());
    let fresh = notes.authd.fresh();
    let calls = (0..10).map(|_| notes.call_as(fresh.clone(), "add", note.clone()));
    let added = futures_util::future::join_all(calls).await;
    assert_eq!(added.iter().filter(|answer| answer.is_ok()).count(), 1, "of ten at the same time one");
    notes.stop().await;
}

#[tokio::test]
async fn the_example_keeps_its_bounds() {
    let Some(python) = python() else { return };
    let notes = start(&python).await;
    assert_eq!(notes.call("nothing", Value::Null).await, Err(404));
    assert_eq!(notes.call("count", Value::Null).await, Err(404), "it tells progress");
    for args in [json!(null), json!({ "note": 7 }), json!({ "note": "x".repeat(201) })] {
        assert_eq!(notes.call("add", args).await, Err(400));
    }
    let deep = "[".repeat(100_000);
    for args in ["", "{", r#"{"a":"\ud800"}"#, deep.as_str(), &format!("\"{}\"", "x".repeat(128 << 10))] {
        let request = notes.request(notes.authd.fresh(), "list", args.as_bytes());
        assert_eq!(notes.send(request).await, Err(400), "{args:.10}");
    }
    let mut late = notes.request(notes.authd.fresh(), "list", b"null");
    late.deadline_ms = 0;
    assert_eq!(notes.send(late).await, Err(408));
    notes.stop().await;
}

#[tokio::test]
async fn all_notes_of_the_example_are_an_answer() {
    let Some(python) = python() else { return };
    let notes = start(&python).await;
    let mut added = 0;
    // The longest notes that there are, as they are written in JSON.
    while let Ok(count) = notes.call("add", json!({ "note": "\u{1f600}".repeat(200) })).await {
        added += 1;
        assert_eq!(count, json!({ "count": added }));
    }
    assert!((100..1_000).contains(&added), "{added}");
    let listed = notes.call("list", Value::Null).await.expect("listed");
    assert_eq!(listed["notes"].as_array().map(Vec::len), Some(added));
    notes.stop().await;
}

#[tokio::test]
async fn the_example_tells_progress_and_ends_within_a_second_when_nobody_waits() {
    let Some(python) = python() else { return };
    let mut notes = start(&python).await;
    let request = notes.request(notes.authd.fresh(), "count", br#"{"to":3}"#);
    let mut stream = notes.client.clone().call_stream(request).await.expect("a stream").into_inner();
    let mut parts = Vec::new();
    while let Some(part) = stream.message().await.expect("a part") {
        parts.push(match part.part.expect("something") {
            Part::Progress(json) | Part::Result(json) => String::from_utf8(json).expect("UTF-8"),
            Part::Failure(failure) => failure.code.to_string(),
        });
    }
    assert_eq!(parts, [r#"{"step": 1}"#, r#"{"step": 2}"#, r#"{"step": 3}"#, r#"{"counted": 3}"#]);
    notes.says("count: ended at 3").await;
    let request = notes.request(notes.authd.fresh(), "count", br#"{"to":1000000}"#);
    let mut stream = notes.client.clone().call_stream(request).await.expect("a stream").into_inner();
    assert!(matches!(stream.message().await, Ok(Some(_))), "it began");
    let began = Instant::now();
    drop(stream);
    notes.says("count: ended at").await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    notes.stop().await;
}

#[tokio::test]
async fn the_example_tells_events_the_last_one_first() {
    let Some(python) = python() else { return };
    let notes = start(&python).await;
    for _ in 0..2 {
        notes.call("add", json!({ "note": "x" })).await.expect("added");
    }
    let stream = notes.client.clone().events(wire::EventsRequest {}).await.expect("a stream");
    let mut stream = stream.into_inner();
    for count in [2, 3] {
        let event =
            timeout(PATIENCE, stream.message()).await.expect("in time").expect("no error").expect("one");
        let args: Value = serde_json::from_slice(&event.args).expect("JSON");
        assert_eq!((event.name.as_str(), args), ("note-added", json!({ "by": "alice", "count": count })));
        notes.call("add", json!({ "note": "x" })).await.expect("added");
    }
    notes.stop().await;
}

#[tokio::test]
async fn the_example_starts_in_no_directory_that_others_reach() {
    let Some(python) = python() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    fs::set_permissions(directory.path(), Permissions::from_mode(0o711)).expect("chmod");
    let mut command = command(&python, directory.path().join("socket"), directory.path().join("key"));
    let output = timeout(PATIENCE, command.output()).await.expect("ends in time").expect("it ran");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("0710"), "{said}");
}

#[test]
fn what_of_the_example_needs_no_socket_is_tested_in_python() {
    let Some(python) = python() else { return };
    let mut command = std::process::Command::new(python);
    let output = command.args(["-B", "-m", "unittest", "-q"]).current_dir(EXAMPLE).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_examples_messages_are_those_of_the_contract() {
    let Some(python) = python() else { return };
    let program =
        "import sys, subsystem_pb2; sys.stdout.buffer.write(subsystem_pb2.DESCRIPTOR.serialized_pb)";
    let mut command = std::process::Command::new(python);
    let output = command.args(["-B", "-c", program]).current_dir(EXAMPLE).output().expect("it runs");
    let of_example =
        prost_types::FileDescriptorProto::decode(output.stdout.as_slice()).expect("a descriptor");
    let all = prost_types::FileDescriptorSet::decode(doorward_proto::DESCRIPTORS).expect("descriptors");
    let ours = all.file.iter().find(|file| file.package() == "doorward.subsystem.v1").expect("the contract");
    for (one, other) in of_example.message_type.iter().zip(&ours.message_type) {
        let fields = |message: &prost_types::DescriptorProto| -> Vec<_> {
            message.field.iter().map(|f| (f.name().to_owned(), f.number(), f.r#type())).collect()
        };
        assert_eq!((one.name(), fields(one)), (other.name(), fields(other)));
    }
    assert_eq!(of_example.message_type.len(), ours.message_type.len());
    assert_eq!(of_example.service.len(), 1);
}
