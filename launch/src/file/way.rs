//! The way to a file through symbolic links, with nobody beside it who could turn it elsewhere.
//!
//! Certificates are replaced through links: certbot's `live/NAME/privkey.pem` is one to `archive/`. A
//! link is as good as the directory it stands in, so each is looked at: it must be root's or our own, and
//! others must not be able to put another in its place.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, open, openat, readlinkat, statat};

use super::{FileError, failed};
use crate::directory::{DirectoryError, mode_of};

/// Links on one way; the kernel's own bound.
const LINKS_MAX: usize = 40;

/// Where a way ends: a checked directory and a name in it that is no link.
pub(super) struct End {
    pub(super) directory: OwnedFd,
    pub(super) name: OsString,
}

/// One directory on the way.
struct Place {
    fd: OwnedFd,
    path: PathBuf,
    /// Others can add names to it, but not replace those of others (mode 1777).
    sticky: bool,
}

/// Walks to where the path leads.
pub(super) fn walk(path: &Path) -> Result<End, FileError> {
    let whole = std::path::absolute(path).map_err(failed(path, "cannot find the directory"))?;
    let mut steps: VecDeque<OsString> = names(&whole);
    let mut places = vec![root()?];
    let mut links = 0;
    while let Some(step) = steps.pop_front() {
        if step.as_bytes() == b".." {
            // Above the root is the root.
            if places.len() > 1 {
                places.pop();
            }
            continue;
        }
        let place = places.pop().ok_or_else(|| DirectoryError::NoName(path.to_owned()))?;
        let here = place.path.join(&step);
        let stat = match statat(&place.fd, &step, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(error) => return Err(failed(&here, "cannot open")(error)),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => {
                trusted_owner(&here, &stat)?;
                links += 1;
                if links > LINKS_MAX {
                    return Err(FileError::Symlink(path.to_owned()));
                }
                let target = readlinkat(&place.fd, &step, Vec::new())
                    .map_err(failed(&here, "cannot read the link"))?;
                let target = Path::new(OsStr::from_bytes(target.as_bytes()));
                let mut further = names(target);
                further.append(&mut steps);
                steps = further;
                if target.is_absolute() {
                    places = vec![root()?];
                } else {
                    places.push(place);
                }
            }
            FileType::Directory => {
                let next = enter(&place, &step, here)?;
                places.push(place);
                places.push(next);
            }
            // The file itself is looked at when it is open.
            _ if steps.is_empty() => {
                if place.sticky {
                    trusted_owner(&here, &stat)?;
                }
                return Ok(End { directory: place.fd, name: step });
            }
            _ => return Err(DirectoryError::NoName(here).into()),
        }
    }
    Err(FileError::NotRegular(path.to_owned()))
}

fn names(path: &Path) -> VecDeque<OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    names.collect()
}

/// PATH: a directory may be passed through by those who may not list it.
const PASS: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

fn root() -> Result<Place, FileError> {
    let path = PathBuf::from("/");
    let fd = open("/", PASS, Mode::empty()).map_err(failed(&path, "cannot open the directory"))?;
    look_at(fd, path)
}

fn enter(place: &Place, name: &OsStr, path: PathBuf) -> Result<Place, FileError> {
    let fd = openat(&place.fd, name, PASS | OFlags::NOFOLLOW, Mode::empty())
        .map_err(failed(&path, "cannot open the directory"))?;
    look_at(fd, path)
}

fn look_at(fd: OwnedFd, path: PathBuf) -> Result<Place, FileError> {
    let stat = fstat(&fd).map_err(failed(&path, "cannot examine the directory"))?;
    trusted_owner(&path, &stat)?;
    let mode = mode_of(&stat);
    let sticky = mode.contains(Mode::SVTX);
    if mode.intersects(Mode::WGRP | Mode::WOTH) && !sticky {
        return Err(DirectoryError::Writable { path }.into());
    }
    Ok(Place { fd, path, sticky })
}

