//! `channels explain`, against a fake authd and a fake program of the gateway.

use std::{fs, path::Path, process::Command};

use doorward_proto::authd::v1::{
    Access, Dialect, ExplainRequest, Explanation, GivenEntry,
    rights_server::{Rights, RightsServer},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tonic::{Request, Response, Status, transport::Server};

use crate::{Ran, World, listening, run, write_script};

/// It knows `root`, and `daemon`, who may not log in.
struct FakeAuthd;

#[tonic::async_trait]
impl Rights for FakeAuthd {
    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<Explanation>, Status> {
        let request = request.into_inner();
        assert_eq!(request.dialect(), Dialect::Channel);
        let (access, entries) = match request.user.as_str() {
            "root" => (Access::Full, vec![GivenEntry { entry: "#".into(), origin: "root\u{1b}[2J".into() }]),
            "daemon" => (Access::Unspecified, Vec::new()),
            _ => return Err(Status::not_found("not found")),
        };
        Ok(Response::new(Explanation { access: access.into(), entries, ..Explanation::default() }))
    }
}

/// The command beside a gateway's program that keeps its question and says what it is told to say.
struct Host {
    world: World,
    place: TempDir,
    authd: String,
    _runtime: Runtime,
}

impl Host {
    fn new(script: &str) -> Self {
        let world = World::new();
        // On the same file system as the command, which looks for programs beside itself.
        let built = Path::new(env!("CARGO_BIN_EXE_doorward"));
        let place = tempfile::tempdir_in(built.parent().unwrap()).unwrap();
        fs::hard_link(built, place.path().join("doorward")).unwrap();
        fs::create_dir(place.path().join("etc")).unwrap();
        let program = place.path().join("doorward-gateway");
        write_script(&program, &format!("cd {:?}\necho \"$*\" > args\n{script}", place.path()));
        let socket = world.directory.path().join("authd.sock");
        let runtime = listening::grpc(&socket, Server::builder().add_service(RightsServer::new(FakeAuthd)));
        Self { authd: socket.display().to_string(), world, place, _runtime: runtime }
    }

    fn answering(answer: &Value) -> Self {
        Self::new(&format!("cat > question; cat <<'END'\n{answer}\nEND"))
    }

    fn explain(&self, args: &[&str]) -> Ran {
        let config = self.place.path().join("etc").display().to_string();
        let mut command = Command::new(self.place.path().join("doorward"));
        command.args(["channels", "explain", "--authd", &self.authd, "--config-dir", &config]).args(args);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        run(command, "")
    }

    fn question(&self) -> Value {
        serde_json::from_str(&fs::read_to_string(self.place.path().join("question")).unwrap()).unwrap()
    }
}

fn answer(subscribe: &Value, publish: &Value) -> Value {
    json!({"table": "/t.toml", "table_exists": true, "subscribe": subscribe, "publish": publish})
}

#[test]
fn the_gateway_is_asked_with_what_authd_says_and_its_answer_is_told_with_its_origin() {
    let host = Host::answering(&answer(
        &json!({"answer": "yes", "key": "channels.group.subscribe", "rule": "acl", "place": 0, "why": "an entry decides"}),
        &json!({"answer": "no", "why": "the table has no such channel"}),
    ));
    let told = host.explain(&["root", "group", "7"]).expect(0).out;
    let root = json!({"kind": "user", "name": "root", "id": "0", "entries": ["#"]});
    assert_eq!(host.question(), json!({"who": root, "channel": "group", "pk": "7", "action": null}));
    for words in [
        "root, full access",
        "group 7",
        "/t.toml",
        "yes: channels.group.subscribe = acl",
        "# from root",
        "by a JWT",
    ] {
        assert!(told.contains(words), "{words} is not in {told}");
    }
    assert!(!told.contains('\u{1b}'), "{told}");
    let args = fs::read_to_string(host.place.path().join("args")).unwrap();
    assert!(
        args.starts_with("--explain-channel --config-file ") && args.ends_with("/etc/gateway.toml\n"),
        "{args}"
    );

    let value = host.explain(&["root", "group", "--json", "--entry", "ws.#"]).expect(0).json();
    assert_eq!(host.question()["who"]["entries"], json!(["ws.#"]));
    assert_eq!(value["subscribe"]["decided_by"], json!({"entry": "ws.#", "from": "--entry"}));
    assert_eq!((&value["publish"]["answer"], &value["pk"]), (&json!("no"), &Value::Null));
    // Who cannot log in is told what anybody may.
    let told = host.explain(&["daemon", "group"]).expect(0).out;
    assert_eq!(host.question()["who"], Value::Null);
    assert!(told.contains("in no access group") && told.contains("cannot log in"), "{told}");
    host.explain(&["-", "group", "--action", "status"]).expect(0);
    assert_eq!((&host.question()["who"], &host.question()["action"]), (&Value::Null, &json!("status")));
    host.explain(&["terminal/0af6", "group"]).expect(0);
    assert_eq!(host.question()["who"], json!({"kind": "terminal", "id": "0af6", "entries": null}));
}

#[test]
fn the_exit_code_says_whether_anything_is_allowed() {
    let one = |answer: &str| json!({"answer": answer, "why": "so"});
    for (subscribe, publish, code) in [
        ("yes", "no", 0),
        ("no", "yes", 0),
        ("no", "no", 1),
        ("no", "handler", 2),
        ("unknown", "no", 2),
        ("handler", "yes", 0),
    ] {
        Host::answering(&answer(&one(subscribe), &one(publish))).explain(&["-", "group"]).expect(code);
    }
}

#[test]
fn what_cannot_be_said_is_2_with_the_reason() {
    let host = Host::answering(&json!({"table": "/t.toml"}));
    host.explain(&["-", "group"]).expect(2).says("doorward-gateway is of another version");
    host.explain(&["no-such-user", "group"]).expect(2).says("there is no user no-such-user");
    host.explain(&["-", "group", "--entry", "ws.#"]).expect(2).says("has no entries");
    for wrong in [&["user/0", "group"][..], &["root", "a:b"], &["root", "a", "b:c"], &["root"]] {
        host.explain(wrong).expect(2);
    }
    let host = Host::new("cat > question; echo 'doorward-gateway: /t.toml:2: channels.a: no' >&2; exit 1");
    host.explain(&["-", "group"]).expect(2).says("doorward: /t.toml:2: channels.a: no");
    fs::remove_file(host.place.path().join("doorward-gateway")).unwrap();
    host.explain(&["-", "group"]).expect(2).says("doorward-gateway is in none of");
    let _ = &host.world;
}
