//! What a client of the token API asks for beside its credentials.

use std::time::Duration;

use super::{Cause, Claim};
use crate::secret::Credentials;

/// What holds for logins of the token API.
#[derive(Debug, Clone, Default)]
pub struct TokenRules {
    /// Names of back ends, the default first.
    pub backends: Vec<String>,
    /// Those of them that are plug-in authenticators.
    pub authenticators: Vec<String>,
    /// A token's life where its client wishes none.
    pub default_seconds: u64,
    /// The longest that a client may wish.
    pub longest_seconds: u64,
}

/// What a client of the token API asks for, beside its credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// A back end's name; empty: the default.
    pub backend: String,
    /// The token's life; None: the default. 0 is none that there could be.
    pub seconds: Option<u64>,
}

impl TokenRules {
    /// Whether there is a back end of this name.
    ///
    /// # Errors
    /// [`Cause::NoSuchBackend`].
    pub fn backend(&self, name: &str) -> Result<(), Cause> {
        let known = name.is_empty() || self.backends.iter().any(|backend| backend == name);
        known.then_some(()).ok_or(Cause::NoSuchBackend)
    }

    /// The claim as the wished back end takes it: a plug-in authenticator is asked about name and password.
    pub fn claim(&self, wish: &Wish, claim: Claim) -> Claim {
        let named = Some(&wish.backend).filter(|name| !name.is_empty()).or(self.backends.first());
        let kind = named.filter(|name| self.authenticators.contains(name));
        match (kind, claim) {
            (Some(kind), Claim::Password { username, password: Ok(password) }) => {
                let credentials = Credentials::of(&username, &password);
                Claim::Model { kind: kind.clone(), credentials }
            }
            (_, claim) => claim,
        }
    }

    /// How long a token lives whose client wishes this.
    ///
    /// # Errors
    /// [`Cause::InvalidExpiration`], which only those are told whose credentials are right.
    pub fn life(&self, wished: Option<u64>) -> Result<Duration, Cause> {
        match wished {
            None => Ok(self.default_seconds),
            Some(seconds) if (1..=self.longest_seconds).contains(&seconds) => Ok(seconds),
            Some(_) => Err(Cause::InvalidExpiration),
        }
        .map(Duration::from_secs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_the_default_or_within_what_may_be() {
        let rules = TokenRules {
            backends: vec!["pam".into(), "xivo_user".into()],
            authenticators: Vec::new(),
            default_seconds: 7_200,
            longest_seconds: 10_000,
        };
        for (wished, life) in [
            (None, Some(7_200)),
            (Some(1), Some(1)),
            (Some(10_000), Some(10_000)),
            (Some(10_001), None),
            (Some(0), None),
            (Some(u64::MAX), None),
        ] {
            assert_eq!(rules.life(wished).ok(), life.map(Duration::from_secs), "{wished:?}");
        }
        for (name, known) in [("", true), ("pam", true), ("xivo_user", true), ("PAM", false), ("ldap", false)]
        {
            assert_eq!(rules.backend(name).is_ok(), known, "{name}");
        }
    }
}
