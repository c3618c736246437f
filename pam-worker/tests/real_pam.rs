//! Conversations of the real worker over real PAM stacks: what is asked, and what comes of it.
#![cfg(all(target_os = "linux", feature = "pam-wrapper"))]
// Test code: an index out of bounds is a failed test.
#![allow(clippy::indexing_slicing, unreachable_pub)]

mod wrapped;

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use doorward_proto::pam::v1 as wire;
use prost::Message as _;
use rustix::process::{Pid, getpriority_process};
use wire::Result::{Denied, Fault, PasswordExpired, Protocol, ServiceRefused, Success, UserChanged};
use wrapped::{Stack, start, tools};

#[test]
fn the_right_password_is_success_and_a_wrong_one_denied() {
    let Some(tools) = tools() else { return };
    let stack = Stack::with(tools, "password=secret");
    for (password, result) in [("secret", Success), ("wrong", Denied), ("", Denied)] {
        let worker = stack.login();
        worker.round_and_answer(&["H:Password: "], &[password]);
        let verdict = worker.verdict();
        assert_eq!(verdict.result(), result);
        assert_eq!(verdict.user, if result == Success { "bob" } else { "" });
        assert_eq!(verdict.fail_delay_us, 0);
    }
}

#[test]
fn a_password_file_of_pam_matrix_decides_by_user() {
    let Some(tools) = tools() else { return };
    let stack = Stack::new(
        tools,
        "auth optional CHATTY info num_lines=1\nauth required MATRIX passdb=HERE/passdb\naccount required MATRIX passdb=HERE/passdb\n",
    );
    stack.write("passdb", "bob:secret:doorward\n");
    for (user, password, result) in
        [("bob", "secret", Success), ("bob", "wrong", Denied), ("eve", "secret", Denied)]
    {
        let worker = stack.worker();
        worker.start(wire::Start { user: user.to_owned(), ..start() });
        // Each line of pam_chatty is a call, and a round, of its own.
        let mut rounds: Vec<String> = std::iter::from_fn(|| Some(worker.round().concat())).take(2).collect();
        while rounds.last().is_some_and(|round| round.starts_with("I:")) {
            rounds.push(worker.round().concat());
        }
        assert_eq!(rounds.pop().as_deref(), Some("H:Password: "));
        assert!(!rounds.is_empty() && rounds.iter().all(|round| round == "I:Authentication succeeded"));
        worker.answer(&[password]);
        assert_eq!(worker.result(), result, "{user} {password}");
    }
}

#[test]
fn two_questions_of_one_call_are_one_round() {
    let Some(tools) = tools() else { return };
    let stack = Stack::with(tools, "password=secret two_questions [together=Two things, please.]");
    let round = ["I:Two things, please.", "H:Password: ", "V:Favourite colour: "];
    for (answers, result) in [(["secret", "blue"], Success), (["secret", "red"], Denied)] {
        let worker = stack.login();
        worker.round_and_answer(&round, &answers);
        assert_eq!(worker.result(), result);
    }
}

#[test]
fn a_code_after_the_password_is_a_second_round() {
    let Some(tools) = tools() else { return };
    let stack = Stack::with(tools, "password=secret code=778899");
    for (code, result) in [("778899", Success), ("1", Denied)] {
        let worker = stack.login();
        worker.round_and_answer(&["H:Password: "], &["secret"]);
        worker.round_and_answer(&["V:One-time code: "], &[code]);
        assert_eq!(worker.result(), result);
    }
}

#[test]
fn text_is_sent_without_waiting_and_pam_has_its_items() {
    let Some(tools) = tools() else { return };
    let stack = Stack::with(tools, "info [error=All is lost.] items");
    let worker = stack.login();
    assert_eq!(worker.round(), ["I:Test service."]);
    assert_eq!(worker.round(), ["E:All is lost."]);
    assert_eq!(worker.round(), ["I:service=doorward user=bob rhost=192.0.2.7 tty=doorward"]);
    assert_eq!(worker.result(), Success);

    let worker = stack.worker();
    worker.start(wire::Start { rhost: String::new(), tty: String::new(), ..start() });
    worker.round();
    worker.round();
    assert_eq!(worker.round(), ["I:service=doorward user=bob rhost= tty="]);
    assert_eq!(worker.result(), Success);
}

#[test]
fn modules_find_a_clean_process() {
    let Some(tools) = tools() else { return };
    let stack = Stack::with(tools, "check_environment fork stdout");
    let worker = stack.login();
    // A complaint would be a round with an error message.
    assert_eq!(worker.result(), Success);
}

