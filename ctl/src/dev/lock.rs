//! Files to lock. A lock needs no more than an open file, so what others can read they can lock, for as
//! long as they like: these are closed to others.

use std::{
    fs::File,
    io,
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::Path,
};

use rustix::{
    fs::{Mode, OFlags, openat},
    process::geteuid,
};

/// Opens a lock file of ours. `make` has what `open` takes for a file that may be or must be a new one.
pub(super) fn open(directory: impl AsFd, name: &Path, make: OFlags) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | make;
    let file = File::from(openat(directory, name, flags, Mode::RUSR | Mode::WUSR)?);
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.uid() != geteuid().as_raw() || metadata.mode() & 0o077 != 0 {
        return Err(io::Error::other("it is no file of ours that is closed to others"));
    }
    Ok(file)
}
