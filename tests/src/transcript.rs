//! Conversations with the gateway as data files, and their replay.
//!
//! `transcripts/README` has the format for those who write them.

mod expect;
mod fill;
mod replay;

use std::path::Path;

use serde_json::Value;

use crate::keys;
use crate::options::{Options, Pam, set};
use crate::stack::Program;

/// One file.
#[derive(Debug)]
pub struct Transcript {
    /// The file's name without its end.
    pub name: String,
    over: Vec<Transport>,
    only: Option<Pam>,
    path: String,
    channels: toml::Table,
    settings: Vec<Setting>,
    lines: Vec<(usize, Line)>,
}

/// A key of a configuration that a transcript needs to be different.
#[derive(Debug, Clone, PartialEq)]
struct Setting {
    program: Program,
    key: String,
    value: toml::Value,
}

/// What carries the connections of a transcript.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// TLS.
    Tls,
    /// The Unix socket, as the user who runs the tests.
    Unix,
    /// The Unix socket, as somebody of the cast.
    UnixAs(String),
    /// TLS on loopback, as somebody of the cast.
    TlsAs(String),
    /// The Python package `websockets`, over the Unix socket or TLS.
    Python {
        /// The interpreter that has the package.
        interpreter: String,
        /// Over the Unix socket.
        unix: bool,
    },
}

#[derive(Debug, PartialEq, Eq)]
enum Line {
    /// `> TEXT`: the client sends a text frame.
    Send(String),
    /// `>binary TEXT`: a binary frame.
    SendBinary(String),
    /// `>fill N TEXT`: a text frame, filled up with blanks to N bytes.
    SendFilled(usize, String),
    /// `< JSON`: the next message is this one.
    Expect(String),
    /// `! close CODE`: the next thing is the end, with this code (`none`: without one).
    Close(Option<u16>),
    /// `@ NAME [with KEY]`: what follows is on the connection of that name, opened if it is not there, with
    /// the certificate of that key.
    On(String, Option<String>),
    /// `& NAME KIND`: a new key.
    Key(String, keys::Kind),
    /// `$ stop|start|kill certd|authd|guard|gateway`: something happens to a program.
    Do(Deed, Program),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Start,
    Stop,
    Kill,
}

/// Every transcript of the tree, by name.
///
/// # Panics
/// When one cannot be read.
pub fn all() -> Vec<Transcript> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("transcripts");
    let mut files: Vec<_> = std::fs::read_dir(&dir)
        .expect("the directory of transcripts")
        .map(|entry| entry.expect("a directory entry").path())
        .filter(|path| path.extension().is_some_and(|end| end == "txt"))
        .collect();
    files.sort();
    let parse = |path: &std::path::PathBuf| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(path).expect("a transcript");
        parse(&name, &text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    };
    files.iter().map(parse).collect()
}

/// Reads a transcript.
///
/// # Errors
/// A sentence with the line's number.
pub fn parse(name: &str, text: &str) -> Result<Transcript, String> {
    let mut transcript = Transcript {
        name: name.to_owned(),
        over: vec![Transport::Tls, Transport::Unix],
        only: None,
        path: "/".to_owned(),
        channels: toml::Table::new(),
        settings: Vec::new(),
        lines: Vec::new(),
    };
    for (number, line) in text.lines().enumerate().map(|(n, line)| (n + 1, line.trim_end())) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |what: &str| format!("line {number}: {what}: {line}");
        let (mark, rest) = line.split_once(' ').unwrap_or((line, ""));
        let parsed = match mark {
            "over:" => {
                transcript.over = rest.split(' ').map(transport).collect();
                continue;
            }
            "only:" => {
                transcript.only = Some(match rest {
                    "real" => Pam::Real,
                    "wrapper" => Pam::Wrapper,
                    _ => return Err(wrong("real or wrapper")),
                });
                continue;
            }
            "path:" => {
                transcript.path = rest.to_owned();
                continue;
            }
            "channel:" => {
                let (key, value) = rest.split_once(" = ").ok_or_else(|| wrong("NAME.KEY = VALUE"))?;
                set(&mut transcript.channels, key, value_of(value).ok_or_else(|| wrong("no value"))?);
                continue;
            }
            "certd:" | "authd:" | "gateway:" => {
                let setting = setting(mark.trim_end_matches(':'), rest);
                transcript.settings.push(setting.ok_or_else(|| wrong("section.key = value"))?);
                continue;
            }
            ">" => Line::Send(rest.to_owned()),
            ">binary" => Line::SendBinary(rest.to_owned()),
            ">fill" => {
                let (length, rest) = rest.split_once(' ').ok_or_else(|| wrong("a length and a text"))?;
                Line::SendFilled(length.parse().map_err(|_| wrong("a length"))?, rest.to_owned())
            }
            "<" => {
                let _: Value = serde_json::from_str(rest).map_err(|e| wrong(&e.to_string()))?;
                Line::Expect(rest.to_owned())
            }
            "!" => match rest.split_once(' ') {
                Some(("close", "none")) => Line::Close(None),
                Some(("close", code)) => Line::Close(Some(code.parse().map_err(|_| wrong("a code"))?)),
                _ => return Err(wrong("close CODE")),
            },
            "@" => match rest.split_once(" with ") {
                Some((name, key)) => Line::On(name.to_owned(), Some(key.to_owned())),
                None => Line::On(rest.to_owned(), None),
            },
            "&" => {
                let (name, kind) = rest.split_once(' ').ok_or_else(|| wrong("a name and a kind"))?;
                Line::Key(name.to_owned(), keys::Kind::called(kind).ok_or_else(|| wrong("no such kind"))?)
            }
            "$" => deed(rest).ok_or_else(|| wrong("start, stop or kill, and a program"))?,
            _ => return Err(wrong("no such mark")),
        };
        transcript.lines.push((number, parsed));
    }
    Ok(transcript)
}

