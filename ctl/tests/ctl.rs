//! The `doorward` command as people and scripts meet it, against a fake gateway.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "ctl/acl.rs"]
mod acl;
#[path = "ctl/channels.rs"]
mod channels;
#[path = "ctl/completion.rs"]
mod completion;
#[path = "ctl/dev.rs"]
mod dev;
#[path = "ctl/explain.rs"]
mod explain;
#[path = "ctl/fake_channels.rs"]
mod fake_channels;
#[path = "ctl/fake_gateway.rs"]
mod fake_gateway;
#[path = "ctl/fake_keys.rs"]
mod fake_keys;
#[path = "ctl/fake_subsystems.rs"]
mod fake_subsystems;
#[path = "ctl/fake_tokens.rs"]
mod fake_tokens;
#[path = "ctl/keys.rs"]
mod keys;
#[path = "ctl/listening.rs"]
mod listening;
#[path = "ctl/store.rs"]
mod store;
#[path = "ctl/subsystems.rs"]
mod subsystems;
#[path = "ctl/terminal.rs"]
mod terminal;
#[path = "ctl/tokens.rs"]
mod tokens;

use std::{
    fs::{self, Permissions},
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use fake_gateway::FakeGateway;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A user's surroundings and a gateway.
struct World {
    directory: TempDir,
    gateway: FakeGateway,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let gateway = FakeGateway::start(directory.path());
        let world = Self { directory, gateway };
        fs::create_dir(world.runtime()).unwrap();
        fs::set_permissions(world.runtime(), Permissions::from_mode(0o700)).unwrap();
        world
    }

    fn runtime(&self) -> PathBuf {
        self.directory.path().join("runtime")
    }

    fn kept(&self) -> PathBuf {
        self.runtime().join("doorward")
    }

    /// The one token file.
    fn token_file(&self) -> PathBuf {
        let files: Vec<_> = fs::read_dir(self.kept()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        files[0].clone()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"));
        command
            .args(args)
            .env_clear()
            .env("XDG_RUNTIME_DIR", self.runtime())
            .env("HOME", self.directory.path());
        command.env("DOORWARD_SOCKET", &self.gateway.socket);
        command
    }

    fn run(&self, args: &[&str], input: &str) -> Ran {
        run(self.command(args), input)
    }

    /// The same over TLS, with the server's key named.
    fn run_tls(&self, args: &[&str], input: &str) -> Ran {
        let mut all = vec!["--url", &self.gateway.url, "--fingerprint", &self.gateway.fingerprint];
        all.extend(args);
        self.run(&all, input)
    }

    fn log_in(&self) {
        self.run(&["login", "alice", "--password-stdin"], "right\n").expect(0);
    }
}

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.out, self.err);
        self
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }

    fn says(self, words: &str) -> Self {
        assert!(self.err.contains(words), "{words:?} is not in {:?}", self.err);
        self
    }
}

/// A program of these lines of shell.
fn write_script(path: &Path, lines: &str) {
    let draft = path.with_extension("draft");
    fs::write(&draft, format!("#!/bin/sh\n{lines}\n")).unwrap();
    copy_program(&draft, path);
    fs::remove_file(draft).unwrap();
}

/// A copy that can be run. Made by another process: what is open for writing here is also open in what another
/// test has just forked, and execve(2) refuses it then (ETXTBSY).
fn copy_program(program: &Path, copy: &Path) {
    assert!(Command::new("install").args(["-m", "755"]).args([program, copy]).status().unwrap().success());
}

