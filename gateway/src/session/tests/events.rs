//! Events, sessions of others, and the warning before the end.

use super::*;
use crate::call::{EventName, EventNames, Listen, SessionsRequest};

impl Bench {
    fn sessions(&mut self, action: &str, request: SessionsRequest) -> String {
        self.ticket += 1;
        let subject = namespace::find("rpc", "sessions").and_then(|row| row.subject(action));
        self.on(Event::Request { ticket: self.ticket, subject, call: Call::Sessions(request) })
    }

    fn subscribe(&mut self) -> String {
        self.ticket += 1;
        let subject = namespace::find("events", "subscribe").and_then(Row::plain);
        let call = Call::Listen(Listen::Subscribe, EventNames::One(EventName::parse("auth")));
        self.on(Event::Request { ticket: self.ticket, subject, call })
    }

    pub(super) fn takes_events(&self) -> bool {
        self.session.takes_events(self.now, self.watch)
    }

    /// What an event that waits leads to, as its connection asks for it.
    pub(super) fn published(&mut self) -> String {
        if self.takes_events() { self.on(Event::Published) } else { "waits".to_owned() }
    }
}

#[test]
fn sessions_are_asked_for_and_ones_own_ends_like_a_logout() {
    let mut bench = bench();
    assert_eq!(bench.sessions("list", SessionsRequest::List), "1:401");
    let mut bench = super::bench().log_in();
    assert_eq!(bench.sessions("list", SessionsRequest::List), "ask authd 1");
    assert_eq!(bench.on(Event::Answered(1, Ok(Answer::Sessions(vec![])))), "used, 1:sessions");
    let other = SessionId(Uuid::from_bytes([2; 16]));
    assert_eq!(bench.sessions("end", SessionsRequest::End(Some(other))), "ask authd 2");
    assert_eq!(bench.on(Event::Answered(2, Err(Error::NotFound))), "2:404");
    let own = SessionId(Uuid::from_bytes([1; 16]));
    assert_eq!(bench.sessions("end", SessionsRequest::End(Some(own))), "clear");
    assert_eq!(bench.query(), "", "it waits");
    assert_eq!(bench.on(Event::Cleared(Ok(()))), "3:ended, 4:401");
}

#[test]
fn only_a_session_that_may_listen_does() {
    let mut bench = bench();
    assert_eq!((bench.subscribe(), bench.session.listener()), ("1:401".to_owned(), None));
    bench.auth("u", "p");
    let deaf = Identity { acl: vec!["sysadm.rpc.#".to_owned()], ..identity(1) };
    bench.on(Event::LoggedIn(Ok(Outcome::Granted(deaf)), UP));
    assert_eq!((bench.subscribe(), bench.session.listener()), ("3:403".to_owned(), None));
    let mut bench = super::bench().log_in();
    assert_eq!(bench.subscribe(), "listen 1");
    assert_eq!(bench.session.listener(), Some(SessionId(Uuid::from_bytes([1; 16]))));
    bench.take_up(2);
    bench.on(granted(2));
    assert_eq!(bench.session.listener(), Some(SessionId(Uuid::from_bytes([2; 16]))));
    bench.on(Event::Retired);
    bench.clear(false);
    assert_eq!(bench.session.listener(), None);
}

#[test]
fn events_follow_the_rule_of_requests() {
    let mut bench = bench();
    assert_eq!(bench.published(), "waits", "nobody is logged in");
    let mut bench = bench.log_in();
    assert_eq!(bench.published(), "deliver");
    bench.watch = None;
    assert_eq!(bench.published(), "waits");
    bench.watch = Some(2);
    assert_eq!(bench.published(), "check");
    assert_eq!(bench.published(), "waits", "one question at a time");
    assert_eq!(bench.query(), "", "it waits too");
    assert_eq!(bench.on(Event::Checked(Ok(identity(1)), bench.watch)), "deliver, used, 1:rows");
    assert_eq!(bench.published(), "deliver");
    bench.pass(61);
    assert_eq!(bench.published(), "check", "rights are a minute old");
    let deaf = Identity { acl: vec!["sysadm.rpc.#".to_owned()], ..identity(1) };
    assert_eq!(bench.on(Event::Checked(Ok(deaf), bench.watch)), "");
    assert_eq!(bench.session.listener(), None);
}

#[test]
fn a_listener_whose_session_is_gone_is_told_unless_it_was_idle() {
    let mut bench = bench().log_in();
    bench.watch = Some(2);
    assert_eq!(bench.published(), "check");
    let gone = Event::Checked(Err(Error::NotFound), bench.watch);
    assert_eq!(bench.on(gone), "tell Revoked, close session ended");
    let mut bench = super::bench().log_in();
    bench.pass(300);
    assert_eq!(bench.published(), "check");
    assert_eq!(bench.on(Event::Checked(Err(Error::NotFound), UP)), "");
    assert_eq!((bench.query(), bench.published()), ("1:401".to_owned(), "waits".to_owned()));
}

#[test]
fn an_authd_that_gives_no_answer_is_asked_again_after_a_while() {
    let mut bench = bench().log_in();
    bench.watch = Some(2);
    assert_eq!(bench.published(), "check");
    assert_eq!(bench.on(Event::Checked(Err(Error::Unavailable), bench.watch)), "");
    assert_eq!(bench.published(), "waits");
    assert_eq!(bench.session.deadline(), bench.now + SECOND);
    bench.pass(1);
    assert_eq!(bench.on(Event::Tick), "");
    assert_eq!(bench.published(), "check");
}

#[test]
fn the_end_is_announced_once_a_minute_before() {
    let mut bench = bench().log_in();
    let mut told = Vec::new();
    let end = bench.start + 43_200 * SECOND;
    while bench.now < end {
        let actions = bench.live(100);
        if !actions.is_empty() {
            told.push(actions);
        }
        bench.on(Event::Heard);
        // Looking at the session again neither repeats nor forgets it.
        let left = end.saturating_duration_since(bench.now);
        if bench.query() == "check" {
            bench.on(Event::Checked(Ok(Identity { absolute_left: left, ..identity(1) }), UP));
        }
    }
    assert_eq!(told, ["tell expiring 60 at 43140"]);
    let mut late = super::bench();
    late.auth("u", "p");
    let last = Identity { absolute_left: 60 * SECOND, ..identity(1) };
    late.on(Event::LoggedIn(Ok(Outcome::Granted(last)), UP));
    assert_eq!(late.live(59), "");
}
