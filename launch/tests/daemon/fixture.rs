//! The daemon under test.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use doorward_launch::socket::{Bound, Sockets};
use doorward_launch::{
    Confinement, Control, Daemon, Identity, Keys, Misconfigured, StartError, Takes, log, sandbox,
};
use serde::{Deserialize, Serialize};

#[cfg(target_os = "linux")]
use crate::attempts::attempt;

/// Does little, and fails in every way on demand.
pub(crate) struct Fixture;

#[derive(Deserialize, Serialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    user: Option<String>,
    socket: PathBuf,
    log: log::Settings,
    sandbox: sandbox::Settings,
    /// A directory to keep files in.
    keep: Option<PathBuf>,
    /// What it may connect to.
    connects: Option<SocketAddr>,
    /// What whoever has taken it over tries, at each connection.
    attempts: Vec<String>,
    fault: Fault,
    colour: String,
}

#[derive(Deserialize, Serialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Fault {
    check: bool,
    bind: bool,
    serve: bool,
    panic: bool,
    end: bool,
    reload: bool,
}

impl Daemon for Fixture {
    const NAME: &'static str = "doorward-fixture";
    const CONFIG_PATH: &'static str = "/nonexistent/doorward/fixture.toml";
    type Config = Config;
    type Parts = Bound;
    const KEYS: Keys = &[
        ("log.level", Takes::Reload),
        ("colour", Takes::Reload),
        ("fault.reload", Takes::Reload),
        ("socket", Takes::Restart),
    ];

    fn user(config: &Config) -> Option<&str> {
        config.user.as_deref()
    }

    fn log(config: &Config) -> &log::Settings {
        &config.log
    }

    fn confinement(config: &Config) -> Confinement {
        let bare = Confinement::new(&config.sandbox);
        let bare = config.connects.into_iter().fold(bare, Confinement::connects);
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

    async fn serve(config: Config, parts: Bound, control: Control<Config>) -> Result<(), StartError> {
        if config.fault.serve {
            return Err(StartError::failed("cannot serve", "it is broken"));
        }
        if config.fault.panic {
            let secret = std::hint::black_box("hunter2").to_owned();
            panic!("{secret}");
        }
        let listener = tokio::net::UnixListener::from_std(parts.listen_unix(16)?);
        let listener = listener.map_err(|error| StartError::failed("cannot listen", error))?;
        let mut reloads = control.reloads();
        // Before anybody is told: a test that sends a signal then has to find it in the log.
        tracing::info!(target: "doorward_fixture", fault = "line\nbreak", "serving");
        control.ready();
        control.ready();
        if config.fault.end {
            return Ok(());
        }
        loop {
            tokio::select! {
                () = control.shutdown.cancelled() => return Ok(()),
                reload = reloads.next() => {
                    if reload.config.fault.reload {
                        reload.done(Err(Misconfigured::at("fault.reload", "cannot be taken over").into()));
                        continue;
                    }
                    tracing::info!(target: "doorward_fixture", colour = reload.config.colour, "taken over");
                    reload.done(Ok(()));
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
