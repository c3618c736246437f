//! Publishers and inboxes by themselves.

use futures_util::task::noop_waker_ref;

use super::{inbox::WAITING, *};
use crate::call::{Address, ChannelName, EVENTS_MAX, EventNames, Facility, Pk};

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
    let mut all = Vec::new();
    loop {
        let some = inbox.take(usize::MAX).expect("no overflow");
        if some.is_empty() {
            return all;
        }
        all.extend(some.iter().map(|message| match message {
            Sent::Event(event) => format!("{}={}", event.name.as_str(), event.args.get()),
            Sent::Delivery(delivery) => {
                format!("{}={}", delivery.at.channel.as_str(), delivery.message.get())
            }
            Sent::Notice(notice) => format!("{notice:?}"),
            Sent::Lost(at) => format!("lost {}", at.channel.as_str()),
        }));
    }
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
    let [a, b] = inboxes.map(|inbox| match inbox.take(1).expect("no overflow").remove(0) {
        Sent::Event(event) => event,
        other => panic!("{other:?}"),
    });
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
    assert_eq!(slow.take(1).err(), Some(Overflowed::Events));
    publisher.publish(json("1")).expect("published");
    assert_eq!(slow.take(1).err(), Some(Overflowed::Events), "it does not come back");
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
    assert_eq!(inbox.take(1).err(), Some(Overflowed::Events));
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

fn at(channel: &str, pk: Option<&str>) -> Address {
    Address {
        channel: ChannelName::parse(channel).expect("a name"),
        pk: pk.map(|pk| Pk::parse(pk).expect("a pk")),
        facility: Facility::default(),
    }
}

fn somebody(number: u32) -> Owner {
    Owner::Identity(format!("user/{number}").into())
}

#[test]
fn what_is_said_at_an_address_is_heard_there_and_nowhere_else() {
    let hub = Hub::new();
    let mut inbox = hub.inbox_of(somebody(1), 8);
    inbox.enter(&at("group", Some("3"))).expect("room");
    inbox.enter(&at("group", Some("3"))).expect("twice is once");
    let elsewhere = Address { facility: Facility::parse("other").expect("a name"), ..at("group", Some("3")) };
    for place in [at("group", None), at("group", Some("4")), at("group", Some("3 ")), elsewhere] {
        assert!(!hub.is_heard(&place), "{place:?}");
        hub.deliver(&place, b"1").expect("small");
    }
    hub.deliver(&at("group", Some("3")), b"2").expect("small");
    assert_eq!(taken(&inbox), ["group=2"]);
    hub.deliver(&at("group", Some("3")), b"3").expect("small");
    assert!(inbox.leave(&at("group", Some("3"))), "the last");
    assert!(!inbox.leave(&at("group", Some("3"))), "there is none");
    assert!(!stirred(&inbox), "what came before the end is not sent after it");
    assert_eq!(hub.counted(), (0, 0, 0));
}

#[test]
fn any_payload_is_json_when_it_arrives() {
    let hub = Hub::new();
    let mut inbox = hub.inbox_of(somebody(1), 8);
    inbox.enter(&at("a", None)).expect("room");
    let nested = format!("{}1{}", "[".repeat(DEPTH_AND_ONE), "]".repeat(DEPTH_AND_ONE));
    for (payload, expected) in [
        (&b"5"[..], "5"),
        (b"[1]", "[1]"),
        (b"true", "true"),
        (b"null", "null"),
        (b"\"q\"", "\"q\""),
        (b" {\"a\": 1}\n", "{\"a\": 1}"),
        (b"", "\"\""),
        (b"plain", "\"plain\""),
        (b"{", "\"{\""),
        (b"1 2", "\"1 2\""),
        (b"NaN", "\"NaN\""),
        (b"\xff\x00", "\"\u{fffd}\\u0000\""),
        (nested.as_bytes(), &format!("\"{nested}\"")),
    ] {
        hub.deliver(&at("a", None), payload).expect("small");
        assert_eq!(taken(&inbox), [format!("a={expected}")], "{payload:?}");
    }
    // Each byte of this takes six as a string.
    let control = vec![1; PAYLOAD_MAX / 2];
    assert_eq!(hub.deliver(&at("a", None), &control), Err(HubError::TooLarge));
    assert_eq!(hub.deliver(&at("a", None), &vec![b'1'; PAYLOAD_MAX + 1]), Err(HubError::TooLarge));
    assert!(!stirred(&inbox));
}

const DEPTH_AND_ONE: usize = 127;

