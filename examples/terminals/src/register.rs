//! Which terminals there are: a file of JSON, `{SHA-256 of the token: {"terminal": "7", "group": "3"}}`.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::PathBuf,
};

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

/// The largest file.
const FILE_MAX: u64 = 4 << 20;

/// Why the register is of no use.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// It cannot be read or written.
    #[error("{0}")]
    File(PathBuf, #[source] io::Error),
    /// Somebody else could have written it, or could read it.
    #[error("{0} must be root's or this user's, and nobody else's to read or write")]
    Exposed(PathBuf),
    /// It holds something else.
    #[error("{0} is no register")]
    Broken(PathBuf),
    /// A terminal or a group that would be more than one word of an ACL entry.
    #[error("a terminal and a group are 1 to 32 of A-Z a-z 0-9 _ -")]
    Word,
    /// The system gives no random bytes.
    #[error("no random bytes")]
    Random,
}

/// A terminal.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Terminal {
    /// Its number.
    pub terminal: String,
    /// Whose messages it shows.
    pub group: String,
}

/// The file.
#[derive(Debug, Clone)]
pub struct Register(PathBuf);

type Content = BTreeMap<String, Terminal>;

impl Register {
    /// The register in this file.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Whose token it is now: a terminal that was taken out logs in no more. It is looked up by its hash, so the time
    /// says nothing about the tokens that there are.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub fn find(&self, token: &str) -> Result<Option<Terminal>, RegisterError> {
        Ok(self.read()?.remove(&hash(token)))
    }

    /// The terminal with this number, and the group that it is in now.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub fn terminal(&self, number: &str) -> Result<Option<Terminal>, RegisterError> {
        Ok(self.read()?.into_values().find(|known| known.terminal == number))
    }

    /// A terminal's new token, which is written down nowhere else, and its group. It has no other any more.
    ///
    /// # Errors
    /// When the names or the file cannot be used.
    pub fn add(&self, terminal: &str, group: &str) -> Result<String, RegisterError> {
        if !is_word(terminal) || !is_word(group) {
            return Err(RegisterError::Word);
        }
        let mut all = if self.0.exists() { self.read()? } else { Content::new() };
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(|_| RegisterError::Random)?;
        let token = URL_SAFE_NO_PAD.encode(random);
        all.retain(|_, known| known.terminal != terminal);
        all.insert(hash(&token), Terminal { terminal: terminal.into(), group: group.into() });
        self.write(&all).map_err(|failure| RegisterError::File(self.0.clone(), failure))?;
        Ok(token)
    }

    fn read(&self) -> Result<Content, RegisterError> {
        let failed = |failure| RegisterError::File(self.0.clone(), failure);
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(&self.0).map_err(failed)?;
        let found = file.metadata().map_err(failed)?;
        let own = rustix::process::geteuid().as_raw();
        if !found.is_file() || ![0, own].contains(&found.uid()) || found.mode() & 0o027 != 0 {
            return Err(RegisterError::Exposed(self.0.clone()));
        }
        let mut text = Vec::new();
        file.take(FILE_MAX + 1).read_to_end(&mut text).map_err(failed)?;
        let fits = text.len() as u64 <= FILE_MAX;
        let content = serde_json::from_slice(&text).ok().filter(|_| fits);
        content.ok_or_else(|| RegisterError::Broken(self.0.clone()))
    }

    /// Whole or not at all: it is read at every login.
    fn write(&self, all: &Content) -> io::Result<()> {
        let mut new = self.0.clone().into_os_string();
        new.push(".new");
        let flags = OFlags::NOFOLLOW.bits().cast_signed();
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600).custom_flags(flags);
        let mut file = options.open(&new)?;
        file.write_all(&serde_json::to_vec(all)?)?;
        file.sync_all()?;
        fs::rename(&new, &self.0)
    }
}

fn is_word(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

fn hash(token: &str) -> String {
    let hash = digest::digest(&digest::SHA256, token.as_bytes());
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_token_is_known_until_it_is_taken_out_and_is_kept_as_a_hash() {
        let directory = tempfile::tempdir().expect("temp dir");
        let path = directory.path().join("terminals.json");
        let register = Register::new(path.clone());
        let (seven, eight) = (register.add("7", "3").expect("added"), register.add("8", "3").expect("added"));
        let terminal = |terminal: &str| Some(Terminal { terminal: terminal.into(), group: "3".into() });
        assert_eq!(register.find(&seven).expect("read"), terminal("7"));
        assert_eq!(register.find(&eight).expect("read"), terminal("8"));
        assert_eq!(register.find("").expect("read"), None);
        assert_eq!(register.terminal("8").expect("read"), terminal("8"));
        assert_eq!(register.terminal("9").expect("read"), None);
        let moved = register.add("8", "4").expect("added");
        assert_eq!(register.find(&eight).expect("read"), None, "it has one token");
        assert_eq!(register.find(&moved).expect("read"), register.terminal("8").expect("read"));
        assert_eq!(register.terminal("8").expect("read").expect("there").group, "4");
        let text = fs::read_to_string(&path).expect("read");
        assert!(!text.contains(&seven));
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        fs::write(&path, "{}").expect("written");
        assert_eq!(register.find(&seven).expect("read"), None);
    }

    #[test]
    fn what_others_could_read_or_is_broken_is_a_fault() {
        let directory = tempfile::tempdir().expect("temp dir");
        let path = directory.path().join("terminals.json");
        let register = Register::new(path.clone());
        assert!(matches!(register.find("x"), Err(RegisterError::File(..))));
        for (terminal, group) in [("7.8", "3"), ("7", "*"), ("7", "#"), ("", "3"), ("7", "3\n")] {
            assert!(matches!(register.add(terminal, group), Err(RegisterError::Word)), "{terminal} {group}");
        }
        register.add("7", "3").expect("added");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("chmod");
        assert!(matches!(register.find("x"), Err(RegisterError::Exposed(_))));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
        fs::write(&path, "{").expect("written");
        assert!(matches!(register.find("x"), Err(RegisterError::Broken(_))));
    }
}
