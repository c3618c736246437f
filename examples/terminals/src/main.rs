//! `doorward-terminals [--socket PATH] [--register PATH] [--authd USER]`, and `--add TERMINAL GROUP` for a new one or a new
//! token: who a terminal is.

use std::{env, path::PathBuf, process::ExitCode};

use doorward_launch::account;
use doorward_terminals::{Register, listen, serve, stop_by_signal};

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
    let (listener, stop) = (listen(&socket)?, stop_by_signal()?);
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
