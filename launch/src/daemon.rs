//! The fixed order in which a daemon starts, and its end.

mod reload;

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

use self::reload::Reloading;
use crate::audit::{Audit, Event, Place, Record};
use crate::config::{self, Loaded};
use crate::control::{Control, tell_manager};
use crate::error::chain;
use crate::keys::{Keys, Running};
use crate::options::Options;
use crate::socket::{self, Sockets};
use crate::{
    Confinement, Identity, Misconfigured, StartError, account, background, descriptors, log, privilege,
    registrations, sandbox,
};

/// How long a daemon may take to end what is under way.
const STOP_PATIENCE: Duration = Duration::from_secs(20);
/// How long blocking work may hold up the exit after that.
const BLOCKING_PATIENCE: Duration = Duration::from_secs(5);

/// The longest question that is read.
const QUESTION_MAX: u64 = 1 << 20;

/// What a program says of its configuration on request, beyond showing it, without starting: whoever asks has the
/// answer of the code that decides.
pub struct Question<C> {
    /// The option, without its dashes.
    pub option: &'static str,
    /// Its line of `--help`.
    pub help: &'static str,
    /// What there is to say to what stdin says, or what is wrong.
    pub answer: fn(&C, &str) -> Result<String, String>,
}

/// What is a daemon's own in its start.
pub trait Daemon: 'static {
    /// The program, as it is called in the log.
    const NAME: &'static str;
    /// The configuration file if none is named. It may be missing: every key has a default.
    const CONFIG_PATH: &'static str;
    /// The configuration file's content; every table denies unknown fields and has defaults.
    type Config: DeserializeOwned + Serialize + Send + 'static;
    /// Every key of the configuration, and whether a reload changes it.
    const KEYS: Keys;
    /// What else it can say without starting.
    const QUESTION: Option<Question<Self::Config>> = None;
    /// What must be had before privileges are dropped: sockets, key files.
    type Parts: Send + 'static;

    /// The user to run as, by name or number. As root there must be one.
    fn user(config: &Self::Config) -> Option<&str>;

    /// The `[log]` table.
    fn log(config: &Self::Config) -> &log::Settings;

    /// What the daemon needs after its start: all the rest is taken from it. Its log and the directory
    /// of its configuration need not be named.
    fn confinement(config: &Self::Config) -> Confinement;

    /// Where its audit records go; None: nowhere.
    fn audit(_: &Self::Config) -> Option<Place> {
        None
    }

    /// The directory of registrations that it reads while it runs; `--show-config` shows what is in it, and
    /// `--check-config` says what is wrong with it.
    fn registrations(_: &Self::Config) -> Option<&Path> {
        None
    }

    /// What a configuration must fulfil beyond its syntax. Touches nothing: `--check-config` runs it.
    fn check(config: &Self::Config) -> Result<(), Misconfigured>;

    /// Binds sockets and opens files, still as root if the program was started by root. There is
    /// one thread and no runtime. `service` is who the daemon will be; `sockets` has those that the
    /// service manager passed, and binds them where it passed none.
    fn bind(
        config: &Self::Config,
        service: &Identity,
        sockets: &mut Sockets,
    ) -> Result<Self::Parts, StartError>;

    /// Listens and serves until `control.shutdown`; calls `control.ready()` once it can answer, and
    /// takes over what comes from `control.reloads()`.
    fn serve(
        config: Self::Config,
        parts: Self::Parts,
        control: Control<Self::Config>,
    ) -> impl Future<Output = Result<(), StartError>> + Send;
}

