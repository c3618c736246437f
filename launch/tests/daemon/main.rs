//! A whole daemon, from exec() to its end, as the service manager and the operator see it.
//!
//! This program is both the test and the daemon: started with `DOORWARD_TEST_DAEMON` it is the
//! latter, so that going into the background, which runs the same program again, works as in a real
//! one. Hence it has no test harness and lists its tests itself.

#![allow(clippy::indexing_slicing)]

mod activation;
#[cfg(target_os = "linux")]
mod attempts;
#[cfg(target_os = "linux")]
mod confined;
mod fixture;
mod place;
mod reload;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use doorward_launch::Daemon;
use rustix::process::{Pid, Signal, kill_process};

use activation::{activated, activation_does_not_fit};
use fixture::Fixture;
use place::{PATIENCE, Place, is_root, text};

const TESTS: &[(&str, fn())] = &[
    ("version_and_help_exit_with_0_and_usage_errors_with_2", version_and_help),
    ("check_config_says_ok", check_config_says_ok),
    ("a_wrong_configuration_is_refused_with_file_and_line", wrong_configurations),
    ("a_configuration_that_others_can_write_is_refused", writable_configuration),
    ("a_named_configuration_must_exist", missing_configuration),
    ("without_a_log_file_it_stays_in_the_foreground_or_not_at_all", background_needs_a_log),
    ("it_is_ready_and_stops_on_request", foreground),
    ("interrupt_stops_it_too", interrupt),
    ("a_hangup_takes_over_what_can_be_and_tells_the_rest", reload::takes_over),
    ("a_broken_file_changes_nothing_and_is_told_with_its_line", reload::broken_file),
    ("many_hangups_and_one_during_the_start_are_safe", reload::many_hangups),
    ("a_hangup_opens_the_log_anew", reload::log_file),
    ("a_hangup_during_the_stop_is_safe", reload::during_the_stop),
    ("it_stops_when_its_stdin_ends", stops_at_eof),
    ("the_configuration_in_effect_is_shown", shows_config),
    ("it_goes_into_the_background_once_it_is_ready", background),
    ("what_fails_in_the_background_is_told_in_the_foreground", background_fails),
    ("a_service_that_fails_breaks_or_ends_exits_with_1", faults),
    ("it_cannot_dump_core_or_gain_privileges", confined),
    #[cfg(target_os = "linux")]
    ("what_was_not_declared_is_out_of_reach", confined::files_tcp_and_signals),
    #[cfg(target_os = "linux")]
    ("without_confinement_the_same_attempts_succeed", confined::switched_off),
    #[cfg(target_os = "linux")]
    ("calls_that_no_daemon_makes_are_missing", confined::calls),
    #[cfg(target_os = "linux")]
    ("a_declared_connection_is_possible_and_no_other", confined::a_declared_connection),
    #[cfg(target_os = "linux")]
    ("the_configuration_can_add_what_may_be_read", confined::settings),
    #[cfg(target_os = "linux")]
    ("inherited_descriptors_are_closed", confined::inherited_descriptors),
    ("another_user_takes_root", another_user_takes_root),
    ("root_must_name_another_user", root_must_name_a_user),
    ("root_is_given_up_for_good_before_listening", root_is_given_up),
    ("a_passed_socket_is_used_and_becomes_the_services_own", activated),
    ("what_was_passed_and_does_not_fit_is_refused", activation_does_not_fit),
];

