//! SQLite's write-ahead log, read from outside: what has been committed, to the byte, at this moment.
//!
//! <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const HEADER: u64 = 32;
const FRAME_HEADER: u64 = 24;

/// A point in a log: what is committed later is behind it.
#[derive(Debug, Clone)]
pub struct Wal {
    path: PathBuf,
    salt: [u8; 8],
    end: u64,
}

impl Wal {
    /// The end of the log of this database. One that is not there yet is empty.
    pub fn of(database: &Path) -> Self {
        let mut path = database.as_os_str().to_owned();
        path.push("-wal");
        let mut wal = Self { path: path.into(), salt: [0; 8], end: HEADER };
        let frames = wal.frames();
        wal.end = frames.last().map_or(HEADER, |frame| frame.end);
        wal.salt = wal.now().map_or([0; 8], |(_, _, salt)| salt);
        wal
    }

    /// Whether a transaction was committed behind this point.
    pub fn grew(&self) -> bool {
        self.frames().iter().any(|frame| frame.commits)
    }

    /// Whether a page that was committed behind this point has these bytes.
    pub fn has(&self, bytes: &[u8]) -> bool {
        let frames = self.frames();
        let Some(last) = frames.iter().rposition(|frame| frame.commits) else { return false };
        frames[..=last].iter().any(|frame| contains(&frame.page, bytes))
    }

    /// Transactions that were committed behind this point; None: the log was begun anew since, so nobody can tell.
    pub fn commits(&self) -> Option<usize> {
        let same = self.now().is_some_and(|(_, _, salt)| salt == self.salt);
        same.then(|| self.frames().iter().filter(|frame| frame.commits).count())
    }

    fn now(&self) -> Option<(File, u64, [u8; 8])> {
        let file = File::open(&self.path).ok()?;
        let mut header = [0; 32];
        file.read_exact_at(&mut header, 0).ok()?;
        let page = u32::from_be_bytes(header[8..12].try_into().expect("four bytes"));
        Some((file, page.into(), header[16..24].try_into().expect("eight bytes")))
    }

    fn frames(&self) -> Vec<Frame> {
        let Some((file, page, salt)) = self.now() else { return Vec::new() };
        // Written from its beginning again, everything in it is new.
        let mut at = if salt == self.salt { self.end } else { HEADER };
        let mut frames = Vec::new();
        let mut frame = vec![0; usize::try_from(FRAME_HEADER + page).expect("a page fits")];
        // What is left of an older round has another salt.
        while file.read_exact_at(&mut frame, at).is_ok() && frame[8..16] == salt {
            at += FRAME_HEADER + page;
            frames.push(Frame { commits: frame[4..8] != [0; 4], page: frame[24..].to_vec(), end: at });
        }
        frames
    }
}

struct Frame {
    commits: bool,
    page: Vec<u8>,
    end: u64,
}

/// Whether a database has these bytes, be it in its log (committed) or in the file itself.
pub fn database_has(database: &Path, bytes: &[u8]) -> bool {
    let mut from_the_start = Wal::of(database);
    from_the_start.end = HEADER;
    from_the_start.has(bytes) || fs::read(database).is_ok_and(|file| contains(&file, bytes))
}

fn contains(text: &[u8], bytes: &[u8]) -> bool {
    text.windows(bytes.len()).any(|window| window == bytes)
}
