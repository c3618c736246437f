//! The PAM stack of the tests: its service file, the test module, and how libpam finds them without root.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cast::{Behaviour, Cast};

/// libnss-wrapper, and the modules of libpam-wrapper.
///
/// Its library itself is not used here: each process that loads it picks a directory below /tmp, and
/// two that start at once pick the same and one of them dies. `confdir.c` does the same without one.
#[derive(Debug)]
pub(crate) struct Wrapper {
    pub(crate) nss: PathBuf,
    matrix: PathBuf,
}

impl Wrapper {
    /// Where the packages put them; `None`: not installed.
    pub(crate) fn find() -> Option<Self> {
        let arch = std::env::consts::ARCH;
        let dirs = [format!("/usr/lib/{arch}-linux-gnu"), "/usr/lib64".into(), "/usr/lib".into()];
        dirs.iter().map(Path::new).find_map(|dir| {
            let found =
                Self { nss: dir.join("libnss_wrapper.so"), matrix: dir.join("pam_wrapper/pam_matrix.so") };
            (found.nss.is_file() && found.matrix.is_file()).then_some(found)
        })
    }

    /// The last lines of the service: everybody whom no test module answers for.
    pub(crate) fn rest(&self, passdb: &Path) -> String {
        let line = format!("required {} passdb={}", self.matrix.display(), passdb.display());
        format!("auth {line}\naccount {line}\npassword {line}\n")
    }
}

/// The same with the system's own modules. Without pam_unix's two seconds after each wrong password: authd
/// has its own, and makes every refusal as slow as the slowest.
pub(crate) const UNIX: &str = "auth required pam_unix.so nodelay\naccount required pam_unix.so\npassword required pam_unix.so yescrypt\n";

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
    compile("pam-modules/pam_doorward_test", dir)
}

/// Compiles what makes libpam read its service files from `PAM_WRAPPER_SERVICE_DIR`.
pub(crate) fn compile_confdir(dir: &Path) -> PathBuf {
    compile("pam-modules/confdir", dir)
}

/// Compiles what gives a program another time of day.
pub(crate) fn compile_wallclock(dir: &Path) -> PathBuf {
    compile("preload/wallclock", dir)
}

fn compile(name: &str, dir: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("{name}.c"));
    let module = dir.join(source.file_name().expect("a file")).with_extension("so");
    let mut cc = Command::new("cc");
    let output = cc.args(["-shared", "-fPIC", "-o"]).arg(&module).arg(source).arg("-lpam").output();
    let output = output.expect("cc runs (package gcc)");
    assert!(
        output.status.success(),
        "{name}.c does not compile (package libpam0g-dev?):\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    module
}
