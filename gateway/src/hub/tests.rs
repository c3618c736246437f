//! Publishers and inboxes by themselves.

use futures_util::task::noop_waker_ref;

use super::{inbox::WAITING, *};
use crate::call::{EVENTS_MAX, EventNames};

fn name(text: &str) -> EventName {
    EventName::parse(text).expect("a name")
}

fn one(text: &str) -> EventNames {
    EventNames::One(EventName::parse(text))
}

fn json(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).expect("JSON")
}

fn taken(inbox: &Inbox) -> Vec<String> {
    let events = inbox.take(usize::MAX).expect("no overflow");
    events.iter().map(|event| format!("{}={}", event.name.as_str(), event.args.get())).collect()
}

fn stirred(inbox: &Inbox) -> bool {
    inbox.poll_stirred(&mut std::task::Context::from_waker(noop_waker_ref())).is_ready()
}

#[test]
fn the_last_event_comes_at_once_and_every_later_one_once() {
    let hub = Hub::new();
    let load = hub.register(name("load")).expect("registered");
    let mut early = hub.inbox();
    assert_eq!(early.subscribe(one("load")), Ok(one("load")));
    assert!(!stirred(&early));
    load.publish(json("1")).expect("published");
    load.publish(json("2")).expect("published");
    let mut late = hub.inbox();
    assert_eq!(late.subscribe(one("load")), Ok(one("load")));
    assert_eq!(late.subscribe(one("load")), Ok(one("load")), "twice is once");
    assert!(stirred(&early) && stirred(&late));
    load.publish(json("3")).expect("published");
    assert_eq!(taken(&early), ["load=1", "load=2", "load=3"]);
    assert_eq!(taken(&late), ["load=2", "load=3"]);
    assert!(!stirred(&late));
}

#[test]
fn one_text_is_made_for_all() {
    let hub = Hub::new();
    let load = hub.register(name("load")).expect("registered");
    let mut inboxes = [hub.inbox(), hub.inbox()];
    for inbox in &mut inboxes {
        inbox.subscribe(one("load")).expect("subscribed");
    }
    load.publish(json("1")).expect("published");
    let [a, b] = inboxes.map(|inbox| inbox.take(1).expect("no overflow").remove(0));
    assert_eq!(a.text(|event| event.args.get().into()), "1");
    let text = b.text(|_| panic!("made already"));
    assert_eq!(text.as_ptr(), a.text(|_| panic!("made already")).as_ptr(), "the same bytes");
}

#[test]
fn only_what_is_known_is_accepted() {
    let hub = Hub::new();
    let load = hub.register(name("load")).expect("registered");
    let mut inbox = hub.inbox();
    assert_eq!(inbox.subscribe(one("auth")), Ok(one("auth")));
    assert_eq!(inbox.subscribe(one("other")), Err(Refused::Unknown));
    assert_eq!(inbox.subscribe(EventNames::One(None)), Err(Refused::Unknown));
    let both = EventNames::Several(vec![name("other"), name("load")]);
    assert_eq!(inbox.subscribe(both.clone()), Ok(EventNames::Several(vec![name("load")])));
    assert_eq!(inbox.unsubscribe(both), Ok(EventNames::Several(vec![name("load")])));
    assert_eq!(inbox.unsubscribe(one("load")), Ok(one("load")), "also where there is none");
    assert_eq!(inbox.unsubscribe(one("other")), Err(Refused::Unknown));
    assert_eq!(hub.register(name("load")).err(), Some(HubError::Taken));
    assert_eq!(hub.register(name("auth")).err(), Some(HubError::Taken), "nobody speaks for the sessions");
    drop(load);
    assert_eq!(inbox.subscribe(one("load")), Err(Refused::Unknown));
}

#[test]
fn after_the_end_of_a_subscription_nothing_comes() {
    let hub = Hub::new();
    let (a, b) = (hub.register(name("a")).expect("registered"), hub.register(name("b")).expect("registered"));
    let mut inbox = hub.inbox();
    inbox.subscribe(EventNames::Several(vec![name("a"), name("b")])).expect("subscribed");
    for publisher in [&a, &b] {
        publisher.publish(json("1")).expect("published");
    }
    inbox.unsubscribe(one("a")).expect("was subscribed");
    a.publish(json("2")).expect("published");
    assert_eq!(taken(&inbox), ["b=1"]);
}

#[test]
fn a_subscription_outlives_its_publisher_but_not_the_inbox() {
    let hub = Hub::new();
    let first = hub.register(name("a")).expect("registered");
    let mut inbox = hub.inbox();
    inbox.subscribe(one("a")).expect("subscribed");
    first.publish(json("1")).expect("published");
    drop(first);
    let second = hub.register(name("a")).expect("registered again");
    let mut other = hub.inbox();
    other.subscribe(one("a")).expect("subscribed");
    second.publish(json("2")).expect("published");
    assert_eq!(taken(&inbox), ["a=1", "a=2"]);
    assert_eq!(taken(&other), ["a=2"], "what another publisher said last is not told");
    drop((inbox, other, second));
    assert_eq!(hub.topics().len(), 1, "only auth is left");
}

#[test]
fn an_inbox_that_is_not_read_overflows_alone() {
    let hub = Hub::new();
    let publisher = hub.register(name("a")).expect("registered");
    let (mut slow, mut good) = (hub.inbox(), hub.inbox());
    slow.subscribe(one("a")).expect("subscribed");
    good.subscribe(one("a")).expect("subscribed");
    for count in 0..=WAITING {
        publisher.publish(json(&count.to_string())).expect("published");
        assert_eq!(taken(&good), [format!("a={count}")]);
    }
    assert!(stirred(&slow));
    assert_eq!(slow.take(1).err(), Some(Overflowed));
    publisher.publish(json("1")).expect("published");
    assert_eq!(slow.take(1).err(), Some(Overflowed), "it does not come back");
}

#[test]
fn weight_is_bounded_too() {
    let hub = Hub::new();
    let publisher = hub.register(name("a")).expect("registered");
    let mut inbox = hub.inbox();
    inbox.subscribe(one("a")).expect("subscribed");
    let large = format!("\"{}\"", "x".repeat(ARGS_MAX - 2));
    for _ in 0..60 {
        publisher.publish(json(&large)).expect("published");
    }
    assert_eq!(taken(&inbox).len(), 60);
    for _ in 0..64 {
        publisher.publish(json(&large)).expect("published");
    }
    assert_eq!(inbox.take(1).err(), Some(Overflowed));
    assert_eq!(publisher.publish(json(&format!("[{large}]"))), Err(HubError::TooLarge));
}

#[test]
fn subscriptions_and_names_are_bounded() {
    let hub = Hub::new();
    let names: Vec<_> = (1..TOPICS).map(|number| name(&format!("e{number}"))).collect();
    let publishers: Vec<_> = names.iter().map(|name| hub.register(name.clone()).expect("room")).collect();
    assert_eq!(hub.register(name("more")).err(), Some(HubError::TooMany));
    let mut inbox = hub.inbox();
    let Ok(EventNames::Several(accepted)) = inbox.subscribe(EventNames::Several(names.clone())) else {
        panic!("none")
    };
    assert_eq!(accepted, names[..EVENTS_MAX]);
    assert_eq!(inbox.subscribe(EventNames::One(names.last().cloned())), Err(Refused::TooMany));
    inbox.unsubscribe(EventNames::One(names.first().cloned())).expect("was subscribed");
    assert!(inbox.subscribe(EventNames::One(names.last().cloned())).is_ok());
    drop(publishers);
    assert!(hub.register(name("more")).is_ok());
}
