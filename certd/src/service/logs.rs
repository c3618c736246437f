//! Audit records of certd's, for whom they are about and for full access.

use std::{pin::Pin, sync::Arc};

use doorward_launch::audit::{Found, Wanted};
use doorward_proto::certd::v1 as wire;
use futures_util::{Stream, stream};
use tonic::Status;

use super::Core;
use crate::{error::CertError, rights};

/// Records of one part: at most 64 KiB, whatever is in them.
const PART: usize = 31;

pub(super) type Parts = Pin<Box<dyn Stream<Item = Result<wire::LogsPart, Status>> + Send>>;

pub(super) async fn read(core: &Arc<Core>, request: wire::LogsRequest) -> Result<Parts, CertError> {
    let wire::LogsRequest { assertion, from, until, skip, most } = request;
    let whose = rights::records(&core.caller(&assertion)?)?;
    let (skip, most) = (skip as usize, most as usize);
    let Found { lines, more, unread } = core.audit.read(Wanted { from, until, skip, most, whose }).await?;
    let mut parts: Vec<_> =
        lines.chunks(PART).map(|lines| Ok(wire::LogsPart { lines: lines.to_vec(), end: None })).collect();
    parts.push(Ok(wire::LogsPart { lines: Vec::new(), end: Some(wire::LogsEnd { more, unread }) }));
    Ok(Box::pin(stream::iter(parts)))
}
