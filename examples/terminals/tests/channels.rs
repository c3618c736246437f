//! The handlers of docs/channel-handlers.md over their sockets, in Rust and in Python: whom they believe, and what they
//! answer to each of `cases.json`.

#![allow(clippy::indexing_slicing)]

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::Stdio,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use doorward_launch::Identity;
use doorward_proto::channel::v1::{
    self as wire, channel_handler_client::ChannelHandlerClient, message_reply::Outcome,
};
use doorward_terminals::Register;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::UnixStream,
    process::{Child, Command},
    time::timeout,
};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

#[path = "../../python.rs"]
mod python;
// A part of it is used.
#[allow(dead_code)]
#[path = "../../../launch/src/skip.rs"]
mod skip;

const PATIENCE: Duration = Duration::from_secs(30);
const CASES: &str = include_str!("cases.json");
const RUST: &str = env!("CARGO_BIN_EXE_doorward-terminals-channels");
const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../terminals-python/channels.py");

fn rust(gateway: u32) -> Command {
    let mut command = Command::new(RUST);
    command.args(["--gateway", &gateway.to_string()]);
    command
}

fn in_python() -> Option<Command> {
    let mut command = Command::new(python::with(&["grpc", "jwt", "cryptography", "google.protobuf"])?);
    command.args(["-B", PYTHON]);
    Some(command)
}

/// authd's signature.
struct Authd {
    key: EncodingKey,
    pem: String,
}

impl Authd {
    fn new() -> Self {
        let pair = Ed25519KeyPair::generate().expect("a key");
        let spki = [b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00", pair.public_key().as_ref()].concat();
        let key = EncodingKey::from_ed_der(pair.to_pkcs8().expect("encoded").as_ref());
        Self {
            key,
            pem: format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(spki)),
        }
    }

    /// What authd says for this channel of somebody, with these changes.
    fn says(&self, channel: &str, who: &Value, changes: Value) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let mut claims = json!({
            "iss": "doorward-authd", "aud": format!("channel/{channel}"), "sid": "session", "method": "model",
            "auth_time": now, "iat": now, "exp": now + 60, "jti": "j",
        });
        for part in [who, &changes] {
            let part = part.as_object().expect("an object").clone();
            claims.as_object_mut().expect("an object").extend(part);
        }
        jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &self.key).expect("signed")
    }
}

/// A handler that runs.
struct Scene {
    authd: Authd,
    client: ChannelHandlerClient<Channel>,
    register: Register,
    child: Child,
    directory: tempfile::TempDir,
}

async fn connect(path: PathBuf) -> Channel {
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { Ok::<_, io::Error>(hyper_util::rt::TokioIo::new(UnixStream::connect(path).await?)) }
    });
    Endpoint::from_static("http://handler").connect_with_connector(connector).await.expect("connected")
}

