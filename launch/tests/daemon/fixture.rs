//! The daemon under test.

use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use doorward_launch::socket::{Bound, Sockets};
use doorward_launch::{Confinement, Control, Daemon, Identity, Misconfigured, StartError, log, sandbox};
use serde::Deserialize;

#[cfg(target_os = "linux")]
use crate::attempts::attempt;

/// Does little, and fails in every way on demand.
pub(crate) struct Fixture;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    user: Option<String>,
    socket: PathBuf,
    log: log::Settings,
    sandbox: sandbox::Settings,
    /// A directory to keep files in.
    keep: Option<PathBuf>,
    /// What whoever has taken it over tries, at each connection.
    attempts: Vec<String>,
    fault: Fault,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Fault {
    check: bool,
    bind: bool,
    serve: bool,
    panic: bool,
    end: bool,
}

impl Daemon for Fixture {
    const NAME: &'static str = "doorward-fixture";
    const CONFIG_PATH: &'static str = "/nonexistent/doorward/fixture.toml";
    type Config = Config;
    type Parts = Bound;

    fn user(config: &Config) -> Option<&str> {
        config.user.as_deref()
    }

    fn log(config: &Config) -> &log::Settings {
        &config.log
    }

    fn confinement(config: &Config) -> Confinement {
        let bare = Confinement::new(&config.sandbox);
        config.keep.iter().fold(bare, |confinement, directory| confinement.keep(directory))
    }

    fn check(config: &Config) -> Result<(), Misconfigured> {
        match config.fault.check {
            true => Err(Misconfigured::at("fault.check", "must not be true")),
            false => Ok(()),
        }
    }

    fn bind(config: &Config, service: &Identity, sockets: &mut Sockets) -> Result<Bound, StartError> {
        match config.fault.bind {
            true => Err(Misconfigured::at("fault.bind", "cannot be bound\nlike this").into()),
            false => Ok(sockets.stream(&config.socket, 0o666, (*service).into())?),
        }
    }

    async fn serve(config: Config, parts: Bound, control: Control) -> Result<(), StartError> {
        if config.fault.serve {
            return Err(StartError::failed("cannot serve", "it is broken"));
        }
        if config.fault.panic {
            let secret = std::hint::black_box("hunter2").to_owned();
            panic!("{secret}");
        }
        let listener = tokio::net::UnixListener::from_std(parts.listen_unix(16)?);
        let listener = listener.map_err(|error| StartError::failed("cannot listen", error))?;
        let mut reloads = control.reload();
        control.ready();
        control.ready();
        if config.fault.end {
            return Ok(());
        }
        tracing::info!(target: "doorward_fixture", fault = "line\nbreak", "serving");
        loop {
            tokio::select! {
                () = control.shutdown.cancelled() => return Ok(()),
                changed = reloads.changed() => {
                    assert!(changed.is_ok());
                    tracing::info!(target: "doorward_fixture", count = *reloads.borrow_and_update(), "reload");
                    doorward_tell("RELOADED");
                }
                accepted = listener.accept() => {
                    let (stream, _) = accepted.map_err(|error| StartError::failed("cannot accept", error))?;
                    let mut stream = stream.into_std().expect("a stream");
                    stream.set_nonblocking(false).expect("blocking");
                    let status = std::fs::read("/proc/self/status").expect("own status");
                    // One of the attempts is a client of our own that has gone again.
                    if stream.write_all(&status).is_err() {
                        continue;
                    }
                    #[cfg(target_os = "linux")]
                    for what in &config.attempts {
                        stream.write_all(format!("{what}: {}\n", attempt(what)).as_bytes()).expect("written");
                    }
                }
            }
        }
    }
}

/// Tells the test that something happened, by the way that the daemon has anyway.
fn doorward_tell(word: &str) {
    let path = std::env::var_os("NOTIFY_SOCKET").expect("a test");
    UnixDatagram::unbound().expect("a socket").send_to(word.as_bytes(), path).expect("told");
}
