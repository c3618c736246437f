//! Which subsystems there are: one file each in a directory of root's, `subsystems.d`.
//!
//! The gateway reads there whom to call, authd what members of limited groups may do. A file that is
//! wrong costs only its own subsystem, which then is not there at all.

mod watch;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

pub use self::watch::Watch;
use crate::account;
use crate::config;
use crate::error::{Misconfigured, chain};

/// The most files that are read.
const FILES: usize = 64;
/// Whose rows are the gateway's own, and what assertions for handlers of channels begin with.
const RESERVED: [&str; 4] = ["channel", "events", "rpc", "settings"];
/// Rows of other namespaces that are the gateway's own.
const RESERVED_ROWS: [(&str, &str); 1] = [("sysadm", "settings")];
/// Clients tell messages apart by their name, some by that alone.
const OWN_MESSAGES: [&str; 4] = ["auth", "error", "progress", "response"];
/// The longest word of a name, in bytes.
const WORD_MAX: usize = 64;
/// The most events that one subsystem may publish, and the most entries of its list for limited access.
const LIST_MAX: usize = 64;

/// One subsystem, as root registered it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Where it comes from.
    pub file: PathBuf,
    /// What clients call it: 1 to 64 of `a-z 0-9 _ -`.
    pub namespace: String,
    /// See above.
    pub name: String,
    /// The Unix socket that it listens on.
    pub socket: PathBuf,
    /// The uid that must have called listen() there.
    pub uid: u32,
    /// The events that it may publish.
    pub events: Vec<String>,
    /// ACL entries that members of the groups of limited access have, whole: `sysadm.NAMESPACE.NAME.ACTION`.
    pub limited_acl: Vec<String>,
    /// For a call.
    pub call: Duration,
    /// For a call that reports progress: the whole of it, and the longest silence.
    pub stream: Duration,
    /// See above.
    pub silence: Duration,
}

