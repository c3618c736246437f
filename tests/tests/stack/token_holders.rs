//! What a token of the HTTP token API is good for: what its holder may still do, and nothing on this host.

use std::fs::{self, File};
use std::time::{Duration, Instant, SystemTime};

use doorward_tests::client::PATIENCE;
use doorward_tests::keys::Quick;
use doorward_tests::web::{Way, Web, basic, basic_of, bearer};
use doorward_tests::{Client, Options, Pam, Program, Role, Stack, secrets};
use serde_json::{Value, json};

use crate::support::{listed, register, strangers};

const ENTRIES: [&str; 3] = ["confd.users.#", "confd.lines.#", "dird.me"];

fn entries(entries: &[&str]) -> Vec<String> {
    entries.iter().map(|&entry| entry.to_owned()).collect()
}

/// Nothing that this gateway remembers is left; a connection to the new one, once it hears of ended sessions.
async fn forget(stack: &mut Stack) -> Web {
    stack.kill(Program::Gateway);
    stack.start_again(Program::Gateway);
    let mut web = Web::connect(stack, Way::Token).await;
    let began = Instant::now();
    while web.ask("HEAD /0.1/status", "", "").await.status != 200 {
        assert!(began.elapsed() < PATIENCE, "the token API is not served");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    web
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_has_what_it_was_given_and_its_holder_still_has() {
    let options = Options::new(Pam::Wrapper).authd("token_api.acl", entries(&ENTRIES));
    let Some(mut stack) = Stack::start(&options) else { return };
    let alice = stack.person(Role::Full).clone();
    let mut web = Web::connect(&stack, Way::Token).await;
    let token = web.issue(&alice, "{}").await;
    assert_eq!(web.check(&token, "?scope=confd.lines.x").await, 204);
    stack.set(Program::Authd, "token_api.acl", entries(&["confd.users.#", "dird.me", "agentd.#"]));
    stack.reload(Program::Authd);
    let mut web = forget(&mut stack).await;
    for (scope, status) in
        [("confd.users.x", 204), ("dird.me", 204), ("confd.lines.x", 403), ("agentd.x", 403)]
    {
        assert_eq!(web.check(&token, &format!("?scope={scope}")).await, status, "{scope}");
    }
    let found = web.ask(&format!("GET /0.1/token/{token}"), "", "").await.json();
    assert_eq!(found["data"]["acl"], json!(["confd.users.#", "dird.me"]));
    // What denies now denies.
    stack.set(
        Program::Authd,
        "token_api.acl",
        entries(&["confd.users.#", "dird.me", "!confd.users.secret.#"]),
    );
    stack.reload(Program::Authd);
    let mut web = forget(&mut stack).await;
    assert_eq!(web.check(&token, "?scope=confd.users.secret.x").await, 403);
    assert_eq!(web.check(&token, "?scope=confd.users.x").await, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_ends_with_its_holders_access() {
    let options = Options::new(Pam::Wrapper).authd("token_api.acl", entries(&ENTRIES));
    let Some(mut stack) = Stack::start(&options) else { return };
    let spare = stack.person(Role::Spare).clone();
    let mut web = Web::connect(&stack, Way::Token).await;
    let token = web.issue(&spare, "{}").await;
    assert_eq!(web.check(&token, "").await, 204);
    let path = stack.path("nss/group");
    let groups = fs::read_to_string(&path).expect("the stack's groups");
    assert!(groups.contains(&spare.name), "{groups}");
    fs::write(&path, groups.replace(&spare.name, "")).expect("our file");
    // Whoever compares times by the second sees that it is another file.
    let later = SystemTime::now() + Duration::from_secs(5);
    File::options().write(true).open(&path).and_then(|file| file.set_modified(later)).expect("our file");
    // authd keeps for a second what it has looked up.
    stack.kill(Program::Authd);
    stack.start_again(Program::Authd);
    let mut web = forget(&mut stack).await;
    crate::token_api::until_refused(&mut web, &token).await;
    let refused = web.ask("POST /0.1/token", &basic_of(&spare), "{}").await;
    assert_eq!((refused.status, refused.reason().as_str()), (401, "Authentication Failed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_a_group_may_have_tokens_and_are_strangers_otherwise() {
    let mut table = toml::Table::new();
    // The group of those with limited access, which is that of nobody with any access here.
    table.insert("lim".to_owned(), entries(&["confd.robots.#"]).into());
    let options = Options::new(Pam::Wrapper)
        .authd("token_api.group_acl", table)
        .authd("access.limited_groups", Vec::<String>::new());
    let Some(stack) = Stack::start(&options) else { return };
    let bob = stack.person(Role::Limited).clone();
    let mut web = Web::connect(&stack, Way::Door).await;
    let token = web.issue(&bob, "{}").await;
    assert_eq!(web.check(&token, "?scope=confd.robots.x").await, 204);
    assert_eq!(web.ask("GET /rpc/query", &basic_of(&bob), "").await.status, 401);
    let mut client = Client::tls(&stack).await;
    assert_eq!(client.login(&bob).await, Err(401));
    client.close().await;
}

/// Even with every entry there is a token of this API registers no key and touches no session of others; by
/// default it does not even get in.
async fn a_token_is_no_key_to_the_host(pam: Pam, acl: &[&str], gets_in: bool) {
    let Some(stack) = Stack::start(&Options::new(pam).authd("token_api.acl", entries(acl))) else { return };
    let (alice, bob) = (stack.person(Role::Full).clone(), stack.person(Role::Limited).clone());
    let mut other = Client::tls(&stack).await;
    other.login(&bob).await.expect("bob logs in");
    let mut own = Client::tls(&stack).await;
    own.login(&alice).await.expect("alice logs in");
    let sessions = own.ask("rpc/sessions", json!({"action": "list"})).await.expect("a list");
    let of = |user: &str| -> String {
        let sessions = sessions.as_array().expect("an array");
        let found = sessions.iter().find(|entry| entry["user"] == user).expect("a session");
        found["session"].as_str().expect("a name").to_owned()
    };
    let (bobs, alices) = (of(&bob.name), of(&alice.name));

    let mut web = Web::connect(&stack, Way::Door).await;
    let token = web.issue(&alice, "{}").await;
    let mut client = Client::tls(&stack).await;
    let taken = client.ask("rpc/auth_token", json!({"token": token})).await;
    assert_eq!(taken.is_ok(), gets_in, "{taken:?}");
    assert_eq!(web.ask("GET /rpc/query", &bearer(&token), "").await.status == 200, gets_in);
    let key = Quick::generate();
    if gets_in {
        assert!(register(&mut client, &key, "by a token").await.is_err());
    }
    let pem = key.packed();
    for (row, args) in [
        ("rpc/sessions", json!({"action": "end", "session": bobs})),
        ("rpc/sessions", json!({"action": "end", "session": alices})),
        ("rpc/sessions", json!({"action": "end_others"})),
        ("rpc/settings", json!({"action": "register_challenge"})),
        (
            "rpc/settings",
            json!({"action": "register_ssl_cert", "pub_key": pem, "nickname": "x", "proof": ""}),
        ),
        ("rpc/settings", json!({"action": "revoke_ssl_cert", "pub_key": pem})),
        ("settings/sysadm", json!({"action": "register_ssl_certificate", "pub_key": pem})),
    ] {
        let answer = web.ask(&format!("POST /{row}"), &bearer(&token), &args.to_string()).await;
        assert!([401, 403, 404].contains(&answer.status), "{row} {args}: {answer:?}");
        assert!(client.ask(row, args.clone()).await.is_err(), "{row} {args}");
    }
    // Of others it hears nothing.
    if let Ok(Value::Array(seen)) = client.ask("rpc/sessions", json!({"action": "list"})).await {
        assert!(seen.iter().all(|entry| entry["user"] == alice.name.as_str()), "{seen:?}");
    }
    assert!(other.logged_in().await && own.logged_in().await, "both go on");
    assert!(listed(&mut own).await.is_empty(), "no key was registered");
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_gets_nobody_in_under_libpam_wrapper() {
    a_token_is_no_key_to_the_host(Pam::Wrapper, &ENTRIES, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_gets_nobody_in_with_real_pam() {
    a_token_is_no_key_to_the_host(Pam::Real, &[], false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_with_every_entry_touches_neither_keys_nor_others() {
    a_token_is_no_key_to_the_host(Pam::Wrapper, &["#"], true).await;
}

/// Five wrong passwords shut their source out of every login; a token that opens something is answered still.
#[tokio::test(flavor = "multi_thread")]
async fn a_guesser_gets_a_penalty_and_a_verifying_service_at_the_same_place_goes_on() {
    let options = Options::new(Pam::Wrapper)
        .authd("penalty.failures", 5)
        .authd("penalty.first_seconds", 300)
        .authd("token_api.acl", entries(&ENTRIES));
    let Some(stack) = Stack::start(&options) else { return };
    let Some([by_token, by_rest]) = strangers(&stack) else { return };
    let alice = stack.person(Role::Full).clone();
    let token = Web::connect(&stack, Way::Token).await.issue(&alice, "{}").await;
    let wrong = basic(&alice.name, secrets::register("wrong-Zaunkoenig-8"));
    for (uid, request, told) in [(by_token, "POST /0.1/token", 429), (by_rest, "GET /rpc/query", 403)] {
        let mut web = Web::connect_as(&stack, Way::Door, uid).await.expect("served");
        for _ in 0..5 {
            assert_eq!(web.ask(request, &wrong, if told == 429 { "{}" } else { "" }).await.status, 401);
        }
        let answer = web.ask(request, &basic_of(&alice), if told == 429 { "{}" } else { "" }).await;
        assert_eq!(answer.status, told, "{request}: {answer:?}");
        let after = answer.header("retry-after").and_then(|text| text.parse::<u64>().ok());
        assert!(after.is_some_and(|seconds| (1..=300).contains(&seconds)), "{answer:?}");
        // At the door nobody of there is served any more, once the gateway has heard of it.
        let began = Instant::now();
        while let Some(mut web) = Web::connect_as(&stack, Way::Door, uid).await {
            if web.try_ask("GET /rpc/identify", "", "").await.is_none() {
                break;
            }
            assert!(began.elapsed() < PATIENCE, "the gateway did not hear of it");
        }
        for way in [Way::Token, Way::Plain] {
            let mut web = Web::connect_as(&stack, way, uid).await.expect("served");
            for _ in 0..20 {
                assert_eq!(web.check(&token, "?scope=confd.users.x").await, 204);
            }
            let answer = web.ask("POST /0.1/token", &basic_of(&alice), "{}").await;
            assert_eq!(answer.status, 429, "no login is tried from there");
            assert!(answer.header("retry-after").is_some());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn misses_are_told_for_what_they_are_only_so_often_and_stop_nothing_else() {
    let options = Options::new(Pam::Wrapper).authd("penalty.failures", 1).gateway("limits.token_misses", 10);
    let Some(stack) = Stack::start(&options) else { return };
    let alice = stack.person(Role::Full).clone();
    let mut web = Web::connect(&stack, Way::Token).await;
    let token = web.issue(&alice, "{}").await;
    for number in 0..30 {
        let unknown = format!("0f9d5f2c-1b7e-4c55-9a0e-2a6a4f0c9{number:03}");
        let (status, after) = {
            let answer = web.ask(&format!("GET /0.1/token/{unknown}"), "", "").await;
            (answer.status, answer.header("retry-after").is_some())
        };
        assert_eq!((status, after), if number < 10 { (404, false) } else { (429, true) }, "{number}");
        assert_eq!(web.check(&token, "").await, 204);
    }
    // No login is refused for it, anywhere.
    web.issue(&alice, "{}").await;
    let mut client = Client::tls(&stack).await;
    client.login(&alice).await.expect("logs in");
    client.close().await;
}
