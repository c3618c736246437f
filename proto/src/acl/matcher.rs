//! Whether a pattern matches a subject, in time `len(pattern) * len(subject)` at most.
//!
//! The places of the subject that the pattern can have reached are kept all at once and moved on symbol by
//! symbol, as in Thompson's simulation, so there is nothing to go back to. A word `me` moves each of them by
//! one of two texts; it is never written out into two patterns.

use super::Holder;

/// One subject and its holder, asked about one pattern after the other.
pub(super) struct Matcher<'a> {
    subject: &'a [u8],
    holder: Holder<'a>,
    /// Whether the place of that number is reached; only those from `first` to `last` can be.
    here: Vec<bool>,
    next: Vec<bool>,
    first: usize,
    last: usize,
}

impl<'a> Matcher<'a> {
    pub(super) fn new(subject: &'a str, holder: Holder<'a>) -> Self {
        let subject = subject.as_bytes();
        Self { subject, holder, here: Vec::new(), next: Vec::new(), first: 0, last: 0 }
    }

    /// Whether this pattern, without a leading `!`, matches the whole subject.
    pub(super) fn matches(&mut self, pattern: &str) -> bool {
        if self.subject.contains(&b'\n') {
            return false;
        }
        if pattern == "#" {
            return true;
        }
        if self.subject.is_empty() {
            return false;
        }
        if pattern.as_bytes() == self.subject && !pattern.contains(['*', '#']) {
            return true;
        }
        // What is literal and not equal is done. Words of the holder need a look at each word.
        if !pattern.contains(['*', '#']) && !pattern.contains("me") && !pattern.contains("my_session") {
            return false;
        }
        self.walk(pattern)
    }

    fn walk(&mut self, pattern: &str) -> bool {
        let places = self.subject.len() + 1;
        self.here.clear();
        self.here.resize(places, false);
        self.next.clear();
        self.next.resize(places, false);
        self.mark(0);
        self.turn();
        let Holder { auth_id, session } = self.holder;
        for (number, word) in pattern.split('.').enumerate() {
            if number > 0 {
                self.text(b".");
            }
            match word {
                "me" => self.either(b"me", auth_id.as_bytes()),
                "my_session" => self.either(b"my_session", session.as_bytes()),
                // A word of its own needs a character: no wildcard matches an empty word.
                word if !word.is_empty() && word.bytes().all(|symbol| symbol == b'*') => {
                    self.run(in_word, false)
                }
                word => self.symbols(word.as_bytes()),
            }
            if self.first > self.last {
                return false;
            }
        }
        self.here.last() == Some(&true)
    }

    fn symbols(&mut self, word: &[u8]) {
        for symbol in word {
            match symbol {
                b'*' => self.run(in_word, true),
                b'#' => self.run(|_| true, false),
                literal => self.text(&[*literal]),
            }
            if self.first > self.last {
                return;
            }
        }
    }

    /// Moves every place over this text.
    fn text(&mut self, text: &[u8]) {
        self.over(text);
        self.turn();
    }

    /// Moves every place over one text or the other; over the second only if there is one.
    fn either(&mut self, one: &[u8], other: &[u8]) {
        self.over(one);
        if !other.is_empty() {
            self.over(other);
        }
        self.turn();
    }

    fn over(&mut self, text: &[u8]) {
        for place in self.first..=self.last {
            let reached = self.here.get(place) == Some(&true);
            if reached && self.subject.get(place..).is_some_and(|rest| rest.starts_with(text)) {
                self.mark(place + text.len());
            }
        }
    }

    /// Moves every place over one or more characters of a kind; with `none` over no character, too.
    fn run(&mut self, kind: fn(u8) -> bool, none: bool) {
        if none {
            for place in self.first..=self.last {
                if self.here.get(place) == Some(&true) {
                    self.mark(place);
                }
            }
        }
        let subject = self.subject;
        for (place, byte) in subject.iter().enumerate().skip(self.first) {
            // A character of several bytes is one: only its first byte begins anything.
            let begins = self.here.get(place) == Some(&true) && byte & 0xc0 != 0x80;
            let goes_on = self.next.get(place) == Some(&true);
            if (begins || goes_on) && kind(*byte) {
                self.mark(place + 1);
            } else if place >= self.last {
                break;
            }
        }
        self.turn();
    }

    fn mark(&mut self, place: usize) {
        if let Some(reached) = self.next.get_mut(place) {
            *reached = true;
        }
    }

    /// What was marked is where we are.
    fn turn(&mut self) {
        std::mem::swap(&mut self.here, &mut self.next);
        self.next.fill(false);
        let reached =
            || self.here.iter().enumerate().filter(|(_, reached)| **reached).map(|(place, _)| place);
        // Nothing is reached: the first is beyond the last.
        self.first = reached().next().unwrap_or(1);
        self.last = reached().next_back().unwrap_or(0);
    }
}

/// What `*` stands for.
fn in_word(byte: u8) -> bool {
    !matches!(byte, b'.' | b'#')
}
