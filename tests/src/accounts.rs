//! Accounts for the tests: real ones made with the system's tools, or passwd and group files.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{Gid, Group, Uid, User};

use crate::cast::{Cast, FULL, LIMITED, Role};

/// What every real account, group and PAM service of the tests begins with.
pub(crate) const PREFIX: &str = "dwt";

/// Real accounts and groups; removed when the last stack that uses them is dropped.
#[derive(Debug)]
pub(crate) struct Accounts {
    names: Vec<String>,
    groups: Vec<String>,
    /// One user of the account database at a time, of all test programs on this machine.
    _lock: Flock<File>,
}

/// The service file of one stack; removed when dropped.
#[derive(Debug)]
pub(crate) struct Service(PathBuf);

impl Service {
    pub(crate) fn create(service: &str, text: &str) -> Self {
        let made = Self(Path::new("/etc/pam.d").join(service));
        fs::write(&made.0, text).expect("/etc/pam.d can be written");
        made
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Accounts {
    /// Those of this process: made when no stack has them yet. Learns everybody's uid.
    pub(crate) fn share(cast: &mut Cast, prefix: &str) -> Arc<Self> {
        static SHARED: Mutex<Weak<Accounts>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let accounts = shared.upgrade().unwrap_or_else(|| Arc::new(Self::create(cast, prefix)));
        *shared = Arc::downgrade(&accounts);
        for person in cast.people_mut() {
            let user = User::from_name(&person.name).expect("the account database answers");
            person.uid = user.expect("the account was made").uid.as_raw();
        }
        accounts
    }

    fn create(cast: &Cast, prefix: &str) -> Self {
        let lock = lock();
        purge();
        let mut made = Self { names: Vec::new(), groups: Vec::new(), _lock: lock };
        for group in [FULL, LIMITED] {
            let group = format!("{prefix}{group}");
            run("groupadd", &["-r", &group], "");
            made.groups.push(group);
        }
        let mut passwords = String::new();
        for person in cast.people() {
            let mut arguments = vec!["-M", "-N", "-s", "/bin/sh", "-d", "/nonexistent"];
            let group = person.access.map(|access| format!("{prefix}{access}"));
            arguments.extend(group.iter().flat_map(|group| ["-G", group.as_str()]));
            arguments.push(&person.name);
            run("useradd", &arguments, "");
            made.names.push(person.name.clone());
            passwords += &format!("{}:{}\n", person.name, person.password);
        }
        run("chpasswd", &[], &passwords);
        run("usermod", &["--lock", &cast.person(Role::Locked).name], "");
        run("usermod", &["--expiredate", "1", &cast.person(Role::Lapsed).name], "");
        made
    }
}

impl Drop for Accounts {
    fn drop(&mut self) {
        for name in &self.names {
            remove("userdel", name);
        }
        for group in &self.groups {
            remove("groupdel", group);
        }
    }
}

/// The lock is the kernel's, so a crashed run gives it back.
fn lock() -> Flock<File> {
    let path = std::env::temp_dir().join("doorward-tests.lock");
    let file = File::options().create(true).append(true).open(&path).expect("a lock file");
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| e).expect("the lock")
}

/// Removes what runs that crashed left; safe, because the caller holds the lock.
fn purge() {
    let names = |file: &str| -> Vec<String> {
        let text = fs::read_to_string(file).unwrap_or_default();
        let names = text.lines().filter_map(|line| line.split(':').next());
        names.filter(|name| is_ours(name)).map(str::to_owned).collect()
    };
    for name in names("/etc/passwd") {
        remove("userdel", &name);
    }
    for name in names("/etc/group") {
        remove("groupdel", &name);
    }
    for entry in fs::read_dir("/etc/pam.d").into_iter().flatten().filter_map(Result::ok) {
        if entry.file_name().to_str().is_some_and(is_ours) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// `dwt` and a number, as only these tests name things.
fn is_ours(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

fn run(program: &str, arguments: &[&str], input: &str) {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("input is read");
    let output = child.wait_with_output().expect("a child of ours");
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn remove(program: &str, name: &str) {
    // Not there is as good as removed.
    let _ = Command::new(program).arg(name).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// The passwd and group files for libnss-wrapper, in `dir`. `own` is the services' uid.
pub(crate) fn write_files(cast: &Cast, prefix: &str, own: u32, dir: &Path) -> (PathBuf, PathBuf) {
    let (full, limited) = (70_001, 70_002);
    let mut passwd = format!(
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n\
         doorward-tests:x:{own}:{own}::/:/usr/sbin/nologin\n"
    );
    let members = |access: &str| -> String {
        let people = cast.people().filter(|person| person.access == Some(access));
        people.map(|person| person.name.as_str()).collect::<Vec<_>>().join(",")
    };
    let group = format!(
        "root:x:0:\ndoorward-tests:x:{own}:\n{prefix}{FULL}:x:{full}:{}\n{prefix}{LIMITED}:x:{limited}:{}\n",
        members(FULL),
        members(LIMITED)
    );
    for person in cast.people() {
        passwd += &format!("{}:x:{}:70000::/:/bin/sh\n", person.name, person.uid);
    }
    let paths = (dir.join("passwd"), dir.join("group"));
    fs::write(&paths.0, passwd).expect("a file in our directory");
    fs::write(&paths.1, group + "dwtusers:x:70000:\n").expect("a file in our directory");
    paths
}

/// Numbers that no account and no group has, `count` of them.
///
/// `salt` spreads those of tests that run at the same time.
pub(crate) fn unused_uids(count: usize, salt: u32) -> Vec<u32> {
    let free = |id: &u32| {
        let user = User::from_uid(Uid::from_raw(*id)).expect("the account database answers");
        let group = Group::from_gid(Gid::from_raw(*id)).expect("the group database answers");
        user.is_none() && group.is_none()
    };
    let start = 62_000 + (std::process::id().wrapping_mul(31).wrapping_add(salt.wrapping_mul(3))) % 2_000;
    (start..65_000).filter(free).take(count).collect()
}
