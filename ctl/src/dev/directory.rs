//! A directory that somebody named: the way to it, and whether it is ours to use.
//!
//! A run opens its directory to others and removes what is below it. Somebody else may have put a link
//! where the name leads, and a name may be a mistake: so nothing is changed before the directory is known
//! to be empty or from an earlier run.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, Metadata, Permissions},
    io::{self, ErrorKind},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{CWD, Dir, FlockOperation, Mode, OFlags, flock, openat},
    io::Errno,
    process::geteuid,
};

use crate::{
    dev::{cleanup::cannot, lock},
    error::Error,
};

/// Marks a directory as one of ours, and is locked while a run is in it.
const MARK: &str = ".doorward-dev";
/// As many links as Linux follows in one name.
const LINKS_MAX: u32 = 40;

/// The name without links of a directory that is there or can be made. Only root and we can put
/// something else in its place.
pub(super) fn resolve(asked: &Path) -> Result<PathBuf, Error> {
    let me = geteuid().as_raw();
    let absolute =
        std::path::absolute(asked).map_err(|error| Error::Usage(format!("{}: {error}", asked.display())))?;
    let mut path = PathBuf::from("/");
    check_on_the_way(&path, &look_at(&path)?, me)?;
    let mut ahead = Vec::new();
    push(&mut ahead, &absolute);
    let mut links = 0;
    while let Some(name) = ahead.pop() {
        if name == ".." {
            path.pop();
            continue;
        }
        let last = ahead.is_empty();
        let next = path.join(name);
        let metadata = match fs::symlink_metadata(&next) {
            Err(error) if last && error.kind() == ErrorKind::NotFound => return Ok(next),
            metadata => metadata.map_err(|error| cannot("look at", &next, &error))?,
        };
        if metadata.is_symlink() {
            links += 1;
            if last || links > LINKS_MAX || !trusted(metadata.uid(), me) {
                return Err(Error::Failed(format!(
                    "{} is a link: name the directory that is meant",
                    next.display()
                )));
            }
            let target = fs::read_link(&next).map_err(|error| cannot("read", &next, &error))?;
            if target.is_absolute() {
                path = PathBuf::from("/");
            }
            push(&mut ahead, &target);
            continue;
        }
        if !last {
            check_on_the_way(&next, &metadata, me)?;
        }
        path = next;
    }
    Ok(path)
}

/// Puts the steps of a name before those that are ahead.
fn push(ahead: &mut Vec<OsString>, name: &Path) {
    ahead.extend(name.components().rev().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    }));
}

fn look_at(path: &Path) -> Result<Metadata, Error> {
    fs::symlink_metadata(path).map_err(|error| cannot("look at", path, &error))
}

fn trusted(owner: u32, me: u32) -> bool {
    owner == 0 || owner == me
}

/// A directory in which nobody else can change where a name leads to.
fn check_on_the_way(path: &Path, metadata: &Metadata, me: u32) -> Result<(), Error> {
    // Some systems give users a group of their own and let it write to their directories. Not root.
    let others = if me == 0 { 0o022 } else { 0o002 };
    let shared = metadata.mode() & others != 0;
    // In /tmp and its like only the owner of a name can change it.
    let sticky = metadata.mode() & 0o1000 != 0;
    if metadata.is_dir() && trusted(metadata.uid(), me) && (!shared || sticky) {
        return Ok(());
    }
    Err(Error::Failed(format!(
        "{} must be a directory of root{} in which others cannot put something else in place of what is there",
        path.display(),
        if me == 0 { "" } else { " or of yours" },
    )))
}

/// Takes the directory for a run, which has it until the file is closed, and sets its mode.
pub(super) fn claim(path: &Path, mode: u32) -> Result<File, Error> {
    let me = geteuid().as_raw();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = openat(CWD, path, flags, Mode::empty());
    let directory = File::from(directory.map_err(|error| cannot("open", path, &error.into()))?);
    let metadata = directory.metadata().map_err(|error| cannot("look at", path, &error))?;
    if metadata.uid() != me || metadata.mode() & 0o022 != 0 {
        return Err(Error::Failed(format!(
            "{} must be a directory of uid {me} that others cannot write to",
            path.display()
        )));
    }
    let lock = mark(&directory, path)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            return Err(Error::Failed(format!("another `doorward dev` is running in {}", path.display())));
        }
        Err(error) => return Err(cannot("lock", path, &error.into())),
    }
    directory
        .set_permissions(Permissions::from_mode(mode))
        .map_err(|error| cannot("set the mode of", path, &error))?;
    Ok(lock)
}

/// The mark of an earlier run, or a new one in an empty directory.
fn mark(directory: &File, path: &Path) -> Result<File, Error> {
    let name = Path::new(MARK);
    let failed = |error: io::Error| cannot("use", &path.join(MARK), &error);
    // Another run may come to the same empty directory: then its mark is found at the next look.
    for _ in 0..3 {
        match lock::open(directory, name, OFlags::empty()) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            mark => return mark.map_err(failed),
        }
        let names = names(directory).map_err(|error| cannot("read", path, &error.into()))?;
        if names.iter().any(|name| name == MARK) {
            continue;
        }
        if !names.is_empty() {
            return Err(Error::Failed(format!(
                "{} is neither empty nor from an earlier `doorward dev`, which leaves a file {MARK}: name \
                 another --dir",
                path.display()
            )));
        }
        match lock::open(directory, name, OFlags::CREATE | OFlags::EXCL) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            mark => return mark.map_err(failed),
        }
    }
    Err(failed(io::Error::other("it comes and goes")))
}

/// Up to a few of the names in a directory: enough to know that it is not empty.
fn names(directory: &File) -> rustix::io::Result<Vec<OsString>> {
    use std::os::unix::ffi::OsStrExt;
    Dir::read_from(directory)?
        .map(|entry| entry.map(|entry| OsStr::from_bytes(entry.file_name().to_bytes()).to_owned()))
        .filter(|name| !matches!(name, Ok(name) if name == "." || name == ".."))
        .take(8)
        .collect()
}

#[cfg(test)]
mod tests;
