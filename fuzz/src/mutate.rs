//! Input that is nearly good: the same at every run, because a failure must be found again.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// The longest input, in bytes.
const MOST: usize = 20_000;
/// What parsers treat in a way of their own.
const WORDS: &[&[u8]] = &[
    b"\0",
    b"\n",
    b"\r\n",
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"\xff",
    b"\xed\xa0\x80",
    b"\xf0\x9f\x92\xa9",
    b"{",
    b"}",
    b"[",
    b"]",
    b"{}",
    b"[]",
    b":",
    b",",
    b".",
    b"..",
    b"/",
    b"%",
    b"%00",
    b"*",
    b"#",
    b"!",
    b"null",
    b"true",
    b"-1",
    b"0",
    b"1e999",
    b"18446744073709551616",
    b"-9223372036854775808",
    b"=",
    b"==",
    b"\x80\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\x30\x84\xff\xff\xff\xff",
    b"\x30\x80",
    b"$serde_json::private::RawValue",
    b"$serde_json::private::Number",
    b"args",
    b"action",
    b"namespace",
    b"name",
    b"id",
];

/// An endless row of inputs, each a seed or an earlier input with some changes.
pub(crate) struct Mutations<'a> {
    seeds: &'a [&'a [u8]],
    state: u64,
    input: Vec<u8>,
}

impl<'a> Mutations<'a> {
    pub(crate) fn new(name: &str, seeds: &'a [&'a [u8]]) -> Self {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        Self { seeds, state: hasher.finish() | 1, input: Vec::new() }
    }

    pub(crate) fn next(&mut self) -> &[u8] {
        // Three changes of one seed, one after the other, and then another seed.
        if self.below(3) == 0 || self.input.is_empty() {
            let at = self.below(self.seeds.len());
            self.input = self.seeds.get(at).copied().unwrap_or_default().to_vec();
        }
        for _ in 0..=self.below(4) {
            self.change();
        }
        self.input.truncate(MOST);
        &self.input
    }

    fn change(&mut self) {
        let at = self.below(self.input.len() + 1);
        match self.below(8) {
            0 => {
                let bit = 1_u8 << self.below(8);
                if let Some(byte) = self.input.get_mut(at) {
                    *byte ^= bit;
                }
            }
            1 => {
                let byte = self.byte();
                self.input.insert(at, byte);
            }
            2 => {
                let end = (at + self.below(16)).min(self.input.len());
                self.input.drain(at..end);
            }
            3 => {
                // Written twice.
                let end = (at + self.below(64)).min(self.input.len());
                let copy = self.input.get(at..end).unwrap_or_default().to_vec();
                self.input.splice(at..at, copy);
            }
            4 | 5 => {
                let word = WORDS.get(self.below(WORDS.len())).copied().unwrap_or_default();
                self.input.splice(at..at, word.iter().copied());
            }
            6 => {
                let other = self.seeds.get(self.below(self.seeds.len())).copied().unwrap_or_default();
                let from = self.below(other.len() + 1);
                self.input.truncate(at);
                self.input.extend(other.get(from..).unwrap_or_default());
            }
            _ => self.input.truncate(at),
        }
    }

    /// xorshift64.
    fn random(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    fn byte(&mut self) -> u8 {
        self.random().to_le_bytes()[3]
    }

    fn below(&mut self, bound: usize) -> usize {
        let random = usize::try_from(self.random() >> 33).unwrap_or_default();
        random % bound.max(1)
    }
}
