//! `doorward-terminals [--socket PATH] [--register PATH] [--authd USER]`, and `--add TERMINAL GROUP` for a new one.

use std::{env, path::PathBuf, process::ExitCode};

use doorward_launch::{
    Identity, account,
    socket::{Owner, Sockets},
};
use doorward_terminals::{Register, serve};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

type Failure = Box<dyn std::error::Error>;

struct Options {
    socket: PathBuf,
    register: PathBuf,
    authd: String,
    add: Option<(String, String)>,
}

fn options() -> Result<Options, Failure> {
    let mut options = Options {
        socket: "/run/terminals/auth/auth.sock".into(),
        register: "/var/lib/terminals/terminals.json".into(),
        authd: "doorward-authd".into(),
        add: None,
    };
    let mut words = env::args().skip(1);
    while let Some(option) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{option} needs a value"));
        match option.as_str() {
            "--socket" => options.socket = value()?.into(),
            "--register" => options.register = value()?.into(),
            "--authd" => options.authd = value()?,
            "--add" => options.add = Some((value()?, value()?)),
            _ => return Err(format!("no such option: {option}").into()),
        }
    }
    Ok(options)
}

async fn run() -> Result<(), Failure> {
    let Options { socket, register, authd, add } = options()?;
    let register = Register::new(register);
    if let Some((terminal, group)) = add {
        println!("{}", register.add(&terminal, &group)?);
        return Ok(());
    }
    let authd = account::resolve(&authd)?.uid;
    let Identity { uid, gid, .. } = Identity::current();
    // Everybody may connect; whoever is not authd is sent away before a byte is read.
    let bound = Sockets::default().stream(&socket, 0o666, Owner { uid, gid })?;
    let listener = bound.listen_unix(16)?;
    let stop = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn({
        let stop = stop.clone();
        async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            stop.cancel();
        }
    });
    println!("ready");
    Ok(serve(listener, register, authd, stop).await?)
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("doorward-terminals: {failure}");
            ExitCode::FAILURE
        }
    }
}
