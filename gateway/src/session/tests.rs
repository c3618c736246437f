//! The machine by itself: what happened, and what it wants done, as short words.

mod background;
mod calls;
mod channels;
mod events;
mod timers;

use std::time::Duration;

use uuid::Uuid;

use super::*;
use crate::backend::Up;
use crate::call::{
    Answers, Challenge, Credentials, Idle, KeyProof, KeyRequest, Prompts, Secret, SessionId, Token,
};
use crate::namespace::{self, Row};
use crate::subsystem::Registry;

const SECOND: Duration = Duration::from_secs(1);
const UP: Watch = Some(1);

struct Bench {
    session: Session,
    router: Router,
    start: Instant,
    now: Instant,
    watch: Watch,
    ticket: Ticket,
}

fn bench() -> Bench {
    bench_of(true)
}

fn bench_of(local: bool) -> Bench {
    bench_with(local, false)
}

fn bench_with(local: bool, certificate: bool) -> Bench {
    let timers = Timers { login: 30 * SECOND, idle: 600 * SECOND, conversation: 310 * SECOND };
    let start = Instant::now();
    let session = Session::new(
        Settings { timers, in_flight: 4, local, certificate, warns: false, publishes: 3 },
        start,
    );
    let router = Router::new("host", Some(Up::default()), Registry::default());
    Bench { session, router, start, now: start, watch: UP, ticket: 0 }
}

fn token(n: u8) -> Token {
    Token::parse(Secret::new(Uuid::from_bytes([n; 16]).to_string())).expect("the form of a token")
}

fn identity(n: u8) -> Identity {
    Identity {
        session: SessionId(Uuid::from_bytes([n; 16])),
        token: token(n),
        who: crate::call::Who::alice(),
        has_access: true,
        is_token: false,
        is_channel: false,
        turn: 0,
        issued: 0,
        expires: 0,
        acl: vec!["#".to_owned()],
        idle: Some(Idle { after: 300 * SECOND, left: 300 * SECOND }),
        absolute_left: 43_200 * SECOND,
        rights: 60 * SECOND,
    }
}

fn granted(n: u8) -> Event {
    Event::LoggedIn(Ok(Outcome::Granted(identity(n))), UP)
}

fn prompts(conversation: &str) -> Event {
    let prompts = Prompts { conversation: conversation.to_owned(), prompts: vec![] };
    Event::LoggedIn(Ok(Outcome::Prompts(prompts)), UP)
}

fn word(action: &Action) -> String {
    match action {
        Action::Reply(ticket, Reply::Error(error)) => format!("{ticket}:{}", error.code()),
        Action::Reply(ticket, Reply::Answer(answer)) => {
            let answer = match answer {
                Answer::Done => "done",
                Answer::Server { .. } => "server",
                Answer::Granted { seconds: 300, .. } => "granted",
                Answer::Granted { .. } => "granted for another time",
                Answer::Prompts(_) => "prompts",
                Answer::Rows(_) => "rows",
                Answer::Challenge(_) => "challenge",
                Answer::Keys(_) => "keys",
                Answer::Checksums(_) => "checksums",
                Answer::Sessions(_) => "sessions",
                Answer::Ended(_) => "ended",
                Answer::Records(_) => "records",
                Answer::Listening(..) => "listening",
                Answer::Described(_) => "described",
                Answer::Cancelled(_) => "cancelled",
                Answer::Channel(_) => "channel",
                Answer::Result(_) => "result",
            };
            format!("{ticket}:{answer}")
        }
        Action::Refused(refusal) => refusal.why.code().to_owned(),
        Action::NoReply(ticket) => format!("{ticket}:silence"),
        Action::Login(Login::Password(_)) => "ask password".to_owned(),
        Action::Login(Login::LocalPeer { .. }) => "ask peer".to_owned(),
        Action::Login(Login::Token(_)) => "ask token".to_owned(),
        Action::Login(Login::Channel(_)) => "ask of channels".to_owned(),
        Action::Login(Login::Answers(_)) => "ask answers".to_owned(),
        Action::Login(Login::CertificateProof(_)) => "ask proof".to_owned(),
        Action::Login(Login::TlsCertificate { .. }) => "ask certificate".to_owned(),
        Action::Challenge => "ask challenge".to_owned(),
        Action::Settings(ticket, _) => format!("ask certd {ticket}"),
        Action::Sessions(ticket, _) => format!("ask authd {ticket}"),
        Action::Logs(ticket, _) => format!("logs {ticket}"),
        Action::Listen(ticket, ..) => format!("listen {ticket}"),
        Action::Subsystem(ticket, _) => format!("ask subsystem {ticket}"),
        Action::Stop(ticket) => format!("stop {ticket}"),
        Action::Cancel(ticket, id) => format!("find {id} {ticket}"),
        Action::HearAgain(Again { events, channels }) => match (events, channels) {
            (true, true) => "hear all again".to_owned(),
            (true, false) => "hear events again".to_owned(),
            (false, true) => "hear channels again".to_owned(),
            (false, false) => "hear nothing again".to_owned(),
        },
        Action::Deliver => "deliver".to_owned(),
        Action::Report => "report".to_owned(),
        Action::TellExpiring(left) => format!("tell expiring {}", left.as_secs()),
        Action::Check(..) => "check".to_owned(),
        Action::Ask(ticket, _) => format!("ask handlers for {ticket}"),
        Action::Join(ticket, _, all) => {
            let all: Vec<_> = all.iter().map(|(_, allowed)| allowed.to_string()).collect();
            format!("join {ticket} {}", all.join(" "))
        }
        Action::Part(ticket, _) => format!("part {ticket}"),
        Action::Publish(ticket, ..) => format!("publish {ticket}"),
        Action::TellNoCredentials => "tell no credentials".to_owned(),
        Action::Clear(_) => "clear".to_owned(),
        Action::Retire(old) => format!("retire {}", &old.expose()[..2]),
        Action::Used => "used".to_owned(),
        Action::TellEnded(reason) => format!("tell {reason:?}"),
        Action::Close(reason) => format!("close {reason}"),
        Action::SendAway(reason) => format!("send away {reason}"),
        Action::Penalty(seconds) => format!("penalty {seconds}"),
    }
}

