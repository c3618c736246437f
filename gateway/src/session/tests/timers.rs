//! The login clock and the idle clock.

use super::*;

#[test]
fn the_login_clock_runs_out() {
    let mut bench = bench();
    bench.pass(29);
    assert_eq!(bench.identify(), "1:server", "being busy is not being logged in");
    assert_eq!(bench.live(1_000), "close login timeout at 30");
    assert_eq!(bench.identify(), "");
}

#[test]
fn the_login_clock_stands_still_while_authd_works() {
    let mut bench = bench();
    bench.pass(20);
    bench.auth("u", "p");
    assert_eq!(bench.live(50), "");
    bench.on(Event::LoggedIn(Ok(Outcome::Denied), UP));
    assert_eq!(bench.live(1_000), "close login timeout at 80");
}

#[test]
fn refused_logins_do_not_stop_the_login_clock_for_ever() {
    let mut bench = bench();
    let mut heard = String::new();
    // Pipelined: authd always has one to work on.
    bench.auth("u", "p");
    for _ in 0..8 {
        bench.auth("u", "p");
        assert_eq!(bench.live(15), "");
        heard = bench.on(Event::LoggedIn(Ok(Outcome::Denied), UP));
        if heard.contains("close") {
            break;
        }
    }
    // A minute for nothing, and half a minute of the clock.
    assert_eq!((heard.as_str(), bench.now - bench.start), ("6:401, close login timeout", 90 * SECOND));
    let mut long = super::bench();
    long.auth("u", "p");
    assert_eq!(long.live(300), "");
    assert_eq!(long.on(Event::LoggedIn(Ok(Outcome::Denied), UP)), "1:401, close login timeout");
}

#[test]
fn conversations_do_not_stop_the_login_clock_for_ever() {
    let mut bench = bench();
    let mut ended = String::new();
    for n in 0..20 {
        bench.auth("u", "p");
        bench.on(prompts(&n.to_string()));
        ended = bench.live(100);
        if !ended.is_empty() {
            break;
        }
    }
    assert_eq!(ended, "close login timeout at 830");
}

#[test]
fn ten_refused_logins_in_a_row_are_too_many() {
    let mut bench = bench();
    for n in 1..=9 {
        bench.auth("u", "p");
        assert_eq!(bench.on(Event::LoggedIn(Ok(Outcome::Denied), UP)), format!("{n}:401"));
    }
    bench.auth("u", "p");
    bench.on(granted(1));
    for n in 11..=19 {
        // Also what authd is not asked about.
        assert_eq!(bench.auth("", "p"), format!("malformed-user, {n}:401"));
    }
    assert_eq!(bench.auth("", "p"), "malformed-user, 20:401, send away too many failed logins");
    assert_eq!(bench.identify(), "");
}

#[test]
fn the_login_clock_stands_still_while_a_conversation_is_open() {
    let mut bench = bench();
    bench.pass(20);
    bench.auth("u", "p");
    bench.pass(5);
    assert_eq!(bench.on(prompts("c")), "1:prompts");
    assert_eq!(bench.live(100), "");
    bench.respond("another");
    bench.on(Event::LoggedIn(Err(Error::Unauthorized), UP));
    assert_eq!(bench.live(100), "");
    bench.respond("c");
    bench.on(Event::LoggedIn(Ok(Outcome::Denied), UP));
    assert_eq!(bench.live(1_000), "close login timeout at 235");
}

#[test]
fn a_conversation_does_not_stop_the_login_clock_for_ever() {
    let mut bench = bench();
    bench.pass(10);
    bench.auth("u", "p");
    bench.on(prompts("c"));
    assert_eq!(bench.live(1_000), "close login timeout at 340");
}

fn challenge() -> Event {
    Event::Challenged(Ok(Challenge { test_string: "s".to_owned(), context: "c".to_owned() }))
}

