//! The service file: there, root's, nobody else can write it, and it says what it must say.
//!
//! PAM falls back to the service `other` when the file is missing, and, type by type, when the file
//! has no line of that type. Both would be a policy that nobody wrote for this program.

use std::fmt;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, openat};
use rustix::io::Errno;

/// Far more than any service file.
const FILE_MAX: u64 = 64 * 1024;

/// What the file has lines for, beside `auth` and `account`, which it must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stacks {
    /// Expired passwords can be changed.
    pub(crate) password: bool,
}

/// Why PAM is not started.
#[derive(Debug)]
pub(crate) struct Refused {
    path: String,
    why: Why,
}

#[derive(Debug)]
enum Why {
    Unreadable(io::Error),
    NotAFile,
    Owner(u32),
    OthersWrite,
    TooLong,
    NoLine(&'static str),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match &self.why {
            Why::Unreadable(error) if error.kind() == io::ErrorKind::NotFound => {
                write!(
                    f,
                    "{path}: there is no such file; put doorward's service file there, root's and mode 0644"
                )
            }
            Why::Unreadable(error) => write!(f, "{path}: {error}"),
            Why::NotAFile => write!(f, "{path}: neither a regular file nor a directory, as it should be"),
            Why::Owner(uid) => write!(f, "{path}: belongs to uid {uid}; chown root mends that"),
            Why::OthersWrite => write!(f, "{path}: group or others can write it; chmod go-w mends that"),
            Why::TooLong => write!(f, "{path}: longer than {FILE_MAX} bytes"),
            Why::NoLine(kind) => {
                write!(f, "{path}: no line of type {kind}, so PAM would take that of \"other\"; add one")
            }
        }
    }
}

/// Checks the file of this service, in the first directory that has one, as PAM looks for it.
pub(crate) fn check(service: &str) -> Result<Stacks, Refused> {
    let mut last = None;
    for directory in directories() {
        match check_in(&directory, service) {
            Err(Refused { why: Why::Unreadable(error), path }) if error.kind() == io::ErrorKind::NotFound => {
                last = Some(Refused { path, why: Why::Unreadable(error) });
            }
            decided => return decided,
        }
    }
    Err(last.unwrap_or_else(|| Refused {
        path: service.to_owned(),
        why: Why::Unreadable(io::ErrorKind::NotFound.into()),
    }))
}

#[cfg(all(not(feature = "pam-wrapper"), target_os = "linux"))]
fn directories() -> Vec<String> {
    vec!["/etc/pam.d".to_owned()]
}

#[cfg(all(not(feature = "pam-wrapper"), target_os = "freebsd"))]
fn directories() -> Vec<String> {
    vec!["/etc/pam.d".to_owned(), "/usr/local/etc/pam.d".to_owned()]
}

/// Test builds read the directory of the test, and so does libpam: through libpam-wrapper where that
/// is loaded, by a call of its own otherwise. The second needs no lock between processes: two that
/// load libpam-wrapper at the same moment may take each other's files.
#[cfg(feature = "pam-wrapper")]
fn directories() -> Vec<String> {
    let directory = std::env::var("PAM_WRAPPER_SERVICE_DIR").ok();
    #[cfg(target_os = "linux")]
    if std::env::var_os("PAM_WRAPPER").is_none()
        && let Some(directory) = directory.as_deref().and_then(|name| std::ffi::CString::new(name).ok())
    {
        pam_sys::use_service_directory(directory);
    }
    directory.into_iter().collect()
}

fn is_trusted(uid: u32) -> bool {
    // Without root there is no root's file to test with.
    uid == 0 || (cfg!(feature = "pam-wrapper") && uid == rustix::process::geteuid().as_raw())
}

fn check_in(directory: &str, service: &str) -> Result<Stacks, Refused> {
    let path = format!("{directory}/{service}");
    let refused = |why| Refused { path: path.clone(), why };
    let opened = open(rustix::fs::CWD, directory, FileType::Directory)
        .map_err(|why| Refused { path: directory.to_owned(), why })?;
    let file = open(&opened, service, FileType::RegularFile).map_err(refused)?;
    let mut text = Vec::new();
    std::fs::File::from(file)
        .take(FILE_MAX + 1)
        .read_to_end(&mut text)
        .map_err(|error| refused(Why::Unreadable(error)))?;
    if text.len() as u64 > FILE_MAX {
        return Err(refused(Why::TooLong));
    }
    stacks(&text).map_err(refused)
}

