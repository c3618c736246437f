//! Registered keys while certd's disk is full, seen by clients of the gateway.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use doorward_tests::keys::Quick;
use doorward_tests::{Client, Options, Pam, Program, Received, Role, Stack, skip};

use crate::support::{listed, log_in_with, register, revoke};

/// More than the room that a failure can make is good for.
const KEYS: usize = 8;

/// A small file system of its own; unmounted when dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn at(path: &Path, owner: u32) -> Self {
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(path).status();
        assert!(mount.is_ok_and(|status| status.success()), "root may mount");
        chown(path, Some(owner), Some(owner)).expect("chown of our mount");
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).expect("chmod of our mount");
        Self(path.to_owned())
    }

    /// Takes what is left, beside what it took before.
    fn fill(&self) {
        let file = fs::OpenOptions::new().append(true).create(true).open(self.0.join("filler"));
        let mut file = file.expect("room for a name");
        while file.write_all(&[0; 4096]).is_ok() {}
    }

    fn empty(&self) {
        fs::remove_file(self.0.join("filler")).expect("the filler");
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

async fn assert_revoked(by_key: &mut Client) {
    let Received::Json(event) = by_key.receive().await else { panic!("no event") };
    assert_eq!(event["args"]["reason"], "revoked", "{event}");
}

async fn a_full_disk_changes_nothing(pam: Pam) {
    if !skip::root("mounting a disk to fill") {
        return;
    }
    let options = Options::new(pam).authd("pam.refusal_delay_ms", 1).certd("limits.refusal_step_ms", 1);
    let Some(mut stack) = Stack::start(&options) else { return };
    stack.kill(Program::Certd);
    let disk = Mounted::at(&stack.path("state/certd"), stack.certd_uid());
    stack.start_again(Program::Certd);
    let mut owner = Client::tls(&stack).await;
    owner.login(stack.person(Role::Limited)).await.expect("bob logs in");
    let mut live = Vec::new();
    for _ in 0..KEYS {
        live.push(Quick::generate());
        register(&mut owner, &live[live.len() - 1], "").await.expect("bob's key");
    }

    // A failure opens the files anew, which may write the log back and so make room for a change or two:
    // those are acknowledged and kept. Every refusal of a disk that stays full changes nothing.
    let mut refused = 0;
    while refused < 3 {
        disk.fill();
        let key = Quick::generate();
        match register(&mut owner, &key, "").await {
            Ok(()) => live.push(key),
            Err(code) => {
                assert_eq!(code, 503, "after {} keys", live.len());
                refused += 1;
            }
        }
    }
    let acknowledged: BTreeSet<_> = live.iter().map(Quick::packed).collect();
    assert_eq!(listed(&mut owner).await.into_keys().collect::<BTreeSet<_>>(), acknowledged);
    let (kept, mut by_key) = loop {
        let key = live.pop().expect("one of so many that is not revoked");
        disk.fill();
        let mut by_key = Client::tls(&stack).await;
        log_in_with(&mut by_key, &key).await.expect("a full disk locks nobody out");
        disk.fill();
        match revoke(&mut owner, &key).await {
            Ok(()) => assert_revoked(&mut by_key).await,
            Err(code) => {
                assert_eq!(code, 503, "with {} keys left", live.len());
                break (key, by_key);
            }
        }
    };
    assert!(by_key.logged_in().await, "what is not on disk has not happened");
    assert!(listed(&mut owner).await.contains_key(&kept.packed()));

    disk.empty();
    register(&mut owner, &Quick::generate(), "").await.expect("healed without a restart");
    revoke(&mut owner, &kept).await.expect("healed without a restart");
    assert_revoked(&mut by_key).await;
    owner.close().await;
    drop(disk);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_changes_nothing_under_libpam_wrapper() {
    a_full_disk_changes_nothing(Pam::Wrapper).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_changes_nothing_with_real_accounts() {
    a_full_disk_changes_nothing(Pam::Real).await;
}
