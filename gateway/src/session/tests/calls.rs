//! Calls of subsystems, which take long: the session is looked at while they go on, and they end with the right.

use super::*;

impl Bench {
    /// A call of this subject is under way for the session that is held.
    fn calls(&mut self, subject: &str) {
        self.ticket += 1;
        let session = Some(self.session.holds().expect("somebody is logged in"));
        let stops = Some(subject.into());
        self.session.under_way.push(UnderWay { ticket: self.ticket, session, stops });
    }

    fn checked(&mut self, acl: &[&str]) -> String {
        let acl = acl.iter().map(|entry| (*entry).to_owned()).collect();
        let watch = self.watch;
        self.on(Event::Checked(Ok(Identity { acl, ..identity(1) }), watch))
    }

    fn relied_upon(&self) -> bool {
        self.session.relied_upon(self.now, self.watch)
    }
}

#[test]
fn a_call_ends_with_the_right_to_it_and_others_go_on() {
    let mut bench = bench().log_in();
    bench.calls("sysadm.example.a.count");
    bench.calls("sysadm.example.b.count");
    bench.ticket = 2;
    assert_eq!(bench.list(), "ask certd 3");
    assert_eq!(bench.live(100), "check at 60", "rights are a minute old");
    let acl = ["sysadm.example.b.#", "sysadm.rpc.query.#"];
    assert_eq!(bench.checked(&acl), "stop 1, 1:403, report");
    assert_eq!(bench.on(Event::Answered(1, Ok(Answer::Done))), "", "it has its reply");
    assert_eq!(bench.query(), "used, 4:rows", "the session goes on");
    assert_eq!(bench.live(100), "check at 120");
    assert_eq!(bench.checked(&acl), "report");
    assert_eq!(bench.on(Event::Answered(2, Ok(Answer::Done))), "used, 2:done");
    assert_eq!(bench.on(Event::Answered(3, Ok(Answer::Done))), "used, 3:done", "that is certd's to decide");
    assert_eq!(bench.live(100), "", "nothing more goes on");
}

#[test]
fn a_request_that_finds_the_right_gone_ends_the_call_too() {
    let mut bench = bench().log_in();
    bench.calls("sysadm.example.a.count");
    bench.pass(59);
    bench.watch = Some(2);
    assert_eq!(bench.query(), "check");
    assert_eq!(bench.checked(&["sysadm.rpc.query.#"]), "stop 1, 1:403, used, 2:rows");
}

#[test]
fn a_session_that_is_taken_up_again_with_less_ends_it_too() {
    let mut bench = bench().log_in();
    bench.calls("sysadm.example.a.count");
    bench.take_up(1);
    let less = Identity { acl: vec!["sysadm.rpc.#".to_owned()], ..identity(1) };
    assert_eq!(bench.on(Event::LoggedIn(Ok(Outcome::Granted(less)), UP)), "stop 1, 1:403, 2:granted");
}

#[test]
fn progress_waits_while_nobody_tells_which_sessions_end() {
    let mut bench = bench().log_in();
    bench.calls("sysadm.example.a.count");
    assert!(bench.relied_upon());
    bench.watch = None;
    assert!(!bench.relied_upon() && !bench.session.takes_events(bench.now, bench.watch));
    bench.watch = Some(2);
    assert!(!bench.relied_upon() && bench.session.takes_events(bench.now, bench.watch));
    assert_eq!(bench.on(Event::Published), "check");
    assert_eq!(bench.checked(&["sysadm.example.#"]), "report");
    assert!(bench.relied_upon());
    // However long that takes: there is nothing to be asked, and no tick after tick.
    bench.watch = None;
    assert_eq!(bench.live(70), "");
    bench.watch = Some(3);
    assert_eq!(bench.live(1), "check at 71");
}

#[test]
fn rights_that_cannot_be_relied_upon_are_asked_for_every_second() {
    let mut bench = bench().log_in();
    bench.calls("sysadm.example.a.count");
    bench.pass(60);
    assert_eq!(bench.live(0), "check at 60");
    let at_once = Identity { rights: Duration::ZERO, ..identity(1) };
    assert_eq!(bench.on(Event::Checked(Ok(at_once), UP)), "deliver, report");
    assert_eq!(bench.live(10), "check at 61");
    assert_eq!(bench.on(Event::Checked(Err(Error::Unavailable), UP)), "");
    assert_eq!(bench.live(10), "check at 62");
}

#[test]
fn a_call_whose_session_is_gone_ends_with_it() {
    let mut bench = bench().log_in();
    bench.calls("sysadm.example.a.count");
    bench.watch = Some(2);
    assert_eq!(bench.on(Event::Published), "check");
    assert_eq!(bench.on(Event::Checked(Err(Error::NotFound), Some(2))), "tell Revoked, close session ended");
    let mut idle = super::bench().log_in();
    idle.calls("sysadm.example.a.count");
    idle.pass(300);
    assert_eq!(idle.on(Event::Tick), "check");
    assert_eq!(idle.on(Event::Checked(Err(Error::NotFound), UP)), "stop 1, 1:401");
}
