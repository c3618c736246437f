//! `make install`: what lies where, with which modes, and what the units are worth.

#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use doorward_tests::{copy_program, skip};
use tempfile::TempDir;

/// A tree into which things are installed.
struct Tree {
    directory: TempDir,
    built: PathBuf,
}

const PROGRAMS: [&str; 7] = [
    "doorward",
    "doorward-authd",
    "doorward-certd",
    "doorward-gateway",
    "doorward-pam-guard",
    "doorward-pam-worker",
    "doorward-sysinfo",
];

impl Tree {
    /// What is installed are scripts: only names, modes and what surrounds the programs are looked at.
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let built = directory.path().join("built");
        fs::create_dir(&built).expect("a directory in ours");
        for program in PROGRAMS {
            script(&built.join(program), "[ \"$1\" != completion ] || echo \"for $2\"");
        }
        Self { directory, built }
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    fn make(&self, target: &str, variables: &[&str]) -> (bool, String) {
        let mut command = Command::new("make");
        command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        command.args(["-s", target]).arg(format!("BUILT={}", self.built.display())).args(variables);
        let output = command.env_remove("MAKEFLAGS").output().expect("make runs");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    /// As a package is built: below DESTDIR.
    fn package(&self, target: &str, variables: &[&str]) -> String {
        let destination = format!("DESTDIR={}", self.root().display());
        let mut all = vec![destination.as_str(), "PREFIX=/usr", "INIT=systemd", "PAM=debian"];
        all.extend(variables);
        let (done, said) = self.make(target, &all);
        assert!(done, "{said}");
        said
    }

    /// Every file with its mode; directories are judged on the way.
    fn files(&self) -> BTreeMap<String, u32> {
        let mut files = BTreeMap::new();
        let mut directories = vec![self.root()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(&directory).expect("a directory") {
                let path = entry.expect("an entry").path();
                let metadata = fs::symlink_metadata(&path).expect("there");
                let mode = metadata.mode() & 0o7777;
                let name = format!("/{}", path.strip_prefix(self.root()).expect("below").display());
                assert_eq!(metadata.uid(), rustix::process::geteuid().as_raw(), "{name}");
                if metadata.is_dir() {
                    assert_eq!(mode, 0o755, "{name}");
                    directories.push(path);
                } else {
                    assert!(metadata.is_file(), "{name} is no file");
                    files.insert(name, mode);
                }
            }
        }
        files
    }
}

fn script(path: &Path, lines: &str) {
    let draft = path.with_extension("draft");
    fs::write(&draft, format!("#!/bin/sh\n{lines}\n")).expect("a file in our directory");
    copy_program(&draft, path);
    fs::remove_file(&draft).expect("our file");
}

#[test]
fn a_step_that_fails_ends_the_installation_and_leaves_no_half_file() {
    let tree = Tree::new();
    let tools = tree.directory.path().join("tools");
    fs::create_dir(&tools).expect("a directory in ours");
    script(&tools.join("sed"), "echo half\nexit 1");
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").expect("a path"));
    let mut command = Command::new("make");
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    command.args(["-s", "install", "PREFIX=/usr", "INIT=systemd", "PAM=debian"]);
    command.arg(format!("BUILT={}", tree.built.display())).arg(format!("DESTDIR={}", tree.root().display()));
    let output = command.env_remove("MAKEFLAGS").env("PATH", path).output().expect("make runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("cannot make"), "{said}");
    for name in tree.files().into_keys() {
        assert!(!name.ends_with(".new"), "{name}");
        assert_ne!(
            fs::read(tree.root().join(name.trim_start_matches('/'))).expect("read"),
            b"half\n",
            "{name}"
        );
    }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn everything_is_where_a_packager_expects_it_with_the_modes_it_needs() {
    let tree = Tree::new();
    tree.package("install", &[]);
    let files = tree.files();
    for (name, mode) in [
        ("/usr/bin/doorward", 0o755),
        ("/usr/sbin/doorward-authd", 0o755),
        ("/usr/sbin/doorward-certd", 0o755),
        ("/usr/sbin/doorward-gateway", 0o755),
        ("/usr/sbin/doorward-sysinfo", 0o755),
        ("/usr/libexec/doorward/doorward-pam-guard", 0o755),
        ("/usr/libexec/doorward/doorward-pam-worker", 0o755),
        ("/usr/share/bash-completion/completions/doorward", 0o644),
        ("/usr/share/zsh/site-functions/_doorward", 0o644),
        ("/usr/share/fish/vendor_completions.d/doorward.fish", 0o644),
        ("/usr/share/man/man1/doorward.1", 0o644),
        ("/usr/share/man/man8/doorward-authd.8", 0o644),
        ("/usr/share/man/man8/doorward-certd.8", 0o644),
        ("/usr/share/man/man8/doorward-gateway.8", 0o644),
        ("/usr/share/man/man8/doorward-pam-guard.8", 0o644),
        ("/usr/share/man/man8/doorward-sysinfo.8", 0o644),
        ("/usr/share/doc/doorward/docs/subsystems.md", 0o644),
        ("/usr/share/doc/doorward/proto/doorward/subsystem/v1/subsystem.proto", 0o644),
        ("/usr/share/doc/doorward/proto/src/acl/cases.json", 0o644),
        ("/usr/share/doc/doorward/examples/subsystem-python/notes.py", 0o644),
        ("/usr/share/doc/doorward/examples/terminals-python/terminals.py", 0o644),
        ("/usr/share/doc/doorward/examples/terminals-python/assertion.py", 0o644),
        ("/usr/share/doc/doorward/examples/terminals/src/main.rs", 0o644),
        ("/usr/lib/systemd/system/doorward-sysinfo.socket", 0o644),
        ("/etc/doorward/sysinfo.toml", 0o644),
        ("/etc/doorward/subsystems.d/sysinfo.toml", 0o644),
        ("/usr/share/doc/doorward/packaging/README.md", 0o644),
        ("/usr/share/doc/doorward/examples/authd.toml", 0o644),
        ("/usr/lib/systemd/system/doorward.target", 0o644),
        ("/usr/lib/systemd/system/doorward-authd.service", 0o644),
        ("/usr/lib/systemd/system/doorward-pam@.service", 0o644),
        ("/usr/lib/systemd/system/doorward-certd-authd.socket", 0o644),
        ("/usr/lib/sysusers.d/doorward.conf", 0o644),
        ("/usr/lib/tmpfiles.d/doorward.conf", 0o644),
        ("/etc/doorward/authd.toml", 0o644),
        ("/etc/doorward/certd.toml", 0o644),
        ("/etc/doorward/gateway.toml", 0o644),
        ("/etc/pam.d/doorward", 0o644),
    ] {
        assert_eq!(files.get(name), Some(&mode), "{name}");
    }
    for (name, mode) in &files {
        let program = ["/usr/bin/", "/usr/sbin/", "/usr/libexec/"].iter().any(|dir| name.starts_with(dir));
        assert_eq!(*mode, if program { 0o755 } else { 0o644 }, "{name}");
        let text = text(&tree.root().join(&name[1..]));
        assert!(
            !text.contains("@sbindir@") && !text.contains(tree.directory.path().to_str().unwrap()),
            "{name}"
        );
    }
    let service = text(&tree.root().join("usr/lib/systemd/system/doorward-authd.service"));
    assert!(service.contains("ExecStart=/usr/sbin/doorward-authd --foreground --config-file /etc/doorward/"));
    let completion = tree.root().join("usr/share/zsh/site-functions/_doorward");
    assert_eq!(text(&completion), "for zsh\n");
}

#[test]
fn a_program_that_does_not_run_here_is_installed_without_completion() {
    let tree = Tree::new();
    fs::write(tree.built.join("doorward"), "\u{7f}ELF").expect("written");
    let said = tree.package("install", &[]);
    assert!(said.contains("left out") && said.contains("_doorward"), "{said}");
    let files = tree.files();
    assert!(files.contains_key("/usr/bin/doorward"));
    assert!(
        !files.keys().any(|name| name.contains("complet") || name.contains("site-functions")),
        "{files:?}"
    );
}

#[test]
fn configuration_that_is_there_is_never_touched() {
    let tree = Tree::new();
    tree.package("install", &[]);
    let config = tree.root().join("etc/doorward/authd.toml");
    let pam = tree.root().join("etc/pam.d/doorward");
    fs::write(&config, "# mine\n").expect("written");
    fs::remove_file(&pam).expect("removed");
    std::os::unix::fs::symlink("/nonexistent", &pam).expect("linked");
    fs::remove_file(tree.root().join("etc/doorward/certd.toml")).expect("removed");
    let said = tree.package("install", &[]);
    assert_eq!(text(&config), "# mine\n");
    assert!(fs::symlink_metadata(&pam).expect("there").is_symlink(), "also no link is followed");
    assert!(said.contains(&format!("kept {}", config.display())), "{said}");
    assert!(tree.root().join("etc/doorward/certd.toml").exists());

    let said = tree.package("uninstall", &[]);
    assert_eq!(text(&config), "# mine\n");
    assert!(said.contains(&format!("left {}", config.display())), "{said}");
    fs::remove_file(&pam).expect("removed");
    let mut left: Vec<String> = tree.files().into_keys().collect();
    left.retain(|name| name != "/etc/logrotate.d/doorward");
    let expected = ["authd", "certd", "channels", "gateway", "subsystems.d/sysinfo", "sysinfo"]
        .map(|name| format!("/etc/doorward/{name}.toml"));
    assert_eq!(left, expected);
}

#[test]
fn other_directories_reach_units_scripts_and_configuration() {
    let tree = Tree::new();
    let variables =
        ["PREFIX=/opt/dw", "SYSCONFDIR=/opt/etc", "RUNDIR=/var/run", "INIT=freebsd", "PAM=freebsd"];
    tree.package("install", &variables);
    let registered = text(&tree.root().join("opt/etc/doorward/subsystems.d/sysinfo.toml"));
    assert!(registered.contains("socket = \"/var/run/doorward/sysinfo/sysinfo.sock\""), "{registered}");
    let script = text(&tree.root().join("opt/dw/etc/rc.d/doorward_authd"));
    assert!(script.contains("service=\"/opt/dw/sbin/doorward-authd\""), "{script}");
    assert!(script.contains("/opt/etc/doorward/authd.toml"), "{script}");
    let config: toml::Table = text(&tree.root().join("opt/etc/doorward/authd.toml")).parse().expect("TOML");
    assert_eq!(config["pam"]["socket"].as_str(), Some("/var/run/doorward/pam/pam.sock"));
    assert!(config.get("state_dir").is_none(), "what is as the daemon has it stays a comment");
    assert_eq!(config["subsystems"]["directory"].as_str(), Some("/opt/etc/doorward/subsystems.d"));
    let config: toml::Table = text(&tree.root().join("opt/etc/doorward/gateway.toml")).parse().expect("TOML");
    assert_eq!(config["subsystems"]["directory"].as_str(), Some("/opt/etc/doorward/subsystems.d"));
    assert_eq!(config["channels"]["file"].as_str(), Some("/opt/etc/doorward/channels.toml"));
    for file in tree.files().keys().filter(|name| name.contains("/rc.d/")) {
        let path = tree.root().join(&file[1..]);
        assert!(Command::new("sh").arg("-n").arg(&path).status().expect("sh runs").success(), "{file}");
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o755);
    }
}

/// What grows is rotated, whatever starts the services; FreeBSD has no logrotate.
#[test]
fn logs_and_audit_records_of_every_service_are_rotated() {
    for (init, there) in [("systemd", true), ("none", true), ("freebsd", false)] {
        let tree = Tree::new();
        tree.package("install", &[&format!("INIT={init}"), "LOCALSTATEDIR=/srv/var"]);
        let path = tree.root().join("etc/logrotate.d/doorward");
        assert_eq!(path.exists(), there, "{init}");
        for service in ["authd", "certd", "gateway", "sysinfo"].into_iter().filter(|_| there) {
            let text = text(&path);
            for start in [
                format!("\n/srv/var/log/doorward/{service}/*.log {{\n"),
                format!("\n/srv/var/lib/doorward/{service}/audit.jsonl {{\n"),
            ] {
                let (_, entry) = text.split_once(&start).unwrap_or_else(|| panic!("no {start:?}: {text}"));
                let (entry, _) = entry.split_once("\n}\n").expect("its end");
                assert!(entry.contains(&format!("su doorward-{service} doorward-{service}\n")), "{entry}");
            }
        }
    }
}

#[test]
fn what_cannot_be_installed_is_refused_with_a_sentence() {
    let tree = Tree::new();
    let destination = format!("DESTDIR={}", tree.root().display());
    for (variable, word) in [
        ("PREFIX=relative", "is not a plain absolute path"),
        ("PREFIX=/a b", "is not a plain absolute path"),
        ("SYSCONFDIR=/etc/../x", "is not a plain absolute path"),
        ("RUNDIR=/run,", "is not a plain absolute path"),
        ("INIT=upstart", "INIT"),
        ("PAM=windows", "PAM"),
        ("BUILT=/nonexistent", "run `make build` first"),
    ] {
        let (done, said) = tree.make("install", &[&destination, variable]);
        assert!(!done && said.contains(word), "{variable}: {said}");
    }
    assert!(!tree.root().exists());
}

#[test]
fn no_pam_file_opens_a_session_and_each_has_all_that_is_needed() {
    let directory = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/pam.d"));
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let text = text(&path);
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        for kind in ["auth", "account", "password"] {
            let has = |line: &&str| line.starts_with(kind) || *line == format!("@include common-{kind}");
            assert!(lines.iter().any(has), "{}: no {kind}", path.display());
        }
        assert!(!lines.iter().any(|line| line.contains("session")), "{}", path.display());
    }
}

// --- what systemd says of the units ---------------------------------------------------------------------

/// Units installed where their programs are, or nothing where there is no systemd-analyze.
fn units() -> Option<(Tree, PathBuf)> {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        skip::skipped("systemd-analyze is missing (package systemd)");
        return None;
    }
    let tree = Tree::new();
    let root = tree.root();
    let variables = ["PREFIX", "SYSCONFDIR"].map(|name| format!("{name}={}/{name}", root.display()));
    let variables = [variables[0].as_str(), &variables[1], "INIT=systemd", "PAM=none"];
    let (done, said) = tree.make("install", &variables);
    assert!(done, "{said}");
    let units = root.join("PREFIX/lib/systemd/system");
    Some((tree, units))
}