fn start(mut command: Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn run(command: Command, input: &str) -> Ran {
    let mut child = start(command);
    // A command that refuses before it reads closes the pipe early.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: status.code(), out: text(stdout), err: text(stderr) }
}

fn names(requests: &[Value]) -> Vec<&str> {
    requests.iter().map(|request| request["name"].as_str().unwrap()).collect()
}

#[test]
fn a_login_keeps_its_token_in_a_file_for_the_user_alone() {
    let world = World::new();
    let ran = world.run(&["login", "alice", "--password-stdin", "--json"], "right\n").expect(0);
    assert_eq!(ran.json()["user"], "alice");
    assert_eq!(fs::metadata(world.kept()).unwrap().mode() & 0o7777, 0o700);
    let file = world.token_file();
    assert_eq!(fs::metadata(&file).unwrap().mode(), 0o100_600);
    let kept: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(kept["user"], "alice");
    let token = kept["token"].as_str().unwrap();
    assert!(!ran.out.contains(token) && !ran.err.contains(token));
    assert_eq!(world.gateway.origins(), 0);
}

#[test]
fn only_one_line_of_stdin_is_the_password() {
    let world = World::new();
    world.run(&["login", "alice", "--password-stdin"], "right\nanything\n").expect(0);
    world.run(&["login", "alice", "--password-stdin"], "right").expect(0);
    world.run(&["login", "alice", "--password-stdin"], " right\n").expect(1);
    world.run(&["login", "alice", "--password-stdin"], "right\r\n").expect(1);
}

#[test]
fn a_conversation_is_answered_line_by_line() {
    let world = World::new();
    let ran = world.run(&["login", "bob", "--password-stdin"], "right\nnew secret\n4711\n").expect(0);
    assert!(ran.says("Your password has expired").out.contains("bob"));
    world.run(&["login", "bob", "--password-stdin"], "right\nnew secret\n").expect(1).says("input ended");
    world.run(&["login", "bob", "--password-stdin"], "right\nnew secret\n4712\n").expect(1);
}

#[test]
fn a_wrong_password_is_refused_and_leaves_what_was_kept() {
    let world = World::new();
    let ran = world.run(&["login", "alice", "--password-stdin", "--json"], "wrong\n").expect(1);
    assert_eq!(ran.json()["error"]["code"], 401);
    assert_eq!(ran.json()["error"]["kind"], "refused");
    assert_eq!(fs::read_dir(world.kept()).unwrap().count(), 0);
    world.log_in();
    world.run(&["login", "alice", "--password-stdin"], "wrong\n").expect(1);
    world.run(&["call", "rpc/query"], "").expect(0);
}

#[test]
fn a_penalty_is_told_with_its_time() {
    let world = World::new();
    let ran = world.run(&["login", "hasty", "--password-stdin"], "right\n").expect(1);
    let ran = ran.says("too many failed logins, try again in 59 s");
    assert!(!ran.err.contains('\u{1b}') && !ran.err.contains('\u{9b}'), "{:?}", ran.err);
}

#[test]
fn a_gateway_that_hangs_up_at_once_is_explained() {
    let world = World::new();
    let socket = world.directory.path().join("other.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let hangs_up = std::thread::spawn(move || drop(listener.accept().unwrap()));
    let arguments = ["--socket", socket.to_str().unwrap(), "login", "alice", "--password-stdin"];
    world.run(&arguments, "right\n").expect(3).says("failed to log in too often");
    hangs_up.join().unwrap();
}

#[test]
fn an_empty_password_is_never_sent() {
    let world = World::new();
    world.gateway.allow_local();
    world.run(&["login", "alice", "--password-stdin"], "\n").expect(1).says("empty");
    assert_eq!(world.gateway.take_requests(), Vec::<Value>::new());
}

#[test]
fn a_local_login_needs_no_password() {
    let world = World::new();
    world.run(&["login"], "").expect(1).says("without a password");
    world.gateway.allow_local();
    world.gateway.take_requests();
    world.run(&["login"], "").expect(0);
    let requests = world.gateway.take_requests();
    assert_eq!(names(&requests), ["identify", "auth"]);
    assert_eq!(requests[1]["args"], json!({}));
    world.run(&["call", "rpc/query"], "").expect(0);
}

#[test]
fn a_local_login_over_loopback_names_its_user() {
    let world = World::new();
    world.gateway.allow_local();
    let me =
        nix::unistd::User::from_uid(nix::unistd::Uid::effective()).expect("asked").expect("an account").name;
    let ran = world.run_tls(&["login"], "").expect(0);
    assert!(ran.out.contains(&me), "{}", ran.out);
    let requests = world.gateway.take_requests();
    assert_eq!(names(&requests), ["identify", "auth"]);
    assert_eq!(requests[1]["args"], json!({"username": me, "password": ""}));
    world.run_tls(&["call", "rpc/query"], "").expect(0);
    world.run_tls(&["logout"], "").expect(0);
    world.run_tls(&["call", "--local", "rpc/query"], "").expect(0);
}

#[test]
fn without_a_terminal_login_says_what_to_do() {
    let world = World::new();
    // A session of its own has no terminal, whatever the test run has.
    let mut command = Command::new("setsid");
    command.arg("--wait").arg(env!("CARGO_BIN_EXE_doorward")).args(["login", "alice"]);
    command.env("XDG_RUNTIME_DIR", world.runtime()).env("DOORWARD_SOCKET", &world.gateway.socket);
    run(command, "right\n").expect(2).says("--password-stdin");
}

#[test]
fn a_call_shows_the_reply() {
    let world = World::new();
    world.log_in();
    let ran = world.run(&["call", "rpc/query"], "").expect(0);
    assert_eq!(ran.out, "rpc/settings  read/write\n");
    let args = r#"{"a":[1,{"b":null}]}"#;
    assert_eq!(
        world.run(&["call", "test/echo", args, "--json"], "").expect(0).json(),
        json!({"a": [1, {"b": null}]})
    );
    assert_eq!(
        world.run(&["--json", "call", "test/echo", "-"], args).expect(0).json(),
        json!({"a": [1, {"b": null}]})
    );
    assert_eq!(world.run(&["call", "test/echo", "--json"], "").expect(0).json(), json!({}));
}

#[test]
fn errors_of_a_call_have_their_exit_codes() {
    let world = World::new();
    world.run(&["call", "rpc/query"], "").expect(1).says("log in first");
    world.log_in();
    assert_eq!(world.run(&["call", "no/such", "--json"], "").expect(1).json()["error"]["code"], 404);
    assert_eq!(world.run(&["call", "test/away", "--json"], "").expect(3).json()["error"]["code"], 503);
}

#[test]
fn a_call_with_local_ends_its_session() {
    let world = World::new();
    world.gateway.allow_local();
    world.run(&["call", "--local", "rpc/query"], "").expect(0);
    assert_eq!(names(&world.gateway.take_requests()), ["identify", "auth", "query", "auth_clear"]);
    world.run(&["call", "--local", "no/such"], "").expect(1);
    assert_eq!(world.gateway.sessions(), 0);
    assert!(!world.kept().exists());
}

#[test]
fn logout_ends_the_session_and_forgets_it() {
    let world = World::new();
    world.log_in();
    assert_eq!(world.gateway.sessions(), 1);
    assert_eq!(world.run(&["logout", "--json"], "").expect(0).json(), json!({"ended": true}));
    assert_eq!(world.gateway.sessions(), 0);
    assert_eq!(fs::read_dir(world.kept()).unwrap().count(), 0);
    assert_eq!(world.run(&["logout", "--json"], "").expect(0).json(), json!({"ended": false}));
}

#[test]
fn a_session_that_ended_is_forgotten() {
    let world = World::new();
    world.log_in();
    world.gateway.end_sessions();
    world.run(&["call", "rpc/query"], "").expect(1).says("the session has ended");
    assert_eq!(fs::read_dir(world.kept()).unwrap().count(), 0);
}

#[test]
fn status_tells_who_answers_and_what_the_session_is_worth() {
    let world = World::new();
    let fresh = world.run(&["status", "--json"], "").expect(0).json();
    assert_eq!((&fresh["hostname"], &fresh["valid"]), (&json!("fake"), &json!(false)));
    assert_eq!(fresh["server"]["uid"], rustix::process::getuid().as_raw());
    world.log_in();
    let known = world.run(&["status", "--json"], "").expect(0).json();
    assert_eq!((&known["user"], &known["valid"]), (&json!("alice"), &json!(true)));
    let tls = world.run_tls(&["status", "--json"], "").expect(0).json();
    assert_eq!(
        (&tls["valid"], &tls["server"]["fingerprint"]),
        (&json!(false), &json!(world.gateway.fingerprint))
    );
    assert!(world.run(&["status"], "").expect(0).out.contains("alice"));
}

#[test]
fn every_gateway_has_its_own_session() {
    let world = World::new();
    world.run_tls(&["login", "alice", "--password-stdin"], "right\n").expect(0);
    world.run(&["call", "rpc/query"], "").expect(1);
    world.run_tls(&["call", "rpc/query"], "").expect(0);
}

#[test]
fn a_server_with_another_key_gets_to_see_nothing() {
    let world = World::new();
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let wrong = fake_gateway::fingerprint(other.cert.der());
    let file = world.directory.path().join("other.pem");
    fs::write(&file, other.cert.pem()).unwrap();
    for trust in [["--fingerprint", &wrong], ["--cacert", file.to_str().unwrap()]] {
        let mut args = vec!["--url", &world.gateway.url];
        args.extend(trust);
        args.extend(["login", "alice", "--password-stdin"]);
        world.run(&args, "right\n").expect(1).says("the server");
    }
    assert_eq!(world.gateway.take_requests(), Vec::<Value>::new());
}

#[test]
fn a_certificate_that_is_named_is_good_for_its_host() {
    let world = World::new();
    let certificate = world.gateway.certificate.to_str().unwrap();
    world.run(&["--url", &world.gateway.url, "--cacert", certificate, "status"], "").expect(0);
    let by_other_name = world.gateway.url.replace("127.0.0.1", "localhost");
    let ran = world.run(&["--url", &by_other_name, "--cacert", certificate, "status"], "");
    ran.expect(1).says("certificate is not acceptable");
}

#[test]
fn a_token_is_not_shown_to_a_server_with_another_key() {
    let world = World::new();
    world.run_tls(&["login", "alice", "--password-stdin"], "right\n").expect(0);
    let file = world.token_file();
    let moved = fs::read_to_string(&file).unwrap().replace(&world.gateway.fingerprint, "SHA256:other");
    fs::write(&file, moved).unwrap();
    world.gateway.take_requests();
    world.run_tls(&["call", "rpc/query"], "").expect(1).says("log in again");
    assert_eq!(world.gateway.take_requests(), Vec::<Value>::new());
}

#[test]
fn a_token_file_that_others_could_touch_is_refused() {
    let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    type Spoil<'a> = (&'a str, &'a dyn Fn(&Path));
    let spoils: [Spoil<'_>; 6] = [
        ("chmod 0600", &|file| mode(file, 0o640)),
        ("chmod 0600", &|file| mode(file, 0o602)),
        ("chmod 0700", &|file| mode(file.parent().unwrap(), 0o750)),
        ("symbolic link", &|file| {
            fs::rename(file, file.with_extension("moved")).unwrap();
            symlink(file.with_extension("moved"), file).unwrap();
        }),
        ("symbolic link", &|file| {
            let directory = file.parent().unwrap();
            fs::rename(directory, directory.with_extension("moved")).unwrap();
            symlink(directory.with_extension("moved"), directory).unwrap();
        }),
        ("another kind", &|file| {
            fs::remove_file(file).unwrap();
            fs::create_dir(file).unwrap();
        }),
    ];
    for (words, spoil) in spoils {
        let world = World::new();
        world.log_in();
        spoil(&world.token_file());
        world.gateway.take_requests();
        world.run(&["call", "rpc/query"], "").expect(1).says(words);
        let requests = world.gateway.take_requests();
        assert!(!names(&requests).contains(&"auth_token"), "{words}");
    }
}

#[test]
fn a_token_file_of_another_user_is_refused() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("DOORWARD_NO_SKIP").is_none(), "only root can give a file away");
        println!("SKIPPED: only root can give a file away");
        return;
    }
    let world = World::new();
    world.log_in();
    std::os::unix::fs::chown(world.token_file(), Some(1), None).unwrap();
    world.run(&["call", "rpc/query"], "").expect(1).says("belongs to uid 1");
}

