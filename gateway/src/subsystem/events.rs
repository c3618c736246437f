//! What a subsystem publishes, into the hub: the names that it may, at the speed that it may.

use std::{convert::Infallible, future::pending, sync::Arc, time::Duration};

use doorward_launch::log::Sparingly;
use doorward_proto::subsystem::v1::{EventsRequest, subsystem_client::SubsystemClient};
use tokio::time::{Instant, sleep, sleep_until};
use tonic::{Streaming, transport::Channel};

use super::{Description, Subsystem, calling::json};
use crate::{
    backend::Failure,
    call::EventName,
    hub::{ARGS_MAX, Hub, Publisher},
};

/// The largest message that is read: a larger one ends the stream.
const MESSAGE_MAX: usize = 2 * ARGS_MAX;
/// So many events a second are taken from one subsystem; then it is read more slowly.
const A_SECOND: u32 = 10_000;
const SECOND: Duration = Duration::from_secs(1);
/// Between two tries: this much at first, twice as much each time, up to the most.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Publishes what comes. The events are known as long as this runs.
pub(super) async fn run(
    subsystem: &Arc<Subsystem>,
    channel: Channel,
    description: &Description,
    hub: &Hub,
) -> Infallible {
    let mut publishers = Vec::new();
    for name in description.events() {
        match hub.register(name.clone()) {
            Ok(publisher) => publishers.push((name.clone(), publisher)),
            Err(error) => {
                tracing::error!(subsystem = ?subsystem.name, event = ?name, %error, "an event is not published")
            }
        }
    }
    if publishers.is_empty() {
        return pending().await;
    }
    let mut client = SubsystemClient::new(channel).max_decoding_message_size(MESSAGE_MAX);
    let (mut pause, mut told) = (PAUSE, false);
    loop {
        let failure = match client.events(EventsRequest {}).await {
            Ok(stream) => {
                (pause, told) = (PAUSE, false);
                follow(subsystem, stream.into_inner(), &publishers).await
            }
            Err(status) => status.into(),
        };
        if !told {
            tracing::warn!(subsystem = ?subsystem.name, error = failure.detail, "a subsystem tells no events");
            told = true;
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

async fn follow(
    subsystem: &Arc<Subsystem>,
    mut stream: Streaming<doorward_proto::subsystem::v1::Event>,
    publishers: &[(EventName, Publisher)],
) -> Failure {
    let mut complaints = Sparingly::default();
    let (mut since, mut taken) = (Instant::now(), 0);
    loop {
        let event = match stream.message().await {
            Ok(Some(event)) => event,
            Ok(None) => return Failure::contract("the events ended"),
            Err(status) => return status.into(),
        };
        if taken >= A_SECOND {
            sleep_until(since + SECOND).await;
        }
        if since.elapsed() >= SECOND {
            (since, taken) = (Instant::now(), 0);
        }
        taken += 1;
        let publisher = publishers.iter().find(|(name, _)| name.as_str() == event.name);
        let published = match publisher {
            None => Err("an event that it may not publish, or has not described".to_owned()),
            Some((_, publisher)) => json(event.args, ARGS_MAX)
                .map_err(|failure| failure.detail)
                .and_then(|args| publisher.publish(args).map_err(|error| error.to_string())),
        };
        if let Err(error) = published
            && let Some(unsaid) = complaints.now()
        {
            tracing::warn!(subsystem = ?subsystem.name, error, unsaid, "an event is not published");
        }
    }
}
