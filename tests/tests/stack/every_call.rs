//! A fault at every single system call that authd and certd make about their state: what was acknowledged stays, what was
//! not is told as an error, and the next try succeeds without a restart. And at every call by which authd asks the user
//! database: nobody comes in or has more by it, and no session ends.
//!
//! Which calls there are is looked up first; one that the table of faults does not have fails the test.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use doorward_tests::client::{PATIENCE, token_of};
use doorward_tests::keys::Quick;
use doorward_tests::strace::{Calls, Fault, Strace};
use doorward_tests::{Client, Program, Role, secrets, skip, wal};
use serde_json::json;

use crate::bed::Bed;
use crate::support::{log_in_with, register, revoke};

/// What each call may fail with; the first in any case, the others in the long form.
const FAULTS: &[(&str, &[&str])] = &[
    ("openat", &["EMFILE", "EACCES", "EROFS", "EIO"]),
    ("pread64", &["EIO"]),
    ("read", &["EIO"]),
    ("pwrite64", &["ENOSPC", "EIO", "EROFS"]),
    ("write", &["ENOSPC", "EIO"]),
    ("fdatasync", &["EIO", "ENOSPC"]),
    ("fsync", &["EIO", "ENOSPC"]),
    ("ftruncate", &["ENOSPC", "EIO"]),
    ("fallocate", &["ENOSPC"]),
    ("newfstatat", &["EIO"]),
    ("fstat", &["EIO"]),
    ("stat", &["EIO"]),
    ("lstat", &["EIO"]),
    ("statx", &["EIO"]),
    ("access", &["EIO"]),
    ("readlink", &["EIO"]),
    ("lseek", &["EIO"]),
    ("unlink", &["EROFS"]),
    ("mmap", &["ENOMEM"]),
    ("mremap", &["ENOMEM"]),
    ("fchmod", &["EROFS"]),
    ("fchown", &["EROFS"]),
    ("faccessat", &["EIO"]),
    ("faccessat2", &["EIO"]),
    ("readlinkat", &["EIO"]),
    ("unlinkat", &["EROFS"]),
];

/// Calls that cannot fail on a descriptor or an address that is good, and on a local file system (locks).
const SURE: [&str; 4] = ["close", "munmap", "fadvise64", "fcntl"];

/// Nothing else is ever told of a fault of the machine.
fn clear(code: u64, what: &str, fault: Option<Fault>) {
    assert!(matches!(code, 500 | 503), "{what} is answered {code} for {fault:?}");
}

/// What the calls are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    Sessions,
    Keys,
    Users,
}

impl About {
    fn program(self) -> Program {
        if self == Self::Keys { Program::Certd } else { Program::Authd }
    }

    fn files(self, bed: &Bed) -> Vec<PathBuf> {
        match self {
            Self::Sessions => state(&bed.stack.path("state/authd")),
            Self::Keys => state(&bed.stack.path("state/certd")),
            Self::Users => {
                ["passwd", "group", "nsswitch.conf", "shells"].map(|name| Path::new("/etc").join(name)).into()
            }
        }
    }

    async fn at_work(self, bed: &mut Bed, fault: Option<Fault>) -> Calls {
        let strace = Watched {
            pid: bed.stack.pid(self.program()),
            about: self.files(bed),
            file: bed.stack.path("log/strace"),
        };
        match self {
            Self::Sessions => sessions_at_work(bed, fault, strace).await,
            Self::Keys => keys_at_work(bed, fault, strace).await,
            Self::Users => users_are_looked_up(bed, fault, strace).await,
        }
    }
}

/// Whom strace will watch.
struct Watched {
    pid: u32,
    about: Vec<PathBuf>,
    file: PathBuf,
}

impl Watched {
    fn attach(&self, fault: Option<Fault>) -> Strace {
        Strace::attach(self.pid, &self.about, fault, &self.file)
    }
}

