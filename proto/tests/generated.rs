//! The committed code is what the `.proto` files say. `UPDATE_PROTO=1` writes it anew.

use std::{fs, path::Path};

use prost::Message as _;

const FILES: [&str; 6] = [
    "doorward/authd/v1/authd.proto",
    "doorward/authenticator/v1/authenticator.proto",
    "doorward/certd/v1/certd.proto",
    "doorward/channel/v1/channel.proto",
    "doorward/pam/v1/pam.proto",
    "doorward/subsystem/v1/subsystem.proto",
];

#[test]
fn generated_code_is_current() {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let descriptors = protox::compile(FILES, [crate_dir]).expect("the .proto files compile");
    let fresh = tempfile::tempdir().expect("a temporary directory");
    fs::write(fresh.path().join("descriptors.bin"), descriptors.encode_to_vec())
        .expect("the temporary directory is writable");
    let mut prost = tonic_prost_build::Config::new();
    prost.skip_debug(REDACTED.map(|name| format!(".doorward.{name}")));
    fs::write(fresh.path().join("redacted.rs"), redacted()).expect("the temporary directory is writable");
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

/// Messages that carry secrets: Debug shows their name and nothing else.
const REDACTED: [&str; 31] = [
    "authd.v1.Activity",
    "authd.v1.ActivityReport",
    "authd.v1.AssertRequest",
    "authd.v1.Assertion",
    "authd.v1.CertificateProof",
    "authd.v1.ChallengeReply",
    "authd.v1.CheckRequest",
    "authd.v1.EndOtherRequest",
    "authd.v1.EndRequest",
    "authd.v1.Granted",
    "authd.v1.Jwt",
    "authd.v1.ListRequest",
    "authd.v1.LocalPeer",
    "authd.v1.LogsRequest",
    "authd.v1.Model",
    "authd.v1.Password",
    "authd.v1.PeerAnswer",
    "authd.v1.PeerAnswer.kind",
    "authd.v1.RespondRequest",
    "authd.v1.Token",
    "authenticator.v1.AuthenticateRequest",
    "certd.v1.ChallengeReply",
    "certd.v1.ListRequest",
    "certd.v1.LogsRequest",
    "certd.v1.RegisterChallengeRequest",
    "certd.v1.RegisterRequest",
    "certd.v1.RevokeRequest",
    "certd.v1.VerifyRequest",
    "channel.v1.Asked",
    "pam.v1.Answers",
    "subsystem.v1.CallRequest",
];

/// `redacted!` with the Rust path of each of them.
fn redacted() -> String {
    let mut code = String::from("redacted!(\n");
    for name in REDACTED {
        let path = match name {
            "authd.v1.PeerAnswer.kind" => "authd::v1::peer_answer::Kind".to_owned(),
            _ => name.replace('.', "::"),
        };
        code.push_str(&format!("    crate::{path},\n"));
    }
    code + ");\n"
}
