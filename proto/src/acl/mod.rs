//! The ACL language of every dialect: what somebody holds, against what is required.
//!
//! An entry is a pattern of words with dots. `*` stands for characters of one word, `#` for one or more
//! characters whatever they are, the words `me` and `my_session` for the holder too; a leading `!` denies.
//! Nothing here builds a regular expression: a holder's id is text, whatever is in it.

mod matcher;

use self::matcher::Matcher;

/// The longest entry that a configuration may have, in bytes.
pub const ENTRY_MAX: usize = 256;

/// Who holds the entries: what their words `me` and `my_session` stand for.
#[derive(Debug, Clone, Copy)]
pub struct Holder<'a> {
    /// Of a local user: the uid in decimal. Empty: nobody's.
    pub auth_id: &'a str,
    /// The session's UUID. Empty: there is none.
    pub session: &'a str,
}

/// Whether `entries` grant `subject`: one allows, none denies.
pub fn granted(entries: &[String], subject: &str, holder: Holder<'_>) -> bool {
    deciding(entries, subject, holder)
        .and_then(|place| entries.get(place))
        .is_some_and(|entry| !entry.starts_with('!'))
}

/// The place of the entry that decides about `subject`: the first that denies it, else the first that
/// allows it. None: none says anything of it, so it is not granted.
pub fn deciding(entries: &[String], subject: &str, holder: Holder<'_>) -> Option<usize> {
    let mut matcher = Matcher::new(subject, holder);
    let mut allows = None;
    for (place, entry) in entries.iter().enumerate() {
        match entry.strip_prefix('!') {
            Some(pattern) if matcher.matches(pattern) => return Some(place),
            Some(_) => {}
            None if allows.is_none() && matcher.matches(entry) => allows = Some(place),
            None => {}
        }
    }
    allows
}

/// Whether an entry says something that could be meant: for configurations.
///
/// # Errors
/// What is wrong with it, as the rest of a sentence about it.
pub fn well_formed(entry: &str) -> Result<(), &'static str> {
    let pattern = entry.strip_prefix('!').unwrap_or(entry);
    if pattern.is_empty() {
        return Err("is empty");
    }
    if entry.len() > ENTRY_MAX {
        return Err("is longer than 256 bytes");
    }
    if entry.contains(char::is_control) {
        return Err("has a control character in it, such as the end of a line");
    }
    if pattern.starts_with('!') {
        return Err("begins with more than one `!`");
    }
    if pattern.split('.').any(str::is_empty) {
        return Err("has an empty word: dots stand between words");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
