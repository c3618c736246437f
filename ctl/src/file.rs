//! Files of others that are read: nobody who can put something in their place holds up whoever reads.

use std::{fs::File, io::Read as _, path::Path};

use rustix::fs::{FileType, Mode, OFlags, fstat, open as open_at};
use zeroize::Zeroizing;

/// Opens a regular file, with `more` flags.
///
/// # Errors
/// Why not, as a sentence.
pub(crate) fn open(path: &Path, more: OFlags) -> Result<File, String> {
    // Not blocking: the name might be a FIFO's.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | more;
    let file = open_at(path, flags, Mode::empty()).map_err(|error| error.to_string())?;
    let stat = fstat(&file).map_err(|error| error.to_string())?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err("it is no regular file".to_owned());
    }
    Ok(file.into())
}

/// Reads all of it, which may be a secret.
///
/// # Errors
/// Why not, as a sentence; so if there are more bytes than `most`.
pub(crate) fn contents(file: File, most: usize) -> Result<Zeroizing<Vec<u8>>, String> {
    // Reserved once: growing would leave copies of a secret behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(most + 1));
    file.take(most as u64 + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() > most {
        return Err(format!("it is longer than {} KiB", most / 1024));
    }
    Ok(bytes)
}