/// Opens once; what is checked is what was opened. A symbolic link is refused: its target's
/// directories would have to be checked too.
fn open(directory: impl std::os::fd::AsFd, name: &str, kind: FileType) -> Result<OwnedFd, Why> {
    // Non-blocking: a FIFO in the file's place must not hold us.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let unreadable = |error: Errno| match error {
        Errno::LOOP | Errno::NOTDIR => Why::NotAFile,
        error => Why::Unreadable(error.into()),
    };
    let opened = openat(directory, name, flags, Mode::empty()).map_err(unreadable)?;
    check_stat(&fstat(&opened).map_err(unreadable)?, kind)?;
    Ok(opened)
}

fn check_stat(stat: &Stat, kind: FileType) -> Result<(), Why> {
    if FileType::from_raw_mode(stat.st_mode) != kind {
        return Err(Why::NotAFile);
    }
    if !is_trusted(stat.st_uid) {
        return Err(Why::Owner(stat.st_uid));
    }
    if Mode::from_raw_mode(stat.st_mode).intersects(Mode::WGRP | Mode::WOTH) {
        return Err(Why::OthersWrite);
    }
    Ok(())
}

/// Which types have a line. An `@include` (Debian) is taken for all of them: what is in it is what
/// the administrator wants for this service. Continued lines begin with a type all the same.
fn stacks(text: &[u8]) -> Result<Stacks, Why> {
    let first_words: Vec<String> = text
        .split(|&byte| byte == b'\n')
        .filter_map(|line| line.split(u8::is_ascii_whitespace).find(|word| !word.is_empty()))
        .map(|word| String::from_utf8_lossy(word).to_ascii_lowercase())
        .collect();
    // A dash in front means: no complaint when the module is missing.
    let has = |kind: &str| {
        first_words.iter().any(|word| word == "@include" || word.strip_prefix('-').unwrap_or(word) == kind)
    };
    for kind in ["auth", "account"] {
        if !has(kind) {
            return Err(Why::NoLine(kind));
        }
    }
    Ok(Stacks { password: has("password") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<bool, String> {
        stacks(text.as_bytes()).map(|stacks| stacks.password).map_err(|why| format!("{why:?}"))
    }

    #[test]
    fn types_are_found_by_the_first_word() {
        assert_eq!(read("auth required a.so\naccount required a.so\n"), Ok(false));
        assert_eq!(
            read("# x\n\n  AUTH\trequired a.so\n-account required a.so\npassword include x"),
            Ok(true)
        );
        assert_eq!(read("@include common-auth\n"), Ok(true));
    }

    #[test]
    fn a_file_without_auth_or_account_is_refused() {
        for text in
            ["", "#auth required a.so\naccount required a.so", "auth required a.so", "account required a.so"]
        {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_file_must_be_regular_and_trusted() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().expect("a temporary directory");
        let name = directory.path().to_str().expect("text");
        let file = directory.path().join("service");
        std::fs::write(&file, "auth x y\naccount x y\n").expect("our directory");
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o664)).expect("our file");
        let refusal = check_in(name, "service").expect_err("others can write it");
        // In a build that trusts nobody but root, and not as root, the owner is seen first.
        assert!(matches!(refusal.why, Why::OthersWrite | Why::Owner(_)), "{refusal}");
        assert!(matches!(
            check_in(name, "none").expect_err("not there").why,
            Why::Unreadable(_) | Why::Owner(_)
        ));
        std::os::unix::fs::symlink(&file, directory.path().join("link")).expect("our directory");
        assert!(matches!(check_in(name, "link").expect_err("a link").why, Why::NotAFile | Why::Owner(_)));
        std::fs::create_dir(directory.path().join("directory")).expect("our directory");
        assert!(matches!(
            check_in(name, "directory").expect_err("no file").why,
            Why::NotAFile | Why::Owner(_)
        ));
    }
}
