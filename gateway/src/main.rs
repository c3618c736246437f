//! `doorward-gateway`: the program around the library.

use std::path::Path;
use std::process::ExitCode;

use doorward_gateway::{
    Parts, channels,
    config::{Config, KEYS},
};
use doorward_launch::{
    Confinement, Control, Daemon, Identity, Keys, Misconfigured, Question, StartError, audit::Place, log,
    socket::Sockets,
};

struct Gateway;

impl Daemon for Gateway {
    const NAME: &'static str = "doorward-gateway";
    const CONFIG_PATH: &'static str = "/etc/doorward/gateway.toml";
    type Config = Config;
    type Parts = Parts;
    const KEYS: Keys = KEYS;
    const QUESTION: Option<Question<Config>> = Some(Question {
        option: "explain-channel",
        help: "Say what the table of channels decides about the question on stdin, as JSON, and exit",
        answer: |config, question| channels::explain(&config.channels.file, question),
    });

    fn user(config: &Config) -> Option<&str> {
        Some(&config.user)
    }

    fn log(config: &Config) -> &log::Settings {
        &config.log
    }

    fn confinement(config: &Config) -> Confinement {
        config.confinement()
    }

    fn audit(config: &Config) -> Option<Place> {
        config.audit.place(&config.state_dir)
    }

    fn registrations(config: &Config) -> Option<&Path> {
        Some(&config.subsystems.directory)
    }

    fn check(config: &Config) -> Result<(), Misconfigured> {
        config.check()
    }

    fn bind(config: &Config, service: &Identity, sockets: &mut Sockets) -> Result<Parts, StartError> {
        doorward_gateway::bind(config, service, sockets)
    }

    async fn serve(config: Config, parts: Parts, control: Control<Config>) -> Result<(), StartError> {
        doorward_gateway::serve(config, parts, control).await
    }
}

fn main() -> ExitCode {
    doorward_launch::run::<Gateway>()
}
