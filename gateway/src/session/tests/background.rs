//! Requests that others answer while the connection goes on, and challenges.

use super::*;

fn bad_args() -> Call {
    Call::Malformed(Error::BadRequest("x".into()))
}

#[test]
fn others_go_on_while_one_is_answered() {
    let mut bench = bench().log_in();
    assert_eq!([bench.list(), bench.list()].join(", "), "ask certd 1, ask certd 2");
    assert_eq!(bench.query(), "used, 3:rows");
    assert_eq!(bench.on(Event::Answered(2, Ok(Answer::Keys(vec![])))), "used, 2:keys");
    assert_eq!(bench.on(Event::Answered(2, Ok(Answer::Keys(vec![])))), "", "one reply for each");
    assert_eq!(bench.on(Event::Answered(1, Err(Error::Unavailable))), "1:503");
}

#[test]
fn what_is_under_way_counts_as_in_flight() {
    let mut bench = bench().log_in();
    for ticket in 1..=4 {
        assert_eq!(bench.list(), format!("ask certd {ticket}"));
    }
    assert_eq!((bench.list(), bench.auth("u", "p")), ("5:429".to_owned(), "6:429".to_owned()));
    // What ends others is let in beside them, and that has a bound too.
    assert_eq!(bench.query(), "used, 7:rows");
    let cancel = |bench: &mut Bench| bench.request("cancel", Call::Cancel("1".to_owned()));
    for ticket in 8..=11 {
        assert_eq!(cancel(&mut bench), format!("find 1 {ticket}"));
    }
    assert_eq!((cancel(&mut bench), bench.query()), ("12:429".to_owned(), "13:429".to_owned()));
    for ticket in 8..=11 {
        bench.on(Event::Cancel(ticket, vec![]));
    }
    assert_eq!(bench.list(), "14:429");
    assert_eq!(bench.on(Event::Answered(1, Ok(Answer::Done))), "used, 1:done");
    assert_eq!(bench.query(), "used, 15:rows");
}

#[test]
fn a_login_need_not_wait_for_what_is_under_way() {
    let mut bench = bench().log_in();
    bench.list();
    assert_eq!(bench.auth("u", "p"), "ask password");
    assert_eq!(bench.list(), "", "this one waits for the login");
    assert_eq!(bench.on(granted(2)), "retire 01");
    assert_eq!(bench.on(Event::Retired), "2:granted, ask certd 3");
    assert_eq!(bench.on(Event::Answered(1, Ok(Answer::Done))), "1:done", "another session used that");
    assert_eq!(bench.on(Event::Answered(3, Ok(Answer::Done))), "used, 3:done");
}

#[test]
fn what_was_done_is_told_after_the_session_is_gone() {
    let mut bench = bench().log_in();
    bench.list();
    assert_eq!(bench.on(Event::Ended(EndReason::Idle)), "");
    assert_eq!(bench.on(Event::Answered(1, Ok(Answer::Done))), "1:done");
    let mut bench = super::bench().log_in();
    bench.list();
    bench.on(Event::Ended(EndReason::Revoked));
    assert_eq!(bench.on(Event::Answered(1, Ok(Answer::Done))), "", "the connection is closed");
}

#[test]
fn rights_are_asked_of_the_action() {
    let mut bench = bench();
    bench.auth("u", "p");
    let reader = Identity { acl: vec!["sysadm.rpc.settings.list_*".to_owned()], ..identity(1) };
    bench.on(Event::LoggedIn(Ok(Outcome::Granted(reader)), UP));
    assert_eq!(bench.list(), "ask certd 2");
    let revoke = KeyRequest::Revoke { public_key: vec![1], user: String::new() };
    assert_eq!(bench.settings("revoke_ssl_cert", Call::Settings(revoke)), "3:403");
    assert_eq!(bench.settings("register_ssl_cert", bad_args()), "4:403", "its args are not looked at");
    assert_eq!(bench.settings("list_ssl_certs", bad_args()), "5:400");
    assert_eq!(bench.settings("no such action", Call::Absent), "6:404");
    assert_eq!(bench.settings("no such action", bad_args()), "7:400");
}

#[test]
fn without_certd_there_is_no_such_row() {
    let mut bench = bench().log_in();
    bench.router = Router::new("host", None, Registry::default());
    assert_eq!(bench.list(), "1:404");
    assert_eq!(bench.settings("list_ssl_certs", bad_args()), "2:404");
}

#[test]
fn wrong_args_are_told_to_nobody_without_a_session() {
    let mut bench = bench();
    assert_eq!(bench.settings("list_ssl_certs", bad_args()), "1:401");
    assert_eq!(bench.settings("no such action", bad_args()), "2:401");
}

#[test]
fn old_rights_are_asked_again_before_certd_is() {
    let mut bench = bench().log_in();
    bench.pass(60);
    assert_eq!(bench.list(), "check");
    assert_eq!(bench.on(Event::Checked(Ok(identity(1)), UP)), "ask certd 1");
    bench.watch = None;
    assert_eq!(bench.list(), "2:503");
}

#[test]
fn a_challenge_is_an_authentication_request() {
    let mut bench = bench();
    assert_eq!(bench.ask_challenge(), "ask challenge");
    assert_eq!((bench.prove(), bench.query()), (String::new(), String::new()));
    let challenge = Challenge { test_string: "s".to_owned(), context: "c".to_owned() };
    assert_eq!(bench.on(Event::Challenged(Ok(challenge))), "1:challenge, ask proof");
    assert!(bench.session.may_be_logging_in());
    assert_eq!(bench.on(granted(1)), "2:granted, used, 3:rows");
}

#[test]
fn each_failure_of_a_challenge_has_its_reply() {
    for (error, expected) in [
        (Error::Unavailable, "1:503"),
        (Error::TimedOut, "1:408"),
        (Error::TooMany, "1:429"),
        (Error::Fault, "1:500"),
    ] {
        let mut bench = bench();
        bench.ask_challenge();
        assert_eq!(bench.on(Event::Challenged(Err(error))), expected);
    }
}
