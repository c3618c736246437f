//! The local user whom the kernel names as the owner of the connection: no password.
//!
//! For people only: services and root keep their password, so that a program that is made to fetch a
//! local address, or the gateway itself, is nobody here. Who has loaded a certificate in the same
//! connection may be somebody by that; it is one login, refused once.

use super::{Cause, Claim, Method, Opening, Otherwise, Policy, Tries, hint, person, tls_certificate};
use crate::account::Account;

pub(super) const METHOD: Method = Method { name: "local_peer", tries: Tries::Certain, begin, admits };

fn begin(claim: Claim) -> Result<Result<Opening, Cause>, Claim> {
    let Claim::LocalPeer { handle, username, loaded } = claim else { return Err(claim) };
    Ok(hint(username).map(|user| {
        // A certificate is somebody's only by name.
        let loaded = loaded.filter(|proof| user.is_some() && proof.fits());
        let otherwise = loaded.map(|proof| Otherwise { method: &tls_certificate::METHOD, proof });
        Opening::Identify { handle, user, otherwise }
    }))
}

fn admits(account: &Account, policy: &Policy) -> Result<(), Cause> {
    if !policy.local_login {
        return Err(Cause::LocalLoginOff);
    }
    if account.subordinate {
        return Err(Cause::SubordinateUid);
    }
    person(account, policy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{Access, Memberships, Uid, Username};

    fn account(uid: u32) -> Account {
        Account {
            name: Username::parse("alice".into()).expect("a name"),
            uid: Uid::new(uid).expect("a uid"),
            access: Some(Access::Limited),
            groups: Memberships::default(),
            shell_listed: true,
            subordinate: false,
        }
    }

    #[test]
    fn only_people_with_access_and_a_shell_come_in() {
        let policy =
            Policy { local_login: true, uid_min: 1000, own_uids: vec![2000, 2001], ..Policy::default() };
        let plain = account(1000);
        for (account, refused) in [
            (plain.clone(), None),
            (Account { access: Some(Access::Full), ..plain.clone() }, None),
            (account(0), Some(Cause::Root)),
            (account(1), Some(Cause::SystemUid)),
            (account(999), Some(Cause::SystemUid)),
            (account(2000), Some(Cause::OwnUid)),
            (account(2001), Some(Cause::OwnUid)),
            (account(2002), None),
            (account(u32::MAX - 1), None),
            (Account { access: None, ..plain.clone() }, Some(Cause::NoAccessGroup)),
            (Account { shell_listed: false, ..plain.clone() }, Some(Cause::Shell)),
            (Account { subordinate: true, ..plain.clone() }, Some(Cause::SubordinateUid)),
        ] {
            assert_eq!(admits(&account, &policy).err(), refused, "{account:?}");
        }
        let off = Policy { local_login: false, ..policy };
        assert_eq!(admits(&plain, &off), Err(Cause::LocalLoginOff));
        let lowest = Policy { local_login: true, ..Policy::default() };
        assert_eq!(admits(&account(0), &lowest), Err(Cause::Root), "root whatever uid_min says");
    }

    #[test]
    fn uids_that_are_nobodys_are_no_uids() {
        assert_eq!((Uid::new(u32::MAX), Uid::new(65534)), (None, None));
    }
}
