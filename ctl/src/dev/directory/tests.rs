//! Directories that `dev` takes and those that it leaves alone.

use super::*;
use std::os::unix::fs::{chown, lchown, symlink};

/// Somebody without an account, where the test runs as root.
const STRANGER: u32 = 60_123;

/// Says past the harness's capture that a test is skipped, and fails where none may be.
fn skip_without_root() -> bool {
    use std::io::Write;
    let root = geteuid().is_root();
    if !root {
        assert!(std::env::var_os("DOORWARD_NO_SKIP").is_none(), "skipped although DOORWARD_NO_SKIP is set");
        let _ = io::stderr().write_all(b"SKIPPED: this test takes root\n");
    }
    !root
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("it is there").mode() & 0o7777
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("chmod");
}

/// A directory of somebody's with what a run would remove, and the parent that it is in.
fn in_use() -> (tempfile::TempDir, PathBuf) {
    let parent = tempfile::tempdir().expect("a directory");
    let path = parent.path().join("in-use");
    fs::create_dir_all(path.join("run/precious")).expect("directories");
    chmod(&path, 0o750);
    (parent, path)
}

#[test]
fn a_directory_with_other_things_in_it_is_refused_and_stays_as_it_is() {
    let (_parent, path) = in_use();
    let error = claim(&resolve(&path).expect("a way"), 0o755).expect_err("it is in use").to_string();
    assert!(error.contains("neither empty"), "{error}");
    assert_eq!(mode(&path), 0o750);
    assert!(path.join("run/precious").is_dir() && !path.join(MARK).exists());
}

#[test]
fn a_link_in_place_of_the_directory_is_refused() {
    let (parent, path) = in_use();
    let link = parent.path().join("link");
    symlink(&path, &link).expect("a link");
    for asked in [link.clone(), link.join("."), parent.path().join("in-use/../link")] {
        let error = resolve(&asked).expect_err("a link").to_string();
        assert!(error.contains("is a link"), "{error}");
    }
    // And if it came there only now.
    let error = claim(&link, 0o755).expect_err("a link").to_string();
    assert!(error.contains("cannot open"), "{error}");
    assert_eq!(mode(&path), 0o750);
}

#[test]
fn ways_are_followed_to_their_end() {
    let parent = tempfile::tempdir().expect("a directory");
    let real = resolve(parent.path()).expect("a way");
    fs::create_dir_all(real.join("a/b")).expect("directories");
    symlink("a/../a/./b", real.join("relative")).expect("a link");
    symlink(real.join("relative"), real.join("absolute")).expect("a link");
    symlink("circle", real.join("circle")).expect("a link");
    assert_eq!(resolve(&real.join("absolute/new")).expect("a way"), real.join("a/b/new"));
    assert_eq!(resolve(&real.join("absolute/../new")).expect("a way"), real.join("a/new"));
    assert_eq!(resolve(&real.join("a/b/..")).expect("a way"), real.join("a"));
    assert!(resolve(&real.join("circle/new")).is_err());
    assert!(resolve(&real.join("missing/new")).is_err());
    assert_eq!(resolve(Path::new("/..")).expect("a way"), Path::new("/"));
}

#[test]
fn a_way_that_others_can_change_is_refused() {
    let parent = tempfile::tempdir().expect("a directory");
    let way = parent.path().join("way");
    fs::create_dir(&way).expect("a directory");
    for (bits, way_is_good) in
        [(0o755, true), (0o757, false), (0o1777, true), (0o775, !geteuid().is_root()), (0o1775, true)]
    {
        chmod(&way, bits);
        assert_eq!(resolve(&way.join("new")).is_ok(), way_is_good, "{bits:o}");
    }
}

#[test]
fn a_link_or_a_directory_of_others_on_the_way_is_refused() {
    if skip_without_root() {
        return;
    }
    let parent = tempfile::tempdir().expect("a directory");
    let (way, link) = (parent.path().join("way"), parent.path().join("link"));
    fs::create_dir(&way).expect("a directory");
    symlink(&way, &link).expect("a link");
    resolve(&link.join("new")).expect("root's");
    lchown(&link, Some(STRANGER), None).expect("chown");
    let error = resolve(&link.join("new")).expect_err("another's").to_string();
    assert!(error.contains("is a link"), "{error}");
    chown(&way, Some(STRANGER), None).expect("chown");
    assert!(resolve(&way.join("new")).is_err());
}

#[test]
fn a_mark_that_others_could_have_made_is_none() {
    let (_parent, path) = in_use();
    let mark = path.join(MARK);
    fs::write(&mark, "").expect("a file");
    chmod(&mark, 0o644);
    assert!(claim(&path, 0o700).is_err());
    fs::remove_file(&mark).expect("removed");
    symlink("run", &mark).expect("a link");
    assert!(claim(&path, 0o700).is_err());
}

#[test]
fn an_empty_directory_and_one_of_an_earlier_run_are_taken() {
    let parent = tempfile::tempdir().expect("a directory");
    for wanted in [0o700, 0o755] {
        let lock = claim(parent.path(), wanted).expect("it is empty, or ours");
        assert_eq!(mode(parent.path()), wanted);
        assert_eq!(mode(&parent.path().join(MARK)), 0o600);
        let error = claim(parent.path(), 0o711).expect_err("a run has it").to_string();
        assert!(error.contains("another"), "{error}");
        assert_eq!(mode(parent.path()), wanted);
        drop(lock);
        fs::create_dir_all(parent.path().join("run")).expect("a directory");
    }
}

#[test]
fn whoever_can_look_into_the_directory_keeps_no_run_out_of_it() {
    let parent = tempfile::tempdir().expect("a directory");
    chmod(parent.path(), 0o755);
    let held = File::open(parent.path()).expect("a directory");
    flock(&held, FlockOperation::NonBlockingLockExclusive).expect("a lock");
    claim(parent.path(), 0o755).expect("nobody has the mark");
}
