//! The records of a time, read back: for `rpc/logs`.
//!
//! A reader sees whole lines of the file that is written now and of the one that was rotated away last, in the
//! order of time, each once, whatever is renamed or written meanwhile. The work has a bound whatever is asked.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use serde::Deserialize;

use super::record::LINE_MAX;
use crate::file::{FileError, open_records};
use crate::log::time;

/// The most that is looked at, of both files together; the newest counts.
pub(super) const LOOKED_AT: u64 = 64 << 20;
/// What is read at once.
const BLOCK: usize = 256 << 10;
/// The most records and the most bytes that one question brings. It is a little more than a client is sent, so
/// that whoever merges several answers always has the next record of each.
pub const RECORDS_MAX: usize = 10_000;
/// See above.
pub const BYTES_MAX: usize = (1 << 20) + 2 * LINE_MAX;
/// 9999-12-31T23:59:59.999Z: what has four digits for the year.
const LAST: u64 = 253_402_300_799_999;

/// Which records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// From this moment on, in milliseconds of UTC.
    pub from: u64,
    /// Until before this one.
    pub until: u64,
    /// So many of those at `from` are known already.
    pub skip: usize,
    /// At most so many, the oldest.
    pub most: usize,
    /// Whose.
    pub whose: Whose,
}

/// Whose records somebody may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// Everybody's, and those about nobody.
    All,
    /// Those about this user. A record with another uid is about somebody who had the name before.
    One {
        /// The name.
        user: String,
        /// The uid of a local user.
        uid: Option<u32>,
    },
}

/// What there is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Lines without their ends, the oldest first.
    pub lines: Vec<String>,
    /// There are more in that time.
    pub more: bool,
    /// Files were too long to be looked at from their beginning: older records may be missing.
    pub unread: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// Others read at this moment.
    #[error("others read the audit records now")]
    Busy,
    /// It took too long.
    #[error("reading the audit records took too long")]
    Late,
    /// The file is none that may be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The system refused.
    #[error("the audit records cannot be read")]
    Io(#[from] io::Error),
    /// A defect.
    #[error("reading the audit records broke off")]
    Broken,
}

/// Where a record stands among all: by its time, then by the run of the service and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Milliseconds of UTC.
    pub time: u64,
    run: u64,
    number: u64,
}

#[derive(Deserialize)]
struct Fields<'a> {
    time: &'a str,
    id: &'a str,
    #[serde(borrow)]
    user: Option<std::borrow::Cow<'a, str>>,
    uid: Option<u32>,
    service: Option<&'a str>,
}

fn fields(line: &str) -> Option<(Moment, Fields<'_>)> {
    let fields: Fields<'_> = serde_json::from_str(line).ok()?;
    let (run, number) = fields.id.split_once('-')?;
    let run = u64::from_str_radix(run, 16).ok()?;
    let moment = Moment { time: time::parse(fields.time)?, run, number: number.parse().ok()? };
    Some((moment, fields))
}

impl Moment {
    /// When a line says that this service wrote it; None: it is no whole record of its.
    pub fn of(line: &str, service: &str) -> Option<Moment> {
        let whole = line.starts_with('{').then(|| fields(line)).flatten();
        whole.filter(|(_, fields)| fields.service == Some(service)).map(|(moment, _)| moment)
    }
}

impl Whose {
    fn includes(&self, fields: &Fields<'_>) -> bool {
        match self {
            Whose::All => true,
            Whose::One { user, uid } => {
                let other = matches!((fields.uid, uid), (Some(of), Some(uid)) if of != *uid);
                fields.user.as_deref() == Some(user) && !other
            }
        }
    }
}

/// Gathers the oldest of what is wanted, however much there is.
struct Gathering<'a> {
    wanted: &'a Wanted,
    most: usize,
    from: String,
    until: String,
    lines: BTreeMap<Moment, String>,
    bytes: usize,
    found: Found,
}

impl<'a> Gathering<'a> {
    fn new(wanted: &'a Wanted) -> Self {
        let text = |millis: u64| {
            let mut text = String::new();
            // A String takes everything.
            let _ = time::write(&mut text, SystemTime::UNIX_EPOCH + Duration::from_millis(millis.min(LAST)));
            text
        };
        let most = wanted.most.min(RECORDS_MAX).saturating_add(wanted.skip.min(RECORDS_MAX));
        let (from, until) = (text(wanted.from), text(wanted.until));
        Self { wanted, most, from, until, lines: BTreeMap::new(), bytes: 0, found: Found::default() }
    }

    /// Every record of ours begins with its time, which sorts as text does.
    fn in_time(&self, line: &[u8]) -> bool {
        line.strip_prefix(b"{\"time\":\"")
            .and_then(|rest| rest.get(..self.from.len()))
            .is_some_and(|time| time >= self.from.as_bytes() && time < self.until.as_bytes())
    }

