//! What a daemon can still reach once it serves: declared in one place, taken from the process for good.
//!
//! The uid says what others let a service do; this says what the service itself will ever need, so that
//! code which an attacker runs inside it finds no world-readable file, no network, no program and no
//! other process. Applied after the drop and before the first thread; sockets that were bound and files
//! that were opened by then keep working.

#[cfg(target_os = "freebsd")]
mod freebsd;
#[cfg(target_os = "freebsd")]
use freebsd as system;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as system;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::StartError;

/// The `[sandbox]` table of a daemon's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Whether files, TCP and signals are cut off by Landlock, where the kernel has it.
    pub landlock: bool,
    /// Whether system calls that no daemon makes are refused, where the kernel can.
    pub seccomp: bool,
    /// Files and directories that may be read beside those that the daemon knows of.
    pub read: Vec<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { landlock: true, seccomp: true, read: Vec::new() }
    }
}

/// What may be done with a file or with all below a directory. The larger holds the smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// Looked at.
    Read,
    /// Looked at and written, and files made: a log's place, a device.
    Append,
    /// All that a database does in its own directory.
    Keep,
}

/// What a daemon needs after its start. Everything else is out of reach, and nobody makes a TCP
/// connection that was not declared, binds a port, starts a program or sends a signal to another process.
#[derive(Debug, Clone, Default)]
pub struct Confinement {
    settings: Settings,
    places: BTreeMap<PathBuf, Reach>,
    asks_for_sockets: bool,
    connects: Option<SocketAddr>,
}

/// Where the user database of a system is: its files, its caches, and the modules that are loaded when
/// somebody is looked up for the first time. The files are replaced by renaming, so whole directories.
const USER_DATABASE: &[&str] = &[
    "/etc",
    "/lib",
    "/lib64",
    "/run/nscd",
    "/run/systemd/userdb",
    "/run/userdb",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/var/cache/nscd",
    "/var/db",
    "/var/lib/extrausers",
    "/var/lib/misc",
    "/var/lib/sss/mc",
];

/// What every process may look at: itself, its share of the processors, and where randomness comes from
/// on old kernels.
const EVERYBODY: &[&str] = &["/dev/urandom", "/proc/self", "/sys/fs/cgroup"];

impl Confinement {
    /// Nothing beyond what the settings add.
    pub fn new(settings: &Settings) -> Self {
        let mut confinement = Self { settings: settings.clone(), ..Self::default() };
        for path in EVERYBODY.iter().map(Path::new).chain(settings.read.iter().map(PathBuf::as_path)) {
            confinement.allow(path, Reach::Read);
        }
        // Standard output and error go there when a daemon lets go of its terminal.
        confinement.allow(Path::new("/dev/null"), Reach::Append);
        confinement
    }

    /// Reads a file, or all below a directory.
    #[must_use]
    pub fn read(mut self, path: &Path) -> Self {
        self.allow(path, Reach::Read);
        self
    }

    /// Reads a file that may be another one by the next time: all in its directory.
    ///
    /// Where the way to it leads over a symbolic link, the link may point to the neighbour of its target
    /// next time (`live -> 2026-11`), so that the neighbours can be read too.
    #[must_use]
    pub fn read_beside(mut self, file: &Path) -> Self {
        for directory in directories_of(file) {
            self.allow(&directory, Reach::Read);
        }
        self
    }

    /// Writes a log that may be renamed and made anew.
    #[must_use]
    pub fn log(mut self, file: &Path) -> Self {
        for directory in directories_of(file) {
            self.allow(&directory, Reach::Append);
        }
        self
    }

    /// Makes, changes and removes files in its own directory.
    #[must_use]
    pub fn keep(mut self, directory: &Path) -> Self {
        self.allow(directory, Reach::Keep);
        self
    }

    /// Looks up users and groups.
    #[must_use]
    pub fn user_database(mut self) -> Self {
        for path in USER_DATABASE {
            self.allow(Path::new(path), Reach::Read);
        }
        self
    }

    /// Asks the kernel about sockets (netlink).
    #[must_use]
    pub fn asks_for_sockets(mut self) -> Self {
        self.asks_for_sockets = true;
        self
    }

    /// Makes TCP connections to this address. The kernel's means know ports and families only: the same port of any
    /// other host can be reached as well, which is the service manager's or a firewall's to refuse.
    #[must_use]
    pub fn connects(mut self, to: SocketAddr) -> Self {
        self.connects = Some(to);
        self
    }

