//! Courses of logins, event by event.

mod keys;

use super::*;
use crate::{
    account::{Access, Memberships, Uid},
    conversation::Style,
    method::{self, Claim},
};

fn name(text: &str) -> Username {
    Username::parse(text.into()).expect("a name")
}

fn account(text: &str, uid: u32, access: Option<Access>) -> Account {
    Account {
        name: name(text),
        uid: Uid::new(uid).expect("a uid"),
        access,
        groups: Memberships::default(),
        shell_listed: true,
        subordinate: false,
    }
}

fn policy() -> Policy {
    Policy { local_login: true, uid_min: 1000, own_uids: vec![900], ..Policy::default() }
}

fn login(claim: Claim) -> Login {
    let (method, opening) = method::begin(claim).expect("a method");
    Login::new(method, opening, policy())
}

fn password_login() -> Login {
    let claim =
        Claim::Password { username: "alice".into(), password: crate::secret::Password::parse("pw".into()) };
    let mut login = login(claim);
    assert!(matches!(login.begin(), Step::Converse(user, Task::Login) if user == name("alice")));
    login
}

fn local_login(username: &str) -> Login {
    let mut login = login(Claim::LocalPeer { handle: vec![1], username: username.into(), loaded: None });
    assert!(matches!(login.begin(), Step::Identify(_)));
    login
}

fn message(style: Style, text: &str) -> Message {
    Message { style, text: text.into() }
}

fn round(messages: &[(Style, &str)]) -> Event {
    let messages = messages.iter().map(|(style, text)| message(*style, text)).collect();
    Event::Word(Word::Round(Round { messages, authenticated: false }))
}

fn round_after_authentication(messages: &[(Style, &str)]) -> Event {
    let Event::Word(Word::Round(round)) = round(messages) else { panic!("a round") };
    Event::Word(Word::Round(Round { authenticated: true, ..round }))
}

fn verdict(kind: VerdictKind, user: &str) -> Event {
    Event::Word(Word::Verdict(Verdict { kind, user: user.into(), fail_delay: Duration::from_secs(1) }))
}

fn given(login: &mut Login, answers: Vec<String>) -> Result<Step, AuthError> {
    login.answered(answers.into_iter().map(Answer::parse).collect())
}

fn said(step: &Step) -> Vec<&str> {
    match step {
        Step::Answer(answers) => answers.iter().map(Answer::expose).collect(),
        Step::Prompt(messages) => messages.iter().map(|message| message.text.as_str()).collect(),
        other => panic!("{other:?}"),
    }
}

fn refused(step: &Step) -> Option<Cause> {
    match step {
        Step::Refuse { cause, .. } => Some(*cause),
        _ => None,
    }
}

#[test]
fn the_password_answers_the_first_hidden_prompt_and_a_known_user_is_let_in() {
    let mut login = password_login();
    let step = login.on(round(&[(Style::Hidden, "Password: ")]));
    assert!(matches!(step, Step::Answer(_)));
    assert_eq!(said(&step), ["pw"]);
    let step = login.on(verdict(VerdictKind::Success, "alice"));
    assert!(matches!(step, Step::Resolve(Who::Name(user)) if user == name("alice")));
    let step = login.on(Event::Account(Some(account("alice", 1000, Some(Access::Full)))));
    assert!(matches!(step, Step::Grant(account, None, None) if account.uid.as_u32() == 1000));
}

#[test]
fn what_the_password_does_not_answer_is_asked_and_the_answers_are_merged_in_order() {
    let mut login = password_login();
    assert!(matches!(login.on(round(&[(Style::Info, "Welcome")])), Step::Listen));
    let step = login.on(round(&[
        (Style::Visible, "Badge: "),
        (Style::Hidden, "Password: "),
        (Style::Error, "Hurry"),
        (Style::Hidden, "Code: "),
    ]));
    assert!(matches!(step, Step::Prompt(_)));
    assert_eq!(said(&step), ["Welcome", "Badge: ", "Hurry", "Code: "]);
    let step = given(&mut login, vec!["b7".into(), "123".into()]).expect("taken");
    assert_eq!(said(&step), ["b7", "pw", "123"]);
    // The password is used up: the next hidden prompt is the client's.
    let step = login.on(round(&[(Style::Hidden, "New password: ")]));
    assert_eq!(said(&step), ["New password: "]);
}

#[test]
fn a_prompt_takes_one_answer() {
    let mut login = password_login();
    login.on(round(&[(Style::Visible, "Code: ")]));
    given(&mut login, vec!["1".into()]).expect("taken");
    assert!(matches!(given(&mut login, vec!["2".into()]), Err(AuthError::NoConversation)));
}

