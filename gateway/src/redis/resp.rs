//! The protocol of Redis, version 2, as far as publishing and subscribing need it. No I/O.
//!
//! Every length has a bound: a line, the elements of an array, a bulk string. A bulk string over its bound is passed
//! over and its length kept, because anybody may publish one, and it must not cost a connection that many share.

use bytes::{Buf, Bytes, BytesMut};

/// The longest line: statuses, errors, numbers, and the head of what follows. Redis explains its protected mode in 1,065
/// bytes.
const LINE_MAX: usize = 4_096;
/// The most elements of an array: a message has three.
const ELEMENTS_MAX: usize = 4;
/// What Redis itself takes at most by default (`proto-max-bulk-len`).
const BULK_CEILING: u64 = 512 << 20;

/// An answer or a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    One(Part),
    Many(Vec<Part>),
}

/// A part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Status(Bytes),
    Error(Bytes),
    Integer(i64),
    Bulk(Bytes),
    /// It had so many bytes, which nobody kept.
    TooLong(u64),
    Nothing,
}

/// What is not this protocol, or more of it than this end takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Garbage {
    /// No end of the line, or a first byte that means nothing.
    #[error("it does not speak the protocol of Redis")]
    Unknown,
    /// A number that is none, or beyond its bound.
    #[error("it sent a length that cannot be")]
    Length,
}

/// Makes frames of bytes as they come.
#[derive(Debug)]
pub(super) struct Decoder {
    bulk_max: usize,
    parts: Vec<Part>,
    /// Elements of the array that are still to come.
    left: usize,
    inside: Inside,
}

#[derive(Debug, Clone, Copy)]
enum Inside {
    /// At the beginning of a line.
    Line,
    /// In a bulk string of this length.
    Bulk(usize),
    /// In one that is too long: its length, and what is still to come with its end.
    Passing(u64, u64),
}

impl Decoder {
    /// Bulk strings of more bytes are passed over.
    pub(super) fn new(bulk_max: usize) -> Self {
        Self { bulk_max, parts: Vec::new(), left: 0, inside: Inside::Line }
    }

    /// The next frame, if it is whole; takes from the buffer what it has understood.
    pub(super) fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, Garbage> {
        loop {
            let part = match self.inside {
                Inside::Line => match self.line(buffer)? {
                    Line::Whole(part) => part,
                    Line::Head => continue,
                    Line::Short => return Ok(None),
                },
                Inside::Bulk(length) => {
                    if buffer.len() < length + 2 {
                        return Ok(None);
                    }
                    let bulk = buffer.split_to(length).freeze();
                    if !buffer.starts_with(b"\r\n") {
                        return Err(Garbage::Unknown);
                    }
                    buffer.advance(2);
                    Part::Bulk(bulk)
                }
                Inside::Passing(length, left) => {
                    let here = left.min(buffer.len() as u64);
                    buffer.advance(usize::try_from(here).unwrap_or(buffer.len()));
                    if here < left {
                        self.inside = Inside::Passing(length, left - here);
                        return Ok(None);
                    }
                    Part::TooLong(length)
                }
            };
            self.inside = Inside::Line;
            if self.left == 0 {
                return Ok(Some(Frame::One(part)));
            }
            self.parts.push(part);
            self.left -= 1;
            if self.left == 0 {
                return Ok(Some(Frame::Many(std::mem::take(&mut self.parts))));
            }
        }
    }

    fn line(&mut self, buffer: &mut BytesMut) -> Result<Line, Garbage> {
        let Some(end) = buffer.windows(2).take(LINE_MAX).position(|two| two == b"\r\n") else {
            let first = buffer.first().is_none_or(|first| b"+-:$*".contains(first));
            return if first && buffer.len() <= LINE_MAX { Ok(Line::Short) } else { Err(Garbage::Unknown) };
        };
        let mut line = buffer.split_to(end).freeze();
        buffer.advance(2);
        if line.is_empty() {
            return Err(Garbage::Unknown);
        }
        let kind = line.get_u8();
        Ok(match kind {
            b'+' => Line::Whole(Part::Status(line)),
            b'-' => Line::Whole(Part::Error(line)),
            b':' => Line::Whole(Part::Integer(number(&line)?)),
            b'$' => match u64::try_from(number(&line)?) {
                Ok(length) if length > BULK_CEILING => return Err(Garbage::Length),
                Ok(length) => {
                    self.inside = match usize::try_from(length) {
                        Ok(length) if length <= self.bulk_max => Inside::Bulk(length),
                        _ => Inside::Passing(length, length + 2),
                    };
                    Line::Head
                }
                Err(_) if &*line == b"-1" => Line::Whole(Part::Nothing),
                Err(_) => return Err(Garbage::Length),
            },
            // An array within an array is in none of the answers to what is asked here.
            b'*' if self.left == 0 => match usize::try_from(number(&line)?) {
                Ok(elements @ 1..=ELEMENTS_MAX) => {
                    self.left = elements;
                    Line::Head
                }
                _ => return Err(Garbage::Length),
            },
            _ => return Err(Garbage::Unknown),
        })
    }
}