/// The files of a service's state, also those that come and go.
fn state(directory: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(directory).expect("its state").map(|entry| entry.expect("a name").path());
    let mut all: Vec<PathBuf> = files.collect();
    for path in all.clone() {
        if path.extension().is_some_and(|end| end == "sqlite") {
            all.extend(
                ["-wal", "-shm", "-journal"].map(|end| PathBuf::from(format!("{}{end}", path.display()))),
            );
        }
    }
    all.push(directory.to_owned());
    all.sort();
    all.dedup();
    all
}

/// What a service does while one of its calls fails, with what it said to it.
#[derive(Default)]
struct Said {
    lives: Vec<String>,
    ended: Vec<(String, Result<(), u64>)>,
    registered: Vec<Arc<Quick>>,
    revoked: Vec<(Arc<Quick>, Result<(), u64>)>,
}

impl Said {
    /// What was acknowledged must be so from now on.
    async fn hold(self, bed: &mut Bed, fault: Option<Fault>) {
        for (token, said) in self.ended {
            match said {
                Ok(()) => bed.has_ended(&token),
                Err(code) => {
                    clear(code, "the end of a session", fault);
                    bed.may_have_ended(&token);
                }
            }
        }
        for key in self.registered {
            bed.is_registered(key);
        }
        for (key, said) in self.revoked {
            // Where it was refused the key is as good as it was.
            match said {
                Ok(()) => bed.is_revoked(&key),
                Err(code) => clear(code, "a revocation", fault),
            }
        }
        for token in self.lives {
            bed.lives(&token).await;
        }
    }
}

/// A login, the end of a session, a guess: all that authd writes at once or within half a second.
async fn sessions_at_work(bed: &mut Bed, fault: Option<Fault>, watched: Watched) -> Calls {
    let (mut leaving, token) = bed.enter(Role::Limited).await;
    let person = bed.stack.person(Role::Full).clone();
    let mut coming = Client::unix_as(&bed.stack, person.uid).await;
    let mut guesser = bed.stranger().await;
    let strace = watched.attach(fault);
    let mut said = Said::default();
    match coming.ask("rpc/auth", json!({})).await {
        Ok(args) => said.lives.push(token_of(&args)),
        Err(code) => clear(code, "a login", fault),
    }
    let end = leaving.ask("rpc/auth_clear", json!({"reply": true})).await;
    said.ended.push((token, end.map(drop)));
    let guess = json!({
        "username": bed.stack.person(Role::Code).name, "password": secrets::register("not the password")
    });
    let refused = guesser.ask("rpc/auth", guess).await.expect_err("a wrong password");
    assert!(matches!(refused, 401 | 500 | 503), "{refused}");
    // It is written later, and again where it could not be.
    let (database, source) = (bed.stack.path("state/authd/penalties.sqlite"), bed.source());
    let deadline = Instant::now() + PATIENCE;
    let written = async |or: &dyn Fn() -> bool| {
        while !or() && !wal::database_has(&database, &source) {
            assert!(Instant::now() < deadline, "a penalty that is never written");
            tokio::task::yield_now().await;
        }
    };
    written(&|| strace.struck()).await;
    let calls = strace.detach();
    if refused == 401 {
        written(&|| false).await;
    }
    said.hold(bed, fault).await;
    calls
}

/// A registration, a login by key, a revocation.
async fn keys_at_work(bed: &mut Bed, fault: Option<Fault>, watched: Watched) -> Calls {
    let (mut client, _) = bed.enter(Role::Limited).await;
    let (known, new) = (bed.key(&mut client).await, Arc::new(Quick::generate()));
    let mut coming = bed.stranger().await;
    let strace = watched.attach(fault);
    let mut said = Said::default();
    let registered = register(&mut client, &new, "").await;
    let opened = log_in_with(&mut coming, &known).await;
    let revoked = revoke(&mut client, &known).await;
    if let Err(code) = &opened {
        clear(*code, "a login by key", fault);
    }
    if let Ok(token) = opened {
        // It ends with the key, or by itself.
        if revoked.is_err() {
            coming.ask("rpc/auth_clear", json!({"reply": true})).await.expect("its end");
        }
        said.ended.push((token, Ok(())));
    }
    said.revoked.push((known, revoked));
    let calls = strace.detach();
    let there = crate::support::listed(&mut client).await.contains_key(&new.packed());
    match registered {
        Ok(()) => said.registered.push(new),
        Err(code) => {
            clear(code, "a registration", fault);
            // Not now, nor after a restart.
            bed.is_revoked(&new);
            assert!(!there, "registered although it was refused: {fault:?}");
        }
    }
    client.close().await;
    said.hold(bed, fault).await;
    calls
}