#[test]
fn a_password_is_hashed_after_the_work_of_others() {
    let Some(tools) = tools() else { return };
    let stack = Stack::with(tools, "password=secret");
    let worker = stack.login();
    worker.round();
    let pid = Pid::from_raw(worker.child.id().cast_signed());
    let (of_worker, own) = (getpriority_process(pid), getpriority_process(None));
    assert_eq!(of_worker.expect("there"), own.expect("there") + 5);
}

#[test]
fn an_expired_password_is_changed_in_the_same_conversation() {
    let Some(tools) = tools() else { return };
    let stack = Stack::with(tools, "password=secret expire=HERE/changed");
    let worker = stack.login();
    worker.round_and_answer(&["H:Password: "], &["secret"]);
    worker.round_and_answer(&["H:New password: "], &["fresh"]);
    worker.round_and_answer(&["H:Retype new password: "], &["frehs"]);
    assert_eq!(worker.round(), ["E:The passwords do not match."]);
    worker.round_and_answer(&["H:New password: "], &["fresh"]);
    worker.round_and_answer(&["H:Retype new password: "], &["fresh"]);
    assert_eq!(worker.result(), Success);
    // From now on it is the password, and not expired.
    let worker = stack.login();
    worker.round_and_answer(&["H:Password: "], &["fresh"]);
    assert_eq!(worker.result(), Success);
}

#[test]
fn rounds_after_authentication_say_so() {
    let Some(tools) = tools() else { return };
    let stack = Stack::with(tools, "password=secret code=778899 expire=HERE/changed");
    let worker = stack.login();
    for (answer, authenticated) in [("secret", false), ("778899", false), ("fresh", true), ("fresh", true)] {
        assert_eq!(worker.whole_round().authenticated, authenticated, "{answer}");
        worker.answer(&[answer]);
    }
    assert_eq!(worker.result(), Success);
}

#[test]
fn three_tries_to_change_it_and_no_fourth() {
    let Some(tools) = tools() else { return };
    let stack = Stack::with(tools, "password=secret expire=HERE/changed");
    let worker = stack.login();
    worker.round_and_answer(&["H:Password: "], &["secret"]);
    for _ in 0..3 {
        worker.round_and_answer(&["H:New password: "], &["secret"]);
        worker.round_and_answer(&["H:Retype new password: "], &["secret"]);
        assert_eq!(worker.round(), ["E:The password is not a new one."]);
    }
    assert_eq!(worker.result(), PasswordExpired);
    assert!(!stack.path("changed").exists());
}

#[test]
fn another_try_needs_a_reason() {
    let Some(tools) = tools() else { return };
    // 6 is Linux-PAM's PERM_DENIED; the module would say its text again for each try.
    for arguments in ["try_again", "change=6"] {
        let stack = Stack::with(tools, &format!("expire=HERE/changed {arguments}"));
        assert_eq!(stack.login().result(), PasswordExpired, "{arguments}");
    }
    let without_password_lines = "auth required TEST\naccount required TEST expire=HERE/changed\n";
    assert_eq!(Stack::new(tools, without_password_lines).login().result(), PasswordExpired);
    // Changed, they say, but account management still wants a new one.
    let never = "auth required TEST\naccount required TEST account=12\npassword required TEST\n";
    assert_eq!(Stack::new(tools, never).login().result(), PasswordExpired);
}

#[test]
fn account_management_alone_asks_nothing_and_changes_nothing() {
    let Some(tools) = tools() else { return };
    let verdict = Stack::with(tools, "password=secret").account();
    assert_eq!((verdict.result(), verdict.user.as_str()), (Success, "bob"));
    assert_eq!(Stack::with(tools, "expire=HERE/changed").account().result(), PasswordExpired);
    assert_eq!(Stack::with(tools, "account=13").account().result(), Denied);
    assert_eq!(Stack::with(tools, "in=account change_user=root").account().result(), UserChanged);
}

#[test]
fn a_changed_user_is_never_a_success() {
    let Some(tools) = tools() else { return };
    for arguments in
        ["change_user=root", "in=account change_user=root", "change_user=bobby expire=HERE/changed"]
    {
        let verdict = Stack::with(tools, arguments).login().verdict();
        assert_eq!(verdict.result(), UserChanged, "{arguments}");
        assert!(["root", "bobby"].contains(&verdict.user.as_str()));
    }
}

