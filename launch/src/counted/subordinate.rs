//! Which uids root has given to one user, by /etc/subuid (subuid(5)).

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, TryLockError};
use std::time::{Duration, Instant};

use crate::Current;
use crate::file::Stamp;

/// The most that is read of the file, in bytes; what is beyond is not known.
const MOST: u64 = 1 << 20;
/// How long the file may have changed without being read again.
const LOOK: Duration = Duration::from_secs(1);

/// What the file said when it was last looked at.
#[derive(Debug)]
pub(super) struct Subordinates {
    file: PathBuf,
    /// Whoever looks. Nobody waits for a file that does not answer, but at the first look.
    looking: Mutex<Looking>,
    /// None before that is over.
    given: OnceLock<Current<Given>>,
}

#[derive(Debug, Default)]
struct Looking {
    last: Option<Instant>,
    stamp: Option<Stamp>,
    /// Whether it was told that the file cannot be read.
    told: bool,
}

impl Subordinates {
    pub(super) fn of(file: &Path) -> Self {
        Self { file: file.to_owned(), looking: Mutex::default(), given: OnceLock::new() }
    }

    pub(super) fn given(&self, now: Instant) -> Arc<Given> {
        let looking = match self.looking.try_lock() {
            Ok(looking) => Some(looking),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        if let Some(looking) = looking {
            self.look(looking, now);
        } else if self.given.get().is_none() {
            // Somebody has just begun to look for the first time.
            drop(self.looking.lock());
        }
        self.given.get_or_init(|| Current::new(Given::default())).get()
    }

    fn look(&self, mut looking: MutexGuard<'_, Looking>, now: Instant) {
        if looking.last.is_some_and(|last| now.saturating_duration_since(last) < LOOK) {
            return;
        }
        looking.last = Some(now);
        match self.read(looking.stamp) {
            Ok(None) => {}
            Ok(Some((stamp, given))) => {
                *looking = Looking { stamp: Some(stamp), told: false, ..*looking };
                self.hold(given);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                *looking = Looking { stamp: None, told: false, ..*looking };
                self.hold(Given::default());
            }
            // What was known may still be so.
            Err(error) if !looking.told => {
                looking.told = true;
                tracing::warn!(file = %self.file.display(), %error, "subordinate uids are not known");
            }
            Err(_) => {}
        }
    }

    /// Only whoever looks calls this.
    fn hold(&self, given: Given) {
        match self.given.get() {
            Some(current) => current.set(given),
            // Nobody may see that there is something before it is what the file says.
            None => drop(self.given.set(Current::new(given))),
        }
    }

    /// What the file says now; `None` if it is the one that was read.
    fn read(&self, known: Option<Stamp>) -> io::Result<Option<(Stamp, Given)>> {
        // A pipe in its place must not block.
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(&self.file)?;
        let data = file.metadata()?;
        if !data.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let stamp = Stamp::of(&data);
        if known == Some(stamp) {
            return Ok(None);
        }
        let mut text = Vec::new();
        let length = file.take(MOST + 1).read_to_end(&mut text)?;
        if length as u64 > MOST {
            // A line that was cut would say something else.
            text.pop();
            let end = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
            text.truncate(end);
            tracing::warn!(file = %self.file.display(), most = MOST, "subordinate uids beyond this many bytes are not known");
        }
        Ok(Some((stamp, Given::read(&String::from_utf8_lossy(&text)))))
    }
}

/// The uids that were given away.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Given {
    /// First and last of each range that a user has, and as whom its uids are counted; in order, none overlapping
    /// another.
    ranges: Vec<(u32, u32, u32)>,
    /// The same of root, which gives them to containers that have nothing to do with each other.
    of_root: Vec<(u32, u32)>,
}

impl Given {
    /// Lines of `owner:first:count`; what is none says nothing.
    fn read(text: &str) -> Self {
        let mut of_root = Vec::new();
        let mut lines = Vec::new();
        for (owner, first, last) in text.lines().filter_map(range) {
            match owner {
                "root" | "0" => of_root.push((first, last)),
                owner => lines.push((first, last, owner)),
            }
        }
        of_root.sort_unstable();
        lines.sort_unstable();
        let mut owners = Owners::default();
        let mut merged: Vec<(u32, u32, usize)> = Vec::with_capacity(lines.len());
        for (first, last, owner) in lines {
            let owner = owners.number(owner);
            match merged.last_mut() {
                // Whoever has one of them has the other through it.
                Some((_, before, other)) if first <= *before => {
                    *before = last.max(*before);
                    owners.unite(owner, *other);
                }
                _ => merged.push((first, last, owner)),
            }
        }
        let mut lowest = HashMap::new();
        let counted = |(first, last, owner)| (first, last, *lowest.entry(owners.of(owner)).or_insert(first));
        Self { ranges: merged.into_iter().map(counted).collect(), of_root }
    }

    /// The uid that stands for all uids of its owner's; itself, if it was not given to a user.
    pub(super) fn counted(&self, uid: u32) -> u32 {
        match self.ranges.partition_point(|(first, ..)| *first <= uid).checked_sub(1) {
            Some(at) => match self.ranges.get(at) {
                Some((_, last, counted)) if uid <= *last => *counted,
                Some(_) | None => uid,
            },
            None => uid,
        }
    }