    fn line(&mut self, line: &[u8]) {
        if line.len() >= LINE_MAX || !self.in_time(line) {
            return;
        }
        let Ok(line) = std::str::from_utf8(line) else { return };
        let Some((moment, fields)) = fields(line) else { return };
        if !self.wanted.whose.includes(&fields) {
            return;
        }
        // A file that is copied and emptied in place holds for a moment what its copy holds, too.
        if self.lines.insert(moment, line.to_owned()).is_none() {
            self.bytes += line.len();
        }
        // Of those at `from` that are known already so many more fit.
        while self.lines.len() > self.most + 1 || self.bytes > 2 * BYTES_MAX {
            let Some((_, last)) = self.lines.pop_last() else { return };
            self.bytes -= last.len();
            self.found.more = true;
        }
    }

    fn end(mut self) -> Found {
        let known = |moment: &Moment| moment.time == self.wanted.from;
        let mut skip = self.wanted.skip;
        let mut bytes = 0;
        for (moment, line) in std::mem::take(&mut self.lines) {
            if skip > 0 && known(&moment) {
                skip -= 1;
                continue;
            }
            bytes += line.len();
            if self.found.lines.len() >= self.wanted.most.min(RECORDS_MAX) || bytes > BYTES_MAX {
                self.found.more = true;
                break;
            }
            self.found.lines.push(line);
        }
        self.found
    }
}

/// Reads what is wanted of the file of this name and of the one that was rotated away last, `NAME.1`. Blocks.
///
/// # Errors
/// [`Unread`] says why not.
pub(super) fn read(path: &Path, wanted: &Wanted, until: Instant) -> Result<Found, Unread> {
    let now = open_records(path)?;
    let mut rotated = path.as_os_str().to_owned();
    rotated.push(".1");
    // What is beside it is somebody's else to name: if it is no file of ours it is as if it were not there.
    let before = open_records(Path::new(&rotated)).ok().flatten();
    between(now, before, wanted, until, LOOKED_AT)
}

/// Each file was opened once: what is renamed now stays what it was.
pub(super) fn between(
    now: Option<File>,
    before: Option<File>,
    wanted: &Wanted,
    until: Instant,
    mut left: u64,
) -> Result<Found, Unread> {
    let mut gathering = Gathering::new(wanted);
    let mut same = None;
    for file in [now, before].into_iter().flatten() {
        let stat = file.metadata()?;
        // It was renamed between the two looks.
        if same.replace((stat.dev(), stat.ino())) == Some((stat.dev(), stat.ino())) {
            break;
        }
        let start = stat.len().saturating_sub(left);
        left = left.saturating_sub(stat.len());
        let later = whole_lines(&file, start, stat.len(), until, &mut gathering)?;
        if start > 0 {
            gathering.found.unread = later;
            break;
        }
    }
    Ok(gathering.end())
}

/// Goes through the lines from `start` on; whether the first whole one is of the time that is asked for or later,
/// so that there may be others before it.
fn whole_lines(
    file: &File,
    start: u64,
    end: u64,
    until: Instant,
    gathering: &mut Gathering<'_>,
) -> Result<bool, Unread> {
    let mut block = vec![0; BLOCK];
    let mut rest: Vec<u8> = Vec::new();
    // A start in the middle is in the middle of a line.
    let (mut at, mut whole, mut first) = (start, start == 0, true);
    let mut later = start > 0;
    while at < end {
        if Instant::now() >= until {
            return Err(Unread::Late);
        }
        let room = usize::try_from(end - at).unwrap_or(BLOCK).min(BLOCK);
        let Some(space) = block.get_mut(..room) else { break };
        let read = match file.read_at(space, at) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        at += read as u64;
        for part in space.get(..read).unwrap_or_default().split_inclusive(|byte| *byte == b'\n') {
            let Some(part) = part.strip_suffix(b"\n") else {
                // What is longer than any line is none, and is not kept.
                if rest.len() <= LINE_MAX {
                    rest.extend_from_slice(part.get(..part.len().min(LINE_MAX + 1)).unwrap_or_default());
                }
                continue;
            };
            let line = if rest.is_empty() {
                part
            } else {
                rest.extend_from_slice(part.get(..part.len().min(LINE_MAX + 1)).unwrap_or_default());
                &rest
            };
            if whole {
                if std::mem::take(&mut first) {
                    let time = line.strip_prefix(b"{\"time\":\"").unwrap_or_default();
                    later = time >= gathering.from.as_bytes();
                }
                gathering.line(line);
            }
            whole = true;
            rest.clear();
        }
    }
    Ok(later)
}
