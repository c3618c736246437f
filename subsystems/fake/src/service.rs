//! The four methods, which do as they are told.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use doorward_proto::subsystem::v1 as wire;
use futures_util::stream::{Stream, StreamExt as _, poll_fn};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{interval, sleep};
use tonic::{Code, Request, Response, Status};

use crate::script::{Act, Burst, Described, Script};

/// Unread events and progress: enough that whoever reads slowly is seen to.
const QUEUE: usize = 64;

type Parts<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The subsystem; clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Fake {
    namespace: String,
    name: String,
    script: Option<PathBuf>,
    listener: Arc<Mutex<Option<mpsc::Sender<wire::Event>>>>,
}

/// Tells how a call ended.
struct Tells {
    /// None if nobody is to hear of it.
    call: Option<String>,
    ended: bool,
}

impl Tells {
    fn of(request: &wire::CallRequest, act: &Act) -> Tells {
        let call = (!act.quiet).then(|| format!("{} {}", request.action, request.request_id));
        if let Some(call) = &call {
            println!("began {call}");
        }
        Tells { call, ended: false }
    }
}

impl Drop for Tells {
    fn drop(&mut self) {
        if let Some(call) = &self.call {
            println!("{} {call}", if self.ended { "ended" } else { "dropped" });
        }
    }
}

/// Even the shortest sleep lasts until a timer rings.
async fn pause(milliseconds: u64) {
    if milliseconds > 0 {
        sleep(Duration::from_millis(milliseconds)).await;
    }
}

impl Fake {
    pub(crate) fn new(namespace: &str, name: &str, script: Option<PathBuf>) -> Fake {
        Fake { namespace: namespace.to_owned(), name: name.to_owned(), script, listener: Arc::default() }
    }

    fn script(&self) -> Result<Script, Status> {
        let Some(file) = &self.script else { return Ok(Script::default()) };
        let text = std::fs::read_to_string(file).map_err(|error| Status::internal(error.to_string()))?;
        toml::from_str(&text).map_err(|error| Status::internal(error.to_string()))
    }

    async fn burst(&self, burst: &Burst) {
        let mut clock = burst
            .per_second
            .and_then(|rate| Duration::from_secs(1).checked_div(rate))
            .map(|pause| interval(pause.max(Duration::from_micros(1))));
        for number in 0..burst.count {
            if let Some(clock) = &mut clock {
                clock.tick().await;
            }
            let args = match &burst.garbage {
                Some(garbage) => garbage.clone().into_bytes(),
                None => bytes(&json!({ "number": number, "text": "x".repeat(burst.size) })),
            };
            let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(listener) = listener {
                let _ = listener.send(wire::Event { name: burst.event.clone(), args }).await;
            }
        }
    }