fn trusted_owner(path: &Path, stat: &Stat) -> Result<(), FileError> {
    let own = rustix::process::geteuid().as_raw();
    if stat.st_uid == 0 || stat.st_uid == own {
        return Ok(());
    }
    Err(FileError::ForeignOwner { path: path.to_owned(), owner: stat.st_uid, expected: own })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};

    use super::super::{read_key, read_linked_key, read_linked_public};
    use super::*;

    /// As certbot has it: `live/x/key.pem` is a link to `../../archive/x/key1.pem`.
    fn certbot() -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a directory");
        for name in ["live/x", "archive/x"] {
            fs::create_dir_all(root.path().join(name)).expect("made");
        }
        let key = root.path().join("archive/x/key1.pem");
        fs::write(&key, "secret").expect("written");
        fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("set");
        symlink("../../archive/x/key1.pem", root.path().join("live/x/key.pem")).expect("a link");
        root
    }

    fn set(root: &tempfile::TempDir, name: &str, mode: u32) {
        fs::set_permissions(root.path().join(name), Permissions::from_mode(mode)).expect("set");
    }

    #[test]
    fn links_lead_to_the_file() {
        let root = certbot();
        let link = root.path().join("live/x/key.pem");
        assert_eq!(read_linked_key(&link).expect("read").as_slice(), b"secret");
        assert!(matches!(read_key(&link), Err(FileError::Symlink(_))), "only where they are expected");
        // Through a directory that is a link, an absolute link, and two in a row.
        symlink(root.path().join("live"), root.path().join("a")).expect("a link");
        symlink("a/x/key.pem", root.path().join("b")).expect("a link");
        assert_eq!(read_linked_key(&root.path().join("b")).expect("read").as_slice(), b"secret");
        assert_eq!(read_linked_public(&root.path().join("live/../a/./x/key.pem")).expect("read"), b"secret");
    }

    #[test]
    fn what_others_can_write_on_the_way_is_refused() {
        for (name, mode) in [
            ("live/x", 0o777),
            ("live/x", 0o775),
            ("live", 0o757),
            ("archive/x", 0o772),
            ("archive", 0o770),
            ("archive/x/key1.pem", 0o622),
            ("archive/x/key1.pem", 0o644),
        ] {
            let root = certbot();
            set(&root, name, mode);
            let error = read_linked_key(&root.path().join("live/x/key.pem")).expect_err(name);
            assert!(error.to_string().contains("chmod"), "{name} {mode:o}: {error}");
        }
    }

    #[test]
    fn strangers_have_no_part_of_the_way() {
        if !rustix::process::geteuid().is_root() {
            return crate::skip::needs_root();
        }
        for name in ["live", "live/x", "archive/x", "archive/x/key1.pem", "live/x/key.pem"] {
            let root = certbot();
            lchown(root.path().join(name), Some(41_001), None).expect("given away");
            let error = read_linked_key(&root.path().join("live/x/key.pem")).expect_err(name);
            assert!(matches!(error, FileError::ForeignOwner { owner: 41_001, .. }), "{name}: {error}");
        }
        // In a directory like /tmp everybody can plant a name, but not under root's or our own id.
        let root = certbot();
        set(&root, "archive/x", 0o1777);
        assert!(read_linked_key(&root.path().join("live/x/key.pem")).is_ok());
        chown(root.path().join("archive/x/key1.pem"), Some(41_001), None).expect("given away");
        assert!(read_linked_key(&root.path().join("live/x/key.pem")).is_err());
    }

    #[test]
    fn a_way_without_an_end_ends() {
        let root = tempfile::tempdir().expect("a directory");
        symlink("b", root.path().join("a")).expect("a link");
        symlink("a", root.path().join("b")).expect("a link");
        assert!(matches!(read_linked_public(&root.path().join("a")), Err(FileError::Symlink(_))));
        symlink("nowhere", root.path().join("c")).expect("a link");
        assert!(read_linked_public(&root.path().join("c")).expect_err("dangling").is_missing());
        assert!(matches!(read_linked_public(root.path()), Err(FileError::NotRegular(_))));
        fs::write(root.path().join("f"), "").expect("written");
        assert!(read_linked_public(&root.path().join("f/x")).is_err());
    }
}
