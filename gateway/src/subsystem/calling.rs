//! One call of a subsystem: with authd's word for who calls, within its deadline, and checked before anybody
//! sees what came.

use std::{sync::Arc, time::Duration};

use doorward_proto::subsystem::v1::{
    self as proto, call_part, call_reply, subsystem_client::SubsystemClient,
};
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};
use tonic::transport::Channel;

use super::{
    Standing, Subsystem,
    described::{Action, DEPTH_MAX},
    places::Place,
};
use crate::{
    backend::{Backend, Failure, Pass, failure::shown},
    call::{Error, Secret},
    depth::deeper_than,
    plain::is_plain,
};

/// The largest result, in bytes of JSON.
const RESULT_MAX: usize = 1 << 20;
/// The largest report of progress.
const PROGRESS_MAX: usize = 64 << 10;
/// What a message may have beside them.
const MESSAGE_MORE: usize = 4 << 10;
/// What a call that nobody waits for any more is given to end by itself. Then its stream is reset: not sooner,
/// because a server counts streams that are reset before it has looked at them, and closes the connection.
const GRACE: Duration = Duration::from_millis(250);

/// A call that was found allowed.
#[derive(Debug)]
pub struct Asked {
    pub(super) subsystem: Arc<Subsystem>,
    pub(super) standing: Arc<Standing>,
    pub(super) action: Action,
    pub(super) args: String,
}

/// What came of it so far.
#[derive(Debug)]
pub enum Step {
    /// A report of progress; there is more.
    Progress(Box<RawValue>, Box<Progress>),
    /// All.
    Done(Result<Box<RawValue>, Failure>),
}

/// The first step, and the place, which is its user's own for as long as a result was not taken.
type Begun = (Step, Arc<Place>);

/// A call that reports progress. What is not asked for is not read. It ends when this is dropped.
#[derive(Debug)]
pub struct Progress {
    subsystem: Arc<Subsystem>,
    standing: Arc<Standing>,
    stream: tonic::Streaming<proto::CallPart>,
    due: Instant,
    _place: Arc<Place>,
}

impl Asked {
    /// For an action of this description.
    pub fn new(subsystem: &Arc<Subsystem>, standing: &Arc<Standing>, action: &Action, args: String) -> Self {
        Self {
            subsystem: Arc::clone(subsystem),
            standing: Arc::clone(standing),
            action: action.clone(),
            args,
        }
    }

    /// What rights are asked of.
    pub fn subject(&self) -> Arc<str> {
        Arc::clone(&self.action.subject)
    }

    /// Calls, for the session of `pass`.
    pub async fn begin(self, backend: Arc<Backend>, pass: Option<Pass>, request: String) -> Step {
        let (subsystem, keeper) = (Arc::clone(&self.subsystem), backend.keeper().clone());
        // Others wait for its place, and whoever waits for it may be held up by a client that does not read. It begins here,
        // so that calls of one connection begin in their order.
        let begun = keeper.keep(Duration::ZERO, self.run(backend, pass, request), drop);
        match begun.await {
            // It is taken, so that the place is free for its user, too.
            Ok((step, _place)) => step,
            Err(failure) => Step::Done(Err(about(&subsystem, failure))),
        }
    }

    async fn run(self, backend: Arc<Backend>, pass: Option<Pass>, request: String) -> Result<Begun, Failure> {
        let registration = &self.subsystem.registration;
        let whole = if self.action.told.streams { registration.stream } else { registration.call };
        let due = Instant::now() + whole;
        // Boxed: it is large, and would be copied into each that waits for it.
        let begun = timeout_at(due, Box::pin(self.begin_in_time(&backend, pass, request, due)));
        match self.standing.over.run_until_cancelled(begun).await {
            None => Err(gone()),
            Some(Err(_)) => Err(Failure::late("call")),
            Some(Ok(begun)) => begun,
        }
    }