    /// Does what comes before the answer.
    async fn act(&self, act: &Act, progress: Option<&mpsc::Sender<wire::call_part::Part>>) {
        if let Some(burst) = &act.burst {
            self.burst(burst).await;
        }
        for step in 0..act.steps {
            pause(act.step_ms).await;
            if let Some(progress) = progress {
                let part = match &act.step_garbage {
                    Some(garbage) => garbage.clone().into_bytes(),
                    None => bytes(
                        &json!({ "step": step + 1, "of": act.steps, "text": "x".repeat(act.step_size) }),
                    ),
                };
                let _ = progress.send(wire::call_part::Part::Progress(part)).await;
            }
        }
        pause(act.delay_ms).await;
        if act.hang {
            std::future::pending::<()>().await;
        }
        if act.crash {
            println!("crashing");
            std::process::exit(70);
        }
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn act_of(request: &wire::CallRequest) -> Act {
    serde_json::from_slice(&request.args).unwrap_or_default()
}

fn status(code: Option<i32>) -> Result<(), Status> {
    code.map_or(Ok(()), |code| Err(Status::new(Code::from_i32(code), "as it was told")))
}

/// The answer: None where there is to be none.
fn answer(act: &Act, request: &wire::CallRequest) -> Option<Result<Vec<u8>, wire::Failure>> {
    if act.nothing {
        return None;
    }
    if let Some(code) = act.code {
        return Some(Err(wire::Failure { code, message: act.message.clone() }));
    }
    if act.not_utf8 {
        return Some(Ok(b"\"\xff\xfe\"".to_vec()));
    }
    if let Some(garbage) = &act.garbage {
        return Some(Ok(garbage.clone().into_bytes()));
    }
    if let Some(size) = act.size {
        return Some(Ok(bytes(&json!("x".repeat(size)))));
    }
    if let Some(depth) = act.depth {
        return Some(Ok(["[".repeat(depth), "]".repeat(depth)].concat().into_bytes()));
    }
    if let Some(answer) = &act.answer {
        return Some(Ok(bytes(answer)));
    }
    // What the assertion says is shown; nothing of it is checked.
    let claims = request.assertion.split('.').nth(1).and_then(|body| URL_SAFE_NO_PAD.decode(body).ok());
    let claims = claims.and_then(|body| serde_json::from_slice::<Value>(&body).ok());
    Some(Ok(bytes(&json!({
        "action": request.action, "args": serde_json::from_slice::<Value>(&request.args).ok(),
        "claims": claims, "request_id": request.request_id, "deadline_ms": request.deadline_ms,
    }))))
}

fn usual() -> Vec<Described> {
    let action = |name: &str, right: &str, streams: bool| Described {
        name: name.to_owned(),
        right: right.to_owned(),
        help: "Does what its args say".to_owned(),
        streams,
        schema: String::new(),
    };
    vec![
        action("read", "read", false),
        action("write", "write", false),
        action("read-long", "read", true),
        action("write-long", "write", true),
    ]
}

fn described(action: Described) -> wire::Action {
    let right = match action.right.as_str() {
        "read" => wire::Right::Read,
        "write" => wire::Right::Write,
        _ => wire::Right::Unspecified,
    };
    wire::Action {
        name: action.name,
        right: right.into(),
        help: action.help,
        streams: action.streams,
        args_schema: action.schema,
    }
}

#[tonic::async_trait]
impl wire::subsystem_server::Subsystem for Fake {
    async fn describe(
        &self,
        _: Request<wire::DescribeRequest>,
    ) -> Result<Response<wire::Description>, Status> {
        let script = self.script()?;
        pause(script.delay_ms).await;
        if script.hang {
            std::future::pending::<()>().await;
        }
        status(script.status)?;
        let event = |name: String| wire::EventKind { name, help: "As it was told".to_owned() };
        let events = script.events.unwrap_or_else(|| vec!["fake".to_owned()]);
        Ok(Response::new(wire::Description {
            namespace: script.namespace.unwrap_or_else(|| self.namespace.clone()),
            name: script.name.unwrap_or_else(|| self.name.clone()),
            version: script.version.unwrap_or_else(|| "0".to_owned()),
            help: script.help.unwrap_or_else(|| "Misbehaves as it is told".to_owned()),
            actions: script.actions.unwrap_or_else(usual).into_iter().map(described).collect(),
            events: events.into_iter().map(event).collect(),
        }))
    }

    async fn call(&self, request: Request<wire::CallRequest>) -> Result<Response<wire::CallReply>, Status> {
        use wire::call_reply::Outcome;
        let request = request.into_inner();
        let act = act_of(&request);
        let mut tells = Tells::of(&request, &act);
        self.act(&act, None).await;
        tells.ended = true;
        status(act.status)?;
        let outcome =
            answer(&act, &request).map(|answer| answer.map_or_else(Outcome::Failure, Outcome::Result));
        Ok(Response::new(wire::CallReply { outcome }))
    }

    type CallStreamStream = Parts<wire::CallPart>;

    async fn call_stream(
        &self,
        request: Request<wire::CallRequest>,
    ) -> Result<Response<Self::CallStreamStream>, Status> {
        use wire::call_part::Part;
        let (request, fake) = (request.into_inner(), self.clone());
        let (progress, mut told) = mpsc::channel(QUEUE);
        let act = act_of(&request);
        let tells = Tells::of(&request, &act);
        // Polled with the stream and dropped with it: whoever leaves ends the work.
        let mut work = Box::pin(async move {
            // All of it, so that it is dropped with the work.
            let mut tells = tells;
            fake.act(&act, Some(&progress)).await;
            tells.ended = true;
            status(act.status)?;
            Ok::<_, Status>(
                answer(&act, &request).map(|answer| answer.map_or_else(Part::Failure, Part::Result)),
            )
        });
        let mut last = None;
        let parts = poll_fn(move |context| {
            use std::task::Poll;
            if last.is_none()
                && let Poll::Ready(ended) = work.as_mut().poll(context)
            {
                last = Some(Some(ended));
            }
            match (told.poll_recv(context), &mut last) {
                (Poll::Ready(Some(part)), _) => Poll::Ready(Some(Ok(Some(part)))),
                (_, Some(last)) => Poll::Ready(last.take()),
                _ => Poll::Pending,
            }
        });
        let parts = parts.filter_map(async |part: Result<Option<Part>, Status>| {
            part.map(|part| part.map(|part| wire::CallPart { part: Some(part) })).transpose()
        });
        Ok(Response::new(Box::pin(parts)))
    }

    type EventsStream = Parts<wire::Event>;

    async fn events(&self, _: Request<wire::EventsRequest>) -> Result<Response<Self::EventsStream>, Status> {
        let (listener, mut told) = mpsc::channel(QUEUE);
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(listener);
        println!("listening");
        Ok(Response::new(Box::pin(poll_fn(move |context| told.poll_recv(context)).map(Ok))))
    }
}
