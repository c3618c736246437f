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
    assert_eq!(bench.live(300), "");
    bench.on(Event::LoggedIn(Ok(Outcome::Denied), UP));
    assert_eq!(bench.live(1_000), "close login timeout at 330");
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

#[test]
fn once_logged_in_the_login_clock_is_gone() {
    let mut bench = bench().log_in();
    assert_eq!(bench.live(500), "");
    bench.clear(false);
    bench.on(Event::Cleared(Ok(())));
    assert_eq!(bench.live(1_000), "close idle at 1100");
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
