//! FreeBSD: procctl(2) reaper.

use std::io;

use rustix::process::{Pid, PidInfoFlags, get_reaper_pids, set_reaper_status};

pub(super) fn become_reaper() -> rustix::io::Result<()> {
    set_reaper_status(true)
}

/// The direct children.
pub(super) fn children() -> io::Result<Vec<Pid>> {
    let descendants = get_reaper_pids(None)?;
    Ok(descendants
        .into_iter()
        .filter(|process| process.flags.contains(PidInfoFlags::CHILD))
        .map(|process| process.pid)
        .collect())
}
