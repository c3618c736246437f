//! Names that a file or a socket has until it is whole, and what a kill leaves of them.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

/// A name that no other file of ours has: this process, and a count within it. What processes that are gone
/// left of such names is removed: whoever was killed between making something and naming it could not.
pub(crate) fn temporary_name(directory: impl AsFd, name: &OsStr) -> OsString {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    // One that stays does no harm but to stay.
    let _ = remove_leftovers(directory, name);
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{:x}.{:x}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
    temporary
}

fn remove_leftovers(directory: impl AsFd, name: &OsStr) -> rustix::io::Result<()> {
    // Of its own: reading moves along, and the caller's descriptor may be for its path alone.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let listed = openat(&directory, ".", flags, Mode::empty())?;
    for entry in Dir::new(listed)? {
        let entry = entry?;
        if maker(entry.file_name().to_bytes(), name.as_bytes()).is_some_and(is_gone) {
            unlinkat(&directory, entry.file_name(), AtFlags::empty())?;
        }
    }
    Ok(())
}

/// The process that made a temporary name for `name`.
fn maker(temporary: &[u8], name: &[u8]) -> Option<Pid> {
    let rest = temporary.strip_prefix(b".")?.strip_prefix(name)?.strip_prefix(b".")?;
    let (pid, count) = std::str::from_utf8(rest).ok()?.split_once('.')?;
    let hex = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
    if !hex(pid) || !hex(count) {
        return None;
    }
    Pid::from_raw(i32::from_str_radix(pid, 16).ok()?)
}

/// Whoever may not be asked about is there.
fn is_gone(pid: Pid) -> bool {
    test_kill_process(pid) == Err(Errno::SRCH)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs::File;

    use super::*;

    #[test]
    fn what_the_dead_left_is_removed_and_nothing_else() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut child = std::process::Command::new("true").spawn().expect("started");
        let dead = child.id();
        child.wait().expect("ended");
        let own = std::process::id();
        let kept = [
            format!(".x.sock.{own:x}.0"),
            ".x.sock.1.0".to_owned(),
            format!(".y.sock.{dead:x}.0"),
            format!("x.sock.{dead:x}.0"),
            format!(".x.sock.{dead:x}"),
            format!(".x.sock.{dead:x}."),
            format!(".x.sock.+{dead:x}.0"),
            format!(".x.sock.{dead:x}.0.0"),
            ".x.sock.fffffffff.0".to_owned(),
        ];
        let left = [format!(".x.sock.{dead:x}.0"), format!(".x.sock.{dead:x}.1f")];
        for name in kept.iter().chain(&left) {
            File::create(directory.path().join(name)).expect("made");
        }
        let opened = File::open(directory.path()).expect("opened");
        let name = temporary_name(&opened, OsStr::new("x.sock"));
        assert!(name.to_str().is_some_and(|name| name.starts_with(&format!(".x.sock.{own:x}."))));
        let there = std::fs::read_dir(directory.path()).expect("a directory");
        let there: BTreeSet<_> =
            there.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
        assert_eq!(there, kept.into());
    }
}
