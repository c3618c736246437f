//! The stream of sources that failed lately. While it is down, what it told stays until its time is over.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use doorward_proto::authd::v1::{
    PenaltyEvent, SourceStanding, WatchPenaltiesRequest, login_client::LoginClient, source_standing,
};
use tokio::time::{sleep, timeout};
use tonic::{Streaming, transport::Channel};

use super::{Failure, wire};
use crate::{gate::Source, penalty::Penalties};

/// From asking to the first message.
const FIRST: Duration = Duration::from_secs(5);
/// Between two tries: this much at first, twice as much each time, up to the most.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Keeps the stream up; never ends.
pub(super) async fn run(mut client: LoginClient<Channel>, penalties: Arc<Penalties>) {
    let mut pause = PAUSE;
    let mut told = false;
    loop {
        let failure = match timeout(FIRST, open(&mut client)).await {
            Ok(Ok((mut stream, first))) => {
                tracing::info!("authd tells who is under a penalty");
                (pause, told) = (PAUSE, false);
                penalties.forget();
                match take(first, &penalties) {
                    Ok(()) => follow(&mut stream, &penalties).await,
                    Err(failure) => failure,
                }
            }
            Ok(Err(failure)) => failure,
            Err(_) => Failure::late("watch"),
        };
        if !told {
            tracing::warn!(error = %failure.detail, "authd does not tell who is under a penalty");
            told = true;
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

async fn open(client: &mut LoginClient<Channel>) -> Result<(Streaming<PenaltyEvent>, PenaltyEvent), Failure> {
    let mut stream = client.watch_penalties(WatchPenaltiesRequest {}).await?.into_inner();
    match stream.message().await? {
        Some(first) => Ok((stream, first)),
        None => Err(Failure::contract("the watch ended before it began")),
    }
}

async fn follow(stream: &mut Streaming<PenaltyEvent>, penalties: &Penalties) -> Failure {
    loop {
        let event = match stream.message().await {
            Ok(Some(event)) => event,
            Ok(None) => return Failure::contract("the watch ended"),
            Err(status) => return status.into(),
        };
        if let Err(failure) = take(event, penalties) {
            return failure;
        }
    }
}

fn take(event: PenaltyEvent, penalties: &Penalties) -> Result<(), Failure> {
    let now = Instant::now();
    for SourceStanding { source, penalty_ms, known_ms } in event.sources {
        let source = match source {
            Some(source_standing::Source::Address(address)) => {
                Source::of_address(address.parse().map_err(|_| Failure::contract("a source's address"))?)
            }
            Some(source_standing::Source::Uid(uid)) => Source::Uid(uid),
            // Of a later version: authd refuses its logins all the same.
            None => continue,
        };
        penalties.tell(source, wire::duration(penalty_ms), wire::duration(known_ms), now);
    }
    Ok(())
}
