//! The floors: servers that do the work of a row and nothing else.
//!
//! Each is a process of its own. It says its address on a line of standard output, and ends when its standard
//! input does.

mod account;
mod backend;
mod commits;
mod fanout;
mod http;
mod tls;
mod websocket;

use std::{io, path::PathBuf};

use clap::{Args, ValueEnum};
use tokio::io::{AsyncReadExt as _, stdin};

/// Which one, and what it answers.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Which
    pub(crate) kind: Kind,
    /// What it answers with: the bytes of the product's answer
    #[arg(long, default_value = "{}")]
    pub(crate) answer: String,
    /// The socket of the back end, for `hop` and `backend`; where `fanout` listens, if not with TLS
    #[arg(long)]
    pub(crate) socket: Option<PathBuf>,
    /// The PAM service, for `account`
    #[arg(long, default_value = "")]
    pub(crate) service: String,
    /// A directory: `backend` then checks a signature and writes a row there for each request that brings one
    #[arg(long)]
    pub(crate) store: Option<PathBuf>,
    /// The key that signed, where the request brings none: SubjectPublicKeyInfo of Ed25519 in base64
    #[arg(long, default_value = "")]
    pub(crate) key: String,
    /// What `http` knows
    #[arg(long)]
    pub(crate) token: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// WebSocket over TLS: reads an envelope, looks one thing up, answers.
    Cached,
    /// The same, and asks a back end for each request.
    Hop,
    /// gRPC over a Unix socket: answers.
    Backend,
    /// PAM in this process: reads a name and a password, answers.
    Account,
    /// HTTP/1.1 over TLS: reads a path, looks it up, answers.
    Http,
    /// WebSocket: what one says all get.
    Fanout,
}

/// Serves until standard input ends.
pub(crate) fn run(options: Options) -> io::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let serving = async {
            match options.kind {
                Kind::Cached | Kind::Hop => websocket::serve(options).await,
                Kind::Account => account::serve(options).await,
                Kind::Backend => backend::serve(options).await,
                Kind::Http => http::serve(options).await,
                Kind::Fanout => fanout::serve(options).await,
            }
        };
        let ended = async {
            let mut byte = [0];
            while stdin().read(&mut byte).await.is_ok_and(|read| read > 0) {}
            Ok(())
        };
        tokio::select! {
            result = serving => result,
            result = ended => result,
        }
    })
}

/// Tells the measuring process that it can begin.
fn ready(address: &str) {
    println!("{address}");
}
