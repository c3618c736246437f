//! Clients of the token API: curl, the Python package `requests`, and our own command.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use doorward_tests::client::is_uuid4;
use doorward_tests::web::{Way, Web};
use doorward_tests::{Options, Pam, Role, Stack, python, secrets, skip};
use serde_json::{Value, json};

const UNKNOWN: &str = "0f9d5f2c-1b7e-4c55-9a0e-2a6a4f0c9b12";

/// Runs a program with this on stdin; what it printed, if it succeeded.
fn run(program: &str, arguments: &[&str], input: &str) -> Result<String, String> {
    let mut command = Command::new(program);
    command.args(arguments);
    ran(command, input)
}

fn ran(mut command: Command, input: &str) -> Result<String, String> {
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|error| error.to_string())?;
    let mut stdin = child.stdin.take().expect("a pipe");
    // A program that ends early closes the pipe early.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// curl waits for a body after `-X HEAD`, as it would for any method that it does not know.
#[tokio::test(flavor = "multi_thread")]
async fn curl_that_is_told_to_say_head_does_not_wait() {
    if run("curl", &["--version"], "").is_err() {
        skip::skipped("no curl");
        return;
    }
    let options = Options::new(Pam::Wrapper).authd("token_api.acl", vec!["confd.#".to_owned()]);
    let Some(stack) = Stack::start(&options) else { return };
    let token = Web::connect(&stack, Way::Token).await.issue(stack.person(Role::Full), "{}").await;
    for (base, more) in [
        (format!("http://{}/0.1", stack.plain_token_address()), ""),
        (format!("https://{}/0.1", stack.token_address()), "insecure\n"),
        (format!("https://{}/api/auth/0.1", stack.tls_address()), "insecure\n"),
    ] {
        for (path, status) in [
            (format!("token/{token}"), "204"),
            (format!("token/{token}?scope=confd.x"), "204"),
            (format!("token/{token}?scope=dird.x"), "403"),
            (format!("token/{UNKNOWN}"), "404"),
            ("token/x".to_owned(), "404"),
            ("status".to_owned(), "200"),
        ] {
            // By stdin: the token is not among the arguments.
            let config = format!("{more}url = \"{base}/{path}\"\nrequest = \"HEAD\"\nmax-time = 10\n");
            let arguments =
                ["--silent", "--show-error", "--output", "-", "--write-out", "%{http_code}", "--config", "-"];
            let said = tokio::task::block_in_place(|| run("curl", &arguments, &config));
            assert_eq!(said.as_deref(), Ok(status), "{base} {path}");
        }
    }
}

/// Walks the API as its own document describes it, and provokes every status that it promises and can be
/// provoked.
#[tokio::test(flavor = "multi_thread")]
async fn an_unmodified_python_client_finds_the_api_as_its_document_says() {
    let Some(python) = python::interpreter_with(&["requests", "yaml"]) else {
        skip::skipped("no Python with the packages requests and yaml (python3-requests, python3-yaml)");
        return;
    };
    let dir = tempfile::Builder::new().prefix("dwt").tempdir().expect("a temporary directory");
    let certificate = dir.path().join("server.pem");
    let options = Options::new(Pam::Wrapper)
        .authd("token_api.acl", vec!["confd.#".to_owned()])
        .authd("sessions.per_user", 5)
        .gateway("limits.token_misses", 40);
    for plain in [true, false] {
        // Each has its own count of misses.
        let Some(stack) = Stack::start(&options) else { return };
        fs::copy(stack.path("state/gateway/tls.crt"), &certificate).expect("the server's own certificate");
        let alice = stack.person(Role::Full).clone();
        let (url, verify) = match plain {
            true => (format!("http://{}", stack.plain_token_address()), Value::Null),
            false => (format!("https://localhost:{}", port(stack.token_address())), json!(certificate)),
        };
        let input = json!({
            "url": url, "verify": verify, "user": alice.name, "password": alice.password,
            "granted": "confd.users.read", "denied": "dird.x",
        });
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/python/token_api.py");
        let said = tokio::task::block_in_place(|| run(&python, &[script], &input.to_string()));
        let said = said.unwrap_or_else(|error| panic!("{url}: {error}"));
        let told: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
        for token in told["tokens"].as_array().expect("tokens") {
            secrets::register(token.as_str().expect("text"));
        }
        let missing = told["not provoked"].as_array().expect("a list");
        // A back end that is away is for other tests, and a body that takes 30 s as well.
        assert!(missing.iter().all(|status| status[2] == "503" || status[2] == "408"), "{missing:?}");
        assert!(told["answers"].as_u64().is_some_and(|answers| answers >= 25), "{told}");
    }
}

