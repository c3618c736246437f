//! `doorward.subsystem.v1.Subsystem`: from a request to a handler that may begin.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use doorward_assertion::{Caller, Refused, Verifier};
use doorward_launch::{Plain, log::Sparingly};
use doorward_proto::subsystem::v1 as wire;
use futures_util::FutureExt as _;
use futures_util::stream::{self, Stream, StreamExt as _};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::action::Handler;
use crate::bounds::{ARGS_MAX, DEADLINE_MAX, PROGRESS_QUEUE};
use crate::call::{Call, Ended, Progress};
use crate::failure::{Failure, Kind};
use crate::record::{Begun, Recorder};
use crate::replay::{Named, Unusable, Used};
use crate::run::run;
use crate::seats::Seats;
use crate::subsystem::{Checked, Ready};

type Parts<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service; clones are the same one.
#[derive(Clone)]
pub struct Service(Arc<Core>);

struct Core {
    subsystem: Checked,
    verifier: Verifier,
    used: Mutex<Used>,
    seats: Seats,
    recorder: Recorder,
    keyless: Mutex<Sparingly>,
    stop: Ended,
}

/// A call that may begin.
struct Admitted {
    handler: Handler,
    call: Call,
    args: Value,
    begun: Begun,
}

/// Why one may not: what is recorded, and what the gateway is told.
struct Unadmitted(&'static str, wire::Failure);

fn no(reason: &'static str, kind: Kind, sentence: &str) -> Unadmitted {
    Unadmitted(reason, Failure::new(kind, sentence).to_wire())
}

fn not_believed(reason: &'static str, sentence: &str) -> Unadmitted {
    Unadmitted(reason, wire::Failure { code: 401, message: sentence.to_owned() })
}

fn now() -> i64 {
    second(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn second(now: Duration) -> i64 {
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

/// Waits until the second is over in which this program started, and says which it was.
///
/// A program that ran before may have used what was signed in that second; whoever has something signed after it,
/// for a subsystem that answers, is believed at once.
pub(crate) async fn first_second() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // The clock may be a little faster or slower than the timer.
    let left = Duration::from_secs(1).saturating_sub(Duration::from_nanos(now.subsec_nanos().into()));
    tokio::time::sleep(left + Duration::from_millis(5)).await;
    second(now)
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").finish_non_exhaustive()
    }
}

impl Service {
    /// What was signed in the second `started` or before writes nothing.
    pub(crate) fn new(
        subsystem: Checked,
        verifier: Verifier,
        recorder: Recorder,
        started: i64,
        stop: Ended,
    ) -> Service {
        Service(Arc::new(Core {
            subsystem,
            verifier,
            used: Mutex::new(Used::since(started)),
            seats: Seats::default(),
            recorder,
            keyless: Mutex::default(),
            stop,
        }))
    }
}

impl Core {
    fn admit(&self, request: wire::CallRequest, streams: bool) -> Result<Admitted, wire::Failure> {
        let (action, request_id) = (request.action.clone(), request.request_id.clone());
        let mut caller = None;
        self.admitted(request, streams, &mut caller).map_err(|Unadmitted(reason, failure)| {
            tracing::debug!(action, request = request_id, reason, "refused a call");
            self.recorder.refused(caller.as_ref(), &action, &request_id, reason);
            failure
        })
    }

    /// The order is: who, what, whether they may, how much, and only then the args. A stranger learns of no
    /// action, and an assertion is used up by nothing that could have been refused.
    fn admitted(
        &self,
        request: wire::CallRequest,
        streams: bool,
        believed: &mut Option<Caller>,
    ) -> Result<Admitted, Unadmitted> {
        let wire::CallRequest { assertion, action, args, request_id, deadline_ms } = request;
        let now = now();
        let caller = &*believed.insert(self.believe(&assertion, now)?);
        let ready = self.subsystem.actions.get(&action).filter(|ready| ready.streams == streams);
        let ready = ready.ok_or_else(|| no("no-such-action", Kind::NotFound, "no such action"))?;
        if !caller.may(&ready.subject) {
            return Err(no("acl", Kind::Denied, "the session may not do that"));
        }
        if deadline_ms == 0 {
            return Err(no("late", Kind::OutOfTime, "no time is left"));
        }
        let deadline = Instant::now() + Duration::from_millis(deadline_ms.into()).min(DEADLINE_MAX);
        let seat = self.seats.take(&caller.user);
        let seat = seat.ok_or_else(|| no("busy", Kind::Busy, "too many calls are under way"))?;
        let args = self.args(ready, &args)?;
        if ready.writes {
            self.use_up(caller, now)?;
        }
        let begun = self.recorder.begun(caller, &action, &request_id, ready.writes);
        let call = Call::new(caller.clone(), action, request_id, deadline, seat);
        Ok(Admitted { handler: Arc::clone(&ready.handler), call, args, begun })
    }

    fn believe(&self, assertion: &str, now: i64) -> Result<Caller, Unadmitted> {
        self.verifier.user(assertion, now).map_err(|refused| match refused {
            Refused::NoKey(why) => {
                let mut told = self.keyless.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(unsaid) = told.now() {
                    tracing::error!(%why, unsaid, "nobody can be believed");
                }
                no("not-authenticated", Kind::Unavailable, "authd's public key cannot be read")
            }
            Refused::NoUser => no("no-user", Kind::Denied, "the caller is no user of this host"),
            Refused::TooLong | Refused::Invalid(_) | Refused::Time | Refused::Claim(_) => {
                not_believed("not-authenticated", "the assertion is not believed")
            }
        })
    }

    fn args(&self, ready: &Ready, args: &[u8]) -> Result<Value, Unadmitted> {
        let wrong = |sentence: &str| no("bad-args", Kind::BadArgs, sentence);
        if args.len() > ARGS_MAX {
            return Err(wrong("the args are longer than 128 KiB"));
        }
        let mut args = Plain::read(args)
            .map_err(|_| wrong("the args are no JSON, are too deep, or have a reserved name"))?;
        if let Value::Object(members) = &mut args {
            members.remove("action");
        }
        if let Some(schema) = &ready.schema {
            schema.check(&args).map_err(|failure| Unadmitted("bad-args", failure.to_wire()))?;
        }
        Ok(args)
    }

    fn use_up(&self, caller: &Caller, now: i64) -> Result<(), Unadmitted> {
        let Caller { user, assertion, issued, expires, .. } = caller;
        let named = Named { jti: assertion, user, issued: *issued, expires: *expires };
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.take(named, now).map_err(|unusable| match unusable {
            Unusable::Used => not_believed("used", "the assertion was used"),
            Unusable::Full => no("busy", Kind::Busy, "too many calls that change something"),
        })
    }
}

/// Breaks a task off when nobody waits for it any more.
struct Aborts(AbortHandle);

impl Drop for Aborts {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[tonic::async_trait]
impl wire::subsystem_server::Subsystem for Service {
    async fn describe(
        &self,
        _: Request<wire::DescribeRequest>,
    ) -> Result<Response<wire::Description>, Status> {
        Ok(Response::new(self.0.subsystem.description.clone()))
    }

    async fn call(&self, request: Request<wire::CallRequest>) -> Result<Response<wire::CallReply>, Status> {
        use wire::call_reply::Outcome;
        let outcome = match self.0.admit(request.into_inner(), false) {
            Ok(Admitted { handler, call, args, begun }) => {
                let (nobody, _) = mpsc::channel(1);
                let progress = Progress::of(&call, nobody);
                run(handler, call, args, progress, begun).await
            }
            Err(failure) => Err(failure),
        };
        let outcome = outcome.map_or_else(Outcome::Failure, Outcome::Result);
        Ok(Response::new(wire::CallReply { outcome: Some(outcome) }))
    }

    type CallStreamStream = Parts<wire::CallPart>;

    async fn call_stream(
        &self,
        request: Request<wire::CallRequest>,
    ) -> Result<Response<Self::CallStreamStream>, Status> {
        use wire::call_part::Part;
        let part = |part| Ok(wire::CallPart { part: Some(part) });
        let Admitted { handler, call, args, begun } = match self.0.admit(request.into_inner(), true) {
            Ok(admitted) => admitted,
            Err(failure) => {
                let refused = stream::iter([part(Part::Failure(failure))]);
                return Ok(Response::new(Box::pin(refused)));
            }
        };
        let (progress, mut told) = mpsc::channel(PROGRESS_QUEUE);
        let (progress, over) = (Progress::of(&call, progress), call.ended().clone().cancelled_owned());
        // A task of its own: its deadline must come also when the gateway reads nothing.
        let mut work = tokio::spawn(run(handler, call, args, progress, begun));
        let aborts = Aborts(work.abort_handle());
        let mut over = Box::pin(over.fuse());
        // The progress ends before the outcome comes: when the call is over, also where a thread of it goes on.
        let told = stream::poll_fn(move |context| {
            if over.as_mut().poll(context).is_ready() {
                told.close();
            }
            told.poll_recv(context)
        });
        let last = async move {
            let outcome = (&mut work).await;
            drop(aborts);
            outcome.unwrap_or_else(|_| Err(Failure::fault("broke off").to_wire()))
        };
        let parts = told
            .map(Part::Progress)
            .chain(stream::once(last).map(|outcome| outcome.map_or_else(Part::Failure, Part::Result)));
        Ok(Response::new(Box::pin(parts.map(part))))
    }

    type EventsStream = Parts<wire::Event>;

    async fn events(&self, _: Request<wire::EventsRequest>) -> Result<Response<Self::EventsStream>, Status> {
        let stop = self.0.stop.clone();
        let events = self.0.subsystem.publisher.listen();
        let events = events.take_until(async move { stop.cancelled().await });
        Ok(Response::new(Box::pin(events.map(Ok))))
    }
}
