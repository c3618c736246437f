//! `doorward dev`: everything on loopback in the foreground, to look at and to develop with.
//!
//! What is decided (`plan`, `accounts`, `config`) is apart from what is done (`cleanup`,
//! `directory`, `pam`, `lock`, `process`). Whatever happens after the first thing was made, all of it is ended and taken away.

mod accounts;
mod cleanup;
mod config;
mod directory;
mod lock;
mod pam;
mod plan;
mod process;

use std::{
    fs::File,
    io::Read,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use futures_util::future::select_all;
use nix::unistd::Uid;
use rustix::fs::{CWD, Mode, OFlags, openat};
use serde::Deserialize;
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    client::Fingerprint,
    error::Error,
    output::{Output, printable, table, write_out},
};

use accounts::{Account, Accounts};
use cleanup::Place;
use plan::{Layout, Plan, Programs, Service};
use process::Process;

/// The gateway's listening.json is read up to here.
const LISTENING_MAX: u64 = 64 * 1024;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Keep state, configuration and logs here [default: a fresh directory, removed at the end]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The port of the token API, without TLS, on 127.0.0.1; 0: a free one
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    token_port: u16,
    /// The TLS port on 127.0.0.1; 0: a free one
    #[arg(long, value_name = "N", default_value_t = 0)]
    port: u16,
    /// Carry channels through the Redis of yours that listens on this Unix socket, or will
    #[arg(long, value_name = "SOCKET")]
    redis: Option<PathBuf>,
    /// Show the logs of all services on stderr as well
    #[arg(long)]
    verbose: bool,
    /// Give the members of one more group limited access
    #[arg(long, value_name = "NAME", hide = true)]
    access_group: Option<String>,
    /// How long a refused login takes
    #[arg(long, value_name = "N", hide = true)]
    refusal_delay_ms: Option<u32>,
    /// Another program in place of doorward-pam-guard
    #[arg(long, value_name = "PATH", hide = true)]
    guard: Option<PathBuf>,
    /// Another program in place of doorward-pam-worker
    #[arg(long, value_name = "PATH", hide = true)]
    worker: Option<PathBuf>,
}

/// What the gateway says about itself once it is ready.
#[derive(Deserialize)]
struct Listening {
    tls: Vec<SocketAddr>,
    token_plain: Vec<SocketAddr>,
    fingerprint: String,
}

impl Listening {
    /// Of the token API's own listener.
    fn token_api(&self) -> String {
        self.token_plain.first().map(|address| format!("http://{address}")).unwrap_or_default()
    }
}

/// Runs everything until a signal or a death.
pub(crate) async fn run(options: Options, output: Output) -> Result<(), Error> {
    // First: from here on no signal ends us before everything was taken away.
    let mut signals = Signals::new()?;
    let place = Place::prepare(options.dir.as_deref())?;
    let layout = Layout::new(place.path())?;
    let mut made = None;
    let result = in_place(&options, &place, &layout, &mut made, &mut signals, output).await;
    let kept = (!place.is_temporary()).then(|| place.path().to_owned());
    let mut problems = Vec::new();
    problems.extend(place.remove(&layout).err().map(|error| error.to_string()));
    problems.extend(made.and_then(|made: pam::ServiceFile| made.remove().err()));
    for problem in &problems {
        say(problem);
    }
    if let Some(path) = kept {
        say(&format!("state, configuration and logs are in {}", path.display()));
    }
    result
}

async fn in_place(
    options: &Options,
    place: &Place,
    layout: &Layout,
    made: &mut Option<pam::ServiceFile>,
    signals: &mut Signals,
    output: Output,
) -> Result<(), Error> {
    let own = std::env::current_exe()
        .map_err(|error| Error::Failed(format!("cannot find the programs: {error}")))?;
    let plan = Plan {
        layout: layout.clone(),
        accounts: Accounts::choose(cleanup::kept_owners(layout))?,
        programs: Programs::find(&own, absolute(&options.guard)?, absolute(&options.worker)?)?,
        port: options.port,
        token_port: options.token_port,
        redis: options.redis.clone(),
        access_group: options.access_group.clone(),
        refusal_delay_ms: options.refusal_delay_ms,
    };
    cleanup::fill(&plan)?;
    let pam = pam_service(made)?;

    let mut processes = Vec::new();
    let result = tokio::select! {
        error = supervise(&plan, &mut processes, options.verbose, &pam, place, output) => Err(error),
        () = signals.any() => Ok(()),
    };
    if result.is_err()
        && !options.verbose
        && let Some(dead) = processes.iter().find(|process| process.is_over())
    {
        dead.last_lines().iter().for_each(|line| say(line));
    }
    // In reverse: nobody is left without what it needs.
    while let Some(process) = processes.pop() {
        if let Err(error) = process.stop().await {
            say(&error.to_string());
        }
    }
    result
}

/// Starts one service after the other, says where they are, and waits for one to end, which none should.
async fn supervise(
    plan: &Plan,
    processes: &mut Vec<Process>,
    verbose: bool,
    pam: &str,
    place: &Place,
    output: Output,
) -> Error {
    for service in Service::ALL {
        let started = match Process::start(plan, service, verbose) {
            Ok(process) => {
                processes.push(process);
                processes.last_mut()
            }
            Err(error) => return error,
        };
        if let Some(process) = started
            && let Err(error) = process.ready().await
        {
            return error;
        }
    }
    let told = listening(&plan.layout.listening()).and_then(|listening| {
        if output.json {
            tell_program(plan, processes, &listening)
        } else {
            tell_person(plan, processes, &listening, pam, place)
        }
    });
    if let Err(error) = told {
        return error;
    }
    let deaths = processes.iter_mut().map(|process| Box::pin(process.ended()));
    select_all(deaths).await.0
}

