//! Conversations with the gateway as data files, and their replay.
//!
//! `transcripts/README` has the format for those who write them.

mod expect;
mod replay;

use std::path::Path;

use serde_json::Value;

use crate::options::Pam;
use crate::stack::Program;

/// One file.
#[derive(Debug)]
pub struct Transcript {
    /// The file's name without its end.
    pub name: String,
    over: Vec<Transport>,
    only: Option<Pam>,
    lines: Vec<(usize, Line)>,
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
    /// `@ NAME`: what follows is on the connection of that name, opened if it is not there.
    On(String),
    /// `$ stop|start|kill authd|guard|gateway`: something happens to a program.
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
            "@" => Line::On(rest.to_owned()),
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
        other => Transport::UnixAs(other.trim_start_matches("unix:").to_owned()),
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
    let program = match program {
        "guard" => Program::Guard,
        "authd" => Program::Authd,
        "gateway" => Program::Gateway,
        _ => return None,
    };
    Some(Line::Do(deed, program))
}

impl Transcript {
    /// Whether it can be replayed with this PAM.
    pub fn suits(&self, pam: Pam) -> bool {
        self.only.is_none_or(|only| only == pam)
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
        for text in ["? x", "< {", "! close soon", "$ tickle authd", ">fill x y", "only: here"] {
            assert!(parse("x", text).is_err_and(|e| e.starts_with("line 1: ")), "{text}");
        }
        assert_eq!(parse("x", "# c\n\n> a\n").map(|t| t.lines), Ok(vec![(3, Line::Send("a".into()))]));
    }
}
