//! What a careless parent left open is closed: a file that root had open must not reach a PAM module.

use std::io;
use std::os::fd::RawFd;

/// Closes all but standard input, output and error. Before anything else is opened.
pub(crate) fn close() -> io::Result<()> {
    for descriptor in open_ones()? {
        if descriptor > 2 {
            // EBADF for the one that read the list, and on FreeBSD for what is not open.
            let _ = nix::unistd::close(descriptor);
        }
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn open_ones() -> io::Result<Vec<RawFd>> {
    let numbers = std::fs::read_dir("/proc/self/fd")?
        .map(|entry| Ok(entry?.file_name().to_str().and_then(|name| name.parse().ok()).unwrap_or(-1)));
    numbers.collect()
}

/// Every number that there could be: /dev/fd shows all only where fdescfs is mounted.
#[cfg(target_os = "freebsd")]
fn open_ones() -> io::Result<Vec<RawFd>> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    Ok((3..RawFd::try_from(limit.unwrap_or(65_536).min(65_536)).unwrap_or(65_536)).collect())
}
