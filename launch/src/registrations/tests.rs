//! A file says who a subsystem is, or what is wrong with it; one wrong file costs no other.

use std::fs;
use std::path::Path;

use super::*;

fn write(directory: &Path, file: &str, text: &str) {
    fs::write(directory.join(file), text).expect("written");
}

fn text(name: &str, more: &str) -> String {
    let user = own();
    format!("namespace = \"example\"\nname = \"{name}\"\nsocket = \"/run/x.sock\"\nuser = \"{user}\"\n{more}")
}

fn own() -> u32 {
    crate::Identity::current().uid
}

/// The only complaint about a file of this text.
fn complaint(text: &str) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    write(directory.path(), "a.toml", text);
    let Registrations { found, wrong } = read(directory.path());
    assert!(found.is_empty(), "{text}");
    let [sentence] = wrong.as_slice() else { panic!("one complaint about {text}, not {wrong:?}") };
    sentence.strip_prefix(&format!("{}/a.toml", directory.path().display())).expect("says where").to_owned()
}

#[test]
fn a_file_is_a_subsystem() {
    let directory = tempfile::tempdir().expect("a directory");
    write(
        directory.path(),
        "b.toml",
        &text("b", "events = [\"ticked\"]\nlimited_acl = [\"list_*\", \"*\"]\n"),
    );
    write(directory.path(), "a.toml", &text("a", "call_seconds = 5\n"));
    write(directory.path(), "README", "not read");
    let Registrations { found, wrong } = read(directory.path());
    assert_eq!(wrong, [""; 0]);
    let names: Vec<_> = found.iter().map(Registration::audience).collect();
    assert_eq!(names, ["example/a", "example/b"]);
    let [a, b] = found.as_slice() else { panic!("two") };
    assert_eq!((a.uid, a.call, a.stream.as_secs()), (own(), Duration::from_secs(5), 3_600));
    assert_eq!(b.limited_acl, ["sysadm.example.b.list_*", "sysadm.example.b.*"]);
    assert_eq!(b.events, ["ticked"]);
}

#[test]
fn what_is_registered_is_shown_to_programs() {
    let directory = tempfile::tempdir().expect("a directory");
    write(directory.path(), "a.toml", &text("a", "events = [\"ticked\"]\n"));
    write(directory.path(), "b.toml", "name");
    let shown = read(directory.path()).to_json();
    let expected = json!([{"file": directory.path().join("a.toml"), "namespace": "example", "name": "a",
        "socket": "/run/x.sock", "uid": 0, "events": ["ticked"]}]);
    assert_eq!(shown["found"], expected);
    assert!(shown["wrong"][0].as_str().is_some_and(|sentence| sentence.contains("b.toml:1")), "{shown}");
}

#[test]
fn no_directory_holds_nothing() {
    assert_eq!(read(Path::new("/nonexistent/subsystems.d")), Registrations::default());
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    let reserved =
        [("rpc", "x"), ("events", "x"), ("settings", "x"), ("channel", "x"), ("sysadm", "settings")];
    for (namespace, name) in reserved {
        let text = text(name, "").replace("\"example\"", &format!("\"{namespace}\""));
        assert_eq!(complaint(&text), format!(":1: namespace: {namespace}/{name} is the gateway's own"));
    }
    assert!(complaint(&text("Aa", "")).starts_with(":2: name: \"Aa\" must be"));
    assert!(complaint(&text("me", "")).starts_with(":2: name: "));
    assert!(complaint(&text("a", "").replace("/run", "run")).starts_with(":3: socket: "));
    assert!(
        complaint(&text("a", "").replace(&format!("\"{}\"", own()), "\"no-such-user\""))
            .starts_with(":4: user: ")
    );
    assert!(complaint(&text("a", "events = [\"A\"]")).starts_with(":5: events: "));
    assert!(complaint(&text("a", "events = [\"auth\"]")).starts_with(":5: events: "));
    for pattern in ["", "#", "a.b", "!a", "A"] {
        let text = text("a", &format!("limited_acl = [\"{pattern}\"]"));
        assert!(complaint(&text).starts_with(":5: limited_acl: "), "{pattern}");
    }
    assert!(complaint(&text("a", "call_seconds = 0")).starts_with(":5: call_seconds: "));
    assert!(complaint(&text("a", "colour = 1")).contains("colour"));
    assert!(complaint("namespace = \"a\"").contains("name"));
}

#[test]
fn a_second_file_for_the_same_name_or_event_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    write(directory.path(), "a.toml", &text("a", "events = [\"ticked\"]"));
    write(directory.path(), "b.toml", &text("a", ""));
    write(directory.path(), "c.toml", &text("c", "events = [\"ticked\"]"));
    let Registrations { found, wrong } = read(directory.path());
    assert_eq!(found.len(), 1);
    assert!(wrong.iter().any(|sentence| sentence.ends_with("b.toml: example/a is registered twice")));
    assert!(wrong.iter().any(|sentence| sentence.ends_with("c.toml: events: ticked is another subsystem's")));
}

#[test]
fn a_file_that_others_can_write_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().expect("a directory");
    write(directory.path(), "a.toml", &text("a", ""));
    let path = directory.path().join("a.toml");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("set");
    let Registrations { found, wrong } = read(directory.path());
    assert!(found.is_empty() && wrong.len() == 1, "{wrong:?}");
}

#[tokio::test(start_paused = true)]
async fn a_change_is_told_and_no_change_is_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut watch = Watch::new(directory.path());
    assert_eq!(watch.changed().await, Registrations::default());
    write(directory.path(), "a.toml", &text("a", ""));
    assert_eq!(watch.changed().await.found.len(), 1);
    let quiet = tokio::time::timeout(Duration::from_secs(300), watch.changed()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    // Replaced by a rename, as editors and package managers do.
    write(directory.path(), "new", &text("b", ""));
    fs::rename(directory.path().join("new"), directory.path().join("a.toml")).expect("renamed");
    let now = watch.changed().await;
    assert_eq!(now.found.first().map(|found| found.name.as_str()), Some("b"));
    fs::remove_file(directory.path().join("a.toml")).expect("removed");
    assert_eq!(watch.changed().await, Registrations::default());
}