impl Bench {
    fn on(&mut self, event: Event) -> String {
        let mut actions = Vec::new();
        self.session.on(event, self.now, self.watch, &self.router, &mut actions);
        actions.iter().map(word).collect::<Vec<_>>().join(", ")
    }

    fn request(&mut self, name: &str, call: Call) -> String {
        self.ticket += 1;
        let subject = namespace::find("rpc", name).and_then(Row::plain);
        self.on(Event::Request { ticket: self.ticket, subject, call })
    }

    fn settings(&mut self, action: &str, call: Call) -> String {
        self.ticket += 1;
        let subject = namespace::find("rpc", "settings").and_then(|row| row.subject(action));
        self.on(Event::Request { ticket: self.ticket, subject, call })
    }

    fn list(&mut self) -> String {
        self.settings("list_ssl_certs", Call::Settings(KeyRequest::List))
    }

    fn ask_challenge(&mut self) -> String {
        self.request("auth_ssl", Call::AuthSsl(AuthSsl::Challenge))
    }

    fn prove(&mut self) -> String {
        let proof = KeyProof { signature: vec![1], username: String::new(), fingerprint: None };
        self.request("auth_ssl", Call::AuthSsl(AuthSsl::Proof(Some(proof))))
    }

    fn auth(&mut self, username: &str, password: &str) -> String {
        let password = Secret::new(password.to_owned());
        self.request("auth", Call::Auth(Credentials { username: username.to_owned(), password }))
    }

    fn respond(&mut self, conversation: &str) -> String {
        let answers = Answers { conversation: conversation.to_owned(), answers: vec![] };
        self.request("auth_respond", Call::AuthRespond(answers))
    }

    fn take_up(&mut self, n: u8) -> String {
        self.request("auth_token", Call::AuthToken(Some(token(n))))
    }

    fn query(&mut self) -> String {
        self.request("query", Call::Query)
    }

    fn identify(&mut self) -> String {
        self.request("identify", Call::Identify)
    }

    fn unknown(&mut self) -> String {
        self.request("no such row", Call::Absent)
    }

    fn clear(&mut self, reply: bool) -> String {
        self.request("auth_clear", Call::AuthClear { reply })
    }

    fn log_in(mut self) -> Self {
        assert_eq!(self.auth("u", "p"), "ask password");
        assert_eq!(self.on(granted(1)), "1:granted");
        self.ticket = 0;
        self
    }

    /// Lets time pass without anything happening.
    fn pass(&mut self, seconds: u32) {
        self.now += seconds * SECOND;
    }

    /// Lets time pass, with a tick whenever the machine asks for one.
    fn live(&mut self, seconds: u32) -> String {
        let end = self.now + seconds * SECOND;
        for _ in 0..100 {
            let due = self.session.deadline();
            if due > end {
                break;
            }
            self.now = due.max(self.now);
            let actions = self.on(Event::Tick);
            if !actions.is_empty() {
                return format!("{actions} at {}", (self.now - self.start).as_secs());
            }
            assert!(self.session.deadline() > self.now, "a tick must move the deadline");
        }
        self.now = end;
        String::new()
    }
}

