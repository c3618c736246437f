//! Requests about channels, of nobody and of somebody.

use bytes::Bytes;

use super::*;
use crate::{
    call::{Address, ChannelAuth, ChannelCall, ChannelName, Facility, Payload},
    channels::{Decision, Policies},
};

const TABLE: &str = "
    [channels.news]
    subscribe = 'anyone'
    publish = 'anyone'
    [channels.hall]
    subscribe = 'member'
";

fn at(channel: &str) -> Address {
    let channel = ChannelName::parse(channel).expect("a name");
    Address { channel, pk: None, facility: Facility::default() }
}

impl Bench {
    fn with_policies(self) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("channels.toml");
        std::fs::write(&path, TABLE).expect("written");
        self.router.set_policies(Policies::read(&path).expect("a table"));
        self
    }

    fn says(&mut self, call: ChannelCall) -> String {
        self.ticket += 1;
        self.on(Event::Request { ticket: self.ticket, subject: None, call: Call::Channel(call) })
    }

    fn publishes(&mut self) -> String {
        self.says(ChannelCall::Publish(at("news"), Payload(Bytes::from_static(b"1"))))
    }
}

#[test]
fn nobody_is_asked_about_as_anybody_and_hears_what_anyone_may() {
    let mut bench = bench().with_policies();
    assert!(!bench.takes_events(), "there is nothing to be heard");
    assert_eq!(bench.says(ChannelCall::Subscribe(at("hall"))), "1:403");
    assert_eq!(bench.says(ChannelCall::Subscribe(at("news"))), "join 2 true");
    assert_eq!(bench.says(ChannelCall::Resubscribe(vec![at("hall"), at("news")])), "join 3 false true");
    assert_eq!(bench.published(), "deliver");
    bench.router.set_policies(Policies::default());
    assert_eq!(bench.published(), "hear channels again, deliver");
    assert_eq!(bench.session.may_hear_at(&bench.router, &at("news")), Decision::Deny);
}

#[test]
fn a_subsystem_that_comes_and_goes_is_no_reason_to_ask_about_channels() {
    let (mut bench, registry) = (bench(), Registry::default());
    bench.router = Router::new("host", None, registry.clone());
    let mut bench = bench.with_policies().log_in();
    bench.says(ChannelCall::Subscribe(at("hall")));
    assert_eq!(bench.published(), "deliver");
    registry.stir();
    assert_eq!(bench.published(), "hear events again, deliver");
    // A table that is read again and says the same is the same.
    let mut bench = bench.with_policies();
    assert_eq!(bench.published(), "deliver");
    bench.router.set_policies(Policies::default());
    assert_eq!(bench.published(), "hear channels again, deliver");
    let fewer = Identity { acl: Vec::new(), ..identity(1) };
    bench.pass(60);
    assert_eq!(bench.published(), "check");
    assert_eq!(bench.on(Event::Checked(Ok(fewer), UP)), "hear all again, deliver");
}

#[test]
fn what_a_session_may_is_known_before_anything_is_done() {
    let mut bench = bench().with_policies().log_in();
    assert_eq!(bench.says(ChannelCall::Subscribe(at("hall"))), "join 1 true");
    bench.watch = None;
    assert_eq!(bench.publishes(), "2:503");
    assert_eq!(bench.published(), "waits");
    bench.watch = Some(2);
    assert_eq!(bench.publishes(), "check");
    assert_eq!(bench.on(Event::Checked(Ok(identity(1)), bench.watch)), "publish 3");
    bench.pass(61);
    assert_eq!(bench.published(), "check", "before a delivery, too");
    let gone = Event::Checked(Err(Error::NotFound), bench.watch);
    assert_eq!(bench.on(gone), "tell Revoked, close session ended");
}

#[test]
fn so_many_messages_in_a_second_and_no_more() {
    let mut bench = bench().with_policies();
    for ticket in 1..=3 {
        assert_eq!(bench.publishes(), format!("publish {ticket}"));
    }
    assert_eq!(bench.publishes(), "4:429");
    for ticket in 1..=3 {
        bench.on(Event::Answered(ticket, Ok(Answer::Done)));
    }
    bench.now += SECOND / 2;
    assert_eq!(bench.publishes(), "publish 5");
    assert_eq!(bench.publishes(), "6:429");
    bench.pass(20);
    for ticket in 7..=9 {
        assert_eq!(bench.publishes(), format!("publish {ticket}"), "never more at once");
    }
    assert_eq!(bench.publishes(), "10:429");
}

#[test]
fn so_many_bytes_and_addresses_and_no_more() {
    let mut bench = bench().with_policies();
    let half = |size: usize| ChannelCall::Publish(at("news"), Payload(vec![b'1'; size].into()));
    for (expected, size) in [("publish 1", 512 << 10), ("publish 2", 512 << 10), ("3:429", 1)] {
        assert_eq!(bench.says(half(size)), expected);
    }
    for ticket in 1..=2 {
        bench.on(Event::Answered(ticket, Ok(Answer::Done)));
    }
    for _ in 0..2 {
        assert!(bench.says(ChannelCall::Resubscribe(vec![at("news"); 256])).starts_with("join"));
    }
    assert_eq!(bench.says(ChannelCall::Unsubscribe(at("news"))), "6:429");
    bench.now += SECOND / 50;
    assert_eq!(bench.says(ChannelCall::Subscribe(at("news"))), "join 7 true");
}

#[test]
fn who_has_logged_out_has_as_long_as_at_first_to_log_in() {
    let mut bench = bench();
    bench.session.settings.warns = true;
    let mut bench = bench.log_in();
    bench.pass(100);
    bench.on(Event::Ended(EndReason::Idle));
    assert_eq!(bench.live(20), "tell no credentials at 108");
    assert_eq!(bench.live(60), "close login timeout at 130");
}

#[test]
fn a_token_that_is_taken_up_for_channels_opens_nothing_else() {
    let rows = [
        ("sysadm.rpc.query._", true, "2:403"),
        ("sysadm.rpc.#", true, "used, 2:rows"),
        ("sysadm.rpc.#", false, "2:403"),
    ];
    for (acl, has_access, expected) in rows {
        let mut bench = bench().with_policies();
        bench.ticket += 1;
        let auth = Call::ChannelAuth(ChannelAuth::Token(Some(token(1))));
        assert_eq!(bench.on(Event::Request { ticket: 1, subject: None, call: auth }), "ask of channels");
        let held = Identity { is_token: true, has_access, acl: vec![acl.to_owned()], ..identity(1) };
        bench.on(Event::LoggedIn(Ok(Outcome::Granted(held)), UP));
        assert_eq!(bench.query(), expected, "{acl}");
    }
}
