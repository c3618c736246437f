//! What a stack left behind, by the names that only it uses.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the last orphans may take to be gone after everything has stopped.
const DEADLINE: Duration = Duration::from_secs(5);

/// Processes with one of the marks in their command line or environment.
pub(crate) fn processes(marks: &[&str]) -> Vec<String> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.bytes().all(|b| b.is_ascii_digit()) || name == std::process::id().to_string() {
            continue;
        }
        let read = |file: &str| {
            let bytes = fs::read(entry.path().join(file)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).replace('\0', " ")
        };
        let command = read("cmdline");
        if marks.iter().any(|mark| command.contains(mark) || read("environ").contains(mark)) {
            found.push(format!("{name} {command}"));
        }
    }
    found
}

/// Unix sockets bound to a name below the directory, as the kernel lists them; but those of the tests.
pub(crate) fn sockets(dir: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let dir = dir.to_string_lossy();
    let ours = |line: &&str| line.contains(dir.as_ref()) && !line.contains("/notify/");
    table.lines().filter(ours).map(str::to_owned).collect()
}

/// Waits until nothing of the stack is left; what is, after the deadline.
pub(crate) fn wait_until_none(dir: &Path, service: &str) -> Result<(), String> {
    let mark = dir.to_string_lossy().into_owned();
    wait_for("nothing is left", DEADLINE, || {
        let processes = processes(&[&mark, service]);
        let sockets = sockets(dir);
        if processes.is_empty() && sockets.is_empty() {
            Ok(())
        } else {
            Err(format!("left behind: {processes:?} {sockets:?}"))
        }
    })
}

/// Asks again and again until it is so, or the deadline has passed.
pub(crate) fn wait_for(
    what: &str,
    most: Duration,
    mut check: impl FnMut() -> Result<(), String>,
) -> Result<(), String> {
    let deadline = Instant::now() + most;
    loop {
        match check() {
            Ok(()) => return Ok(()),
            Err(e) if Instant::now() >= deadline => return Err(format!("{what}: not within {most:?}: {e}")),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}
