//! Faults of the machine under running services: no room on the disk, no descriptors, a disk that cannot
//! be written. What was acknowledged stays, the error is a clear one, and nothing needs a restart.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use doorward_tests::{Client, Options, Pam, Program, Role, Stack, skip};
use rustix::process::{Resource, getrlimit};
use serde_json::json;

/// A small disk in place of a directory.
struct Disk(PathBuf);

impl Disk {
    /// `None` where root may not mount (and that was said).
    fn mount(place: &Path, owner: u32, size: &str) -> Option<Self> {
        let options = format!("size={size},mode=0700,uid={owner},gid={owner}");
        let done = mount(&["-t", "tmpfs", "-o", &options, "doorward-test"], place);
        if !done {
            skip::skipped("root may not mount a tmpfs here");
        }
        done.then(|| Self(place.to_owned()))
    }

    fn remount(&self, option: &str) {
        assert!(mount(&["-o", &format!("remount,{option}")], &self.0), "{option}");
    }

    /// Fills it to the last byte; what it is filled with.
    fn fill(&self) -> PathBuf {
        let ballast = self.0.join("ballast");
        let mut file = fs::File::create(&ballast).expect("room for a name");
        let block = [0_u8; 4096];
        while std::io::Write::write(&mut file, &block).is_ok_and(|written| written > 0) {}
        ballast
    }
}