    async fn begin_in_time(
        &self,
        backend: &Arc<Backend>,
        pass: Option<Pass>,
        request: String,
        due: Instant,
    ) -> Result<Begun, Failure> {
        let pass = pass.ok_or_else(Failure::unheld)?;
        let place = self.subsystem.places.take(pass.auth_id());
        let place = place.ok_or_else(|| Failure::new(Error::TooMany, "too many calls under way"))?;
        let place = Arc::new(place);
        let audience = self.subsystem.name.as_str();
        // Each is good for one write only.
        let writes = self.action.told.right.writes();
        let assertion = match pass.kept_assertion(audience).filter(|_| !writes) {
            Some(kept) => kept,
            None => Box::pin(self.assertion(backend, &pass, audience)).await?,
        };
        let step = match self.ask(backend, assertion, request.clone(), due, &place).await {
            // authd's key may have changed since; nothing was done.
            Err(Failure { error: Error::Unauthorized, .. }) => {
                let assertion = Box::pin(self.assertion(backend, &pass, audience)).await?;
                let answered = Box::pin(self.ask(backend, assertion, request, due, &place));
                answered.await.map_err(|failure| match failure.error {
                    // The session is good, as authd has just said: the client cannot mend this by a login.
                    Error::Unauthorized => Failure::new(Error::Fault, failure.detail),
                    _ => failure,
                })?
            }
            answered => answered?,
        };
        if matches!(step, Step::Done(_)) {
            place.over();
        }
        Ok((step, place))
    }

    async fn assertion(&self, backend: &Backend, pass: &Pass, audience: &str) -> Result<Secret, Failure> {
        match self.action.told.right.writes() {
            true => backend.assertion_for_once(pass, audience).await,
            false => backend.assertion_to_keep(pass, audience).await,
        }
    }

    async fn ask(
        &self,
        backend: &Backend,
        assertion: Secret,
        request_id: String,
        due: Instant,
        place: &Arc<Place>,
    ) -> Result<Step, Failure> {
        let channel = self.subsystem.calls.channel().await?;
        let mut client = SubsystemClient::new(channel)
            .max_decoding_message_size(RESULT_MAX + MESSAGE_MORE)
            .max_encoding_message_size(usize::MAX);
        let left = due.saturating_duration_since(Instant::now());
        let request = proto::CallRequest {
            assertion: assertion.expose().to_owned(),
            action: self.action.told.name.as_ref().to_owned(),
            args: self.args.clone().into_bytes(),
            request_id,
            deadline_ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX),
        };
        let held = Arc::clone(place);
        if !self.action.told.streams {
            let call = async move {
                let _held = held;
                client.call(request).await
            };
            let reply = backend.keeper().keep(GRACE, call, drop).await?.into_inner();
            return Ok(Step::Done(match reply.outcome {
                Some(call_reply::Outcome::Result(result)) => Ok(json(result, RESULT_MAX)?),
                Some(call_reply::Outcome::Failure(failure)) => return Err(failed(&failure)),
                None => return Err(Failure::contract("neither a result nor a failure")),
            }));
        }
        let silence = due.min(Instant::now() + self.subsystem.registration.silence);
        let opened = open(client, request, Arc::clone(place));
        let opened = timeout_at(silence, backend.keeper().keep(GRACE, opened, drop));
        let stream = opened.await.map_err(|_| Failure::late("the first part"))??;
        let progress = Progress {
            subsystem: Arc::clone(&self.subsystem),
            standing: Arc::clone(&self.standing),
            stream,
            due,
            _place: Arc::clone(place),
        };
        progress.part(silence).await
    }
}

async fn open(
    mut client: SubsystemClient<Channel>,
    request: proto::CallRequest,
    place: Arc<Place>,
) -> Result<tonic::Streaming<proto::CallPart>, Failure> {
    let _place = place;
    Ok(client.call_stream(request).await?.into_inner())
}

impl Progress {
    /// Keeps a report back until it may be sent, but not for longer than the call may take.
    pub async fn wait(self: Box<Self>, report: Box<RawValue>, released: impl Future<Output = ()>) -> Step {
        let failed = match self.standing.over.run_until_cancelled(timeout_at(self.due, released)).await {
            Some(Ok(())) => return Step::Progress(report, self),
            Some(Err(_)) => about(&self.subsystem, Failure::late("stream")),
            None => about(&self.subsystem, gone()),
        };
        Step::Done(Err(failed))
    }

