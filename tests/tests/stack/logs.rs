//! Audit records of real logins as their users read them.

use doorward_proto::authd::v1::LogsRequest;
use doorward_tests::grpc::Authd;
use doorward_tests::keys::Quick;
use doorward_tests::{Client, Options, Pam, Role, Stack, secrets};
use serde_json::{Value, json};

use crate::support::register;

async fn read(client: &mut Client, more: Value) -> Value {
    let mut args = json!({"action": "read_logs"});
    args.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    client.ask("rpc/logs", args).await.expect("read")
}

/// Event and user of each record.
fn told(reply: &Value) -> Vec<(String, String)> {
    let records = reply["records"].as_array().expect("records");
    let text = |record: &Value, field: &str| record[field].as_str().unwrap_or_default().to_owned();
    records.iter().map(|record| (text(record, "event"), text(record, "user"))).collect()
}

async fn each_reads_what_is_about_him(pam: Pam) {
    let Some(stack) = Stack::start(&Options::new(pam).authd("pam.refusal_delay_ms", 1)) else { return };
    let (full, limited) = (stack.person(Role::Full).clone(), stack.person(Role::Limited).clone());
    let mut boss = Client::tls(&stack).await;
    boss.login(&full).await.expect("logs in");
    let mut refused = Client::tls(&stack).await;
    let args = json!({"username": limited.name, "password": secrets::register("wrong-Zaunkoenig-7")});
    refused.ask("rpc/auth", args).await.expect_err("refused");
    let mut client = Client::tls(&stack).await;
    let token = client.login(&limited).await.expect("logs in");
    register(&mut client, &Quick::generate(), "mine").await.expect("registered");

    let of = |event: &str, user: &str| (event.to_owned(), user.to_owned());
    let own =
        [of("login_refused", &limited.name), of("login", &limited.name), of("key_registered", &limited.name)];
    let reply = read(&mut client, json!({})).await;
    assert_eq!(told(&reply), own, "{reply}");
    assert_eq!((&reply["next"], &reply["missing"], &reply["unread"]), (&Value::Null, &json!([]), &json!([])));

    // Page by page, and by the original's words: the same.
    let (mut paged, mut more) =
        (Vec::new(), json!({"time_format": "relative_second", "start_time": "-3600"}));
    loop {
        more["most"] = 1.into();
        let reply = read(&mut client, more).await;
        paged.extend(told(&reply));
        let Value::String(next) = &reply["next"] else { break };
        more = json!({"after": next});
    }
    assert_eq!(paged, own);
    let authd = told(&read(&mut client, json!({"logs": ["authd"]})).await);
    assert_eq!(authd, own[..2]);

    let all = read(&mut boss, json!({})).await;
    let everything = told(&all);
    for record in own.iter().chain(&[of("login", &full.name), of("start", "")]) {
        assert!(everything.contains(record), "{record:?} is not in {all}");
    }
    let services: std::collections::BTreeSet<_> = all["records"]
        .as_array()
        .expect("records")
        .iter()
        .filter_map(|record| record["service"].as_str())
        .collect();
    assert_eq!(
        services.into_iter().collect::<Vec<_>>(),
        ["doorward-authd", "doorward-certd", "doorward-gateway"]
    );
    let times: Vec<_> =
        all["records"].as_array().expect("records").iter().map(|r| r["time"].as_str()).collect();
    assert!(times.is_sorted(), "{times:?}");

    // A gateway that is taken over, with the session of limited access that passes through it.
    let mut authd = Authd::as_gateway(&stack).await;
    let request = LogsRequest { token, until: u64::MAX, most: 1_000, ..Default::default() };
    let mut parts = authd.sessions.logs(request).await.expect("read").into_inner();
    let mut seen = 0;
    while let Some(part) = parts.message().await.expect("a part") {
        for line in part.lines {
            let record: Value = serde_json::from_str(&line).expect("JSON");
            assert_eq!(record["user"], limited.name, "{record}");
            seen += 1;
        }
    }
    assert_eq!(seen, 2);
    for client in [boss, client, refused] {
        client.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_reads_what_is_about_him_under_libpam_wrapper() {
    each_reads_what_is_about_him(Pam::Wrapper).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_reads_what_is_about_him_with_real_pam() {
    each_reads_what_is_about_him(Pam::Real).await;
}
