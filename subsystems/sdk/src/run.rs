//! One handler at work: within its deadline, and with an end for whatever it does.

use std::panic::AssertUnwindSafe;

use doorward_proto::subsystem::v1 as wire;
use futures_util::FutureExt as _;
use serde_json::Value;
use tokio::time::timeout_at;

use crate::action::Handler;
use crate::call::{Call, Progress};
use crate::failure::{Failure, Kind};
use crate::record::Begun;

/// Runs it. Dropped before its end, it drops the handler and tells what the handler gave away to end too.
pub(crate) async fn run(
    handler: Handler,
    call: Call,
    args: Value,
    progress: Progress,
    mut begun: Begun,
) -> Result<Vec<u8>, wire::Failure> {
    let _ended = call.ended().clone().drop_guard();
    let (deadline, action, request) =
        (call.deadline(), call.action().to_owned(), call.request_id().to_owned());
    // A handler that drops the call still has its place.
    let held = call.clone();
    // The handler is called inside, so that a panic before its first wait is caught too.
    let work = AssertUnwindSafe(async move { handler(call, args, progress).await }).catch_unwind();
    let ended = timeout_at(deadline, work).await;
    drop(held);
    let failure = match ended {
        Ok(Ok(Ok(result))) => {
            begun.ends("done");
            return Ok(result);
        }
        Ok(Ok(Err(failure))) => failure,
        Ok(Err(_)) => {
            // The text of the panic is not repeated: it may be made from a secret. Its place is on stderr.
            tracing::error!(action, request, "a call broke off: a defect");
            begun.ends("broke-off");
            return Err(Failure::fault("broke off").to_wire());
        }
        Err(_) => Failure::new(Kind::OutOfTime, "out of time"),
    };
    if failure.kind() == Kind::Fault {
        tracing::error!(action, request, why = failure.sentence(), "a call failed");
    } else {
        tracing::debug!(action, request, why = failure.sentence(), "a call came to nothing");
    }
    begun.ends(failure.kind().word());
    Err(failure.to_wire())
}
