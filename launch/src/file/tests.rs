//! Files that are taken and files that are refused, each way.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

fn file(directory: &tempfile::TempDir, mode: u32, content: &[u8]) -> PathBuf {
    let path = directory.path().join("file");
    // One of the last round may not be writable.
    let _ = std::fs::remove_file(&path);
    std::fs::write(&path, content).expect("written");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("set");
    path
}

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).expect("it exists").mode() & 0o7777
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn a_files_mode_decides_whether_it_is_taken() {
    let directory = directory();
    // Mode, as configuration, as key.
    for (mode, config, key) in [
        (0o600, true, true),
        (0o400, true, true),
        (0o640, true, true),
        (0o644, true, false),
        (0o604, true, false),
        (0o601, true, false),
        (0o660, false, false),
        (0o620, false, false),
        (0o602, false, false),
        (0o666, false, false),
    ] {
        let path = file(&directory, mode, b"content");
        assert_eq!(read_config(&path).is_ok(), config, "{mode:o}");
        assert_eq!(read_public(&path).is_ok(), config, "{mode:o}");
        assert_eq!(read_key(&path).is_ok(), key, "{mode:o}");
        assert_eq!(read_own_key(&path).is_ok(), key && mode & 0o070 == 0, "{mode:o}");
    }
}

#[test]
fn a_refusal_says_how_to_mend_it() {
    let directory = directory();
    let path = file(&directory, 0o666, b"");
    let said = |error: FileError| error.to_string();
    assert_eq!(
        said(read_config(&path).expect_err("open")),
        format!("others can write {0}: chmod go-w {0}", path.display())
    );
    let path = file(&directory, 0o644, b"");
    assert_eq!(
        said(read_key(&path).expect_err("open")),
        format!("others can read the key {0}: chmod o= {0}", path.display())
    );
}

#[test]
fn a_strangers_file_is_refused() {
    if !is_root() {
        return crate::skip::needs_root();
    }
    let directory = directory();
    let path = file(&directory, 0o600, b"");
    std::os::unix::fs::chown(&path, Some(41_008), None).expect("given away");
    assert!(read_public_of(&path, 41_008).is_ok(), "its own word");
    assert!(read_public_of(&path, 41_009).is_err());
    let error = read_config(&path).expect_err("a stranger's");
    assert_eq!(error.to_string(), format!("{0} belongs to uid 41008: chown 0 {0}", path.display()));
    assert!(matches!(read_key(&path), Err(FileError::ForeignOwner { .. })));
}

#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    let directory = directory();
    let path = file(&directory, 0o600, b"");
    let link = directory.path().join("link");
    symlink(&path, &link).expect("linked");
    assert!(matches!(read_config(&link), Err(FileError::Symlink(_))));
    assert!(matches!(read_key(&link), Err(FileError::Symlink(_))));
    assert!(matches!(read_config(directory.path()), Err(FileError::NotRegular(_))));
    assert!(matches!(read_config(Path::new("/dev/null")), Err(FileError::NotRegular(_))));
    // Opening a pipe must not wait for a writer.
    let pipe = directory.path().join("pipe");
    let made = rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0);
    made.expect("a pipe");
    assert!(matches!(read_config(&pipe), Err(FileError::NotRegular(_))));
    assert!(matches!(open_log(&pipe, &Identity::current()), Err(FileError::NotRegular(_))));
    assert!(matches!(open_log(&link, &Identity::current()), Err(FileError::Symlink(_))));
}

