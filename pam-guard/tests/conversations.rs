//! The real program with small fake workers: whatever a worker does, it ends when it shall, and the
//! peer learns it by end of file.

// Test code: an index out of bounds is a failed test.
#![allow(clippy::indexing_slicing, unreachable_pub)]

mod stack;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use stack::{Connection, GUARD, Listener, Scratch};

/// Ignores what a shell can ignore, says so, and stays.
const DEAF: &str =
    "trap '' HUP INT QUIT TERM PIPE ALRM USR1 USR2 CHLD\nprintf ready >&0\nwhile :; do sleep 1000; done";

#[test]
fn a_stranger_gets_end_of_file_and_no_worker() {
    let scratch = Scratch::new();
    let started = scratch.path("started");
    let worker = scratch.worker(&format!("touch {}", started.display()));
    let stranger = (geteuid().as_raw() + 1).to_string();
    let listener = Listener::start(&scratch, &worker, &["--allow-uid", &stranger]);
    assert_eq!(listener.connect().receive(), None);
    assert!(listener.stop().success());
    assert!(!started.exists());
}

#[test]
fn a_guard_checks_its_peer_by_itself() {
    let scratch = Scratch::new();
    let worker = scratch.worker("printf ready >&0");
    let (ours, theirs) = Connection::pair();
    let stranger = (geteuid().as_raw() + 1).to_string();
    let output = Command::new(GUARD)
        .args(["--allow-uid", &stranger, "--worker"])
        .arg(&worker)
        .stdin(Stdio::from(theirs))
        .output()
        .expect("the guard runs");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(ours.receive(), None);
}

#[test]
fn a_guard_without_a_connection_fails() {
    let scratch = Scratch::new();
    let worker = scratch.worker("exit 0");
    let uid = geteuid().as_raw().to_string();
    for stdin in [Stdio::null(), Stdio::piped()] {
        let output = Command::new(GUARD)
            .args(["--allow-uid", &uid, "--worker"])
            .arg(&worker)
            .stdin(stdin)
            .output()
            .expect("the guard runs");
        assert_eq!(output.status.code(), Some(1));
    }
    assert_eq!(Command::new(GUARD).output().expect("the guard runs").status.code(), Some(2));
}

