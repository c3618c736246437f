//! A disk that is full, a file that may not grow, a file system that is read-only: a clear error, nothing
//! acknowledged lost, and healed without a restart.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use doorward_proto::certd::v1::{Entry, registry_client::RegistryClient, store_client::StoreClient};
use rustix::process::{Pid, Resource, Rlimit};
use tonic::Code;

use crate::{
    crash::{Certd, new_key},
    fixture::{Authd, Gateway, PATIENCE, claims, connect, registration, told},
    store::{not_root, open_registry},
};

/// A certd whose disk is about to fail, and somebody who registers keys.
struct Client<'a> {
    gateway: Gateway,
    authd: &'a Authd,
    acknowledged: Vec<Vec<u8>>,
}

impl<'a> Client<'a> {
    async fn new(directory: &Path, authd: &'a Authd) -> Self {
        let channel = connect(directory.join("certd.sock")).await.expect("connected");
        let gateway = Gateway { registry: RegistryClient::new(channel) };
        Self { gateway, authd, acknowledged: Vec::new() }
    }

    /// What authd says of alice; good for a minute.
    fn assertion(&self) -> String {
        self.authd.sign(&claims("alice"))
    }

    async fn register(&mut self) -> Result<(), (Code, String)> {
        let key = new_key();
        let mut request = registration(self.assertion(), key.clone());
        request.nickname = "n".repeat(128);
        let result = self.gateway.register(request).await;
        if result.is_ok() {
            self.acknowledged.push(key);
            return Ok(());
        }
        Err(told(result))
    }

    /// Registers until it fails ten times in a row: one failure opens the files anew, which may write the
    /// log back and so make room once more. What was said at last.
    async fn until_refused(&mut self) -> (Code, String) {
        let mut failures = 0;
        loop {
            assert!(self.acknowledged.len() < 900, "the disk never failed");
            match self.register().await {
                Ok(()) => failures = 0,
                Err(said) if failures == 9 => return said,
                Err(_) => failures += 1,
            }
        }
    }

    /// Every acknowledged key is listed, and no other.
    async fn state_is_intact(&mut self) {
        let entries = self.gateway.list(self.assertion()).await.expect("listed");
        let listed: Vec<_> = entries.into_iter().map(|entry| entry.key).collect();
        assert_eq!(listed, self.acknowledged);
    }
}

fn prepared(directory: &Path) -> Authd {
    let authd = Authd::new();
    std::fs::write(directory.join("assertion.pub"), &authd.pem).expect("written");
    authd
}

/// Certd writes 64 at a time; those before the failure stay.
#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_breaks_off_says_how_far_it_came() {
    if not_root("an_import_that_breaks_off_says_how_far_it_came") {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let authd = prepared(directory.path());
    let _certd = Certd::start(directory.path(), "trap '' XFSZ; ulimit -S -f 400; exec \"$@\"", &[]);
    let entry =
        |_| Entry { key: new_key(), user: "alice".into(), nickname: "n".repeat(128), ..Entry::default() };
    let entries: Vec<_> = (0..900).map(entry).collect();
    let channel = connect(directory.path().join("certd.sock")).await.expect("connected");
    let imported = StoreClient::new(channel).import(tokio_stream::iter(entries.clone())).await;
    let (code, sentence) = told(imported);
    let mut client = Client::new(directory.path(), &authd).await;
    let listed = client.gateway.list(client.assertion()).await.expect("listed");
    assert!(!listed.is_empty() && listed.len() < entries.len(), "{} are listed", listed.len());
    let expected = format!(
        "the registry's file cannot be used; {} entries were added before, 0 were known",
        listed.len()
    );
    assert_eq!((code, sentence), (Code::Unavailable, expected));
    client.acknowledged = entries.into_iter().take(listed.len()).map(|entry| entry.key).collect();
    client.state_is_intact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_may_not_grow_refuses_and_heals() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let authd = prepared(directory.path());
    let wrapper = "trap '' XFSZ; ulimit -S -f 400; exec \"$@\"";
    let certd = Certd::start(directory.path(), wrapper, &[]);
    let mut client = Client::new(directory.path(), &authd).await;
    let (code, sentence) = client.until_refused().await;
    assert_eq!(code, Code::Unavailable);
    assert!(sentence.contains("nothing was changed"), "{sentence}");
    client.state_is_intact().await;

    let pid = Pid::from_child(&certd.process);
    rustix::process::prlimit(Some(pid), Resource::Fsize, Rlimit { current: None, maximum: None })
        .expect("the limit is lifted");
    for _ in 0..50 {
        client.register().await.expect("healed without a restart");
    }
    client.state_is_intact().await;
}