impl Registration {
    /// What an identity assertion for it says in `aud`.
    pub fn audience(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// What a directory holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registrations {
    /// In the order of the files' names.
    pub found: Vec<Registration>,
    /// Sentences with file and line, for whoever has to mend it.
    pub wrong: Vec<String>,
}

impl Registrations {
    /// For programs that look at a host: who is where, and what is wrong.
    pub fn to_json(&self) -> Value {
        let found = |one: &Registration| {
            json!({
                "file": one.file,
                "namespace": one.namespace,
                "name": one.name,
                "socket": one.socket,
                "uid": one.uid,
                "events": one.events,
            })
        };
        json!({ "found": self.found.iter().map(found).collect::<Vec<_>>(), "wrong": self.wrong })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    namespace: String,
    name: String,
    socket: PathBuf,
    user: String,
    #[serde(default)]
    events: Vec<String>,
    #[serde(default)]
    limited_acl: Vec<String>,
    #[serde(default = "call_seconds")]
    call_seconds: u64,
    #[serde(default = "stream_seconds")]
    stream_seconds: u64,
    #[serde(default = "silence_seconds")]
    silence_seconds: u64,
}

fn call_seconds() -> u64 {
    30
}

fn stream_seconds() -> u64 {
    3_600
}

fn silence_seconds() -> u64 {
    60
}

/// Reads every `*.toml` of a directory. One that is not there holds nothing.
pub fn read(directory: &Path) -> Registrations {
    let mut all = Registrations::default();
    let files = match files(directory) {
        Ok(files) => files,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return all,
        Err(error) => {
            all.wrong.push(format!("{}: {error}", directory.display()));
            return all;
        }
    };
    if files.len() > FILES {
        all.wrong.push(format!(
            "{}: holds {} files, the first {FILES} are read",
            directory.display(),
            files.len()
        ));
    }
    let (mut names, mut events) = (BTreeSet::new(), BTreeSet::new());
    for file in files.into_iter().take(FILES) {
        let registration = match read_one(&file) {
            Ok(registration) => registration,
            Err(sentence) => {
                all.wrong.push(sentence);
                continue;
            }
        };
        let row = (registration.namespace.clone(), registration.name.clone());
        if !names.insert(row) {
            all.wrong.push(format!("{}: {} is registered twice", file.display(), registration.audience()));
        } else if let Some(event) = registration.events.iter().find(|event| events.contains(*event)) {
            all.wrong.push(format!("{}: events: {event} is another subsystem's", file.display()));
        } else {
            events.extend(registration.events.iter().cloned());
            all.found.push(registration);
        }
    }
    all
}

/// Sorted, so that what comes first is the same at every look.
fn files(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension() == Some(OsStr::new("toml")) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read_one(path: &Path) -> Result<Registration, String> {
    let loaded = config::load::<File>(Some(path), path).map_err(|error| chain(&error))?;
    let checked = check(loaded.config, path);
    checked.map_err(|wrong| chain(&loaded.source.locate(&wrong)))
}

fn check(file: File, path: &Path) -> Result<Registration, Misconfigured> {
    let word = |key: &str, text: &str| match is_word(text) {
        true => Ok(()),
        false => Err(Misconfigured::at(
            key,
            format!("{text:?} must be 1 to {WORD_MAX} of a-z 0-9 _ -, and not me or my_session"),
        )),
    };
    word("namespace", &file.namespace)?;
    word("name", &file.name)?;
    let row = (file.namespace.as_str(), file.name.as_str());
    if is_reserved(row.0, row.1) {
        return Err(Misconfigured::at("namespace", format!("{}/{} is the gateway's own", row.0, row.1)));
    }
    if !file.socket.is_absolute() {
        return Err(Misconfigured::at("socket", "must be an absolute path"));
    }
    let uid =
        account::resolve(&file.user).map_err(|failure| Misconfigured::at("user", failure.to_string()))?.uid;
    // No service that clients reach is root's. Who is root all the same, as tests are, calls only itself.
    if uid == 0 && !rustix::process::geteuid().is_root() {
        return Err(Misconfigured::at("user", "must not be root: a subsystem has an account of its own"));
    }
    if file.events.len() > LIST_MAX {
        return Err(Misconfigured::at("events", format!("at most {LIST_MAX}")));
    }
    for event in &file.events {
        word("events", event)?;
        if OWN_MESSAGES.contains(&event.as_str()) {
            return Err(Misconfigured::at("events", format!("{event} is a message of the gateway's own")));
        }
    }
    if file.limited_acl.len() > LIST_MAX {
        return Err(Misconfigured::at("limited_acl", format!("at most {LIST_MAX}")));
    }
    let below = format!("sysadm.{}.{}.", file.namespace, file.name);
    let entry = |action: &String| match is_pattern(action) {
        true => Ok(format!("{below}{action}")),
        false => Err(Misconfigured::at(
            "limited_acl",
            format!("{action:?} is no action: 1 to {WORD_MAX} of a-z 0-9 _ -, and * for any of them"),
        )),
    };
    let limited_acl = file.limited_acl.iter().map(entry).collect::<Result<_, _>>()?;
    let seconds = |key: &str, seconds: u64, most: u64| match seconds {
        0 => Err(Misconfigured::at(key, "must be at least 1")),
        seconds if seconds > most => Err(Misconfigured::at(key, format!("must be at most {most}"))),
        seconds => Ok(Duration::from_secs(seconds)),
    };
    Ok(Registration {
        call: seconds("call_seconds", file.call_seconds, 600)?,
        stream: seconds("stream_seconds", file.stream_seconds, 24 * 3_600)?,
        silence: seconds("silence_seconds", file.silence_seconds, 3_600)?,
        file: path.to_owned(),
        namespace: file.namespace,
        name: file.name,
        socket: file.socket,
        uid,
        events: file.events,
        limited_acl,
    })
}

/// Whether the gateway answers this itself, so that no subsystem can.
pub fn is_reserved(namespace: &str, name: &str) -> bool {
    RESERVED.contains(&namespace) || RESERVED_ROWS.contains(&(namespace, name))
}

/// The grammar of namespaces, names, actions and events: 1 to 64 of `a-z 0-9 _ -`. Two words mean the
/// holder in ACL entries, and would name somebody else's subsystem there.
pub fn is_word(text: &str) -> bool {
    (1..=WORD_MAX).contains(&text.len()) && text.bytes().all(plain) && !matches!(text, "me" | "my_session")
}

fn is_pattern(text: &str) -> bool {
    (1..=WORD_MAX).contains(&text.len()) && text.bytes().all(|b| b == b'*' || plain(b))
}

fn plain(b: u8) -> bool {
    matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-')
}

#[cfg(test)]
mod tests;
