//! The stream of ended sessions. While it is down no cached decision is used.

use std::{sync::Arc, time::Duration};

use doorward_proto::authd::v1::{
    EndedEvent, WatchEndedRequest, ended_event::Kind, sessions_client::SessionsClient,
};
use tokio::time::{sleep, timeout};
use tonic::{Streaming, transport::Channel};

use super::{Failure, held::Table, wire};

/// From asking to the first message.
const FIRST: Duration = Duration::from_secs(5);
/// Between two tries: this much at first, twice as much each time, up to the most.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Keeps the stream up; never ends.
pub(super) async fn run(mut client: SessionsClient<Channel>, table: Arc<Table>) {
    let mut pause = PAUSE;
    let mut told = false;
    loop {
        let failure = match timeout(FIRST, open(&mut client)).await {
            Ok(Ok(mut stream)) => {
                table.up();
                tracing::info!("authd tells which sessions end");
                (pause, told) = (PAUSE, false);
                let failure = follow(&mut stream, &table).await;
                table.down();
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
            Ok(Some(EndedEvent { kind: Some(Kind::Ready(_)) })) => {}
            // An event of a later version: what it says is not known, so nothing cached is safe.
            Ok(Some(EndedEvent { kind: None })) => return Failure::contract("an unknown event"),
            Ok(None) => return Failure::contract("the watch ended"),
            Err(status) => return status.into(),
        }
    }
}
