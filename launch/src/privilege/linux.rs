//! Linux: capabilities, prctl.

use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, set_capabilities, set_no_new_privs,
};

use super::step;
use crate::StartError;

pub(super) fn confine() -> Result<(), StartError> {
    // A service manager may have given some to a process that never was root; the sockets that
    // needed them are bound by now.
    clear_ambient_capability_set().map_err(step("cannot clear the ambient capabilities"))?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
        .map_err(step("cannot give up capabilities"))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(step("cannot become undumpable"))?;
    set_no_new_privs(true).map_err(step("cannot set no_new_privs"))
}
