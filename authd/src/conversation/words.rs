//! What authd and the worker say, between their packets and our types. The worker's are hostile input.

use std::time::Duration;

use doorward_proto::{PAM_PACKET_MAX, pam::v1 as wire};
use prost::Message as _;
use zeroize::{Zeroize as _, Zeroizing};

use super::Start;
use crate::secret::Answer;

/// Messages of one round.
const ROUND_MAX: usize = 32;
/// A text that is shown, in bytes.
const TEXT_MAX: usize = 512;
/// No module's wish for a delay holds a login longer.
const FAIL_DELAY_MAX: Duration = Duration::from_secs(10);

/// How a message is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A question whose answer is not shown.
    Hidden,
    /// A question whose answer is shown.
    Visible,
    /// A text.
    Info,
    /// A text about something wrong.
    Error,
}

/// One message of a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// How it is shown.
    pub style: Style,
    /// Printable, at most 512 bytes.
    pub text: String,
}

impl Message {
    /// Whether it wants an answer.
    pub fn asks(&self) -> bool {
        matches!(self.style, Style::Hidden | Style::Visible)
    }
}

/// What a worker shows and asks at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// 1 to 32.
    pub messages: Vec<Message>,
    /// Authentication is over and succeeded.
    pub authenticated: bool,
}

impl Round {
    /// Whether it wants an answer.
    pub fn asks(&self) -> bool {
        self.messages.iter().any(Message::asks)
    }
}

/// What PAM is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Authenticate, then account management.
    Login,
    /// Account management alone.
    Account,
}

/// What PAM decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Its kind.
    pub kind: VerdictKind,
    /// PAM_USER at the end.
    pub user: String,
    /// The longest delay that a module asked for, cut at 10 s.
    pub fail_delay: Duration,
}

/// The kinds of verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerdictKind {
    /// PAM_SUCCESS from all that was asked.
    Success,
    /// Wrong password, unknown user, locked, expired, refused by a module.
    Denied,
    /// PAM's user name changed.
    UserChanged,
    /// PAM or a module failed.
    Fault,
    /// PAM was not started.
    ServiceRefused,
    /// The worker did not understand us.
    Protocol,
    /// The expired password was not changed.
    PasswordExpired,
}

/// A packet of the worker.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FromWorker {
    Round(Round),
    Verdict(Verdict),
}

/// The packet that starts a conversation.
pub(super) fn start(start: &Start) -> Zeroizing<Vec<u8>> {
    let task = match start.task {
        Task::Login => wire::Task::Login,
        Task::Account => wire::Task::Account,
    };
    let start = wire::Start {
        user: start.user.as_str().to_owned(),
        rhost: start.rhost.clone(),
        tty: "doorward".into(),
        task: task.into(),
    };
    let message = wire::ToWorker { kind: Some(wire::to_worker::Kind::Start(start)) };
    Zeroizing::new(message.encode_to_vec())
}

/// The packet of answers; may be longer than the limit.
pub(super) fn answers(answers: &[Answer]) -> Zeroizing<Vec<u8>> {
    let answers = answers.iter().map(|answer| answer.expose().to_owned()).collect();
    let mut message =
        wire::ToWorker { kind: Some(wire::to_worker::Kind::Answers(wire::Answers { answers })) };
    let packet = Zeroizing::new(message.encode_to_vec());
    if let Some(wire::to_worker::Kind::Answers(answers)) = &mut message.kind {
        answers.answers.iter_mut().for_each(|answer| answer.zeroize());
    }
    packet
}

