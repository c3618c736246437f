//! Channels about which a handler decides, over a WebSocket.
//!
//! The handler lets everybody hear pk `3` and what begins with `may`, and say everything but `"no"`. It takes as long to
//! answer as a number that is said has milliseconds. Of actions it knows `status`, which it answers, and passes on to
//! pk `3`; `elsewhere`, which it passes on to the channel that the message names; `often`, which it passes on 16 times;
//! `wait`, which it answers when the test says so; `deny`, `hang`, and `garbage`; `later` is `status` after a while. What else it does its state says.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use doorward_launch::Identity;
use doorward_proto::channel::v1::{
    self as proto,
    channel_handler_server::{ChannelHandler, ChannelHandlerServer},
    message_reply::Outcome,
};
use serde_json::json;
use tokio::{net::UnixListener, sync::watch};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Request, Response, Status};

use crate::support::{Client, Gateway, until, until_async};

#[derive(Clone, Default)]
pub(crate) struct Handler(Arc<Mutex<State>>);

#[derive(Default)]
pub(crate) struct State {
    pub(crate) assertions: Vec<String>,
    online: u32,
    offline: Vec<Vec<u8>>,
    /// Nobody hears anything any more.
    strict: bool,
    /// It takes a while to note who has come.
    slow: bool,
    /// Questions who may hear something have no answer.
    hangs: bool,
    /// How many of them there were.
    asked: usize,
    /// How many wait to be answered, and whether they are.
    waiting: usize,
    answers: watch::Sender<bool>,
}

impl Handler {
    pub(crate) fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().expect("not poisoned")
    }
}

#[tonic::async_trait]
impl ChannelHandler for Handler {
    async fn can_subscribe(
        &self,
        request: Request<proto::CanSubscribeRequest>,
    ) -> Result<Response<proto::CanSubscribeReply>, Status> {
        let asked = request.into_inner().asked.expect("said");
        let hangs = {
            let mut state = self.state();
            state.assertions.push(asked.assertion);
            state.asked += 1;
            if state.strict {
                return Ok(Response::new(proto::CanSubscribeReply::default()));
            }
            state.hangs
        };
        if hangs {
            std::future::pending::<()>().await;
        }
        let pks = match asked.pk {
            None => vec!["3".to_owned(), "may".to_owned()],
            // Of another one, too, which the client did not ask for.
            Some(pk) if pk == "3" || pk.starts_with("may") => vec![pk, "of-others".to_owned()],
            Some(_) => vec!["3".to_owned()],
        };
        Ok(Response::new(proto::CanSubscribeReply { pks, whole: false }))
    }

