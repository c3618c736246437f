//! The `doorward` command: a client of the gateway like any other, and `dev`, which starts everything on
//! loopback to look at.

mod acl;
mod call;
mod certs;
mod channels;
mod client;
mod completion;
mod dev;
mod doctor;
mod error;
mod events;
mod explain;
mod file;
mod key;
mod login;
mod logs;
mod output;
mod program;
mod progress;
mod prompt;
mod proof;
mod query;
mod service;
mod sessions;
mod signals;
mod status;
mod token;
mod token_file;
mod utc;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::{
    client::{Endpoint, Fingerprint, Identity, Trust},
    error::Error,
    key::{Described, PrivateKey},
    output::Output,
    signals::until_signal,
};

const DEFAULT_SOCKET: &str = "/run/doorward/gateway.sock";

/// Log in to a doorward gateway and call what is behind it
#[derive(Debug, Parser)]
#[command(
    name = "doorward",
    version,
    after_help = "Exit codes: 0 done, 1 refused, 2 usage, 3 unreachable, 130 interrupted."
)]
struct Options {
    #[command(flatten)]
    gateway: GatewayOptions,
    /// Print one JSON document, for programs
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct GatewayOptions {
    /// The gateway's Unix socket [default: $DOORWARD_SOCKET, else /run/doorward/gateway.sock]
    #[arg(long, global = true, value_name = "PATH", conflicts_with = "url")]
    socket: Option<PathBuf>,
    /// The gateway's TLS address, wss://HOST:PORT; needs --fingerprint or --cacert
    #[arg(long, global = true, value_name = "URL")]
    url: Option<String>,
    /// The server holds exactly this key: SHA256:BASE64, as the gateway's log says when it starts
    #[arg(long, global = true, value_name = "SHA256:...", conflicts_with = "cacert")]
    fingerprint: Option<Fingerprint>,
    /// The server's certificate is good by one of the certificates in this PEM file
    #[arg(long, global = true, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// Your private key, a PEM file: `login` signs with it, `certs register` proves that it is yours
    #[arg(long, global = true, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Your certificate for TLS, the PEM file of one; with --url, and the key of --key
    #[arg(long, global = true, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Open a session and keep its token for the next commands
    Login {
        /// Who to log in as; absent, on the Unix socket or loopback: yourself, without a password
        user: Option<String>,
        /// Read the password from stdin, one line, and each further answer from a line of its own
        #[arg(long, requires = "user")]
        password_stdin: bool,
    },
    /// Make a new key: the private one in FILE, the public one in FILE.pub
    Keygen {
        /// Where; a file that exists is never overwritten
        #[arg(value_name = "FILE", default_value = "doorward.key")]
        file: PathBuf,
    },
    /// Your registered keys
    #[command(subcommand)]
    Certs(certs::Command),
    /// Sessions: yours, and with full access everybody's
    #[command(subcommand)]
    Sessions(sessions::Command),
    /// Tokens of the HTTP token API, for other services
    #[command(subcommand)]
    Token(token::Command),
    /// What ACL entries let somebody do
    #[command(subcommand)]
    Acl(acl::Command),
    /// End the session
    Logout,
    /// What is up and may be used
    Query,
    /// What a subsystem can do: its actions, their arguments, its events
    Describe {
        /// Which, as `query` names it
        #[arg(value_name = "NAMESPACE/NAME")]
        target: call::Target,
    },
    /// Send one request and print the reply; Ctrl-C cancels it
    Call(call::Options),
    /// Print events as they are published, a line each, until Ctrl-C
    Events(events::Options),
    /// Print what is said on a channel, a line each, until Ctrl-C
    Subscribe(channels::Subscribe),
    /// Say something on a channel
    Publish(channels::Publish),
    /// What the table of channels lets somebody do
    #[command(subcommand)]
    Channels(explain::Command),
    /// Show who answers and whether the session is valid
    Status,
    /// Look at files, users, sockets, certificate and clock of this host, and say how to mend what is wrong
    #[command(after_help = "Exit codes: 0 nothing to mend, 1 warnings, 2 errors.")]
    Doctor(doctor::Options),
    /// What the services recorded of you; with full access, of everybody
    Logs(logs::Options),
    /// Print the script that completes this command's words in a shell
    Completion { shell: completion::For },
    /// Start everything in the foreground on loopback, until Ctrl-C
    Dev(dev::Options),
}

impl Command {
    /// Whether a key of ours has anything to sign here.
    fn takes_key(&self) -> bool {
        match self {
            Self::Login { .. } => true,
            Self::Certs(command) => command.takes_key(),
            _ => false,
        }
    }
}

impl GatewayOptions {
    fn endpoint(&self) -> Result<Endpoint, Error> {
        let Some(url) = &self.url else {
            if self.fingerprint.is_some() || self.cacert.is_some() || self.cert.is_some() {
                return Err(Error::Usage("--fingerprint, --cacert and --cert go with --url".to_owned()));
            }
            let named =
                self.socket.clone().or_else(|| std::env::var_os("DOORWARD_SOCKET").map(PathBuf::from));
            return Ok(Endpoint::Unix(named.unwrap_or_else(|| PathBuf::from(DEFAULT_SOCKET))));
        };
        let trust = match (&self.fingerprint, &self.cacert) {
            (Some(fingerprint), _) => Trust::Key(fingerprint.clone()),
            (None, Some(path)) => Trust::from_file(path)?,
            (None, None) => {
                return Err(Error::Usage(
                    "--url needs --fingerprint or --cacert. The gateway logs the fingerprint of its key when it \
                     starts and keeps it in listening.json in its state directory: read it there, on the server"
                        .to_owned(),
                ));
            }
        };
        Endpoint::tls(url, trust, self.identity()?)
    }