#[test]
fn answers_of_the_wrong_number_or_form_leave_the_prompt_open() {
    let mut login = password_login();
    login.on(round(&[(Style::Visible, "Code: "), (Style::Info, "text")]));
    for wrong in [vec![], vec!["1".to_owned(), "2".into()], vec!["x".repeat(513)], vec!["\0".into()]] {
        assert!(matches!(given(&mut login, wrong), Err(AuthError::BadRequest(_))));
    }
    assert_eq!(said(&given(&mut login, vec!["1".into()]).expect("still open")), ["1"]);
}

#[test]
fn answers_that_do_not_fit_into_a_packet_leave_the_prompt_open() {
    let mut login = password_login();
    login.on(round(&[(Style::Visible, "?"); 9]));
    assert!(matches!(given(&mut login, vec!["x".repeat(512); 9]), Err(AuthError::BadRequest(_))));
    assert!(given(&mut login, vec!["x".repeat(400); 9]).is_ok());
}

#[test]
fn nothing_can_be_answered_before_or_after_a_prompt() {
    let mut login = password_login();
    assert!(matches!(given(&mut login, vec![]), Err(AuthError::NoConversation)));
    login.on(verdict(VerdictKind::Denied, "alice"));
    assert!(matches!(given(&mut login, vec![]), Err(AuthError::NoConversation)));
}

#[test]
fn only_success_for_the_requested_user_is_success() {
    for (kind, user, cause) in [
        (VerdictKind::Success, "root", Cause::UserChanged),
        (VerdictKind::Success, "", Cause::UserChanged),
        (VerdictKind::Denied, "alice", Cause::PamDenied),
        (VerdictKind::UserChanged, "bob", Cause::UserChanged),
        (VerdictKind::Fault, "alice", Cause::PamFault),
        (VerdictKind::Protocol, "alice", Cause::Protocol),
        (VerdictKind::PasswordExpired, "alice", Cause::PasswordExpired),
    ] {
        let step = password_login().on(verdict(kind, user));
        assert!(
            matches!(step, Step::Refuse { cause: found, after: Some(after) }
                if found == cause && after == Duration::from_secs(1)),
            "{kind:?} {user:?}"
        );
    }
    let step = password_login().on(verdict(VerdictKind::ServiceRefused, "alice"));
    assert!(matches!(step, Step::Fail(AuthError::PamServiceRefused)));
}

#[test]
fn after_pams_success_the_account_still_decides() {
    for (found, cause) in [
        (None, Cause::UnknownUser),
        (Some(account("alice", 1000, None)), Cause::NoAccessGroup),
        (Some(account("bob", 1000, Some(Access::Full))), Cause::UserChanged),
    ] {
        let mut login = password_login();
        login.on(verdict(VerdictKind::Success, "alice"));
        assert_eq!(refused(&login.on(Event::Account(found))), Some(cause));
    }
}

#[test]
fn only_who_may_log_in_is_asked_for_a_new_password() {
    let asks = || round_after_authentication(&[(Style::Info, "Expired"), (Style::Hidden, "New password: ")]);
    for (found, cause) in [
        (None, Cause::UnknownUser),
        (Some(account("alice", 1000, None)), Cause::NoAccessGroup),
        (Some(account("bob", 1000, Some(Access::Full))), Cause::UserChanged),
    ] {
        let mut login = password_login();
        login.on(round(&[(Style::Hidden, "Password: ")]));
        assert!(matches!(login.on(asks()), Step::Resolve(Who::Name(user)) if user == name("alice")));
        let step = login.on(Event::Account(found));
        assert!(
            matches!(step, Step::Refuse { cause: found, after: Some(_) } if found == cause),
            "like a wrong password: {step:?}"
        );
        assert!(matches!(given(&mut login, vec!["new".into()]), Err(AuthError::NoConversation)));
    }
    let mut login = password_login();
    login.on(round(&[(Style::Hidden, "Password: ")]));
    login.on(asks());
    let known = Event::Account(Some(account("alice", 1000, Some(Access::Limited))));
    assert_eq!(said(&login.on(known)), ["Expired", "New password: "]);
    given(&mut login, vec!["new".into()]).expect("taken");
    // Once is enough.
    let again = round_after_authentication(&[(Style::Hidden, "Again: ")]);
    assert_eq!(said(&login.on(again)), ["Again: "]);
}

#[test]
fn questions_of_authentication_itself_are_asked_of_anybody() {
    let mut login = password_login();
    let step = login.on(round(&[(Style::Hidden, "Password: "), (Style::Visible, "Code: ")]));
    assert_eq!(said(&step), ["Code: "]);
}

