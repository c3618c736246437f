//! The two services that a service with a socket for the gateway believes: who they are, and that they are others.

use crate::account::{self, Identity};
use crate::error::Misconfigured;

const GATEWAY: &str = "peers.gateway";
const AUTHD: &str = "peers.authd";

/// `[peers]` of a service that answers the gateway and believes authd's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peers {
    /// Who may connect.
    pub gateway: Identity,
    /// Whose word it is who calls.
    pub authd: Identity,
}

impl Peers {
    /// The users of these names or numbers.
    ///
    /// # Errors
    /// When there is no such user, or one is root, or, where services can be kept apart, two of the three are one user.
    pub fn resolve(service: &Identity, gateway: &str, authd: &str) -> Result<Peers, Misconfigured> {
        let resolve = |key: &str, name: &str| {
            account::resolve(name).map_err(|failure| Misconfigured::at(key, failure.to_string()))
        };
        let peers = Peers { gateway: resolve(GATEWAY, gateway)?, authd: resolve(AUTHD, authd)? };
        peers.are_apart(service, rustix::process::geteuid().is_root())?;
        Ok(peers)
    }

    fn are_apart(&self, service: &Identity, root: bool) -> Result<(), Misconfigured> {
        let Peers { gateway, authd } = self;
        for (key, peer) in [(GATEWAY, gateway), (AUTHD, authd)] {
            if peer.uid == 0 {
                return Err(Misconfigured::at(key, "must not be root"));
            }
            // One uid for both, and whoever takes the peer over has this service with all it keeps, and the reverse.
            if root && peer.uid == service.uid {
                return Err(Misconfigured::at(key, "must be another user than this service's"));
            }
        }
        // A gateway that is authd says by itself who calls.
        if root && gateway.uid == authd.uid {
            return Err(Misconfigured::at(AUTHD, "must be another user than the gateway"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_services_are_three_users_and_none_is_root() {
        let of = |uid: u32| Identity { uid, gid: uid };
        let wrong = |gateway: u32, authd: u32, root: bool| {
            let peers = Peers { gateway: of(gateway), authd: of(authd) };
            peers.are_apart(&of(3), root).err().map(|wrong| wrong.to_string())
        };
        assert_eq!(wrong(1, 2, true), None);
        let said = |gateway, authd| wrong(gateway, authd, true).expect("it is wrong");
        assert!(said(0, 2).starts_with("peers.gateway: must not be root"));
        assert!(said(1, 0).starts_with("peers.authd: must not be root"));
        assert!(said(3, 2).starts_with("peers.gateway: must be another user"));
        assert!(said(1, 3).starts_with("peers.authd: must be another user"));
        assert!(said(1, 1).starts_with("peers.authd: must be another user than the gateway"));
        // Whoever starts everything as one user, without root, has no others.
        assert_eq!((wrong(3, 3, false), wrong(1, 1, false)), (None, None));
        assert!(wrong(0, 0, false).is_some());
    }

    #[test]
    fn a_user_that_is_not_there_is_told_by_its_key() {
        let me = Identity { uid: 3, gid: 3 };
        let wrong = Peers::resolve(&me, "1", "no-such-user").expect_err("there is none");
        assert_eq!(wrong.key(), Some("peers.authd"));
        assert_eq!(
            Peers::resolve(&me, "1", "2").map(|peers| (peers.gateway.uid, peers.authd.uid)),
            Ok((1, 2))
        );
    }
}
