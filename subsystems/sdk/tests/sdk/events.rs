//! Events over the socket: the last ones first, then what happens, and all of it.

use std::time::Duration;

use doorward_proto::subsystem::v1::{Event, EventsRequest};
use tokio::time::timeout;
use tonic::Streaming;

use crate::fixture::{PATIENCE, start};

async fn next(stream: &mut Streaming<Event>) -> Option<(String, String)> {
    let event = timeout(PATIENCE, stream.message()).await.expect("something in time").expect("no error");
    event.map(|event| (event.name, String::from_utf8_lossy(&event.args).into_owned()))
}

#[tokio::test]
async fn a_stream_begins_with_the_last_event_and_loses_none() {
    let stage = start().await;
    stage.publisher.publish("noted", &"first").expect("kept");
    stage.publisher.publish("noted", &"last").expect("kept");
    let mut stream = stage.client.clone().events(EventsRequest {}).await.expect("a stream").into_inner();
    assert_eq!(next(&mut stream).await, Some(("noted".into(), "\"last\"".into())));
    let publisher = stage.publisher.clone();
    let publishing = tokio::spawn(async move {
        for number in 0..10_000 {
            while publisher.publish("noted", &number).is_err() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    for number in 0..10_000 {
        assert_eq!(next(&mut stream).await, Some(("noted".into(), number.to_string())));
    }
    publishing.await.expect("published");
    stage.stop().await;
}

#[tokio::test]
async fn the_newest_stream_gets_them_and_a_stop_ends_it() {
    let stage = start().await;
    let mut old = stage.client.clone().events(EventsRequest {}).await.expect("a stream").into_inner();
    let mut new = stage.client.clone().events(EventsRequest {}).await.expect("a stream").into_inner();
    assert_eq!(next(&mut old).await, None);
    stage.publisher.publish("noted", &1).expect("taken");
    assert_eq!(next(&mut new).await, Some(("noted".into(), "1".into())));
    stage.stop().await;
    assert_eq!(next(&mut new).await, None);
}