fn mount(arguments: &[&str], place: &Path) -> bool {
    let status = Command::new("mount").args(arguments).arg(place).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: authd may have it open still.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A session by its token, in a connection of its own.
async fn lives(stack: &Stack, token: &str) -> bool {
    let mut client = Client::unix(stack).await;
    let lives = client.ask("rpc/auth_token", json!({"token": token})).await.is_ok();
    client.close().await;
    lives
}

async fn login(stack: &Stack, role: Role) -> Result<String, u64> {
    let mut client = Client::unix(stack).await;
    let token = client.login(stack.person(role)).await;
    client.close().await;
    token
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_ends_no_session_and_needs_no_restart() {
    let Some(mut stack) = Stack::start(&Options::new(Pam::Real)) else { return };
    stack.stop(Program::Authd);
    let Some(disk) = Disk::mount(&stack.path("state/authd"), stack.authd_uid(), "512k") else {
        return stack.start_again(Program::Authd);
    };
    stack.start_again(Program::Authd);
    let before = login(&stack, Role::Full).await.expect("room for a session");

    let ballast = disk.fill();
    for _ in 0..3 {
        assert_eq!(login(&stack, Role::Limited).await, Err(503));
    }
    let line = stack.await_log(Program::Authd, &[" error ", "the session store failed", "full"]);
    assert!(!line.contains(&before), "{line}");
    assert!(lives(&stack, &before).await, "what was acknowledged stays");

    fs::remove_file(ballast).expect("ours");
    let after = login(&stack, Role::Limited).await.expect("there is room again");
    stack.stop(Program::Authd);
    stack.start_again(Program::Authd);
    for token in [&before, &after] {
        assert!(lives(&stack, token).await, "it was written");
    }
    stack.stop(Program::Authd);
    drop(disk);
    stack.start_again(Program::Authd);
}

/// Who wants to make room may have no other way in, and whose sessions live wants to go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_keeps_the_gateway_neither_from_starting_nor_from_a_reload() {
    let Some(mut stack) = Stack::start(&Options::new(Pam::Real)) else { return };
    let token = login(&stack, Role::Full).await.expect("a login");
    let (state, saved) = (stack.path("state/gateway"), stack.path("saved"));
    stack.stop(Program::Gateway);
    let copy = |from: &Path, to: &Path| {
        let status = Command::new("cp").args(["-rpT"]).args([from, to]).status();
        assert!(status.is_ok_and(|status| status.success()), "cp {}", from.display());
    };
    copy(&state, &saved);
    let Some(disk) = Disk::mount(&state, stack.gateway_uid(), "256k") else {
        return stack.start_again(Program::Gateway);
    };
    copy(&saved, &state);
    disk.fill();
    stack.start_again(Program::Gateway);
    assert!(lives(&stack, &token).await);
    let line = ["where the gateway listens and which key it shows is not written down", "o space left"];
    stack.await_log(Program::Gateway, &line);
    stack.reload(Program::Gateway);
    assert!(lives(&stack, &token).await);
    stack.stop(Program::Gateway);
    drop(disk);
    stack.start_again(Program::Gateway);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_cannot_be_written_stops_the_start_with_a_sentence() {
    let Some(mut stack) = Stack::start(&Options::new(Pam::Real)) else { return };
    stack.stop(Program::Authd);
    let Some(disk) = Disk::mount(&stack.path("state/authd"), stack.authd_uid(), "512k") else {
        return stack.start_again(Program::Authd);
    };
    stack.start_again(Program::Authd);
    let before = login(&stack, Role::Full).await.expect("a session");
    stack.stop(Program::Authd);

    disk.remount("ro");
    let config = stack.path("doorward-authd.toml");
    let output = Command::new(stack.program_file(Program::Authd))
        .args(["-f".as_ref(), "-c".as_ref(), config.as_os_str()])
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(" critical ") && said.contains("ead-only file system"), "{said}");
    assert!(said.contains(&*stack.path("state/authd").to_string_lossy()), "{said}");

    disk.remount("rw");
    stack.start_again(Program::Authd);
    assert!(lives(&stack, &before).await, "nothing was lost");
    stack.stop(Program::Authd);
    drop(disk);
    stack.start_again(Program::Authd);
}

/// Lets a program open nothing more, as long as this lives.
struct NoDescriptors {
    pid: u32,
    uid: u32,
}

impl NoDescriptors {
    fn of(pid: u32, uid: u32) -> Self {
        // 0, 1 and 2 are taken, and every other number is too large.
        set_descriptors(pid, uid, "3");
        Self { pid, uid }
    }
}

impl Drop for NoDescriptors {
    fn drop(&mut self) {
        // The services raise what they may to what they could.
        let most = getrlimit(Resource::Nofile).maximum;
        set_descriptors(self.pid, self.uid, &most.map_or("unlimited".to_owned(), |most| most.to_string()));
    }
}

/// As the same uid: root would need a capability that it lacks in a container.
fn set_descriptors(pid: u32, uid: u32, current: &str) {
    let mut command = Command::new("prlimit");
    command.arg(format!("--pid={pid}")).arg(format!("--nofile={current}:"));
    let status = command.uid(uid).gid(uid).status().expect("util-linux has it");
    assert!(status.success(), "prlimit: {status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authd_without_descriptors_refuses_logins_and_goes_on_when_it_has_some() {
    let Some(mut stack) = Stack::start(&Options::new(Pam::Real)) else { return };
    let mut client = Client::unix(&stack).await;
    let before = client.login(stack.person(Role::Full)).await.expect("a login");
    assert!(client.logged_in().await);
    let none = NoDescriptors::of(stack.pid(Program::Authd), stack.authd_uid());
    for _ in 0..3 {
        assert_eq!(login(&stack, Role::Limited).await, Err(503));
    }
    stack.await_log(Program::Authd, &["login failed", "oo many open files"]);
    // Whether the account still has its groups cannot be asked without a descriptor: a refusal, no end. Where the gateway
    // was about to connect, authd does not accept it.
    let refused = client.ask("rpc/query", json!({})).await;
    assert!(matches!(refused, Ok(_) | Err(503 | 408)), "{refused:?}");
    let lines = stack.log(Program::Authd).lines().count();
    assert!(lines < 500, "{lines} lines: it says the same over and over");
    drop(none);
    login(&stack, Role::Limited).await.expect("it has descriptors again");
    assert!(lives(&stack, &before).await);
    client.close().await;
    assert!(stack.runs());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_without_descriptors_keeps_its_clients_and_takes_new_ones_when_it_has_some() {
    let Some(mut stack) = Stack::start(&Options::new(Pam::Real)) else { return };
    let mut client = Client::unix(&stack).await;
    client.login(stack.person(Role::Full)).await.expect("a login");
    // A gateway that has just started connects for its first question.
    assert!(client.logged_in().await);
    let none = NoDescriptors::of(stack.pid(Program::Gateway), stack.gateway_uid());
    {
        let mut waiting = std::pin::pin!(Client::unix(&stack));
        let early = tokio::time::timeout(Duration::from_secs(1), &mut waiting).await;
        assert!(early.is_err(), "a connection without a descriptor");
        assert!(client.logged_in().await, "those that are there go on");
        drop(none);
        let mut late = waiting.await;
        late.login(stack.person(Role::Limited)).await.expect("taken when there are descriptors");
        late.close().await;
    }
    let lines = stack.log(Program::Gateway).lines().count();
    assert!(lines < 500, "{lines} lines: it says the same over and over");
    client.close().await;
    assert!(stack.runs());
}
