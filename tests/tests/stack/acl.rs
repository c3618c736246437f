//! ACL entries of the running authd: what root is told of them, what tokens carry, and what a reload changes.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use doorward_proto::authd::v1::{
    BeginRequest, CheckRequest, Dialect, Password, Session, TokenWish, begin_request::Method, outcome::Kind,
};
use doorward_tests::client::PATIENCE;
use doorward_tests::grpc::Authd;
use doorward_tests::{Options, Pam, Person, Program, Role, Stack, doorward, secrets, skip};
use serde_json::Value;

/// What `doorward acl explain` says: the exit code and the document.
fn explain(stack: &Stack, user: &str, subject: &str, more: &[&str]) -> (Option<i32>, Value) {
    let output = Command::new(doorward())
        .args(["acl", "explain", user, subject, "--json", "--authd"])
        .arg(stack.path("run/authd/authd.sock"))
        .args(more)
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code(), serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
}

/// A subsystem's registration, whole at once.
fn register(stack: &Stack, more: &str) {
    let text = "namespace = \"example\"\nname = \"disk\"\nsocket = \"/run/disk.sock\"\nuser = \"1\"\n";
    let (new, file) = (stack.path("subsystems.d/new"), stack.path("subsystems.d/disk.toml"));
    fs::write(&new, format!("{text}{more}\n")).expect("a directory of ours");
    fs::rename(new, file).expect("beside it");
}

/// What is so within a few seconds.
fn wait_for<T>(look: impl Fn() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "it does not happen");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A token of the token API, as a gateway asks for one.
async fn token_of(authd: &mut Authd, person: &Person) -> Option<(String, Session)> {
    let (username, password) = (person.name.clone(), person.password.clone());
    let request = BeginRequest {
        connection: "7a0b1f04-6b1c-4c54-8000-0000000000ac".to_owned(),
        source: None,
        dialect: Dialect::Token.into(),
        wish: Some(TokenWish::default()),
        method: Some(Method::Password(Password { username, password })),
    };
    match authd.login.begin(request).await.expect("an outcome").into_inner().kind {
        Some(Kind::Granted(granted)) => {
            let token = secrets::register(&granted.token).to_owned();
            Some((token, granted.session.expect("a session")))
        }
        _ => None,
    }
}

async fn entries(authd: &mut Authd, token: &str) -> Vec<String> {
    let request = CheckRequest { token: token.to_owned(), used_ms_ago: None, dialect: Dialect::Token.into() };
    authd.sessions.check(request).await.expect("alive").into_inner().acl
}

#[tokio::test(flavor = "multi_thread")]
async fn root_learns_which_entry_decides_and_tokens_follow_a_reload() {
    if !skip::root("authd tells rights to root alone") {
        return;
    }
    let Some(mut stack) = Stack::start(&Options::new(Pam::Real).authd("pam.refusal_delay_ms", 1)) else {
        return;
    };
    let [alice, bob, carol] =
        [Role::Full, Role::Limited, Role::Nobody].map(|role| stack.person(role).clone());
    let (full, query) = ("access.full_groups (group ", "sysadm.rpc.query._");
    for (user, subject, code, from) in [
        (&alice.name, "sysadm.rpc.anything.at_all", 0, Some(full)),
        (&bob.name, query, 0, Some("access.limited_acl (group ")),
        (&bob.name, "sysadm.rpc.power.off", 1, None),
        (&carol.name, query, 1, None),
    ] {
        let (exit, told) = explain(&stack, user, subject, &[]);
        assert_eq!(exit, Some(code), "{told}");
        let decided = told["decided_by"]["from"].as_str();
        assert_eq!(decided.is_some(), from.is_some(), "{told}");
        assert!(from.is_none_or(|from| decided.is_some_and(|said| said.starts_with(from))), "{told}");
    }
    assert_eq!(explain(&stack, "no-such-user-at-all", query, &[]).0, Some(2));
    let (subject, file) = ("sysadm.example.disk.list", stack.path("subsystems.d/disk.toml"));
    assert_eq!(explain(&stack, &bob.name, subject, &[]).0, Some(1));
    register(&stack, "limited_acl = [\"list\"]");
    let told = wait_for(|| Some(explain(&stack, &bob.name, subject, &[])).filter(|told| told.0 == Some(0)));
    let from = told.1["decided_by"]["from"].as_str().expect("a place");
    assert!(from.starts_with(&format!("limited_acl of {} (group ", file.display())), "{from}");
    assert_eq!(explain(&stack, &carol.name, subject, &[]).0, Some(1));
    register(&stack, "limited_acl = [\"#\"]");
    wait_for(|| (explain(&stack, &bob.name, subject, &[]).0 == Some(1)).then_some(()));
    let complaint = format!("{}:5: limited_acl: ", file.display());
    wait_for(|| stack.log(Program::Authd).contains(&complaint).then_some(()));
    // Another change says nothing more of it.
    fs::write(stack.path("subsystems.d/other.toml"), "").expect("a directory of ours");
    let log = wait_for(|| Some(stack.log(Program::Authd)).filter(|log| log.contains("other.toml")));
    assert_eq!(log.matches(&complaint).count(), 1, "{log}");

    let mut authd = Authd::as_gateway(&stack).await;
    assert!(token_of(&mut authd, &carol).await.is_none(), "who has no access has no token");
    let (bare, session) = token_of(&mut authd, &bob).await.expect("a token");
    assert_eq!(session.acl, Vec::<String>::new());
    assert_eq!(explain(&stack, &bob.name, "confd.x", &["--token"]).0, Some(1));

    let groups = toml::Table::from_iter([("no-such-group".to_owned(), vec!["dird.#".to_owned()].into())]);
    stack.set(Program::Authd, "token_api.group_acl", groups);
    stack.set(Program::Authd, "token_api.acl", vec!["confd.users.me.#".to_owned()]);
    let log = stack.reload(Program::Authd);
    assert!(log.contains("token_api.acl") && log.contains("token_api.group_acl.no-such-group"), "{log}");
    assert!(!log.contains("waits") && !log.contains("restart"), "{log}");
    let (given, session) = token_of(&mut authd, &bob).await.expect("a token");
    assert_eq!(session.acl, ["confd.users.me.#"]);
    assert_eq!(entries(&mut authd, &bare).await, Vec::<String>::new(), "an older token gains nothing");
    let (exit, told) = explain(&stack, &bob.name, &format!("confd.users.{}.x", bob.uid), &["--token"]);
    assert_eq!((exit, &told["decided_by"]["from"]), (Some(0), &Value::from("token_api.acl")));

    stack.set(Program::Authd, "token_api.acl", vec!["confd.users.me.read".to_owned()]);
    stack.set(Program::Authd, "token_api.group_acl", toml::Table::new());
    stack.reload(Program::Authd);
    assert_eq!(entries(&mut authd, &given).await, Vec::<String>::new(), "and loses what its holder lost");
}
