//! Every record of the time that is asked for, once and in order, whatever the files look like.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::read::{LOOKED_AT, between};
use super::record::Stamp;
use super::*;

const DAY: u64 = 1_795_392_000_000;

/// A line as one is written, so many milliseconds into the day.
fn line(millis: u64, number: u64, user: Option<&str>) -> String {
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(DAY + millis);
    let uid = user.map(|user| if user == "alice" { 1000 } else { 1001 });
    let record = Record { user: user.map(str::to_owned), uid, ..Record::of(Event::Login) };
    record.line(&Stamp { time, run: 7, number, service: "doorward-test" })
}

fn wanted(from: u64, until: u64, most: usize) -> Wanted {
    Wanted { from: DAY + from, until: DAY + until, skip: 0, most, whose: Whose::All }
}

fn soon() -> Instant {
    Instant::now() + READ_WITHIN
}

fn file(text: &[u8]) -> fs::File {
    use std::io::Write as _;
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(text).expect("written");
    file
}

/// The numbers of the records that are found.
fn numbers(found: &Found) -> Vec<u64> {
    let number = |line: &String| {
        let fields: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let id = fields["id"].as_str().expect("an id").to_owned();
        id.split_once('-').expect("two parts").1.parse().expect("a number")
    };
    found.lines.iter().map(number).collect()
}

fn found(now: &str, before: Option<&str>, wanted: &Wanted) -> Found {
    let before = before.map(|text| file(text.as_bytes()));
    between(Some(file(now.as_bytes())), before, wanted, soon(), LOOKED_AT).expect("read")
}

#[test]
fn the_first_moment_is_in_and_the_last_is_not() {
    let text: String = (0..10).map(|n| line(n * 10, n, None)).collect();
    for (from, until, expected) in [
        (0, 100, (0..10).collect::<Vec<_>>()),
        (20, 50, vec![2, 3, 4]),
        (21, 51, vec![3, 4, 5]),
        (20, 20, vec![]),
        (50, 20, vec![]),
        (91, 1_000, vec![]),
    ] {
        let found = found(&text, None, &wanted(from, until, 100));
        assert_eq!(numbers(&found), expected, "{from} {until}");
        assert!(!found.more && !found.unread);
    }
    let all = Wanted { from: 0, until: u64::MAX, ..wanted(0, 0, 100) };
    assert_eq!(numbers(&found(&text, None, &all)).len(), 10, "moments beyond every calendar");
}

#[test]
fn the_oldest_come_first_and_a_reader_goes_on_where_they_end() {
    // Three of one millisecond, and a clock that was set back.
    let text: String = [(5, 1), (7, 2), (7, 3), (7, 4), (6, 5), (9, 6)]
        .iter()
        .map(|(millis, number)| line(*millis, *number, None))
        .collect();
    let (mut seen, mut ask) = (Vec::new(), wanted(0, 100, 2));
    loop {
        let found = found(&text, None, &ask);
        seen.extend(numbers(&found));
        let last = Moment::of(found.lines.last().expect("one"), "doorward-test").expect("a record").time;
        let of_last =
            |line: &&String| Moment::of(line, "doorward-test").is_some_and(|moment| moment.time == last);
        let known = found.lines.iter().filter(of_last).count();
        ask.skip = if ask.from == last { ask.skip + known } else { known };
        ask.from = last;
        if !found.more {
            break;
        }
    }
    assert_eq!(seen, [1, 5, 2, 3, 4, 6]);
}

