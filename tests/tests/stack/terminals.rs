//! The examples of docs/plugins.md and docs/channel-handlers.md behind the real gateway and authd: terminals that log in
//! with tokens of their own, hear their group, and tell their status.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use doorward_tests::client::Received;
use doorward_tests::python::interpreter_with;
use doorward_tests::web::{Way, Web, basic};
use doorward_tests::{Client, Example, Options, Pam, Plugin, Program, Role, Stack, secrets, skip};
use serde_json::{Value, json};

use crate::subsystems::until;

const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/terminals-python");

/// In which language they are.
enum Language {
    Rust,
    Python(String),
}

impl Language {
    fn python() -> Option<Self> {
        let found = interpreter_with(&["grpc", "jwt", "cryptography", "google.protobuf"]);
        if found.is_none() {
            skip::skipped("no Python with grpc, jwt, cryptography and protobuf");
        }
        found.map(Self::Python)
    }

    /// The authenticator, and the handler.
    fn commands(&self, stack: &Stack) -> [Command; 2] {
        match self {
            Self::Rust => {
                let authenticator = Command::new(stack.example(Example::Terminals));
                let mut handler = Command::new(stack.example(Example::TerminalsChannels));
                handler.args(["--gateway", &stack.gateway_uid().to_string()]);
                [authenticator, handler]
            }
            Self::Python(python) => {
                // Where the account of the plug-in can read them, as the page says.
                let place = stack.path("lib/terminals");
                fs::create_dir_all(&place).expect("a directory in ours");
                for entry in fs::read_dir(PYTHON).expect("the example").map(|entry| entry.expect("a file")) {
                    if entry.path().extension().is_some_and(|extension| extension == "py") {
                        fs::copy(entry.path(), place.join(entry.file_name())).expect("a copy");
                    }
                }
                ["terminals.py", "channels.py"].map(|file| {
                    let mut command = Command::new(python);
                    command.arg("-B").arg(place.join(file));
                    command
                })
            }
        }
    }
}

/// A stack with both, and three terminals.
struct Scene {
    authenticator: Plugin,
    handler: Plugin,
    tokens: [String; 3],
    stack: Stack,
}

fn add(mut command: Command, uid: u32, register: &Path, terminal: &str, group: &str) -> String {
    command.arg("--register").arg(register).args(["--add", terminal, group]).uid(uid).gid(uid);
    let added = command.output().expect("a program");
    assert!(added.status.success(), "{added:?}");
    let token = String::from_utf8(added.stdout).expect("text").trim().to_owned();
    secrets::register(&token).to_owned()
}

impl Scene {
    fn start(language: &Language) -> Option<Self> {
        if !skip::root("a plug-in with an account of its own") {
            return None;
        }
        let mut stack = Stack::start(&Options::new(Pam::Real))?;
        let uid = stack.subsystem_uid();
        let register = stack.plugin_directory("state/terminals", uid).join("terminals.json");
        let auth = stack.plugin_directory("run/terminals/auth", stack.authd_uid()).join("auth.sock");
        let channels = stack.plugin_directory("run/terminals/channels", stack.gateway_uid());
        let channels = channels.join("channels.sock");
        let tokens = [("7", "3"), ("8", "3"), ("9", "4")].map(|(terminal, group)| {
            let [command, _] = language.commands(&stack);
            add(command, uid, &register, terminal, group)
        });

        let entry = format!(
            "kind = 'terminal'\nsocket = {auth:?}\nuser = '{uid}'\n\
             acl_max = ['ws.group.*.subscribe', 'ws.terminal.*.action.status']"
        );
        let entry: toml::Table = entry.parse().expect("TOML");
        stack.set(Program::Authd, "authenticator", vec![toml::Value::Table(entry)]);
        let handler = format!("handler = {{ socket = {channels:?}, user = '{uid}' }}");
        let table = format!("[channels.group]\n{handler}\n[channels.terminal]\npublish = 'acl'\n{handler}\n");
        let file = stack.path("channels.toml");
        fs::write(&file, table).expect("a file in our directory");
        stack.set(Program::Gateway, "channels.file", file.to_str().expect("UTF-8"));
        for program in [Program::Gateway, Program::Authd] {
            stack.stop(program);
        }
        for program in [Program::Authd, Program::Gateway] {
            stack.start_again(program);
        }

        let [mut authenticator, mut handler] = language.commands(&stack);
        authenticator.arg("--socket").arg(&auth).arg("--register").arg(&register);
        if matches!(language, Language::Rust) {
            authenticator.args(["--authd", &stack.authd_uid().to_string()]);
        }
        handler.arg("--socket").arg(&channels).arg("--register").arg(&register);
        handler.args(["--authd", &stack.authd_uid().to_string()]);
        handler.arg("--key").arg(stack.path("run/authd/assertion.pub"));
        let authenticator = stack.add_plugin("terminals", authenticator);
        let handler = stack.add_plugin("terminals-channels", handler);
        Some(Self { authenticator, handler, tokens, stack })
    }