/// What a packet says, or what is wrong with it.
pub(super) fn read(packet: &[u8]) -> Result<FromWorker, &'static str> {
    if packet.len() > PAM_PACKET_MAX {
        return Err("packet over the limit");
    }
    let message = wire::FromWorker::decode(packet).map_err(|_| "no message")?;
    match message.kind {
        None => Err("neither round nor verdict"),
        Some(wire::from_worker::Kind::Round(round)) => {
            if round.messages.is_empty() || round.messages.len() > ROUND_MAX {
                return Err("a round of none or too many messages");
            }
            let messages: Option<_> = round.messages.into_iter().map(read_message).collect();
            let messages = messages.ok_or("unknown style")?;
            Ok(FromWorker::Round(Round { messages, authenticated: round.authenticated }))
        }
        Some(wire::from_worker::Kind::Verdict(verdict)) => {
            let kind = match verdict.result() {
                wire::Result::Unspecified => return Err("unknown verdict"),
                wire::Result::Success => VerdictKind::Success,
                wire::Result::Denied => VerdictKind::Denied,
                wire::Result::UserChanged => VerdictKind::UserChanged,
                wire::Result::Fault => VerdictKind::Fault,
                wire::Result::ServiceRefused => VerdictKind::ServiceRefused,
                wire::Result::Protocol => VerdictKind::Protocol,
                wire::Result::PasswordExpired => VerdictKind::PasswordExpired,
            };
            let fail_delay = Duration::from_micros(verdict.fail_delay_us).min(FAIL_DELAY_MAX);
            Ok(FromWorker::Verdict(Verdict { kind, user: verdict.user, fail_delay }))
        }
    }
}

fn read_message(message: wire::Message) -> Option<Message> {
    let style = match message.style() {
        wire::Style::Unspecified => return None,
        wire::Style::Hidden => Style::Hidden,
        wire::Style::Visible => Style::Visible,
        wire::Style::Info => Style::Info,
        wire::Style::Error => Style::Error,
    };
    Some(Message { style, text: printable(&message.text) })
}

/// Without control characters and those that turn the direction of writing: both forge what a terminal
/// shows. Line ends and tabs keep the words apart.
fn printable(text: &str) -> String {
    let mut shown = String::new();
    for c in text.trim_end().chars() {
        let c = match c {
            '\n' | '\t' => ' ',
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => continue,
            c if c.is_control() => continue,
            c => c,
        };
        if shown.len() + c.len_utf8() > TEXT_MAX {
            break;
        }
        shown.push(c);
    }
    // "Password: " ends in a space for a reason.
    if text.ends_with(' ') && shown.len() < TEXT_MAX {
        shown.push(' ');
    }
    shown
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round(messages: Vec<wire::Message>) -> Vec<u8> {
        wire::FromWorker {
            kind: Some(wire::from_worker::Kind::Round(wire::Round { messages, authenticated: false })),
        }
        .encode_to_vec()
    }

    fn ask(text: &str) -> wire::Message {
        wire::Message { style: wire::Style::Hidden.into(), text: text.into() }
    }

    #[test]
    fn a_round_is_1_to_32_messages_of_a_known_style() {
        for (messages, fits) in [
            (vec![], false),
            (vec![ask("a")], true),
            (vec![ask("a"); 32], true),
            (vec![ask("a"); 33], false),
            (vec![wire::Message { style: 0, text: "a".into() }], false),
            (vec![wire::Message { style: 99, text: "a".into() }], false),
        ] {
            assert_eq!(read(&round(messages.clone())).is_ok(), fits, "{messages:?}");
        }
        assert!(read(&[]).is_err());
        assert!(read(&vec![0x0a; PAM_PACKET_MAX + 1]).is_err());
    }

    #[test]
    fn texts_are_printable_and_bounded() {
        for (text, shown) in [
            ("Password: ", "Password: "),
            ("two\nlines\n", "two lines"),
            ("a\u{1b}[2Jb\u{7}", "a[2Jb"),
            ("x\u{202e}y", "xy"),
            ("", ""),
        ] {
            assert_eq!(printable(text), shown, "{text:?}");
        }
        assert_eq!(printable(&"é".repeat(400)).len(), 512);
        assert_eq!(printable(&format!("a{}", "é".repeat(400))).len(), 511);
    }

    #[test]
    fn a_delay_is_cut_at_ten_seconds() {
        let verdict = wire::Verdict { result: 2, user: String::new(), fail_delay_us: u64::MAX };
        let packet =
            wire::FromWorker { kind: Some(wire::from_worker::Kind::Verdict(verdict)) }.encode_to_vec();
        let Ok(FromWorker::Verdict(read)) = read(&packet) else { panic!("a verdict") };
        assert_eq!(read.fail_delay, FAIL_DELAY_MAX);
    }

    proptest! {
        #[test]
        fn no_packet_panics_and_no_text_is_unprintable(packet in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Ok(FromWorker::Round(round)) = read(&packet) {
                prop_assert!(round.messages.iter().all(|m| m.text.len() <= TEXT_MAX && !m.text.contains(char::is_control)));
            }
        }
    }
}
