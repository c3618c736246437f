//! Checks on the tree itself: who depends on whom, which module uses which, where unsafe code is.

#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

#[path = "tree/defects.rs"]
mod defects;
#[path = "tree/dependencies.rs"]
mod dependencies;
#[path = "tree/files.rs"]
mod files;
#[path = "tree/manual.rs"]
mod manual;
#[path = "tree/modules.rs"]
mod modules;
#[path = "tree/source.rs"]
mod source;
#[path = "tree/supply.rs"]
mod supply;