    fn allow(&mut self, path: &Path, reach: Reach) {
        // A daemon in the background stands in `/`, so a relative path is resolved now.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let had = self.places.entry(path).or_insert(reach);
        *had = reach.max(*had);
    }
}

/// The directory of a file as it is named, and what symbolic links on the way make of it.
fn directories_of(file: &Path) -> Vec<PathBuf> {
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let Some(named) = file.parent() else { return Vec::new() };
    let mut found = vec![named.to_owned()];
    let real = std::fs::canonicalize(named).unwrap_or_else(|_| named.to_owned());
    if real != named
        && let Some(neighbours) = real.parent().filter(|directory| directory.parent().is_some())
    {
        found.push(neighbours.to_owned());
    }
    if let Ok(target) = std::fs::canonicalize(&file)
        && let Some(directory) = target.parent().filter(|directory| *directory != real)
    {
        found.push(directory.to_owned());
    }
    found
}

/// What became of a means of confinement.
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "only Linux has any of these means"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Applied {
    /// All of it holds.
    Whole,
    /// What this kernel knows of it holds.
    Partly,
    /// This system does not have it.
    NotHere,
}

/// Confines this thread, and with it those that it starts, for good.
pub(crate) fn apply(confinement: &Confinement) -> Result<(), StartError> {
    let settings = &confinement.settings;
    for (name, wanted, means) in [
        ("Landlock", settings.landlock, system::files as fn(&Confinement) -> _),
        ("seccomp", settings.seccomp, system::calls),
    ] {
        if !wanted {
            tracing::warn!(means = name, "confinement is switched off by the configuration");
            continue;
        }
        match means(confinement)? {
            Applied::Whole => tracing::debug!(means = name, "confined"),
            Applied::Partly => tracing::info!(means = name, "confined as far as this kernel can"),
            Applied::NotHere => tracing::info!(means = name, "this system cannot confine its services so"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn the_larger_reach_of_a_place_counts_in_any_order() {
        let place = Path::new("/var/lib/doorward/x");
        let file = place.join("file");
        let one = Confinement::default().keep(place).read_beside(&file).log(&file);
        let other = Confinement::default().log(&file).read_beside(&file).keep(place);
        assert_eq!(one.places, other.places);
        assert_eq!(one.places, BTreeMap::from([(place.to_owned(), Reach::Keep)]));
    }

    #[test]
    fn nothing_is_in_reach_that_was_not_declared() {
        let bare = Confinement::new(&Settings::default());
        let everybody = EVERYBODY.iter().map(|path| (PathBuf::from(path), Reach::Read));
        let expected = everybody.chain([("/dev/null".into(), Reach::Append)]).collect();
        assert_eq!(bare.places, expected);
        assert!(
            !bare.asks_for_sockets && bare.connects.is_none() && !bare.places.contains_key(Path::new("/etc"))
        );
        assert!(bare.user_database().places.contains_key(Path::new("/etc")));
    }

    #[test]
    fn settings_add_what_may_be_read() {
        let settings = Settings { read: vec!["/opt/names".into()], ..Settings::default() };
        let places = Confinement::new(&settings).places;
        assert_eq!(places.get(Path::new("/opt/names")), Some(&Reach::Read));
    }

    #[test]
    fn a_link_on_the_way_brings_in_its_targets_neighbours() {
        let root = tempfile::tempdir().expect("a directory");
        let root = root.path().canonicalize().expect("it exists");
        std::fs::create_dir_all(root.join("archive/november")).expect("made");
        std::fs::write(root.join("archive/november/key.pem"), "").expect("written");
        symlink("archive/november", root.join("live")).expect("linked");
        symlink("archive/november/key.pem", root.join("key.pem")).expect("linked");

        assert_eq!(directories_of(&root.join("archive/x")), [root.join("archive")]);
        assert_eq!(directories_of(&root.join("live/key.pem")), [root.join("live"), root.join("archive")]);
        assert_eq!(directories_of(&root.join("key.pem")), [root.clone(), root.join("archive/november")]);
        assert_eq!(directories_of(&root.join("nowhere/key.pem")), [root.join("nowhere")]);
        assert_eq!(directories_of(Path::new("/")), Vec::<PathBuf>::new());
    }
}
