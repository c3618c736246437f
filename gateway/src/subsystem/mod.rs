//! Other services that answer `namespace/name`: which there are, whether they are up, and calling them.
//!
//! Root says in a directory who may be one ([`keep`]); what a service says of itself is checked before anybody
//! sees it ([`described`]), and so is what it answers ([`calling`]). Whoever answers requests looks at a
//! [`registry::Snapshot`], which nobody waits for.

mod calling;
mod described;
mod events;
mod keep;
mod places;
mod registry;
mod speed;
mod tries;

pub(crate) use self::{
    calling::json,
    places::{Place, Places},
};
pub use self::{
    calling::{Asked, Progress, Step},
    described::{Action, Description},
    keep::{Pace, keep},
    registry::{Known, Registry, Snapshot, Standing, Subsystem},
};