fn main() -> ExitCode {
    if std::env::var_os("DOORWARD_TEST_DAEMON").is_some() {
        return doorward_launch::run::<Fixture>();
    }
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with('-'));
    let wanted = arguments.next().unwrap_or_default();
    if std::env::args().any(|argument| argument == "--list") {
        TESTS.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let mut failed = 0;
    for (name, test) in TESTS.iter().filter(|(name, _)| name.contains(&wanted)) {
        let passed = std::panic::catch_unwind(test).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        failed += usize::from(!passed);
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn skip() {
    assert!(std::env::var_os("DOORWARD_NO_SKIP").is_none(), "this test takes root");
    println!("SKIPPED: this test takes root");
}

fn version_and_help() {
    let place = Place::new();
    let (code, stdout, _) = place.run(&["--version"]);
    assert_eq!(
        (code, stdout.as_str()),
        (Some(0), concat!("doorward-fixture ", env!("CARGO_PKG_VERSION"), "\n"))
    );
    let (code, stdout, _) = place.run(&["--help"]);
    assert_eq!(code, Some(0));
    for option in [
        "-c, --config-file",
        "-u, --user",
        "-d, --debug",
        "-f, --foreground",
        "-l, --log-level",
        "--check-config",
    ] {
        assert!(stdout.contains(option), "{option} in {stdout}");
    }
    assert!(!stdout.contains("detached"));
    for wrong in [vec!["--what"], vec!["-l", "loud"], vec!["word"]] {
        assert_eq!(place.run(&wrong).0, Some(2), "{wrong:?}");
    }
}

fn check_config_says_ok() {
    let place = Place::new();
    for content in ["", "[log]\nlevel = \"debug\"\n", "[log]\nfile = \"/nonexistent/log\"\n"] {
        let path = place.write(content);
        let (code, stdout, stderr) = place.run(&["--check-config", "-c", text(&path)]);
        assert_eq!((code, stdout, stderr), (Some(0), format!("{}: ok\n", path.display()), String::new()));
    }
    // Nothing was touched.
    assert!(!place.path("socket").exists());
}

fn wrong_configurations() {
    let place = Place::new();
    for (content, line, word) in [
        ("\n\nsokcet = \"/x\"\n", 3, "sokcet"),
        ("[log]\nlevel = \"info\"\n[lgo]\n", 3, "lgo"),
        ("[log]\nlevel = \"loud\"\n", 2, "loud"),
        ("user = \"x\"\nsocket = 7\n", 2, "integer"),
        ("user = \"x\nsocket = 7\n", 1, "string"),
        ("user = \"x\"\nuser = \"y\"\n", 2, "duplicate"),
        ("# here\n[fault]\nserve = false\ncheck = true\n", 4, "fault.check: must not be true"),
        ("fault.check = true", 1, "fault.check: must not be true"),
    ] {
        let path = place.write(content);
        for arguments in [vec!["--check-config"], vec!["-f"]] {
            let mut arguments = arguments;
            arguments.extend(["-c", text(&path)]);
            let (code, stdout, stderr) = place.run(&arguments);
            let start = format!("doorward-fixture: {}:{line}: ", path.display());
            assert!(stderr.starts_with(&start) && stderr.contains(word), "{content:?} gives {stderr}");
            assert_eq!(stderr.lines().count(), 1, "{stderr}");
            assert_eq!((code, stdout.as_str()), (Some(1), ""));
        }
    }
    std::fs::write(place.path("fixture.toml"), b"user = \"\xff\"").expect("written");
    let (code, _, stderr) = place.run(&["--check-config", "-c", text(&place.path("fixture.toml"))]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("UTF-8"), "{stderr}");
}

fn writable_configuration() {
    let place = Place::new();
    let path = place.write("");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o664)).expect("set");
    let (code, _, stderr) = place.run(&["--check-config", "-c", text(&path)]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains(&format!("chmod go-w {}", path.display())), "{stderr}");
}

