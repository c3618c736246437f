//! The signals that end a command.

use std::{
    future::Future,
    sync::{Arc, atomic::AtomicBool},
};

use signal_hook::{consts::SIGINT, flag};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::Error;

/// What a shell reports for a program that SIGINT ended.
const INTERRUPTED: i32 = 130;

/// Drops the command on a signal that would have ended the process, so that a terminal that does not
/// echo is given back as it was.
pub(crate) async fn until_signal<T>(command: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let mut interrupt = listen(SignalKind::interrupt())?;
    tokio::select! {
        result = until_terminated(command) => result,
        _ = interrupt.recv() => Err(Error::Interrupted),
    }
}

/// The same for a command that itself has something to do about Ctrl-C.
pub(crate) async fn until_terminated<T>(command: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;
    let mut quit = listen(SignalKind::quit())?;
    tokio::select! {
        result = command => result,
        _ = terminate.recv() => Err(Error::Interrupted),
        _ = hangup.recv() => Err(Error::Interrupted),
        _ = quit.recv() => Err(Error::Interrupted),
    }
}

/// Tells of the first Ctrl-C. The second ends the process where it stands, even if it waits for a reader of
/// its output.
pub(crate) fn first_interrupt() -> Result<Signal, Error> {
    let failed = |error| Error::Failed(format!("cannot wait for signals: {error}"));
    let seen = Arc::new(AtomicBool::new(false));
    // In this order: what is seen now counts from the next one on.
    flag::register_conditional_shutdown(SIGINT, INTERRUPTED, seen.clone()).map_err(failed)?;
    flag::register(SIGINT, seen).map_err(failed)?;
    listen(SignalKind::interrupt())
}

fn listen(kind: SignalKind) -> Result<Signal, Error> {
    signal(kind).map_err(|error| Error::Failed(format!("cannot wait for signals: {error}")))
}
