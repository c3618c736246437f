//! How work ends: at its deadline, when the gateway takes it back, when it leaves, when the subsystem stops.

use std::time::{Duration, Instant};

use doorward_proto::subsystem::v1::call_part::Part;
use serde_json::{Value, json};

use crate::fixture::{Stage, start};

/// Work that nobody waits for ends within this.
const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn at_its_deadline_a_call_is_broken_off() {
    let mut stage = start().await;
    let mut request = stage.request(stage.authd.fresh(), "hang", b"null");
    request.deadline_ms = 50;
    assert_eq!(stage.send(request.clone()).await.expect_err("late").0, 408);
    assert_eq!((stage.told().await, stage.told().await), ("began", "dropped"));
    request.deadline_ms = 0;
    request.assertion = stage.authd.fresh();
    assert_eq!(stage.send(request).await.expect_err("no time is left").0, 408);
    stage.stop().await;
}

#[tokio::test]
async fn a_call_that_is_taken_back_ends_within_a_second() {
    let mut stage = start().await;
    for (action, end) in [("hang", "dropped"), ("thread", "seen")] {
        let request = stage.request(stage.authd.fresh(), action, b"null");
        let mut client = stage.client.clone();
        let call = tokio::spawn(async move { client.call(request).await });
        assert_eq!(stage.told().await, "began");
        let began = Instant::now();
        call.abort();
        assert_eq!(stage.told().await, end, "{action}");
        assert!(began.elapsed() < SOON, "{action}: {:?}", began.elapsed());
    }
    assert!(stage.call("echo", Value::Null).await.is_ok(), "the connection goes on");
    stage.stop().await;
}

async fn parts(stage: &Stage, action: &str, args: Value) -> Vec<Result<Value, u32>> {
    let request = stage.request(stage.authd.fresh(), action, args.to_string().as_bytes());
    let mut stream = stage.client.clone().call_stream(request).await.expect("a stream").into_inner();
    let mut parts = Vec::new();
    while let Some(part) = stream.message().await.expect("a part") {
        parts.push(match part.part.expect("something") {
            Part::Progress(json) => Ok(json!({ "progress": value(&json) })),
            Part::Result(json) => Ok(json!({ "result": value(&json) })),
            Part::Failure(failure) => Err(failure.code),
        });
    }
    parts
}

fn value(json: &[u8]) -> Value {
    serde_json::from_slice(json).expect("JSON")
}

#[tokio::test]
async fn progress_comes_in_its_order_and_the_result_last() {
    let stage = start().await;
    let told = parts(&stage, "count", json!(1_000)).await;
    assert_eq!(told.len(), 1_001);
    for (number, part) in told.iter().take(1_000).enumerate() {
        assert_eq!(part, &Ok(json!({ "progress": { "at": number } })));
    }
    assert_eq!(told.last(), Some(&Ok(json!({ "result": 1_000 }))));
    assert_eq!(parts(&stage, "count", json!("x")).await, [Err(400)]);
    assert_eq!(parts(&stage, "echo", json!(1)).await, [Err(404)], "it tells no progress");
    stage.stop().await;
}

#[tokio::test]
async fn a_stream_that_is_taken_back_or_late_ends_within_a_second() {
    let mut stage = start().await;
    let request = stage.request(stage.authd.fresh(), "hang-long", b"null");
    let mut stream = stage.client.clone().call_stream(request).await.expect("a stream").into_inner();
    assert!(matches!(stream.message().await, Ok(Some(_))), "it began");
    let began = Instant::now();
    drop(stream);
    assert_eq!(stage.told().await, "dropped");
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());

    let mut request = stage.request(stage.authd.fresh(), "hang-long", b"null");
    request.deadline_ms = 50;
    let mut stream = stage.client.clone().call_stream(request).await.expect("a stream").into_inner();
    assert_eq!(stage.told().await, "dropped", "also while nobody reads");
    let mut last = None;
    while let Some(part) = stream.message().await.expect("a part") {
        last = part.part;
    }
    assert!(matches!(last, Some(Part::Failure(failure)) if failure.code == 408));
    stage.stop().await;
}

#[tokio::test]
async fn a_thread_that_tells_progress_ends_at_the_deadline_although_nobody_reads() {
    let mut stage = start().await;
    let mut request = stage.request(stage.authd.fresh(), "thread-long", b"null");
    request.deadline_ms = 200;
    let mut stream = stage.client.clone().call_stream(request).await.expect("a stream").into_inner();
    assert_eq!(stage.told().await, "seen");
    let mut last = None;
    while let Some(part) = stream.message().await.expect("a part") {
        last = part.part;
    }
    assert!(matches!(last, Some(Part::Failure(failure)) if failure.code == 408));
    stage.stop().await;
}

#[tokio::test]
async fn whoever_hangs_does_not_hold_up_the_stop() {
    let mut stage = start().await;
    let request = stage.request(stage.authd.fresh(), "hang", b"null");
    let mut client = stage.client.clone();
    let _call = tokio::spawn(async move { client.call(request).await });
    assert_eq!(stage.told().await, "began");
    let began = Instant::now();
    stage.stop().await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}
