//! What a stack left behind, by the names that only it uses.

use std::fs;
use std::path::Path;
use std::sync::Once;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::accounts::PREFIX;

/// How long the last orphans may take to be gone after everything has stopped.
const DEADLINE: Duration = Duration::from_secs(20);

/// Processes with one of these names in their command line or environment. A longer name that begins with it is another
/// one's: `dwt1n3` is not `dwt1n31`.
pub(crate) fn processes(names: &[&str]) -> Vec<String> {
    processes_where(|text| names.iter().any(|name| has_whole(text, name)))
}

fn has_whole(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(at, _)| {
        let after = text[at + name.len()..].chars().next();
        !after.is_some_and(char::is_alphanumeric)
    })
}

fn processes_where(is_one: impl Fn(&str) -> bool) -> Vec<String> {
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
        if is_one(&command) || is_one(&read("environ")) {
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

/// Ends and removes what test processes that were killed left: all names begin with `dwt` and their pid.
pub(crate) fn purge() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let marks = [format!("/{PREFIX}"), format!(" {PREFIX}")];
        for line in processes_where(|text| marks.iter().any(|mark| text.contains(mark))) {
            let (pid, command) = line.split_once(' ').unwrap_or((&line, ""));
            if command.split([' ', '/']).any(of_a_dead_test) && command.contains("doorward-") {
                let pid = pid.parse().map(Pid::from_raw);
                let _ = pid.map(|pid| kill(pid, Signal::SIGKILL));
            }
        }
        for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().filter_map(Result::ok) {
            if entry.file_name().to_str().is_some_and(of_a_dead_test) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    });
}

/// `dwt`, the pid of a process that is gone, and what this run tells apart by.
fn of_a_dead_test(name: &str) -> bool {
    let pid: String =
        name.strip_prefix(PREFIX).unwrap_or_default().chars().take_while(char::is_ascii_digit).collect();
    !pid.is_empty() && !Path::new("/proc").join(pid).exists()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_whole() {
        for (text, found) in [
            ("guard --service dwt1n3 --worker w", true),
            ("guard --service dwt1n3", true),
            ("guard --service dwt1n31 --worker w", false),
            ("guard --service dwt1n31 --worker dwt1n3 ", true),
            ("/tmp/dwt1n3/run/x", true),
        ] {
            assert_eq!(has_whole(text, "dwt1n3"), found, "{text}");
        }
    }
}
