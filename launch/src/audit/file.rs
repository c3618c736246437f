//! The file of the records: appended to, whole lines only.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::file::{FileError, open_audit};

/// Where records go; a test has another.
pub(super) trait Out: Send {
    /// Writes one line, or nothing of it.
    fn append(&mut self, line: &[u8]) -> io::Result<()>;
    /// From here on the file that has the name now.
    fn reopen(&mut self) -> Result<(), FileError>;
}

/// A file.
pub(super) struct Lines {
    path: PathBuf,
    file: File,
    /// The file ends in a part of a line.
    torn: bool,
}

impl Lines {
    pub(super) fn open(path: &Path) -> Result<Lines, FileError> {
        let file = open_audit(path)?;
        // A kill or a full disk in an earlier run may have left a part of a line: it stays, as a line of
        // its own.
        let torn = match file.metadata().map(|found| found.len()) {
            Ok(length @ 1..) => {
                let mut last = [0];
                file.read_exact_at(&mut last, length - 1).is_ok() && last != *b"\n"
            }
            _ => false,
        };
        Ok(Lines { path: path.to_owned(), file, torn })
    }
}

impl Out for Lines {
    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let whole;
        let bytes = if self.torn {
            whole = [b"\n", line].concat();
            &whole
        } else {
            line
        };
        // One write, so that whoever reads along sees whole lines.
        let written = loop {
            match self.file.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        if written == bytes.len() {
            self.torn = false;
            return Ok(());
        }
        // The disk had room for a part: taken back, or the next line would begin in this one.
        let undone = self.file.metadata().and_then(|found| {
            let before = found.len().saturating_sub(written as u64);
            self.file.set_len(before)
        });
        if undone.is_err() && written > 0 {
            self.torn = true;
        }
        Err(io::Error::new(io::ErrorKind::StorageFull, "there was room for a part of the line only"))
    }

    fn reopen(&mut self) -> Result<(), FileError> {
        *self = Lines::open(&self.path)?;
        Ok(())
    }
}
