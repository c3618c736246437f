//! What processes have used: time on a processor, and memory.

use std::{fs, time::Duration};

/// The time on a processor of all threads of these processes so far (proc(5), schedstat).
pub(crate) fn used(pids: &[u32]) -> Duration {
    let of_thread = |path: std::path::PathBuf| {
        // A thread that has ended meanwhile takes its time along: there are none that come and go here.
        let text = fs::read_to_string(path.join("schedstat")).unwrap_or_default();
        text.split(' ').next().and_then(|first| first.parse::<u64>().ok()).unwrap_or_default()
    };
    let of_process = |pid: &u32| -> u64 {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        tasks.map(|task| of_thread(task.path())).sum()
    };
    Duration::from_nanos(pids.iter().map(of_process).sum())
}

/// What a process has in memory, in bytes.
pub(crate) fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or_default() * 1024
}