    async fn can_publish(
        &self,
        request: Request<proto::CanPublishRequest>,
    ) -> Result<Response<proto::CanPublishReply>, Status> {
        let message = request.into_inner().message;
        if let Some(wait) = std::str::from_utf8(&message).ok().and_then(|text| text.parse().ok()) {
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
        Ok(Response::new(proto::CanPublishReply { allowed: message != b"\"no\"" }))
    }

    async fn on_message(
        &self,
        request: Request<proto::MessageRequest>,
    ) -> Result<Response<proto::MessageReply>, Status> {
        let request = request.into_inner();
        let outcome = match request.action.as_str() {
            action @ ("status" | "later") => {
                if action == "later" {
                    tokio::time::sleep(A_WHILE).await;
                }
                let reply = b"{\"status\": \"good\"}".to_vec();
                Outcome::Handled(proto::Handled { reply, publications: vec![passed_on("")] })
            }
            "elsewhere" => {
                let message: serde_json::Value = serde_json::from_slice(&request.message).expect("JSON");
                let publications =
                    vec![passed_on(""), passed_on(message["where"].as_str().expect("a channel"))];
                Outcome::Handled(proto::Handled { reply: b"{}".to_vec(), publications })
            }
            "wait" => {
                let mut answers = self.state().answers.subscribe();
                self.state().waiting += 1;
                answers.wait_for(|answers| *answers).await.expect("the state outlives this");
                self.state().waiting -= 1;
                Outcome::Handled(proto::Handled { reply: b"{}".to_vec(), publications: Vec::new() })
            }
            "often" => Outcome::Handled(proto::Handled {
                reply: b"{}".to_vec(),
                publications: vec![passed_on(""); 16],
            }),
            "deny" => Outcome::Forbidden(proto::Forbidden {}),
            "hang" => std::future::pending().await,
            "garbage" => Outcome::Handled(proto::Handled { reply: b"{".to_vec(), publications: Vec::new() }),
            _ => Outcome::Unsupported(proto::Unsupported {}),
        };
        Ok(Response::new(proto::MessageReply { outcome: Some(outcome) }))
    }

    async fn on_online(
        &self,
        _: Request<proto::OnlineRequest>,
    ) -> Result<Response<proto::OnlineReply>, Status> {
        let slow = self.state().slow;
        if slow {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        self.state().online += 1;
        Ok(Response::new(proto::OnlineReply { presence: b"here".to_vec() }))
    }

    async fn on_offline(
        &self,
        request: Request<proto::OfflineRequest>,
    ) -> Result<Response<proto::OfflineReply>, Status> {
        self.state().offline.push(request.into_inner().presence);
        Ok(Response::new(proto::OfflineReply {}))
    }
}

/// Less than the deadline.
const A_WHILE: Duration = Duration::from_secs(2);

fn passed_on(channel: &str) -> proto::Publication {
    let (pk, message) = (Some("3".into()), b"\"passed on\"".to_vec());
    proto::Publication { pk, message, channel: channel.to_owned() }
}

struct Scene {
    gateway: Gateway,
    handler: Handler,
    _place: tempfile::TempDir,
    _task: AbortOnDropHandle<()>,
}

pub(crate) fn serve(handler: &Handler, socket: &Path) -> AbortOnDropHandle<()> {
    let listener = UnixListener::bind(socket).expect("bound");
    let serving = tonic::transport::Server::builder()
        .add_service(ChannelHandlerServer::new(handler.clone()))
        .serve_with_incoming(UnixListenerStream::new(listener));
    AbortOnDropHandle::new(tokio::spawn(async move { serving.await.expect("it serves") }))
}

impl Scene {
    /// The table says something else now.
    async fn reload(&self, change: impl FnOnce(String) -> String) {
        let file = &self.gateway.config.channels.file;
        let table = std::fs::read_to_string(file).expect("it is there");
        std::fs::write(file, change(table)).expect("written");
        self.gateway.reload().await;
    }

    /// It decides about `group`, and about `user`, of which it hears who comes and goes. `ward` is another's, of the same
    /// account; `hall` has none.
    async fn start() -> Self {
        Self::start_with(100).await
    }

    /// One connection may say so much in a second.
    async fn start_with(publishes: u32) -> Self {
        let place = tempfile::TempDir::new().expect("a directory");
        let socket = place.path().join("handler.sock");
        let handler = Handler::default();
        let task = serve(&handler, &socket);
        let uid = Identity::current().uid;
        let one = format!("{{ socket = {socket:?}, user = \"{uid}\", seconds = 5 }}");
        let table = format!(
            "[channels.group]\nhandler = {one}\n[channels.user]\npublish = \"nobody\"\nhandler = {one}\n\
             [channels.ward]\nsubscribe = \"member\"\nhandler = {{ socket = \"/none\", user = \"{uid}\" }}\n\
             [channels.hall]\nsubscribe = \"member\"\n"
        );
        let gateway = Gateway::start_with(move |config| {
            config.channels.file = config.state_dir.with_file_name("channels.toml");
            std::fs::write(&config.channels.file, table).expect("written");
            config.limits.publishes = publishes;
        });
        Self { gateway: gateway.await, handler, _place: place, _task: task }
    }
}

fn error(text: &str, code: u16) -> String {
    format!(r#"{{"channel":"group","message":{{"error":"{text}","code":{code}}}}}"#)
}

#[tokio::test]
async fn a_client_hears_what_the_handler_allows_of_what_it_asked_for() {
    let scene = Scene::start().await;
    let mut client = scene.gateway.channels().await;
    let subscribe = |pk: &str| json!({"action": "subscribe", "channel": "group", "pk": pk});
    let denied = error("subscribe permission denied", 403);
    assert_eq!(client.says(subscribe("3")).await, denied, "nobody asks for who is not logged in");
    assert!(scene.handler.state().assertions.is_empty());
    client.is_user("alice").await;
    let subscribed = |status: u32, pk: &str| {
        format!(r#"{{"name":"subscribed","channel":"group","status":{status},"pk":"{pk}"}}"#)
    };
    assert_eq!(client.says(subscribe("3")).await, subscribed(2, "3"));
    assert_eq!(client.says(subscribe("4")).await, denied);
    let all = json!({"action": "resubscribe", "channels": [{"channel": "group", "pk": "maybe"}, {"channel": "group", "pk": "4"}]});
    assert_eq!(client.says(all).await, subscribed(3, "maybe"));
    assert_eq!(client.text().await, denied);
    assert_eq!(client.says(json!({"action": "subscribe", "channel": "group"})).await, subscribed(3, "3"));
    assert_eq!(client.text().await, subscribed(4, "may"));
    for assertion in &scene.handler.state().assertions {
        assert!(assertion.contains(" channel/group "), "{assertion}");
    }
}

#[tokio::test]
async fn messages_keep_their_order_however_long_the_handler_takes_for_each() {
    let scene = Scene::start().await;
    let mut client = scene.gateway.channels().await;
    client.is_user("alice").await;
    client.says(json!({"action": "subscribe", "channel": "group", "pk": 3})).await;
    let said = [200, 20, 100, 0, 50];
    for wait in said {
        client
            .send(json!({"action": "publish", "channel": "group", "pk": 3, "message": wait}).to_string())
            .await;
    }
    for wait in said {
        assert_eq!(client.text().await, format!(r#"{{"channel":"group","pk":"3","message":{wait}}}"#));
    }
    let refused = json!({"action": "publish", "channel": "group", "pk": 3, "message": "no"});
    assert_eq!(client.says(refused).await, error("publish permission denied", 403));
}

#[tokio::test]
async fn custom_messages_are_the_handlers_and_what_it_does_wrong_is_a_refusal() {
    let scene = Scene::start().await;
    let mut client = scene.gateway.channels().await;
    client.is_user("alice").await;
    let mut other = scene.gateway.channels().await;
    other.is_user("bob").await;
    other.says(json!({"action": "subscribe", "channel": "group", "pk": 3})).await;
    let custom = |action: &str| json!({"action": action, "channel": "group", "pk": 3});
    let answer = r#"{"channel":"group","pk":"3","message":{"status": "good"}}"#;
    assert_eq!(client.says(custom("status")).await, answer, "to it alone");
    assert_eq!(other.text().await, r#"{"channel":"group","pk":"3","message":"passed on"}"#);
    let refused = error("cannot publish to channel", 403);
    for action in ["deny", "hang", "garbage"] {
        assert_eq!(client.says(custom(action)).await, refused, "{action}");
    }
    let unknown = error("channel does not support onWS4RedisMessage", 404);
    assert_eq!(client.says(custom("dance")).await, unknown);
    client.hears_nothing().await;
    other.hears_nothing().await;
}

#[tokio::test]
async fn what_a_handler_says_elsewhere_is_heard_where_it_decides_and_nowhere_else() {
    let scene = Scene::start().await;
    let mut client = scene.gateway.channels().await;
    client.is_user("alice").await;
    let mut other = scene.gateway.channels().await;
    other.is_user("bob").await;
    for channel in ["user", "group", "ward", "hall"] {
        let told = other.says(json!({"action": "subscribe", "channel": channel, "pk": 3})).await;
        assert!(told.contains("subscribed"), "{told}");
    }
    let said = |channel: &str| json!({"action": "elsewhere", "channel": "group", "pk": 3, "where": channel});
    let refused = error("cannot publish to channel", 403);
    for channel in ["ward", "hall", "none", "system", "a:b"] {
        assert_eq!(client.says(said(channel)).await, refused, "{channel}");
    }
    assert_eq!(client.says(said("user")).await, r#"{"channel":"group","pk":"3","message":{}}"#);
    // Nothing of what was refused was said, not even on its own channel.
    for channel in ["group", "user"] {
        let heard = format!(r#"{{"channel":"{channel}","pk":"3","message":"passed on"}}"#);
        assert_eq!(other.text().await, heard);
    }
    other.hears_nothing().await;
}

#[tokio::test]
async fn what_a_handler_says_has_a_bound_whoever_makes_it_say_that() {
    let scene = Scene::start_with(1).await;
    let mut other = scene.gateway.channels().await;
    other.is_user("carol").await;
    other.says(json!({"action": "subscribe", "channel": "group", "pk": 3})).await;
    let custom = |action: &str| json!({"action": action, "channel": "group", "pk": 3});
    let mut alice = scene.gateway.channels().await;
    alice.is_user("alice").await;
    assert_eq!(alice.says(custom("often")).await, error("too many messages", 429), "16 of ten");
    let mut bob = scene.gateway.channels().await;
    bob.is_user("bob").await;
    let answer = r#"{"channel":"group","pk":"3","message":{"status": "good"}}"#;
    assert_eq!(bob.says(custom("status")).await, answer, "nothing of it was said or counted");
    assert_eq!(other.text().await, r#"{"channel":"group","pk":"3","message":"passed on"}"#);
    other.hears_nothing().await;
}

#[tokio::test]
async fn whoever_does_not_read_what_was_answered_keeps_nobody_else_from_asking() {
    let scene = Scene::start_with(10_000).await;
    scene.reload(|table| table.replace("seconds = 1", "seconds = 10")).await;
    let custom = |action: &str| json!({"action": action, "channel": "group", "pk": 3});
    let mut slow = Vec::new();
    for name in ["number-1", "number-2", "number-3", "number-4"] {
        let mut client = scene.gateway.channels().await;
        client.is_user(name).await;
        for _ in 0..16 {
            client.send(custom("wait").to_string()).await;
        }
        slow.push(client);
    }
    let handler = scene.handler.clone();
    until(|| (handler.state().waiting == 64).then_some(())).await;
    let mut other = scene.gateway.channels().await;
    other.is_user("erin").await;
    let too_many = error("too many messages", 429);
    assert_eq!(other.says(custom("deny")).await, too_many);
    futures_util::future::join_all(slow.iter_mut().map(Client::stops_reading)).await;
    handler.state().answers.send_replace(true);
    until(|| (handler.state().waiting == 0).then_some(())).await;
    until_async(async || other.says(custom("deny")).await != too_many).await;
    assert_eq!(other.says(custom("deny")).await, error("cannot publish to channel", 403));
    // What they have not taken is their own still.
    let mut own = scene.gateway.channels().await;
    own.is_user("number-1").await;
    assert_eq!(own.says(custom("deny")).await, too_many);
    drop(slow);
    until_async(async || own.says(custom("deny")).await != too_many).await;
}

#[tokio::test]
async fn whoever_comes_and_goes_is_told_of_to_the_handler_of_the_kind() {
    let scene = Scene::start().await;
    let mut client = scene.gateway.channels().await;
    client.is_user("alice").await;
    let handler = scene.handler.clone();
    until(|| (handler.state().online == 1).then_some(())).await;
    assert!(handler.state().offline.is_empty());
    drop(client);
    until(|| (handler.state().offline == [b"here".to_vec()]).then_some(())).await;
}

#[tokio::test]
async fn a_handler_that_is_away_throws_nobody_out_and_its_no_counts_when_it_is_back() {
    let scene = Scene::start().await;
    let mut client = scene.gateway.channels().await;
    client.is_user("alice").await;
    let subscribed = r#"{"name":"subscribed","channel":"group","status":2,"pk":"3"}"#;
    assert_eq!(client.says(json!({"action": "subscribe", "channel": "group", "pk": 3})).await, subscribed);
    // The same table is no reason to ask.
    scene.gateway.reload().await;
    client.hears_nothing().await;
    let handler = scene.handler.clone();
    assert_eq!(handler.state().asked, 1);
    handler.state().hangs = true;
    scene.reload(|table| format!("{table}[channels.more]\nsubscribe = \"member\"\n")).await;
    until(|| (handler.state().asked == 2).then_some(())).await;
    // It is asked again after it was late.
    until(|| (handler.state().asked == 3).then_some(())).await;
    handler.state().hangs = false;
    until(|| (handler.state().asked == 4).then_some(())).await;
    client.send(json!({"action": "publish", "channel": "group", "pk": 3, "message": 0}).to_string()).await;
    assert_eq!(client.text().await, r#"{"channel":"group","pk":"3","message":0}"#, "it hears it still");
    handler.state().strict = true;
    scene.reload(|table| table.replace("channels.more", "channels.less")).await;
    let over = r#"{"name":"unsubscribed","channel":"group","status":1,"pk":"3"}"#;
    assert_eq!(client.text().await, over);
}

#[tokio::test]
async fn a_handler_that_hangs_costs_a_request_one_deadline_however_much_it_names() {
    let scene = Scene::start().await;
    let mut client = scene.gateway.channels().await;
    client.is_user("alice").await;
    scene.handler.state().hangs = true;
    let began = tokio::time::Instant::now();
    let all: Vec<_> = (0..100).map(|pk| json!({"channel": "group", "pk": format!("may{pk}")})).collect();
    client.send(json!({"action": "resubscribe", "channels": all}).to_string()).await;
    for pk in 0..100 {
        assert_eq!(client.text().await, error("subscribe permission denied", 403), "{pk}");
    }
    assert!(began.elapsed() < Duration::from_secs(18), "{:?}", began.elapsed());
    assert!(scene.handler.state().asked <= 4, "{}", scene.handler.state().asked);
}

#[tokio::test]
async fn all_are_told_of_however_many_come_at_once() {
    let scene = Scene::start().await;
    scene.handler.state().slow = true;
    let mut clients = Vec::new();
    // More than one identity may ask at a time.
    for _ in 0..40 {
        let mut client = scene.gateway.channels().await;
        client.is_user("alice").await;
        clients.push(client);
    }
    let handler = scene.handler.clone();
    until(|| (handler.state().online == 40).then_some(())).await;
    drop(clients);
    until(|| (handler.state().offline.len() == 40).then_some(())).await;
}

/// Somebody who hears `group`, and somebody else, who says something there that the handler thinks about for a while.
async fn thinking(scene: &Scene, said: serde_json::Value) -> (Client, Client) {
    let mut other = scene.gateway.channels().await;
    other.is_user("carol").await;
    other.says(json!({"action": "subscribe", "channel": "group", "pk": 3})).await;
    let mut client = scene.gateway.channels().await;
    client.is_user("alice").await;
    client.send(said.to_string()).await;
    client.hears_nothing().await;
    (client, other)
}

/// What is thought about, and how it is refused.
fn thoughts() -> [(serde_json::Value, String); 2] {
    let wait = u64::try_from(A_WHILE.as_millis()).expect("small");
    [
        (
            json!({"action": "publish", "channel": "group", "pk": 3, "message": wait}),
            error("publish permission denied", 403),
        ),
        (json!({"action": "later", "channel": "group", "pk": 3}), error("cannot publish to channel", 403)),
    ]
}

#[tokio::test]
async fn what_is_permitted_to_somebody_who_has_gone_is_not_said() {
    let scene = Scene::start().await;
    for (said, refused) in thoughts() {
        let (mut client, mut other) = thinking(&scene, said).await;
        let over = r#"{"name":"unsubscribed","channel":"user","status":0,"pk":"alice"}"#;
        assert_eq!(client.says(json!({"action": "auth", "kind": "terminal", "token": "t-1"})).await, over);
        assert!(client.text().await.starts_with(r#"{"name":"subscribed","channel":"terminal","#));
        assert_eq!(client.text().await, refused);
        other.hears_nothing().await;
    }
}

#[tokio::test]
async fn what_is_permitted_where_the_table_forbids_it_by_now_is_not_said() {
    for (said, refused) in thoughts() {
        let scene = Scene::start().await;
        let (mut client, mut other) = thinking(&scene, said).await;
        scene
            .reload(|table| table.replace("[channels.group]", "[channels.group]\npublish = \"nobody\""))
            .await;
        assert_eq!(client.text().await, refused);
        other.hears_nothing().await;
    }
}