    /// A terminal that is logged in.
    async fn terminal(&self, number: usize) -> Client {
        let mut client = Client::unix(&self.stack).await;
        let token = &self.tokens[number - 7];
        let told = says(&mut client, json!({"action": "auth", "kind": "terminal", "token": token})).await;
        let own = format!("terminal-{number}");
        assert_eq!(told, json!({"name": "subscribed", "channel": "terminal", "status": 1, "pk": own}));
        client
    }

    async fn user(&self, role: Role) -> Client {
        let mut client = Client::unix(&self.stack).await;
        client.login(self.stack.person(role)).await.expect("a login");
        client
    }
}

async fn says(client: &mut Client, message: Value) -> Value {
    client.send(&message.to_string()).await;
    client.json().await
}

async fn subscribes(client: &mut Client, channel: &str, pk: Option<&str>) -> Value {
    says(client, json!({"action": "subscribe", "channel": channel, "pk": pk})).await
}

fn denied(channel: &str, what: &str) -> Value {
    json!({"channel": channel, "message": {"error": what, "code": 403}})
}

fn at(channel: &str, pk: &str, message: Value) -> Value {
    json!({"channel": channel, "pk": pk, "message": message})
}

/// What the handler knows of terminal 7, when it is as expected.
async fn seen(staff: &mut Client, expected: Value) {
    until("seen so", async || {
        let look = json!({"action": "look", "channel": "terminal", "pk": "7"});
        says(staff, look).await == at("terminal", "7", expected.clone())
    })
    .await;
}

/// A token that the authenticator has let the token API issue is one session: whoever takes it up last has it.
async fn one_token_one_connection(scene: &Scene) {
    let body = r#"{"backend":"terminal"}"#;
    let mut web = Web::connect(&scene.stack, Way::Token).await;
    let token = web.ask("POST /0.1/token", &basic("terminal-7", &scene.tokens[0]), body).await.token();
    let take_up = json!({"action": "auth", "kind": "token", "token": token});
    let own = json!({"name": "subscribed", "channel": "terminal", "status": 1, "pk": "terminal-7"});
    let mut held: Option<Client> = None;
    for _ in 0..3 {
        let mut client = Client::unix(&scene.stack).await;
        assert_eq!(says(&mut client, take_up.clone()).await, own);
        if let Some(mut before) = held.replace(client) {
            assert_eq!(before.json().await["args"]["reason"], "revoked");
            assert_eq!(before.receive().await, Received::Closed(Some(1_000)));
        }
    }
    let mut client = held.expect("the last");
    assert_eq!(subscribes(&mut client, "group", None).await["pk"], "3");
    // Whoever only looks at it takes it from nobody.
    let looked = web.ask(&format!("HEAD /0.1/token/{token}"), "", "").await;
    assert_eq!(looked.status, 204);
    assert_eq!(subscribes(&mut client, "group", Some("3")).await["status"], 2);
}