    /// What comes next.
    pub async fn next(self) -> Step {
        let (subsystem, standing) = (Arc::clone(&self.subsystem), Arc::clone(&self.standing));
        let now = Instant::now();
        // What is there already is not too late for a timer.
        if now >= self.due {
            return Step::Done(Err(about(&subsystem, Failure::late("stream"))));
        }
        let due = self.due.min(now + subsystem.registration.silence);
        let failed = match standing.over.run_until_cancelled(self.part(due)).await {
            Some(Ok(step)) => return step,
            None => about(&subsystem, gone()),
            // Who has reported progress has believed the assertion.
            Some(Err(Failure { error: Error::Unauthorized, detail, .. })) => {
                about(&subsystem, Failure::new(Error::Fault, detail))
            }
            Some(Err(failure)) => about(&subsystem, failure),
        };
        Step::Done(Err(failed))
    }

    async fn part(mut self, due: Instant) -> Result<Step, Failure> {
        let part = timeout_at(due, self.stream.message()).await.map_err(|_| Failure::late("a part"))??;
        match part.and_then(|part| part.part) {
            Some(call_part::Part::Progress(args)) => {
                Ok(Step::Progress(json(args, PROGRESS_MAX)?, Box::new(self)))
            }
            Some(call_part::Part::Result(result)) => Ok(Step::Done(Ok(json(result, RESULT_MAX)?))),
            Some(call_part::Part::Failure(failure)) => Err(failed(&failure)),
            None => Err(Failure::contract("it ended without a result")),
        }
    }
}

/// JSON as a subsystem wrote it.
pub(crate) fn json(bytes: Vec<u8>, most: usize) -> Result<Box<RawValue>, Failure> {
    if bytes.len() > most {
        return Err(Failure::contract("it is too large"));
    }
    let text = String::from_utf8(bytes).map_err(|_| Failure::contract("it is not UTF-8"))?;
    if deeper_than(&text, DEPTH_MAX) {
        return Err(Failure::contract("it is nested too deeply"));
    }
    if !is_plain(&text) {
        return Err(Failure::contract("a lone surrogate or a number that is not finite"));
    }
    RawValue::from_string(text).map_err(|_| Failure::contract("it is not JSON"))
}

/// What a subsystem says of its own failure.
fn failed(failure: &proto::Failure) -> Failure {
    let error = match failure.code {
        400 => Error::BadRequest(shown(&failure.message).into()),
        401 => Error::Unauthorized,
        403 => Error::Forbidden,
        404 => Error::NotFound,
        408 => Error::TimedOut,
        429 => Error::TooMany,
        503 => Error::Unavailable,
        _ => Error::Fault,
    };
    Failure::new(error, format!("it says {}: {}", failure.code, shown(&failure.message)))
}

fn gone() -> Failure {
    Failure::new(Error::Unavailable, "it went down during the call")
}

/// The log is told of which subsystem this is, and not of each.
fn about(subsystem: &Subsystem, failure: Failure) -> Failure {
    let detail = format!("{}: {}", subsystem.name.as_str(), failure.detail);
    Failure { detail, of: Some(subsystem.faults.clone()), ..failure }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_its_code_and_others_are_faults() {
        for code in [400, 401, 403, 404, 408, 429, 500, 503] {
            let failure = failed(&proto::Failure { code, message: "x".into() });
            assert_eq!(u32::from(failure.error.code()), code);
        }
        for code in [0, 200, 402, 405, 413, 499, 502, u32::MAX] {
            assert_eq!(failed(&proto::Failure { code, message: "x".into() }).error, Error::Fault);
        }
        let long = proto::Failure { code: 400, message: format!("a\n{}", "b".repeat(300)) };
        let Error::BadRequest(shown) = failed(&long).error else { panic!("not a bad request") };
        assert!(shown.starts_with("ab") && shown.len() == 200);
    }

    #[test]
    fn only_json_within_bounds_is_passed_on() {
        let good = |text: &str| json(text.as_bytes().to_vec(), 100).is_ok();
        assert!(good("{}") && good(" [1, 2]\n") && good("null") && good(&format!("\"{}\"", "x".repeat(98))));
        assert!(!good("") && !good("{") && !good("{} {}") && !good(&format!("\"{}\"", "x".repeat(99))));
        assert!(json(vec![b'"', 0xff, b'"'], 100).is_err());
        assert!(!good("1e999") && !good(r#"{"\ud800":1}"#));
        let nested = |n: usize| json((("[".repeat(n)) + &"]".repeat(n)).into_bytes(), 1_000).is_ok();
        assert!(nested(64) && !nested(65));
    }
}