#[test]
fn the_login_clock_stands_still_while_a_challenge_is_open() {
    let mut bench = bench();
    bench.pass(20);
    assert_eq!(bench.ask_challenge(), "ask challenge");
    assert_eq!(bench.live(5), "");
    assert_eq!(bench.on(challenge()), "1:challenge");
    assert_eq!(bench.live(10), "");
    assert_eq!(bench.prove(), "ask proof");
    assert_eq!(bench.on(Event::LoggedIn(Ok(Outcome::Denied), UP)), "2:401");
    assert_eq!(bench.live(1_000), "close login timeout at 45", "an answer closes the challenge");
}

#[test]
fn a_challenge_that_is_not_answered_lapses() {
    let mut bench = bench();
    bench.pass(20);
    bench.ask_challenge();
    bench.on(challenge());
    assert_eq!(bench.live(1_000), "close login timeout at 60");
    let mut refused = super::bench();
    refused.ask_challenge();
    assert_eq!(refused.on(Event::Challenged(Err(Error::Unavailable))), "1:503");
    assert_eq!(refused.live(1_000), "close login timeout at 30");
}

#[test]
fn challenges_do_not_stop_the_login_clock_for_ever() {
    let mut bench = bench();
    let mut ended = String::new();
    for _ in 0..20 {
        bench.ask_challenge();
        bench.on(challenge());
        ended = bench.live(29);
        if !ended.is_empty() {
            break;
        }
    }
    // Eight of them, the last for its whole 30 seconds.
    assert_eq!(ended, format!("close login timeout at {}", 7 * 29 + 30 + 30));
}

#[test]
fn a_conversation_and_a_challenge_can_be_open_at_once() {
    let mut bench = bench();
    bench.auth("u", "p");
    bench.on(prompts("c"));
    bench.ask_challenge();
    bench.on(challenge());
    assert_eq!(bench.live(100), "");
    bench.respond("c");
    bench.on(Event::LoggedIn(Ok(Outcome::Denied), UP));
    assert_eq!(bench.live(1_000), "close login timeout at 130");
}

#[test]
fn silence_is_not_counted_while_certd_works() {
    let mut bench = bench().log_in();
    assert_eq!(bench.list(), "ask certd 1");
    assert_eq!(bench.live(900), "");
    assert_eq!(bench.on(Event::Answered(1, Ok(Answer::Done))), "used, 1:done");
    assert_eq!(bench.live(1_000), "close idle at 1500");
}

#[test]
fn once_logged_in_the_login_clock_is_gone() {
    let mut bench = bench().log_in();
    assert_eq!(bench.live(599), "");
}

#[test]
fn whoever_logs_out_has_as_long_as_at_first_to_log_in_on_every_path() {
    let mut bench = bench().log_in();
    bench.pass(500);
    assert_eq!(bench.clear(true), "clear");
    bench.on(Event::Cleared(Ok(())));
    bench.pass(29);
    // A word keeps nobody.
    bench.on(Event::Heard);
    assert_eq!(bench.live(1_000), "close login timeout at 530");
}

#[test]
fn a_slow_logout_is_within_that_time_and_a_login_ends_it() {
    let mut bench = bench().log_in();
    bench.clear(true);
    bench.pass(20);
    bench.on(Event::Cleared(Ok(())));
    assert_eq!(bench.auth("u", "p"), "ask password");
    assert_eq!(bench.on(granted(1)), "2:granted");
    assert_eq!(bench.live(599), "");
}

#[test]
fn who_went_idle_elsewhere_than_among_channels_may_come_back_late() {
    let mut bench = bench().log_in();
    bench.pass(300);
    bench.on(Event::Ended(EndReason::Idle));
    bench.pass(299);
    assert_eq!(bench.query(), "1:401");
    assert_eq!(bench.live(1_000), "close idle at 1199");
}

#[test]
fn a_silent_connection_is_closed_and_a_ping_keeps_it() {
    let mut bench = bench().log_in();
    bench.pass(599);
    bench.on(Event::Heard);
    assert_eq!(bench.live(599), "");
    bench.on(Event::Heard);
    assert_eq!(bench.live(1_000), "close idle at 1798");
}
