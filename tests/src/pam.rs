//! The PAM stack of the tests: its service file, the test module, libpam-wrapper.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cast::{Behaviour, Cast};

/// libpam-wrapper with its modules, and libnss-wrapper.
#[derive(Debug)]
pub(crate) struct Wrapper {
    pub(crate) pam: PathBuf,
    pub(crate) nss: PathBuf,
    matrix: PathBuf,
}

impl Wrapper {
    /// Where the packages put them; `None`: not installed.
    pub(crate) fn find() -> Option<Self> {
        let arch = std::env::consts::ARCH;
        let dirs = [format!("/usr/lib/{arch}-linux-gnu"), "/usr/lib64".into(), "/usr/lib".into()];
        dirs.iter().map(Path::new).find_map(|dir| {
            let found = Self {
                pam: dir.join("libpam_wrapper.so"),
                nss: dir.join("libnss_wrapper.so"),
                matrix: dir.join("pam_wrapper/pam_matrix.so"),
            };
            (found.pam.is_file() && found.nss.is_file() && found.matrix.is_file()).then_some(found)
        })
    }

    /// The last lines of the service: everybody whom no test module answers for.
    pub(crate) fn rest(&self, passdb: &Path) -> String {
        let line = format!("required {} passdb={}", self.matrix.display(), passdb.display());
        format!("auth {line}\naccount {line}\npassword {line}\n")
    }
}

/// The same with the system's own modules.
pub(crate) const UNIX: &str =
    "auth required pam_unix.so\naccount required pam_unix.so\npassword required pam_unix.so yescrypt\n";

/// The text of the service file.
pub(crate) fn service(cast: &Cast, module: &Path, rest: &str) -> String {
    let module = module.display();
    // A user's own line decides alone; for everybody else it answers PAM_IGNORE.
    let control = "[success=done new_authtok_reqd=done ignore=ignore default=die]";
    let mut text = String::new();
    for person in cast.people() {
        if let Behaviour::Module { auth, account } = &person.behaviour {
            text += &format!("auth {control} {module} {auth}\n");
            text += &format!("account {control} {module} {account}\n");
            text += &format!("password {control} {module} {account}\n");
        }
    }
    text + rest
}

/// pam_matrix's database: `user:password:service`.
pub(crate) fn passdb(cast: &Cast, service: &str) -> String {
    cast.people().map(|person| format!("{}:{}:{service}\n", person.name, person.password)).collect()
}

/// Compiles the test module into `dir`.
pub(crate) fn compile_module(dir: &Path) -> PathBuf {
    let module = dir.join("pam_doorward_test.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/pam-modules/pam_doorward_test.c");
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(&module)
        .args([source, "-lpam"])
        .output()
        .expect("cc runs (package gcc)");
    assert!(
        output.status.success(),
        "the test module does not compile (package libpam0g-dev?):\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    module
}

/// Removes what libpam-wrapper left in the temporary directory: a worker that was killed could not.
pub(crate) fn purge_wrapper_dirs(uid: u32, whole_uid_is_ours: bool) {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir("/tmp") else { return };
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let ours = name.len() == 5
            && name.starts_with("pam.")
            && fs::symlink_metadata(&path).is_ok_and(|m| m.is_dir() && m.uid() == uid);
        let alive = || {
            let pid = fs::read_to_string(path.join("pid")).unwrap_or_default();
            Path::new("/proc").join(pid.trim()).is_dir() && !pid.trim().is_empty()
        };
        if ours && (whole_uid_is_ours || !alive()) {
            let _ = fs::remove_dir_all(&path);
        }
    }
}
