//! A PAM guard and its workers in threads: what stands at the other end of authd's PAM socket in tests.
//!
//! Each connection gets a thread that runs the test's script: read `start`, send rounds, read answers,
//! send a verdict. Nothing of PAM is behind it. Included by the unit tests and the integration tests.

// Each including crate uses a part of it.
#![allow(dead_code)]

use std::{os::fd::OwnedFd, path::Path, sync::Arc, thread};

use doorward_proto::pam::v1::{
    Answers, FromWorker, Message, Result as Outcome, Round, Start, Style, ToWorker, Verdict, from_worker,
    to_worker,
};
use prost::Message as _;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen,
    recv, send, socket_with,
};

/// One conversation, seen from the worker. Dropping it closes the connection, as the guard does when
/// everything of a conversation has ended.
#[derive(Debug)]
pub(crate) struct Worker {
    connection: OwnedFd,
    /// What authd wants to know, and about whom.
    pub(crate) start: Start,
}

/// Serves `path` with this script for each conversation, until the test process ends.
pub(crate) fn serve(path: &Path, script: impl Fn(Worker) + Send + Sync + 'static) {
    let listener = listening(path, 128);
    let script = Arc::new(script);
    thread::spawn(move || {
        while let Ok(connection) = accept_with(&listener, SocketFlags::CLOEXEC) {
            let script = script.clone();
            thread::spawn(move || {
                if let Some(worker) = Worker::started(connection) {
                    script(worker);
                }
            });
        }
    });
}

/// A socket that listens and is never accepted from.
pub(crate) fn listening(path: &Path, backlog: i32) -> OwnedFd {
    let listener = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .expect("a socket");
    bind(&listener, &SocketAddrUnix::new(path).expect("a short path")).expect("bound");
    listen(&listener, backlog).expect("listening");
    listener
}

impl Worker {
    fn started(connection: OwnedFd) -> Option<Self> {
        match receive(&connection)?.kind? {
            to_worker::Kind::Start(start) => Some(Self { connection, start }),
            to_worker::Kind::Answers(_) => None,
        }
    }

    /// Sends a round of authentication.
    pub(crate) fn round(&self, messages: &[(Style, &str)]) {
        self.round_of(messages, false);
    }

    /// Sends a round after authentication has succeeded.
    pub(crate) fn round_after_authentication(&self, messages: &[(Style, &str)]) {
        self.round_of(messages, true);
    }

    fn round_of(&self, messages: &[(Style, &str)], authenticated: bool) {
        let messages =
            messages.iter().map(|(style, text)| Message { style: (*style).into(), text: (*text).into() });
        self.say(from_worker::Kind::Round(Round { messages: messages.collect(), authenticated }));
    }

    /// The answers to it; None when authd has ended the conversation.
    pub(crate) fn answers(&self) -> Option<Vec<String>> {
        match receive(&self.connection)?.kind? {
            to_worker::Kind::Answers(Answers { answers }) => Some(answers),
            to_worker::Kind::Start(_) => None,
        }
    }

    /// Asks for the password; None when authd has ended the conversation.
    pub(crate) fn password(&self) -> Option<String> {
        self.round(&[(Style::Hidden, "Password: ")]);
        self.answers()?.pop()
    }

    /// Sends the verdict about the user that was asked for.
    pub(crate) fn verdict(&self, result: Outcome) {
        self.verdict_on(result, &self.start.user, 0);
    }

    /// Sends a verdict.
    pub(crate) fn verdict_on(&self, result: Outcome, user: &str, fail_delay_us: u64) {
        self.say(from_worker::Kind::Verdict(Verdict {
            result: result.into(),
            user: user.into(),
            fail_delay_us,
        }));
    }

    /// Sends what is no message, or one that is too large.
    pub(crate) fn raw(&self, packet: &[u8]) {
        let _ = send(&self.connection, packet, SendFlags::NOSIGNAL);
    }

    /// Waits until authd ends the conversation.
    pub(crate) fn await_end(&self) {
        while receive(&self.connection).is_some() {}
    }

    fn say(&self, kind: from_worker::Kind) {
        self.raw(&FromWorker { kind: Some(kind) }.encode_to_vec());
    }
}

fn receive(connection: &OwnedFd) -> Option<ToWorker> {
    let mut buffer = vec![0; doorward_proto::PAM_PACKET_MAX + 1];
    match recv(connection, buffer.as_mut_slice(), RecvFlags::empty()) {
        Ok((0, _)) | Err(_) => None,
        Ok((length, _)) => ToWorker::decode(buffer.get(..length)?).ok(),
    }
}
