//! The directory of a run: made or checked at the start, and taken away at the end with all that must
//! not outlive the run.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use nix::unistd::Uid;
use tempfile::TempDir;

use crate::{
    dev::{
        accounts::Account,
        config, directory,
        plan::{Layout, Plan, Service},
    },
    error::Error,
};

/// The directory of this run.
pub(super) struct Place {
    path: PathBuf,
    /// There when the directory goes away with the run.
    temporary: Option<TempDir>,
    /// Holds the lock that keeps a second run out of the same directory.
    _lock: File,
}

impl Place {
    /// The directory that was asked for, which stays; or a fresh one, which does not.
    pub(super) fn prepare(asked: Option<&Path>) -> Result<Self, Error> {
        let root = Uid::effective().is_root();
        let (path, temporary) = match asked {
            Some(asked) => (named(asked)?, None),
            None => {
                let parent = if root { runtime_directory() } else { std::env::temp_dir() };
                let fresh = tempfile::Builder::new().prefix("doorward-dev-").tempdir_in(&parent);
                let fresh = fresh.map_err(|error| cannot("make a directory in", &parent, &error))?;
                (fresh.path().to_owned(), Some(fresh))
            }
        };
        // Root's is open to those who come to the gateway's socket; what they must not see is closed below.
        let lock = directory::claim(&path, if root { 0o755 } else { 0o700 })?;
        Ok(Self { path, temporary, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the directory goes away at the end.
    pub(super) fn is_temporary(&self) -> bool {
        self.temporary.is_some()
    }

    /// Takes away what must not outlive the run. Nothing of ours runs any more.
    pub(super) fn remove(self, layout: &Layout) -> Result<(), Error> {
        if let Some(directory) = self.temporary {
            let path = directory.path().to_owned();
            return directory.close().map_err(|error| cannot("remove", &path, &error));
        }
        for path in [layout.run(), layout.notify()] {
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(cannot("remove", &path, &error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Who owns the state that an earlier run left, of certd, of authd, of sysinfo and of the gateway.
pub(super) fn kept_owners(layout: &Layout) -> [Option<u32>; 4] {
    [layout.certd_state(), layout.authd_state(), layout.sysinfo_state(), layout.gateway_state()]
        .map(|path| fs::symlink_metadata(path).ok().map(|metadata| metadata.uid()))
}

/// Makes the directories and writes the configuration.
pub(super) fn fill(plan: &Plan) -> Result<(), Error> {
    let layout = &plan.layout;
    let ours = plan.account(Service::Guard);
    for path in [layout.run(), layout.notify()] {
        // Sockets of a run that was killed.
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(cannot("remove", &path, &error)),
            _ => {}
        }
        make(&path, 0o755, ours)?;
    }
    for path in ["authd", "certd", "pam", "sysinfo"].map(|name| layout.run().join(name)) {
        make(&path, 0o755, ours)?;
    }
    make(&layout.logs(), 0o700, ours)?;
    make(&layout.base.join("state"), 0o755, ours)?;
    make(&layout.certd_state(), 0o700, plan.account(Service::Certd))?;
    make(&layout.authd_state(), 0o700, plan.account(Service::Authd))?;
    make(&layout.sysinfo_state(), 0o700, plan.account(Service::Sysinfo))?;
    make(&layout.subsystems(), 0o755, ours)?;
    make(&layout.gateway_state(), 0o700, plan.account(Service::Gateway))?;
    let files = [
        (layout.config(Service::Certd), config::certd(plan)),
        (layout.config(Service::Authd), config::authd(plan)),
        (layout.config(Service::Sysinfo), config::sysinfo(plan)),
        (layout.subsystems().join("sysinfo.toml"), config::registration(plan)),
        (layout.channels(), config::channels()),
        (layout.config(Service::Gateway), config::gateway(plan)),
    ];
    for (path, text) in files {
        fs::write(&path, text).map_err(|error| cannot("write", &path, &error))?;
        set_mode(&path, 0o644)?;
    }
    Ok(())
}

/// Makes a directory or checks one of an earlier run. Its parent is ours alone to write to.
fn make(path: &Path, mode: u32, owner: &Account) -> Result<(), Error> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {
            chown(path, Some(owner.uid), Some(owner.gid))
                .map_err(|error| cannot("give away", path, &error))?;
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let metadata = fs::symlink_metadata(path).map_err(|error| cannot("look at", path, &error))?;
            if !metadata.is_dir() || metadata.uid() != owner.uid {
                let (is, wanted) = (metadata.uid(), owner.uid);
                let path = path.display();
                return Err(Error::Failed(format!(
                    "{path} is not a directory of uid {wanted} (it belongs to uid {is}); remove it, or name \
                     another --dir"
                )));
            }
        }
        Err(error) => return Err(cannot("make", path, &error)),
    }
    set_mode(path, mode)
}

/// The directory that was asked for, made if it is missing.
fn named(asked: &Path) -> Result<PathBuf, Error> {
    let path = directory::resolve(asked)?;
    match DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(cannot("make", &path, &error)),
        _ => Ok(path),
    }
}

/// Where root puts what lives as long as a run.
pub(super) fn runtime_directory() -> PathBuf {
    ["/run", "/var/run"]
        .map(PathBuf::from)
        .into_iter()
        .find(|path| path.is_dir())
        .unwrap_or_else(std::env::temp_dir)
}

fn set_mode(path: &Path, mode: u32) -> Result<(), Error> {
    fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(|error| cannot("set the mode of", path, &error))
}

pub(super) fn cannot(what: &str, path: &Path, error: &io::Error) -> Error {
    Error::Failed(format!("cannot {what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::accounts::Accounts;
    use crate::dev::plan::tests::plan;

    fn own_plan(base: &Path) -> Plan {
        let me = Account {
            uid: Uid::effective().as_raw(),
            gid: nix::unistd::Gid::effective().as_raw(),
            name: None,
        };
        let layout = Layout::new(base).expect("a short name");
        let accounts = Accounts::all(&me);
        Plan { layout, accounts, ..plan() }
    }

    #[test]
    fn a_fresh_directory_goes_away() {
        let place = Place::prepare(None).expect("a place");
        let plan = own_plan(place.path());
        fill(&plan).expect("filled");
        assert_eq!(fs::metadata(plan.layout.authd_state()).expect("state").mode() & 0o7777, 0o700);
        assert_eq!(fs::metadata(plan.layout.run()).expect("run").mode() & 0o7777, 0o755);
        let path = place.path().to_owned();
        place.remove(&plan.layout).expect("removed");
        assert!(!path.exists());
    }

    #[test]
    fn a_directory_that_was_asked_for_keeps_its_state() {
        let parent = tempfile::tempdir().expect("a directory");
        let asked = parent.path().join("kept");
        for _ in 0..2 {
            let place = Place::prepare(Some(&asked)).expect("a place");
            let plan = own_plan(place.path());
            fill(&plan).expect("filled");
            fs::write(plan.layout.authd_state().join("sessions.sqlite"), "").expect("a file");
            fs::write(plan.layout.gateway_socket(), "").expect("a file");
            place.remove(&plan.layout).expect("removed");
            assert!(plan.layout.authd_state().join("sessions.sqlite").exists());
            assert!(!plan.layout.run().exists());
        }
    }

    #[test]
    fn two_runs_do_not_share_a_directory() {
        let parent = tempfile::tempdir().expect("a directory");
        let _first = Place::prepare(Some(parent.path())).expect("a place");
        assert!(Place::prepare(Some(parent.path())).is_err());
    }

    #[test]
    fn a_planted_link_or_a_wrong_name_harms_nothing() {
        let parent = tempfile::tempdir().expect("a directory");
        let (other, link) = (parent.path().join("other"), parent.path().join("link"));
        fs::create_dir_all(other.join("run/precious")).expect("directories");
        fs::set_permissions(&other, Permissions::from_mode(0o750)).expect("chmod");
        std::os::unix::fs::symlink(&other, &link).expect("a link");
        for asked in [&link, &other] {
            assert!(Place::prepare(Some(asked)).is_err());
            assert_eq!(fs::metadata(&other).expect("it is there").mode() & 0o7777, 0o750);
            assert_eq!(fs::read_dir(&other).expect("a directory").count(), 1);
        }
        assert!(other.join("run/precious").is_dir());
    }

    #[test]
    fn a_directory_that_others_can_write_to_is_refused() {
        let parent = tempfile::tempdir().expect("a directory");
        fs::set_permissions(parent.path(), Permissions::from_mode(0o777)).expect("chmod");
        assert!(Place::prepare(Some(parent.path())).is_err());
        // For root the way to it counts as well.
        if Uid::effective().is_root() {
            assert!(Place::prepare(Some(&parent.path().join("below"))).is_err());
        }
    }

    #[test]
    fn state_of_another_uid_is_refused() {
        let parent = tempfile::tempdir().expect("a directory");
        let place = Place::prepare(Some(parent.path())).expect("a place");
        let mut plan = own_plan(place.path());
        fill(&plan).expect("filled");
        plan.accounts.authd.uid += 1;
        assert!(fill(&plan).expect_err("another owner").to_string().contains("remove it"));
    }
}
