//! Credentials for a plug-in authenticator, which knows somebody for whom this host has no account.

use super::{Cause, Claim, Method, Opening, Tries};

pub(super) const METHOD: Method = Method {
    name: "model",
    tries: Tries::Guess { account: false },
    begin,
    // It names no account.
    admits: |_, _| Err(Cause::OtherUser),
};

fn begin(claim: Claim) -> Result<Result<Opening, Cause>, Claim> {
    let Claim::Model { kind, credentials } = claim else { return Err(claim) };
    Ok(credentials
        .map(|credentials| Opening::Ask { kind, credentials })
        .map_err(|_| Cause::MalformedCredentials))
}