/// Somebody who may come in, and somebody in no access group.
async fn users_are_looked_up(bed: &mut Bed, fault: Option<Fault>, watched: Watched) -> Calls {
    let uid = |role| bed.stack.person(role).uid;
    let mut bob = Client::unix_as(&bed.stack, uid(Role::Limited)).await;
    let mut carol = Client::unix_as(&bed.stack, uid(Role::Nobody)).await;
    let strace = watched.attach(fault);
    // Without a group that a look has lost he may not come in: a refusal, and never more than he has.
    let come = bob.ask("rpc/auth", json!({})).await;
    let code = carol.ask("rpc/auth", json!({})).await.expect_err("somebody in no access group");
    let list = bob.ask("rpc/sessions", json!({"action": "list"})).await;
    let calls = strace.detach();
    for code in [Some(code), come.as_ref().err().copied(), list.as_ref().err().copied()].into_iter().flatten()
    {
        assert!(matches!(code, 401 | 500 | 503), "{code} for {fault:?}");
    }
    // Full access sees everybody's.
    let bobs = bed.stack.person(Role::Limited).name.clone();
    for session in list.iter().flat_map(|list| list.as_array().expect("a list")) {
        assert_eq!(session["user"], json!(bobs), "{fault:?}");
    }
    if let Ok(args) = come {
        bed.lives(&token_of(&args)).await;
    }
    for client in [bob, carol] {
        client.close().await;
    }
    calls
}

async fn a_fault_at_every_call(about: About) {
    if !skip::root("strace on a service") {
        return;
    }
    if !Path::new("/usr/bin/strace").exists() {
        return skip::skipped("strace is missing");
    }
    let Some(mut bed) = Bed::start().await else { return };
    let made = about.at_work(&mut bed, None).await.most;
    println!("{made:?}");
    let unknown: Vec<&String> = made
        .keys()
        .filter(|call| !FAULTS.iter().any(|(known, _)| known == call) && !SURE.contains(&call.as_str()))
        .collect();
    assert!(unknown.is_empty(), "calls for which no fault is known: {unknown:?}");
    let mut struck = 0;
    for (call, errors) in FAULTS {
        let most = made.get(*call).copied().unwrap_or_default();
        for error in errors.iter().take(if skip::long() { errors.len() } else { 1 }) {
            for nth in 1..=most {
                let fault = Fault { call, error, nth };
                bed.at(format!("{fault:?}"));
                let seen = about.at_work(&mut bed, Some(fault)).await;
                struck += usize::from(seen.struck > 0);
                bed.holds().await;
                if skip::long() {
                    bed.again(about.program()).await;
                    bed.holds().await;
                }
            }
        }
        if most > 0 {
            // And it is so on disk.
            bed.at(format!("{call}, and a restart"));
            bed.again(about.program()).await;
            bed.holds().await;
        }
    }
    println!("{struck} calls failed, each alone");
    assert!(struck >= 10, "{struck} faults of {made:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_at_every_call_of_authds_costs_an_error_and_nothing_else() {
    a_fault_at_every_call(About::Sessions).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_at_every_call_of_certds_costs_an_error_and_nothing_else() {
    a_fault_at_every_call(About::Keys).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_at_every_look_at_the_user_database_lets_nobody_in_and_ends_nothing() {
    a_fault_at_every_call(About::Users).await;
}
