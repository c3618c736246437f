//! Linux: child subreaper, and children from /proc.

use std::fs;
use std::io;

use rustix::process::{Pid, getpid, set_child_subreaper};

pub(super) fn become_reaper() -> rustix::io::Result<()> {
    // Any pid means "on".
    set_child_subreaper(Some(getpid()))
}

/// The direct children. This process has one thread, so its own list is the whole list.
pub(super) fn children() -> io::Result<Vec<Pid>> {
    let pid = getpid();
    match fs::read_to_string(format!("/proc/self/task/{pid}/children")) {
        Ok(list) => Ok(list.split_ascii_whitespace().filter_map(parse_pid).collect()),
        // Kernels without CONFIG_PROC_CHILDREN have no such file.
        Err(error) if error.kind() == io::ErrorKind::NotFound => children_by_parent(pid),
        Err(error) => Err(error),
    }
}

/// The same from every process's entry: slower, and needs nothing but /proc.
fn children_by_parent(parent: Pid) -> io::Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(parse_pid) else {
            continue;
        };
        // It may be gone by now.
        let Ok(status) = fs::read(format!("/proc/{pid}/stat")) else {
            continue;
        };
        if parent_in_stat(&status) == Some(parent) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// The parent in `PID (NAME) STATE PARENT ...`. The name is the process's choice, parentheses,
/// blanks and all: what counts is behind the last parenthesis.
fn parent_in_stat(line: &[u8]) -> Option<Pid> {
    let name_end = line.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(line.get(name_end + 1..)?).ok()?;
    rest.split_ascii_whitespace().nth(1).and_then(parse_pid)
}

fn parse_pid(text: &str) -> Option<Pid> {
    text.parse().ok().filter(|&pid| pid > 0).and_then(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_forge_its_parent() {
        let pid = Pid::from_raw(42);
        assert_eq!(parent_in_stat(b"7 (sh) S 42 7 7 0"), pid);
        assert_eq!(parent_in_stat(b"7 (x) S 1 (y) S 42 7 7 0"), pid);
        assert_eq!(parent_in_stat(b"7 (\xff) R 42 7 7 0"), pid);
        for line in [&b""[..], b"7", b"7 (sh", b"7 (sh)", b"7 (sh) S", b"7 (sh) S -42 1", b"7 (sh) S 0 1"] {
            assert_eq!(parent_in_stat(line), None);
        }
    }

    #[test]
    fn both_ways_to_list_children_find_a_child() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().expect("sleep starts");
        let pid = Pid::from_child(&child);
        let by_parent = children_by_parent(getpid()).expect("/proc is there");
        child.kill().expect("our own child");
        child.wait().expect("our own child");
        assert!(by_parent.contains(&pid));
    }
}
