//! One PAM conversation, in a process of its own that was made for it and ends with it.
//!
//! Standard input is a packet socket to authd. One `Start` comes in, `Round`s go out and `Answers`
//! come back, one `Verdict` ends it. Modules are code of others that runs as root in here, so this
//! process holds nothing but the conversation, and its guard kills it when it does not end.
//!
//! Order: arguments, the process made fit for modules, `Start` checked again, the service file, PAM.

mod arguments;
mod packet;
mod pam;
mod process;
mod request;
mod rounds;
mod service;

use std::process::ExitCode;
use std::rc::Rc;

use doorward_proto::pam::v1 as wire;

use crate::arguments::Arguments;
use crate::packet::{Connection, Received};
use crate::process::Stage;

/// The name in front of every message.
const NAME: &str = "doorward-pam-worker";

/// Everything. 0 a verdict was sent or the peer is gone, 1 failed, 2 usage.
pub fn run() -> ExitCode {
    let arguments = match arguments::parse(std::env::args_os().skip(1)) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            println!("{NAME} {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Err(wrong) => {
            eprintln!("{NAME}: {wrong}; doorward-pam-guard starts this program");
            return ExitCode::from(2);
        }
    };
    let stage = match process::prepare(arguments.guard) {
        Ok(stage) => stage,
        Err(error) => {
            eprintln!("{NAME}: {error}");
            return ExitCode::FAILURE;
        }
    };
    let Stage { connection, log } = stage;
    let connection = Rc::new(Connection::new(connection));
    let Some(verdict) = converse(&arguments, &connection, &log) else {
        return ExitCode::SUCCESS;
    };
    match connection.send_verdict(verdict) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log.line(&format!("no verdict could be sent: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// From `Start` to the verdict; `None` when the peer left before it asked anything.
fn converse(arguments: &Arguments, connection: &Rc<Connection>, log: &process::Log) -> Option<wire::Verdict> {
    let request = match connection.receive(packet::START_WITHIN) {
        Received::Message(wire::to_worker::Kind::Start(start)) => request::check(start),
        Received::Message(wire::to_worker::Kind::Answers(_)) | Received::Malformed => None,
        Received::End | Received::Late => return None,
    };
    let Some(request) = request else {
        return Some(refusal(wire::Result::Protocol));
    };
    match service::check(&arguments.service) {
        Ok(stacks) => Some(pam::run(&arguments.service, stacks, &request, connection, log)),
        Err(refused) => {
            log.line(&refused.to_string());
            Some(refusal(wire::Result::ServiceRefused))
        }
    }
}

/// A verdict without PAM.
fn refusal(result: wire::Result) -> wire::Verdict {
    wire::Verdict { result: result.into(), user: String::new(), fail_delay_us: 0 }
}