impl Scene {
    async fn start(mut command: Command) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        fs::set_permissions(directory.path(), Permissions::from_mode(0o710)).expect("chmod");
        let path = |name: &str| directory.path().join(name);
        let register = Register::new(path("terminals.json"));
        for (terminal, group) in [("7", "3"), ("8", "3"), ("9", "4")] {
            register.add(terminal, group).expect("added");
        }
        let authd = Authd::new();
        fs::write(path("assertion.pub"), &authd.pem).expect("written");
        command.arg("--socket").arg(path("socket")).arg("--register").arg(path("terminals.json"));
        command.arg("--key").arg(path("assertion.pub"));
        command.args(["--authd", &Identity::current().uid.to_string()]);
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("it starts");
        let mut said = BufReader::new(child.stdout.take().expect("piped")).lines();
        let ready = timeout(PATIENCE, said.next_line()).await.expect("it says something in time");
        assert_eq!(ready.expect("its output").as_deref(), Some("ready"));
        let client = ChannelHandlerClient::new(connect(path("socket")).await);
        Self { authd, client, register, child, directory }
    }

    /// What it answers, as `cases.json` writes it.
    async fn ask(&self, assertion: String, case: &Value, kept: Vec<u8>) -> Result<(Value, Vec<u8>), Status> {
        let text = |name: &str| case[name].as_str().unwrap_or_default().to_owned();
        let pk = case["pk"].as_str().map(str::to_owned);
        let asked = Some(wire::Asked {
            assertion,
            channel: text("channel"),
            pk,
            facility: "events".into(),
            deadline_ms: 5_000,
        });
        let mut client = self.client.clone();
        let message = match case["longer_than"].as_u64() {
            Some(bytes) => format!(r#"{{"status":{{}}}}{}"#, " ".repeat(bytes.try_into().expect("few"))),
            None => text("message"),
        };
        let message = message.into_bytes();
        let answer = match text("ask").as_str() {
            "subscribe" => {
                let reply = client.can_subscribe(wire::CanSubscribeRequest { asked }).await?.into_inner();
                assert!(!reply.whole);
                json!({ "pks": reply.pks })
            }
            "publish" => {
                let reply = client.can_publish(wire::CanPublishRequest { asked, message }).await?;
                json!({ "allowed": reply.into_inner().allowed })
            }
            "online" => {
                let presence = client.on_online(wire::OnlineRequest { asked }).await?.into_inner().presence;
                return Ok((json!({ "presence": !presence.is_empty() }), presence));
            }
            "offline" => {
                let request = wire::OfflineRequest { channel: text("channel"), presence: kept };
                client.on_offline(request).await?;
                Value::Null
            }
            action => {
                let (action, request_id) = (action.to_owned(), "r1".to_owned());
                let request = wire::MessageRequest { asked, action, message, request_id };
                match client.on_message(request).await?.into_inner().outcome.expect("an outcome") {
                    Outcome::Handled(handled) => {
                        let read = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).expect("JSON");
                        let said = handled.publications.iter().map(|one| {
                            json!({ "channel": one.channel, "pk": one.pk, "message": read(&one.message) })
                        });
                        json!({ "reply": read(&handled.reply), "publications": said.collect::<Vec<_>>() })
                    }
                    Outcome::Unsupported(_) => json!("unsupported"),
                    Outcome::Forbidden(_) => json!("forbidden"),
                }
            }
        };
        Ok((answer, Vec::new()))
    }

    async fn answers_each_case(&self) {
        let cases: Value = serde_json::from_str(CASES).expect("JSON");
        let mut kept = BTreeMap::new();
        for case in cases["cases"].as_array().expect("a list") {
            if case["ask"] == "move" {
                let word = |name: &str| case[name].as_str().expect("a word");
                self.register.add(word("terminal"), word("group")).expect("moved");
                continue;
            }
            let assertion = match case["who"].as_str() {
                Some(who) => {
                    let channel = case["channel"].as_str().expect("a channel");
                    self.authd.says(channel, &cases["identities"][who], json!({}))
                }
                None => String::new(),
            };
            let presence = case["kept"].as_str().and_then(|name| kept.get(name)).cloned().unwrap_or_default();
            let asked = timeout(PATIENCE, self.ask(assertion, case, presence)).await.expect("in time");
            let (answer, presence) = asked.unwrap_or_else(|status| panic!("{case}: {status}"));
            assert_eq!(answer, case["answer"], "{case}");
            if let Some(name) = case["keep"].as_str() {
                kept.insert(name.to_owned(), presence);
            }
        }
    }

    /// Whoever cannot show authd's word for this channel and this minute is told nothing.
    async fn believes_authd_alone(&self) {
        let cases: Value = serde_json::from_str(CASES).expect("JSON");
        let staff = &cases["identities"]["staff"];
        let says = |changes: Value| self.authd.says("terminal", staff, changes);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let good = says(json!({}));
        let mut other = good.split('.').map(str::to_owned).collect::<Vec<_>>();
        other[0] = "eyJhbGciOiJub25lIn0".to_owned();
        for (what, assertion) in [
            ("another's key", Authd::new().says("terminal", staff, json!({}))),
            ("of another channel", says(json!({ "aud": "channel/group" }))),
            ("of a subsystem", says(json!({ "aud": "sysadm/terminal" }))),
            ("of two", says(json!({ "aud": ["channel/terminal", "channel/group"] }))),
            ("another issuer's", says(json!({ "iss": "doorward-gateway" }))),
            ("expired", says(json!({ "iat": now - 61, "exp": now - 1 }))),
            ("valid for too long", says(json!({ "exp": now + 3_600 }))),
            ("not valid yet", says(json!({ "iat": now + 30, "exp": now + 60 }))),
            ("a user with a pk", says(json!({ "pk": "7" }))),
            ("a terminal with a uid", says(json!({ "kind": "terminal", "pk": "7", "sub": "terminal/1000" }))),
            ("without an algorithm", other.join(".")),
            ("cut", good[..good.len() - 2].to_owned()),
            ("empty", String::new()),
            ("too long", "x".repeat(20_000)),
        ] {
            for ask in ["subscribe", "publish", "online", "look"] {
                let case = json!({ "ask": ask, "channel": "terminal", "pk": "7", "message": "{}" });
                let answer = timeout(PATIENCE, self.ask(assertion.clone(), &case, Vec::new())).await;
                let refused = answer.expect("in time").expect_err(what);
                assert_eq!(refused.code(), Code::Unauthenticated, "{what}: {ask}");
            }
        }
        let nowhere = json!({ "ask": "subscribe", "channel": "user", "pk": "alice" });
        let word = self.authd.says("user", staff, json!({}));
        let refused = self.ask(word, &nowhere, Vec::new()).await.expect_err("not its channel");
        assert_eq!(refused.code(), Code::Unauthenticated);
        // What is its own fault is no refusal of anybody.
        let case = json!({ "ask": "look", "channel": "terminal", "pk": "7" });
        let register = self.directory.path().join("terminals.json");
        let terminal = self.authd.says("terminal", &cases["identities"]["terminal-7"], json!({}));
        let content = fs::read(&register).expect("there");
        fs::write(&register, "{").expect("written");
        let fault = self.ask(terminal.clone(), &case, Vec::new()).await.expect_err("no register");
        assert_eq!(fault.code(), Code::Internal);
        fs::write(&register, content).expect("written");
        let key = self.directory.path().join("assertion.pub");
        fs::set_permissions(&key, Permissions::from_mode(0o666)).expect("chmod");
        let fault = self.ask(terminal.clone(), &case, Vec::new()).await.expect_err("anybody's key");
        assert_eq!(fault.code(), Code::Unavailable);
        fs::set_permissions(&key, Permissions::from_mode(0o644)).expect("chmod");
        assert!(self.ask(terminal, &case, Vec::new()).await.is_ok());
    }

    async fn stops(mut self) {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).expect("it runs");
        let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("asked to stop");
        let ended = timeout(PATIENCE, self.child.wait()).await.expect("it stops in time").expect("it ends");
        assert!(ended.success(), "{ended}");
    }
}

