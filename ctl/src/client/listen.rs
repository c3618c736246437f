//! More than one message to a request, or messages that nobody asked for: progress and events.

use std::time::Duration;

use futures_util::SinkExt;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message;

use super::{Client, Reply, connection_lost, outcome};
use crate::error::Error;

/// A server that takes nothing from us for so long is not there.
const SEND_DEADLINE: Duration = Duration::from_secs(30);
/// At least so often the server hears from us, and has to answer.
const BEAT: Duration = Duration::from_secs(30);
/// So many beats without a word from it, and it is gone.
const SILENT_BEATS: u32 = 3;

/// What came.
pub(crate) enum Incoming {
    /// The one answer to the request of this id.
    Answer { id: String, outcome: Result<Value, Error> },
    /// How far the request of this id has come.
    Progress { id: String, args: Value },
    /// What is published, to whoever subscribed.
    Event { name: String, args: Value },
    /// Of a channel.
    Said(Said),
}

/// What is said on a channel, or of it.
pub(crate) struct Said {
    pub(crate) channel: String,
    pub(crate) pk: Option<String>,
    /// What the gateway says of a request; empty where somebody says something, or it refuses one.
    pub(crate) name: String,
    pub(crate) message: Value,
    pub(crate) id: Value,
}

/// A connection on which requests take long, or none is under way. It keeps itself open, and its session.
pub(crate) struct Listener {
    client: Client,
    beat: Duration,
    next: Instant,
    /// Beats in a row without a sign of life.
    silent: u32,
    /// The request that keeps the session, while it is not answered.
    asked: Option<String>,
}

#[derive(Serialize)]
struct Request<'a, A: ?Sized> {
    namespace: &'a str,
    name: &'a str,
    id: &'a str,
    args: &'a A,
}

impl Client {
    /// The same connection for long waits.
    pub(crate) fn listen(self) -> Listener {
        let beat = self.idle.map_or(BEAT, |idle| (idle / 3).clamp(Duration::from_secs(1), BEAT));
        Listener { client: self, beat, next: Instant::now() + beat, silent: 0, asked: None }
    }

    /// Sends a request and does not wait: its id.
    async fn begin<A: Serialize + ?Sized>(
        &mut self,
        namespace: &str,
        name: &str,
        args: &A,
    ) -> Result<String, Error> {
        let id = self.next_id();
        let request = Request { namespace, name, id: &id, args };
        let text = serde_json::to_string(&request)
            .map_err(|error| Error::Failed(format!("the request cannot be written: {error}")))?;
        self.send(Message::text(text)).await?;
        Ok(id)
    }

    async fn send(&mut self, message: Message) -> Result<(), Error> {
        let late = |_| Error::unreachable("the gateway takes nothing from us");
        timeout(SEND_DEADLINE, self.websocket.send(message)).await.map_err(late)?.map_err(connection_lost)
    }
}

impl Listener {
    /// Sends a request and does not wait: its id.
    pub(crate) async fn begin<A: Serialize + ?Sized>(
        &mut self,
        namespace: &str,
        name: &str,
        args: &A,
    ) -> Result<String, Error> {
        self.client.begin(namespace, name, args).await
    }

    /// Sends a message of the dialect of channels and does not wait.
    pub(crate) async fn say<M: Serialize>(&mut self, message: &M) -> Result<(), Error> {
        let text = serde_json::to_string(message)
            .map_err(|error| Error::Failed(format!("the message cannot be written: {error}")))?;
        self.client.send(Message::text(text)).await
    }

    /// The next message. Dropping the future loses none.
    pub(crate) async fn incoming(&mut self) -> Result<Incoming, Error> {
        loop {
            tokio::select! {
                reply = self.client.receive() => match sorted(reply?) {
                    Incoming::Answer { id, outcome } if self.asked.as_deref() == Some(id.as_str()) => {
                        self.asked = None;
                        kept(outcome)?;
                    }
                    other => return Ok(other),
                },
                () = sleep_until(self.next) => self.beat().await?,
            }
        }
    }

    /// Events and a stream's progress do not keep a session alive; nor a connection, if its other end is gone.
    async fn beat(&mut self) -> Result<(), Error> {
        // Beats are counted, not seconds: while we are stopped (Ctrl-Z) nobody is silent.
        self.silent = if std::mem::take(&mut self.client.heard) { 0 } else { self.silent + 1 };
        if self.silent > SILENT_BEATS {
            return Err(Error::unreachable("the gateway does not answer any more"));
        }
        self.next = Instant::now() + self.beat;
        if self.client.idle.is_some() && self.asked.is_none() {
            self.asked = Some(self.client.begin("rpc", "query", &json!({})).await?);
            return Ok(());
        }
        self.client.send(Message::Ping(Vec::new().into())).await
    }

    /// The connection for ordinary requests again. What is still under way is not waited for.
    pub(crate) fn into_client(self) -> Client {
        self.client
    }
}

fn sorted(reply: Reply) -> Incoming {
    if let Reply { channel: Some(channel), pk, name, message, id, .. } = reply {
        return Incoming::Said(Said { channel, pk, name, message, id });
    }
    let id = reply.id.as_str().unwrap_or_default().to_owned();
    match reply.name.as_str() {
        "response" | "error" => Incoming::Answer { id, outcome: outcome(reply) },
        "progress" if !id.is_empty() => Incoming::Progress { id, args: reply.args },
        _ => Incoming::Event { name: reply.name, args: reply.args },
    }
}

/// What the request that keeps the session was answered. A service that is away may come back.
fn kept(outcome: Result<Value, Error>) -> Result<(), Error> {
    match outcome {
        Err(Error::Refused { code: Some(401), .. }) => {
            Err(Error::Refused { code: Some(401), message: "the session has ended".to_owned() })
        }
        _ => Ok(()),
    }
}