fn missing_configuration() {
    let place = Place::new();
    let (code, _, stderr) = place.run(&["--check-config", "-c", "nowhere.toml"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("nowhere.toml: cannot open: No such file"), "{stderr}");
    // The one that is not named may be missing: every key has a default.
    let (code, stdout, _) = place.run(&["--check-config"]);
    assert_eq!((code, stdout), (Some(0), format!("{}: ok\n", Fixture::CONFIG_PATH)));
}

fn background_needs_a_log() {
    let place = Place::new();
    let path = place.configure("");
    let (code, _, stderr) = place.run(&["-c", text(&path)]);
    assert_eq!(code, Some(1));
    assert_eq!(stderr, "doorward-fixture: stay in the foreground (-f) or name a log file\n");
}

fn foreground() {
    let place = Place::new();
    place.configure("");
    let daemon = place.start(&[]);
    daemon.signal(Signal::TERM);
    assert_eq!(place.told(), "STOPPING=1\n");
    let (code, log) = daemon.end();
    assert_eq!(code, Some(0), "{log}");
    // One event, one line, and the ready state told once.
    assert!(log.contains(" info doorward-fixture: serving fault=\"line\\u{a}break\"\n"), "{log}");
    assert!(log.lines().all(|line| line.contains(" doorward-fixture: ")), "{log}");
}

fn interrupt() {
    let place = Place::new();
    place.configure("");
    let daemon = place.start(&["-d"]);
    daemon.signal(Signal::INT);
    let (code, log) = daemon.end();
    assert_eq!(code, Some(0));
    assert!(log.contains(" debug doorward-fixture: "), "{log}");
}

fn background() {
    let place = Place::new();
    let log = place.path("log");
    place.configure(&format!("[log]\nfile = {log:?}"));
    // A relative path: the background process has another directory.
    let mut child = place.command(&["-c", "fixture.toml"]).spawn().expect("started");
    // Both are closed when nobody has them any more, so the daemon has let go of the terminal.
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("read");
    child.stdout.take().expect("piped").read_to_string(&mut said).expect("read");
    assert!(child.wait().expect("ended").success(), "{said}");
    assert_eq!(said, "");

    let (status, _) = place.status();
    let pid = status.pid();
    assert_ne!(pid, Pid::from_child(&child));
    assert_eq!(rustix::process::getsid(Some(pid)).expect("a session"), pid);
    assert_eq!(place.told(), "READY=1\n");
    kill_process(pid, Signal::TERM).expect("sent");
    assert_eq!(place.told(), "STOPPING=1\n");
    // Its socket refuses once the process is gone.
    let gone = std::time::Instant::now() + PATIENCE;
    while UnixStream::connect(place.path("socket")).is_ok() {
        assert!(std::time::Instant::now() < gone, "it does not end");
        std::thread::yield_now();
    }
    let said = std::fs::read_to_string(&log).expect("a log");
    assert!(said.contains("serving"), "{said}");
    assert_eq!(std::fs::metadata(&log).expect("a log").permissions().mode() & 0o777, 0o600);
}

fn background_fails() {
    let place = Place::new();
    let log = place.path("log");
    for (fault, word) in [
        ("bind = true", "fixture.toml:6: fault.bind: cannot be bound\\u{a}like this"),
        ("serve = true", "the background process did not start"),
        ("panic = true", "the background process did not start"),
    ] {
        let path = place.configure(&format!("[log]\nfile = {log:?}\n[fault]\n{fault}"));
        let (code, stdout, stderr) = place.run(&["-c", text(&path)]);
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{fault}");
        assert!(stderr.contains(word), "{fault}: {stderr}");
        assert!(std::fs::read_to_string(&log).expect("a log").contains(" critical doorward-fixture: "));
    }
}

fn faults() {
    let place = Place::new();
    for (fault, word) in [
        ("bind", "cannot start why=\""),
        ("serve", "stopped why=\"cannot serve: it is broken\""),
        ("panic", "stopped why=\"the service broke off: "),
        ("end", "stopped why=\"the service ended: nobody asked it to\""),
    ] {
        let path = place.configure(&format!("[fault]\n{fault} = true"));
        let (code, _, stderr) = place.run(&["-f", "-c", text(&path)]);
        assert_eq!(code, Some(1), "{fault}: {stderr}");
        assert!(stderr.contains(word) && stderr.contains(" critical "), "{fault}: {stderr}");
        assert!(stderr.lines().all(|line| line.contains(" doorward-fixture: ")), "{fault}: {stderr}");
        // What a panic was made of may be a secret.
        assert!(!stderr.contains("hunter2"), "{stderr}");
    }
}

fn confined() {
    let place = Place::new();
    place.configure("");
    let daemon = place.start(&[]);
    let (status, _) = place.status();
    assert_eq!(status.line("NoNewPrivs"), "1");
    assert_eq!(status.line("Seccomp"), "2");
    // Only root can empty the bounding set.
    let bounding = if is_root() { "CapBnd" } else { "CapAmb" };
    for capabilities in ["CapInh", "CapPrm", "CapEff", "CapAmb", bounding] {
        assert_eq!(status.line(capabilities), "0000000000000000", "{capabilities}");
    }
    assert_eq!(status.line("Umask"), "0077");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", status.line("Pid"))).expect("there");
    let files = limits.lines().find(|line| line.starts_with("Max open files")).expect("a line");
    let words: Vec<&str> = files.split_whitespace().collect();
    assert_eq!(words[3], words[4], "the soft limit is the hard one: {files}");
    // What is undumpable belongs to root, whoever runs it.
    let own = format!("/proc/{}", status.line("Pid"));
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(own + "/maps").expect("there")), 0);
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().0, Some(0));
}

