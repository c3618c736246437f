//! What processes have used: time on a processor, and memory.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

/// The unit of times in proc(5): 10 ms wherever Linux runs, as its interface to programs has it.
const TICK: Duration = Duration::from_millis(10);

/// The time on a processor of all threads of these processes so far (proc(5), schedstat), and of their children
/// that have ended, and of theirs.
pub(crate) fn used(pids: &[u32]) -> Duration {
    let of_thread = |path: PathBuf| {
        // A thread that has ended meanwhile takes its time along: there are none that come and go here.
        let text = fs::read_to_string(path.join("schedstat")).unwrap_or_default();
        text.split(' ').next().and_then(|first| first.parse::<u64>().ok()).unwrap_or_default()
    };
    let of_process = |pid: &u32| {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        Duration::from_nanos(tasks.map(|task| of_thread(task.path())).sum()) + of_ended_children(*pid)
    };
    pids.iter().map(of_process).sum()
}

/// What those used that this process has waited for.
pub(crate) fn of_ended_children(pid: u32) -> Duration {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name, in brackets, may have anything in it; what follows begins with the third field.
    let after = text.rsplit_once(')').map_or("", |(_, after)| after);
    let ticks = after.split_whitespace().skip(13).take(2).filter_map(|field| field.parse::<u32>().ok());
    TICK * ticks.sum::<u32>()
}

/// Waits until these processes have no children: what lives has not been counted. Not for ever.
pub(crate) async fn childless(pids: &[u32]) {
    let childless = |pid: &u32| {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let mut children = tasks.map(|task| fs::read_to_string(task.path().join("children")));
        children.all(|children| children.unwrap_or_default().trim().is_empty())
    };
    let began = Instant::now();
    while !pids.iter().all(childless) && began.elapsed() < Duration::from_secs(2) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// What a process has in memory, in bytes.
pub(crate) fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or_default() * 1024
}