    /// The certificate that we show, if we are to show one.
    fn identity(&self) -> Result<Option<Identity>, Error> {
        let (Some(path), Some(key)) = (&self.cert, &self.key) else { return Ok(None) };
        let key = PrivateKey::read(key)?;
        let described = Described::read(path)?;
        let certificate = described
            .certificate
            .ok_or_else(|| Error::Usage(format!("{} is a bare key, not a certificate", path.display())))?;
        if described.key != *key.public() {
            return Err(Error::Usage("the certificate of --cert is not for the key of --key".to_owned()));
        }
        Ok(Some(Identity::new(certificate, &key)))
    }

    /// The key for what is signed outside of TLS.
    fn signing_key(&self) -> Result<Option<PrivateKey>, Error> {
        self.key.as_deref().map(PrivateKey::read).transpose()
    }
}

fn main() -> ExitCode {
    // What we make is ours alone unless it says otherwise; dev sets the modes of what others must reach.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let options = Options::parse();
    let output = Output { json: options.json };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output.error(&Error::Failed(format!("cannot start: {error}")));
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(run(options, output));
    // A thread may still wait for a line of stdin that nobody wants any more.
    runtime.shutdown_background();
    match result {
        Ok(code) => code,
        Err(error) => {
            output.error(&error);
            error.exit_code()
        }
    }
}

async fn run(options: Options, output: Output) -> Result<ExitCode, Error> {
    let gateway = &options.gateway;
    if gateway.key.is_some() && gateway.cert.is_none() && !options.command.takes_key() {
        return Err(Error::Usage("--key goes with login, with certs register, and with --cert".to_owned()));
    }
    let done = match options.command {
        Command::Login { user, password_stdin } => {
            // With a certificate the key speaks in the TLS handshake.
            let key = if gateway.cert.is_some() { None } else { gateway.signing_key()? };
            if key.is_some() && password_stdin {
                return Err(Error::Usage("log in with --key or with --password-stdin".to_owned()));
            }
            let endpoint = gateway.endpoint()?;
            until_signal(login::login(&endpoint, user.as_deref(), password_stdin, key.as_ref(), output)).await
        }
        Command::Keygen { file } => key::keygen(&file, output),
        Command::Certs(command) => {
            let key = if command.takes_key() { gateway.signing_key()? } else { None };
            until_signal(certs::run(command, || gateway.endpoint(), key.as_ref(), output)).await
        }
        Command::Sessions(command) => {
            until_signal(sessions::run(command, &gateway.endpoint()?, output)).await
        }
        // Its exit code is the answer to `check`.
        Command::Token(command) => {
            let endpoint = gateway.endpoint()?;
            return until_signal(token::run(command, &endpoint, output)).await;
        }
        Command::Logout => until_signal(login::logout(&gateway.endpoint()?, output)).await,
        Command::Query => until_signal(query::query(&gateway.endpoint()?, output)).await,
        Command::Describe { target } => {
            until_signal(query::describe(&gateway.endpoint()?, &target, output)).await
        }
        // It has something to do about Ctrl-C.
        Command::Call(call) => return call::call(call, &gateway.endpoint()?, output).await,
        Command::Events(events) => until_signal(events::events(events, &gateway.endpoint()?, output)).await,
        Command::Subscribe(subscribe) => {
            until_signal(channels::subscribe(subscribe, &gateway.endpoint()?, output)).await
        }
        Command::Publish(publish) => {
            until_signal(channels::publish(publish, &gateway.endpoint()?, output)).await
        }
        Command::Logs(logs) => until_signal(logs::logs(logs, &gateway.endpoint()?, output)).await,
        Command::Completion { shell } => completion::completion::<Options>(shell),
        Command::Status => until_signal(status::status(&gateway.endpoint()?, output)).await,
        Command::Dev(dev) => dev::run(dev, output).await,
        Command::Acl(command) => return until_signal(async { Ok(acl::run(command, output).await) }).await,
        Command::Channels(command) => {
            return until_signal(async { Ok(explain::run(command, output).await) }).await;
        }
        // Its exit code says more than whether it was done.
        Command::Doctor(doctor) => return doctor::run(doctor, output).await,
    };
    done.map(|()| ExitCode::SUCCESS)
}
