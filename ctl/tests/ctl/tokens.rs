//! `token issue|check|revoke|list`, against a fake token API.

use std::fs;

use serde_json::{Value, json};

use crate::{
    Ran, World,
    fake_tokens::{ECHOED, FakeTokens, LIVE, LONG, PAGE, UNKNOWN},
    run,
};

struct Api {
    world: World,
    api: FakeTokens,
}

impl Api {
    fn new() -> Self {
        let world = World::new();
        let api = FakeTokens::start(world.directory.path());
        Self { world, api }
    }

    fn run(&self, args: &[&str], input: &str) -> Ran {
        let mut command = self.world.command(&["token"]);
        command.args(args).env("DOORWARD_SOCKET", &self.api.socket);
        let ran = run(command, input);
        // Whatever comes of it: what was given is not shown.
        for secret in [input.trim(), "right"] {
            assert!(secret.is_empty() || !ran.err.contains(secret), "{}", ran.err);
        }
        ran
    }
}

#[test]
fn a_token_alone_is_printed_and_the_whole_with_json() {
    let test = Api::new();
    let ran = test.run(&["issue", "alice", "--password-stdin"], "right:colons\n").expect(0);
    assert_eq!((ran.out.as_str(), ran.err.as_str()), (format!("{LIVE}\n").as_str(), ""));
    let more = ["issue", "alice", "--password-stdin", "--backend", "pam", "--expiration", "60", "--json"];
    let whole = test.run(&more, "right:colons\nanything\n").expect(0).json();
    assert_eq!((&whole["token"], &whole["metadata"]["expiration"]), (&json!(LIVE), &json!(60)));
    let asked = test.api.take();
    assert_eq!(asked.iter().map(|asked| asked.request.as_str()).collect::<Vec<_>>(), ["POST /0.1/token"; 2]);
    let body = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    assert_eq!(body(&asked[0].body), json!({}));
    assert_eq!(body(&asked[1].body), json!({"backend": "pam", "expiration": 60}));
    // No session was opened here, and nothing is kept.
    assert!(!test.world.kept().exists());
}

#[test]
fn the_same_over_tls_to_the_named_server_alone() {
    let test = Api::new();
    let over = |fingerprint: &str| {
        let args =
            ["--url", &test.api.url, "--fingerprint", fingerprint, "issue", "alice", "--password-stdin"];
        test.run(&args, "right:colons\n")
    };
    assert_eq!(over(&test.api.fingerprint).expect(0).out, format!("{LIVE}\n"));
    assert_eq!(format!("wss://{}", test.api.take()[0].host), test.api.url);
    over(&test.world.gateway.fingerprint).expect(1).says("the server");
    assert_eq!(test.api.take(), []);
}

#[test]
fn who_gets_none_hears_why_and_the_exit_code_says_it() {
    let test = Api::new();
    for (user, password, more, code, words) in [
        ("alice", "wrong-word\n", &[][..], 1, "Authentication Failed (401)"),
        ("alice", "right:colons\n", &["--backend", "none"], 1, "Authentication Failed (401)"),
        ("alice", "right:colons\n", &["--expiration", "1000000"], 1, "Invalid expiration (400)"),
        ("hasty", "right\n", &[], 1, "in 60 s"),
        ("away", "right\n", &[], 3, "(503)"),
        ("odd", "right\n", &[], 3, "makes no sense"),
    ] {
        let args = [&["issue", user, "--password-stdin", "--json"], more].concat();
        let ran = test.run(&args, password).expect(code);
        assert!(ran.json()["error"]["kind"].is_string() && !ran.out.contains('\u{1b}'), "{}", ran.out);
        ran.says(words);
    }
    test.api.take();
    test.run(&["issue", "alice", "--password-stdin"], "\n").expect(1).says("empty");
    test.run(&["issue", "a:b", "--password-stdin"], "x\n").expect(2).says("colon");
    for wrong in [
        &["issue", "alice", "--expiration", "0", "--password-stdin"][..],
        &["issue", "alice", "--expiration", "-1", "--password-stdin"],
        &["issue", "alice", "a-password"],
        &["check", LIVE],
        &["revoke", LIVE],
        &[],
    ] {
        test.run(wrong, "").expect(2);
    }
    assert_eq!(test.api.take(), []);
}

