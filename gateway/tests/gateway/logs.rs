//! `rpc/logs`: who is asked with what, and one list of all they say.

use serde_json::{Value, json};

use crate::{
    fake_certd::Received,
    support::{Client, Gateway, code},
};

const OF_CERTD: &str =
    r#"{"time":"2026-11-23T10:11:12.001Z","id":"c-1","event":"key_revoked","service":"doorward-certd"}"#;

async fn read(client: &mut Client, mut args: Value) -> Value {
    args["action"] = "read_logs".into();
    client.call(json!({"namespace": "rpc", "name": "logs", "id": "l", "args": args}).to_string()).await
}

fn span() -> Value {
    json!({"from": "2026-11-23T10:11:12Z", "until": 1_795_428_673, "most": 5})
}

#[tokio::test]
async fn records_of_all_services_are_one_list_and_a_reader_goes_on_after_it() {
    let (gateway, certd) = Gateway::start_with_certd().await;
    let (mut client, token) = gateway.alice().await;
    let reply = read(&mut client, span()).await;
    let of_authd = json!({"time": "2026-11-23T10:11:12.002Z", "id": "a-1", "event": "login", "service": "doorward-authd", "user": "alice"});
    let of_certd: Value = serde_json::from_str(OF_CERTD).expect("JSON");
    assert_eq!(
        reply["args"],
        json!({"records": [of_certd, of_authd], "missing": [], "unread": ["certd"],
            "next": "1795428672002-1795428673000-1-0-0"})
    );
    let asked = gateway.authd.received("logs");
    assert_eq!(
        (asked[0].about.as_str(), asked[0].connection.as_str()),
        (token.as_str(), "1795428672000-1795428673000-0-5")
    );
    let Some(Received::Logs(request)) = certd.received().into_iter().next_back() else { panic!("asked") };
    assert_eq!((request.from, request.until, request.most), (1_795_428_672_000, 1_795_428_673_000, 5));
    assert!(request.assertion.starts_with("alice certd"), "{}", request.assertion);

    read(&mut client, json!({"after": reply["args"]["next"], "most": 7})).await;
    assert_eq!(gateway.authd.received("logs")[1].connection, "1795428672002-1795428673000-1-7");
    // Of certd alone: authd still says whose records this session sees.
    let reply = read(&mut client, json!({"logs": "certd", "from": 0})).await;
    let Value::Array(records) = &reply["args"]["records"] else { panic!("{reply}") };
    assert_eq!((records.len(), &reply["args"]["next"]), (1, &Value::Null));
    assert_eq!(gateway.authd.received("logs").len(), 3);
}

#[tokio::test]
async fn without_certd_the_others_are_read_and_it_is_told() {
    let (gateway, mut certd) = Gateway::start_with_certd().await;
    let (mut client, _) = gateway.alice().await;
    certd.kill().await;
    gateway.certd_is(false).await;
    let reply = read(&mut client, span()).await;
    assert_eq!((reply["args"]["records"].as_array().map(Vec::len), code(&reply)), (Some(1), 0));
    assert_eq!(reply["args"]["missing"], json!(["certd"]));
}

#[tokio::test]
async fn who_may_not_is_not_asked_for() {
    let gateway = Gateway::start().await;
    let mut nobody = gateway.unix().await;
    assert_eq!(code(&read(&mut nobody, span()).await), 401);
    let mut bob = gateway.unix().await;
    bob.log_in("bob", "builder").await;
    assert_eq!(code(&read(&mut bob, span()).await), 403);
    assert_eq!(code(&read(&mut bob, json!({"from": "x"})).await), 403, "what is wrong is told to who may");
    let (mut alice, _) = gateway.alice().await;
    assert_eq!(code(&read(&mut alice, json!({"from": "x"})).await), 400);
    assert!(gateway.authd.received("logs").is_empty());
    let query = alice.call(r#"{"namespace":"rpc","name":"query","args":{}}"#).await;
    assert_eq!(query["args"]["rpc/logs"], "read");
}