#[test]
fn texts_after_authentication_wait_for_a_question() {
    let mut login = password_login();
    login.on(round(&[(Style::Hidden, "Password: ")]));
    let texts = round_after_authentication(&[(Style::Info, "Your password has expired")]);
    assert!(matches!(login.on(texts), Step::Listen));
}

#[test]
fn a_worker_that_fails_ends_the_login() {
    for (word, cause) in [
        (Word::Gone { spoke: true }, Some(Cause::WorkerDied)),
        (Word::Malformed("x"), Some(Cause::Protocol)),
        (Word::Gone { spoke: false }, None),
        (Word::Silent, None),
        (Word::Overdue, None),
    ] {
        let step = password_login().on(Event::Word(word));
        assert_eq!(refused(&step), cause, "{step:?}");
        assert!(cause.is_some() || matches!(step, Step::Fail(_)));
    }
}

#[test]
fn a_module_that_talks_without_end_is_stopped() {
    let mut login = password_login();
    for _ in 0..ROUNDS_MAX {
        assert!(matches!(login.on(round(&[(Style::Info, "blah")])), Step::Listen));
    }
    assert_eq!(refused(&login.on(round(&[(Style::Info, "blah")]))), Some(Cause::Protocol));
}

#[test]
fn texts_that_wait_for_a_prompt_are_bounded_and_questions_are_never_lost() {
    let mut login = password_login();
    for _ in 0..4 {
        login.on(round(&[(Style::Info, "blah"); 32]));
    }
    let step = login.on(round(&[(Style::Visible, "Code: ")]));
    assert_eq!((said(&step).len(), said(&step).last().copied()), (HELD_MAX + 1, Some("Code: ")));
}

#[test]
fn the_local_user_goes_through_the_account_phase_and_needs_no_password() {
    for claimed in ["", "alice"] {
        let mut login = local_login(claimed);
        let step = login.on(Event::Peer(Uid::new(1000)));
        assert!(matches!(step, Step::Resolve(Who::Uid(uid)) if uid.as_u32() == 1000));
        let step = login.on(Event::Account(Some(account("alice", 1000, Some(Access::Limited)))));
        assert!(matches!(step, Step::Converse(user, Task::Account) if user == name("alice")));
        login.on(verdict(VerdictKind::Success, "alice"));
        let step = login.on(Event::Account(Some(account("alice", 1000, Some(Access::Limited)))));
        assert!(matches!(step, Step::Grant(..)), "{claimed}");
    }
}

#[test]
fn the_local_user_is_whom_the_kernel_says_or_nobody() {
    let person = || account("alice", 1000, Some(Access::Full));
    for (claimed, uid, found, cause) in [
        ("alice", None, None, Cause::NoSuchHandle),
        ("bob", Some(1000), Some(person()), Cause::OtherUser),
        ("root", Some(1000), Some(person()), Cause::OtherUser),
        ("root", Some(0), Some(account("root", 0, Some(Access::Full))), Cause::Root),
        ("", Some(0), Some(account("root", 0, Some(Access::Full))), Cause::Root),
        ("", Some(33), Some(account("www", 33, Some(Access::Full))), Cause::SystemUid),
        ("", Some(900), Some(account("gw", 900, Some(Access::Full))), Cause::OwnUid),
        ("", Some(1000), None, Cause::UnknownUser),
        ("", Some(1000), Some(account("alice", 1000, None)), Cause::NoAccessGroup),
    ] {
        let mut login = local_login(claimed);
        let mut step = login.on(Event::Peer(uid.and_then(Uid::new)));
        if uid.is_some() {
            step = login.on(Event::Account(found));
        }
        assert_eq!(refused(&step), Some(cause), "{claimed} {uid:?}");
    }
}

#[test]
fn rights_lost_during_the_conversation_count() {
    let mut login = local_login("");
    login.on(Event::Peer(Uid::new(1000)));
    login.on(Event::Account(Some(account("alice", 1000, Some(Access::Full)))));
    login.on(verdict(VerdictKind::Success, "alice"));
    let step = login.on(Event::Account(Some(account("alice", 1000, None))));
    assert_eq!(refused(&step), Some(Cause::NoAccessGroup));
}

