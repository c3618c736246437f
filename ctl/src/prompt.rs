//! Asking a person: on the terminal, without echo where the answer is a secret; or, for programs, one
//! line of stdin for each answer.

use std::{
    future::Future,
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr},
};
use tokio::{io::unix::AsyncFd, task::spawn_blocking};
use zeroize::Zeroizing;

use crate::{error::Error, output::printable};

/// The contract's bound for a password; an answer that is longer can only be a mistake.
const ANSWER_MAX: usize = 512;

/// The value that switches a special character off; POSIX leaves it to the system.
const DISABLED: u8 = if cfg!(target_os = "linux") { 0 } else { 0xff };

/// Where answers come from.
pub(crate) enum Answers {
    /// The terminal that controls this process, whatever stdin is.
    Terminal(Terminal),
    /// Stdin, read no further than the line that is asked for.
    Stdin,
}

impl Answers {
    /// The terminal, or the sentence that says what to do without one.
    pub(crate) fn terminal() -> Result<Self, Error> {
        Terminal::open().map(Self::Terminal).map_err(|_| {
            Error::Usage("there is no terminal to ask for the password on: use --password-stdin".to_owned())
        })
    }

    /// Asks for one answer. Dropping the future leaves the terminal as it was.
    pub(crate) async fn ask(&mut self, text: &str, hidden: bool) -> Result<Zeroizing<String>, Error> {
        let line = match self {
            Self::Terminal(terminal) => terminal.ask(text, hidden).await?,
            Self::Stdin => {
                let read = spawn_blocking(|| {
                    let stdin = io::stdin();
                    let mut line = Line::default();
                    while line.wants_more() {
                        let mut byte = Zeroizing::new([0]);
                        let read = rustix::io::retry_on_intr(|| rustix::io::read(&stdin, &mut *byte));
                        line.take(&byte, read);
                    }
                    line
                });
                read.await.map_err(|error| Error::Failed(format!("reading stdin failed: {error}")))?
            }
        };
        line.into_answer()
    }

    /// Shows what the server has to say.
    pub(crate) fn show(&mut self, text: &str) {
        // Nobody to tell it to is no reason to stop.
        let _ = io::Write::write_all(&mut io::stderr(), format!("{}\n", printable(text)).as_bytes());
    }
}

/// The controlling terminal, through a descriptor of our own: it is set not to block, and that flag
/// would otherwise be shared with the shell.
pub(crate) struct Terminal(AsyncFd<OwnedFd>);

impl Terminal {
    // `new` takes any `AsRawFd`, even one that changes its descriptor; an `OwnedFd` does not. Its
    // replacement is unsafe to call.
    #[expect(deprecated, reason = "sound for an OwnedFd")]
    fn open() -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(Self(AsyncFd::new(rustix::fs::open("/dev/tty", flags, Mode::empty())?)?))
    }

    fn ask<'a>(
        &'a mut self,
        text: &'a str,
        hidden: bool,
    ) -> impl Future<Output = Result<Line, Error>> + use<'a> {
        let failed = |error: io::Error| Error::Failed(format!("cannot ask on the terminal: {error}"));
        async move {
            let quiet = if hidden { Some(Quiet::new(self.0.get_ref()).map_err(failed)?) } else { None };
            let prompt = printable(text);
            let space = if prompt.ends_with(' ') || prompt.is_empty() { "" } else { " " };
            self.write(format!("{prompt}{space}").as_bytes()).await.map_err(failed)?;
            let mut line = Line::default();
            while line.wants_more() {
                let mut ready = self.0.readable().await.map_err(failed)?;
                let mut byte = Zeroizing::new([0]);
                match rustix::io::read(self.0.get_ref(), &mut *byte) {
                    Err(Errno::AGAIN) => ready.clear_ready(),
                    Err(Errno::INTR) => {}
                    read => line.take(&byte, read),
                }
            }
            drop(quiet);
            Ok(line)
        }
    }

    async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut ready = self.0.writable().await?;
            match rustix::io::write(self.0.get_ref(), bytes) {
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            }
        }
        Ok(())
    }
}

