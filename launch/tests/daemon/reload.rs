//! SIGHUP: what it changes, what it leaves, and that it can come at any time.

use std::process::Stdio;

use rustix::process::Signal;

use crate::place::{Place, text};

pub(crate) fn takes_over() {
    let place = Place::new();
    place.configure("colour = \"red\"");
    let daemon = place.start(&[]);
    place.configure("colour = \"green\"\n[log]\nlevel = \"debug\"\n[fault]\nserve = true");
    daemon.signal(Signal::HUP);
    place.reloaded();
    // What waits for a restart is told until that is done.
    daemon.signal(Signal::HUP);
    place.reloaded();
    daemon.signal(Signal::TERM);
    let (code, log) = daemon.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("taken over colour=green\n"), "{log}");
    assert!(log.contains(" info doorward-fixture: reloaded changed=\"colour log.level\"\n"), "{log}");
    assert!(log.contains(" info doorward-fixture: reloaded changed=\"\"\n"), "{log}");
    let waiting = " warning doorward-fixture: changed keys that take a restart keys=fault.serve\n";
    assert_eq!(log.matches(waiting).count(), 2, "{log}");
}

pub(crate) fn broken_file() {
    let place = Place::new();
    place.configure("");
    let daemon = place.start(&[]);
    let path = place.path("fixture.toml");
    let wrong = |line: usize, word: &str| format!("{}:{line}: {word}", path.display());
    let mut expected = Vec::new();
    for (more, line, word) in [
        ("colour = 7", 3, "invalid type"),
        ("colur = \"red\"", 3, "unknown field `colur`"),
        ("[fault]\ncheck = true", 4, "fault.check: must not be true"),
        ("[fault]\nreload = true", 4, "fault.reload: cannot be taken over"),
    ] {
        place.configure(more);
        daemon.signal(Signal::HUP);
        place.reloaded();
        expected.push(wrong(line, word));
    }
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o646)).expect("set");
    daemon.signal(Signal::HUP);
    place.reloaded();
    expected.push(format!("others can write {}", path.display()));
    std::fs::remove_file(&path).expect("removed");
    daemon.signal(Signal::HUP);
    place.reloaded();
    expected.push(format!("{}: cannot open", path.display()));
    // It still serves.
    place.status();
    daemon.signal(Signal::TERM);
    let (code, log) = daemon.end();
    assert_eq!(code, Some(0), "{log}");
    let refused: Vec<_> = log.lines().filter(|line| line.contains("the old configuration stays")).collect();
    assert_eq!(refused.len(), expected.len(), "{log}");
    for (line, expected) in refused.iter().zip(&expected) {
        assert!(line.contains(" error doorward-fixture: ") && line.contains(expected), "{expected}: {line}");
    }
    assert!(!log.contains("taken over colour"), "{log}");
}

pub(crate) fn many_hangups() {
    let place = Place::new();
    place.configure("colour = \"blue\"");
    let daemon = place.spawn(&[], Stdio::null());
    daemon.await_own_signals();
    // Whatever the start is doing, none of them ends it.
    for _ in 0..100 {
        daemon.signal(Signal::HUP);
        std::thread::yield_now();
    }
    // Ready once for the start and once for each reload; the last one sees the last hangup.
    let mut ready = 0;
    while ready < 2 {
        ready += usize::from(place.told() == "READY=1\n");
    }
    daemon.signal(Signal::TERM);
    // All that it tells is read: nobody is told more than the socket holds.
    while place.told() != "STOPPING=1\n" {}
    let (code, log) = daemon.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("taken over colour=blue"), "{log}");
}

pub(crate) fn log_file() {
    let place = Place::new();
    let log = place.path("logs/log");
    // As a package has it: the directory is the service's, so that it can make a new file in it.
    std::fs::create_dir(place.path("logs")).expect("made");
    if crate::place::is_root() {
        std::os::unix::fs::chown(place.path("logs"), Some(crate::place::SERVICE), None).expect("given");
    }
    place.configure(&format!("[log]\nfile = {log:?}"));
    let daemon = place.start(&[]);
    let moved = place.path("logs/log.1");
    std::fs::rename(&log, &moved).expect("moved");
    daemon.signal(Signal::HUP);
    place.reloaded();
    daemon.signal(Signal::TERM);
    assert_eq!(place.told(), "STOPPING=1\n");
    assert_eq!(daemon.end().0, Some(0));
    let (old, new) = (std::fs::read_to_string(&moved), std::fs::read_to_string(&log));
    let (old, new) = (old.expect("the old log"), new.expect("the new log"));
    assert!(old.contains("serving") && !old.contains("reloaded"), "{old}");
    assert!(new.contains("reloaded") && !new.contains("serving"), "{new}");

    // The next start, as root again, takes a log that is the service's; another name of it is refused.
    let daemon = place.start(&[]);
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().0, Some(0));
    std::fs::hard_link(&log, place.path("logs/other")).expect("linked");
    let config = place.path("fixture.toml");
    let (code, _, stderr) = place.run(&["-f", "-c", text(&config)]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("hard links"), "{stderr}");
}

pub(crate) fn during_the_stop() {
    let place = Place::new();
    place.configure("");
    let daemon = place.start(&[]);
    daemon.signal(Signal::TERM);
    for _ in 0..20 {
        daemon.signal(Signal::HUP);
    }
    let (code, log) = daemon.end();
    assert_eq!(code, Some(0), "{log}");
}
