//! A subsystem that misbehaves as it is told: for tests of what calls subsystems, and for authors of clients.
//!
//! It believes everybody, checks nothing, and does to a call what the call's args say. Never install it. It is built
//! on the contract alone, because the crate for authors would not let it misbehave. What it does is printed, a
//! line each: `ready`, `began ACTION REQUEST`, `ended ACTION REQUEST`, `dropped ACTION REQUEST`, `listening`.

mod script;
mod service;

use std::fs::{Permissions, remove_file, set_permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use doorward_proto::subsystem::v1::subsystem_server::SubsystemServer;
use futures_util::stream::unfold;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::service::Fake;

/// A subsystem that misbehaves as it is told. For tests; never install it
#[derive(Debug, Parser)]
#[command(name = "doorward-fake-subsystem", version)]
struct Options {
    /// Listen on the Unix socket PATH, which everybody may connect to
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// Describe itself as NAMESPACE/NAME
    #[arg(long, value_name = "NAMESPACE/NAME", default_value = "test/fake")]
    name: String,
    /// Take what else it says of itself from FILE (TOML), read anew each time it is asked
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.to_string()),
    };
    match runtime.block_on(serve(options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => failed(&sentence),
    }
}

fn failed(sentence: &str) -> ExitCode {
    eprintln!("doorward-fake-subsystem: {sentence}");
    ExitCode::FAILURE
}

async fn serve(options: Options) -> Result<(), String> {
    let (namespace, name) = options.name.split_once('/').ok_or("--name: NAMESPACE/NAME is expected")?;
    let fake = Fake::new(namespace, name, options.script);
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let _ = remove_file(&options.socket);
    let listener = UnixListener::bind(&options.socket).map_err(|error| format!("cannot listen: {error}"))?;
    set_permissions(&options.socket, Permissions::from_mode(0o666)).map_err(|error| error.to_string())?;
    println!("ready");
    let incoming = unfold(listener, async |listener| {
        let accepted = listener.accept().await.map(|(stream, _)| stream);
        Some((accepted, listener))
    });
    let large = 64 << 20;
    let service =
        SubsystemServer::new(fake).max_decoding_message_size(large).max_encoding_message_size(large);
    let serving = tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming);
    tokio::select! {
        served = serving => served.map_err(|error| error.to_string()),
        _ = terminate.recv() => Ok(()),
    }
}
