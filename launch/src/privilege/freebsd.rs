//! FreeBSD: procctl.

use rustix::process::{DumpableBehavior, set_dumpable_behavior, set_no_new_privs};

use super::step;
use crate::StartError;

pub(super) fn empty_bounding_set() -> Result<(), StartError> {
    Ok(())
}

pub(super) fn confine() -> Result<(), StartError> {
    // `None` is the calling process.
    set_dumpable_behavior(None, DumpableBehavior::NotDumpable).map_err(step("cannot become undumpable"))?;
    set_no_new_privs(None).map_err(step("cannot set no_new_privs"))
}