#[test]
fn without_a_session_only_some_rows_answer() {
    let mut bench = bench();
    assert_eq!(bench.identify(), "1:server");
    assert_eq!(bench.query(), "2:401");
    assert_eq!(bench.unknown(), "3:401");
    assert_eq!(bench.list(), "4:401");
    assert_eq!(bench.clear(false), "5:silence");
    assert_eq!(bench.clear(true), "6:done");
    bench.watch = None;
    assert_eq!(bench.query(), "7:401");
}

#[test]
fn with_a_session_rows_answer_and_use_it() {
    let mut bench = bench().log_in();
    assert_eq!(bench.identify(), "1:server");
    assert_eq!(bench.query(), "used, 2:rows");
    assert_eq!(bench.unknown(), "3:404");
}

#[test]
fn a_right_that_is_not_granted_is_403_and_no_use() {
    let mut bench = bench();
    bench.auth("u", "p");
    let limited = Identity { acl: vec!["sysadm.rpc.settings.#".to_owned()], ..identity(1) };
    bench.on(Event::LoggedIn(Ok(Outcome::Granted(limited)), UP));
    assert_eq!(bench.query(), "2:403");
    assert_eq!(bench.unknown(), "3:404");
}

#[test]
fn credentials_that_cannot_be_right_are_recorded_and_refused_unasked() {
    for (local, username, password, expected) in [
        (true, "", "", "ask peer"),
        (true, "u", "", "ask peer"),
        (true, "a/b", "", "malformed-user, 1:401"),
        (true, "", "p", "malformed-user, 1:401"),
        (false, "", "", "no-password, 1:401"),
        (false, "u", "", "no-password, 1:401"),
        (false, "u", "p", "ask password"),
        (true, "u", "p", "ask password"),
        (false, "-u", "p", "malformed-user, 1:401"),
        (false, "u", "p\0", "malformed-password, 1:401"),
        (false, "u\n", "p", "malformed-user, 1:401"),
    ] {
        assert_eq!(bench_of(local).auth(username, password), expected, "{username:?} {password:?}");
    }
    for (local, username, expected) in [
        (false, "u", "ask certificate"),
        (false, "", "no-password, 1:401"),
        (false, "a/b", "malformed-user, 1:401"),
        (true, "u", "ask peer"),
    ] {
        assert_eq!(bench_with(local, true).auth(username, ""), expected, "{username:?}");
    }
    assert_eq!(bench_with(false, true).auth("u", "p"), "ask password");
    assert_eq!(bench().request("auth_ssl", Call::AuthSsl(AuthSsl::Proof(None))), "malformed-proof, 1:401");
    let long = "x".repeat(513);
    assert_eq!(bench().auth("u", &long), "malformed-password, 1:401");
    assert_eq!(bench().request("auth_token", Call::AuthToken(None)), "no-such-token, 1:401");
}

#[test]
fn each_outcome_has_its_reply() {
    for (outcome, expected) in [
        (granted(1), "1:granted"),
        (prompts("c"), "1:prompts"),
        (Event::LoggedIn(Ok(Outcome::Denied), UP), "1:401"),
        (Event::LoggedIn(Err(Error::Unauthorized), UP), "1:401"),
        (Event::LoggedIn(Err(Error::Unavailable), UP), "1:503"),
        (Event::LoggedIn(Err(Error::TimedOut), UP), "1:408"),
        (Event::LoggedIn(Err(Error::TooMany), UP), "1:429"),
        (Event::LoggedIn(Err(Error::Fault), UP), "1:500"),
    ] {
        let mut bench = bench();
        bench.auth("u", "p");
        assert_eq!(bench.on(outcome), expected);
    }
}

#[test]
fn a_penalty_is_told_once_and_closes() {
    for asks in [
        |bench: &mut Bench| bench.auth("u", "p"),
        |bench: &mut Bench| bench.request("auth_ssl", Call::AuthSsl(AuthSsl::Challenge)),
    ] {
        let mut bench = bench();
        asks(&mut bench);
        assert_eq!(bench.identify(), "");
        assert_eq!(bench.on(Event::Penalised(60)), "1:403, penalty 60");
        assert_eq!(bench.auth("u", "p"), "", "nothing is answered any more");
    }
    let mut idle = bench();
    assert_eq!(idle.on(Event::Penalised(60)), "", "nothing was asked");
    assert_eq!(idle.auth("u", "p"), "ask password");
}

