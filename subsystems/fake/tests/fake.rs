//! It misbehaves as it is told, and not otherwise.

#![allow(clippy::indexing_slicing, reason = "test code")]

use std::io;
use std::process::Stdio;
use std::time::Duration;

use doorward_proto::subsystem::v1::{
    CallRequest, DescribeRequest, EventsRequest, call_part::Part, call_reply::Outcome,
    subsystem_client::SubsystemClient,
};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

const PATIENCE: Duration = Duration::from_secs(30);

struct Fake {
    client: SubsystemClient<Channel>,
    said: Lines<BufReader<ChildStdout>>,
    child: Child,
    directory: tempfile::TempDir,
}

async fn start() -> Fake {
    let directory = tempfile::tempdir().expect("a directory");
    let (socket, script) = (directory.path().join("socket"), directory.path().join("script.toml"));
    std::fs::write(&script, "").expect("written");
    let mut child = Command::new(env!("CARGO_BIN_EXE_doorward-fake-subsystem"))
        .args(["--socket".as_ref(), socket.as_os_str(), "--script".as_ref(), script.as_os_str()])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("it starts");
    let mut said = BufReader::new(child.stdout.take().expect("its output")).lines();
    let ready = timeout(PATIENCE, said.next_line()).await.expect("in time").expect("its output");
    assert_eq!(ready.as_deref(), Some("ready"));
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move {
            let stream = tokio::net::UnixStream::connect(socket).await?;
            Ok::<_, io::Error>(hyper_util::rt::TokioIo::new(stream))
        }
    });
    let channel = Endpoint::from_static("http://fake").connect_with_connector(connector).await;
    let client = SubsystemClient::new(channel.expect("connected")).max_decoding_message_size(64 << 20);
    Fake { client, said, child, directory }
}

fn request(action: &str, args: &Value) -> CallRequest {
    CallRequest {
        assertion: "x.eyJzdWIiOiJhbGljZSJ9.y".into(),
        action: action.into(),
        args: args.to_string().into_bytes(),
        request_id: "7".into(),
        deadline_ms: 1_000,
    }
}

impl Fake {
    async fn call(&self, args: Value) -> Result<Option<Outcome>, Code> {
        let reply =
            timeout(PATIENCE, self.client.clone().call(request("read", &args))).await.expect("in time");
        reply.map(|reply| reply.into_inner().outcome).map_err(|status| status.code())
    }

    async fn says(&mut self, expected: &str) {
        loop {
            let line = timeout(PATIENCE, self.said.next_line()).await.expect("in time").expect("its output");
            if line.expect("it goes on") == expected {
                return;
            }
        }
    }

    fn script(&self, text: &str) {
        std::fs::write(self.directory.path().join("script.toml"), text).expect("written");
    }
}

#[tokio::test]
async fn an_answer_is_what_the_args_say() {
    let fake = start().await;
    let result = |bytes: &[u8]| Ok(Some(Outcome::Result(bytes.to_vec())));
    assert_eq!(fake.call(json!({ "garbage": "{" })).await, result(b"{"));
    assert_eq!(fake.call(json!({ "not_utf8": true })).await, result(b"\"\xff\xfe\""));
    assert_eq!(fake.call(json!({ "depth": 2 })).await, result(b"[[]]"));
    assert_eq!(fake.call(json!({ "answer": { "a": 1 } })).await, result(br#"{"a":1}"#));
    assert_eq!(fake.call(json!({ "nothing": true })).await, Ok(None));
    assert_eq!(fake.call(json!({ "status": 8 })).await, Err(Code::ResourceExhausted));
    let Ok(Some(Outcome::Result(large))) = fake.call(json!({ "size": 10 << 20 })).await else {
        panic!("large")
    };
    assert_eq!(large.len(), (10 << 20) + 2);
    let failure = fake.call(json!({ "code": 418, "message": "tea" })).await;
    assert!(matches!(failure, Ok(Some(Outcome::Failure(failure))) if failure.code == 418));
    let Ok(Some(Outcome::Result(echo))) = fake.call(json!({ "x": 1 })).await else { panic!("an echo") };
    let echo: Value = serde_json::from_slice(&echo).expect("JSON");
    assert_eq!((&echo["claims"]["sub"], &echo["args"]), (&json!("alice"), &json!({ "x": 1 })));
}

#[tokio::test]
async fn it_hangs_crashes_and_tells_what_was_dropped() {
    let mut fake = start().await;
    let mut client = fake.client.clone();
    let call = tokio::spawn(async move { client.call(request("write", &json!({ "hang": true }))).await });
    fake.says("began write 7").await;
    call.abort();
    fake.says("dropped write 7").await;
    assert_eq!(fake.call(json!({ "delay_ms": 1 })).await.map(|_| ()), Ok(()));
    fake.says("ended read 7").await;
    assert!(fake.call(json!({ "crash": true })).await.is_err());
    let ended = timeout(PATIENCE, fake.child.wait()).await.expect("in time").expect("ended");
    assert_eq!(ended.code(), Some(70));
}

#[tokio::test]
async fn streams_tell_steps_and_bursts_come_as_events() {
    let fake = start().await;
    let mut events = fake.client.clone().events(EventsRequest {}).await.expect("a stream").into_inner();
    let args = json!({ "burst": { "event": "fake", "count": 3 }, "steps": 2, "answer": "end" });
    let parts = fake.client.clone().call_stream(request("read-long", &args)).await.expect("a stream");
    let mut parts = parts.into_inner();
    let mut told = Vec::new();
    while let Some(part) = parts.message().await.expect("a part") {
        told.push(match part.part.expect("something") {
            Part::Progress(_) => "progress",
            Part::Result(_) => "result",
            Part::Failure(_) => "failure",
        });
    }
    assert_eq!(told, ["progress", "progress", "result"]);
    for number in 0..3 {
        let event = events.message().await.expect("no error").expect("an event");
        let args: Value = serde_json::from_slice(&event.args).expect("JSON");
        assert_eq!((event.name.as_str(), &args["number"]), ("fake", &json!(number)));
    }
}

#[tokio::test]
async fn of_itself_it_says_what_the_script_says() {
    let fake = start().await;
    let describe = || async { fake.client.clone().describe(DescribeRequest {}).await };
    let usual = describe().await.expect("described").into_inner();
    assert_eq!((usual.name.as_str(), usual.actions.len(), usual.events.len()), ("fake", 4, 1));
    fake.script("name = 'other'\nevents = []\n[[actions]]\nname = 'A B'\n");
    let wrong = describe().await.expect("described").into_inner();
    assert_eq!((wrong.name.as_str(), wrong.actions[0].name.as_str()), ("other", "A B"));
    assert_eq!((wrong.actions[0].right, wrong.events.len()), (0, 0));
    fake.script("status = 14");
    assert_eq!(describe().await.expect_err("as it was told").code(), Code::Unavailable);
}
