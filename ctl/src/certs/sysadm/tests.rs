//! The file of the original server, read as hostile input.

use super::*;

/// No key, but written like one: what is taken is certd's to say.
const KEY: &str = "LS0tLS1CRUdJTiBQVUJMSUMgS0VZLS0tLS0K+/8=";

/// As QSettings writes a name: letters, digits, `-`, `_`, `.` plain, the rest in %XX.
fn escaped(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    name.encode_utf16()
        .map(|unit| match char::from_u32(u32::from(unit)) {
            Some(c) if plain(c) => c.to_string(),
            _ if unit < 256 => format!("%{unit:02X}"),
            _ => format!("%U{unit:04X}"),
        })
        .collect()
}

fn imported(text: &str) -> Vec<(usize, Result<Imported, Refused>)> {
    entries(text).collect()
}

#[test]
fn the_originals_file_is_read() {
    let name = escaped(KEY);
    assert!(name.contains("%3D") && name.contains("%2B") && name.contains("%2F"), "{name}");
    let text = format!(
        "[General]\nRegisteredCerts=no\n\n[RegisteredCerts]\n\
         peer_oper\\{name}=\"Nickname: nick \\\"one\\\"\\nEmail: one@example.org\\nDate Registered: 2026-11-22T03:47:02\"\n\
         j\u{f6}rg\\{name}=Nickname: \\x416\\nEmail: \\nDate Registered: x\n\
         {}\\{name}=\"Nickname: \\x6a\\xf6, Email\"\n\
         [blacklist]\nalice\\{name}=x\n",
        escaped("na\u{ef}ve\u{20ac}")
    );
    let found: Vec<_> =
        imported(&text).into_iter().map(|(line, entry)| (line, entry.expect("taken"))).collect();
    assert!(found.iter().all(|(_, entry)| entry.key == KEY));
    let told: Vec<_> = found
        .iter()
        .map(|(line, e)| (*line, e.user.as_str(), e.nickname.as_str(), e.email.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            (5, "peer_oper", "nick \"one\"", "one@example.org"),
            (6, "j\u{f6}rg", "\u{416}", ""),
            (7, "na\u{ef}ve\u{20ac}", "j\u{f6}, Email", ""),
        ]
    );
    assert_eq!(found[0].1.registered, "2026-11-22T03:47:02");
}

#[test]
fn an_entry_keeps_its_time_and_is_unproven() {
    let entry = |registered: &str| {
        let imported = Imported {
            user: "alice".into(),
            key: KEY.into(),
            nickname: "n".into(),
            email: "e".into(),
            registered: registered.into(),
        };
        imported.into_wire(1_800_000_000)
    };
    // `date -u -d ... +%s` says the same.
    for (text, expected) in [
        ("1970-01-01T00:00:00", 0),
        ("2000-02-29T12:00:00", 951_825_600),
        ("2024-02-29T23:59:59", 1_709_251_199),
        ("2024-03-01T00:00:00", 1_709_251_200),
        ("2026-11-22T03:47:02", 1_795_319_222),
        ("2099-01-01T00:00:00", 1_800_000_000),
        ("1969-12-31T23:59:59", 1_800_000_000),
        ("2026-13-01T00:00:00", 1_800_000_000),
        ("2026-11-22T03:47", 1_800_000_000),
        ("2026-11-22T03:47:02:00", 1_800_000_000),
        ("2026-11-22T+3:47:02", 1_800_000_000),
        ("Sun Nov 22 03:47:02 2026", 1_800_000_000),
        ("", 1_800_000_000),
    ] {
        assert_eq!(entry(text).registered, expected, "{text}");
    }
    let entry = entry("");
    assert!(!entry.proven && entry.registered_method == "import" && entry.key == KEY.as_bytes());
}

#[test]
fn lines_that_cannot_be_read_are_refused_one_by_one() {
    let name = escaped(KEY);
    for (line, why) in [
        ("alice".to_owned(), Refused::Form),
        ("alice=x".to_owned(), Refused::Name),
        (format!("a%\\{name}=x"), Refused::Escape),
        (format!("a%+1\\{name}=x"), Refused::Escape),
        (format!("a%UD800\\{name}=x"), Refused::Escape),
        (format!("a\\{name}=\"\\q\""), Refused::Escape),
        (format!("a\\{name}=tail\\"), Refused::Escape),
        (format!("a\\{name}=\\xd800"), Refused::Escape),
    ] {
        assert_eq!(imported(&format!("[RegisteredCerts]\n{line}\n")), [(2, Err(why))], "{line}");
    }
}

#[test]
fn control_characters_do_not_get_into_names() {
    let name = escaped(KEY);
    let text = format!("[registeredcerts]\na\\{name}=Nickname: x\\x1b[31m\\0y\n; comment\n");
    let found = imported(&text);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].1.as_ref().expect("taken").nickname, "x[31my");
}

#[test]
fn no_text_makes_the_reader_panic() {
    const PIECES: [&str; 14] =
        ["a", "\\", "%", "U", "=", "\"", "x", "9", "\u{20ac}", "\n", "[", "]", "\\x", "\\1777"];
    // Every text of five pieces.
    for mut number in 0..PIECES.len().pow(5) {
        let mut text = "[RegisteredCerts]\n".to_owned();
        for _ in 0..5 {
            text.push_str(PIECES[number % PIECES.len()]);
            number /= PIECES.len();
        }
        let _ = imported(&text);
        let _ = unescape_name(&text);
        let _ = unescape_value(&text);
    }
}
