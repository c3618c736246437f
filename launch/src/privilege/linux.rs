//! Linux: capabilities, prctl.

use rustix::io::Errno;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

use super::step;
use crate::StartError;

/// While this is root: it takes CAP_SETPCAP, which goes with the uid.
pub(super) fn empty_bounding_set() -> Result<(), StartError> {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match capability_is_in_bounding_set(capability) {
            Ok(true) => (),
            Ok(false) => continue,
            // Past the last one that this kernel knows.
            Err(_) => break,
        }
        match remove_capability_from_bounding_set(capability) {
            Ok(()) => (),
            // A container's root may lack it; without new privileges no program can use what is left.
            Err(Errno::PERM) => {
                tracing::info!("the capability bounding set stays: this root lacks CAP_SETPCAP");
                break;
            }
            Err(error) => return Err(step("cannot empty the capability bounding set")(error)),
        }
    }
    Ok(())
}

pub(super) fn confine() -> Result<(), StartError> {
    // A service manager may have given some to a process that never was root; the sockets that
    // needed them are bound by now.
    clear_ambient_capability_set().map_err(step("cannot clear the ambient capabilities"))?;
    let none = CapabilitySet::empty();
    let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
    // Whoever has none need not give any up, and may live behind a filter that forbids the call.
    if capabilities(None).map_err(step("cannot ask for capabilities"))? != none {
        set_capabilities(None, none).map_err(step("cannot give up capabilities"))?;
    }
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(step("cannot become undumpable"))?;
    set_no_new_privs(true).map_err(step("cannot set no_new_privs"))
}
