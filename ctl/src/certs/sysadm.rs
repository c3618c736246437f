//! Keys out of the settings file of the original SysAdm server.
//!
//! An INI file as QSettings writes it: group `RegisteredCerts`, one line for each key,
//! `<user>\<base64 of the PEM>=<three text lines>`. In names, a backslash separates and `%XX`, `%UXXXX`
//! stand for what is not plain; values are in quotes where they need it, with C-like escapes. Pure. Which users
//! and keys are taken is certd's to say.

use doorward_proto::certd::v1::Entry;

/// The group of the file that holds the keys.
pub(super) const GROUP: &str = "RegisteredCerts";

/// A key that the original server knew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Imported {
    /// Its owner.
    user: String,
    /// The key: base64 of its PEM text.
    key: String,
    /// The first line of its text, or empty.
    nickname: String,
    /// The second.
    email: String,
    /// The third, as it stands there: local time without a zone.
    registered: String,
}

impl Imported {
    /// As `Store.Import` takes it: unproven, registered by "import" at the time that the file says.
    pub(super) fn into_wire(self, now: i64) -> Entry {
        Entry {
            registered: seconds(&self.registered).map_or(now, |then| then.clamp(0, now)),
            key: self.key.into_bytes(),
            user: self.user,
            nickname: self.nickname,
            email: self.email,
            registered_method: "import".into(),
            ..Default::default()
        }
    }
}

/// `2026-11-22T03:47:02` in seconds. The file names no zone; UTC is off by half a day at most.
fn seconds(text: &str) -> Option<i64> {
    let (date, time) = text.split_once('T')?;
    let part = |field: Option<&str>, low: i64, high: i64| {
        let field = field.filter(|field| field.bytes().all(|b| b.is_ascii_digit()))?;
        field.parse().ok().filter(|value| (low..=high).contains(value))
    };
    let (mut date, mut time) = (date.split('-'), time.split(':'));
    let (year, month, day) =
        (part(date.next(), 1970, 9999)?, part(date.next(), 1, 12)?, part(date.next(), 1, 31)?);
    let (hour, minute, second) =
        (part(time.next(), 0, 23)?, part(time.next(), 0, 59)?, part(time.next(), 0, 60)?);
    if date.next().is_some() || time.next().is_some() {
        return None;
    }
    // Years that begin in March have their leap day last, and 153 days in each five months.
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

/// Why a line is not imported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// No `name=value`.
    #[error("is not of the form name=value")]
    Form,
    /// The name is not `user\key`.
    #[error("names no user and key")]
    Name,
    /// Escapes that QSettings does not write.
    #[error("holds an escape that cannot be read")]
    Escape,
}

/// Every line of the group: its number, and the key or why not.
pub(super) fn entries(text: &str) -> impl Iterator<Item = (usize, Result<Imported, Refused>)> {
    let mut inside = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let line = line.trim();
        if let Some(group) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            inside = group.eq_ignore_ascii_case(GROUP);
            return None;
        }
        (inside && !line.is_empty() && !line.starts_with(';')).then(|| (index + 1, entry(line)))
    })
}

fn entry(line: &str) -> Result<Imported, Refused> {
    let (name, value) = line.split_once('=').ok_or(Refused::Form)?;
    // The last separator: base64 holds none, and a user name of a domain may.
    let (user, key) = name.trim().rsplit_once('\\').ok_or(Refused::Name)?;
    let (user, key) = (unescape_name(&user.replace('\\', "/"))?, unescape_name(key)?);
    let text = unescape_value(value.trim())?;
    let part = |label: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(label));
        line.unwrap_or_default().trim().chars().filter(|c| !c.is_control()).collect()
    };
    let (nickname, email, registered) = (part("Nickname:"), part("Email:"), part("Date Registered:"));
    Ok(Imported { user, key, nickname, email, registered })
}

/// `%XX` is a character of Latin-1, `%UXXXX` one of UTF-16.
fn unescape_name(name: &str) -> Result<String, Refused> {
    let mut units = Vec::new();
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
        if c != '%' {
            units.extend_from_slice(c.encode_utf16(&mut [0; 2]));
            continue;
        }
        let digits = match rest.strip_prefix(['U', 'u']) {
            Some(after) => {
                rest = after;
                4
            }
            None => 2,
        };
        let (code, after) = rest.split_at_checked(digits).ok_or(Refused::Escape)?;
        units.push(hexadecimal(code).ok_or(Refused::Escape)?);
        rest = after;
    }
    String::from_utf16(&units).map_err(|_| Refused::Escape)
}

fn hexadecimal(digits: &str) -> Option<u16> {
    let plain = digits.bytes().all(|b| b.is_ascii_hexdigit());
    plain.then(|| u16::from_str_radix(digits, 16).ok()).flatten()
}

/// Quotes, `\n`, `\"`, `\x` with as many hexadecimal digits as follow, and octal.
fn unescape_value(value: &str) -> Result<String, Refused> {
    let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
    let mut units: Vec<u16> = Vec::new();
    let mut letters = value.chars().peekable();
    while let Some(c) = letters.next() {
        if c != '\\' {
            units.extend_from_slice(c.encode_utf16(&mut [0; 2]));
            continue;
        }
        let escaped = letters.next().ok_or(Refused::Escape)?;
        let plain = match escaped {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => 10,
            'r' => 13,
            't' => 9,
            'v' => 11,
            '"' | '\'' | '\\' | '?' => u16::try_from(u32::from(escaped)).map_err(|_| Refused::Escape)?,
            'x' => {
                let mut digits = String::new();
                while let Some(digit) = letters.next_if(|c| digits.len() < 4 && c.is_ascii_hexdigit()) {
                    digits.push(digit);
                }
                hexadecimal(&digits).ok_or(Refused::Escape)?
            }
            '0'..='7' => {
                let mut code = u16::try_from(escaped.to_digit(8).unwrap_or(0)).unwrap_or(0);
                while let Some(digit) = letters.next_if(|c| code < 0o10000 && c.is_digit(8)) {
                    code = code * 8 + u16::try_from(digit.to_digit(8).unwrap_or(0)).unwrap_or(0);
                }
                code
            }
            _ => return Err(Refused::Escape),
        };
        units.push(plain);
    }
    String::from_utf16(&units).map_err(|_| Refused::Escape)
}

#[cfg(test)]
mod tests;