fn another_user_takes_root() {
    let place = Place::new();
    let path = place.configure("");
    let mut command = place.command(&["-f", "-c", text(&path), "-u", "41004"]);
    if is_root() {
        command.uid(41_005).gid(41_005);
    }
    let output = command.output().expect("ran");
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).expect("text");
    assert!(stderr.contains("only root can run this as"), "{stderr}");
}

fn root_must_name_a_user() {
    if !is_root() {
        return skip();
    }
    let place = Place::new();
    for (config, arguments, word) in [
        ("", vec![], "a user to run as is needed"),
        ("user = \"root\"", vec![], "fixture.toml:1: user: 'root' is root"),
        ("user = \"0\"", vec![], "fixture.toml:1: user: '0' is root"),
        ("user = \"41003\"", vec!["-u", "root"], "'root' is root"),
        ("user = \"no-such-user-here\"", vec![], "there is no user 'no-such-user-here'"),
        ("user = \"4294967295\"", vec![], "is not a user id"),
    ] {
        let path = place.write(&format!("{config}\nsocket = {:?}\n", place.path("socket")));
        let mut all = vec!["-f", "-c", text(&path)];
        all.extend(arguments);
        let (code, _, stderr) = place.run(&all);
        assert_eq!(code, Some(1), "{config}");
        assert!(stderr.contains(word), "{config}: {stderr}");
        assert!(!place.path("socket").exists());
    }
}

fn root_is_given_up() {
    if !is_root() {
        return skip();
    }
    let place = Place::new();
    place.configure("");
    let daemon = place.start(&["--user", "41004"]);
    let (status, seen) = place.status();
    assert_eq!(seen, 41_004, "a client sees the uid that called listen()");
    assert_eq!(status.line("Uid"), "41004 41004 41004 41004");
    assert_eq!(status.line("Gid"), "41004 41004 41004 41004");
    assert_eq!(status.line("Groups"), "");
    // Each thread has its own ids; none was left behind.
    let tasks = std::fs::read_dir(format!("/proc/{}/task", status.line("Pid"))).expect("threads");
    let mut threads = 0;
    for task in tasks {
        let file = std::fs::File::open(task.expect("a thread").path().join("status")).expect("open");
        let uid = BufReader::new(file)
            .lines()
            .map(|line| line.expect("text"))
            .find(|line| line.starts_with("Uid:"));
        assert_eq!(uid.expect("there"), "Uid:\t41004\t41004\t41004\t41004");
        threads += 1;
    }
    assert!(threads > 1);
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().0, Some(0));
}

fn stops_at_eof() {
    // Often: what is told must not depend on who is quicker, the one that tells or the end.
    for _ in 0..50 {
        let place = Place::new();
        place.configure("");
        let mut daemon = place.start_with(&["--stop-at-eof"], std::process::Stdio::piped());
        // The holder of the other end dies: the kernel closes it.
        drop(daemon.stdin());
        let (code, log) = daemon.end();
        assert_eq!(code, Some(0), "{log}");
        assert_eq!(place.told(), "STOPPING=1\n");
    }
}

fn shows_config() {
    let place = Place::new();
    let path = place.write("colour = \"red\"\n");
    let (code, stdout, stderr) = place.run(&["--show-config", "-c", text(&path)]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(stdout.contains("\"colour\": \"red\"") && stdout.contains("\"level\": \"info\""), "{stdout}");
    assert!(!place.path("socket").exists());
}