#[test]
fn codes_of_pam_are_success_denied_or_fault() {
    let Some(tools) = tools() else { return };
    // Linux-PAM's numbers.
    for (code, result) in [
        (4, Fault),
        (6, Denied),
        (7, Denied),
        (8, Fault),
        (9, Fault),
        (10, Denied),
        (11, Denied),
        (12, PasswordExpired),
        (13, Denied),
        (27, Denied),
        (28, Fault),
    ] {
        assert_eq!(Stack::with(tools, &format!("auth={code}")).login().result(), result, "auth={code}");
    }
    for (code, result) in [(4, Fault), (6, Denied), (7, Denied), (13, Denied), (27, Denied)] {
        assert_eq!(Stack::with(tools, &format!("account={code}")).login().result(), result, "account={code}");
    }
    // All modules say "not my business".
    assert_ne!(Stack::with(tools, "for_user=nobody").login().result(), Success);
}

#[test]
fn a_fail_delay_is_told_and_not_slept() {
    let Some(tools) = tools() else { return };
    let before = Instant::now();
    let verdict = Stack::with(tools, "delay=20000000").login().verdict();
    assert!(before.elapsed() < Duration::from_secs(10));
    assert_eq!(verdict.result(), Denied);
    // Linux-PAM varies it by up to a half.
    assert!((10_000_000..=30_000_000).contains(&verdict.fail_delay_us), "{}", verdict.fail_delay_us);
}

#[test]
fn thirty_two_long_questions_fit_and_thirty_three_are_refused() {
    let Some(tools) = tools() else { return };
    let answers: Vec<String> = (1..=32).map(|number| number.to_string()).collect();
    let answers: Vec<&str> = answers.iter().map(String::as_str).collect();
    let stack = Stack::with(tools, "flood=32 text_bytes=4000");
    let worker = stack.login();
    let round = worker.round();
    assert_eq!(round.len(), 32);
    assert!(round[31].starts_with("V:Question 32: xxx"));
    worker.answer(&answers);
    assert_eq!(worker.result(), Success);
    assert_eq!(Stack::with(tools, "flood=33").login().result(), Fault);
}

#[test]
fn there_may_be_any_number_of_rounds() {
    let Some(tools) = tools() else { return };
    let stack = Stack::with(tools, "rounds=50");
    let worker = stack.login();
    for number in 1..=50 {
        worker.round_and_answer(&[&format!("V:Question {number}: ")], &[&number.to_string()]);
    }
    assert_eq!(worker.result(), Success);
}

#[test]
fn a_module_that_crashes_or_exits_is_end_of_file_without_a_verdict() {
    let Some(tools) = tools() else { return };
    assert_eq!(Stack::with(tools, "crash").login().gone().signal(), Some(11));
    assert_eq!(Stack::with(tools, "exit=0").login().gone().code(), Some(0));
}

#[test]
fn a_peer_that_leaves_is_followed_at_once() {
    let Some(tools) = tools() else { return };
    let stack = Stack::with(tools, "password=secret");
    let worker = stack.worker();
    worker.half_close();
    assert_eq!(worker.gone().code(), Some(0));
    let worker = stack.login();
    worker.round();
    worker.half_close();
    assert_eq!(worker.gone().code(), Some(0));
}

#[test]
fn what_is_no_start_is_a_protocol_error() {
    let Some(tools) = tools() else { return };
    let stack = Stack::with(tools, "");
    for packet in [&[0xff; 10][..], &[0x0a, 0xff], &[0x78, 0x01]] {
        let worker = stack.worker();
        worker.send_bytes(packet);
        assert_eq!(worker.result(), Protocol, "{packet:?}");
    }
    for length in [4096, 4097, 8000] {
        let mut start = start();
        let around = wire::ToWorker { kind: Some(wire::to_worker::Kind::Start(start.clone())) }.encoded_len();
        // The user's name is too long in each case; the longer packets are refused unread.
        start.user = "u".repeat(length - around - 1);
        let worker = stack.worker();
        worker.start(start);
        assert_eq!(worker.result(), Protocol, "{length} bytes");
    }
    let worker = stack.worker();
    worker.answer(&["secret"]);
    assert_eq!(worker.result(), Protocol);
    for bad in [
        wire::Start { user: "-x".to_owned(), ..start() },
        wire::Start { user: "bob\0root".to_owned(), ..start() },
        wire::Start { rhost: "localhost".to_owned(), ..start() },
        wire::Start { tty: "a\nb".to_owned(), ..start() },
        wire::Start { task: 0, ..start() },
    ] {
        let worker = stack.worker();
        worker.start(bad);
        assert_eq!(worker.result(), Protocol);
    }
}