/// A daemon's whole `main`. Exit codes: 0 stopped on request, 1 failed, 2 wrong usage.
pub fn run<D: Daemon>() -> ExitCode {
    // Before there is a handler a hangup would end the process: it waits until there is one.
    if let Err(error) = hold_hangups() {
        return refuse::<D>(&format!("cannot block a signal: {error}"));
    }
    // Before the first file: nothing this process makes is open to others by accident.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let closed = match descriptors::close_inherited(socket::passed()) {
        Ok(closed) => closed,
        Err(error) => return refuse::<D>(&format!("cannot tell which descriptors were inherited: {error}")),
    };
    let question = D::QUESTION.map(|question| (question.option, question.help));
    let options = match Options::parse_for(D::NAME, D::CONFIG_PATH, question, std::env::args_os()) {
        Ok(options) => options,
        Err(error) => {
            let _ = error.print();
            return if error.exit_code() == 0 { ExitCode::SUCCESS } else { ExitCode::from(2) };
        }
    };
    let loaded = match configuration::<D>(&options) {
        Ok(loaded) => loaded,
        Err(sentence) => return refuse::<D>(&sentence),
    };
    if options.check_config {
        let ok = format!("{}: ok", log::printable(&loaded.source.path().to_string_lossy()));
        // It starts all the same, without those that are wrong.
        for sentence in D::registrations(&loaded.config).map(registrations::read).unwrap_or_default().wrong {
            say::<D>(&sentence);
        }
        return answer::<D>(&ok);
    }
    if options.show_config {
        return match shown::<D>(&loaded.config) {
            Ok(text) => answer::<D>(&text),
            Err(error) => refuse::<D>(&error.to_string()),
        };
    }
    if let Some(question) = D::QUESTION.filter(|_| options.question) {
        let mut asked = String::new();
        let read = std::io::stdin().lock().take(QUESTION_MAX).read_to_string(&mut asked);
        let given = read.map_err(|error| format!("cannot read the question: {error}"));
        return match given.and_then(|_| (question.answer)(&loaded.config, &asked)) {
            Ok(text) => answer::<D>(&text),
            Err(sentence) => refuse::<D>(&sentence),
        };
    }
    if !options.foreground && !options.detached {
        if socket::passed() > 0 {
            return refuse::<D>("the service manager passed sockets: stay in the foreground (-f)");
        }
        if D::log(&loaded.config).file.is_none() {
            return refuse::<D>("stay in the foreground (-f) or name a log file");
        }
        return match background::start(&options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => refuse::<D>(&chain(&error)),
        };
    }
    match start::<D>(&options, loaded, closed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stopped::BeforeTheLog(error)) => refuse::<D>(&error),
        Err(Stopped::Logged) => ExitCode::FAILURE,
    }
}

/// The configuration, and what is registered: both have one reader.
fn shown<D: Daemon>(config: &D::Config) -> serde_json::Result<String> {
    let mut shown = serde_json::to_value(config)?;
    if let (Some(directory), Some(tables)) = (D::registrations(config), shown.as_object_mut()) {
        tables.insert("registrations".to_owned(), registrations::read(directory).to_json());
    }
    serde_json::to_string_pretty(&shown)
}

fn refuse<D: Daemon>(sentence: &str) -> ExitCode {
    say::<D>(sentence);
    ExitCode::FAILURE
}

/// A line on stderr, if anybody can read it.
fn say<D: Daemon>(sentence: &str) {
    let _ = writeln!(std::io::stderr(), "{}: {}", D::NAME, log::printable(sentence));
}

/// The answer to an option.
fn answer<D: Daemon>(text: &str) -> ExitCode {
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse::<D>(&format!("cannot write to stdout: {error}")),
    }
}

fn hold_hangups() -> nix::Result<()> {
    SigSet::from(Signal::SIGHUP).thread_block()
}

/// Reads and checks the file that the options name.
pub(crate) fn configuration<D: Daemon>(options: &Options) -> Result<Loaded<D::Config>, String> {
    let loaded = config::load::<D::Config>(options.config_file.as_deref(), Path::new(D::CONFIG_PATH))
        .map_err(|error| chain(&error))?;
    D::check(&loaded.config).map_err(|wrong| chain(&loaded.source.locate(&wrong)))?;
    Ok(loaded)
}

