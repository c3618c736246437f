//! A password, and whatever else PAM asks.

use super::{Cause, Claim, Method, Opening, Tries};
use crate::account::Username;

pub(super) const METHOD: Method = Method {
    name: "password",
    tries: Tries::Guess { account: true },
    begin,
    // Those who may have tokens and nothing else are as good as strangers elsewhere.
    admits: |account, policy| match account.may_use(policy.dialect) {
        true => Ok(()),
        false => Err(Cause::NoAccessGroup),
    },
};

fn begin(claim: Claim) -> Result<Result<Opening, Cause>, Claim> {
    let Claim::Password { username, password } = claim else { return Err(claim) };
    let Some(user) = Username::parse(username) else { return Ok(Err(Cause::MalformedUser)) };
    Ok(password.map(|password| Opening::Converse { user, password }).map_err(|_| Cause::MalformedPassword))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{method, secret::Password};

    #[test]
    fn a_name_or_password_that_cannot_be_one_never_reaches_pam() {
        for (username, password, cause) in [
            ("alice", "x", None),
            ("", "x", Some(Cause::MalformedUser)),
            ("-alice", "x", Some(Cause::MalformedUser)),
            ("al/ice", "x", Some(Cause::MalformedUser)),
            ("al\nice", "x", Some(Cause::MalformedUser)),
            ("alice", "", Some(Cause::MalformedPassword)),
            ("alice", "a\0b", Some(Cause::MalformedPassword)),
        ] {
            let password = Password::parse(password.into());
            let (method, opening) =
                method::begin(Claim::Password { username: username.into(), password }).expect("a method");
            assert_eq!(method.name, "password");
            assert_eq!(opening.err(), cause, "{username:?}");
        }
    }
}