#[test]
fn a_malformed_claim_is_refused_like_any_other() {
    let claim =
        Claim::Password { username: "a/b".into(), password: crate::secret::Password::parse("pw".into()) };
    let step = login(claim).begin();
    assert!(matches!(step, Step::Refuse { cause: Cause::MalformedUser, after: Some(_) }));
    let step = login(Claim::Token(Err(crate::secret::Malformed))).begin();
    assert!(matches!(step, Step::Refuse { cause: Cause::NoSuchToken, after: None }));
}

#[test]
fn events_out_of_order_grant_nothing() {
    for event in
        [Event::Account(Some(account("alice", 1000, Some(Access::Full)))), Event::Peer(Uid::new(1000))]
    {
        let mut login = password_login();
        assert!(matches!(login.on(event), Step::Fail(_)));
        let step = login.on(verdict(VerdictKind::Success, "alice"));
        assert!(matches!(step, Step::Fail(_)), "a login that is over stays over");
    }
}

#[test]
fn every_refusal_waits_for_the_longest_delay_ever_asked_for() {
    let seconds = Duration::from_secs;
    for (longest, random, delay) in [
        (Duration::ZERO, 0, Duration::from_millis(1500)),
        (Duration::ZERO, u32::MAX, Duration::from_millis(2500)),
        (seconds(3), 0, seconds(3)),
        (seconds(3), u32::MAX, seconds(4)),
        (seconds(1), 0, Duration::from_millis(1500)),
    ] {
        assert_eq!(refusal_delay(seconds(2), longest, random), delay, "{longest:?} {random}");
    }
    assert_eq!(refusal_delay(Duration::ZERO, Duration::ZERO, 7), Duration::ZERO);
}

#[test]
fn a_name_that_becomes_somebody_elses_lets_nobody_in_by_the_kernels_word_or_by_an_old_password() {
    let account = |uid| Event::Account(Some(account("alice", uid, Some(Access::Limited))));
    let mut by_kernel = local_login("");
    by_kernel.on(Event::Peer(Uid::new(1000)));
    by_kernel.on(account(1000));
    let mut by_password = password_login();
    by_password.on(round(&[(Style::Hidden, "Password: ")]));
    by_password.on(round_after_authentication(&[(Style::Hidden, "New password: ")]));
    by_password.on(account(1000));
    given(&mut by_password, vec!["new".to_owned()]).expect("asked for");
    for mut login in [by_kernel, by_password] {
        login.on(verdict(VerdictKind::Success, "alice"));
        assert_eq!(refused(&login.on(account(1001))), Some(Cause::OtherAccount));
        assert_eq!(login.uid(), Some(1000), "whose login it was");
    }
    // The name is in a second user database: by name it is another account than by uid.
    let mut login = local_login("alice");
    login.on(Event::Peer(Uid::new(1000)));
    assert_eq!(refused(&login.on(account(1001))), Some(Cause::OtherAccount));
}

fn token_login() -> Login {
    let claim =
        Claim::Password { username: "alice".into(), password: crate::secret::Password::parse("pw".into()) };
    let (method, opening) = method::begin(claim).expect("a method");
    let mut login = Login::new(method, opening, Policy { dialect: Dialect::Token, ..policy() });
    assert!(matches!(login.begin(), Step::Converse(..)));
    login
}

#[test]
fn a_login_of_the_token_api_asks_nobody_anything() {
    let mut login = token_login();
    assert_eq!(said(&login.on(round(&[(Style::Info, "Welcome"), (Style::Hidden, "Password: ")]))), ["pw"]);
    assert!(matches!(login.on(round(&[(Style::Info, "Nearly")])), Step::Listen));
    assert_eq!(refused(&login.on(round(&[(Style::Visible, "Code: ")]))), Some(Cause::AskedMore));
    // Also where authentication has succeeded and the password is to be changed.
    let mut login = token_login();
    let step = login.on(round_after_authentication(&[(Style::Visible, "New password: ")]));
    assert!(matches!(step, Step::Resolve(_)));
    let step = login.on(Event::Account(Some(account("alice", 1000, Some(Access::Limited)))));
    assert_eq!(refused(&step), Some(Cause::AskedMore));
}

#[test]
fn who_may_have_tokens_alone_gets_those_and_nothing_else() {
    let robots = Memberships { tokens: vec!["robots".into()], ..Memberships::default() };
    for (mut login, groups, cause) in [
        (token_login(), robots.clone(), None),
        (token_login(), Memberships::default(), Some(Cause::NoAccessGroup)),
        (password_login(), robots, Some(Cause::NoAccessGroup)),
    ] {
        login.on(verdict(VerdictKind::Success, "alice"));
        let account = Account { groups, ..account("alice", 1000, None) };
        assert_eq!(refused(&login.on(Event::Account(Some(account)))), cause);
    }
}