/// Where the reason for a failed start was said.
enum Stopped {
    BeforeTheLog(String),
    Logged,
}

fn start<D: Daemon>(options: &Options, loaded: Loaded<D::Config>, closed: usize) -> Result<(), Stopped> {
    let Loaded { config, source } = loaded;
    let before = |error: StartError| Stopped::BeforeTheLog(source.told(&error));
    let service = service::<D>(options, &config).map_err(before)?;
    let log = D::log(&config);
    log::init(D::NAME, log, options.level(), &service).map_err(before)?;
    if closed > 0 {
        tracing::warn!(closed, "descriptors were inherited that nobody asked for");
    }
    let result = prepare::<D>(options, &config, source.path(), &service).map_err(|error| {
        let why = source.told(&error);
        // In the background, whoever waits in the foreground reads stderr, not the log.
        if log.file.is_some() {
            say::<D>(&why);
        }
        crate::critical!(why, "cannot start");
        Stopped::Logged
    });
    if !source.from_file {
        let file = source.path().display();
        tracing::info!(%file, "no configuration file, every key has its default");
    }
    let (parts, audit) = result?;
    if let Err(error) = log::reopen() {
        tracing::warn!(why = chain(&error), "a reload will not be able to open the log file anew");
    }
    let from_file = source.from_file;
    let reloading = Reloading { options: options.clone(), running: Running::of(&config), from_file };
    serve::<D>(config, parts, audit, reloading).map_err(|error| {
        crate::critical!(why = chain(&error), "stopped");
        Stopped::Logged
    })
}

/// Who the daemon is going to be.
fn service<D: Daemon>(options: &Options, config: &D::Config) -> Result<Identity, StartError> {
    let configured = D::user(config);
    match rustix::process::geteuid().is_root() {
        true => service_of_root(options.user.as_deref().or(configured)),
        false => service_of_user(options.user.as_deref()),
    }
}

/// Everything that needs root, and the end of being root.
fn prepare<D: Daemon>(
    options: &Options,
    config: &D::Config,
    path: &Path,
    service: &Identity,
) -> Result<(D::Parts, Audit), StartError> {
    if options.detached {
        background::detach()?;
    }
    // With this option the other end of stdin is somebody whose death is to be noticed.
    if !options.stop_at_eof {
        descriptors::empty_stdin()
            .map_err(|error| StartError::failed("cannot open /dev/null", std::io::Error::from(error)))?;
    }
    let root = rustix::process::geteuid().is_root();
    if !root && let Some(user) = D::user(config) {
        tell_if_not_separated(user, service);
    }
    let mut sockets = Sockets::of_this_process()?;
    let parts = D::bind(config, service, &mut sockets)?;
    sockets.finish()?;
    if root {
        privilege::drop_to(service)?;
    }
    privilege::confine()?;
    descriptors::raise_limit()?;
    let mut confinement = D::confinement(config).read_beside(path);
    if let Some(file) = &D::log(config).file {
        confinement = confinement.log(file);
    }
    let audit = match D::audit(config) {
        Some(place) => {
            confinement = confinement.log(&place.file);
            Audit::open(D::NAME, &place)?
        }
        None => Audit::default(),
    };
    sandbox::apply(&confinement)?;
    tracing::debug!(uid = service.uid, gid = service.gid, "privileges dropped");
    Ok((parts, audit))
}

/// Root must say who to become, and it must be somebody else.
fn service_of_root(user: Option<&str>) -> Result<Identity, StartError> {
    let user =
        user.ok_or_else(|| Misconfigured::at("user", "started by root, so a user to run as is needed"))?;
    let service = account::resolve(user)?;
    if service.uid == 0 || service.gid == 0 {
        let sentence = format!("'{user}' is root or in root's group: name a user of the service's own");
        return Err(Misconfigured::at("user", sentence).into());
    }
    Ok(service)
}

