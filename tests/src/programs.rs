//! The programs under test: built once for each run of the tests, found where cargo puts them.

use std::env;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::stack::Program;

/// Where the programs are.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) authd: PathBuf,
    pub(crate) certd: PathBuf,
    pub(crate) gateway: PathBuf,
    pub(crate) guard: PathBuf,
    pub(crate) worker: PathBuf,
    /// Guard and worker for libpam-wrapper (their feature `pam-wrapper`).
    pub(crate) wrapped_guard: PathBuf,
    pub(crate) wrapped_worker: PathBuf,
    pub(crate) sysinfo: PathBuf,
    pub(crate) fake: PathBuf,
    pub(crate) terminals: PathBuf,
    pub(crate) terminals_channels: PathBuf,
    /// The command.
    pub(crate) doorward: PathBuf,
    /// Connects to a socket under its uid and hands the connection over.
    pub(crate) connect_as: PathBuf,
}

/// The directory that holds this run's build output, and the profile's name.
///
/// # Panics
/// When the test binary does not lie where cargo puts test binaries.
pub fn cargo_target() -> (PathBuf, String) {
    let exe = env::current_exe().expect("the test binary has a path");
    // <target>/<profile>/deps/<binary>
    let profile = exe.parent().and_then(Path::parent).expect("a test binary lies in <profile>/deps");
    let name = profile.file_name().expect("a profile has a name").to_string_lossy().into_owned();
    (profile.parent().expect("a target directory").to_path_buf(), name)
}

/// The `doorward` command, beside the services that it finds there.
///
/// # Panics
/// When it cannot be built.
pub fn doorward() -> &'static Path {
    &programs().doorward
}

/// The program of a service, to be started by hand.
///
/// # Panics
/// When it cannot be built.
pub fn program(program: Program) -> &'static Path {
    match program {
        Program::Guard => &programs().guard,
        Program::Certd => &programs().certd,
        Program::Authd => &programs().authd,
        Program::Gateway => &programs().gateway,
    }
}

/// The programs; builds them at the first call, once even if that fails.
pub(crate) fn programs() -> &'static Programs {
    static PROGRAMS: OnceLock<Result<Programs, String>> = OnceLock::new();
    PROGRAMS.get_or_init(find_or_build).as_ref().unwrap_or_else(|e| panic!("{e}"))
}

fn find_or_build() -> Result<Programs, String> {
    if let Some(dir) = env::var_os("DOORWARD_BIN_DIR") {
        let plain = PathBuf::from(dir);
        // Whoever brings programs along may have none for libpam-wrapper, and misses them when one is started.
        return found(&plain, &plain.join("pam-wrapper"));
    }
    let (target, profile) = cargo_target();
    // As they are installed, and as `make test` has built them already: with all features that any has.
    build(&target, &profile, &[], None)?;
    let of_root = ["doorward-pam-guard", "doorward-pam-worker"];
    let wrapped = target.join("pam-wrapper");
    let features = "doorward-pam-guard/pam-wrapper,doorward-pam-worker/pam-wrapper";
    build(&wrapped, &profile, &of_root, Some(features))?;
    let built = target.join(&profile);
    let wrapped = wrapped.join(&profile);
    present(&wrapped.join("doorward-pam-guard"))?;
    present(&wrapped.join("doorward-pam-worker"))?;
    found(&built, &wrapped)
}

fn found(plain: &Path, wrapped: &Path) -> Result<Programs, String> {
    let at = |name: &str| present(&plain.join(name));
    Ok(Programs {
        authd: at("doorward-authd")?,
        certd: at("doorward-certd")?,
        gateway: at("doorward-gateway")?,
        guard: at("doorward-pam-guard")?,
        worker: at("doorward-pam-worker")?,
        wrapped_guard: wrapped.join("doorward-pam-guard"),
        wrapped_worker: wrapped.join("doorward-pam-worker"),
        sysinfo: at("doorward-sysinfo")?,
        fake: at("doorward-fake-subsystem")?,
        // Examples: whoever brings programs along may have none.
        terminals: plain.join("doorward-terminals"),
        terminals_channels: plain.join("doorward-terminals-channels"),
        doorward: at("doorward")?,
        connect_as: at("connect-as")?,
    })
}

fn present(path: &Path) -> Result<PathBuf, String> {
    if path.is_file() { Ok(path.to_owned()) } else { Err(format!("{} is missing", path.display())) }
}

/// Builds the programs of these packages, or of all.
fn build(target: &Path, profile: &str, packages: &[&str], features: Option<&str>) -> Result<(), String> {
    // The cargo that runs the tests, when there is one.
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    // All targets, because what only tests depend on changes the features of the rest: with programs alone every
    // crate would be compiled once more than `cargo test` does.
    command.args(["build", "--locked", "--quiet", "--all-targets"]).arg("--target-dir").arg(target);
    if profile != "debug" {
        command.args(["--profile", profile]);
    }
    match packages {
        [] => _ = command.arg("--workspace"),
        some => _ = command.args(some.iter().flat_map(|package| ["-p", package])),
    }
    if let Some(features) = features {
        command.args(["--features", features]);
    }
    let output = command.output().map_err(|e| format!("cargo: {e}"))?;
    if !output.status.success() {
        return Err(format!("cargo build of {packages:?}:\n{}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(())
}

/// A path under which any uid can execute a program: its own, or a copy in `dir`.
pub(crate) fn for_any_uid(program: &Path, dir: &Path) -> PathBuf {
    let open = program.ancestors().all(|part| {
        std::fs::metadata(part).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0)
            || part.as_os_str().is_empty()
    });
    if open {
        return program.to_path_buf();
    }
    let copy = dir.join(program.file_name().expect("a program has a name"));
    if !copy.exists() {
        copy_program(program, &copy);
    }
    copy
}

/// A copy that can be run. Made by another process: what is open for writing here is also open in what another
/// test has just forked, and execve(2) refuses it then (ETXTBSY).
pub fn copy_program(program: &Path, copy: &Path) {
    let status = Command::new("install").args(["-m", "755"]).args([program, copy]).status();
    assert!(status.expect("install runs").success(), "{} to {}", program.display(), copy.display());
}
