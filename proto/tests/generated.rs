//! The committed code is what the `.proto` files say. `UPDATE_PROTO=1` writes it anew.

use std::{fs, path::Path};

use prost::Message as _;

const FILES: [&str; 3] =
    ["doorward/authd/v1/authd.proto", "doorward/certd/v1/certd.proto", "doorward/pam/v1/pam.proto"];

#[test]
fn generated_code_is_current() {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let descriptors = protox::compile(FILES, [crate_dir]).expect("the .proto files compile");
    let fresh = tempfile::tempdir().expect("a temporary directory");
    fs::write(fresh.path().join("descriptors.bin"), descriptors.encode_to_vec())
        .expect("the temporary directory is writable");
    let mut prost = tonic_prost_build::Config::new();
    // Passwords, answers and tokens pass through these: their Debug is written by hand in redact.rs.
    prost.skip_debug(REDACTED);
    tonic_prost_build::configure()
        .out_dir(fresh.path())
        .build_transport(false)
        .server_mod_attribute(".", "#[cfg(feature = \"grpc\")]")
        .client_mod_attribute(".", "#[cfg(feature = \"grpc\")]")
        .compile_fds_with_config(descriptors, prost)
        .expect("code is generated");

    let committed = crate_dir.join("src/generated");
    let update = std::env::var_os("UPDATE_PROTO").is_some();
    for entry in fs::read_dir(fresh.path()).expect("the temporary directory is readable") {
        let entry = entry.expect("a directory entry");
        let new = fs::read(entry.path()).expect("a generated file");
        let old = committed.join(entry.file_name());
        if update {
            fs::write(&old, &new).expect("src/generated is writable");
        }
        assert!(
            fs::read(&old).unwrap_or_default() == new,
            "{} is not what the .proto files say: run UPDATE_PROTO=1 cargo test -p doorward-proto",
            old.display()
        );
    }
}

/// Messages that carry secrets; the list in `src/redact.rs` is the same.
const REDACTED: [&str; 20] = [
    ".doorward.authd.v1.Activity",
    ".doorward.authd.v1.AssertRequest",
    ".doorward.authd.v1.Assertion",
    ".doorward.authd.v1.CheckRequest",
    ".doorward.authd.v1.EndRequest",
    ".doorward.authd.v1.Granted",
    ".doorward.authd.v1.LocalPeer",
    ".doorward.authd.v1.Password",
    ".doorward.authd.v1.PeerAnswer",
    ".doorward.authd.v1.PeerAnswer.kind",
    ".doorward.authd.v1.RespondRequest",
    ".doorward.authd.v1.Token",
    ".doorward.authd.v1.ActivityReport",
    ".doorward.certd.v1.ListRequest",
    ".doorward.certd.v1.RegisterChallengeRequest",
    ".doorward.certd.v1.ChallengeReply",
    ".doorward.certd.v1.RegisterRequest",
    ".doorward.certd.v1.RevokeRequest",
    ".doorward.certd.v1.VerifyRequest",
    ".doorward.pam.v1.Answers",
];
