//! One event, one line, and what a client sent comes back out of it; lost records are counted.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};

use proptest::prelude::*;
use serde_json::Value;

use super::record::Stamp;
use super::*;

type Fields = BTreeMap<String, Value>;

/// A line, read back.
fn read(line: &str) -> Fields {
    assert!(line.len() <= LINE_MAX, "{} bytes", line.len());
    let line = line.strip_suffix('\n').expect("a whole line");
    assert!(line.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{line:?}");
    serde_json::from_str(line).expect("JSON")
}

fn lines(path: &Path) -> Vec<Fields> {
    let text = fs::read_to_string(path).expect("the records");
    text.split_inclusive('\n').map(read).collect()
}

fn word(fields: &Fields, key: &str) -> String {
    fields.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn stamp() -> Stamp {
    Stamp { time: SystemTime::UNIX_EPOCH, run: u64::MAX, number: u64::MAX, service: "doorward-test" }
}

/// Every field, each with this text where it takes one.
fn full(text: &str) -> Record {
    let text = || Some(text.to_owned());
    Record {
        event: Event::SessionTakenUp,
        reason: Some("certd-unavailable"),
        user: text(),
        uid: Some(u32::MAX),
        method: text(),
        reported_source: text(),
        connection: text(),
        session: text(),
        dialect: text(),
        key: text(),
        action: text(),
        request: text(),
        by: text(),
        seconds: Some(u64::MAX),
        count: Some(u64::MAX),
        since: Some(SystemTime::UNIX_EPOCH),
    }
}

fn place(directory: &tempfile::TempDir) -> Place {
    Place { file: directory.path().join("audit.jsonl"), required: false }
}

#[test]
fn the_fields_are_those_that_are_documented_in_their_order() {
    let line = full(&"x".repeat(300)).line(&stamp());
    let at = |field: &str| line.find(&format!("\"{field}\":")).expect(field);
    assert!(FIELDS.windows(2).all(|pair| at(pair[0]) < at(pair[1])));
    assert_eq!(read(&line).len(), FIELDS.len());
    let page = include_str!("../../../docs/audit.md");
    let mut documented: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("| `")).collect();
    documented.iter_mut().for_each(|line| *line = line.split('`').next().unwrap_or_default());
    for word in FIELDS.into_iter().chain(Event::ALL.map(Event::word)) {
        assert!(documented.contains(&word), "docs/audit.md does not tell of {word}");
    }
}

#[test]
fn a_record_says_only_what_is_known() {
    let line = Record { user: Some("al\"ice\n".into()), ..Record::of(Event::Login) }.line(&stamp());
    assert_eq!(
        line,
        "{\"time\":\"1970-01-01T00:00:00.000Z\",\"id\":\"ffffffffffffffff-18446744073709551615\",\
         \"event\":\"login\",\"service\":\"doorward-test\",\"user\":\"al\\\"ice\\u000a\"}\n"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn whatever_a_client_sends_is_one_line_that_parses_back(
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..2_000),
            prop::collection::vec(prop::sample::select(vec![b'\n', b'"', b'\\', 0, 0x7f, 0xe2, 0x80, 0xae]), 0..600),
        ],
    ) {
        let text = String::from_utf8_lossy(&bytes);
        let fields = read(&full(&text).line(&stamp()));
        let cut = fields.contains_key("cut");
        for key in ["user", "method", "reported_source", "connection", "session", "dialect", "key", "action", "request", "by"] {
            let back = word(&fields, key);
            match back.strip_suffix('\u{2026}') {
                Some(start) if cut => prop_assert!(text.starts_with(start) && start.len() < text.len()
                    || back == text),
                _ => prop_assert_eq!(&back, &text),
            }
        }
        prop_assert_eq!(fields.get("uid").and_then(Value::as_u64), Some(u32::MAX.into()));
    }
}