#[test]
fn a_file_may_be_as_large_as_its_limit_and_no_larger() {
    let directory = directory();
    for (limit, read) in [
        (
            CONFIG_LIMIT,
            (|path| read_config(path).map(|text| text.len())) as fn(&Path) -> Result<usize, FileError>,
        ),
        (KEY_LIMIT, |path| read_key(path).map(|key| key.len())),
    ] {
        for (size, taken) in
            [(0, true), (limit - 1, true), (limit, true), (limit + 1, false), (4 * limit, false)]
        {
            let path = file(&directory, 0o600, &vec![b'#'; size]);
            match read(&path) {
                Ok(length) => assert!(taken && length == size, "{size}"),
                Err(FileError::TooLarge { .. }) => assert!(!taken, "{size}"),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn a_missing_file_is_told_from_a_refused_one() {
    let directory = directory();
    assert!(read_key(&directory.path().join("none")).expect_err("missing").is_missing());
    let path = file(&directory, 0o666, b"");
    assert!(!read_key(&path).expect_err("refused").is_missing());
    assert!(!read_config(&path.join("none")).expect_err("no directory").is_missing());
}

#[test]
fn a_file_is_replaced_whole_with_its_mode() {
    let directory = directory();
    let path = directory.path().join("new/file");
    for content in ["first", "second"] {
        create_public(&path, content.as_bytes()).expect("created");
        assert_eq!(read_config(&path).expect("read"), content);
        assert_eq!(mode(&path), 0o644);
    }
    create_key(&path, b"secret", Identity::current()).expect("created");
    assert_eq!(mode(&path), 0o600);
    assert_eq!(*read_key(&path).expect("read"), b"secret");
    // Nothing else is left in the directory.
    assert_eq!(std::fs::read_dir(directory.path().join("new")).expect("a directory").count(), 1);
}

#[test]
fn a_link_in_the_place_of_a_new_file_is_not_followed() {
    let directory = directory();
    let target = file(&directory, 0o600, b"precious");
    let link = directory.path().join("link");
    symlink(&target, &link).expect("linked");
    create_public(&link, b"new").expect("created");
    assert_eq!(std::fs::read(&target).expect("read"), b"precious");
    assert_eq!(std::fs::read(&link).expect("read"), b"new");
}

#[test]
fn a_file_is_not_made_where_others_can_write() {
    let directory = directory();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o777)).expect("set");
    let error = create_public(&directory.path().join("x"), b"").expect_err("refused");
    assert!(matches!(error, FileError::Directory(DirectoryError::Writable { .. })), "{error}");
}

#[test]
fn what_cannot_be_written_leaves_nothing_behind() {
    let directory = directory();
    std::fs::create_dir(directory.path().join("taken")).expect("made");
    create_public(&directory.path().join("taken"), b"x").expect_err("a directory has the name");
    assert_eq!(std::fs::read_dir(directory.path()).expect("a directory").count(), 1);
}

#[test]
fn a_key_is_its_services() {
    if !is_root() {
        return crate::skip::needs_root();
    }
    let directory = directory();
    let path = directory.path().join("key");
    create_key(&path, b"secret", Identity { uid: 41_009, gid: 41_010 }).expect("created");
    let stat = std::fs::metadata(&path).expect("it exists");
    assert_eq!((stat.uid(), stat.gid(), mode(&path)), (41_009, 41_010, 0o600));
}

#[test]
fn a_log_is_appended_to() {
    let directory = directory();
    let path = directory.path().join("log");
    for line in ["one\n", "two\n"] {
        open_log(&path, &Identity::current()).expect("opened").write_all(line.as_bytes()).expect("written");
    }
    assert_eq!(std::fs::read_to_string(&path).expect("read"), "one\ntwo\n");
    assert_eq!(mode(&path), 0o600);
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o622)).expect("set");
    assert!(matches!(open_log(&path, &Identity::current()), Err(FileError::Writable(_))));
}

#[test]
fn whose_directory_is_just_being_made_by_another_waits_until_it_is_open() {
    if !is_root() {
        return crate::skip::needs_root();
    }
    let base = directory();
    let shared = base.path().join("doorward");
    std::fs::create_dir(&shared).expect("made");
    std::fs::set_permissions(&shared, PermissionsExt::from_mode(0o700)).expect("closed");
    let own = shared.join("authd");
    let opened = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            state_directory(&own, &Identity { uid: 41_012, gid: 41_013 }).expect("made");
            assert!(opened.load(std::sync::atomic::Ordering::SeqCst), "its service would not get there");
        });
        while !own.exists() {
            std::thread::yield_now();
        }
        opened.store(true, std::sync::atomic::Ordering::SeqCst);
        std::fs::set_permissions(&shared, PermissionsExt::from_mode(0o755)).expect("opened");
        other.join().expect("no panic");
    });
}

#[test]
fn a_state_directory_is_its_services_alone() {
    let directory = directory();
    let path = directory.path().join("state/of/service");
    let own = Identity::current();
    for _ in 0..2 {
        state_directory(&path, &own).expect("made, then found");
        assert_eq!(mode(&path), 0o700);
    }
    assert_eq!(mode(path.parent().expect("a parent")), 0o755);
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o750)).expect("set");
    let error = state_directory(&path, &own).expect_err("open");
    assert!(error.to_string().contains("chmod 700"), "{error}");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).expect("set");
    let error = state_directory(&path, &Identity { uid: 41_011, gid: 41_011 }).expect_err("another's");
    assert!(error.to_string().contains("chown 41011"), "{error}");
    let link = directory.path().join("link");
    symlink(&path, &link).expect("linked");
    state_directory(&link, &own).expect_err("a link");
}

#[test]
fn root_makes_the_directory_and_gives_it_to_the_service() {
    if !is_root() {
        return crate::skip::needs_root();
    }
    let directory = directory();
    let path = directory.path().join("lib/service");
    state_directory(&path, &Identity { uid: 41_012, gid: 41_013 }).expect("made");
    let stat = std::fs::metadata(&path).expect("it exists");
    assert_eq!((stat.uid(), stat.gid(), mode(&path)), (41_012, 41_013, 0o700));
    assert_eq!(std::fs::metadata(directory.path().join("lib")).expect("it exists").uid(), 0);
}
