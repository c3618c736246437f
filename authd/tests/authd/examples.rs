//! The examples of docs/plugins.md, asked by authd as by its own configuration.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use doorward_authd::config::Authenticator;
use doorward_proto::authd::v1::{self as wire, begin_request::Method};
use doorward_terminals::{Register, serve};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::bench::{Bench, ONE, begin, granted, is_denied, password};

#[path = "../../../examples/python.rs"]
mod python;
// A part of it is used.
#[allow(dead_code)]
#[path = "../../../launch/src/skip.rs"]
mod skip;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/terminals-python");
const CHANNEL: wire::Dialect = wire::Dialect::Channel;

/// A program that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A directory that only this user gets into.
fn place() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let directory = tempfile::tempdir().expect("temp dir");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o710)).expect("chmod");
    let (socket, register) = (directory.path().join("auth.sock"), directory.path().join("terminals.json"));
    (directory, socket, register)
}

async fn bench(socket: &Path) -> Bench {
    let entry = Authenticator {
        kind: "terminal".into(),
        socket: socket.to_owned(),
        user: doorward_launch::Identity::current().uid.to_string(),
        acl_max: vec!["ws.group.*.subscribe".into(), "ws.terminal.*.action.status".into()],
        seconds: 10,
        concurrent: 16,
    };
    Bench::start(|config| config.authenticator = vec![entry]).await
}

fn login(credentials: &str) -> wire::BeginRequest {
    let method = Method::Model(wire::Model { kind: "terminal".into(), credentials: credentials.into() });
    wire::BeginRequest { dialect: CHANNEL.into(), ..begin(ONE, "192.0.2.1", method) }
}

/// From a token to a session, once more in its place, and by the token API.
async fn they_log_in(bench: &Bench, seven: &str, eight: &str) {
    let by = |token: &str| login(&format!(r#"{{"token":"{token}"}}"#));
    let mut logins = bench.login().await;
    let first = granted(logins.begin(by(seven)).await);
    let session = first.session.expect("a session");
    assert_eq!((session.user.as_str(), session.auth_id.as_str()), ("terminal/terminal-7", "terminal-7"));
    assert_eq!(session.acl, ["ws.group.3.subscribe", "ws.terminal.7.action.status"]);
    let other = granted(logins.begin(by(eight)).await);
    let second = granted(logins.begin(by(seven)).await);
    assert_eq!(bench.check_for(&first.token, CHANNEL).await, Err(Code::NotFound), "one at a time");
    for live in [&second, &other] {
        assert!(bench.check_for(&live.token, CHANNEL).await.is_ok());
    }
    for wrong in ["{}", r#"{"token":"x"}"#, r#"{"token":7}"#] {
        assert!(is_denied(logins.begin(login(wrong)).await), "{wrong}");
    }
    let api = |user: &str| {
        let wish = Some(wire::TokenWish { backend: "terminal".into(), expiration_seconds: Some(60) });
        wire::BeginRequest { dialect: wire::Dialect::Token.into(), wish, ..password(ONE, user, seven) }
    };
    let handed_out = granted(logins.begin(api("terminal-7")).await);
    assert_eq!(handed_out.session.expect("a session").absolute_left_ms, 60_000);
    assert!(is_denied(logins.begin(api("terminal-8")).await), "another terminal's token");
}

#[tokio::test]
async fn terminals_in_rust_log_in() {
    let (_directory, socket, register) = place();
    let register = Register::new(register);
    let (seven, eight) = (register.add("7", "3").expect("added"), register.add("8", "3").expect("added"));
    let listener = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
    let stop = CancellationToken::new();
    let own = doorward_launch::Identity::current().uid;
    let serving = tokio::spawn(serve(listener, register, own, stop.clone()));
    let bench = bench(&socket).await;
    they_log_in(&bench, &seven, &eight).await;
    stop.cancel();
    serving.await.expect("no panic").expect("served");
    assert!(bench.login().await.begin(login("{}")).await.is_err(), "it is down");
}

#[tokio::test]
async fn terminals_in_rust_answer_nobody_but_authd() {
    let (_directory, socket, register) = place();
    let register = Register::new(register);
    let token = register.add("7", "3").expect("added");
    let listener = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
    let (stop, another) = (CancellationToken::new(), doorward_launch::Identity::current().uid + 1);
    let serving = tokio::spawn(serve(listener, register, another, stop.clone()));
    let bench = bench(&socket).await;
    assert!(bench.login().await.begin(login(&format!(r#"{{"token":"{token}"}}"#))).await.is_err());
    stop.cancel();
    serving.await.expect("no panic").expect("served");
}

#[tokio::test]
async fn terminals_in_python_log_in() {
    let Some(python) = python::with(&["grpc", "google.protobuf"]) else { return };
    let (_directory, socket, register) = place();
    let command = || {
        let mut command = Command::new(&python);
        command.arg("-B").arg(format!("{EXAMPLE}/terminals.py"));
        command.arg("--socket").arg(&socket).arg("--register").arg(&register).stdout(Stdio::piped());
        command
    };
    let add = |terminal: &str| {
        let added = command().args(["--add", terminal, "3"]).output().expect("Python runs");
        assert!(added.status.success());
        String::from_utf8(added.stdout).expect("text").trim().to_owned()
    };
    let (seven, eight) = (add("7"), add("8"));
    let mut running = Running(command().spawn().expect("Python runs"));
    let out = running.0.stdout.take().expect("piped");
    let ready = tokio::task::spawn_blocking(move || BufReader::new(out).lines().next());
    assert_eq!(ready.await.expect("no panic").expect("a line").expect("text"), "ready");
    let bench = bench(&socket).await;
    they_log_in(&bench, &seven, &eight).await;
    // The file of tokens is the same as in Rust.
    assert!(Register::new(register).find(&seven).expect("read").is_some());
}

#[test]
fn the_tests_of_the_example_in_python_pass() {
    let Some(python) = python::with(&["grpc", "google.protobuf"]) else { return };
    let tests = Command::new(python).args(["-B", "-m", "unittest", "-q"]).current_dir(EXAMPLE).output();
    let tests = tests.expect("Python runs");
    assert!(tests.status.success(), "{}", String::from_utf8_lossy(&tests.stderr));
}