fn port(address: &str) -> &str {
    address.rsplit(':').next().unwrap_or_default()
}

/// The command of ours, which is a client as well.
#[tokio::test(flavor = "multi_thread")]
async fn our_own_command_issues_checks_lists_and_revokes() {
    let options = Options::new(Pam::Wrapper).authd("token_api.acl", vec!["confd.#".to_owned()]);
    let Some(stack) = Stack::start(&options) else { return };
    let alice = stack.person(Role::Full).clone();
    let home = tempfile::Builder::new().prefix("dwt").tempdir().expect("a temporary directory");
    let runtime = home.path().join("runtime");
    fs::create_dir(&runtime).expect("a directory in ours");
    fs::set_permissions(&runtime, fs::Permissions::from_mode(0o700)).expect("chmod of our directory");
    let socket = stack.path("run/gateway.sock").display().to_string();
    let url = format!("wss://{}", stack.token_address());
    let local = ["--socket", socket.as_str()];
    let remote = ["--url", url.as_str(), "--fingerprint", stack.fingerprint()];
    let doorward = |to: &[&str], arguments: &[&str], input: &str| {
        let mut command = Command::new(doorward_tests::doorward());
        command.args(to).args(arguments).env("XDG_RUNTIME_DIR", &runtime).env("HOME", home.path());
        tokio::task::block_in_place(|| ran(command, input))
    };
    let password = format!("{}\n", alice.password);
    for to in [&local[..], &remote[..]] {
        let issued = doorward(to, &["token", "issue", &alice.name, "--password-stdin"], &password);
        let token = secrets::register(issued.expect("a token").trim_end()).to_owned();
        assert!(is_uuid4(&token), "nothing else is printed");
        let told = doorward(to, &["--json", "token", "check"], &token).expect("valid");
        let told: Value = serde_json::from_str(&told).expect("JSON");
        assert_eq!((&told["auth_id"], told.get("token")), (&json!(alice.uid.to_string()), None));
        doorward(to, &["token", "check", "--scope", "confd.users.read"], &token).expect("granted");
        doorward(to, &["token", "check", "--scope", "confd.a", "--scope", "dird.b"], &token)
            .expect_err("denied");
        doorward(&local, &["login", &alice.name, "--password-stdin"], &password).expect("logs in");
        let list = doorward(&local, &["--json", "token", "list"], "").expect("a list");
        let list: Value = serde_json::from_str(&list).expect("JSON");
        assert_eq!((list.as_array().map(Vec::len), &list[0]["dialect"]), (Some(1), &json!("token")));
        doorward(&local, &["logout"], "").expect("ends");
        doorward(to, &["token", "revoke"], &token).expect("revoked");
        let refused = doorward(to, &["token", "check"], &token).expect_err("it opens nothing");
        assert!(refused.contains("No such token (404)") && !refused.contains(&token), "{refused}");
        let wrong = format!("{}\n", secrets::register("wrong-Zaunkoenig-6"));
        let refused = doorward(to, &["token", "issue", &alice.name, "--password-stdin"], &wrong);
        assert!(refused.expect_err("no token").contains("Authentication Failed (401)"));
    }
}
