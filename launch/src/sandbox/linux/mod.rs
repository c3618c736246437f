//! Linux: Landlock for what has a name, seccomp for what has none.

mod calls;
mod files;

pub(super) use calls::calls;
pub(super) use files::files;
