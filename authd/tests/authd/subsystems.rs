//! What registrations of subsystems give to limited access, while authd runs.

use std::{fs, path::PathBuf};

use doorward_proto::authd::v1 as wire;
use tonic::Code;

use crate::bench::{Bench, ONE, begin, code, kind, until};

const ENTRY: &str = "sysadm.example.disk.list_*";

/// The directory of an authd that looks there.
async fn started() -> (Bench, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("temp dir");
    let path = directory.path().to_owned();
    (Bench::start(move |config| config.subsystems.directory = path).await, directory)
}

fn register(directory: &tempfile::TempDir, more: &str) -> PathBuf {
    let file = directory.path().join("disk.toml");
    let text = format!(
        "namespace = \"example\"\nname = \"disk\"\nsocket = \"/run/disk.sock\"\nuser = \"1\"\n{more}"
    );
    // Whole or not at all, as editors write: half of it would be told as wrong.
    fs::write(directory.path().join("new"), text).expect("written");
    fs::rename(directory.path().join("new"), &file).expect("renamed");
    file
}

async fn has(bench: &Bench, token: &str) -> bool {
    let session = bench.check(token).await.expect("alive");
    session.acl.iter().any(|entry| entry == ENTRY)
}

#[tokio::test]
async fn a_registration_gives_to_limited_access_and_a_removed_one_takes() {
    let (bench, directory) = started().await;
    bench.pam_with_passwords();
    let (alice, bob) = (bench.session_of("alice").await.token, bench.session_of("bob").await.token);
    assert!(!has(&bench, &bob).await);
    let file = register(&directory, "limited_acl = [\"list_*\"]");
    until(async || has(&bench, &bob).await).await;
    assert!(!has(&bench, &alice).await, "full access has its # alone");

    // authd's word for a subsystem carries it.
    let request = wire::AssertRequest { token: bob.clone(), audience: "example/disk".into() };
    let jwt = bench.sessions().await.assert(request).await.expect("signed").into_inner().jwt;
    assert!(claims(&jwt).contains(ENTRY));

    fs::remove_file(file).expect("removed");
    until(async || !has(&bench, &bob).await).await;
    assert!(bench.check(&bob).await.is_ok(), "the session goes on");
}

#[tokio::test]
async fn what_is_there_at_the_start_counts_from_the_first_request_on() {
    let (mut bench, directory) = started().await;
    bench.pam_with_passwords();
    register(&directory, "limited_acl = [\"list_*\"]");
    bench.restart().await;
    let bob = bench.session_of("bob").await;
    assert!(bob.session.expect("a session").acl.iter().any(|entry| entry == ENTRY));
}

#[tokio::test]
async fn a_wrong_file_gives_nothing_and_takes_what_it_gave() {
    let (bench, directory) = started().await;
    bench.pam_with_passwords();
    let bob = bench.session_of("bob").await.token;
    register(&directory, "limited_acl = [\"list_*\"]");
    until(async || has(&bench, &bob).await).await;
    register(&directory, "limited_acl = [\"list_*\", \"#\"]");
    until(async || !has(&bench, &bob).await).await;
}

#[tokio::test]
async fn who_leaves_the_group_or_logs_out_has_nothing_of_it() {
    let (bench, directory) = started().await;
    bench.pam_with_passwords();
    register(&directory, "limited_acl = [\"list_*\"]");
    let (bob, second) = (bench.session_of("bob").await.token, bench.session_of("bob").await.token);
    until(async || has(&bench, &bob).await).await;
    let assertion = async |token: &str| {
        let request = wire::AssertRequest { token: token.into(), audience: "example/disk".into() };
        code(bench.sessions().await.assert(request).await)
    };
    bench.sessions().await.end(wire::EndRequest { token: second.clone() }).await.expect("ended");
    assert_eq!((bench.check(&second).await, assertion(&second).await), (Err(Code::NotFound), Code::NotFound));
    bench.users.set_groups("bob", &[27]);
    assert_eq!(bench.check(&bob).await.expect("full access now").acl, ["#"]);
    bench.users.set_groups("bob", &[]);
    assert_eq!((assertion(&bob).await, bench.check(&bob).await), (Code::NotFound, Err(Code::NotFound)));
}

#[tokio::test]
async fn a_token_of_the_token_api_has_nothing_of_it() {
    let (bench, directory) = started().await;
    bench.pam_with_passwords();
    register(&directory, "limited_acl = [\"list_*\"]");
    let bob = bench.session_of("bob").await.token;
    until(async || has(&bench, &bob).await).await;
    let method = wire::begin_request::Method::Password(wire::Password {
        username: "bob".into(),
        password: "pw".into(),
    });
    let request = wire::BeginRequest {
        dialect: wire::Dialect::Token.into(),
        wish: Some(wire::TokenWish::default()),
        ..begin(ONE, "192.0.2.1", method)
    };
    let granted = match kind(bench.login().await.begin(request).await) {
        wire::outcome::Kind::Granted(granted) => granted,
        other => panic!("{other:?}"),
    };
    assert_eq!(granted.session.expect("a session").acl, [""; 0]);
    let request = wire::AssertRequest { token: granted.token, audience: "example/disk".into() };
    assert_eq!(code(bench.sessions().await.assert(request).await), Code::NotFound);
}

/// The middle part of a JWT.
fn claims(jwt: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let part = jwt.split('.').nth(1).expect("three parts");
    String::from_utf8(URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("text")
}
