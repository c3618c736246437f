//! Giving root up, for good, and what goes with it.

#[cfg(target_os = "freebsd")]
mod freebsd;
#[cfg(target_os = "freebsd")]
use freebsd as system;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as system;

use std::io;

use nix::unistd::{Gid, Uid, getgroups, setgroups};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::{Identity, StartError};

fn step<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> StartError {
    move |source| StartError::Privileges { what, source: source.into() }
}

/// Becomes `service` for good, without the capabilities that a program with file capabilities could
/// give it again. Must run before the first thread: the C library changes the ids of
/// all threads, but a thread that is being made in that moment is nobody's promise.
pub(crate) fn drop_to(service: &Identity) -> Result<(), StartError> {
    let (uid, gid) = (Uid::from_raw(service.uid), Gid::from_raw(service.gid));
    system::empty_bounding_set()?;
    setgroups(&[]).map_err(step("cannot leave the supplementary groups"))?;
    nix::unistd::setresgid(gid, gid, gid).map_err(step("cannot change the group"))?;
    nix::unistd::setresuid(uid, uid, uid).map_err(step("cannot change the user"))?;
    verify(uid, gid)
}

/// Believes nothing that was not looked at.
fn verify(uid: Uid, gid: Gid) -> Result<(), StartError> {
    let wrong = |what| Err(StartError::Privileges { what, source: io::ErrorKind::PermissionDenied.into() });
    let users = nix::unistd::getresuid().map_err(step("cannot ask for the user"))?;
    let groups = nix::unistd::getresgid().map_err(step("cannot ask for the group"))?;
    if [users.real, users.effective, users.saved] != [uid; 3] {
        return wrong("the user did not change");
    }
    if [groups.real, groups.effective, groups.saved] != [gid; 3] {
        return wrong("the group did not change");
    }
    // FreeBSD counts the effective group among them.
    if getgroups().map_err(step("cannot ask for the groups"))?.iter().any(|group| *group != gid) {
        return wrong("supplementary groups remain");
    }
    let root = Uid::from_raw(0);
    if nix::unistd::setresuid(root, root, root).is_ok() || nix::unistd::setuid(root).is_ok() {
        return wrong("root can be had back");
    }
    Ok(())
}

/// No capabilities, no core dump with keys in it, no debugger of the same uid, no set-uid program.
/// The ids must be final: a change of user makes a process dumpable again.
pub(crate) fn confine() -> Result<(), StartError> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .map_err(step("cannot forbid core dumps"))?;
    system::confine()
}
