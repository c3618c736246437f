//! The dependency fence: which crate may use which, in the workspace and beyond.
//!
//! What must be absent is the point: the program that faces the network cannot link PAM, the session
//! store or the signing key's crate, and what runs as root links almost nothing.

use std::collections::BTreeSet;
use std::process::Command;

use crate::source::root;

/// Every crate of the workspace with the crates of the workspace that it may use.
const EDGES: &[(&str, &[&str])] = &[
    ("doorward", &["doorward-proto"]),
    // The last one in its tests alone, which ask the example.
    ("doorward-authd", &["doorward-launch", "doorward-peercred", "doorward-proto", "doorward-terminals"]),
    ("doorward-assertion", &["doorward-launch", "doorward-proto"]),
    ("doorward-bench", &["doorward-authd", "doorward-proto", "doorward-tests"]),
    ("doorward-certd", &["doorward-assertion", "doorward-launch", "doorward-proto"]),
    ("doorward-fake-subsystem", &["doorward-proto"]),
    // It reads what each of them reads.
    (
        "doorward-fuzz",
        &[
            "doorward-assertion",
            "doorward-authd",
            "doorward-certd",
            "doorward-gateway",
            "doorward-launch",
            "doorward-peercred",
            "doorward-proto",
        ],
    ),
    ("doorward-gateway", &["doorward-launch", "doorward-peercred", "doorward-proto"]),
    ("doorward-launch", &[]),
    ("doorward-pam-guard", &["doorward-peercred"]),
    ("doorward-pam-worker", &["doorward-proto", "pam-sys"]),
    ("doorward-peercred", &[]),
    ("doorward-proto", &[]),
    ("doorward-subsystem", &["doorward-assertion", "doorward-launch", "doorward-proto"]),
    ("doorward-sysinfo", &["doorward-subsystem"]),
    ("doorward-terminals", &["doorward-assertion", "doorward-launch", "doorward-proto"]),
    ("doorward-tests", &["doorward-proto"]),
    ("pam-sys", &[]),
];

/// Crates that must not be reachable from a program, however indirectly.
const ABSENT: &[(&str, &[&str])] = &[
    // It faces the network: no PAM, no store, no signing of assertions.
    (
        "doorward-gateway",
        &[
            "doorward-authd",
            "doorward-certd",
            "doorward-pam-guard",
            "doorward-pam-worker",
            "jsonwebtoken",
            "libsqlite3-sys",
            "pam-client",
            "pam-sys",
            "rusqlite",
        ],
    ),
    // It decides: no network protocol but gRPC on its sockets, and PAM only in another process.
    (
        "doorward-authd",
        &[
            "doorward-certd",
            "doorward-gateway",
            "pam-client",
            "pam-sys",
            "rustls",
            "tokio-rustls",
            "tokio-tungstenite",
        ],
    ),
    // It parses what strangers send as keys and certificates: no PAM, no network protocol but gRPC.
    (
        "doorward-certd",
        &["doorward-authd", "pam-client", "pam-sys", "rustls", "tokio-rustls", "tokio-tungstenite"],
    ),
    // It is root: no runtime, no RPC, no parser but prost's.
    (
        "doorward-pam-worker",
        &["clap", "hyper", "rusqlite", "rustls", "serde", "serde_json", "tokio", "toml", "tonic", "tracing"],
    ),
    // It answers what clients ask, and authors build on it: no network protocol but gRPC, no store, and nothing
    // that reads schemas from elsewhere.
    (
        "doorward-subsystem",
        &[
            "doorward-authd",
            "doorward-gateway",
            "libsqlite3-sys",
            "pam-client",
            "pam-sys",
            "reqwest",
            "rustls",
        ],
    ),
    ("doorward-sysinfo", &["pam-client", "pam-sys", "reqwest", "rustls", "rusqlite"]),
    // Of the services it knows the contracts alone.
    ("doorward", &["doorward-launch", "jsonwebtoken", "pam-client", "pam-sys", "rusqlite"]),
    ("doorward-launch", &["pam-client", "pam-sys", "rusqlite"]),
    ("doorward-peercred", &["tokio"]),
    ("doorward-proto", &["pam-client", "pam-sys", "rusqlite"]),
];