#[test]
fn an_inbox_that_is_not_read_says_what_was_too_much() {
    let hub = Hub::new();
    let (mut slow, mut good) = (hub.inbox_of(somebody(1), 8), hub.inbox_of(somebody(2), 8));
    for inbox in [&mut slow, &mut good] {
        inbox.enter(&at("a", None)).expect("room");
    }
    for count in 0..=WAITING {
        hub.deliver(&at("a", None), count.to_string().as_bytes()).expect("small");
        assert_eq!(taken(&good), [format!("a={count}")]);
    }
    assert_eq!(slow.take(1).err(), Some(Overflowed::Channels));
}

#[test]
fn large_messages_are_taken_one_by_one() {
    let hub = Hub::new();
    let mut inbox = hub.inbox_of(somebody(1), 8);
    inbox.enter(&at("a", None)).expect("room");
    let large = vec![b'1'; 200 << 10];
    for payload in [&large[..], &large, b"1", b"2"] {
        hub.deliver(&at("a", None), payload).expect("small enough");
    }
    let mut portions = Vec::new();
    while stirred(&inbox) {
        portions.push(inbox.take(32).expect("no overflow").len());
    }
    assert_eq!(portions, [1, 3]);
}

#[test]
fn subscriptions_to_channels_are_bounded_and_one_owner_leaves_places() {
    let hub = Hub::new();
    let mut inbox = hub.inbox_of(somebody(1), 2);
    let names = ["a", "b", "c"].map(|name| at(name, None));
    let entered = names.each_ref().map(|name| inbox.enter(name));
    assert_eq!(entered, [Ok(()), Ok(()), Err(Refused::TooMany)]);
    inbox.enter_own(&names[2]);
    assert_eq!(inbox.channels().len(), 3, "of its own it hears in any case");
    let mut greedy = hub.inbox_of(somebody(2), usize::MAX);
    let more = (0..).take_while(|number: &u32| greedy.enter(&at("x", Some(&number.to_string()))).is_ok());
    let most = more.count();
    assert_eq!(most, (1 << 18) / 16);
    let mut second = hub.inbox_of(somebody(2), 8);
    assert_eq!(second.enter(&names[0]), Err(Refused::TooMany), "in whichever connection");
    let mut other = hub.inbox_of(somebody(3), 8);
    assert_eq!(other.enter(&names[0]), Ok(()));
    // Who logs in takes along what was counted elsewhere.
    greedy.belongs_to(somebody(4));
    assert_eq!(second.enter(&names[0]), Ok(()));
    assert_eq!(hub.counted(), (most + 5, 4, most + 3));
    // As far as it fits beside what that one has already.
    let mut more = hub.inbox_of(somebody(5), 8);
    assert_eq!(more.enter(&at("y", None)), Ok(()));
    assert_eq!(more.belongs_to(somebody(4)), [(at("y", None), true)]);
    assert_eq!(more.channels().len(), 0);
    drop((greedy, second, other, inbox));
    assert_eq!(hub.counted(), (0, 0, 0));
}

#[test]
fn where_much_waits_in_all_who_reads_slowly_goes_first_and_who_reads_stays() {
    let hub = Hub::with_memory(1 << 20);
    let (mut slow, mut quick) = (hub.inbox_of(somebody(1), 8), hub.inbox_of(somebody(2), 8));
    slow.enter(&at("a", None)).expect("room");
    quick.enter(&at("a", None)).expect("room");
    let message = format!("\"{}\"", "x".repeat(100 << 10));
    for _ in 0..4 {
        hub.deliver(&at("a", None), message.as_bytes()).expect("not too large");
        assert_eq!(taken(&quick).len(), 1);
    }
    assert!(slow.take(0).is_ok(), "four of these are no more than one may have waiting, nor than all");
    for _ in 0..2 {
        hub.deliver(&at("a", None), message.as_bytes()).expect("not too large");
        assert_eq!(taken(&quick).len(), 1);
    }
    assert_eq!(slow.take(usize::MAX).err(), Some(Overflowed::Channels));
    // What it held is free again.
    let mut late = hub.inbox_of(somebody(3), 8);
    late.enter(&at("a", None)).expect("room");
    for _ in 0..4 {
        hub.deliver(&at("a", None), message.as_bytes()).expect("not too large");
    }
    assert_eq!(taken(&late).len(), 4);
}

#[test]
fn a_notice_comes_once_to_whoever_is_subscribed_to_a_channel() {
    let hub = Hub::new();
    let (mut two, mut none) = (hub.inbox_of(somebody(1), 8), hub.inbox_of(somebody(2), 8));
    two.enter(&at("a", None)).expect("room");
    two.enter(&at("b", None)).expect("room");
    none.subscribe(one("auth")).expect("subscribed");
    hub.tell(Notice::Interrupted);
    assert_eq!(taken(&two), ["Interrupted"]);
    assert!(!stirred(&none));
}