fn transport(word: &str) -> Transport {
    match word {
        "tls" => Transport::Tls,
        "unix" => Transport::Unix,
        other => match other.strip_prefix("tls:") {
            Some(name) => Transport::TlsAs(name.to_owned()),
            None => Transport::UnixAs(other.trim_start_matches("unix:").to_owned()),
        },
    }
}

fn deed(text: &str) -> Option<Line> {
    let (deed, program) = text.split_once(' ')?;
    let deed = match deed {
        "start" => Deed::Start,
        "stop" => Deed::Stop,
        "kill" => Deed::Kill,
        _ => return None,
    };
    Some(Line::Do(deed, program_called(program)?))
}

fn program_called(name: &str) -> Option<Program> {
    Some(match name {
        "guard" => Program::Guard,
        "certd" => Program::Certd,
        "authd" => Program::Authd,
        "gateway" => Program::Gateway,
        _ => return None,
    })
}

fn setting(program: &str, text: &str) -> Option<Setting> {
    let (key, value) = text.split_once(" = ")?;
    Some(Setting { program: program_called(program)?, key: key.to_owned(), value: value_of(value)? })
}

fn value_of(text: &str) -> Option<toml::Value> {
    format!("value = {text}").parse::<toml::Table>().ok()?.remove("value")
}

impl Transport {
    /// Whether there is no TLS.
    fn is_local(&self) -> bool {
        match self {
            Self::Tls | Self::TlsAs(_) => false,
            Self::Unix | Self::UnixAs(_) => true,
            Self::Python { unix, .. } => *unix,
        }
    }
}

impl Transcript {
    /// Whether it can be replayed with this PAM.
    pub fn suits(&self, pam: Pam) -> bool {
        self.only.is_none_or(|only| only == pam)
    }

    /// The options of a stack that it can be replayed against.
    pub fn adjust(&self, options: Options) -> Options {
        let options = options.channels(self.channels.clone());
        self.settings.iter().cloned().fold(
            options,
            |options, Setting { program, key, value }| match program {
                Program::Certd => options.certd(&key, value),
                Program::Authd => options.authd(&key, value),
                Program::Gateway | Program::Guard => options.gateway(&key, value),
            },
        )
    }

    /// Whether the same stack will do for another transcript.
    pub fn shares_stack_with(&self, other: &Self) -> bool {
        self.settings == other.settings && self.channels == other.channels
    }

    /// What it is to be replayed over.
    pub fn over(&self) -> &[Transport] {
        &self.over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_make_no_sense_are_refused() {
        for text in [
            "? x",
            "< {",
            "! close soon",
            "$ tickle authd",
            ">fill x y",
            "only: here",
            "& k",
            "& k dsa",
            "certd: x",
            "channel: news.subscribe",
            "channel: news.subscribe = anyone",
        ] {
            assert!(parse("x", text).is_err_and(|e| e.starts_with("line 1: ")), "{text}");
        }
        assert_eq!(parse("x", "# c\n\n> a\n").map(|t| t.lines), Ok(vec![(3, Line::Send("a".into()))]));
    }
}
