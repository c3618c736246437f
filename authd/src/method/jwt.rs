//! A token that an issuer of the configuration has signed. A user of the host comes in by it as by the kernel's word:
//! a person in an access group, never root or a service.

use super::{Cause, Claim, Method, Opening, Tries, person};
use crate::session::BY_JWT;

pub(super) const METHOD: Method =
    Method { name: BY_JWT, tries: Tries::Guess { account: false }, begin, admits: person };

fn begin(claim: Claim) -> Result<Result<Opening, Cause>, Claim> {
    let Claim::Jwt(jwt) = claim else { return Err(claim) };
    Ok(jwt.map(Opening::Verify).map_err(|_| Cause::MalformedJwt))
}
