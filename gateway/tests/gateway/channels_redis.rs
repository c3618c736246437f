//! Channels over a redis-server: two gateways' hubs, and what their connections hear.

use std::{sync::Arc, task::Poll};

use bytes::Bytes;
use doorward_gateway::{
    call::{Address, ChannelName, Facility, Pk},
    channels::{Engine, EngineError, NotSure, Seat},
    hub::{Hub, Owner, PAYLOAD_MAX, Sent},
    redis,
};
use doorward_launch::Identity;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    redis::settings,
    redis_server::Redis,
    support::{PATIENCE, until},
};

struct End {
    hub: Hub,
    engine: Engine,
    _task: AbortOnDropHandle<()>,
}

impl End {
    async fn start(redis: &Redis) -> Self {
        let address = redis::Address::Unix(redis.socket(), Identity::current().uid);
        let hub = Hub::new();
        let (engine, running) = Engine::redis("ws", settings(address), hub.clone());
        let task = AbortOnDropHandle::new(tokio::spawn(running.keep()));
        until(|| (!hub.is_interrupted()).then_some(())).await;
        Self { hub, engine, _task: task }
    }

    fn seat(&self) -> Seat {
        Seat::new(&self.hub, self.engine.clone(), Owner::Identity("user/alice".into()), 256)
    }

    async fn publish(&self, to: &Address, payload: &str) -> Result<(), EngineError> {
        let published = self.engine.publish(to, Bytes::copy_from_slice(payload.as_bytes()));
        timeout(PATIENCE, published).await.expect("in time")
    }
}

fn at(channel: &str, pk: &str) -> Address {
    let (channel, pk) = (ChannelName::parse(channel), Pk::parse(pk));
    Address { channel: channel.expect("a name"), pk: Some(pk.expect("a pk")), facility: Facility::default() }
}

async fn enter(seat: &mut Seat, at: &Address) -> Result<(), NotSure> {
    timeout(PATIENCE, seat.enter(at).expect("room")).await.expect("in time")
}

/// What the connection is sent next: JSON of a message, or the notice.
async fn heard(seat: &mut Seat) -> String {
    timeout(PATIENCE, std::future::poll_fn(|context| seat.poll_stirred(context))).await.expect("in time");
    let next = seat.take(1).expect("it reads in time").pop();
    match next.expect("it was stirred") {
        Sent::Delivery(delivery) => delivery.message.get().to_owned(),
        Sent::Notice(notice) => format!("{notice:?}"),
        Sent::Lost(at) => format!("lost {}", at.channel.as_str()),
        Sent::Event(event) => panic!("{event:?}"),
    }
}

/// Nothing more has come.
fn is_silent(seat: &Seat) {
    let waker = std::task::Waker::noop();
    let mut context = std::task::Context::from_waker(waker);
    assert_eq!(seat.poll_stirred(&mut context), Poll::Pending);
}

#[tokio::test]
async fn what_one_gateway_publishes_the_subscribers_of_all_hear() {
    let Some(redis) = Redis::start() else { return };
    let (one, other) = (End::start(&redis).await, End::start(&redis).await);
    let (mut near, mut far, mut second) = (one.seat(), other.seat(), other.seat());
    for seat in [&mut near, &mut far, &mut second] {
        enter(seat, &at("user", "alice")).await.expect("confirmed");
    }
    one.publish(&at("user", "alice"), r#"{"n": 1}"#).await.expect("published");
    redis.publish("ws:user:alice:events", b"no \xff JSON");
    for seat in [&mut near, &mut far, &mut second] {
        assert_eq!(heard(seat).await, r#"{"n": 1}"#);
        assert_eq!(heard(seat).await, "\"no \u{fffd} JSON\"");
    }
    // Another key, though the text of it is nearly the same.
    for key in ["ws:user:alice:other", "ws:user:alice", "ws:user:events", "ws2:user:alice:events"] {
        redis.publish(key, b"1");
    }
    second.leave(&at("user", "alice"));
    one.publish(&at("user", "alice"), "2").await.expect("published");
    assert_eq!((heard(&mut near).await.as_str(), heard(&mut far).await.as_str()), ("2", "2"));
    is_silent(&second);
    drop((far, second));
    let subscribers = || redis.cli(&["PUBSUB", "NUMSUB", "ws:user:alice:events"]);
    until(|| subscribers().ends_with('1').then_some(())).await;
    let large = "1".repeat(PAYLOAD_MAX + 1);
    assert_eq!(one.publish(&at("user", "alice"), &large).await, Err(EngineError::TooLarge));
}

#[tokio::test]
async fn an_interruption_is_told_with_its_end_in_turn_with_the_messages() {
    let Some(mut redis) = Redis::start() else { return };
    let end = End::start(&redis).await;
    let mut seat = end.seat();
    enter(&mut seat, &at("user", "alice")).await.expect("confirmed");
    end.publish(&at("user", "alice"), "1").await.expect("published");
    assert_eq!(heard(&mut seat).await, "1");
    redis.kill();
    assert_eq!(heard(&mut seat).await, "Interrupted");
    assert_eq!(end.publish(&at("user", "alice"), "2").await, Err(EngineError::Unavailable));
    let mut late = end.seat();
    assert_eq!(enter(&mut late, &at("group", "3")).await, Err(NotSure::Interrupted));
    redis.restart();
    assert_eq!((heard(&mut seat).await.as_str(), heard(&mut late).await.as_str()), ("Resumed", "Resumed"));
    redis.publish("ws:group:3:events", b"3");
    redis.publish("ws:user:alice:events", b"4");
    assert_eq!((heard(&mut late).await.as_str(), heard(&mut seat).await.as_str()), ("3", "4"));
}

/// Who had it hears that it is lost before the interruption is over; who asks for it later is refused.
#[tokio::test]
async fn what_redis_allows_no_more_is_lost_aloud() {
    let Some(redis) = Redis::start() else { return };
    let end = End::start(&redis).await;
    let mut seat = end.seat();
    for address in [at("user", "alice"), at("group", "3")] {
        enter(&mut seat, &address).await.expect("confirmed");
    }
    // Redis ends connections that are subscribed to more than they may be.
    redis.cli(&["ACL", "SETUSER", "default", "resetchannels", "&ws:user:*"]);
    for expected in ["Interrupted", "lost group", "Resumed"] {
        assert_eq!(heard(&mut seat).await, expected);
    }
    assert_eq!(enter(&mut end.seat(), &at("group", "3")).await, Err(NotSure::Refused));
    redis.publish("ws:user:alice:events", b"1");
    assert_eq!(heard(&mut seat).await, "1");
}

/// Connections come and go on several threads: whoever is told that messages arrive gets them.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_told_so_hears_however_others_come_and_go() {
    let Some(redis) = Redis::start() else { return };
    let end = Arc::new(End::start(&redis).await);
    let busy: Vec<_> = (0..4)
        .map(|_| {
            let end = Arc::clone(&end);
            AbortOnDropHandle::new(tokio::spawn(async move {
                loop {
                    let mut seat = end.seat();
                    // Some are gone before Redis has answered.
                    drop(seat.enter(&at("user", "alice")));
                    tokio::task::yield_now().await;
                    drop(seat);
                }
            }))
        })
        .collect();
    for number in 0..300 {
        let mut seat = end.seat();
        enter(&mut seat, &at("user", "alice")).await.expect("confirmed");
        end.publish(&at("user", "alice"), &number.to_string()).await.expect("published");
        assert_eq!(heard(&mut seat).await, number.to_string());
    }
    drop(busy);
}
