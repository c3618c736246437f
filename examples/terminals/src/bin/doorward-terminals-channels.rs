//! `doorward-terminals-channels [--socket PATH] [--register PATH] [--gateway USER] [--authd USER] [--key PATH]`: what
//! terminals hear and say.

use std::{env, path::PathBuf, process::ExitCode};

use doorward_launch::account;
use doorward_terminals::{Channels, Register, listen, serve_channels, stop_by_signal};

type Failure = Box<dyn std::error::Error>;

struct Options {
    socket: PathBuf,
    register: PathBuf,
    gateway: String,
    authd: String,
    key: PathBuf,
}

fn options() -> Result<Options, Failure> {
    let mut options = Options {
        socket: "/run/terminals/channels/channels.sock".into(),
        register: "/var/lib/terminals/terminals.json".into(),
        gateway: "doorward-gateway".into(),
        authd: "doorward-authd".into(),
        key: "/run/doorward/authd/assertion.pub".into(),
    };
    let mut words = env::args().skip(1);
    while let Some(option) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{option} needs a value"));
        match option.as_str() {
            "--socket" => options.socket = value()?.into(),
            "--register" => options.register = value()?.into(),
            "--gateway" => options.gateway = value()?,
            "--authd" => options.authd = value()?,
            "--key" => options.key = value()?.into(),
            _ => return Err(format!("no such option: {option}").into()),
        }
    }
    Ok(options)
}

async fn run() -> Result<(), Failure> {
    let Options { socket, register, gateway, authd, key } = options()?;
    let (gateway, authd) = (account::resolve(&gateway)?.uid, account::resolve(&authd)?.uid);
    let channels = Channels::new(Register::new(register), &key, authd);
    let (listener, stop) = (listen(&socket)?, stop_by_signal()?);
    println!("ready");
    Ok(serve_channels(listener, channels, gateway, stop).await?)
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("doorward-terminals-channels: {failure}");
            ExitCode::FAILURE
        }
    }
}
