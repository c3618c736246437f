//! Users by name or by number.

use nix::unistd::{Gid, Uid, User};

/// The user and group a service runs as, or that a peer must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The user.
    pub uid: u32,
    /// The user's primary group.
    pub gid: u32,
}

impl Identity {
    /// Who this process acts as now.
    pub fn current() -> Identity {
        Identity { uid: Uid::effective().as_raw(), gid: Gid::effective().as_raw() }
    }
}

/// Why a user cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// No such name.
    #[error("there is no user '{0}': create it (useradd --system {0}) or name another")]
    Unknown(String),
    /// A number that is no uid: too large, or the one that means "none".
    #[error("'{0}' is not a user id")]
    NotAUid(String),
    /// The user database gave no answer.
    #[error("cannot look up user '{0}'")]
    Lookup(String, #[source] nix::Error),
}

/// The user of this name, or of this number.
///
/// A number needs no account; its group is the account's if there is one, and otherwise the group of
/// the same number.
pub fn resolve(name_or_uid: &str) -> Result<Identity, AccountError> {
    let lookup = |error| AccountError::Lookup(name_or_uid.to_owned(), error);
    if !name_or_uid.is_empty() && name_or_uid.bytes().all(|b| b.is_ascii_digit()) {
        let uid: u32 = name_or_uid.parse().map_err(|_| AccountError::NotAUid(name_or_uid.to_owned()))?;
        // (uid_t)-1 means "leave it as it is" to setresuid and "nobody known" to SO_PEERCRED.
        if uid == u32::MAX {
            return Err(AccountError::NotAUid(name_or_uid.to_owned()));
        }
        let account = User::from_uid(Uid::from_raw(uid)).map_err(lookup)?;
        return Ok(Identity { uid, gid: account.map_or(uid, |user| user.gid.as_raw()) });
    }
    // A name with NUL would be cut short by the C library.
    if name_or_uid.is_empty() || name_or_uid.contains('\0') {
        return Err(AccountError::Unknown(name_or_uid.to_owned()));
    }
    match User::from_name(name_or_uid).map_err(lookup)? {
        Some(user) => Ok(Identity { uid: user.uid.as_raw(), gid: user.gid.as_raw() }),
        None => Err(AccountError::Unknown(name_or_uid.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_found_by_name_and_by_number() {
        assert_eq!(resolve("root").expect("root exists").uid, 0);
        assert_eq!(resolve("0").expect("root exists"), Identity { uid: 0, gid: 0 });
    }

    #[test]
    fn a_number_without_an_account_is_its_own_group() {
        assert_eq!(
            resolve("3999999999").expect("a uid"),
            Identity { uid: 3_999_999_999, gid: 3_999_999_999 }
        );
    }

    #[test]
    fn what_is_no_user_is_refused() {
        for wrong in ["4294967295", "4294967296", "99999999999999999999"] {
            assert!(matches!(resolve(wrong), Err(AccountError::NotAUid(_))), "{wrong}");
        }
        for wrong in ["", "no-such-user-here", "ro\0ot", "-1", "+1", " 1"] {
            assert!(matches!(resolve(wrong), Err(AccountError::Unknown(_))), "{wrong:?}");
        }
    }
}
