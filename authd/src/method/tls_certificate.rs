//! A registered key that the client proved in the TLS handshake, on the gateway's word: certd's
//! configuration says whether that is believed, and for whom.

use super::{Cause, Claim, Method, Opening, Policy, Tries, in_an_access_group};
use crate::account::{Account, Username};

pub(super) const METHOD: Method =
    Method { name: "tls_certificate", tries: Tries::Guess { account: false }, begin, admits };

fn begin(claim: Claim) -> Result<Result<Opening, Cause>, Claim> {
    let Claim::TlsCertificate { username, proof } = claim else { return Err(claim) };
    // Not a hint: certd is asked whether the key is this user's.
    let user = Username::parse(username).ok_or(Cause::MalformedUser);
    Ok(user.and_then(|user| Opening::prove(proof, Some(user))))
}

fn admits(account: &Account, _: &Policy) -> Result<(), Cause> {
    // By uid, for every name that root may have; certd knows its name alone.
    if account.uid.is_root() {
        return Err(Cause::Root);
    }
    in_an_access_group(account)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        account::{Access, Memberships, Uid},
        certd::Proof,
        method,
    };

    #[test]
    fn it_needs_a_user_a_key_and_a_certificate() {
        for (username, key, certificate, cause) in [
            ("alice", 64, 500, None),
            ("", 64, 500, Some(Cause::MalformedUser)),
            ("a\0", 64, 500, Some(Cause::MalformedUser)),
            ("alice", 0, 500, Some(Cause::MalformedProof)),
            ("alice", 64, 0, Some(Cause::MalformedProof)),
            ("alice", 64, 16_385, Some(Cause::MalformedProof)),
        ] {
            let proof = Proof::Loaded { key: vec![1; key], certificate: vec![1; certificate] };
            let claim = Claim::TlsCertificate { username: username.into(), proof };
            let (method, opening) = method::begin(claim).expect("a method");
            assert_eq!(method.name, "tls_certificate");
            assert_eq!(opening.err(), cause, "{username:?} {key} {certificate}");
        }
    }

    #[test]
    fn root_stays_out_under_every_name() {
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
            (account("bob", 1001, Some(Access::Limited)), None),
            (account("eve", 1002, None), Some(Cause::NoAccessGroup)),
            (account("root", 0, Some(Access::Full)), Some(Cause::Root)),
            (account("toor", 0, Some(Access::Full)), Some(Cause::Root)),
        ] {
            assert_eq!(admits(&account, &Policy::default()).err(), refused, "{account:?}");
        }
    }
}
