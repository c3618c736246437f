//! What an issuer of JWTs or a plug-in authenticator says of somebody, cut down to what its configuration lets it say.

use std::{sync::Arc, time::Duration};

use crate::{account::Username, session::Identity};

/// Somebody whom the configuration lets an issuer or a plug-in speak for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Vouched {
    /// A local user: everything about the account is still to be asked.
    User(Username, Limit),
    /// Somebody for whom there is no account.
    Other(Newcomer),
}

/// What a session of a local user has at most, by an issuer's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Of the entries that its user has, those that these grant, too.
    pub acl: Arc<[String]>,
    /// When it ends at the latest, on the clock of sessions: PAM may take its time before there is one.
    pub ends: u64,
}

/// Somebody for whom this host has no account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newcomer {
    /// Always an [`Identity::Other`], of a kind of the configuration.
    pub who: Identity,
    /// Its entries.
    pub acl: Arc<[String]>,
    /// How long its session may live; None: as long as any.
    pub life: Option<Duration>,
    /// Its other sessions end.
    pub only_one: bool,
}

/// What clients may call an identity by: 1 to 64 of `A-Z a-z 0-9 _ - . @`. It becomes a word of ACL entries, where
/// `me` and `_` have a meaning of their own,
/// and digits alone are the uid of a user of the host.
pub fn is_id(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.@".contains(&byte);
    (1..=64).contains(&text.len())
        && text.bytes().all(plain)
        && !matches!(text, "me" | "_")
        && !text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_plain_word() {
        for (text, fits) in [
            ("t-7", true),
            ("alice@example.org", true),
            ("6f1c4f2e-0d7a-4a8e-9a51-2f7d6f0d9c11", true),
            ("root", true),
            ("1000a", true),
            ("1000", false),
            ("0", false),
            ("", false),
            ("_", false),
            ("me", false),
            ("user/root", false),
            ("a b", false),
            ("a*", false),
            ("#", false),
            ("!a", false),
            ("a:b", false),
            ("a%2E", false),
            ("a\n", false),
            ("ä", false),
        ] {
            assert_eq!(is_id(text), fits, "{text:?}");
        }
        assert!(is_id(&"x".repeat(64)) && !is_id(&"x".repeat(65)));
    }
}