#[test]
fn what_are_no_answers_is_a_protocol_error_whatever_pam_says() {
    let Some(tools) = tools() else { return };
    // The password question is optional: PAM itself succeeds without an answer.
    let stack =
        Stack::new(tools, "auth optional TEST password=secret\nauth required TEST\naccount required TEST\n");
    let long = "x".repeat(513);
    for answers in [&[][..], &["secret", "secret"], &[&long], &["secret\0"]] {
        let worker = stack.login();
        worker.round();
        worker.answer(answers);
        assert_eq!(worker.result(), Protocol);
    }
    let worker = stack.login();
    worker.round();
    worker.start(start());
    assert_eq!(worker.result(), Protocol);
    let worker = stack.login();
    worker.round();
    worker.send_bytes(&[0xff; 4097]);
    assert_eq!(worker.result(), Protocol);
    // The longest answer that there may be is no error.
    let worker = stack.login();
    worker.round();
    worker.answer(&[&"x".repeat(512)]);
    assert_eq!(worker.result(), Success);
}

#[test]
fn only_a_trusted_service_file_of_its_own_is_used() {
    let Some(tools) = tools() else { return };
    let refuses = |stack: &Stack, why: &str| {
        let worker = stack.login();
        assert_eq!(worker.result(), ServiceRefused, "{why}");
    };
    let stack = Stack::with(tools, "");
    assert_eq!(stack.login().result(), Success);
    let file = stack.path("doorward");
    for mode in [0o664, 0o646] {
        std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).expect("our file");
        refuses(&stack, "others can write it");
    }
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).expect("our file");
    let directory = file.parent().expect("a directory");
    std::fs::set_permissions(directory, PermissionsExt::from_mode(0o777)).expect("our directory");
    refuses(&stack, "others can write the directory");
    std::fs::set_permissions(directory, PermissionsExt::from_mode(0o755)).expect("our directory");
    assert_eq!(stack.login().result(), Success);
    std::fs::rename(&file, stack.path("elsewhere")).expect("our directory");
    refuses(&stack, "it is missing, and other would let everybody in");
    std::os::unix::fs::symlink(stack.path("elsewhere"), &file).expect("our directory");
    refuses(&stack, "a link");
    refuses(&Stack::new(tools, "account required TEST\n"), "no auth line");
    refuses(&Stack::new(tools, "auth required TEST\n"), "no account line");
}

#[test]
fn only_the_guard_can_start_it_and_only_in_an_empty_environment() {
    let Some(tools) = tools() else { return };
    let stack = Stack::with(tools, "");
    let pair = || {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("a pair")
    };
    let (_ours, theirs) = pair();
    let output = stack.command(theirs).env("PATH", "/bin").output().expect("it starts");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("the environment is not empty"));
    let (_ours, theirs) = pair();
    let mut command = stack.command(theirs);
    let output = std::process::Command::new(wrapped::WORKER)
        .args(["--service", "doorward", "--guard-pid", "1"])
        .env_clear()
        .output()
        .expect("it starts");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not the guard"));
    let output = command.stdin(std::process::Stdio::null()).output().expect("it starts");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_worker_that_hangs_dies_with_its_guard() {
    let Some(tools) = tools() else { return };
    let stack = Stack::with(tools, "info hang");
    // A shell is the guard. It keeps no copy of the connection: end of file is the worker's end.
    let mut worker = stack.worker_below(
        "exec 3<&0 0</dev/null\nenv -i PAM_WRAPPER_SERVICE_DIR=\"$2\" \"$1\" --service doorward --guard-pid $$ <&3 3<&- &\nexec 3<&-\nwait",
    );
    worker.start(start());
    assert_eq!(worker.round(), ["I:Test service."]);
    worker.child.kill().expect("the shell lives");
    assert_eq!(worker.receive(), None);
}

#[test]
fn no_answer_reaches_standard_error() {
    let Some(tools) = tools() else { return };
    let stack = Stack::with(tools, "password=secret stdout");
    for password in ["secret", "marker-7f3a"] {
        let mut worker = stack.login();
        worker.round();
        worker.answer(&[password]);
        let mut log = worker.child.stderr.take().expect("a pipe");
        worker.verdict();
        let mut text = String::new();
        log.read_to_string(&mut text).expect("text");
        assert!(!text.contains(password) && !text.contains("noise"), "{text}");
    }
}
