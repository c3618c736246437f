//! The conversation function's other side: one call of a module is one `Round`.
//!
//! pam-client asks for each message by itself. At the first one of a call the whole call is sent, and
//! all its answers are fetched; the rest of the call is served from them.

use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::rc::Rc;

use doorward_proto::PAM_PACKET_MAX;
use doorward_proto::pam::v1 as wire;
use pam_client::{ConversationHandler, ErrorCode};
use prost::Message as _;
use zeroize::{Zeroize, Zeroizing};

use crate::packet::{ANSWERS_WITHIN, Connection, Received};

/// What PAM's headers call the longest response; old modules copy into buffers of that length.
const ANSWER_MAX: usize = 512;

/// Bytes around a round in its packet: two lengths and two tags, generously.
const ENVELOPE: usize = 16;

/// Sends rounds and hands answers to PAM.
pub(crate) struct Rounds {
    connection: Rc<Connection>,
    answers: VecDeque<Zeroizing<String>>,
    broken: bool,
    authenticated: bool,
}

impl Rounds {
    pub(crate) fn new(connection: Rc<Connection>) -> Self {
        Self { connection, answers: VecDeque::new(), broken: false, authenticated: false }
    }

    /// Whether the peer sent what it must not. Whatever PAM then says does not count.
    pub(crate) fn broken(&self) -> bool {
        self.broken
    }

    /// Every round from now on is one after authentication.
    pub(crate) fn set_authenticated(&mut self) {
        self.authenticated = true;
    }

    /// Opens a round when a new call has begun.
    fn turn(&mut self) {
        let Some(messages) = pam_sys::take_round() else {
            return;
        };
        // Answers that a module did not take are not those of its next question.
        self.answers.clear();
        if self.broken {
            return;
        }
        let round = fit(messages.into_iter().map(to_wire).collect(), self.authenticated);
        let asked = round.messages.iter().filter(|message| asks(message)).count();
        if self.connection.send_round(round).is_err() {
            leave();
        }
        if asked > 0 {
            match self.fetch(asked) {
                Some(answers) => self.answers = answers,
                None => self.broken = true,
            }
        }
    }

    /// `None` when what came is no set of answers to what was asked.
    fn fetch(&self, asked: usize) -> Option<VecDeque<Zeroizing<String>>> {
        match self.connection.receive(ANSWERS_WITHIN) {
            Received::Message(wire::to_worker::Kind::Answers(answers)) => check(answers, asked),
            Received::Message(wire::to_worker::Kind::Start(_)) | Received::Malformed => None,
            Received::End | Received::Late => leave(),
        }
    }

    fn answer(&mut self) -> Result<CString, ErrorCode> {
        self.turn();
        let answer = self.answers.pop_front().ok_or(ErrorCode::CONV_ERR)?;
        // pam-client copies it for the module and drops it without wiping; here ends our reach.
        CString::new(answer.as_bytes()).map_err(|error| {
            error.into_vec().zeroize();
            ErrorCode::CONV_ERR
        })
    }
}

impl ConversationHandler for Rounds {
    fn prompt_echo_on(&mut self, _prompt: &CStr) -> Result<CString, ErrorCode> {
        self.answer()
    }

    fn prompt_echo_off(&mut self, _prompt: &CStr) -> Result<CString, ErrorCode> {
        self.answer()
    }

    fn text_info(&mut self, _text: &CStr) {
        self.turn();
    }

    fn error_msg(&mut self, _text: &CStr) {
        self.turn();
    }

    // pam-sys refuses these styles before; pam-client's own answer to radio would ask "y/N".
    fn radio_prompt(&mut self, _prompt: &CStr) -> Result<bool, ErrorCode> {
        Err(ErrorCode::CONV_ERR)
    }
}

/// The peer is gone: nobody wants the rest. In the middle of a module's call there is nothing else to do.
fn leave() -> ! {
    std::process::exit(0)
}

fn check(answers: wire::Answers, asked: usize) -> Option<VecDeque<Zeroizing<String>>> {
    let answers: VecDeque<Zeroizing<String>> = answers.answers.into_iter().map(Zeroizing::new).collect();
    let fine = |answer: &Zeroizing<String>| answer.len() <= ANSWER_MAX && !answer.as_bytes().contains(&0);
    (answers.len() == asked && answers.iter().all(fine)).then_some(answers)
}

fn asks(message: &wire::Message) -> bool {
    match message.style() {
        wire::Style::Hidden | wire::Style::Visible => true,
        wire::Style::Info | wire::Style::Error | wire::Style::Unspecified => false,
    }
}

fn to_wire(message: pam_sys::Message) -> wire::Message {
    let style = match message.style {
        pam_sys::Style::Hidden => wire::Style::Hidden,
        pam_sys::Style::Visible => wire::Style::Visible,
        pam_sys::Style::Info => wire::Style::Info,
        pam_sys::Style::Error => wire::Style::Error,
    };
    wire::Message { style: style.into(), text: message.text }
}

/// Cuts texts until the round fits into a packet: all to the same length, so that the short ones, the
/// questions as a rule, stay whole.
fn fit(messages: Vec<wire::Message>, authenticated: bool) -> wire::Round {
    let mut round = wire::Round { messages, authenticated };
    let mut most = pam_sys::TEXT_MAX;
    while round.encoded_len() > PAM_PACKET_MAX - ENVELOPE && most > 0 {
        most -= most.div_ceil(8);
        for message in &mut round.messages {
            while message.text.len() > most {
                message.text.pop();
            }
        }
    }
    round
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(style: wire::Style, text: String) -> wire::Message {
        wire::Message { style: style.into(), text }
    }

    #[test]
    fn a_round_that_fits_is_left_alone() {
        let messages = vec![
            message(wire::Style::Info, "x".repeat(512)),
            message(wire::Style::Hidden, "Password: ".into()),
        ];
        assert_eq!(fit(messages.clone(), true).messages, messages);
    }

    #[test]
    fn the_largest_round_is_cut_to_a_packet_and_short_questions_stay() {
        let mut messages = vec![message(wire::Style::Info, "\u{20ac}".repeat(170)); 31];
        messages.push(message(wire::Style::Hidden, "Password: ".into()));
        let round = fit(messages, true);
        assert_eq!(round.messages.len(), 32);
        assert_eq!(round.messages[31].text, "Password: ");
        let packet = wire::FromWorker { kind: Some(wire::from_worker::Kind::Round(round)) };
        assert!((3000..=PAM_PACKET_MAX).contains(&packet.encoded_len()), "{}", packet.encoded_len());
    }

    #[test]
    fn answers_must_be_as_many_as_asked_short_and_without_nul() {
        let answers =
            |answers: &[&str]| wire::Answers { answers: answers.iter().map(|&a| a.to_owned()).collect() };
        let longest = "x".repeat(512);
        let too_long = "x".repeat(513);
        assert!(check(answers(&["a", ""]), 2).is_some());
        assert!(check(answers(&[&longest]), 1).is_some());
        assert!(check(answers(&["a"]), 2).is_none());
        assert!(check(answers(&["a", "b", "c"]), 2).is_none());
        assert!(check(answers(&[]), 1).is_none());
        assert!(check(answers(&[&too_long]), 1).is_none());
        assert!(check(answers(&["a\0b"]), 1).is_none());
    }
}
