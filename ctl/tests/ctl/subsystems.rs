//! Subsystems from the command line: what there is, calls and their progress, cancelling, events; and servers
//! that mean harm.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::{World, fake_gateway::HOSTILE, start, terminal::Terminal};

/// A command that runs on, of which one reads line by line.
struct Running {
    child: Child,
    err: BufReader<std::process::ChildStderr>,
}

impl Running {
    fn start(world: &World, args: &[&str]) -> Self {
        let mut child = start(world.command(args));
        drop(child.stdin.take());
        let err = BufReader::new(child.stderr.take().unwrap());
        Self { child, err }
    }

    /// The next line of stderr.
    fn told(&mut self) -> String {
        let mut line = String::new();
        self.err.read_line(&mut line).unwrap();
        line
    }

    fn interrupt(&self) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Signal::SIGINT).unwrap();
    }

    /// The exit code, and the rest of stdout and stderr.
    fn end(mut self) -> (Option<i32>, String, String) {
        // What it writes to stderr must not keep it from ending.
        let mut err = self.err;
        let rest = std::thread::spawn(move || {
            let mut text = Vec::new();
            err.read_to_end(&mut text).unwrap();
            String::from_utf8(text).unwrap()
        });
        let mut out = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        (self.child.wait().unwrap().code(), out, rest.join().unwrap())
    }
}

fn harmless(text: &str) {
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:.300?}");
}

/// Whether the gateway gets such a request before long.
fn gets(world: &World, name: &str) -> bool {
    let until = Instant::now() + Duration::from_secs(20);
    while !world.gateway.requests().iter().any(|request| request["name"] == name) {
        if Instant::now() > until {
            return false;
        }
        std::thread::yield_now();
    }
    true
}

#[test]
fn what_is_there_is_listed_and_described() {
    let world = World::new();
    world.run(&["query"], "").expect(1).says("log in first");
    world.run(&["describe", "test/steps"], "").expect(1).says("log in first");
    world.log_in();
    assert_eq!(world.run(&["query"], "").expect(0).out, "name          right\nrpc/settings  read/write\n");
    assert_eq!(world.run(&["query", "--json"], "").expect(0).json(), json!({"rpc/settings": "read/write"}));
    let page = world.run(&["describe", "test/steps"], "").expect(0).out;
    for words in
        ["test/steps 1.0\nWalks", "_ (read, tells its progress)", "steps  array  What to tell", "tick  Now"]
    {
        assert!(page.contains(words), "{words:?} is not in {page}");
    }
    harmless(&page);
    let value = world.run(&["describe", "test/steps", "--json"], "").expect(0);
    harmless(&value.out);
    assert_eq!(value.json()["help"], format!("Walks{HOSTILE}"));
    assert_eq!(world.run(&["describe", "no/such", "--json"], "").expect(1).json()["error"]["code"], 404);
}

