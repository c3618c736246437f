//! What is explained of the table of channels is what the gateway then does.

use std::collections::BTreeMap;

use doorward_gateway::channels;
use doorward_launch::Identity;
use serde_json::{Value, json};

use crate::{
    channel_handlers::{Handler, serve},
    channels::gateway_with,
    support::{Client, Gateway},
};

const TABLE: &str = r#"
    [channels.news]
    subscribe = "anyone"
    publish = "anyone"
    [channels.hall]
    subscribe = "member"
    publish = "nobody"
    [channels.group]
    subscribe = "acl"
    publish = "acl"
    [channels.desk]
    subscribe = ["ws.desk.me.#", "!ws.desk.1001.#"]
    publish = ["ws.desk._.publish"]
    [channels.terminal]
    publish = ["ws.terminal.me.publish"]
    [channels.bare]
    [channels.asked]
"#;

const PLACES: [&str; 15] = [
    "news",
    "hall",
    "hall/7",
    "group/7",
    "group/8",
    "group/t-7",
    "desk",
    "desk/1000",
    "desk/1001",
    "terminal/t-7",
    "terminal/t-8",
    "bare",
    "asked/3",
    "asked/4",
    "elsewhere/1",
];

fn address(place: &str) -> (&str, Option<&str>) {
    place.split_once('/').map_or((place, None), |(channel, pk)| (channel, Some(pk)))
}

/// What is said of it, without a word to the running gateway.
fn explained(gateway: &Gateway, who: &Value, place: &str) -> Value {
    let (channel, pk) = address(place);
    let question = json!({"who": who, "channel": channel, "pk": pk}).to_string();
    let answer = channels::explain(&gateway.config.channels.file, &question).expect("an answer");
    serde_json::from_str(&answer).expect("JSON")
}

/// Whether it is done.
async fn may(client: &mut Client, action: &str, place: &str, message: Value) -> bool {
    let (channel, pk) = address(place);
    let asked = json!({"action": action, "channel": channel, "pk": pk, "message": message, "id": "m"});
    client.send(asked.to_string()).await;
    let reply = client.reply().await;
    match (reply["name"].as_str(), reply["message"]["code"].as_u64()) {
        (Some("subscribed" | "published"), None) => true,
        (None, Some(403)) => false,
        _ => panic!("{asked}: {reply}"),
    }
}

async fn leaves(client: &mut Client, place: &str) {
    let (channel, pk) = address(place);
    client.send(json!({"action": "unsubscribe", "channel": channel, "pk": pk}).to_string()).await;
    assert_eq!(client.reply().await["name"], "unsubscribed");
}

#[tokio::test]
async fn what_is_explained_is_what_is_done() {
    let place = tempfile::TempDir::new().expect("a directory");
    let socket = place.path().join("handler.sock");
    let handler = Handler::default();
    let _task = serve(&handler, &socket);
    let one = format!("handler = {{ socket = {socket:?}, user = \"{}\" }}\n", Identity::current().uid);
    let gateway = gateway_with(&format!("{TABLE}{one}")).await;

    let mut thing = gateway.channels().await;
    thing.says(json!({"action": "auth", "kind": "terminal", "token": "t-7"})).await;
    let mut alice = gateway.channels().await;
    alice.is_user("alice").await;
    // As the fake authd knows them.
    let clients = [
        (Value::Null, gateway.channels().await),
        (json!({"kind": "user", "name": "alice", "id": "1000", "entries": ["ws.group.7.#"]}), alice),
        (json!({"kind": "terminal", "id": "t-7", "entries": ["ws.group.me.#"]}), thing),
    ];
    let mut seen = BTreeMap::<String, u32>::new();
    for (who, mut client) in clients {
        for place in PLACES {
            let said = explained(&gateway, &who, place);
            let asked = handler.state().assertions.len();
            let heard = may(&mut client, "subscribe", place, Value::Null).await;
            let asks = handler.state().assertions.len() - asked;
            let context = format!("{who} {place}: {said}");
            match said["subscribe"]["answer"].as_str().expect("text") {
                "yes" => assert!(heard && asks == 0, "{context}"),
                "no" => assert!(!heard && asks == 0, "{context}"),
                "handler" => assert!(heard == (place == "asked/3") && asks == 1, "{context}"),
                other => panic!("{other}: {context}"),
            }
            if heard {
                leaves(&mut client, place).await;
            }
            // The handler refuses this text, and nobody else does.
            let (first, second) = (
                may(&mut client, "publish", place, json!("no")).await,
                may(&mut client, "publish", place, json!("yes")).await,
            );
            let published = match said["publish"]["answer"].as_str().expect("text") {
                "yes" => (true, true),
                "no" => (false, false),
                "handler" => (false, true),
                other => panic!("{other}: {context}"),
            };
            assert_eq!((first, second), published, "{context}");
            for verb in ["subscribe", "publish"] {
                let one = &said[verb];
                *seen.entry(format!("{} by {}", one["answer"], one["rule"])).or_default() += 1;
            }
        }
    }
    for sort in [
        r#""yes" by "anyone""#,
        r#""yes" by "member""#,
        r#""no" by "nobody""#,
        r#""yes" by "acl""#,
        r#""no" by "acl""#,
        r#""yes" by "entries""#,
        r#""no" by "entries""#,
        r#""handler" by null"#,
        r#""no" by null"#,
        r#""yes" by null"#,
    ] {
        assert!(seen.contains_key(sort), "{sort} is not among {seen:?}");
    }
}