/// A file system of its own; unmounted when dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn tmpfs(at: &Path, size: &str) -> Option<Self> {
        let options = format!("size={size},mode=0700");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).status();
        done.is_ok_and(|status| status.success()).then(|| Self(at.to_owned()))
    }

    /// Tries again while another test's fork() holds a file of it that is open for writing.
    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        let patience = Instant::now() + PATIENCE;
        loop {
            let done =
                Command::new("mount").args(["-o", &options]).arg(&self.0).output().expect("mount runs");
            if done.status.success() {
                return;
            }
            assert!(Instant::now() < patience, "{options}: {}", String::from_utf8_lossy(&done.stderr));
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A directory whose `state` is a tmpfs, or None, said loudly, where that cannot be had.
fn with_tmpfs(test: &str, size: &str) -> Option<(tempfile::TempDir, Mounted)> {
    if not_root(test) {
        return None;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let state = directory.path().join("state");
    std::fs::create_dir(&state).expect("made");
    let mounted = Mounted::tmpfs(&state, size);
    if mounted.is_none() {
        crate::store::skip(&format!("{test}: may not mount"));
    }
    Some((directory, mounted?))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_and_heals() {
    let Some((directory, mounted)) = with_tmpfs("a_full_disk_refuses_and_heals", "400k") else { return };
    let authd = prepared(directory.path());
    let certd = Certd::start(directory.path(), "exec \"$@\"", &[]);
    let mut client = Client::new(directory.path(), &authd).await;
    let (code, sentence) = client.until_refused().await;
    assert_eq!(
        (code, sentence.as_str()),
        (Code::Unavailable, "no space is left for the registry; nothing was changed")
    );
    client.state_is_intact().await;
    // Even a revocation, which needs room too, is refused rather than half done.
    let first = client.acknowledged[0].clone();
    let refused = client.gateway.revoke(client.assertion(), first, "").await;
    assert_eq!(told(refused).0, Code::Unavailable);
    client.state_is_intact().await;

    mounted.remount("size=8m");
    for _ in 0..50 {
        client.register().await.expect("healed without a restart");
    }
    client.state_is_intact().await;
    drop(certd);
    let registry = open_registry(&directory.path().join("state")).expect("loadable");
    let (page, _) = registry.export(0).await.expect("readable");
    assert!(!page.is_empty());
    tokio::task::spawn_blocking(move || registry.close()).await.expect("closed");
}

#[test]
fn a_read_only_file_system_is_named_at_the_start() {
    let Some((directory, mounted)) = with_tmpfs("a_read_only_file_system_is_named_at_the_start", "4m") else {
        return;
    };
    let open = || open_registry(&directory.path().join("state"));
    open().expect("made").close();
    mounted.remount("ro");
    let error = open().expect_err("refused");
    let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    assert!(error.to_string().contains("registry.lock") && cause.contains("Read-only"), "{error}: {cause}");
    mounted.remount("rw");
    open().expect("healed").close();
}

/// An ext4 in a file, which turns read-only when its kernel finds an error, as disks that die do. A tmpfs
/// cannot be remounted read-only while a registry is open on it.
fn with_ext4(test: &str) -> Option<(tempfile::TempDir, Mounted)> {
    if not_root(test) {
        return None;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (image, state) = (directory.path().join("disk"), directory.path().join("state"));
    std::fs::create_dir(&state).expect("made");
    let made = std::fs::File::create(&image).and_then(|file| file.set_len(16 << 20)).is_ok()
        && run(Command::new("mkfs.ext4").arg("-q").arg(&image))
        && run(Command::new("mount").args(["-o", "loop,errors=remount-ro"]).args([&image, &state]));
    if !made {
        crate::store::skip(&format!("{test}: may not make and mount an ext4"));
        return None;
    }
    std::fs::set_permissions(&state, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("ours");
    Some((directory, Mounted(state)))
}

fn run(command: &mut Command) -> bool {
    command.stderr(std::process::Stdio::null()).status().is_ok_and(|status| status.success())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_system_that_turns_read_only_refuses_and_another_in_its_place_heals() {
    let test = "a_file_system_that_turns_read_only_refuses_and_another_in_its_place_heals";
    let Some((directory, mounted)) = with_ext4(test) else { return };
    let authd = prepared(directory.path());
    let _certd = Certd::start(directory.path(), "exec \"$@\"", &[]);
    let mut client = Client::new(directory.path(), &authd).await;
    for _ in 0..5 {
        client.register().await.expect("registered");
    }
    let device =
        Command::new("findmnt").args(["-no", "SOURCE"]).arg(&mounted.0).output().expect("findmnt runs");
    let device = String::from_utf8(device.stdout).expect("text");
    let name = Path::new(device.trim()).file_name().expect("a device");
    std::fs::write(Path::new("/sys/fs/ext4").join(name).join("trigger_fs_error"), "x").expect("an error");

    // SQLite tells of no more than a failed write; opening the files anew says why.
    let (code, sentence) = client.register().await.expect_err("refused");
    assert!(code == Code::Unavailable && sentence.contains("nothing was changed"), "{sentence}");
    client.state_is_intact().await;
    for _ in 0..3 {
        let (code, sentence) = client.register().await.expect_err("refused");
        assert_eq!(
            (code, sentence.as_str()),
            (Code::Unavailable, "the registry is on a read-only file system; nothing was changed")
        );
        // The old state is there to be read: keys open doors as long as it is.
        client.state_is_intact().await;
    }
    let first = client.acknowledged[0].clone();
    let refused = client.gateway.revoke(client.assertion(), first.clone(), "").await;
    assert_eq!(told(refused).0, Code::Unavailable);
    client.state_is_intact().await;

    // What an operator does: unmount, repair, mount again. certd runs on.
    let (image, repaired) = (directory.path().join("disk"), directory.path().join("repaired"));
    assert!(run(Command::new("umount").arg("-l").arg(&mounted.0)));
    std::fs::copy(&image, &repaired).expect("copied");
    // 1: errors were found and corrected.
    let checked = Command::new("e2fsck").args(["-fy"]).arg(&repaired).output().expect("e2fsck runs");
    assert!(checked.status.code().is_some_and(|code| code < 4), "{checked:?}");
    assert!(run(Command::new("mount").args(["-o", "loop"]).args([&repaired, &mounted.0])));
    client.state_is_intact().await;
    for _ in 0..5 {
        client.register().await.expect("healed without a restart");
    }
    client.state_is_intact().await;
    client.gateway.revoke(client.assertion(), first, "").await.expect("revoked");
    client.acknowledged.remove(0);
    client.state_is_intact().await;
}