/// While this lives, the terminal does not show what is typed.
struct Quiet<'a> {
    terminal: &'a OwnedFd,
    before: Termios,
}

impl<'a> Quiet<'a> {
    fn new(terminal: &'a OwnedFd) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        quiet.local_modes.insert(LocalModes::ECHONL);
        // A stop by Ctrl-Z would leave the shell with a terminal that shows nothing.
        quiet.special_codes[SpecialCodeIndex::VSUSP] = DISABLED;
        // Flush: what was typed before the question, visibly, is no answer to it.
        tcsetattr(terminal, OptionalActions::Flush, &quiet)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        // Now and not after draining: a stopped terminal must not keep us.
        let _ = tcsetattr(self.terminal.as_fd(), OptionalActions::Now, &self.before);
    }
}

/// One line, taken byte by byte: whoever reads stdin after us finds the next one untouched.
#[derive(Default)]
struct Line {
    bytes: Zeroizing<Vec<u8>>,
    end: Option<Stop>,
}

/// Why a line ends.
enum Stop {
    Newline,
    EndOfInput,
    TooLong,
    Failed(Errno),
}

impl Line {
    fn wants_more(&self) -> bool {
        self.end.is_none()
    }

    fn take(&mut self, byte: &[u8; 1], read: Result<usize, Errno>) {
        if self.bytes.capacity() == 0 {
            // Reserved once: growing would leave copies of the secret behind.
            self.bytes.reserve_exact(ANSWER_MAX);
        }
        match (read, byte) {
            (Err(error), _) => self.end = Some(Stop::Failed(error)),
            (Ok(0), _) => self.end = Some(Stop::EndOfInput),
            (Ok(_), b"\n") => self.end = Some(Stop::Newline),
            (Ok(_), _) if self.bytes.len() == ANSWER_MAX => self.end = Some(Stop::TooLong),
            (Ok(_), byte) => self.bytes.extend_from_slice(byte),
        }
    }

    fn into_answer(self) -> Result<Zeroizing<String>, Error> {
        match self.end {
            Some(Stop::Failed(error)) => Err(Error::Failed(format!("cannot read the answer: {error}"))),
            Some(Stop::TooLong) => Err(Error::refused(format!("an answer has at most {ANSWER_MAX} bytes"))),
            Some(Stop::EndOfInput) if self.bytes.is_empty() => {
                Err(Error::refused("no answer: the input ended"))
            }
            Some(Stop::Newline | Stop::EndOfInput) | None => match std::str::from_utf8(&self.bytes) {
                Ok(text) if !text.contains('\0') => Ok(Zeroizing::new(text.to_owned())),
                _ => Err(Error::refused("an answer is UTF-8 text without NUL")),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(input: &[u8]) -> Result<Zeroizing<String>, Error> {
        let mut bytes = input.iter();
        let mut line = Line::default();
        while line.wants_more() {
            match bytes.next() {
                Some(byte) => line.take(&[*byte], Ok(1)),
                None => line.take(&[0], Ok(0)),
            }
        }
        line.into_answer()
    }

    #[test]
    fn a_line_is_an_answer_with_or_without_its_newline() {
        assert_eq!(line(b"secret\nnext").expect("a line").as_str(), "secret");
        assert_eq!(line(b"secret").expect("a line").as_str(), "secret");
        assert_eq!(line(b" \t\n").expect("a line").as_str(), " \t");
        assert_eq!(line(b"\n").expect("an empty line").as_str(), "");
    }

    #[test]
    fn an_answer_has_at_most_512_bytes() {
        assert_eq!(line(&[b'x'; 512]).expect("512").len(), 512);
        assert!(line(&[b'x'; 513]).is_err());
    }

    #[test]
    fn what_is_no_text_is_no_answer() {
        for input in [&b""[..], b"\xff\n", b"a\0b\n"] {
            assert!(line(input).is_err(), "{input:?}");
        }
    }
}
