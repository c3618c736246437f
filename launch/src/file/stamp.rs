//! Seeing that a file is not the one that was read.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Of which file, and of when, something is: it changes whenever the file is written, replaced, or made
/// somebody else's (ctime; see inode(7)). To be taken before the file is read: what changes in between is seen at
/// the next look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// In seconds and nanoseconds.
    changed: (i64, i64),
}

impl Stamp {
    /// Of the file that is there, or the link; None: it cannot be looked at.
    pub fn at(path: &Path) -> Option<Self> {
        path.symlink_metadata().ok().as_ref().map(Self::of)
    }

    /// Of what was looked at already.
    pub fn of(file: &Metadata) -> Self {
        let changed = (file.ctime(), file.ctime_nsec());
        Self { device: file.dev(), inode: file.ino(), size: file.size(), changed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_another_after_any_change_and_the_same_without_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        assert_eq!(Stamp::at(&file), None);
        std::fs::write(&file, "one").expect("our file");
        std::os::unix::fs::symlink(&file, &link).expect("our link");
        let (first, of_link) = (Stamp::at(&file), Stamp::at(&link));
        assert!(first.is_some() && of_link.is_some() && first != of_link);
        assert_eq!(Stamp::at(&file), first);
        let opened = std::fs::File::open(&file).expect("our file").metadata().expect("its own");
        assert_eq!(Some(Stamp::of(&opened)), first);
        std::fs::write(&file, "longer").expect("our file");
        let second = Stamp::at(&file);
        assert_ne!(second, first);
        assert_eq!(Stamp::at(&link), of_link, "a link stays what it is");
        std::fs::rename(&file, directory.path().join("other")).expect("our file");
        std::fs::write(&file, "longer").expect("our file");
        assert_ne!(Stamp::at(&file), second);
    }
}
