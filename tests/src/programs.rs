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
    let (target, profile) = cargo_target();
    let built = target.join(&profile);
    let (plain, wrapped) = match env::var_os("DOORWARD_BIN_DIR") {
        Some(dir) => (PathBuf::from(&dir), Path::new(&dir).join("pam-wrapper")),
        None => {
            // One call for each set of features: built together, the worker would get the gateway's.
            build(
                &target,
                &profile,
                &["doorward-authd", "doorward-certd", "doorward-gateway", "doorward"],
                None,
            )?;
            build(&target, &profile, &["doorward-pam-guard", "doorward-pam-worker"], None)?;
            let wrapped = target.join("pam-wrapper");
            let features = "doorward-pam-guard/pam-wrapper,doorward-pam-worker/pam-wrapper";
            build(&wrapped, &profile, &["doorward-pam-guard", "doorward-pam-worker"], Some(features))?;
            (built.clone(), wrapped.join(&profile))
        }
    };
    let found = Programs {
        authd: plain.join("doorward-authd"),
        certd: plain.join("doorward-certd"),
        gateway: plain.join("doorward-gateway"),
        guard: plain.join("doorward-pam-guard"),
        worker: plain.join("doorward-pam-worker"),
        wrapped_guard: wrapped.join("doorward-pam-guard"),
        wrapped_worker: wrapped.join("doorward-pam-worker"),
        doorward: plain.join("doorward"),
        connect_as: built.join("connect-as"),
    };
    let Programs {
        authd,
        certd,
        gateway,
        guard,
        worker,
        wrapped_guard,
        wrapped_worker,
        doorward,
        connect_as,
    } = &found;
    for path in [authd, certd, gateway, guard, worker, wrapped_guard, wrapped_worker, doorward, connect_as] {
        if !path.is_file() {
            return Err(format!("{} is missing", path.display()));
        }
    }
    Ok(found)
}

fn build(target: &Path, profile: &str, packages: &[&str], features: Option<&str>) -> Result<(), String> {
    // The cargo that runs the tests, when there is one.
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    command.args(["build", "--locked", "--quiet", "--bins"]).arg("--target-dir").arg(target);
    if profile != "debug" {
        command.args(["--profile", profile]);
    }
    for package in packages {
        command.args(["-p", package]);
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
        std::fs::copy(program, &copy)
            .unwrap_or_else(|e| panic!("copy {} to {}: {e}", program.display(), copy.display()));
    }
    copy
}