#[test]
fn records_are_numbered_and_go_on_after_those_of_an_earlier_run() {
    let directory = tempfile::tempdir().expect("temp dir");
    for _ in 0..2 {
        let audit = Audit::open("doorward-test", &place(&directory)).expect("opened");
        audit.record(Record::of(Event::Start));
        audit.demand(Record::of(Event::Login)).expect("recorded");
    }
    let ids: Vec<_> = lines(&place(&directory).file).iter().map(|fields| word(fields, "id")).collect();
    let numbers: Vec<_> = ids.iter().map(|id| &id[16..]).collect();
    assert_eq!(numbers, ["-1", "-2", "-1", "-2"]);
    assert!(ids[0][..16] == ids[1][..16] && ids[1][..16] != ids[2][..16]);
    let mode = fs::metadata(place(&directory).file).expect("there").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
}

#[test]
fn a_part_of_a_line_stays_a_line_of_its_own() {
    let directory = tempfile::tempdir().expect("temp dir");
    fs::write(place(&directory).file, "{\"time\":\"20").expect("written");
    fs::set_permissions(place(&directory).file, fs::Permissions::from_mode(0o600)).expect("chmod");
    let audit = Audit::open("doorward-test", &place(&directory)).expect("opened");
    audit.record(Record::of(Event::Start));
    audit.record(Record::of(Event::Stop));
    let text = fs::read_to_string(place(&directory).file).expect("read");
    let rest = text.strip_prefix("{\"time\":\"20\n").expect("the part, and an end of its line");
    let events: Vec<_> = rest.split_inclusive('\n').map(|line| word(&read(line), "event")).collect();
    assert_eq!(events, ["start", "stop"]);
}

#[test]
fn after_the_file_was_moved_away_it_is_made_anew_when_asked() {
    let directory = tempfile::tempdir().expect("temp dir");
    let (file, old) = (place(&directory).file, directory.path().join("audit.jsonl.1"));
    let audit = Audit::open("doorward-test", &place(&directory)).expect("opened");
    audit.record(Record::of(Event::Start));
    fs::rename(&file, &old).expect("moved");
    audit.record(Record::of(Event::Login));
    audit.reopen().expect("opened");
    audit.record(Record::of(Event::Stop));
    let events = |path: &Path| lines(path).iter().map(|fields| word(fields, "event")).collect::<Vec<_>>();
    assert_eq!((events(&old), events(&file)), (vec!["start".into(), "login".into()], vec!["stop".into()]));
    // What cannot be had is told, and the old one goes on.
    fs::remove_file(&file).expect("removed");
    symlink(&old, &file).expect("linked");
    audit.reopen().expect_err("a link");
    audit.record(Record::of(Event::Stop));
}

#[test]
fn a_file_that_others_may_read_or_that_is_none_is_refused() {
    let directory = tempfile::tempdir().expect("temp dir");
    let file = place(&directory).file;
    fs::write(&file, "").expect("written");
    for mode in [0o604, 0o620, 0o602] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("chmod");
        let refused = Audit::open("doorward-test", &place(&directory)).expect_err("refused");
        assert!(refused.to_string().contains("chmod"), "{refused}");
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("chmod");
    Audit::open("doorward-test", &place(&directory)).expect("a group may read it");
    fs::remove_file(&file).expect("removed");
    fs::create_dir(&file).expect("made");
    Audit::open("doorward-test", &place(&directory)).expect_err("a directory");
}

/// A disk that is full when the test says so; what was written comes out at the end.
#[derive(Clone, Default)]
struct Disk(Arc<Mutex<(bool, String)>>);

impl Out for Disk {
    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let mut disk = self.0.lock().expect("no panic");
        if disk.0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        disk.1.push_str(std::str::from_utf8(line).expect("text"));
        Ok(())
    }

    fn reopen(&mut self) -> Result<(), FileError> {
        Ok(())
    }
}

impl Disk {
    fn audit(&self, required: bool) -> Audit {
        Audit::to("doorward-test", required, Box::new(self.clone()), None).expect("random bytes")
    }

    fn full(&self, full: bool) {
        self.0.lock().expect("no panic").0 = full;
    }

    fn lines(&self) -> Vec<Fields> {
        self.0.lock().expect("no panic").1.split_inclusive('\n').map(read).collect()
    }
}