#[test]
fn a_token_is_read_from_stdin_or_a_file_and_shown_to_the_server_alone() {
    let test = Api::new();
    let ran = test.run(&["check"], &format!("{LIVE}\n")).expect(0);
    for words in ["1000", "2026-11-22T04:47:02", "confd.# dird.me"] {
        assert!(ran.out.contains(words), "{words} is not in {}", ran.out);
    }
    let file = test.world.directory.path().join("token");
    fs::write(&file, format!("  {LIVE}\r\n\n")).unwrap();
    let file = file.to_str().unwrap();
    let whole = test.run(&["check", "--json", "--token-file", file], "").expect(0);
    assert!(!ran.out.contains(LIVE) && !whole.out.contains(LIVE), "{} {}", ran.out, whole.out);
    assert_eq!(whole.json()["auth_id"], "1000");
    for asked in test.api.take() {
        assert_eq!((asked.request, asked.authorization), (format!("GET /0.1/token/{LIVE}"), String::new()));
    }
    test.run(&["check"], &format!("{UNKNOWN}\n")).expect(1).says("No such token (404)");
    test.api.take();
    fs::write(file, "x".repeat(5000)).unwrap();
    test.run(&["check", "--token-file", file], "").expect(1).says("4 KiB");
    test.run(&["check", "--token-file", "/nonexistent"], "").expect(1).says("/nonexistent");
    for wrong in ["not-a-token\n", "../backends/../../../rpc/identify-xxx\n", "\n", ""] {
        test.run(&["check"], wrong).expect(1);
        test.run(&["revoke"], wrong).expect(1);
    }
    assert_eq!(test.api.take(), []);
}

#[test]
fn each_scope_is_told_and_one_that_is_not_granted_is_1() {
    let test = Api::new();
    let token = format!("{LIVE}\n");
    test.run(&["check", "--scope", "confd.users.read"], &token).expect(0);
    let ran =
        test.run(&["check", "--scope", "confd.a", "--scope", "", "--scope", "dird.b"], &token).expect(1);
    assert!(ran.out.contains("confd.a  granted") && ran.out.contains("dird.b   denied"), "{}", ran.out);
    let ran = test.run(&["check", "--json", "--scope", "confd.a", "--scope", "dird.b"], &token).expect(1);
    assert_eq!(ran.json(), json!({"scopes": {"confd.a": true, "dird.b": false}}));
    let unknown = test.run(&["check", "--scope", "confd.a"], &format!("{UNKNOWN}\n")).expect(1);
    unknown.says("No such token (404)");
}

#[test]
fn a_token_is_revoked_by_whoever_holds_it() {
    let test = Api::new();
    for token in [LIVE, UNKNOWN] {
        let ran = test.run(&["revoke", "--json"], token).expect(0);
        assert_eq!(ran.json(), json!({"revoked": true}));
        assert_eq!(test.api.take()[0].request, format!("DELETE /0.1/token/{token}"));
    }
}

#[test]
fn a_server_cannot_show_what_it_was_shown_nor_flood_nor_command() {
    let test = Api::new();
    let ran = test.run(&["check"], ECHOED).expect(1).says("[token]");
    assert!(!ran.err.contains('\u{1b}') && !ran.err.contains('\u{9b}'), "{:?}", ran.err);
    test.run(&["check"], LONG).expect(3).says("1 MiB");
    test.run(&["check"], PAGE).expect(3).says("no token API");
    let nowhere = test.world.directory.path().join("nowhere.sock");
    test.run(&["check", "--socket", nowhere.to_str().unwrap()], LIVE).expect(3);
}

#[test]
fn a_server_that_hangs_up_is_explained() {
    let test = Api::new();
    let socket = test.world.directory.path().join("other.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let hangs_up = std::thread::spawn(move || drop(listener.accept().unwrap()));
    test.run(&["check", "--socket", socket.to_str().unwrap()], LIVE).expect(3).says("closed the connection");
    hangs_up.join().unwrap();
}

#[test]
fn the_list_has_the_sessions_of_tokens_alone() {
    let world = World::new();
    world.run(&["token", "list"], "").expect(1).says("log in first");
    world.log_in();
    let ran = world.run(&["token", "list"], "").expect(0);
    assert_eq!(ran.out.lines().count(), 2, "{}", ran.out);
    assert!(ran.out.contains("s-3") && !ran.out.contains("s-1"), "{}", ran.out);
    let listed = world.run(&["--json", "token", "list"], "").expect(0).json();
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["session"]), (1, &json!("s-3")));
}
