//! A token takes up its live session on another connection.
//!
//! Whose it is was decided when the session began, and what he may do is looked up anew (`rights/mod.rs`): `admits` is not asked.

use super::{Cause, Claim, Method, Opening, Tries, in_an_access_group};

pub(super) const METHOD: Method =
    Method { name: "token", tries: Tries::Free, begin, admits: |account, _| in_an_access_group(account) };

fn begin(claim: Claim) -> Result<Result<Opening, Cause>, Claim> {
    let Claim::Token(token) = claim else { return Err(claim) };
    Ok(token.map(Opening::TakeUp).map_err(|_| Cause::NoSuchToken))
}
