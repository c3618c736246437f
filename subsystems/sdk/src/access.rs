//! Who may call what: the gateway, everything; nobody else, anything. Who it calls for is another question,
//! which the assertion answers.

use doorward_launch::grpc::Peer;

/// Every method of a subsystem.
pub const ROWS: &[(&str, &[Peer])] = &[
    ("/doorward.subsystem.v1.Subsystem/Describe", &[Peer::Gateway]),
    ("/doorward.subsystem.v1.Subsystem/Call", &[Peer::Gateway]),
    ("/doorward.subsystem.v1.Subsystem/CallStream", &[Peer::Gateway]),
    ("/doorward.subsystem.v1.Subsystem/Events", &[Peer::Gateway]),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;

    use super::*;

    #[test]
    fn the_table_is_the_descriptor_set() {
        let set = prost_types::FileDescriptorSet::decode(doorward_proto::DESCRIPTORS).expect("descriptors");
        let mut described = BTreeSet::new();
        for file in set.file.iter().filter(|file| file.package() == "doorward.subsystem.v1") {
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
}
