//! Several gateways with one Redis: what is published at one of them, all hear.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use doorward_tests::client::Received;
use doorward_tests::{Client, Options, Pam, Program, Role, Stack, skip};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{TcpListener, UnixStream};

use crate::redis_server::Redis;

/// A Redis, and who may do what.
struct Scene {
    redis: Redis,
    place: TempDir,
}

impl Scene {
    fn new() -> Option<Self> {
        let redis = Redis::start()?;
        let place = tempfile::Builder::new().prefix("dwt").tempdir().expect("a temporary directory");
        std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o755)).expect("ours");
        let table = "[channels.room]\nsubscribe = \"member\"\npublish = \"member\"\n";
        std::fs::write(place.path().join("channels.toml"), table).expect("written");
        Some(Self { redis, place })
    }

    fn options(&self) -> Options {
        let table = self.place.path().join("channels.toml").to_str().expect("UTF-8").to_owned();
        Options::new(if skip::is_root() { Pam::Real } else { Pam::Wrapper })
            .gateway("channels.file", table)
            .gateway("channels.engine", "redis")
            .gateway("redis.prefix", "ws")
            .gateway("limits.publishes", 1_000_000)
            .gateway("limits.in_flight", 1_024)
    }

    /// A gateway that reaches it by its Unix socket.
    fn stack(&self) -> Option<Stack> {
        let socket = self.redis.socket().to_str().expect("UTF-8").to_owned();
        let own = rustix::process::geteuid().as_raw().to_string();
        Stack::start(&self.options().gateway("redis.socket", socket).gateway("redis.socket_user", own))
    }

    /// One that reaches it by TCP, which takes a hole in its confinement.
    async fn stack_over_tcp(&self) -> Option<Stack> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let url = format!("redis://{}", listener.local_addr().expect("bound"));
        let socket = self.redis.socket();
        tokio::spawn(async move {
            while let Ok((mut tcp, _)) = listener.accept().await {
                // Where there is no Redis the connection is closed again.
                let Ok(mut redis) = UnixStream::connect(&socket).await else { continue };
                tokio::spawn(async move {
                    let _ = tokio::io::copy_bidirectional(&mut tcp, &mut redis).await;
                });
            }
        });
        let options = self.options().gateway("redis.url", url);
        tokio::task::spawn_blocking(move || Stack::start(&options)).await.expect("it runs")
    }
}

async fn member(stack: &Stack) -> Client {
    let mut client = Client::unix(stack).await;
    client.login(stack.person(Role::Full)).await.expect("a login");
    client
}