#[test]
fn who_may_see_his_own_sees_no_other_and_none_of_an_earlier_holder_of_his_name() {
    let text = [
        line(1, 1, Some("alice")),
        line(2, 2, Some("bob")),
        line(3, 3, None),
        line(4, 4, Some("alice")),
        // Somebody else's word for a login, in a text that looks like a field.
        line(5, 5, Some("x\",\"user\":\"alice")),
    ]
    .concat();
    let own = |uid| Wanted { whose: Whose::One { user: "alice".into(), uid }, ..wanted(0, 100, 100) };
    assert_eq!(numbers(&found(&text, None, &own(Some(1000)))), [1, 4]);
    assert_eq!(numbers(&found(&text, None, &own(None))), [1, 4]);
    assert_eq!(numbers(&found(&text, None, &own(Some(2000)))), [0; 0]);
    assert_eq!(numbers(&found(&text, None, &wanted(0, 100, 100))), [1, 2, 3, 4, 5]);
}

#[test]
fn what_is_no_whole_record_is_left_out() {
    let good = line(1, 1, None);
    let torn = &good[..good.len() / 2];
    let long = format!("{{\"time\":\"{}\n", "x".repeat(3 << 20));
    let foreign = good.replace("\"id\":\"0", "\"id\":\"g");
    let text = [torn, "\n\n", &long, "not JSON\n", &foreign, &good, "\u{0}\u{0}\n", torn].concat();
    assert_eq!(numbers(&found(&text, None, &wanted(0, 100, 100))), [1]);
    let broken = [good.as_bytes(), b"{\"time\":\"\xff\n", line(2, 2, None).as_bytes()].concat();
    let found = between(Some(file(&broken)), None, &wanted(0, 100, 100), soon(), LOOKED_AT);
    assert_eq!(numbers(&found.expect("read")), [1, 2]);
}

#[test]
fn the_rotated_file_goes_before_and_nothing_is_told_twice() {
    let text = |numbers: std::ops::Range<u64>| numbers.map(|n| line(n, n, None)).collect::<String>();
    let both = found(&text(5..9), Some(&text(0..5)), &wanted(0, 100, 100));
    assert_eq!(numbers(&both), (0..9).collect::<Vec<_>>());
    // Copied, and not yet emptied.
    let copied = found(&text(0..6), Some(&text(0..5)), &wanted(0, 100, 100));
    assert_eq!(numbers(&copied), (0..6).collect::<Vec<_>>());
    // Renamed after it was opened: the same file under both names.
    let file = file(text(0..5).as_bytes());
    let again = file.try_clone().expect("the same");
    let same = between(Some(file), Some(again), &wanted(0, 100, 100), soon(), LOOKED_AT).expect("read");
    assert_eq!(numbers(&same), (0..5).collect::<Vec<_>>());
    // Renamed before, and not yet made anew.
    let gone = between(None, Some(self::file(text(0..5).as_bytes())), &wanted(0, 9, 9), soon(), LOOKED_AT);
    assert_eq!(numbers(&gone.expect("read")), (0..5).collect::<Vec<_>>());
}

#[test]
fn of_files_that_are_too_long_the_end_is_looked_at_and_it_is_told() {
    let text = |numbers: std::ops::Range<u64>| numbers.map(|n| line(n, n, None)).collect::<String>();
    let (old, new) = (text(0..100), text(100..200));
    let one = line(0, 0, None).len() as u64;
    let look = |left: u64, from: u64| {
        let files = (Some(file(new.as_bytes())), Some(file(old.as_bytes())));
        between(files.0, files.1, &wanted(from, 1_000, 1_000), soon(), left).expect("read")
    };
    let half = look(one * 50, 0);
    assert!(half.unread && numbers(&half).last() == Some(&199) && (48..=50).contains(&half.lines.len()));
    assert!(!look(one * 50, 190).unread, "of that time everything was looked at");
    let both = look(one * 150, 0);
    assert!(both.unread && (145..=150).contains(&both.lines.len()), "{}", both.lines.len());
    assert!(!look(u64::MAX, 0).unread);
}

