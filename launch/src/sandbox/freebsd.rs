//! FreeBSD: nothing beyond the uid and the limits that every daemon sets.
//!
//! Capsicum's capability mode takes the file system as a whole, and each daemon opens something by name
//! after its start: SQLite its files beside the database, the C library the user database, the gateway
//! its connections to authd.

use super::{Applied, Confinement};
use crate::StartError;

pub(super) fn files(_: &Confinement) -> Result<Applied, StartError> {
    Ok(Applied::NotHere)
}

pub(super) fn calls(_: &Confinement) -> Result<Applied, StartError> {
    Ok(Applied::NotHere)
}
