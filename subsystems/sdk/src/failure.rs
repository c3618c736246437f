//! Why a call comes to nothing, in words that clients are told.

use std::fmt;

use doorward_proto::subsystem::v1 as wire;

use crate::bounds::TEXT_MAX;

/// What kind of failure; clients see it as the code in its description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 400: the args are wrong. The sentence is shown to the client.
    BadArgs,
    /// 403: not for this caller, beyond what the ACL of the action says.
    Denied,
    /// 404: there is no such thing.
    NotFound,
    /// 408: out of time.
    OutOfTime,
    /// 429: too much at once.
    Busy,
    /// 500: a fault of the subsystem's.
    Fault,
    /// 503: something that the subsystem needs is not there.
    Unavailable,
}

impl Kind {
    /// The code on the wire.
    pub fn code(self) -> u32 {
        match self {
            Kind::BadArgs => 400,
            Kind::Denied => 403,
            Kind::NotFound => 404,
            Kind::OutOfTime => 408,
            Kind::Busy => 429,
            Kind::Fault => 500,
            Kind::Unavailable => 503,
        }
    }

    /// Its word in audit records.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Kind::BadArgs => "bad-args",
            Kind::Denied => "denied",
            Kind::NotFound => "not-found",
            Kind::OutOfTime => "late",
            Kind::Busy => "busy",
            Kind::Fault => "failed",
            Kind::Unavailable => "unavailable",
        }
    }
}

/// A handler's failure: its kind, and one sentence without secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    kind: Kind,
    sentence: String,
}

impl Failure {
    /// A failure of this kind. The sentence is cut to 200 characters, without control characters.
    pub fn new(kind: Kind, sentence: impl fmt::Display) -> Failure {
        Failure { kind, sentence: one_line(&sentence.to_string()) }
    }

    /// The args are wrong: the sentence says where, and is shown to the client.
    pub fn bad_args(sentence: impl fmt::Display) -> Failure {
        Failure::new(Kind::BadArgs, sentence)
    }

    /// The caller may not do this to that thing.
    pub fn denied(sentence: impl fmt::Display) -> Failure {
        Failure::new(Kind::Denied, sentence)
    }

    /// There is no such thing.
    pub fn not_found(sentence: impl fmt::Display) -> Failure {
        Failure::new(Kind::NotFound, sentence)
    }

    /// Too much at once.
    pub fn busy(sentence: impl fmt::Display) -> Failure {
        Failure::new(Kind::Busy, sentence)
    }

    /// A fault: the sentence is for the subsystem's own log, which gets it.
    pub fn fault(sentence: impl fmt::Display) -> Failure {
        Failure::new(Kind::Fault, sentence)
    }

    /// Something that the subsystem needs is not there.
    pub fn unavailable(sentence: impl fmt::Display) -> Failure {
        Failure::new(Kind::Unavailable, sentence)
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its sentence.
    pub fn sentence(&self) -> &str {
        &self.sentence
    }

    /// What goes to the gateway: of a fault no words, they are the log's.
    pub(crate) fn to_wire(&self) -> wire::Failure {
        let told = self.kind != Kind::Fault;
        let message = if told { self.sentence.clone() } else { "a fault".to_owned() };
        wire::Failure { code: self.kind.code(), message }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for Failure {}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(TEXT_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_one_short_line() {
        let failure = Failure::bad_args(format!("a\nb\u{1b}[2J{}", "x".repeat(300)));
        assert_eq!(failure.sentence().chars().count(), TEXT_MAX);
        assert!(failure.sentence().starts_with("a b [2Jxx"));
        assert_eq!(failure.to_wire(), wire::Failure { code: 400, message: failure.sentence().into() });
    }

    #[test]
    fn the_words_of_a_fault_stay_here() {
        let wire = Failure::fault("password is 'x'").to_wire();
        assert_eq!((wire.code, wire.message.as_str()), (500, "a fault"));
    }
}