enum Line {
    Whole(Part),
    /// Of something that follows.
    Head,
    /// It has no end yet.
    Short,
}

fn number(digits: &[u8]) -> Result<i64, Garbage> {
    let text = std::str::from_utf8(digits).map_err(|_| Garbage::Length)?;
    text.parse().map_err(|_| Garbage::Length)
}

/// Appends a command, all of whose words are sent by their length: no byte in them means anything.
pub(super) fn command(out: &mut BytesMut, words: &[&[u8]]) {
    let mut head =
        |kind: char, number: usize| out.extend_from_slice(format!("{kind}{number}\r\n").as_bytes());
    head('*', words.len());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All frames of this, as if it came in pieces of so many bytes.
    fn frames(bytes: &[u8], piece: usize, bulk_max: usize) -> Result<Vec<Frame>, Garbage> {
        let (mut decoder, mut buffer, mut found) = (Decoder::new(bulk_max), BytesMut::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            buffer.extend_from_slice(piece);
            while let Some(frame) = decoder.next(&mut buffer)? {
                found.push(frame);
            }
            assert!(buffer.len() <= LINE_MAX.max(bulk_max) + 2 + piece.len(), "what waits is bounded");
        }
        Ok(found)
    }

    fn bulk(text: &'static str) -> Part {
        Part::Bulk(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn frames_are_the_same_in_pieces_of_any_length() {
        let text = b"+PONG\r\n-ERR no\r\n:-7\r\n$-1\r\n$0\r\n\r\n*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$4\r\n\r\n\r\n\r\n\
            *3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n";
        let status = |text: &'static [u8]| Bytes::from_static(text);
        let expected = [
            Frame::One(Part::Status(status(b"PONG"))),
            Frame::One(Part::Error(status(b"ERR no"))),
            Frame::One(Part::Integer(-7)),
            Frame::One(Part::Nothing),
            Frame::One(bulk("")),
            Frame::Many(vec![bulk("message"), bulk("a"), bulk("\r\n\r\n")]),
            Frame::Many(vec![bulk("subscribe"), bulk("a"), Part::Integer(1)]),
        ];
        for piece in 1..=text.len() {
            assert_eq!(frames(text, piece, 64).as_deref(), Ok(&expected[..]), "{piece}");
        }
    }

    #[test]
    fn what_is_too_long_is_passed_over_and_what_follows_is_read() {
        let long = "x".repeat(100_000);
        let text = format!("*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$100000\r\n{long}\r\n+OK\r\n");
        for piece in [1, 7, 4_096, 200_000] {
            let found = frames(text.as_bytes(), piece, 16).expect("it is well formed");
            let message = Frame::Many(vec![bulk("message"), bulk("a"), Part::TooLong(100_000)]);
            assert_eq!(found, [message, Frame::One(Part::Status(Bytes::from_static(b"OK")))]);
        }
    }

    #[test]
    fn garbage_and_impossible_lengths_end_it() {
        for text in [
            "HTTP/1.1 400 Bad Request\r\n",
            "\r\n",
            "?\r\n",
            "$1\r\nxyz",
            "$99999999999999999999\r\n",
            "$536870913\r\n",
            "$-2\r\n",
            "$1x\r\n",
            "$\r\n",
            "*0\r\n",
            "*-1\r\n",
            "*5\r\n",
            "*1000000000\r\n",
            "*1\r\n*1\r\n",
            ":\u{e9}\r\n",
        ] {
            assert!(frames(text.as_bytes(), 3, 64).is_err(), "{text:?}");
        }
        assert_eq!(
            frames("+".repeat(5_000).as_bytes(), 100, 64),
            Err(Garbage::Unknown),
            "a line without an end"
        );
    }

    #[test]
    fn a_command_is_read_as_it_was_written() {
        let mut out = BytesMut::new();
        command(&mut out, &[b"PUBLISH", b"a:b", b"\r\n*1\r\n"]);
        let words = vec![bulk("PUBLISH"), bulk("a:b"), bulk("\r\n*1\r\n")];
        assert_eq!(frames(&out, 5, 64).as_deref(), Ok(&[Frame::Many(words)][..]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_frames_or_garbage(bytes in proptest::collection::vec(any::<u8>(), 0..512), piece in 1..64_usize) {
            let _ = frames(&bytes, piece, 32);
        }

        #[test]
        fn anything_near_the_protocol_is_frames_or_garbage(text in "([+$*:-][0-9a]{0,3}\r\n){0,20}", piece in 1..9_usize) {
            let _ = frames(text.as_bytes(), piece, 32);
        }
    }
}
