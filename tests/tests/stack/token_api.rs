//! The HTTP token API through the whole stack: what each route says to whom, and for how long.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use doorward_tests::client::PATIENCE;
use doorward_tests::web::{Answer, Way, Web, basic, basic_of, bearer};
use doorward_tests::{Options, Pam, Person, Program, Role, Stack, secrets};
use serde_json::{Value, json};

const UNKNOWN: &str = "0f9d5f2c-1b7e-4c55-9a0e-2a6a4f0c9b11";
const WRONG: &str = "wrong-Zaunkoenig-9";

fn options(pam: Pam) -> Options {
    let entries: Vec<String> = ["confd.#", "dird.me.read", "!confd.secret.#"].map(str::to_owned).to_vec();
    Options::new(pam).authd("token_api.acl", entries).authd("token_api.longest_seconds", 86_400)
}

/// Waits until a token opens nothing any more; every answer until then must be a hit.
pub(crate) async fn until_refused(web: &mut Web, token: &str) -> Duration {
    let began = Instant::now();
    loop {
        match web.check(token, "").await {
            404 => return began.elapsed(),
            status => assert_eq!(status, 204),
        }
        assert!(began.elapsed() < PATIENCE, "it still opens something");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Every route, for one who is right and for all who are wrong.
async fn each_case_has_its_answer(pam: Pam, way: Way) {
    let Some(stack) = Stack::start(&options(pam)) else { return };
    let alice = stack.person(Role::Full).clone();
    let carol = stack.person(Role::Nobody).clone();
    let wrong = basic(&alice.name, secrets::register(WRONG));
    let (right, nobody) = (basic_of(&alice), basic_of(&carol));
    let mut web = Web::connect(&stack, way).await;
    let issued = web.ask("POST /0.1/token", &right, r#"{"backend":"pam","expiration":3600,"x":[]}"#).await;
    let token = issued.token();
    let data = issued.json()["data"].clone();
    well_formed(&data, &alice, 3600);
    let revoked = web.issue(&alice, "{}").await;
    assert_eq!(web.ask(&format!("DELETE /0.1/token/{revoked}"), "", "").await.status, 200);

    let large = format!(r#"{{"x":"{}"}}"#, "x".repeat(8 << 10));
    let failed = "Authentication Failed";
    let of = |method: &str, token: &str, rest: &str| format!("{method} /0.1/token/{token}{rest}");
    let cases: Vec<(String, &str, &str, u16, &str)> = vec![
        // Whoever is let in by nobody hears one thing, whatever else is wrong.
        ("POST /0.1/token".into(), &wrong, "{}", 401, failed),
        ("POST /0.1/token".into(), &wrong, r#"{"expiration":0}"#, 401, failed),
        (
            "POST /0.1/token".into(),
            "Authorization: Basic bm9zdWNodXNlcjp4eHh4eHh4eA==\r\n",
            "{}",
            401,
            failed,
        ),
        ("POST /0.1/token".into(), &nobody, "{}", 401, failed),
        ("POST /0.1/token".into(), "", "{}", 401, failed),
        ("POST /0.1/token".into(), "Authorization: Bearer x\r\n", "{}", 401, failed),
        ("POST /0.1/token".into(), &right, r#"{"backend":"ldap"}"#, 401, failed),
        ("POST /0.1/token".into(), &right, r#"{"expiration":0}"#, 400, "Invalid expiration"),
        ("POST /0.1/token".into(), &right, r#"{"expiration":true}"#, 400, "Invalid expiration"),
        ("POST /0.1/token".into(), &right, r#"{"expiration":86401}"#, 400, "Invalid expiration"),
        ("POST /0.1/token".into(), &right, "", 400, "a JSON body is needed"),
        ("POST /0.1/token".into(), &right, "{", 400, "the body is not JSON"),
        ("GET /0.1/token".into(), "", "", 405, "This method is not allowed here"),
        ("PUT /0.1/backends".into(), "", "", 405, "This method is not allowed here"),
        (of("GET", &token, "?scope=confd"), "", "", 403, "Unauthorized for confd"),
        (of("GET", &token, "?scope=confd.secret.x"), "", "", 403, "Unauthorized for confd.secret.x"),
        (of("GET", &token, "?scope="), "", "", 403, "Unauthorized for "),
        (of("GET", UNKNOWN, ""), "", "", 404, "No such token"),
        (of("GET", &revoked, ""), "", "", 404, "No such token"),
        (of("GET", "x", "?scope=confd.a"), "", "", 404, "No such token"),
        (of("GET", &token.to_uppercase(), ""), "", "", 404, "No such token"),
        (of("DELETE", "x", ""), "", "", 404, "No such token"),
        (of("POST", UNKNOWN, "/scopes/check"), "", r#"{"scopes":[]}"#, 404, "No such token"),
        (
            of("POST", &token, "/scopes/check"),
            "",
            r#"{"scopes":"a"}"#,
            400,
            "scopes must be an array of strings",
        ),
        ("POST /0.1/token".into(), &right, &large, 413, "The body is too large"),
    ];
    for (request, headers, body, status, reason) in &cases {
        let answer = web.ask(request, headers, body).await;
        assert_eq!((answer.status, answer.reason().as_str()), (*status, *reason), "{request}");
        assert_eq!(answer.header("www-authenticate"), None, "{request}");
        if answer.header("connection") == Some("close") {
            web = Web::connect(&stack, way).await;
        }
    }
    let mut web = Web::connect(&stack, way).await;
    for prefix in ["/0.1", "/api/auth/0.1"] {
        let path = format!("{prefix}/token/{token}");
        // Whatever a client says of itself here counts for nothing.
        let found = web.ask(&format!("GET {path}"), &wrong, "").await;
        assert_eq!((found.status, &found.json()["data"]), (200, &data));
        let uid = alice.uid;
        for (query, status) in [
            (String::new(), 204),
            ("?scope=confd.users.read".into(), 204),
            (format!("?scope=dird.{uid}.read"), 204),
            (format!("?scope=dird.{}.read", uid + 1), 403),
            ("?scope=confd.secret.x".into(), 403),
            ("?scope=".into(), 403),
        ] {
            assert_eq!(head(&mut web, &format!("HEAD {path}{query}")).await, status, "{query}");
        }
        for gone in [UNKNOWN, &revoked, "x"] {
            assert_eq!(head(&mut web, &format!("HEAD {prefix}/token/{gone}?scope=a")).await, 404);
        }
        assert_eq!(head(&mut web, &format!("HEAD {prefix}/status")).await, 200);
        let backends = web.ask(&format!("GET {prefix}/backends"), "", "").await;
        assert_eq!(backends.json(), json!({"data": ["pam", "wazo_user", "xivo_user"]}));
        let document = web.ask(&format!("GET {prefix}/api/api.yml"), "", "").await;
        assert_eq!((document.status, document.header("content-type")), (200, Some("application/x-yaml")));
        let scopes = r#"{"scopes":["confd.a.b","confd","confd.secret.x",""]}"#;
        let told = web.ask(&format!("POST {path}/scopes/check"), "", scopes).await;
        let expected = json!({"confd.a.b": true, "confd": false, "confd.secret.x": false, "": false});
        assert_eq!(told.json(), json!({ "scopes": expected }));
    }
    for (name, expected) in [(UNKNOWN, 200), (&token, 200), (&token, 200)] {
        let answer = web.ask(&format!("DELETE /0.1/token/{name}"), "", "").await;
        assert_eq!((answer.status, answer.json()), (expected, json!({"data": {"message": "success"}})));
    }
    assert_eq!(web.check(&token, "").await, 404);
}

/// What a client that knows nothing of HEAD has read is all that there is.
async fn head(web: &mut Web, request: &str) -> u16 {
    let answer: Answer = web.ask(request, "", "").await;
    assert_eq!(answer.body, "", "{request}");
    answer.status
}

fn well_formed(data: &Value, person: &Person, seconds: i64) {
    let fields: BTreeSet<&str> = data.as_object().expect("an object").keys().map(String::as_str).collect();
    let expected = [
        "token",
        "auth_id",
        "xivo_user_uuid",
        "xivo_uuid",
        "issued_at",
        "expires_at",
        "utc_issued_at",
        "utc_expires_at",
        "acls",
        "acl",
        "session_uuid",
        "metadata",
    ];
    assert_eq!(fields, BTreeSet::from(expected));
    assert_eq!(data["auth_id"], person.uid.to_string());
    assert_eq!(data["acl"], json!(["confd.#", "dird.me.read", "!confd.secret.#"]));
    assert_eq!(data["acls"], data["acl"]);
    assert_eq!((&data["utc_issued_at"], &data["utc_expires_at"]), (&data["issued_at"], &data["expires_at"]));
    assert_ne!(data["session_uuid"], data["token"]);
    let second = |name: &str| -> i64 {
        let text = data[name].as_str().expect("a time");
        assert_eq!((text.len(), text.get(10..11), text.get(19..20)), (26, Some("T"), Some(".")), "{text}");
        let number =
            |range| text.get(range).and_then(|part: &str| part.parse::<i64>().ok()).expect("a number");
        number(11..13) * 3600 + number(14..16) * 60 + number(17..19)
    };
    assert_eq!((second("expires_at") - second("issued_at")).rem_euclid(86_400), seconds, "{data}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_case_has_its_answer_under_libpam_wrapper() {
    each_case_has_its_answer(Pam::Wrapper, Way::Token).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_case_has_its_answer_with_real_pam_and_at_the_door() {
    each_case_has_its_answer(Pam::Real, Way::Door).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_outlives_killed_services() {
    let Some(mut stack) = Stack::start(&options(Pam::Wrapper)) else { return };
    let alice = stack.person(Role::Full).clone();
    let mut web = Web::connect(&stack, Way::Token).await;
    let token = web.issue(&alice, "{}").await;
    assert_eq!(web.check(&token, "").await, 204);
    stack.kill(Program::Authd);
    let began = Instant::now();
    while web.check(&token, "").await != 503 {
        assert!(began.elapsed() < PATIENCE, "what is known is told though no end would be");
    }
    assert_eq!(head(&mut web, "HEAD /0.1/status").await, 503);
    stack.start_again(Program::Authd);
    let began = Instant::now();
    while web.check(&token, "").await != 204 {
        assert!(began.elapsed() < PATIENCE, "it is not known after authd was killed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stack.kill(Program::Gateway);
    stack.start_again(Program::Gateway);
    let mut web = Web::connect(&stack, Way::Plain).await;
    let began = Instant::now();
    let status = loop {
        match web.check(&token, "?scope=confd.x").await {
            // Until it hears of ended sessions.
            503 if began.elapsed() < PATIENCE => tokio::time::sleep(Duration::from_millis(20)).await,
            status => break status,
        }
    };
    assert_eq!(status, 204);
    assert_eq!(web.ask(&format!("DELETE /0.1/token/{token}"), "", "").await.status, 200);
    stack.kill(Program::Authd);
    stack.start_again(Program::Authd);
    let began = Instant::now();
    let status = loop {
        match web.check(&token, "").await {
            503 if began.elapsed() < PATIENCE => tokio::time::sleep(Duration::from_millis(20)).await,
            status => break status,
        }
    };
    assert_eq!(status, 404, "what was revoked stays so");
}

#[tokio::test(flavor = "multi_thread")]
async fn use_never_extends_a_life_that_was_wished_for() {
    let options = options(Pam::Wrapper).authd("sessions.idle_seconds", 1);
    let Some(stack) = Stack::start(&options) else { return };
    let alice = stack.person(Role::Full).clone();
    let mut web = Web::connect(&stack, Way::Token).await;
    let lasting = web.issue(&alice, r#"{"expiration":60}"#).await;
    let began = Instant::now();
    let token = web.issue(&alice, r#"{"expiration":2}"#).await;
    until_refused(&mut web, &token).await;
    let lasted = began.elapsed();
    assert!(lasted >= Duration::from_millis(1_900) && lasted < Duration::from_secs(10), "{lasted:?}");
    assert_eq!(web.check(&lasting, "").await, 204, "no idle clock ends it");
    // It is recorded once, as its end by the clock.
    stack.await_record(Program::Authd, &[("event", "session_ended"), ("dialect", "token")]);
}

/// A look at a session of another dialect is no use of it.
#[tokio::test(flavor = "multi_thread")]
async fn looking_at_a_session_does_not_keep_it_alive() {
    let Some(stack) = Stack::start(&options(Pam::Wrapper).authd("sessions.idle_seconds", 4)) else { return };
    let alice = stack.person(Role::Full).clone();
    let mut client = doorward_tests::Client::tls(&stack).await;
    let token = client.login(&alice).await.expect("logs in");
    let mut web = Web::connect(&stack, Way::Token).await;
    assert_eq!(web.check(&token, "?scope=sysadm.rpc.query._").await, 204);
    until_refused(&mut web, &token).await;
    client.close().await;
}

/// Exactly one record for each login and each end.
async fn each_login_and_end_has_one_record(pam: Pam) {
    let Some(stack) = Stack::start(&options(pam)) else { return };
    let alice = stack.person(Role::Full).clone();
    let mut web = Web::connect(&stack, Way::Door).await;
    let mut issued = Vec::new();
    for _ in 0..2 {
        let answer = web.ask("POST /0.1/token", &basic_of(&alice), "{}").await;
        answer.token();
        issued.push(answer.json()["data"].clone());
    }
    let wrong = basic(&alice.name, secrets::register(WRONG));
    assert_eq!(web.ask("POST /0.1/token", &wrong, "{}").await.status, 401);
    assert_eq!(web.ask("POST /0.1/token", &basic("-rf", WRONG), "{}").await.status, 401);
    assert_eq!(web.ask("POST /0.1/token", &basic_of(&alice), r#"{"backend":"ldap"}"#).await.status, 401);
    assert_eq!(web.ask("POST /0.1/token", &basic_of(&alice), r#"{"expiration":-1}"#).await.status, 400);
    for _ in 0..2 {
        let token = issued[0]["token"].as_str().expect("a token");
        assert_eq!(web.ask(&format!("DELETE /0.1/token/{token}"), "", "").await.status, 200);
    }
    let of = |program, event: &str| stack.records(program, &[("event", event), ("dialect", "token")]);
    let logins = of(Program::Authd, "login");
    let names: BTreeSet<_> = logins.iter().map(|record| record["session"].clone().to_string()).collect();
    let expected: BTreeSet<_> = issued.iter().map(|data| data["session_uuid"].to_string()).collect();
    assert_eq!((logins.len(), names), (2, expected));
    let refused = of(Program::Authd, "login_refused");
    let reasons: Vec<_> = refused.iter().map(|record| record["reason"].as_str().expect("a reason")).collect();
    assert_eq!(reasons, ["pam-denied", "no-such-backend", "invalid-expiration"]);
    let refused = of(Program::Gateway, "login_refused");
    assert_eq!((refused.len(), &refused[0]["reason"]), (1, &json!("malformed-user")));
    let ended = of(Program::Authd, "session_ended");
    assert_eq!((ended.len(), &ended[0]["session"]), (1, &issued[0]["session_uuid"]), "{ended:?}");
    assert_eq!(stack.records(Program::Authd, &[("event", "login")]).len(), 2);
    nothing_secret_is_kept(&stack);
}

/// Neither in a file of the services nor in a command line nor in an environment. Logs and audit records are
/// looked at when the stack ends.
fn nothing_secret_is_kept(stack: &Stack) {
    let mut looked = 0;
    let mut directories = vec![stack.path("state"), stack.path("run")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("a directory of the stack") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.is_file() {
                looked += 1;
                holds_no_secret(&path);
            }
        }
    }
    assert!(looked >= 5, "only {looked} files");
    for program in [Program::Guard, Program::Certd, Program::Authd, Program::Gateway] {
        for name in ["cmdline", "environ"] {
            holds_no_secret(Path::new(&format!("/proc/{}/{name}", stack.pid(program))));
        }
    }
}

fn holds_no_secret(path: &Path) {
    let found = secrets::found_in_bytes(&fs::read(path).unwrap_or_default());
    assert!(found.is_empty(), "{} holds {} secrets", path.display(), found.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_login_and_end_has_one_record_under_libpam_wrapper() {
    each_login_and_end_has_one_record(Pam::Wrapper).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_login_and_end_has_one_record_with_real_pam() {
    each_login_and_end_has_one_record(Pam::Real).await;
}

/// Bearer is for sessions; a token of this API is none.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_no_bearer_of_requests_and_a_session_can_be_looked_at() {
    let Some(stack) = Stack::start(&options(Pam::Wrapper)) else { return };
    let alice = stack.person(Role::Full).clone();
    let mut web = Web::connect(&stack, Way::Door).await;
    let token = web.issue(&alice, "{}").await;
    for request in ["GET /rpc/query", "POST /rpc/sessions", "POST /rpc/settings", "GET /no/such"] {
        let answer = web.ask(request, &bearer(&token), r#"{"action":"list"}"#).await;
        assert_eq!(answer.status, 401, "{request}");
    }
    assert_eq!(web.check(&token, "").await, 204, "and it is none the worse");
}
