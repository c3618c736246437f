//! The stream of ended sessions. While it is down no cached decision is used.

use std::{
    future::{pending, ready},
    sync::Arc,
    time::Duration,
};

use doorward_proto::authd::v1::{
    CheckRequest, EndedEvent, WatchEndedRequest, ended_event::Kind, sessions_client::SessionsClient,
};
use futures_util::{StreamExt, stream};
use tokio::time::{sleep, timeout};
use tonic::{Streaming, transport::Channel};

use super::{Failure, held::Table, wire};
use crate::call::{Error, Purpose};

/// From asking to the first message.
const FIRST: Duration = Duration::from_secs(5);
/// Between two tries: this much at first, twice as much each time, up to the most.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Looks at held sessions at once.
const LOOKS: usize = 8;

/// What keeps the stream.
pub(super) struct Watching {
    pub(super) stream: SessionsClient<Channel>,
    /// For looking again at what is held, on the connection of session calls.
    pub(super) checks: SessionsClient<Channel>,
    /// For one look.
    pub(super) deadline: Duration,
    pub(super) table: Arc<Table>,
}

impl Watching {
    /// Keeps the stream up; never ends.
    pub(super) async fn run(mut self) {
        let mut pause = PAUSE;
        let mut told = false;
        loop {
            let failure = match timeout(FIRST, open(&mut self.stream)).await {
                Ok(Ok(mut stream)) => {
                    self.table.up();
                    tracing::info!("authd tells which sessions end");
                    (pause, told) = (PAUSE, false);
                    let failure = tokio::select! {
                        failure = follow(&mut stream, &self.table) => failure,
                        failure = self.look_again() => failure,
                    };
                    self.table.down();
                    failure
                }
                Ok(Err(failure)) => failure,
                Err(_) => Failure::late("watch"),
            };
            if !told {
                tracing::warn!(error = %failure.detail, "authd does not tell which sessions end: sessions wait");
                told = true;
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// What ended while the stream was down was told to nobody: every session that is held is looked at
    /// once. Then waits for ever. A look that fails is none: the session's next request asks again.
    async fn look_again(&self) -> Failure {
        let looks = self.table.all().into_iter().map(|(session, held)| async move {
            let used_ms_ago = self.table.unreported_use(&held);
            // A token of the token API opens nothing else for want of an entry; it has no idle clock, nor have sessions of
            // channels, so that no use is to be counted.
            let purpose = if held.idle.is_some() { Purpose::Act } else { Purpose::Tell };
            let dialect = wire::dialect(purpose).into();
            let request = CheckRequest { token: held.token.expose().to_owned(), used_ms_ago, dialect };
            let mut client = self.checks.clone();
            match timeout(self.deadline, client.check(request)).await {
                Ok(Ok(found)) => self.table.passed_to(session, found.get_ref().only_one),
                Ok(Err(status)) if Failure::from(status.clone()).error == Error::NotFound => {
                    self.table.missed(session, &held);
                }
                Ok(Err(_)) | Err(_) => {}
            }
        });
        stream::iter(looks).buffer_unordered(LOOKS).for_each(|()| ready(())).await;
        pending().await
    }
}

/// The stream, after its first message, which must be `ready`.
async fn open(client: &mut SessionsClient<Channel>) -> Result<Streaming<EndedEvent>, Failure> {
    let mut stream = client.watch_ended(WatchEndedRequest {}).await?.into_inner();
    match stream.message().await? {
        Some(EndedEvent { kind: Some(Kind::Ready(_)) }) => Ok(stream),
        Some(_) => Err(Failure::contract("the watch did not begin with ready")),
        None => Err(Failure::contract("the watch ended before it began")),
    }
}

async fn follow(stream: &mut Streaming<EndedEvent>, table: &Table) -> Failure {
    loop {
        match stream.message().await {
            Ok(Some(EndedEvent { kind: Some(Kind::Ended(ended)) })) => match wire::ended(&ended) {
                Ok((session, reason)) => table.ended(session, reason),
                Err(failure) => return failure,
            },
            Ok(Some(EndedEvent { kind: Some(Kind::TakenUp(taken)) })) => match wire::taken_up(&taken) {
                Ok((session, turn)) => table.taken_up(session, turn),
                Err(failure) => return failure,
            },
            Ok(Some(EndedEvent { kind: Some(Kind::Ready(_)) })) => {}
            // An event of a later version: what it says is not known, so nothing cached is safe.
            Ok(Some(EndedEvent { kind: None })) => return Failure::contract("an unknown event"),
            Ok(None) => return Failure::contract("the watch ended"),
            Err(status) => return status.into(),
        }
    }
}