fn tell_program(plan: &Plan, processes: &[Process], listening: &Listening) -> Result<(), Error> {
    let services: Vec<_> = processes
        .iter()
        .map(|process| {
            let account = plan.account(process.service);
            json!({"name": process.service.name(), "pid": process.pid, "uid": account.uid, "account": account.name})
        })
        .collect();
    let report = json!({
        "urls": listening.tls.iter().map(|address| format!("wss://{address}")).collect::<Vec<_>>(),
        "token_api": listening.token_api(),
        "socket": plan.layout.gateway_socket(),
        "certd": plan.layout.certd_socket(),
        "fingerprint": listening.fingerprint,
        "directory": plan.layout.base,
        "subsystems": plan.layout.subsystems(),
        "separated": plan.accounts.separated(),
        "services": services,
    });
    write_out(&format!("{report}\n"))
}

fn tell_person(
    plan: &Plan,
    processes: &[Process],
    listening: &Listening,
    pam: &str,
    place: &Place,
) -> Result<(), Error> {
    let socket = plan.layout.gateway_socket().display().to_string();
    let url = listening.tls.first().map(|address| format!("wss://{address}")).unwrap_or_default();
    let removed = if place.is_temporary() { " (removed at the end)" } else { " (kept)" };
    let mut rows = vec![
        ("TLS", url.clone()),
        ("fingerprint", listening.fingerprint.clone()),
        ("token API", listening.token_api()),
        ("Unix socket", socket.clone()),
        ("certd's socket", plan.layout.certd_socket().display().to_string()),
        ("directory", format!("{}{removed}", plan.layout.base.display())),
        ("PAM service", pam.to_owned()),
    ];
    for process in processes {
        rows.push((
            process.service.name(),
            format!("{}, pid {}", who(plan.account(process.service)), process.pid),
        ));
    }
    let mut text = table(&rows);
    if !plan.accounts.separated() {
        text.push_str(
            "\nNot root: all services run as you. Nothing separates them, a break-in of one is a break-in of all.\n\
             Only loopback listens.\n",
        );
    }
    let own = std::env::current_exe().map_or_else(|_| "doorward".to_owned(), |own| own.display().to_string());
    let commands = format!(
        "\nTry, in another terminal, as a member of wheel, sudo or operator:\n  \
         export DOORWARD_SOCKET={socket}\n  \
         {own} login\n  {own} query\n  {own} call sysadm/systemmanager memorystats\n  \
         {own} events system-state\n  {own} certs list\n  {own} logout\n  \
         {own} --url {url} --fingerprint {} login USER\n\nready; Ctrl-C ends everything\n",
        listening.fingerprint
    );
    text.extend(commands.lines().map(|line| printable(line) + "\n"));
    write_out(&text)
}

fn who(account: &Account) -> String {
    match (&account.name, account.uid) {
        (Some(name), uid) => format!("{name}, uid {uid}"),
        (None, 0) => "root".to_owned(),
        (None, uid) if uid == Uid::effective().as_raw() => format!("you, uid {uid}"),
        (None, uid) => format!("uid {uid}, an unused number (there is no account for it)"),
    }
}

/// Root sees to it that there is a PAM service file; others can only say what there is.
fn pam_service(made: &mut Option<pam::ServiceFile>) -> Result<String, Error> {
    if !Uid::effective().is_root() {
        let path = Path::new("/etc/pam.d/doorward");
        let there =
            if path.exists() { "" } else { " is missing: no password is accepted until root makes it" };
        return Ok(format!("{}{there}", path.display()));
    }
    Ok(match pam::Service::provide()? {
        pam::Service::Configured(path) => path.display().to_string(),
        pam::Service::Made(file) => {
            let text = format!("{}, made by this command and removed at the end", file.path().display());
            *made = Some(file);
            text
        }
    })
}

/// Reads what the gateway wrote. It is a file of a process that we trust less than ourselves.
fn listening(path: &Path) -> Result<Listening, Error> {
    let failed = |why: String| {
        Error::Failed(format!("cannot learn the gateway's address from {}: {why}", path.display()))
    };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(CWD, path, flags, Mode::empty()).map_err(|error| failed(error.to_string()))?;
    let mut text = Vec::new();
    File::from(file).take(LISTENING_MAX).read_to_end(&mut text).map_err(|error| failed(error.to_string()))?;
    let listening: Listening = serde_json::from_slice(&text).map_err(|error| failed(error.to_string()))?;
    listening.fingerprint.parse::<Fingerprint>().map_err(failed)?;
    Ok(listening)
}

/// The services start in another directory than ours.
fn absolute(path: &Option<PathBuf>) -> Result<Option<PathBuf>, Error> {
    path.as_ref()
        .map(|path| {
            std::path::absolute(path).map_err(|error| Error::Usage(format!("{}: {error}", path.display())))
        })
        .transpose()
}

fn say(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "doorward: {}", printable(line));
}

/// The signals that end a run in order.
struct Signals([Signal; 4]);

impl Signals {
    fn new() -> Result<Self, Error> {
        let listen =
            |kind| signal(kind).map_err(|error| Error::Failed(format!("cannot wait for signals: {error}")));
        Ok(Self([
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::hangup())?,
            listen(SignalKind::quit())?,
        ]))
    }

    async fn any(&mut self) {
        let waits = self.0.iter_mut().map(|signal| Box::pin(signal.recv()));
        select_all(waits).await;
    }
}
