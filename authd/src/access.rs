//! Who may call what. No row, no call; a test compares the rows with the services' descriptors.

use doorward_launch::grpc::Peer;

/// Every method of authd, and the peers that may call it.
pub const ROWS: &[(&str, &[Peer])] = &[
    ("/doorward.authd.v1.Login/Begin", &[Peer::Gateway]),
    ("/doorward.authd.v1.Login/Respond", &[Peer::Gateway]),
    ("/doorward.authd.v1.Login/Challenge", &[Peer::Gateway]),
    ("/doorward.authd.v1.Login/Abandon", &[Peer::Gateway]),
    ("/doorward.authd.v1.Login/Backends", &[Peer::Gateway]),
    ("/doorward.authd.v1.Login/WatchPenalties", &[Peer::Gateway, Peer::Root]),
    ("/doorward.authd.v1.Sessions/Check", &[Peer::Gateway]),
    // Whoever holds a token may end its session; for root this is the way to revoke one.
    ("/doorward.authd.v1.Sessions/End", &[Peer::Gateway, Peer::Root]),
    ("/doorward.authd.v1.Sessions/ReportActivity", &[Peer::Gateway]),
    ("/doorward.authd.v1.Sessions/WatchEnded", &[Peer::Gateway, Peer::Root]),
    // Whose sessions these are is said by the token, never by the gateway.
    ("/doorward.authd.v1.Sessions/List", &[Peer::Gateway]),
    ("/doorward.authd.v1.Sessions/EndOther", &[Peer::Gateway]),
    ("/doorward.authd.v1.Sessions/Logs", &[Peer::Gateway]),
    ("/doorward.authd.v1.Sessions/Assert", &[Peer::Gateway]),
    // What anybody may do, without their session: no business of a gateway's.
    ("/doorward.authd.v1.Rights/Explain", &[Peer::Root]),
];

/// What a uid is to authd.
pub fn classify(gateway: u32) -> impl Fn(u32) -> Option<Peer> + Send + Sync + Clone + 'static {
    move |uid| match uid {
        uid if uid == gateway => Some(Peer::Gateway),
        0 => Some(Peer::Root),
        _ => None,
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
        let described: BTreeSet<String> = set
            .file
            .iter()
            .filter(|file| file.package() == "doorward.authd.v1")
            .flat_map(|file| {
                file.service.iter().flat_map(|service| {
                    service
                        .method
                        .iter()
                        .map(|method| format!("/{}.{}/{}", file.package(), service.name(), method.name()))
                })
            })
            .collect();
        let rows: BTreeSet<String> = ROWS.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(rows, described);
        assert_eq!(rows.len(), ROWS.len(), "a path has one row");
    }

    #[test]
    fn strangers_are_no_peers() {
        let classify = classify(1234);
        assert_eq!(classify(1234), Some(Peer::Gateway));
        assert_eq!(classify(0), Some(Peer::Root));
        for stranger in [1, 1000, 65534, u32::MAX] {
            assert_eq!(classify(stranger), None);
        }
    }
}
