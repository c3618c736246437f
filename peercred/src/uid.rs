//! A user, and never "no user".

use std::fmt;
use std::io;

/// A user id that names a user: not `(uid_t)-1`, which means "unknown" to getsockopt and "leave it"
/// to setuid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid(u32);

impl Uid {
    /// The uid of this number, unless it is the one that means none.
    pub fn new(raw: u32) -> Option<Uid> {
        (raw != u32::MAX).then_some(Uid(raw))
    }

    /// The number.
    pub fn as_raw(self) -> u32 {
        self.0
    }

    pub(crate) fn from_kernel(raw: u32) -> io::Result<Uid> {
        Uid::new(raw).ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "the peer has no uid"))
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl PartialEq<u32> for Uid {
    fn eq(&self, other: &u32) -> bool {
        self.0 == *other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minus_one_is_no_user() {
        assert_eq!(Uid::new(u32::MAX), None);
        assert!(Uid::from_kernel(u32::MAX).is_err());
        assert_eq!(Uid::new(u32::MAX - 1).map(Uid::as_raw), Some(u32::MAX - 1));
        assert_eq!(Uid::from_kernel(0).expect("root is a user"), 0);
    }
}