    /// Whether it was given to somebody, root included, who can be it.
    pub(super) fn has(&self, uid: u32) -> bool {
        let within = |first: u32, last: u32| (first..=last).contains(&uid);
        self.ranges.iter().any(|(first, last, _)| within(*first, *last))
            || self.of_root.iter().any(|(first, last)| within(*first, *last))
    }
}

/// Users by name, united where they share uids.
#[derive(Default)]
struct Owners<'a> {
    numbers: HashMap<&'a str, usize>,
    /// Each one's way to whom they are united under.
    above: Vec<usize>,
}

impl<'a> Owners<'a> {
    fn number(&mut self, name: &'a str) -> usize {
        let next = self.above.len();
        let number = *self.numbers.entry(name).or_insert(next);
        if number == next {
            self.above.push(next);
        }
        number
    }

    fn of(&self, mut owner: usize) -> usize {
        while let Some(above) = self.above.get(owner).filter(|above| **above != owner) {
            owner = *above;
        }
        owner
    }

    fn unite(&mut self, one: usize, other: usize) {
        let (one, other) = (self.of(one), self.of(other));
        if let Some(above) = self.above.get_mut(one) {
            *above = other;
        }
    }
}

fn range(line: &str) -> Option<(&str, u32, u32)> {
    let mut fields = line.trim().split(':');
    let (owner, first, count) = (fields.next()?, fields.next()?, fields.next()?);
    let (first, count): (u32, u32) = (first.parse().ok()?, count.parse().ok()?);
    if owner.is_empty() || first == 0 || fields.next().is_some() {
        return None;
    }
    Some((owner, first, first.checked_add(count.checked_sub(1)?)?))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn all_uids_of_a_user_are_the_first_and_roots_are_each_itself() {
        let given = Given::read(
            "alice:100000:65536\nbob:165536:65536\n1002:231072:1\nalice:300000:10\n# a comment\n\n\
             root:1000000:1000000000\n0:5:9\n",
        );
        for (uid, counted, has) in [
            (0, 0, false),
            (6, 6, true),
            (99_999, 99_999, false),
            (100_000, 100_000, true),
            (165_535, 100_000, true),
            (165_536, 165_536, true),
            (231_071, 165_536, true),
            (231_072, 231_072, true),
            (231_073, 231_073, false),
            (300_000, 100_000, true),
            (300_009, 100_000, true),
            (300_010, 300_010, false),
            (1_000_001, 1_000_001, true),
            (u32::MAX, u32::MAX, false),
        ] {
            assert_eq!((given.counted(uid), given.has(uid)), (counted, has), "{uid}");
        }
    }

    #[test]
    fn who_shares_uids_is_counted_together_with_all_that_either_has() {
        let given = Given::read("a:100:50\nb:300:1000\nc:120:100\na:301:1\nd:5000:1\nc:6000:1\n");
        assert_eq!(given.ranges, [(100, 219, 100), (300, 1299, 100), (5000, 5000, 5000), (6000, 6000, 100)]);
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
            assert_eq!(Given::read(line), Given::default(), "{line}");
        }
        assert_eq!(Given::read("alice:4294967295:1").ranges, [(u32::MAX, u32::MAX, u32::MAX)]);
    }

    #[test]
    fn a_change_is_seen_after_a_second_and_what_cannot_be_read_changes_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("subuid");
        let (subordinates, start) = (Subordinates::of(&file), Instant::now());
        let counted = |now| subordinates.given(now).counted(1005);
        assert_eq!(counted(start), 1005, "there is no file");
        fs::write(&file, "alice:1000:10\n").expect("our file");
        assert_eq!(counted(start + LOOK / 2), 1005);
        assert_eq!(counted(start + LOOK), 1000);
        // As useradd does.
        let new = directory.path().join("new");
        fs::write(&new, "alice:1004:10\n").expect("our file");
        fs::rename(&new, &file).expect("a rename in our directory");
        assert_eq!(counted(start + LOOK * 2), 1004);
        fs::remove_file(&file).expect("our file");
        fs::create_dir(&file).expect("our directory");
        assert_eq!(counted(start + LOOK * 3), 1004, "no file, and not gone either");
        fs::remove_dir(&file).expect("our directory");
        assert_eq!(counted(start + LOOK * 4), 1005);
    }

    #[test]
    fn at_the_first_look_nobody_takes_an_account_for_its_own_before_the_file_was_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("subuid");
        // So long that reading it takes a while.
        let filler = "#\n".repeat(MOST as usize / 2 - 100);
        fs::write(&file, format!("alice:1000:10\n{filler}")).expect("our file");
        for _ in 0..10 {
            let (subordinates, start) = (Subordinates::of(&file), Instant::now());
            let together = std::sync::Barrier::new(4);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        together.wait();
                        assert!(subordinates.given(start).has(1005));
                    });
                }
            });
        }
    }

    #[test]
    fn nobody_waits_for_who_looks_and_a_line_that_is_cut_says_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("subuid");
        let filler = format!("#{}\n", "x".repeat(MOST as usize - 30));
        fs::write(&file, format!("alice:1000:10\n{filler}bob:2000:65536\n")).expect("our file");
        let (subordinates, start) = (Subordinates::of(&file), Instant::now());
        assert_eq!(subordinates.given(start).counted(1005), 1000);
        assert!(!subordinates.given(start).has(2000), "beyond what is read");
        let _looking = subordinates.looking.lock().expect("no panic");
        assert_eq!(subordinates.given(start + LOOK * 9).counted(1005), 1000);
    }
}