/// Everything that the guard is made of, build-time crates of `thiserror` and `nix` included.
const GUARD: &[&str] = &[
    "autocfg",
    "bitflags",
    "cfg-if",
    "cfg_aliases",
    "doorward-pam-guard",
    "doorward-peercred",
    "errno",
    "libc",
    "linux-raw-sys",
    "memoffset",
    "nix",
    "proc-macro2",
    "quote",
    "rustix",
    "signal-hook",
    "signal-hook-registry",
    "syn",
    "thiserror",
    "thiserror-impl",
    "unicode-ident",
];

const LINUX: &str = "x86_64-unknown-linux-gnu";
const FREEBSD: &str = "x86_64-unknown-freebsd";

fn cargo(arguments: &[&str]) -> String {
    let output =
        Command::new(env!("CARGO")).current_dir(root()).args(arguments).output().expect("cargo runs");
    assert!(
        output.status.success(),
        "cargo {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("cargo prints UTF-8")
}

/// What a crate alone is made of on a system, with only the features that it asks for itself.
fn made_of(package: &str, target: &str) -> BTreeSet<String> {
    let tree = cargo(&[
        "tree",
        "--locked",
        "--offline",
        "-e",
        "normal,build",
        "--prefix",
        "none",
        "--format",
        "{p}",
        "-p",
        package,
        "--target",
        target,
    ]);
    let names: BTreeSet<String> =
        tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
    assert!(names.contains(package), "cargo tree -p {package} does not name it:\n{tree}");
    names
}

#[test]
fn crates_of_the_workspace_use_each_other_as_the_architecture_says() {
    let text = cargo(&["metadata", "--locked", "--offline", "--no-deps", "--format-version", "1"]);
    let metadata: serde_json::Value = serde_json::from_str(&text).expect("cargo metadata prints JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let members: BTreeSet<&str> = packages.iter().filter_map(|p| p["name"].as_str()).collect();
    for package in packages {
        let name = package["name"].as_str().expect("a name");
        let (_, allowed) =
            EDGES.iter().find(|row| row.0 == name).unwrap_or_else(|| panic!("{name} has no row"));
        let dependencies = package["dependencies"].as_array().expect("dependencies");
        for used in dependencies.iter().filter_map(|d| d["name"].as_str()).filter(|n| members.contains(n)) {
            assert!(allowed.contains(&used), "{name} uses {used}; ARCHITECTURE.md does not say so");
        }
    }
    assert_eq!(members.len(), EDGES.len(), "a row for a crate that is not there");
}

#[test]
fn what_must_be_absent_is_absent() {
    for target in [LINUX, FREEBSD] {
        for (package, absent) in ABSENT {
            let parts = made_of(package, target);
            for name in *absent {
                assert!(!parts.contains(*name), "{package} reaches {name} on {target}");
            }
        }
    }
}

#[test]
fn the_guard_is_made_of_little() {
    for target in [LINUX, FREEBSD] {
        let allowed: BTreeSet<&str> = GUARD.iter().copied().collect();
        let parts = made_of("doorward-pam-guard", target);
        let extra: Vec<_> = parts.iter().filter(|name| !allowed.contains(name.as_str())).collect();
        assert!(extra.is_empty(), "doorward-pam-guard on {target} has grown by {extra:?}");
    }
}

#[test]
fn only_the_worker_reaches_pam() {
    // The bench is never installed; its floor for logins by password is PAM in a process of its own.
    let may = ["doorward-pam-worker", "doorward-bench", "pam-sys"];
    for (package, _) in EDGES.iter().filter(|(name, _)| !may.contains(name)) {
        let parts = made_of(package, LINUX);
        assert!(!parts.contains("pam-sys") && !parts.contains("pam-client"), "{package} reaches PAM");
    }
    assert!(made_of("doorward-pam-worker", LINUX).contains("pam-sys"));
}

#[test]
fn the_worker_takes_pam_sys_from_this_tree() {
    let tree = cargo(&["tree", "--locked", "--offline", "--prefix", "none", "-p", "doorward-pam-worker"]);
    let line = tree.lines().find(|line| line.starts_with("pam-sys ")).expect("pam-sys");
    assert!(line.contains("third_party"), "{line}");
}