#[test]
fn a_runtime_directory_of_others_is_passed_over() {
    let world = World::new();
    fs::set_permissions(world.runtime(), Permissions::from_mode(0o755)).unwrap();
    world.log_in();
    assert!(!world.kept().exists());
    // Kept in the next place, which is the user's real one.
    world.run(&["logout"], "").expect(0);
}

#[test]
fn a_gateway_that_is_not_there_is_unreachable() {
    let world = World::new();
    let nowhere = world.directory.path().join("nowhere.sock");
    let ran = world.run(&["--socket", nowhere.to_str().unwrap(), "status", "--json"], "").expect(3);
    assert_eq!(ran.json()["error"]["kind"], "unreachable");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("wss://{free}");
    world.run(&["--url", &url, "--fingerprint", &world.gateway.fingerprint, "status"], "").expect(3);
}

#[test]
fn what_is_no_gateway_is_unreachable() {
    let world = World::new();
    let path = world.directory.path().join("other.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let other = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"SSH-2.0-other\r\n").unwrap();
    });
    world.run(&["--socket", path.to_str().unwrap(), "status"], "").expect(3);
    other.join().unwrap();
}

#[test]
fn what_cannot_be_meant_is_a_usage_error() {
    let world = World::new();
    let certificate = world.gateway.certificate.to_str().unwrap();
    let (url, key) = (world.gateway.url.as_str(), world.gateway.fingerprint.as_str());
    let commands: &[&[&str]] = &[
        &[],
        &["no-such-command"],
        &["call"],
        &["call", "rpc"],
        &["call", "rpc/query", "{"],
        &["call", "rpc/query", "{}", "{}"],
        &["call", "rpc/query", "action", "[]"],
        &["call", "rpc/query", "action", r#"{"action":"b"}"#],
        &["call", "rpc/query", "action", "{}", "--args-from", "/dev/null"],
        &["call", "rpc/query", "{}", "--args-from", "/dev/null"],
        &["call", "rpc/query", "--args-from", "/nonexistent"],
        &["call", "rpc/query", "--args-from", "/dev/null"],
        &["call", "rpc/query", "--args-from", "/dev/zero"],
        &["describe"],
        &["describe", "rpc"],
        &["events"],
        &["events", "System-State"],
        &["events", "tick", "--count", "0"],
        &["completion", "csh"],
        &["login", "--password-stdin"],
        &["--url", url, "status"],
        &["--url", url, "--fingerprint", "SHA256:x", "status"],
        &["--url", url, "--fingerprint", key, "--cacert", certificate, "status"],
        &["--url", "wss://gateway.example", "--fingerprint", key, "login"],
        &["--url", "wss://gateway.example", "--fingerprint", key, "call", "--local", "rpc/query"],
        &["--url", url, "--socket", "x", "--fingerprint", key, "status"],
        &["--url", "https://127.0.0.1", "--fingerprint", key, "status"],
        &["--fingerprint", key, "status"],
    ];
    for command in commands {
        world.run(command, "").expect(2);
    }
    assert_eq!(world.gateway.take_requests(), Vec::<Value>::new());
    world.run(&["--url", url, "status"], "").expect(2).says("fingerprint");
}

#[test]
fn texts_of_the_gateway_cannot_command_the_terminal() {
    let world = World::new();
    let ran = world.run(&["login", "mallory", "--password-stdin"], "right\n").expect(0);
    assert!(
        ran.err.contains("gotcha") && !ran.err.contains('\u{1b}') && !ran.err.contains('\u{9b}'),
        "{:?}",
        ran.err
    );
    let ran = world.run(&["call", "test/hostile"], "").expect(1);
    assert!(
        ran.err.contains("gotcha") && !ran.err.contains('\u{1b}') && !ran.err.contains('\u{9b}'),
        "{:?}",
        ran.err
    );
}

#[test]
fn sessions_are_listed_and_ended() {
    let world = World::new();
    world.run(&["sessions", "list"], "").expect(1).says("log in first");
    world.log_in();
    let ran = world.run(&["sessions", "list"], "").expect(0);
    let lines: Vec<_> = ran.out.lines().collect();
    assert_eq!(lines.len(), 4, "{}", ran.out);
    for words in ["s-1", "alice", "192.0.2.1", "1970-01-01T00:00:00Z", "1970-01-01T00:01:00Z", "yes"] {
        assert!(lines[1].contains(words), "{words} is not in {}", lines[1]);
    }
    assert!(lines[2].contains("local") && !ran.out.contains('\u{1b}'), "{}", ran.out);
    let listed = world.run(&["--json", "sessions", "list"], "").expect(0).json();
    assert_eq!((&listed[0]["current"], &listed[1]["started"]), (&json!(true), &json!(61)));
    assert_eq!(world.run(&["--json", "sessions", "end", "s-2"], "").expect(0).json(), json!({"ended": 1}));
    assert_eq!(
        world.run(&["--json", "sessions", "end", "--others"], "").expect(0).json(),
        json!({"ended": 3})
    );
    world.run(&["sessions", "end", "s-9"], "").expect(1).says("no such session");
    for wrong in [&["sessions", "end"][..], &["sessions", "end", "s-2", "--others"], &["sessions"]] {
        world.run(wrong, "").expect(2);
    }
}
