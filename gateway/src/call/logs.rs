//! Requests for audit records.

/// The most records of one reply.
pub const RECORDS: usize = 10_000;

/// Which records a client wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogsRequest {
    /// Where to begin.
    pub place: Place,
    /// At most so many.
    pub most: usize,
    /// Of which services; none named: of all.
    pub of: Option<Vec<Service>>,
}

/// A span of time, or where an earlier reply ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// From, until; the defaults are twelve hours ago and now.
    Span(Option<When>, Option<When>),
    /// After the last record of an earlier reply.
    After(Cursor),
}

/// A moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Milliseconds of UTC.
    At(u64),
    /// So many milliseconds before the request comes.
    Ago(u64),
}

impl When {
    /// In milliseconds of UTC, if it is `now`.
    pub fn at(self, now: u64) -> u64 {
        match self {
            Self::At(millis) => millis,
            Self::Ago(millis) => now.saturating_sub(millis),
        }
    }
}

/// Who writes records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Logins and sessions.
    Authd,
    /// Keys.
    Certd,
    /// What comes no further.
    Gateway,
}

impl Service {
    /// In the order in which a cursor counts them.
    pub const ALL: [Service; 3] = [Service::Authd, Service::Certd, Service::Gateway];

    /// Its program, as records name it.
    pub fn program(self) -> &'static str {
        match self {
            Self::Authd => "doorward-authd",
            Self::Certd => "doorward-certd",
            Self::Gateway => "doorward-gateway",
        }
    }

    /// Its name in requests and replies.
    pub fn name(self) -> &'static str {
        match self {
            Self::Authd => "authd",
            Self::Certd => "certd",
            Self::Gateway => "gateway",
        }
    }
}

/// Where a reply ended, in milliseconds of UTC, and how many records of that very moment were in it and before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The moment of the last record.
    pub from: u64,
    /// The end of the span that was asked for.
    pub until: u64,
    /// Of each service.
    pub known: [u32; 3],
}

impl Cursor {
    /// As clients carry it.
    pub fn text(&self) -> String {
        let [authd, certd, gateway] = self.known;
        format!("{}-{}-{authd}-{certd}-{gateway}", self.from, self.until)
    }

    /// The same, read back. Whoever makes one up sees no more by it than by a span.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-').map(|part| {
            let plain = (1..=20).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| part.parse::<u64>().ok()).flatten()
        });
        let mut number = || parts.next().flatten();
        let (from, until) = (number()?, number()?);
        let mut count = || number().and_then(|count| u32::try_from(count).ok());
        let known = [count()?, count()?, count()?];
        parts.next().is_none().then_some(Self { from, until, known })
    }
}

/// Audit records, as they stand in their files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Records {
    /// JSON objects, the oldest first.
    pub lines: Vec<String>,
    /// There are more, from there on.
    pub next: Option<Cursor>,
    /// Services whose files are longer than what is looked at: older records may be missing.
    pub unread: Vec<&'static str>,
    /// Services that could not be asked.
    pub missing: Vec<&'static str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_and_what_is_none_is_not() {
        for cursor in [
            Cursor { from: 0, until: 0, known: [0; 3] },
            Cursor { from: u64::MAX, until: 1_795_428_672_123, known: [1, 0, u32::MAX] },
        ] {
            assert_eq!(Cursor::parse(&cursor.text()), Some(cursor));
        }
        for text in
            ["", "1", "1-2-3-4", "1-2-3-4-5-6", "1-2-3-4-4294967296", "1-2-+3-4-5", "1-2--4-5", "a-2-3-4-5"]
        {
            assert_eq!(Cursor::parse(text), None, "{text}");
        }
    }
}
