//! `doorward channels explain` on a host, and what the gateway then does.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use doorward_tests::{Client, Options, Pam, Program, Role, Stack, doorward, skip};
use serde_json::{Value, json};
use tempfile::TempDir;

/// `gateway.toml` under the name that a host has, and the table.
struct Host(TempDir);

impl Host {
    fn new() -> Self {
        let place = tempfile::Builder::new().prefix("dwt").tempdir().expect("a temporary directory");
        fs::set_permissions(place.path(), Permissions::from_mode(0o755)).expect("ours");
        Self(place)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("ours");
        path.to_str().expect("UTF-8").to_owned()
    }

    fn explain(&self, stack: &Stack, user: &str, place: &[&str]) -> (Option<i32>, Value) {
        let output = Command::new(doorward())
            .args(["--json", "channels", "explain", "--authd"])
            .arg(stack.path("run/authd/authd.sock"))
            .arg("--config-dir")
            .arg(self.0.path())
            .arg(user)
            .args(place)
            .stdin(Stdio::null())
            .output()
            .expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let told = serde_json::from_str(&text);
        let told = told.unwrap_or_else(|error| {
            panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr));
        });
        (output.status.code(), told)
    }
}

async fn may(client: &mut Client, action: &str, place: &[&str]) -> bool {
    let (channel, pk) = (place[0], place.get(1));
    let asked = json!({"action": action, "channel": channel, "pk": pk, "message": 1, "id": "m"});
    client.send(&asked.to_string()).await;
    let reply = client.json().await;
    let done = matches!(reply["name"].as_str(), Some("subscribed" | "published"));
    assert!(done || reply["message"]["code"] == 403, "{asked}: {reply}");
    if done && action == "subscribe" {
        client.send(&json!({"action": "unsubscribe", "channel": channel, "pk": pk}).to_string()).await;
        assert_eq!(client.json().await["name"], "unsubscribed");
    }
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn what_root_is_told_of_a_channel_is_what_users_meet() {
    if !skip::root("authd tells rights to root alone") {
        return;
    }
    let host = Host::new();
    let table = host.write(
        "channels.toml",
        r#"
        [channels.news]
        subscribe = "anyone"
        publish = "member"
        [channels.group]
        subscribe = "acl"
        publish = "acl"
        [channels.desk]
        subscribe = ["ws.desk.me.#"]
        publish = "nobody"
        "#,
    );
    let options = Options::new(Pam::Real).gateway("channels.file", table.clone());
    let options = options.authd("access.limited_acl", vec!["ws.group.7.#", "!ws.group.7.publish"]);
    let Some(stack) = Stack::start(&options) else { return };
    let gateway = fs::read_to_string(stack.config_path(Program::Gateway)).expect("the stack's file");
    host.write("gateway.toml", &gateway);
    let [alice, bob, carol] =
        [Role::Full, Role::Limited, Role::Nobody].map(|role| stack.person(role).clone());
    let uid = bob.uid.to_string();
    let places: [&[&str]; 8] = [
        &["news"],
        &["group", "7"],
        &["group", "8"],
        &["desk", &uid],
        &["desk", "0"],
        &["user", &bob.name],
        &["user", &alice.name],
        &["elsewhere", "1"],
    ];
    let mut heard = Vec::new();
    for person in [Some(&alice), Some(&bob), Some(&carol), None] {
        let mut client = Client::unix(&stack).await;
        if let Some(person) = person {
            assert_eq!(client.login(person).await.is_ok(), *person.name != *carol.name);
        }
        for place in places {
            let name = person.map_or("-", |person| &person.name);
            let (code, told) = host.explain(&stack, name, place);
            assert_eq!(told["table"], table, "{told}");
            let mut any = false;
            for verb in ["subscribe", "publish"] {
                let done = may(&mut client, verb, place).await;
                assert_eq!(told[verb]["answer"], if done { "yes" } else { "no" }, "{verb} {place:?}: {told}");
                any |= done;
            }
            assert_eq!(code, Some(i32::from(!any)), "{told}");
            heard.push(any);
        }
    }
    assert!(heard.contains(&true) && heard.contains(&false));
    let (_, told) = host.explain(&stack, &bob.name, &["group", "7"]);
    let from = told["publish"]["decided_by"]["from"].as_str().expect("a place");
    assert_eq!(told["publish"]["decided_by"]["entry"], "!ws.group.7.publish");
    assert!(from.starts_with("access.limited_acl (group "), "{from}");
    let (code, told) = host.explain(&stack, "terminal/7", &["group", "7"]);
    assert_eq!((code, &told["subscribe"]["answer"]), (Some(2), &json!("unknown")));
}