#[test]
fn later_requests_wait_for_a_login_and_see_its_result() {
    let mut bench = bench();
    assert_eq!(bench.auth("u", "p"), "ask password");
    assert_eq!(bench.query(), "");
    assert_eq!(bench.identify(), "");
    assert_eq!(bench.take_up(2), "");
    assert_eq!(bench.on(granted(1)), "1:granted, used, 2:rows, 3:server, ask token");
    assert_eq!(bench.query(), "");
    assert_eq!(
        bench.on(Event::LoggedIn(Ok(Outcome::Denied), UP)),
        "4:401, used, 5:rows",
        "a failure changes nothing"
    );
}

#[test]
fn so_many_are_in_flight_and_no_more() {
    let mut bench = bench();
    assert_eq!(bench.auth("u", "p"), "ask password");
    assert_eq!([bench.query(), bench.query(), bench.query()].concat(), "");
    assert_eq!(bench.query(), "5:429");
    assert_eq!(bench.auth("u", "p"), "6:429");
    assert_eq!(bench.on(Event::LoggedIn(Ok(Outcome::Denied), UP)), "1:401, 2:401, 3:401, 4:401");
    assert_eq!(bench.auth("u", "p"), "ask password");
}

#[test]
fn a_request_under_check_counts_once() {
    let mut bench = bench().log_in();
    bench.pass(60);
    assert_eq!(bench.query(), "check");
    assert_eq!([bench.query(), bench.query(), bench.query()].concat(), "");
    assert_eq!(bench.query(), "5:429");
    assert_eq!(
        bench.on(Event::Checked(Ok(identity(1)), UP)),
        "used, 1:rows, used, 2:rows, used, 3:rows, used, 4:rows"
    );
}

#[test]
fn a_new_login_replaces_the_session() {
    let mut bench = bench().log_in();
    assert_eq!(bench.auth("u", "p"), "ask password");
    assert_eq!(bench.on(granted(2)), "retire 01");
    assert_eq!(bench.query(), "", "it waits too");
    assert_eq!(bench.on(Event::Retired), "1:granted, used, 2:rows");
    assert_eq!(bench.take_up(2), "ask token");
    assert_eq!(bench.on(granted(2)), "3:granted", "the same session is not replaced by itself");
}

#[test]
fn rights_are_asked_again_when_they_are_old() {
    let mut bench = bench().log_in();
    bench.pass(59);
    assert_eq!(bench.query(), "used, 1:rows");
    bench.pass(1);
    assert_eq!(bench.query(), "check");
    let limited = Identity { acl: vec![], ..identity(1) };
    assert_eq!(bench.on(Event::Checked(Ok(limited), UP)), "2:403");
    assert_eq!(bench.query(), "3:403");
}

#[test]
fn each_use_resets_the_idle_clock_and_nothing_else_does() {
    let long = Identity { rights: 40_000 * SECOND, ..identity(1) };
    let mut bench = bench();
    bench.auth("u", "p");
    bench.on(Event::LoggedIn(Ok(Outcome::Granted(long.clone())), UP));
    bench.pass(299);
    assert_eq!(bench.query(), "used, 2:rows");
    bench.pass(299);
    assert_eq!((bench.identify(), bench.unknown()), ("3:server".to_owned(), "4:404".to_owned()));
    bench.pass(1);
    assert_eq!(bench.query(), "check");
    // Another gateway used the session: authd knows.
    assert_eq!(bench.on(Event::Checked(Ok(long), UP)), "used, 5:rows");
    bench.pass(300);
    assert_eq!(bench.query(), "check");
    assert_eq!(bench.on(Event::Checked(Err(Error::NotFound), UP)), "6:401");
    assert_eq!(bench.query(), "7:401");
    assert!(!bench.session.authenticated());
}

#[test]
fn the_end_of_a_life_is_not_overrun() {
    let short = Identity { absolute_left: 5 * SECOND, ..identity(1) };
    let mut bench = bench();
    bench.auth("u", "p");
    bench.on(Event::LoggedIn(Ok(Outcome::Granted(short)), UP));
    bench.pass(4);
    assert_eq!(bench.query(), "used, 2:rows");
    bench.pass(1);
    assert_eq!(bench.query(), "check");
}

#[test]
fn a_session_without_an_idle_clock_has_none() {
    let mut bench = bench();
    bench.auth("u", "p");
    let identity = Identity { idle: None, rights: 40_000 * SECOND, ..identity(1) };
    assert_eq!(bench.on(Event::LoggedIn(Ok(Outcome::Granted(identity)), UP)), "1:granted for another time");
    bench.pass(30_000);
    assert_eq!(bench.query(), "used, 2:rows");
}