#[tokio::test]
async fn the_handler_in_rust_answers_as_is_written() {
    let scene = Scene::start(rust(Identity::current().uid)).await;
    scene.believes_authd_alone().await;
    scene.answers_each_case().await;
    scene.stops().await;
}

#[tokio::test]
async fn the_handler_in_python_answers_as_is_written() {
    let Some(python) = in_python() else { return };
    let scene = Scene::start(python).await;
    scene.believes_authd_alone().await;
    scene.answers_each_case().await;
    scene.stops().await;
}

#[tokio::test]
async fn the_handler_in_rust_answers_nobody_but_the_gateway() {
    let scene = Scene::start(rust(Identity::current().uid + 1)).await;
    let cases: Value = serde_json::from_str(CASES).expect("JSON");
    let word = scene.authd.says("group", &cases["identities"]["staff"], json!({}));
    let case = json!({ "ask": "subscribe", "channel": "group", "pk": "3" });
    let answer = timeout(PATIENCE, scene.ask(word, &case, Vec::new())).await.expect("in time");
    assert_ne!(answer.expect_err("another uid").code(), Code::Unauthenticated, "it is not even heard");
}

#[tokio::test]
async fn the_handler_in_python_starts_in_no_directory_that_others_get_into() {
    let Some(mut python) = in_python() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    fs::set_permissions(directory.path(), Permissions::from_mode(0o711)).expect("chmod");
    let output = python
        .arg("--socket")
        .arg(directory.path().join("socket"))
        .args(["--authd", "0"])
        .output()
        .await
        .expect("Python runs");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("mode 0710"), "{output:?}");
}
