//! Subsystems: who is one, what is asked of it, and what comes of a wrong answer.

use std::{path::PathBuf, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::{
    fake_authd::FakeAuthd,
    fake_subsystem::FakeSubsystem,
    support::{Client, Gateway, code, until_async},
};

/// A gateway with a directory for registrations.
pub(crate) struct World {
    pub(crate) gateway: Gateway,
    pub(crate) directory: PathBuf,
}

impl World {
    /// Nothing is registered yet.
    pub(crate) async fn empty() -> Self {
        let place = TempDir::new().expect("a directory");
        let directory = place.path().join("subsystems.d");
        std::fs::create_dir(&directory).expect("made");
        let authd = FakeAuthd::start(place.path());
        let gateway = Gateway::start_in(place, authd, |config| {
            config.subsystems.directory.clone_from(&directory);
            config.subsystems.pace.every = Duration::from_millis(300);
            config.subsystems.pace.within = Duration::from_secs(3);
            config.limits.in_flight = 300;
        })
        .await;
        gateway.authd.watched().await;
        Self { gateway, directory }
    }

    /// With the subsystem `example/NAME`, which is up, registered with these lines more.
    pub(crate) async fn with(name: &str, more: &str) -> (Self, FakeSubsystem) {
        let world = Self::empty().await;
        let fake = world.fake(name);
        world.register(name, &fake.file(more));
        world.is_up(name, true).await;
        (world, fake)
    }

    pub(crate) fn fake(&self, name: &str) -> FakeSubsystem {
        FakeSubsystem::start(self.gateway.directory.path(), name)
    }

    /// Writes a file as editors do: whole.
    pub(crate) fn register(&self, file: &str, text: &str) {
        let new = self.directory.join("new");
        std::fs::write(&new, text).expect("written");
        std::fs::rename(new, self.directory.join(format!("{file}.toml"))).expect("renamed");
    }

    pub(crate) fn unregister(&self, file: &str) {
        std::fs::remove_file(self.directory.join(format!("{file}.toml"))).expect("removed");
    }

    /// Waits until it is listed, or is not.
    pub(crate) async fn is_up(&self, name: &str, up: bool) {
        let (mut client, _) = self.gateway.alice().await;
        let row = format!("example/{name}");
        until_async(async || listed(&mut client).await.get(&row).is_some() == up).await;
    }
}

/// What there is beside the gateway's own `rpc/logs`.
pub(crate) async fn listed(client: &mut Client) -> Value {
    let mut rows = client.call(r#"{"namespace":"rpc","name":"query"}"#).await["args"].clone();
    rows.as_object_mut().expect("an object").remove("rpc/logs");
    rows
}

pub(crate) fn request(name: &str, id: &str, args: &Value) -> String {
    json!({"namespace": "example", "name": name, "id": id, "args": args}).to_string()
}

/// What the action of `example/NAME` answers.
pub(crate) async fn ask(client: &mut Client, name: &str, args: Value) -> Value {
    client.call(request(name, "x", &args)).await
}

pub(crate) async fn ask_code(client: &mut Client, name: &str, args: Value) -> u64 {
    code(&ask(client, name, args).await)
}

#[tokio::test]
async fn what_is_up_is_listed_and_answers() {
    let (world, fake) = World::with("a", "").await;
    let (mut client, _) = world.gateway.alice().await;
    assert_eq!(listed(&mut client).await, json!({"example/a": "read/write"}));
    let text = r#"{"namespace":"Example","name":"A","id":[1],"args":{"action": "ECHO",  "x": 1.0}}"#;
    let reply = client.call(text).await;
    assert_eq!(
        (&reply["name"], &reply["namespace"], &reply["id"]),
        (&json!("response"), &json!("Example"), &json!([1]))
    );
    assert_eq!(reply["args"]["action"], "echo", "as it is described");
    let received = fake.received();
    assert_eq!(received[0].args, br#"{"action": "ECHO",  "x": 1.0}"#, "as they were written");
    assert_eq!(received[0].assertion, "alice example/a 0");
    assert!((1..=30_000).contains(&received[0].deadline_ms));
    // No action is named; without args they are the whole less its envelope.
    assert_eq!(ask(&mut client, "a", json!([1])).await["args"]["action"], "_");
    let whole = client.call(r#"{"namespace":"example","name":"a","action":"echo"}"#).await;
    assert_eq!(whole["args"]["args"], json!({"action": "echo"}));
    for (args, expected) in
        [(json!({"action": "nothing"}), 404), (json!({"action": "a b"}), 404), (json!({"action": 7}), 400)]
    {
        assert_eq!(ask_code(&mut client, "a", args.clone()).await, expected, "{args}");
    }
    assert_eq!(ask_code(&mut client, "b", json!({})).await, 404, "no such subsystem");
}

#[tokio::test]
async fn without_a_session_there_is_nothing_and_without_a_right_little() {
    let (world, fake) = World::with("a", "").await;
    let mut nobody = world.gateway.unix().await;
    for name in ["a", "b"] {
        assert_eq!(ask_code(&mut nobody, name, json!({"action": "echo"})).await, 401, "{name}");
    }
    let mut bob = world.gateway.unix().await;
    bob.log_in("bob", "builder").await;
    assert_eq!(ask_code(&mut bob, "a", json!({"action": "echo"})).await, 403);
    assert_eq!(ask_code(&mut bob, "a", json!({"action": "nothing"})).await, 404);
    assert_eq!(ask_code(&mut bob, "b", json!({})).await, 404);
    let describe = r#"{"namespace":"rpc","name":"describe","args":{"name":"example/a"}}"#;
    assert_eq!(code(&bob.call(describe).await), 403);
    assert!(fake.received().is_empty());
    fake.describe(|said| said.actions.retain(|action| action.name != "_"));
    let (mut alice, _) = world.gateway.alice().await;
    until_async(async || ask_code(&mut alice, "a", json!({})).await == 400).await;
}

#[tokio::test]
async fn what_is_down_is_503_and_not_listed_until_it_is_back() {
    let (world, mut fake) = World::with("a", "").await;
    let (mut client, _) = world.gateway.alice().await;
    fake.kill().await;
    world.is_up("a", false).await;
    assert_eq!(ask_code(&mut client, "a", json!({"action": "echo"})).await, 503);
    let describe = r#"{"namespace":"rpc","name":"describe","args":{"name":"example/a"}}"#;
    assert_eq!(code(&client.call(describe).await), 503);
    fake.resume();
    world.is_up("a", true).await;
    assert_eq!(ask_code(&mut client, "a", json!({"action": "echo"})).await, 0);
}

#[tokio::test]
async fn another_users_process_is_no_subsystem() {
    let world = World::empty().await;
    let (fake, other) = (world.fake("a"), world.fake("b"));
    let own = doorward_launch::Identity::current().uid;
    world.register("a", &fake.file_of(own + 1, ""));
    world.register("b", &other.file(""));
    world.is_up("b", true).await;
    let (mut client, _) = world.gateway.alice().await;
    assert_eq!(ask_code(&mut client, "a", json!({"action": "echo"})).await, 503);
    assert_eq!(listed(&mut client).await, json!({"example/b": "read/write"}));
    // It is given nothing, not even a request to describe itself; the right one is tried until it comes.
    world.register("a", &fake.file(""));
    world.is_up("a", true).await;
}

#[tokio::test]
async fn one_that_describes_itself_wrongly_stays_down() {
    let world = World::empty().await;
    let fake = world.fake("a");
    fake.describe(|said| said.name = "b".into());
    world.register("a", &fake.file(""));
    let (mut client, _) = world.gateway.alice().await;
    until_async(async || ask_code(&mut client, "a", json!({})).await == 503).await;
    fake.describe(|said| said.name = "a".into());
    world.is_up("a", true).await;
    // And one that does so later goes down.
    fake.describe(|said| said.help = "two\nlines".into());
    world.is_up("a", false).await;
}

#[tokio::test]
async fn registrations_come_change_and_go_while_the_gateway_runs() {
    let (world, a) = World::with("a", "").await;
    let b = world.fake("b");
    let (mut client, _) = world.gateway.alice().await;
    world.register("b", &b.file(""));
    world.is_up("b", true).await;
    // A file that is wrong costs only its own.
    world.register("b", "namespace = 7");
    until_async(async || ask_code(&mut client, "b", json!({"action": "echo"})).await == 404).await;
    assert_eq!(ask_code(&mut client, "a", json!({"action": "echo"})).await, 0);
    // Under another file, and with another deadline.
    world.register("a", &a.file("call_seconds = 1"));
    until_async(async || {
        let reply = ask(&mut client, "a", json!({"action": "echo"})).await;
        reply["args"]["deadline"].as_u64().is_some_and(|left| left <= 1_000)
    })
    .await;
    world.unregister("a");
    until_async(async || ask_code(&mut client, "a", json!({"action": "echo"})).await == 404).await;
    assert_eq!(listed(&mut client).await, json!({}));
}

#[tokio::test]
async fn a_hang_is_408_in_time_and_disturbs_nobody() {
    let (world, fake) = World::with("a", "call_seconds = 5").await;
    let (mut client, _) = world.gateway.alice().await;
    let (mut other, _) = world.gateway.alice().await;
    let began = Instant::now();
    client.send(request("a", "slow", &json!({"action": "hang"}))).await;
    fake.hang(1).await;
    for _ in 0..20 {
        assert_eq!(ask_code(&mut other, "a", json!({"action": "echo"})).await, 0);
    }
    assert_eq!(ask_code(&mut client, "a", json!({"action": "echo"})).await, 0, "nor itself");
    let reply = client.reply().await;
    assert_eq!((code(&reply), &reply["id"]), (408, &json!("slow")));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    fake.hang(0).await;
}

#[tokio::test]
async fn a_crash_in_mid_call_is_503_and_it_comes_back_by_itself() {
    let (world, fake) = World::with("a", "").await;
    let (mut client, _) = world.gateway.alice().await;
    let (mut other, _) = world.gateway.alice().await;
    other.send(request("a", "y", &json!({"action": "hang"}))).await;
    fake.hang(1).await;
    assert_eq!(ask_code(&mut client, "a", json!({"action": "die"})).await, 503);
    assert_eq!(code(&other.reply().await), 503);
    until_async(async || ask_code(&mut client, "a", json!({"action": "echo"})).await == 0).await;
}

#[tokio::test]
async fn garbage_is_500_and_so_is_too_much() {
    let (world, fake) = World::with("a", "").await;
    let (mut client, _) = world.gateway.alice().await;
    let largest = format!("\"{}\"", "x".repeat((1 << 20) - 2));
    for (said, expected) in [
        (b"{\"a\": [1]}".to_vec(), 0),
        (largest.clone().into(), 0),
        (format!("{largest} ").into(), 500),
        (b"".to_vec(), 500),
        (b"{".to_vec(), 500),
        (b"{} {}".to_vec(), 500),
        (b"\xff\xfe\x00".to_vec(), 500),
        ("[".repeat(65).into(), 500),
        (vec![b'1'; 10 << 20], 500),
    ] {
        let length = said.len();
        fake.say(said);
        let got = ask_code(&mut client, "a", json!({"action": "say"})).await;
        assert_eq!(got, expected, "{length} bytes");
    }
    assert_eq!(ask_code(&mut client, "a", json!({"action": "echo"})).await, 0, "the line stands");
}

#[tokio::test]
async fn each_failure_has_its_code_and_only_what_helps_is_shown() {
    let (world, _fake) = World::with("a", "").await;
    let (mut client, _) = world.gateway.alice().await;
    for (said, expected) in [
        (400, 400),
        (403, 403),
        (404, 404),
        (408, 408),
        (429, 429),
        (500, 500),
        (503, 503),
        (401, 500),
        (999, 500),
    ] {
        let reply = ask(&mut client, "a", json!({"action": "fail", "code": said})).await;
        assert_eq!(code(&reply), expected, "{said}");
        let shown = reply["args"]["message"].as_str().expect("text").contains("so it is");
        assert_eq!(shown, said == 400, "{reply}");
    }
}

#[tokio::test]
async fn what_is_described_goes_by_right() {
    let (world, fake) = World::with("a", "").await;
    fake.describe(|said| said.actions[0].args_schema = r#"{"type":"object"}"#.into());
    let (mut client, _) = world.gateway.alice().await;
    let describe =
        |name: &str| json!({"namespace": "rpc", "name": "describe", "args": {"name": name}}).to_string();
    until_async(async || {
        client.call(describe("Example/A")).await["args"]["actions"]["_"].get("args").is_some()
    })
    .await;
    let reply = client.call(describe("example/a")).await;
    let told = &reply["args"];
    assert_eq!(
        (&told["namespace"], &told["name"], &told["version"]),
        (&json!("example"), &json!("a"), &json!("1"))
    );
    assert_eq!(
        told["actions"]["change"],
        json!({"right": "read/write", "help": "Does change", "streams": false})
    );
    assert_eq!(told["actions"]["count"]["streams"], true);
    assert_eq!(told["events"], json!({}), "it may publish none");
    let own = client.call(describe("rpc/sessions")).await;
    assert_eq!(own["args"]["actions"]["list"]["right"], "read", "{own}");
    assert_eq!(code(&client.call(describe("example/b")).await), 404);
}
