//! Into the background without fork(): the program runs itself again and waits for that process to
//! say that it is ready.

use std::io::Write;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use crate::StartError;
use crate::options::Options;

/// What the background process writes to its stdout, once.
const READY: u8 = b'+';
/// A daemon that takes longer than this to start is stuck.
const PATIENCE: Duration = Duration::from_secs(90);

/// Starts the background process and waits until it is ready.
pub(crate) fn start(options: &Options) -> Result<(), StartError> {
    let failed = |what: &str, error: std::io::Error| StartError::failed(what, error);
    let program = std::env::current_exe().map_err(|error| failed("cannot find this program", error))?;
    let arguments = options.for_background().map_err(|error| failed("cannot find the directory", error))?;
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed("cannot start the background process", error))?;
    let mut stdout = child.stdout.take().ok_or_else(|| StartError::failed("no pipe", "stdout is missing"))?;
    let (tell, told) = channel();
    std::thread::spawn(move || {
        let mut word = [0];
        let ready = std::io::Read::read_exact(&mut stdout, &mut word).is_ok() && word == [READY];
        let _ = tell.send(ready);
    });
    match told.recv_timeout(PATIENCE) {
        Ok(true) => Ok(()),
        // It said why on stderr, which it shares with us until it is ready.
        Ok(false) | Err(RecvTimeoutError::Disconnected) => {
            let _ = child.kill();
            let status = child.wait().map_err(|error| failed("cannot wait for the process", error))?;
            Err(StartError::failed("the background process did not start", status.to_string()))
        }
        Err(RecvTimeoutError::Timeout) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(StartError::failed("the background process did not start", "no sign of it in 90 s"))
        }
    }
}

/// In the background process: no terminal from here on.
pub(crate) fn detach() -> Result<(), StartError> {
    // A process that leads its group may not do this: nobody but a person at a shell starts it so,
    // by the hidden option, and then the terminal is that person's own.
    match rustix::process::setsid() {
        Ok(_) | Err(rustix::io::Errno::PERM) => Ok(()),
        Err(error) => Err(StartError::failed("cannot start a session", std::io::Error::from(error))),
    }
}

/// Tells the parent, and lets go of its stdout and stderr.
pub(crate) fn ready() -> std::io::Result<()> {
    let mut stdout = std::io::stdout();
    stdout.write_all(&[READY])?;
    stdout.flush()?;
    let nowhere = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(nowhere.as_fd())?;
    rustix::stdio::dup2_stderr(nowhere.as_fd())?;
    Ok(())
}
