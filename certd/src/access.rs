//! Who may call what. No row, no call; a test compares the rows with the services' descriptors.

use doorward_launch::grpc::Peer;

/// Every method of certd, and the peers that may call it.
pub const ROWS: &[(&str, &[Peer])] = &[
    // The caller's rights come from the assertion; the peer only carries it.
    ("/doorward.certd.v1.Registry/List", &[Peer::Gateway, Peer::Root]),
    ("/doorward.certd.v1.Registry/RegisterChallenge", &[Peer::Gateway, Peer::Root]),
    ("/doorward.certd.v1.Registry/Register", &[Peer::Gateway, Peer::Root]),
    ("/doorward.certd.v1.Registry/Revoke", &[Peer::Gateway, Peer::Root]),
    ("/doorward.certd.v1.Registry/Logs", &[Peer::Gateway, Peer::Root]),
    // A gateway that was taken over must be able to ask for no verdict.
    ("/doorward.certd.v1.Proofs/Challenge", &[Peer::Authd]),
    ("/doorward.certd.v1.Proofs/Verify", &[Peer::Authd]),
    ("/doorward.certd.v1.Proofs/Loaded", &[Peer::Authd]),
    ("/doorward.certd.v1.Proofs/WatchRevoked", &[Peer::Authd]),
    ("/doorward.certd.v1.Store/Export", &[Peer::Root]),
    ("/doorward.certd.v1.Store/Import", &[Peer::Root]),
];

/// Which of certd's sockets a connection came by. Each admits its own peers, so that even where two
/// services share a uid (development) a row means what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// `socket.path`, for this uid of the gateway's, and root.
    Gateway(u32),
    /// `socket.authd_path`, for this uid of authd's.
    Authd(u32),
}

impl Door {
    /// What a uid is at this door.
    pub fn classify(self, uid: u32) -> Option<Peer> {
        match self {
            Self::Authd(authd) => (uid == authd).then_some(Peer::Authd),
            Self::Gateway(_) if uid == 0 => Some(Peer::Root),
            Self::Gateway(gateway) => (uid == gateway).then_some(Peer::Gateway),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;

    use super::*;

    #[test]
    fn the_table_is_the_descriptor_set() {
        let set = prost_types::FileDescriptorSet::decode(doorward_proto::DESCRIPTORS).expect("descriptors");
        let mut described = BTreeSet::new();
        for file in set.file.iter().filter(|file| file.package() == "doorward.certd.v1") {
            for service in &file.service {
                for method in &service.method {
                    described.insert(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
                }
            }
        }
        let rows: BTreeSet<String> = ROWS.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(rows, described);
        assert_eq!(rows.len(), ROWS.len(), "a path has one row");
    }

    #[test]
    fn verdicts_are_authds_and_the_whole_registry_is_roots() {
        for (path, peers) in ROWS {
            if path.contains("Proofs") {
                assert_eq!(*peers, [Peer::Authd]);
            }
            if path.contains("Store") {
                assert_eq!(*peers, [Peer::Root]);
            }
        }
    }

    #[test]
    fn each_door_knows_its_own_peers_only() {
        let (gateway, authd) = (Door::Gateway(900), Door::Authd(901));
        assert_eq!(gateway.classify(900), Some(Peer::Gateway));
        assert_eq!(gateway.classify(0), Some(Peer::Root));
        assert_eq!(gateway.classify(901), None);
        assert_eq!(authd.classify(901), Some(Peer::Authd));
        assert_eq!(authd.classify(900), None);
        assert_eq!(authd.classify(0), None);
    }
}
