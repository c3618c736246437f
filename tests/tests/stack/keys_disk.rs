//! Registered keys while certd's disk is full, seen by clients of the gateway.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use doorward_tests::keys::Quick;
use doorward_tests::{Client, Options, Pam, Program, Received, Role, Stack, skip};

use crate::support::{listed, log_in_with, register, revoke};

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

    /// Takes what is left.
    fn fill(&self) {
        let mut file = fs::File::create(self.0.join("filler")).expect("room for a name");
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
    let (first, second) = (Quick::generate(), Quick::generate());
    register(&mut owner, &first, "").await.expect("bob's key");
    let before = listed(&mut owner).await;

    disk.fill();
    // One failure opens the files anew, which may write the log back and so make room once more.
    let mut refused = Vec::new();
    while refused.len() < 3 {
        match register(&mut owner, &second, "").await {
            Ok(()) => {
                revoke(&mut owner, &second).await.ok();
                disk.fill();
            }
            Err(code) => refused.push(code),
        }
    }
    assert_eq!(refused, [503; 3]);
    assert_eq!(listed(&mut owner).await, before);
    let mut by_key = Client::tls(&stack).await;
    log_in_with(&mut by_key, &first).await.expect("a full disk locks nobody out");
    assert_eq!(revoke(&mut owner, &first).await, Err(503), "what is not on disk is not acknowledged");
    assert!(by_key.logged_in().await);

    disk.empty();
    register(&mut owner, &second, "").await.expect("healed without a restart");
    revoke(&mut owner, &first).await.expect("healed without a restart");
    let Received::Json(event) = by_key.receive().await else { panic!("no event") };
    assert_eq!(event["args"]["reason"], "revoked", "{event}");
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