/// Anybody else stays who they are.
fn service_of_user(asked: Option<&str>) -> Result<Identity, StartError> {
    let own = Identity::current();
    if let Some(user) = asked
        && account::resolve(user)?.uid != own.uid
    {
        return Err(Misconfigured::new(format!("only root can run this as '{user}'")).into());
    }
    Ok(own)
}

fn tell_if_not_separated(configured: &str, own: &Identity) {
    if account::resolve(configured).map_or(true, |service| service.uid != own.uid) {
        tracing::info!(uid = own.uid, configured, "not root: no separation of privileges");
    }
}

fn serve<D: Daemon>(
    config: D::Config,
    parts: D::Parts,
    audit: Audit,
    reloading: Reloading,
) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name(D::NAME)
        .build()
        .map_err(|error| StartError::failed("cannot start the runtime", error))?;
    audit.record(Record::of(Event::Start));
    let result = runtime.block_on(serve_until_stopped::<D>(config, parts, audit.clone(), reloading));
    runtime.shutdown_timeout(BLOCKING_PATIENCE);
    // What is still recorded by a task that did not end in time comes after this one.
    audit.settle();
    let reason = if result.is_ok() { "asked" } else { "failed" };
    audit.record(Record { reason: Some(reason), ..Record::of(Event::Stop) });
    result
}

async fn serve_until_stopped<D: Daemon>(
    config: D::Config,
    parts: D::Parts,
    audit: Audit,
    reloading: Reloading,
) -> Result<(), StartError> {
    let detached = reloading.options.detached;
    let control = Control::announcing(Some(Box::new(move || {
        tell_manager(&[sd_notify::NotifyState::Ready]);
        if detached && let Err(error) = background::ready() {
            tracing::warn!(%error, "cannot tell the process in the foreground");
        }
    })))
    .with_audit(audit.clone());
    let hangups = Arc::new(Notify::new());
    let signals = control
        .listen_to_signals(Arc::clone(&hangups))
        .map_err(|error| StartError::failed("cannot listen to signals", error))?;
    // This thread takes it for all.
    SigSet::from(Signal::SIGHUP)
        .thread_unblock()
        .map_err(|error| StartError::failed("cannot listen to signals", error))?;
    let signals = tokio::spawn(signals);
    let keeper = tokio::spawn(async move { audit.keep().await });
    let shutdown = control.shutdown.clone();
    if reloading.options.stop_at_eof {
        let shutdown = shutdown.clone();
        std::thread::spawn(move || {
            await_eof();
            crate::control::stop(&shutdown);
        });
    }
    let reloads = tokio::spawn(reloading.run::<D>(hangups, control.clone()));
    let mut serving = tokio::spawn(D::serve(config, parts, control));
    let ended = tokio::select! {
        ended = &mut serving => Some(ended),
        () = shutdown.cancelled() => tokio::time::timeout(STOP_PATIENCE, &mut serving).await.ok(),
    };
    signals.abort();
    keeper.abort();
    reloads.abort();
    match ended {
        Some(Ok(Ok(()))) if shutdown.is_cancelled() => Ok(()),
        Some(Ok(Ok(()))) => Err(StartError::failed("the service ended", "nobody asked it to")),
        Some(Ok(Err(error))) => Err(error),
        // The text of the panic is not repeated: it may be made from a secret. The log has its place.
        Some(Err(_)) => Err(StartError::failed("the service broke off", "a defect in this program")),
        None => {
            serving.abort();
            Err(StartError::failed("the service did not stop", "20 s are over"))
        }
    }
}

/// The other end of stdin is closed by the kernel when its holder dies, however it dies.
fn await_eof() {
    let mut stdin = std::io::stdin().lock();
    let mut nothing = [0; 64];
    while matches!(stdin.read(&mut nothing), Ok(1..)) {}
}