#[test]
fn systemd_has_nothing_to_say_about_the_units() {
    let Some((_tree, units)) = units() else { return };
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", "--man=no"]);
    let found = fs::read_dir(&units).expect("units").map(|entry| entry.expect("an entry").path());
    let output = command.args(found).output().expect("systemd-analyze runs");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

fn exposure(unit: &Path) -> f64 {
    let mut command = Command::new("systemd-analyze");
    let output = command.args(["security", "--offline=true"]).arg(unit).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let last = said.lines().rfind(|line| line.contains("Overall exposure level")).expect("a verdict");
    let word = last.split(": ").nth(1).expect("a figure").split(' ').next().expect("a figure");
    word.parse().unwrap_or_else(|_| panic!("{last}"))
}

#[test]
fn the_units_are_as_closed_as_promised() {
    let Some((_tree, units)) = units() else { return };
    for (unit, most) in [
        ("doorward-authd.service", 0.6),
        ("doorward-certd.service", 0.6),
        ("doorward-gateway.service", 1.5),
        // It tells of the host's processes and interfaces.
        ("doorward-sysinfo.service", 1.5),
        ("doorward-pam@.service", 2.8),
    ] {
        let level = exposure(&units.join(unit));
        assert!(level <= most, "{unit}: {level}, at most {most}");
    }
}

#[test]
fn no_unit_lacks_what_each_must_have_or_has_what_none_may() {
    let directory = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../systemd"));
    for entry in fs::read_dir(directory).expect("units") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = text(&path);
        let setting = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
        if name.ends_with(".service") {
            for (key, value) in [("NoNewPrivileges=", "yes"), ("ProtectSystem=", "strict")] {
                assert_eq!(setting(key), Some(value), "{name}: {key}");
            }
            assert!(setting("SystemCallFilter=").is_some(), "{name}");
            let capabilities = setting("CapabilityBoundingSet=").expect("a bounding set");
            assert_eq!(capabilities.is_empty(), !name.starts_with("doorward-pam@"), "{name}: {capabilities}");
        }
        if name.ends_with(".socket") {
            assert_eq!(setting("TriggerLimitIntervalSec="), Some("0"), "{name}");
            assert!(setting("SocketMode=").is_some() && setting("SocketUser=").is_some(), "{name}");
        }
        // It turns every peer into uid 65534.
        assert_eq!(setting("PrivateUsers="), None, "{name}");
    }
}