#[test]
fn while_the_watch_is_down_nothing_cached_is_used() {
    let mut bench = bench().log_in();
    bench.watch = None;
    assert_eq!(bench.query(), "1:503");
    assert_eq!(bench.unknown(), "2:503");
    assert_eq!(bench.identify(), "3:server");
    bench.watch = Some(2);
    assert_eq!(bench.query(), "check");
    assert_eq!(bench.on(Event::Checked(Ok(identity(1)), Some(2))), "used, 4:rows");
    assert_eq!(bench.query(), "used, 5:rows");
}

#[test]
fn a_session_granted_while_the_watch_was_down_is_checked_first() {
    let mut bench = bench();
    bench.auth("u", "p");
    assert_eq!(bench.on(Event::LoggedIn(Ok(Outcome::Granted(identity(1))), None)), "1:granted");
    assert_eq!(bench.query(), "check");
}

#[test]
fn an_answer_that_is_stale_at_once_is_still_an_answer() {
    let mut bench = bench().log_in();
    bench.pass(60);
    bench.query();
    let stale = Identity { rights: Duration::ZERO, ..identity(1) };
    assert_eq!(bench.on(Event::Checked(Ok(stale), UP)), "used, 1:rows");
}

#[test]
fn when_authd_cannot_be_asked_everything_that_needs_it_fails_at_once() {
    let mut bench = bench().log_in();
    bench.pass(60);
    assert_eq!([bench.query(), bench.unknown(), bench.auth("u", "p")].concat(), "check");
    assert_eq!(bench.on(Event::Checked(Err(Error::Unavailable), UP)), "1:503, 2:503, ask password");
    assert!(bench.session.authenticated(), "the session may live");
}

#[test]
fn clearing_ends_the_session_before_any_later_request() {
    let mut bench = bench().log_in();
    assert_eq!(bench.clear(false), "clear");
    assert_eq!(bench.query(), "");
    assert_eq!(bench.on(Event::Cleared(Ok(()))), "1:silence, 2:401");
    let mut bench = bench_of(false).log_in();
    assert_eq!(bench.clear(true), "clear");
    assert_eq!(bench.on(Event::Cleared(Err(Error::Unavailable))), "1:503");
    assert_eq!(bench.query(), "2:401", "here it is over in any case");
}

#[test]
fn how_a_session_ended_decides_what_its_connection_hears() {
    for (reason, expected, next) in [
        (EndReason::Idle, "", "1:401"),
        (EndReason::Expired, "tell Expired, close session ended", ""),
        (EndReason::Revoked, "tell Revoked, close session ended", ""),
        (EndReason::Cleared, "tell Cleared, close session ended", ""),
    ] {
        let mut bench = bench().log_in();
        assert_eq!(bench.on(Event::Ended(reason)), expected);
        assert!(!bench.session.authenticated());
        assert_eq!(bench.query(), next);
    }
}

#[test]
fn a_check_that_is_overtaken_by_the_end_is_void() {
    let mut bench = bench().log_in();
    bench.pass(60);
    assert_eq!(bench.query(), "check");
    assert_eq!(bench.on(Event::Ended(EndReason::Idle)), "");
    assert_eq!(bench.on(Event::Checked(Ok(identity(1)), UP)), "1:401");
}

#[test]
fn authd_is_told_of_a_connection_that_may_be_logging_in() {
    let mut bench = bench();
    assert!(!bench.session.may_be_logging_in());
    bench.auth("u", "p");
    assert!(bench.session.may_be_logging_in());
    bench.on(Event::LoggedIn(Ok(Outcome::Denied), UP));
    assert!(!bench.session.may_be_logging_in());
    bench.auth("u", "p");
    bench.on(prompts("c"));
    assert!(bench.session.may_be_logging_in());
}

#[test]
fn answers_out_of_turn_are_ignored() {
    let mut bench = bench();
    assert_eq!(bench.on(granted(1)), "");
    assert_eq!(bench.on(Event::Checked(Ok(identity(1)), UP)), "");
    assert_eq!(bench.on(Event::Cleared(Ok(()))), "");
    assert_eq!(bench.on(Event::Retired), "");
    assert_eq!(bench.on(Event::Ended(EndReason::Revoked)), "");
    assert_eq!(bench.on(Event::Challenged(Err(Error::Fault))), "");
    assert_eq!(bench.on(Event::Answered(1, Ok(Answer::Done))), "");
    assert!(!bench.session.authenticated());
}