#[test]
fn what_one_question_brings_has_a_bound_in_records_and_in_bytes() {
    let user = "\u{e9}".repeat(40);
    let text: String = (0..12_000).map(|n| line(n, n, None)).collect();
    let many = found(&text, None, &wanted(0, 100_000, usize::MAX));
    assert!(many.more && many.lines.len() <= RECORDS_MAX && !many.lines.is_empty());
    let heavy: String = (0..8_000).map(|n| line(n, n, Some(&user))).collect();
    assert!(heavy.len() > 2 * BYTES_MAX);
    let heavy = found(&heavy, None, &wanted(0, 100_000, usize::MAX));
    let bytes: usize = heavy.lines.iter().map(String::len).sum();
    assert!(heavy.more && bytes <= BYTES_MAX && bytes > BYTES_MAX - 2 * LINE_MAX, "{bytes}");
    assert_eq!(numbers(&heavy), (0..heavy.lines.len() as u64).collect::<Vec<_>>());
}

#[test]
fn whoever_has_no_time_is_told_so() {
    let late = between(Some(file(b"x\n")), None, &wanted(0, 9, 9), Instant::now(), LOOKED_AT);
    assert!(matches!(late, Err(Unread::Late)), "{late:?}");
}

#[tokio::test]
async fn a_service_reads_what_it_writes_while_it_writes_and_over_a_rotation() {
    let directory = tempfile::tempdir().expect("temp dir");
    let path = directory.path().join("audit.jsonl");
    let place = Place { file: path.clone(), required: false };
    let audit = Audit::open("doorward-test", &place).expect("opened");
    let all = || Wanted { from: 0, until: u64::MAX, skip: 0, most: 100_000, whose: Whose::All };
    let writing = std::thread::spawn({
        let (audit, path) = (audit.clone(), path.clone());
        move || {
            for number in 0..2_000 {
                audit.record(Record::of(Event::Login));
                if number == 1_000 {
                    fs::rename(&path, path.with_extension("jsonl.1")).expect("moved");
                    audit.reopen().expect("opened");
                }
            }
        }
    });
    let mut before = 0;
    while before < 2_000 {
        let found = audit.read(all()).await.expect("read");
        let numbers = numbers(&found);
        let expected: Vec<_> = (1..=numbers.len() as u64).collect();
        assert!(numbers == expected && numbers.len() >= before, "{} of {before}", numbers.len());
        before = numbers.len();
    }
    writing.join().expect("no panic");
}

#[tokio::test]
async fn few_read_at_once_and_a_file_of_others_is_not_read() {
    let directory = tempfile::tempdir().expect("temp dir");
    let path = directory.path().join("audit.jsonl");
    let audit = Audit::open("doorward-test", &Place { file: path.clone(), required: false }).expect("opened");
    audit.record(Record::of(Event::Start));
    let all = || Wanted { from: 0, until: u64::MAX, skip: 0, most: 10, whose: Whose::All };
    let readers = audit.0.as_ref().expect("on").readers.clone();
    let places = readers.clone().acquire_many_owned(2).await.expect("both");
    tokio::time::pause();
    assert!(matches!(audit.read(all()).await, Err(Unread::Busy)), "whoever waits too long");
    tokio::time::resume();
    let mut waits = std::pin::pin!(audit.read(all()));
    assert!(futures_util::poll!(&mut waits).is_pending());
    drop(places);
    assert_eq!(numbers(&waits.await.expect("read")), [1]);
    // What is beside it and can be read by others is not ours.
    let rotated = directory.path().join("audit.jsonl.1");
    fs::write(&rotated, line(0, 99, None)).expect("written");
    fs::set_permissions(&rotated, fs::Permissions::from_mode(0o644)).expect("chmod");
    assert_eq!(numbers(&audit.read(all()).await.expect("read")), [1]);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("chmod");
    assert!(matches!(audit.read(all()).await, Err(Unread::File(_))));
    fs::remove_file(&path).expect("removed");
    assert_eq!(audit.read(all()).await.expect("nothing there"), Found::default());
    assert_eq!(Audit::default().read(all()).await.expect("nothing recorded"), Found::default());
}
