//! A registered key that answered the connection's challenge; certd says whose it is.

use super::{Cause, Claim, Method, Opening, Policy, Tries, hint, in_an_access_group};
use crate::account::Account;

pub(super) const METHOD: Method =
    Method { name: "certificate_challenge", tries: Tries::Guess { account: false }, begin, admits };

fn begin(claim: Claim) -> Result<Result<Opening, Cause>, Claim> {
    let Claim::CertificateChallenge { username, proof } = claim else { return Err(claim) };
    Ok(hint(username).and_then(|user| Opening::prove(proof, user)))
}

fn admits(account: &Account, _: &Policy) -> Result<(), Cause> {
    // certd lets root's keys in only where it is configured so, and knows root by that name alone.
    if account.uid.is_root() && account.name.as_str() != "root" {
        return Err(Cause::Root);
    }
    in_an_access_group(account)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        account::{Access, Memberships, Uid, Username},
        certd::Proof,
        method,
    };

    #[test]
    fn root_comes_in_under_its_own_name_only() {
        let account = |name: &str, uid, access| Account {
            name: Username::parse(name.into()).expect("a name"),
            uid: Uid::new(uid).expect("a uid"),
            access,
            groups: Memberships::default(),
            shell_listed: true,
            subordinate: false,
        };
        for (account, refused) in [
            (account("alice", 1000, Some(Access::Full)), None),
            (account("eve", 1002, None), Some(Cause::NoAccessGroup)),
            (account("root", 0, Some(Access::Full)), None),
            (account("toor", 0, Some(Access::Full)), Some(Cause::Root)),
        ] {
            assert_eq!(admits(&account, &Policy::default()).err(), refused, "{account:?}");
        }
    }

    #[test]
    fn a_hint_or_a_proof_that_cannot_be_one_never_reaches_certd() {
        for (username, signature, cause) in [
            ("alice", 64, None),
            ("", 64, None),
            ("-alice", 64, Some(Cause::MalformedUser)),
            ("a/b", 64, Some(Cause::MalformedUser)),
            ("", 0, Some(Cause::MalformedProof)),
            ("alice", 4097, Some(Cause::MalformedProof)),
        ] {
            let proof = Proof::Challenge { signature: vec![1; signature], fingerprint: Vec::new() };
            let claim = Claim::CertificateChallenge { username: username.into(), proof };
            let (method, opening) = method::begin(claim).expect("a method");
            assert_eq!(method.name, "certificate_challenge");
            assert_eq!(opening.err(), cause, "{username:?} {signature}");
        }
    }
}
