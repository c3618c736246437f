//! Which uids root has given to one user, by /etc/subuid (subuid(5)).

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The most that is read of the file, in bytes; what is beyond is not known.
const MOST: u64 = 1 << 20;
/// How long the file may have changed without being read again.
const LOOK: Duration = Duration::from_secs(1);

/// What the file said when it was last looked at.
#[derive(Debug)]
pub(super) struct Subordinates {
    file: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    looked: Option<Instant>,
    stamp: Option<Stamp>,
    ranges: Ranges,
}

/// Of which file, and of when, the ranges are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Subordinates {
    pub(super) fn of(file: &Path) -> Self {
        Self { file: file.to_owned(), known: Mutex::default() }
    }

    /// The uid that stands for all uids that were given together with this one; itself, if it was not given.
    pub(super) fn counted(&self, uid: u32, now: Instant) -> u32 {
        // A panic elsewhere leaves ranges of before or after, each whole.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.looked.is_none_or(|looked| now.saturating_duration_since(looked) >= LOOK) {
            known.looked = Some(now);
            match self.read(known.stamp) {
                Ok(None) => {}
                Ok(Some((stamp, ranges))) => (known.stamp, known.ranges) = (Some(stamp), ranges),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    (known.stamp, known.ranges) = (None, Ranges::default());
                }
                // What was known may still be so.
                Err(error) => {
                    tracing::debug!(file = %self.file.display(), %error, "subordinate uids are not known");
                }
            }
        }
        known.ranges.first_of(uid)
    }

    /// What the file says now; `None` if it is the one that was read.
    fn read(&self, known: Option<Stamp>) -> io::Result<Option<(Stamp, Ranges)>> {
        // A pipe in its place must not block.
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(&self.file)?;
        let data = file.metadata()?;
        if !data.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let changed = (data.ctime(), data.ctime_nsec());
        let stamp = Stamp { inode: data.ino(), size: data.size(), changed };
        if known == Some(stamp) {
            return Ok(None);
        }
        let mut text = Vec::new();
        file.take(MOST).read_to_end(&mut text)?;
        Ok(Some((stamp, Ranges::read(&String::from_utf8_lossy(&text)))))
    }
}

/// First and last of each, in order, none of them touching another's uids.
#[derive(Debug, Default, PartialEq, Eq)]
struct Ranges(Vec<(u32, u32)>);

impl Ranges {
    /// Lines of `owner:first:count`; what is none says nothing. Root's own are left out: root gives them to
    /// containers, which are nobody's in common.
    fn read(text: &str) -> Self {
        let mut found: Vec<(u32, u32)> = text.lines().filter_map(range).collect();
        found.sort_unstable();
        let mut ranges: Vec<(u32, u32)> = Vec::with_capacity(found.len());
        for (first, last) in found {
            match ranges.last_mut() {
                // Whoever has one of them has the other through it.
                Some(before) if first <= before.1 => before.1 = before.1.max(last),
                _ => ranges.push((first, last)),
            }
        }
        Self(ranges)
    }

    fn first_of(&self, uid: u32) -> u32 {
        let after = self.0.partition_point(|(first, _)| *first <= uid);
        match after.checked_sub(1).and_then(|at| self.0.get(at)) {
            Some((first, last)) if uid <= *last => *first,
            _ => uid,
        }
    }
}

fn range(line: &str) -> Option<(u32, u32)> {
    let mut fields = line.trim().split(':');
    let (owner, first, count) = (fields.next()?, fields.next()?, fields.next()?);
    let (first, count): (u32, u32) = (first.parse().ok()?, count.parse().ok()?);
    if owner.is_empty() || ["root", "0"].contains(&owner) || first == 0 || fields.next().is_some() {
        return None;
    }
    Some((first, first.checked_add(count.checked_sub(1)?)?))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_range_is_its_first_uid() {
        let ranges = Ranges::read(
            "alice:100000:65536\nbob:165536:65536\n1002:231072:1\n# a comment\n\nroot:1000000:1000000000\n0:5:9\n",
        );
        for (uid, counted) in [
            (0, 0),
            (6, 6),
            (99_999, 99_999),
            (100_000, 100_000),
            (165_535, 100_000),
            (165_536, 165_536),
            (231_071, 165_536),
            (231_072, 231_072),
            (231_073, 231_073),
            (1_000_001, 1_000_001),
            (u32::MAX, u32::MAX),
        ] {
            assert_eq!(ranges.first_of(uid), counted, "{uid}");
        }
    }

    #[test]
    fn ranges_that_overlap_are_one() {
        let ranges = Ranges::read("a:100:50\nb:300:1000\nc:120:100\na:301:1\n");
        assert_eq!(ranges.0, [(100, 219), (300, 1299)]);
    }

    #[test]
    fn what_is_no_range_says_nothing() {
        for line in [
            "alice",
            "alice:100000",
            "alice:100000:0",
            "alice:100000:-1",
            "alice:x:65536",
            "alice:100000:65536:9",
            "alice:4294967295:2",
            "alice:4294967296:1",
            "alice:0:65536",
            ":100000:65536",
            "alice: 100000:65536",
        ] {
            assert_eq!(Ranges::read(line), Ranges::default(), "{line}");
        }
        assert_eq!(Ranges::read("alice:4294967295:1").0, [(u32::MAX, u32::MAX)]);
    }

    #[test]
    fn a_change_is_seen_after_a_second_and_what_cannot_be_read_changes_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("subuid");
        let (subordinates, start) = (Subordinates::of(&file), Instant::now());
        assert_eq!(subordinates.counted(1005, start), 1005, "there is no file");
        fs::write(&file, "alice:1000:10\n").expect("our file");
        assert_eq!(subordinates.counted(1005, start + LOOK / 2), 1005);
        assert_eq!(subordinates.counted(1005, start + LOOK), 1000);
        // As useradd does.
        let new = directory.path().join("new");
        fs::write(&new, "alice:1004:10\n").expect("our file");
        fs::rename(&new, &file).expect("a rename in our directory");
        assert_eq!(subordinates.counted(1005, start + LOOK * 2), 1004);
        fs::remove_file(&file).expect("our file");
        fs::create_dir(&file).expect("our directory");
        assert_eq!(subordinates.counted(1005, start + LOOK * 3), 1004, "no file, and not gone either");
        fs::remove_dir(&file).expect("our directory");
        assert_eq!(subordinates.counted(1005, start + LOOK * 4), 1005);
    }
}