#[test]
fn the_owner_of_a_socket_may_stand_for_a_uid() {
    let scratch = Scratch::new();
    let worker = scratch.worker("printf ready >&0");
    let socket = scratch.path("pam.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("a new name");
    let said = |path: &std::path::Path| {
        let (ours, theirs) = Connection::pair();
        let output = Command::new(GUARD)
            .arg("--allow-owner-of")
            .arg(path)
            .arg("--worker")
            .arg(&worker)
            .stdin(Stdio::from(theirs))
            .output()
            .expect("the guard runs");
        let word = ours.receive();
        (word, String::from_utf8(output.stderr).expect("text"))
    };
    assert_eq!(said(&socket).0.as_deref(), Some("ready"), "it is ours");
    if geteuid().is_root() {
        std::os::unix::fs::chown(&socket, Some(41_010), None).expect("given away");
        let (word, why) = said(&socket);
        assert!(word.is_none() && why.contains("refused a connection from uid 0"), "{why}");
        std::os::unix::fs::chown(&socket, Some(0), None).expect("taken back");
    }
    // What somebody else can put there says nothing.
    let link = scratch.path("link");
    std::os::unix::fs::symlink(&socket, &link).expect("linked");
    for wrong in [link, worker.clone(), scratch.path("nothing")] {
        let (word, why) = said(&wrong);
        assert!(word.is_none() && !why.is_empty(), "{}", wrong.display());
    }
    std::fs::set_permissions(scratch.path(""), PermissionsExt::from_mode(0o777)).expect("opened");
    let (word, why) = said(&socket);
    assert!(word.is_none() && why.contains("chmod go-w"), "{why}");
}

#[test]
fn systemd_starts_a_guard_for_each_connection() {
    let scratch = Scratch::new();
    let worker = scratch.worker(DEAF);
    let Some(activator) = stack::Activator::start(&scratch, &worker) else {
        assert!(std::env::var_os("DOORWARD_NO_SKIP").is_none(), "systemd-socket-activate is missing");
        eprintln!("SKIPPED: systemd-socket-activate is missing (package systemd)");
        return;
    };
    let connections = [activator.connect(), activator.connect()];
    for connection in connections {
        assert_eq!(connection.receive().as_deref(), Some("ready"));
        connection.half_close();
        assert_eq!(connection.receive(), None);
    }
}

#[test]
fn a_missing_worker_is_end_of_file() {
    let scratch = Scratch::new();
    let listener = Listener::start(&scratch, &scratch.path("no-such-worker"), &[]);
    assert_eq!(listener.connect().receive(), None);
}

#[test]
fn the_end_of_the_worker_is_end_of_file_at_once() {
    let scratch = Scratch::new();
    let listener = Listener::start(&scratch, &scratch.worker("printf verdict >&0"), &[]);
    let connection = listener.connect();
    assert_eq!(connection.receive().as_deref(), Some("verdict"));
    assert_eq!(connection.receive(), None);
}

#[test]
fn a_half_close_ends_a_worker_that_ignores_all_signals() {
    let scratch = Scratch::new();
    let gone = scratch.watch();
    let listener = Listener::start(&scratch, &scratch.worker(DEAF), &[]);
    let connection = listener.connect();
    assert_eq!(connection.receive().as_deref(), Some("ready"));
    connection.half_close();
    assert_eq!(connection.receive(), None);
    gone.wait();
}

#[test]
fn a_worker_that_sees_the_half_close_may_end_by_itself() {
    let scratch = Scratch::new();
    let gone = scratch.watch();
    // At end of file `read` fails; only the shell itself can then send what it wants to send.
    let worker = scratch.worker("printf ready >&0\nread line <&0\nprintf cleaned >&0");
    let listener = Listener::start(&scratch, &worker, &[]);
    let cleans = || {
        let connection = listener.connect();
        assert_eq!(connection.receive().as_deref(), Some("ready"));
        connection.half_close();
        let said = connection.receive();
        assert!(said.is_none() || connection.receive().is_none());
        said
    };
    // On a busy machine it may not be given any of the time that it has.
    let said = (0..20).find_map(|_| cleans());
    assert_eq!(said.as_deref(), Some("cleaned"));
    gone.wait();
}

#[test]
fn a_full_close_ends_it_too() {
    let scratch = Scratch::new();
    let gone = scratch.watch();
    let listener = Listener::start(&scratch, &scratch.worker(DEAF), &[]);
    let connection = listener.connect();
    assert_eq!(connection.receive().as_deref(), Some("ready"));
    drop(connection);
    gone.wait();
}

/// A grandchild in a session of its own that holds the descriptor of [`Scratch::watch`].
const ORPHAN: &str = "(setsid sh -c \"trap '' HUP INT QUIT TERM; echo orphan >&3; exec sleep 1000\" &)\n";

#[test]
fn a_double_forked_orphan_is_killed_at_the_half_close() {
    let scratch = Scratch::new();
    let gone = scratch.watch();
    let listener = Listener::start(&scratch, &scratch.worker(&format!("{ORPHAN}{DEAF}")), &[]);
    let connection = listener.connect();
    assert_eq!(connection.receive().as_deref(), Some("ready"));
    connection.half_close();
    assert_eq!(connection.receive(), None);
    gone.wait();
}

#[test]
fn an_orphan_of_a_successful_worker_is_killed_after_the_verdict() {
    let scratch = Scratch::new();
    let gone = scratch.watch();
    let listener = Listener::start(&scratch, &scratch.worker(&format!("{ORPHAN}printf verdict >&0")), &[]);
    let connection = listener.connect();
    assert_eq!(connection.receive().as_deref(), Some("verdict"));
    assert_eq!(connection.receive(), None);
    gone.wait();
}

#[test]
fn a_conversation_ends_when_its_time_is_over() {
    let scratch = Scratch::new();
    let gone = scratch.watch();
    let listener = Listener::start(&scratch, &scratch.worker(DEAF), &["--total-seconds", "5"]);
    let connection = listener.connect();
    assert_eq!(connection.receive().as_deref(), Some("ready"));
    assert_eq!(connection.receive(), None);
    gone.wait();
}

#[test]
fn sigterm_ends_all_conversations_and_removes_the_socket() {
    let scratch = Scratch::new();
    let gone = scratch.watch();
    let listener = Listener::start(&scratch, &scratch.worker(&format!("{ORPHAN}{DEAF}")), &[]);
    let connections = [listener.connect(), listener.connect()];
    for connection in &connections {
        assert_eq!(connection.receive().as_deref(), Some("ready"));
    }
    let socket = listener.socket().to_owned();
    assert_eq!(listener.stop().code(), Some(0));
    for connection in &connections {
        assert_eq!(connection.receive(), None);
    }
    assert!(!socket.exists());
    gone.wait();
}

/// Tells the guard's pid before anything else.
const WITH_GUARD_PID: &str = "printf $PPID >&0\n";

fn guard_pid(connection: &Connection) -> Pid {
    let pid = connection.receive().expect("the worker tells its parent").parse().expect("a number");
    Pid::from_raw(pid).expect("a pid")
}

#[test]
fn sigterm_to_a_guard_ends_its_conversation() {
    let scratch = Scratch::new();
    let gone = scratch.watch();
    let worker = scratch.worker(&format!("{WITH_GUARD_PID}{ORPHAN}{DEAF}"));
    let listener = Listener::start(&scratch, &worker, &[]);
    let connection = listener.connect();
    let guard = guard_pid(&connection);
    assert_eq!(connection.receive().as_deref(), Some("ready"));
    kill_process(guard, Signal::TERM).expect("the guard lives");
    assert_eq!(connection.receive(), None);
    gone.wait();
}

#[test]
fn what_a_killed_guard_leaves_the_listener_kills() {
    let scratch = Scratch::new();
    let gone = scratch.watch();
    let worker = scratch.worker(&format!("{WITH_GUARD_PID}{ORPHAN}{DEAF}"));
    let listener = Listener::start(&scratch, &worker, &[]);
    let connection = listener.connect();
    let guard = guard_pid(&connection);
    assert_eq!(connection.receive().as_deref(), Some("ready"));
    kill_process(guard, Signal::KILL).expect("the guard lives");
    assert_eq!(connection.receive(), None);
    gone.wait();
    // And it listens on.
    let gone = scratch.watch();
    assert!(listener.connect().receive().is_some());
    gone.wait();
}

#[test]
fn at_the_maximum_the_next_one_waits_for_a_place() {
    let scratch = Scratch::new();
    let place = scratch.path("place");
    let place = place.display();
    // Two at once would collide in the directory that each makes for its life.
    let worker = scratch.worker(&format!(
        "mkdir {place} || {{ printf crowded >&0; exit; }}\nprintf ready >&0\nread line <&0\nrmdir {place}\nprintf done >&0"
    ));
    let listener = Listener::start(&scratch, &worker, &["--max", "1"]);
    let connections: Vec<Connection> = (0..4).map(|_| listener.connect()).collect();
    for connection in &connections {
        assert_eq!(connection.receive().as_deref(), Some("ready"));
        connection.send("\n");
        assert_eq!(connection.receive().as_deref(), Some("done"));
        assert_eq!(connection.receive(), None);
    }
}

#[test]
fn the_worker_gets_its_arguments_an_empty_environment_and_default_signals() {
    let scratch = Scratch::new();
    let worker = scratch.worker(
        "printf '%s' \"$1 $2 $3\" >&0; printf '%s' \"$4 $PPID\" >&0\ncat /proc/$$/environ >&0\n\
         grep -E 'SigIgn|SigBlk' /proc/self/status >&0",
    );
    let listener = Listener::start_with_ignored_signals(&scratch, &worker, &["--service", "other-name"]);
    let connection = listener.connect();
    assert_eq!(connection.receive().as_deref(), Some("--service other-name --guard-pid"));
    let pids = connection.receive().expect("two pids");
    let (told, parent) = pids.split_once(' ').expect("two pids");
    assert_eq!(told, parent);
    // An empty environment is no packet at all.
    let masks = connection.receive().expect("two masks");
    for line in masks.lines() {
        let mask = line.split_whitespace().nth(1).expect("a mask");
        // Two signals are the C library's own.
        assert_eq!(u64::from_str_radix(mask, 16).expect("hexadecimal") & !0x1_8000_0000, 0, "{line}");
    }
    assert_eq!(masks.lines().count(), 2);
}

#[test]
fn the_socket_is_its_owners_and_nobody_elses() {
    let scratch = Scratch::new();
    let listener = Listener::start(&scratch, &scratch.worker("exit 0"), &[]);
    let socket = std::fs::symlink_metadata(listener.socket()).expect("the socket");
    assert_eq!(socket.permissions().mode() & 0o7777, 0o600);
    assert_eq!(socket.uid(), geteuid().as_raw());
    let directory = listener.socket().parent().expect("a directory").metadata().expect("the directory");
    assert_eq!(directory.permissions().mode() & 0o7777, 0o755);
    let names = std::fs::read_dir(listener.socket().parent().expect("a directory")).expect("the directory");
    assert_eq!(names.count(), 1, "no temporary name is left");
}

#[test]
fn as_root_the_socket_can_be_another_users() {
    if !geteuid().is_root() {
        assert!(std::env::var_os("DOORWARD_NO_SKIP").is_none(), "needs root");
        eprintln!("SKIPPED: needs root");
        return;
    }
    let scratch = Scratch::new();
    let listener = Listener::start(&scratch, &scratch.worker("exit 0"), &["--socket-owner", "54321"]);
    assert_eq!(std::fs::symlink_metadata(listener.socket()).expect("the socket").uid(), 54321);
}

#[test]
fn a_directory_that_others_can_write_to_is_refused() {
    for mode in [0o775, 0o757, 0o1777] {
        let scratch = Scratch::new();
        let run = scratch.path("run");
        std::fs::create_dir(&run).expect("a new directory");
        std::fs::set_permissions(&run, PermissionsExt::from_mode(mode)).expect("our directory");
        let output = Listener::fails(&scratch, &scratch.worker("exit 0"));
        assert!(output.contains("can write to it"), "{output}");
    }
}

#[test]
fn a_file_or_a_link_in_the_sockets_place_is_refused() {
    let scratch = Scratch::new();
    let run = scratch.path("run");
    std::fs::create_dir(&run).expect("a new directory");
    let place = run.join("pam.sock");
    std::fs::write(&place, "kept").expect("our directory");
    assert!(Listener::fails(&scratch, &scratch.worker("exit 0")).contains("no socket"));
    assert_eq!(std::fs::read(&place).expect("still there"), b"kept");
    std::fs::remove_file(&place).expect("our file");
    std::os::unix::fs::symlink(scratch.path("elsewhere"), &place).expect("our directory");
    assert!(Listener::fails(&scratch, &scratch.worker("exit 0")).contains("no socket"));
    std::fs::remove_dir_all(&run).expect("our directory");
    std::os::unix::fs::symlink(scratch.path("."), &run).expect("our directory");
    Listener::fails(&scratch, &scratch.worker("exit 0"));
}

#[test]
fn a_listener_takes_over_a_stale_socket_and_leaves_a_newer_one() {
    let scratch = Scratch::new();
    let worker = scratch.worker("printf verdict >&0");
    let first = Listener::start(&scratch, &worker, &[]);
    let second = Listener::start(&scratch, &worker, &[]);
    assert_eq!(first.stop().code(), Some(0));
    assert_eq!(second.connect().receive().as_deref(), Some("verdict"));
}
