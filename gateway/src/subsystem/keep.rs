//! One task for each registration: its connection, its description, its events.

use std::{path::Path, pin::pin, sync::Arc, time::Duration};

use doorward_launch::registrations::{Registrations, Watch};
use doorward_proto::subsystem::v1::{DescribeRequest, subsystem_client::SubsystemClient};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::transport::Channel;

use super::{
    Description, Registry, Standing, Subsystem, events,
    events::Streams,
    tries::{STOOD, Tries},
};
use crate::{backend::Failure, call::Error, hub::Hub};

/// The largest description that is read.
const DESCRIPTION_MAX: usize = 128 << 10;
/// The most between two tries of one that is down.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Said of one that is up, and no failure's words.
const UP: &str = "";
/// So many answers in a row may be missing.
const MISSED: u32 = 1;

/// How often a subsystem is asked whether it is well, and how long it may take to say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Pace {
    pub every: Duration,
    pub within: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { every: Duration::from_secs(10), within: Duration::from_secs(5) }
    }
}

/// Keeps the registry as the directory says; never ends.
pub async fn keep(directory: &Path, pace: Pace, registry: Registry, hub: Hub) {
    let mut watch = Watch::new(directory);
    let mut attended: Vec<(Arc<Subsystem>, AbortOnDropHandle<()>)> = Vec::new();
    loop {
        let Registrations { found, wrong } = watch.changed().await;
        for sentence in wrong {
            tracing::error!("a subsystem is left out: {sentence}");
        }
        // What is registered no more, or otherwise, is over before anything begins in its place.
        let (stay, go): (Vec<_>, Vec<_>) =
            attended.into_iter().partition(|(subsystem, _)| found.contains(&subsystem.registration));
        attended = stay;
        for (subsystem, task) in go {
            registry.remove(&subsystem);
            task.abort();
            // It was aborted, or has panicked, and is gone in either case.
            let _ = task.await;
            subsystem.hang_up();
            tracing::info!(subsystem = ?subsystem.name, "registered no more");
        }
        for registration in found {
            if attended.iter().any(|(subsystem, _)| subsystem.registration == registration) {
                continue;
            }
            let Some(subsystem) = Subsystem::new(registration) else { continue };
            registry.add(Arc::clone(&subsystem));
            let task = tokio::spawn(attend(Arc::clone(&subsystem), pace, registry.clone(), hub.clone()));
            attended.push((subsystem, AbortOnDropHandle::new(task)));
        }
    }
}

/// Keeps one subsystem up as far as that is possible; never ends.
async fn attend(subsystem: Arc<Subsystem>, pace: Pace, registry: Registry, hub: Hub) {
    let (mut tries, mut streams) = (Tries::new(PAUSE_MAX), Streams::new());
    let up = |version: &str| tracing::info!(subsystem = ?subsystem.name, version, "a subsystem is up");
    loop {
        let failure = match open(&subsystem, pace).await {
            Ok((channel, gone, description)) => {
                let version = description.version().to_owned();
                if tries.says(UP, Instant::now().into_std()) {
                    up(&version);
                }
                let over = CancellationToken::new();
                // Calls that are under way end with this, also where this task is aborted.
                let _over = over.clone().drop_guard();
                let (subsystem, streams) = (&subsystem, &mut streams);
                let mut staying =
                    pin!(stay(subsystem, pace, &registry, &hub, channel, &gone, description, over, streams));
                let failure = match timeout(STOOD, &mut staying).await {
                    Ok(failure) => failure,
                    Err(_) => {
                        tries.stood();
                        if tries.says(UP, Instant::now().into_std()) {
                            up(&version);
                        }
                        staying.await
                    }
                };
                registry.stands(subsystem, None);
                failure
            }
            Err(failure) => failure,
        };
        subsystem.hang_up();
        if tries.says(&failure.detail, Instant::now().into_std()) {
            tracing::warn!(subsystem = ?subsystem.name, error = failure.detail, "a subsystem is down");
        }
        sleep(tries.pause()).await;
    }
}

async fn open(
    subsystem: &Subsystem,
    pace: Pace,
) -> Result<(Channel, CancellationToken, Description), Failure> {
    let standing = subsystem.watch.standing().await?;
    let description = describe(subsystem, &standing.channel, pace).await?;
    Ok((standing.channel, standing.gone, description))
}

async fn describe(subsystem: &Subsystem, channel: &Channel, pace: Pace) -> Result<Description, Failure> {
    let mut client = SubsystemClient::new(channel.clone()).max_decoding_message_size(DESCRIPTION_MAX);
    let said = timeout(pace.within, client.describe(DescribeRequest {})).await;
    let said = said.map_err(|_| Failure::late("describe"))??.into_inner();
    Description::from_wire(said, &subsystem.registration)
        .map_err(|wrong| Failure::new(Error::Fault, format!("its description is wrong: {wrong}")))
}

/// While it is up; why it is no more.
#[allow(clippy::too_many_arguments)]
async fn stay(
    subsystem: &Arc<Subsystem>,
    pace: Pace,
    registry: &Registry,
    hub: &Hub,
    channel: Channel,
    gone: &CancellationToken,
    mut description: Description,
    over: CancellationToken,
    streams: &mut Streams,
) -> Failure {
    loop {
        let standing = Standing { description: description.clone(), over: over.clone() };
        registry.stands(subsystem, Some(Arc::new(standing)));
        let ended = tokio::select! {
            () = gone.cancelled() => Err(Failure::new(Error::Unavailable, "the connection broke")),
            ended = otherwise(subsystem, &channel, pace, &description) => ended,
            never = events::run(subsystem, channel.clone(), &description, hub, streams) => match never {},
        };
        match ended {
            Ok(otherwise) => description = otherwise,
            Err(failure) => return failure,
        }
    }
}

/// Asks again and again, until it describes itself otherwise, or is not well.
async fn otherwise(
    subsystem: &Subsystem,
    channel: &Channel,
    pace: Pace,
    known: &Description,
) -> Result<Description, Failure> {
    let mut missed = 0;
    loop {
        sleep(pace.every).await;
        match describe(subsystem, channel, pace).await {
            Ok(same) if same == *known => missed = 0,
            Ok(otherwise) => {
                tracing::info!(subsystem = ?subsystem.name, version = otherwise.version(), "described anew");
                return Ok(otherwise);
            }
            Err(failure) if failure.error == Error::TimedOut && missed < MISSED => missed += 1,
            Err(failure) => return Err(failure),
        }
    }
}