#[test]
fn an_action_and_its_arguments_are_put_together() {
    let world = World::new();
    world.log_in();
    let file = world.directory.path().join("args");
    fs::write(&file, " {\"b\": 2}\n").unwrap();
    let file = file.to_str().unwrap();
    for (args, input, sent) in [
        (&["memorystats"][..], "", json!({"action": "memorystats"})),
        (&["_"], "", json!({"action": "_"})),
        (&["walk", r#"{"a": [1]}"#], "", json!({"action": "walk", "a": [1]})),
        (&["walk", "-"], r#"{"a": 1}"#, json!({"action": "walk", "a": 1})),
        (&["walk", "--args-from", "-"], r#"{"a": 1}"#, json!({"action": "walk", "a": 1})),
        (&["walk", "--args-from", file], "", json!({"action": "walk", "b": 2})),
        (&["--args-from", file], "", json!({"b": 2})),
        (&["--args-from", "-"], "[true]", json!([true])),
        (&[r#""text""#], "", json!("text")),
        (&["true"], "", json!(true)),
        (&["7"], "", json!(7)),
    ] {
        let all = [&["--json", "call", "test/echo"][..], args].concat();
        assert_eq!(world.run(&all, input).expect(0).json(), sent, "{args:?}");
    }
    let long = format!("\"{}\"", "x".repeat(128 * 1024));
    world.run(&["call", "test/echo", "--args-from", "-"], &long).expect(2).says("128 KiB");
}

#[test]
fn progress_is_told_apart_from_the_result() {
    let world = World::new();
    world.log_in();
    let args = r#"{"steps": [{"percent": 5}, {"at": "x"}], "result": {"ok": true}}"#;
    let ran = world.run(&["call", "test/steps", args], "").expect(0);
    assert_eq!(ran.out, "ok  true\n");
    assert_eq!(ran.err, "progress: {\"percent\":5}\nprogress: {\"at\":\"x\"}\n");
    let ran = world.run(&["call", "test/steps", args, "--json"], "").expect(0);
    assert_eq!(ran.json(), json!({"ok": true}));
    let lines: Vec<Value> = ran.err.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, [json!({"progress": {"percent": 5}}), json!({"progress": {"at": "x"}})]);
}

#[test]
fn ctrl_c_cancels_the_call_and_waits_for_its_end() {
    let world = World::new();
    world.log_in();
    let mut running = Running::start(&world, &["call", "test/steps", r#"{"steps": [1], "hang": true}"#]);
    assert_eq!(running.told(), "progress: 1\n");
    running.interrupt();
    let (code, out, err) = running.end();
    assert_eq!((code, out.as_str()), (Some(130), ""), "{err}");
    assert!(err.contains("the call was cancelled"), "{err}");
    let requests = world.gateway.take_requests();
    let of = |name: &str| requests.iter().find(|request| request["name"] == name).unwrap();
    assert_eq!(of("cancel")["args"], json!({"id": of("steps")["id"]}));
    assert_ne!(of("cancel")["id"], of("steps")["id"]);
}

#[test]
fn a_cancelled_call_with_local_ends_its_session_too() {
    let world = World::new();
    world.gateway.allow_local();
    let args = ["call", "--local", "test/steps", r#"{"steps": [1], "hang": true}"#];
    let mut running = Running::start(&world, &args);
    running.told();
    running.interrupt();
    assert_eq!(running.end().0, Some(130));
    assert_eq!(world.gateway.sessions(), 0);
}

#[test]
fn a_result_that_came_before_the_cancel_is_shown() {
    let world = World::new();
    world.log_in();
    let args = r#"{"steps": [1], "hang": true, "at_cancel": {"done": "all"}}"#;
    let mut running = Running::start(&world, &["call", "test/steps", args, "--json"]);
    assert_eq!(running.told(), "{\"progress\":1}\n");
    running.interrupt();
    let (code, out, _) = running.end();
    assert_eq!((code, out.as_str()), (Some(130), "{\"done\":\"all\"}\n"));
}

#[test]
fn a_gateway_that_does_not_answer_a_cancel_keeps_nobody() {
    let world = World::new();
    world.log_in();
    let args = ["call", "test/steps", r#"{"steps": [1], "hang": true, "at_cancel": "deaf"}"#];
    let mut running = Running::start(&world, &args);
    running.told();
    running.interrupt();
    let (code, _, err) = running.end();
    assert_eq!(code, Some(130));
    assert!(err.contains("was not said in time"), "{err}");
    world.gateway.take_requests();
    // The second leaves at once, without a word.
    let mut running = Running::start(&world, &args);
    running.told();
    running.interrupt();
    assert!(gets(&world, "cancel"));
    running.interrupt();
    let (code, out, err) = running.end();
    assert_eq!((code, out.as_str(), err.as_str()), (Some(130), "", ""));
}

#[test]
fn arguments_that_do_not_come_can_be_interrupted() {
    let world = World::new();
    world.log_in();
    world.gateway.take_requests();
    let mut child = start(world.command(&["call", "test/echo", "-"]));
    let stdin = child.stdin.take();
    let mut running = Running { err: BufReader::new(child.stderr.take().unwrap()), child };
    // Again and again: one that comes before it listens is lost where whoever runs the tests ignores the signal.
    let until = Instant::now() + Duration::from_secs(20);
    while running.child.try_wait().unwrap().is_none() && Instant::now() < until {
        running.interrupt();
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_ne!(running.end().0, Some(0));
    drop(stdin);
    assert_eq!(world.gateway.take_requests(), Vec::<Value>::new());
}

#[test]
fn a_bar_is_drawn_on_a_terminal_and_taken_away() {
    let world = World::new();
    world.log_in();
    let steps = json!({"steps": [{"percent": 50, "message": "reading"}, {"other": HOSTILE}, {"done": 4, "total": 4}],
        "result": null});
    let mut terminal = Terminal::start_drawing(&world, &["call", "test/steps", &steps.to_string()], "xterm");
    let bar = format!("\r[{}{}]  50% reading\u{1b}[K", "#".repeat(15), "-".repeat(15));
    let shown = terminal.shown("progress: ");
    assert!(shown.contains(&bar) && shown.ends_with("\r\u{1b}[Kprogress: "), "{shown:?}");
    let shown = terminal.shown(&format!("\r[{}] 100%\u{1b}[K\r\u{1b}[K", "#".repeat(30)));
    assert!(shown.contains("gotcha") && !shown.contains("\u{1b}]") && !shown.contains('\u{9b}'), "{shown:?}");
    assert_eq!(terminal.code(), Some(0));
    let mut terminal = Terminal::start_drawing(&world, &["call", "test/steps", &steps.to_string()], "dumb");
    let shown = terminal.shown("\"total\":4}\r\n");
    assert!(shown.starts_with("progress: {") && !shown.contains('\u{1b}'), "{shown:?}");
    assert_eq!(terminal.code(), Some(0));
}

#[test]
fn progress_without_end_is_drawn_now_and_then_and_can_be_cancelled() {
    let world = World::new();
    world.log_in();
    let mut terminal = Terminal::start_drawing(&world, &["call", "test/endless"], "xterm");
    let shown = terminal.shown("% ");
    assert!(!shown.contains("\u{1b}]") && !shown.contains('\u{9b}'), "{shown:?}");
    terminal.type_in("\u{3}");
    let shown = terminal.shown("the call was cancelled");
    assert!(!shown.contains("\u{1b}]") && !shown.contains('\u{9b}'), "{shown:?}");
    assert_eq!(terminal.code(), Some(130));
    let mut running = Running::start(&world, &["call", "test/endless"]);
    running.told();
    running.interrupt();
    let (code, _, err) = running.end();
    assert_eq!(code, Some(130));
    harmless(&err);
}

#[test]
fn answers_to_other_requests_are_passed_over() {
    let world = World::new();
    world.log_in();
    let ran = world.run(&["call", "test/others", "--json"], "").expect(0);
    assert_eq!((ran.json(), ran.err.as_str()), (json!("this"), ""));
}

#[test]
fn large_messages_are_shown_without_harm() {
    let world = World::new();
    world.log_in();
    for json in [&[][..], &["--json"]] {
        let ran = world.run(&[&["call", "test/huge"][..], json].concat(), "").expect(0);
        harmless(&ran.out);
        harmless(&ran.err);
        // For people a line of progress has an end.
        assert!(!json.is_empty() || ran.err.chars().count() < 1_100, "{}", ran.err.len());
    }
}

#[test]
fn events_are_a_line_each_and_end_after_so_many() {
    let world = World::new();
    world.run(&["events", "tick"], "").expect(1).says("log in first");
    world.log_in();
    let ran = world.run(&["events", "tick", "never", "tick", "--count", "3"], "").expect(0);
    let ran = ran.says("nothing publishes never here").says("the session ends in 9 s");
    let lines: Vec<_> = ran.out.lines().map(|line| line.split_once(' ').unwrap()).collect();
    assert_eq!(lines.len(), 3);
    for (n, (time, rest)) in (1..).zip(lines) {
        assert!(time.len() == 20 && time.ends_with('Z'), "{time}");
        assert_eq!(rest, format!("tick {{\"n\":{n}}}"));
    }
    let requests = world.gateway.take_requests();
    let subscribe = requests.iter().find(|request| request["name"] == "subscribe").unwrap();
    assert_eq!(subscribe["args"], json!(["never", "tick"]));
    let ran = world.run(&["events", "hostile", "--count", "1", "--json"], "").expect(0);
    harmless(&ran.out);
    assert_eq!(
        (&ran.json()["name"], &ran.json()["args"]),
        (&json!("hostile"), &json!({ HOSTILE: [HOSTILE] }))
    );
    harmless(&world.run(&["events", "hostile", "--count", "1"], "").expect(0).out);
    world.run(&["events", "never"], "").expect(1).says("nothing publishes that here");
}

#[test]
fn the_end_of_a_session_and_of_a_connection_are_told_apart() {
    let world = World::new();
    world.log_in();
    world.run(&["events", "revoked"], "").expect(1).says("ended by somebody else");
    let ran = world.run(&["events", "unread"], "").expect(3).says("1008 events were not read");
    harmless(&ran.err);
    let mut running = Running::start(&world, &["events", "quiet"]);
    assert!(running.told().contains("the session ends in 9 s"));
    running.interrupt();
    assert_eq!(running.end().0, Some(130));
}

#[test]
fn who_only_listens_keeps_the_session_and_hears_of_its_end() {
    let world = World::new();
    world.gateway.set_idle(3);
    world.log_in();
    let mut running = Running::start(&world, &["events", "quiet"]);
    running.told();
    assert!(gets(&world, "query"));
    assert_eq!(world.gateway.sessions(), 1);
    running.interrupt();
    assert_eq!(running.end().0, Some(130));
    world.gateway.take_requests();
    let args = ["call", "test/steps", r#"{"steps": [1], "hang": true}"#];
    let mut running = Running::start(&world, &args);
    running.told();
    assert!(gets(&world, "query"));
    running.interrupt();
    assert_eq!(running.end().0, Some(130));
}

#[test]
fn events_end_when_nobody_reads_them() {
    let world = World::new();
    world.log_in();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = world.command(&["events", "tick"]);
    command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::null());
    assert_eq!(command.status().unwrap().code(), Some(0));
}

#[test]
fn records_are_a_line_each_however_many_replies_they_take() {
    let world = World::new();
    world.run(&["logs"], "").expect(1).says("log in first");
    world.log_in();
    let ran = world.run(&["logs", "--from", "-1h", "--until", "2026-11-25T23:10:59Z"], "").expect(0);
    harmless(&ran.out);
    harmless(&ran.err);
    assert_eq!(ran.out.lines().count(), 25);
    assert!(ran.out.starts_with("2026-11-25T23:10:59.123Z authd login \\u{1b}]0;gotcha"), "{:.200}", ran.out);
    let ran = ran.says("certd does not answer").says("gateway has recorded more");
    assert!(!ran.err.contains("--most") && ran.err.lines().count() == 2, "{}", ran.err);
    let requests = world.gateway.take_requests();
    let asked: Vec<_> = requests.iter().filter(|request| request["name"] == "logs").collect();
    assert_eq!((asked.len(), &asked[0]["args"]["until"]), (9, &json!(1_795_648_259)));
    assert_eq!(asked[1]["args"], json!({"action": "read_logs", "after": "3", "most": 997}));
    let ran =
        world.run(&["--json", "logs", "--from", "2026-11-25T23:10:59+01:00", "--most", "4"], "").expect(0);
    harmless(&ran.out);
    let ran = ran.says("there are more");
    let records: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((records.len(), &records[3]["uid"], &records[0]["user"]), (4, &json!(3), &json!(HOSTILE)));
    // A server that says without end that there is more.
    world.run(&["logs", "--from", "5"], "").expect(0).says("there are more");
    for wrong in [&["--from", "yesterday"][..], &["--until", "2026-11-25"], &["--most", "0"]] {
        world.run(&[&["logs"][..], wrong].concat(), "").expect(2);
    }
    assert_eq!(world.run(&["--json", "logs"], "").expect(1).json()["error"]["code"], 400);
}