#[test]
fn what_a_full_disk_cost_is_recorded_as_soon_as_there_is_room() {
    let disk = Disk::default();
    let audit = disk.audit(false);
    audit.record(Record::of(Event::Start));
    disk.full(true);
    audit.record(Record::of(Event::Login));
    audit.demand(Record::of(Event::Login)).expect("not required");
    audit.record_bounded(Record::of(Event::LoginRefused));
    audit.record(Record { count: Some(7), ..Record::of(Event::LoginRefused) });
    disk.full(false);
    audit.record(Record::of(Event::Stop));
    let lines = disk.lines();
    let events: Vec<_> = lines.iter().map(|fields| word(fields, "event")).collect();
    assert_eq!(events, ["start", "records_lost", "stop"]);
    assert_eq!(lines[1]["count"], 10);
    assert_eq!(word(&lines[1], "since").len(), word(&lines[1], "time").len());
    let numbers: Vec<_> = lines.iter().map(|fields| word(fields, "id")[17..].to_owned()).collect();
    assert_eq!(numbers, ["1", "6", "7"], "the gap is what was lost");
}

#[test]
fn what_must_be_recorded_and_cannot_is_told_and_not_counted() {
    let disk = Disk::default();
    let audit = disk.audit(true);
    disk.full(true);
    assert_eq!(audit.demand(Record::of(Event::Login)), Err(Unwritten));
    audit.record(Record::of(Event::LoginFailed));
    disk.full(false);
    assert_eq!(audit.demand(Record::of(Event::Login)), Ok(()));
    let events: Vec<_> = disk.lines().iter().map(|fields| word(fields, "event")).collect();
    assert_eq!(events, ["records_lost", "login"]);
    assert_eq!(disk.lines()[0]["count"], 1);
}

#[test]
fn what_must_be_recorded_is_refused_however_often_it_is_tried_on_a_full_disk() {
    let disk = Disk::default();
    let audit = disk.audit(true);
    disk.full(true);
    // More than are recorded one by one of one source and of all.
    for number in 0..200 {
        let record =
            Record { reported_source: Some((number % 7).to_string()), ..Record::of(Event::SessionTakenUp) };
        assert_eq!(audit.demand_bounded(record), Err(Unwritten), "{number}");
    }
    disk.full(false);
    assert_eq!(audit.demand_bounded(Record::of(Event::SessionTakenUp)), Ok(()));
    audit.settle();
    let events: Vec<_> = disk.lines().iter().map(|fields| word(fields, "event")).collect();
    assert_eq!(events, ["session_taken_up"], "what did not happen is not counted");
}

#[tokio::test(start_paused = true)]
async fn counts_that_are_owed_are_written_without_a_further_event() {
    let disk = Disk::default();
    let audit = disk.audit(false);
    let keeper = audit.clone();
    let keeper = tokio::spawn(async move { keeper.keep().await });
    let began = std::time::Instant::now();
    for _ in 0..1_000 {
        audit.record_bounded(Record::of(Event::LoginRefused));
    }
    // The clock of the sums is the system's; the waits are not. Each second has 20 records and a sum.
    let windows = began.elapsed().as_secs() + 1;
    let total = || {
        disk.lines()
            .iter()
            .map(|line| line.get("count").map_or(1, |n| n.as_u64().expect("a number")))
            .sum::<u64>()
    };
    while total() < 1_000 {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(total(), 1_000);
    assert!(
        (21..=21 * windows).contains(&(disk.lines().len() as u64)),
        "{} in {windows} s",
        disk.lines().len()
    );
    keeper.abort();
    audit.settle();
    assert_eq!(total(), 1_000);
}

#[test]
fn settings_say_where() {
    let state = Path::new("/state");
    let settings = |file: Option<&str>| Settings { file: file.map(PathBuf::from) };
    let file = |settings: Settings| settings.place(state).map(|place| place.file);
    assert_eq!(file(settings(None)), Some("/state/audit.jsonl".into()));
    assert_eq!(file(settings(Some("/log/a"))), Some("/log/a".into()));
    assert_eq!(file(settings(Some(""))), None);
    for (settings, key) in
        [(settings(Some("a")), Some("audit.file")), (settings(Some("")), None), (settings(None), None)]
    {
        assert_eq!(settings.check().err().and_then(|wrong| wrong.key().map(str::to_owned)).as_deref(), key);
    }
}