/// Returns when messages are sure to arrive: told so, or told that an interruption is over.
async fn subscribe(client: &mut Client) {
    client.send(r#"{"action": "subscribe", "channel": "room", "pk": 1}"#).await;
    assert_eq!(client.json().await["name"], "subscribed");
}

async fn subscriber(stack: &Stack) -> Client {
    let mut client = member(stack).await;
    subscribe(&mut client).await;
    client
}

async fn publish(client: &mut Client, message: Value) -> Value {
    let text = json!({"action": "publish", "channel": "room", "pk": 1, "id": "p", "message": message});
    client.send(&text.to_string()).await;
    client.json().await
}

async fn hears(client: &mut Client, message: &Value) {
    assert_eq!(client.json().await, json!({"channel": "room", "pk": "1", "message": message}));
}

fn published() -> Value {
    json!({"id": "p", "name": "published", "channel": "room"})
}

/// The message about delivery with this code.
async fn is_told(client: &mut Client, code: u64) {
    let told = client.json().await;
    assert_eq!((&told["channel"], &told["message"]["code"]), (&json!("system"), &json!(code)), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn three_gateways_and_one_redis_bring_each_message_once_and_in_order() {
    /// Of one publisher in a round: no subscriber's queue can overflow.
    const ROUND: usize = 100;
    let rounds = (if skip::long() { 100_000_usize } else { 10_000 }).div_ceil(3 * ROUND);
    let Some(scene) = Scene::new() else { return };
    let (mut publishers, mut subscribers, mut stacks) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..3 {
        let Some(stack) = scene.stack() else { return };
        publishers.push(member(&stack).await);
        subscribers.push(subscriber(&stack).await);
        subscribers.push(subscriber(&stack).await);
        stacks.push(stack);
    }
    let mut next = [[0_usize; 3]; 6];
    for round in 0..rounds {
        let publishing = publishers.iter_mut().enumerate().map(async |(from, client)| {
            for number in round * ROUND..(round + 1) * ROUND {
                let mut text =
                    json!({"action": "publish", "channel": "room", "pk": 1, "message": [from, number]});
                if number % ROUND == ROUND - 1 {
                    text["id"] = json!("p");
                }
                client.send(&text.to_string()).await;
            }
            assert_eq!(client.json().await, published(), "and nothing before it, which would be an error");
        });
        let hearing = subscribers.iter_mut().zip(&mut next).map(async |(client, next)| {
            for _ in 0..3 * ROUND {
                let heard = client.json().await;
                let from = heard["message"][0].as_u64().and_then(|from| usize::try_from(from).ok());
                let expected = &mut next[from.unwrap_or_else(|| panic!("{heard}"))];
                assert_eq!(heard["message"][1], json!(*expected), "each once, in order: {heard}");
                *expected += 1;
            }
        });
        tokio::join!(join_all(publishing), join_all(hearing));
    }
    assert_eq!(next, [[rounds * ROUND; 3]; 6]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_killed_is_told_of_and_when_it_is_back_nothing_is_lost() {
    let Some(mut scene) = Scene::new() else { return };
    let (Some(one), Some(other)) = (scene.stack(), scene.stack_over_tcp().await) else { return };
    let (mut near, mut far) = (subscriber(&one).await, subscriber(&other).await);
    let mut publisher = member(&one).await;
    // Existing programs on the same keys, in both directions.
    let mut cli = scene.redis.command(&["SUBSCRIBE", "ws:room:1:events"]);
    let mut cli = cli.stdout(Stdio::piped()).spawn().expect("redis-cli");
    let mut lines = BufReader::new(cli.stdout.take().expect("piped")).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains('1')), "subscribed");
    assert_eq!(publish(&mut publisher, json!({"n": 1})).await, published());
    assert!(lines.any(|line| line == r#"{"n":1}"# || line == r#"{"n": 1}"#));
    cli.kill().and_then(|()| cli.wait()).expect("ours");
    scene.redis.publish("ws:room:1:events", b"no \xff JSON");
    for client in [&mut near, &mut far] {
        hears(client, &json!({"n": 1})).await;
        hears(client, &json!("no \u{fffd} JSON")).await;
    }

    scene.redis.kill();
    is_told(&mut near, 503).await;
    is_told(&mut far, 503).await;
    let refused = publish(&mut publisher, json!(2)).await;
    assert_eq!(refused["message"]["code"], 503, "{refused}");
    scene.redis.restart();
    is_told(&mut near, 200).await;
    is_told(&mut far, 200).await;
    // The connection that publishes is another one, which may come a moment later.
    while publish(&mut publisher, json!(3)).await != published() {}
    for number in 4..200 {
        assert_eq!(publish(&mut publisher, json!(number)).await, published());
    }
    for client in [&mut near, &mut far] {
        for number in 3..200 {
            hears(client, &json!(number)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_killed_takes_nobody_along() {
    let Some(scene) = Scene::new() else { return };
    let (Some(mut one), Some(other)) = (scene.stack(), scene.stack()) else { return };
    let (mut lost, mut stays) = (subscriber(&one).await, subscriber(&other).await);
    let (mut doomed, mut publisher) = (member(&one).await, member(&other).await);
    assert_eq!(publish(&mut doomed, json!(1)).await, published());
    hears(&mut lost, &json!(1)).await;
    hears(&mut stays, &json!(1)).await;
    one.kill(Program::Gateway);
    assert!(matches!(lost.receive().await, Received::Closed(_)));
    assert_eq!(publish(&mut publisher, json!(2)).await, published());
    hears(&mut stays, &json!(2)).await;
    one.start_again(Program::Gateway);
    let mut back = member(&one).await;
    subscribe(&mut back).await;
    // It may have come before its gateway had reached Redis: then it is told so, and of the end.
    let text = json!({"action": "publish", "channel": "room", "pk": 1, "message": 3}).to_string();
    publisher.send(&text).await;
    hears(&mut stays, &json!(3)).await;
    loop {
        let heard = back.json().await;
        match heard["message"]["code"].as_u64() {
            Some(503) => {}
            Some(200) => publisher.send(&text).await,
            _ => {
                assert_eq!(heard, json!({"channel": "room", "pk": "1", "message": 3}));
                break;
            }
        }
    }
}