async fn terminals(language: Language) {
    let Some(scene) = Scene::start(&language) else { return };
    let (mut seven, mut eight, mut nine) =
        (scene.terminal(7).await, scene.terminal(8).await, scene.terminal(9).await);
    let (mut staff, mut limited) = (scene.user(Role::Full).await, scene.user(Role::Limited).await);

    // Each its own group and nobody else's, and so everybody else.
    for (client, group) in [(&mut seven, "3"), (&mut eight, "3"), (&mut nine, "4")] {
        let told = subscribes(client, "group", None).await;
        assert_eq!(told, json!({"name": "subscribed", "channel": "group", "status": 2, "pk": group}));
    }
    for (client, channel, pk) in [
        (&mut seven, "group", "4"),
        (&mut nine, "group", "3"),
        (&mut eight, "terminal", "7"),
        (&mut limited, "group", "3"),
    ] {
        let told = subscribes(client, channel, Some(pk)).await;
        assert_eq!(told, denied(channel, "subscribe permission denied"), "{pk}");
    }
    for (channel, pk) in [("terminal", "7"), ("group", "3")] {
        assert_eq!(subscribes(&mut staff, channel, Some(pk)).await["name"], "subscribed");
    }

    // A status is taken, and heard by those who listen.
    let status = json!({"battery": 71, "doing": "nothing"});
    let news = json!({"terminal": "7", "status": status});
    seven
        .send(&json!({"action": "status", "channel": "terminal", "pk": "7", "status": status}).to_string())
        .await;
    let mut heard = [seven.json().await, seven.json().await];
    heard.sort_by_key(|heard| heard["channel"].to_string());
    let taken = at("terminal", "7", json!({"status": "taken"}));
    assert_eq!(heard, [at("group", "3", news.clone()), taken]);
    assert_eq!(eight.json().await, at("group", "3", news.clone()));
    assert_eq!(staff.json().await, at("terminal", "7", news.clone()));
    assert_eq!(staff.json().await, at("group", "3", news));
    seen(&mut staff, json!({"online": true, "status": status})).await;

    // What is none, or another's, is heard by nobody.
    let wrong = json!({"action": "status", "channel": "terminal", "pk": "7", "status": 1});
    let told = says(&mut seven, wrong).await;
    assert_eq!(told, at("terminal", "7", json!({"error": "status must be an object", "code": 400})));
    let refused = denied("terminal", "cannot publish to channel");
    for (client, pk) in [(&mut seven, "8"), (&mut staff, "7"), (&mut limited, "7")] {
        let told =
            says(client, json!({"action": "status", "channel": "terminal", "pk": pk, "status": {}})).await;
        assert_eq!(told, refused, "{pk}");
    }
    let publish =
        |group: &str| json!({"action": "publish", "channel": "group", "pk": group, "message": "hello"});
    for client in [&mut seven, &mut limited] {
        assert_eq!(says(client, publish("3")).await, denied("group", "publish permission denied"));
    }
    // Whoever may says something to a group: that is the next that each hears.
    for group in ["3", "4"] {
        staff.send(&publish(group).to_string()).await;
    }
    for (client, group) in [(&mut staff, "3"), (&mut seven, "3"), (&mut eight, "3"), (&mut nine, "4")] {
        assert_eq!(client.json().await, at("group", group, json!("hello")));
    }

    // One connection at a time: the new one ends the old one, and is what the handler sees.
    let mut again = scene.terminal(7).await;
    // On `/`, where this client is, in the other dialect's way; on `/ws/` with 4003.
    assert_eq!(seven.json().await["args"]["reason"], "revoked");
    assert_eq!(seven.receive().await, Received::Closed(Some(1_000)));
    assert_eq!(subscribes(&mut again, "group", Some("3")).await["status"], 2);
    seen(&mut staff, json!({"online": true, "status": status})).await;
    again.close().await;
    seen(&mut staff, json!({"online": false, "status": status})).await;
    one_token_one_connection(&scene).await;

    let mut stranger = Client::unix(&scene.stack).await;
    let told = says(&mut stranger, json!({"action": "auth", "kind": "terminal", "token": "guessed"})).await;
    assert_eq!(told["message"]["code"], 401, "{told}");
    for plugin in [&scene.authenticator, &scene.handler] {
        assert_eq!(secrets::found_in(&plugin.printed()), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn terminals_in_rust_log_in_hear_their_group_and_tell_their_status() {
    terminals(Language::Rust).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn terminals_in_python_log_in_hear_their_group_and_tell_their_status() {
    let Some(python) = Language::python() else { return };
    terminals(python).await;
}
