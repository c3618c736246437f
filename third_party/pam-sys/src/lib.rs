//! PAM declarations of our own, for Linux-PAM and OpenPAM.
//!
//! Takes the place of the published `pam-sys`, which needs libclang to build and does not compile on
//! FreeBSD. It declares what pam-client uses, and adds three things that need unsafe code, so that the
//! worker has none:
//!
//! - [`take_round`]: all messages of one conversation call. pam-client hands them over one by one,
//!   but a client must see "password" and "code" together when a module asks them together.
//! - [`fail_delay_requested`]: Linux-PAM would sleep inside `pam_authenticate`; here it only tells.
//! - [`asked_to_try_again`]: pam-client knows no `PAM_TRY_AGAIN`.
//!
//! They are kept per process (the round: per thread): there is one conversation in a process.
//! The only crate of the tree in which unsafe code is allowed; each block says why it is sound.

mod constants;
mod raw;
mod round;
mod start;

pub use constants::*;
pub use raw::*;
pub use round::{Message, Style, TEXT_MAX, take_round};
#[cfg(all(feature = "confdir", target_os = "linux"))]
pub use start::use_service_directory;
pub use start::{asked_to_try_again, fail_delay_requested, pam_chauthtok, pam_start};
