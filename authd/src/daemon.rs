//! From the configuration to the sockets, and the order in which authd stops.

mod neighbours;
mod renewal;

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::{
        fs::{MetadataExt as _, OpenOptionsExt as _},
        net::UnixListener,
    },
    path::Path,
    sync::Arc,
    time::Duration,
};

use doorward_launch::{
    Confinement, Control, Current, Daemon, Identity, Keys, Misconfigured, StartError,
    account as system_account,
    audit::Place,
    file,
    grpc::{AccessLayer, Intake, Limits, Unfinished, incoming, server},
    log,
    socket::{Bound, Owner, Sockets},
};
use doorward_peercred::{Diagnosis, Listeners, TcpListeners};
use doorward_proto::authd::v1::{
    login_server::LoginServer, rights_server::RightsServer, sessions_server::SessionsServer,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use self::neighbours::{authenticator_uids, certd_uid, plugins};
use self::renewal::{Registered, Renewal};
use crate::{
    access::{ROWS, classify},
    account::{Accounts, Directory, System},
    assertion::Signer,
    certd::{self, Certd},
    config::{self, Config, KEYS, LocalMode},
    conversation::Conversations,
    driver::{self, Logins},
    jwt::{Issuers, KeyFile},
    method::Policy,
    peer::{Door, Peers},
    penalty::Penalties,
    plugin::Plugins,
    rights::Holders,
    service::{LoginService, RightsService, SessionsService, Shared},
    session::{Boot, Clock, Sessions},
};

/// What a request may weigh; the largest are reports of activity.
const REQUEST_MAX: usize = 64 << 10;
/// Connections of one uid: the gateway needs a few.
const CONNECTIONS_MAX: usize = 16;
/// How long a start waits for the registrations of subsystems to be read.
const REGISTRATIONS_WITHIN: Duration = Duration::from_secs(5);
/// How long requests that are under way at a stop may take.
const STOP_WITHIN: Duration = Duration::from_secs(3);

/// What is had before privileges are dropped.
#[derive(Debug)]
pub struct Parts {
    socket: Bound,
    peer_socket: Bound,
    public_key: File,
    kernel: Diagnosis,
    peers: Neighbours,
}

/// The users at the other ends of authd's sockets.
#[derive(Debug, Clone)]
pub struct Neighbours {
    /// The gateway's.
    pub gateway: Identity,
    /// certd's uid; None: there is no certd.
    pub certd: Option<u32>,
    /// Those of plug-in authenticators, by their kinds.
    pub authenticators: BTreeMap<String, u32>,
}

/// What a test replaces; the daemon has the system's.
#[derive(Debug, Clone)]
pub struct Service {
    /// The user database.
    pub directory: Arc<dyn Directory>,
    /// The clock of sessions.
    pub clock: Clock,
    /// The boot that sessions belong to.
    pub boot: Boot,
}

impl Service {
    /// The system's.
    ///
    /// # Errors
    /// When the system does not tell which boot this is.
    pub fn of_the_system() -> io::Result<Self> {
        Ok(Self { directory: Arc::new(System), clock: Clock::of_the_system(), boot: Boot::current()? })
    }
}

/// authd as launch starts it.
#[derive(Debug, Clone, Copy)]
pub struct Authd;

impl Daemon for Authd {
    const NAME: &'static str = "doorward-authd";
    const CONFIG_PATH: &'static str = "/etc/doorward/authd.toml";
    type Config = Config;
    type Parts = Parts;
    const KEYS: Keys = KEYS;

    fn user(config: &Config) -> Option<&str> {
        Some(&config.user)
    }

    fn log(config: &Config) -> &log::Settings {
        &config.log
    }

    fn confinement(config: &Config) -> Confinement {
        let confinement = Confinement::new(&config.sandbox)
            .keep(&config.state_dir)
            .read(Boot::FILE.as_ref())
            .read(&config.subsystems.directory)
            .user_database();
        config.issuers().iter().fold(confinement, |confinement, issuer| {
            let (KeyFile::Key(file) | KeyFile::Set(file)) = &issuer.file;
            confinement.read_beside(file)
        })
    }

    fn audit(config: &Config) -> Option<Place> {
        config.audit.place(&config.state_dir)
    }

    fn check(config: &Config) -> Result<(), Misconfigured> {
        config.check()
    }

    fn bind(config: &Config, service: &Identity, sockets: &mut Sockets) -> Result<Parts, StartError> {
        System.wake();
        let gateway = system_account::resolve(&config.peers.gateway)
            .map_err(|failure| Misconfigured::at("peers.gateway", failure.to_string()))?;
        if gateway.uid == 0 {
            return Err(Misconfigured::at("peers.gateway", "must not be root").into());
        }
        // One uid for both would let whoever takes the gateway over write authd's memory and files.
        if rustix::process::geteuid().is_root() && gateway.uid == service.uid {
            return Err(Misconfigured::at("peers.gateway", "must be another user than authd's").into());
        }
        tell_missing_groups(config);
        let certd = certd_uid(config, service, gateway)?;
        let authenticators = authenticator_uids(config, service, gateway)?;
        Parts::bind(config, service, Neighbours { gateway, certd, authenticators }, sockets)
    }

    async fn serve(config: Config, parts: Parts, control: Control<Config>) -> Result<(), StartError> {
        let system = Service::of_the_system().map_err(|e| StartError::failed("cannot tell the boot", e))?;
        serve(config, parts, system, control).await
    }
}

/// A group that does not exist gives nobody access. That is closed, but seldom what was meant.
fn tell_missing_groups(config: &Config) {
    let access = &config.access;
    let groups = access.full_groups.iter().chain(&access.limited_groups).chain(access.group_acl.keys());
    let exists = |name: &str| nix::unistd::Group::from_name(name).is_ok_and(|group| group.is_some());
    if !groups.clone().any(|name| exists(name)) {
        let names = groups.map(String::as_str).collect::<Vec<_>>().join(" ");
        warn!(
            names,
            mend = "groupadd one of them, or name others in [access]",
            "none of the access groups exists: nobody but root can log in"
        );
    }
}

impl Parts {
    /// Binds the sockets and opens the file of the public key.
    ///
    /// # Errors
    /// When one of them cannot be had; says which and why.
    pub fn bind(
        config: &Config,
        service: &Identity,
        peers: Neighbours,
        sockets: &mut Sockets,
    ) -> Result<Self, StartError> {
        file::state_directory(&config.state_dir, service)?;
        let owner = Owner { uid: service.uid, gid: peers.gateway.gid };
        let socket = sockets.stream(&config.socket.path, 0o660, owner)?;
        let peer_socket = sockets.seqpacket(&config.socket.peer_path, 0o660, owner)?;
        let public_key = open_public(&config.socket.assertion_key).map_err(|failure| {
            StartError::failed(format!("cannot write {}", config.socket.assertion_key.display()), failure)
        })?;
        let kernel = kernel(config.local_login.mode, sockets, &peer_socket)?;
        Ok(Self { socket, peer_socket, public_key, kernel, peers })
    }
}

/// Whom to ask whose a local connection is. Had before this process confines itself, so that it need not be
/// allowed to have another. Where it does not answer nobody comes in by it.
fn kernel(mode: LocalMode, sockets: &mut Sockets, peer_socket: &Bound) -> Result<Diagnosis, StartError> {
    let kernel = match sockets.socket_diagnosis() {
        None => Diagnosis::of_this_namespace(),
        Some(passed) => Diagnosis::over(passed)
            .map_err(|e| StartError::failed("cannot use the service manager's socket of netlink", e))?,
    };
    let cause = match kernel.knows_of(peer_socket) {
        Ok(true) => None,
        Ok(false) => Some("the network namespace is another than that of the peer socket".to_owned()),
        Err(failure) => Some(doorward_launch::chain(&failure)),
    };
    match (mode, cause) {
        (LocalMode::Off, _) => {}
        (LocalMode::Kernel | LocalMode::Unix, Some(cause)) => warn!(
            cause,
            mend = "under systemd doorward-authd.socket needs ListenNetlink=inet-diag: restart that unit",
            "the kernel cannot be asked whose a connection is: local users need a password"
        ),
        (LocalMode::Unix, None) => {}
        (LocalMode::Kernel, None) => {
            if let Err(failure) = kernel.can_examine_tcp() {
                warn!(
                    cause = %failure,
                    "the kernel cannot be asked about TCP: local users need a password there, not on the Unix socket"
                );
            }
        }
    }
    Ok(kernel)
}

/// The file of the public key, open for writing: its directory is root's, but the key is made later, by
/// authd's own user. An older key stays in it until then, so that verifiers are not disturbed.
fn open_public(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let open =
        || OpenOptions::new().read(true).write(true).custom_flags(flags.bits().cast_signed()).open(path);
    let own = rustix::process::geteuid().as_raw();
    if let Ok(found) = open()
        && let Ok(stat) = found.metadata()
        && (stat.is_file() && stat.uid() == own && stat.mode() & 0o7777 == 0o644 && stat.nlink() == 1)
    {
        return Ok(found);
    }
    file::create_public(path, b"").map_err(io::Error::other)?;
    open()
}

fn publish(mut file: File, pem: &str) -> io::Result<()> {
    let mut known = String::new();
    // What is no text is no key either: replaced.
    let _ = (&mut file).take(4096).read_to_string(&mut known);
    if known == pem {
        return Ok(());
    }
    file.rewind()?;
    file.write_all(pem.as_bytes())?;
    file.set_len(pem.len() as u64)?;
    file.sync_all()
}

/// Serves until `control.shutdown`.
///
/// # Errors
/// When authd cannot start, or one of its parts ends by itself.
pub async fn serve(
    config: Config,
    parts: Parts,
    service: Service,
    control: Control<Config>,
) -> Result<(), StartError> {
    let Parts { socket, peer_socket, public_key, kernel, peers } = parts;
    let Neighbours { gateway, certd: certd_uid, authenticators } = peers;
    let signer = Signer::open(&config.state_dir.join("assertion.key"))
        .map_err(|e| StartError::failed("cannot have a signing key", e))?;
    publish(public_key, signer.public_pem())
        .map_err(|e| StartError::failed("cannot publish the public key", e))?;
    let clock = service.clock.clone();
    let audit = control.audit.clone();
    let (directory, bounds) = (&config.state_dir, config.bounds());
    let sessions = Sessions::open_recorded(directory, &service.boot, service.clock, bounds, audit.clone())
        .map_err(|e| StartError::failed("cannot open the session store", e))?;
    let sessions = Arc::new(sessions);
    // The lock of the sessions keeps a second authd out.
    let (rules, account) = config.penalty.rules();
    let penalties = Penalties::open(&config.state_dir, &service.boot, clock, rules, account)
        .map_err(|e| StartError::failed("cannot keep penalties", e))?;
    let penalties = Arc::new(penalties);

    let stop = control.shutdown.clone();
    let tasks = TaskTracker::new();
    let peers = Arc::new(Peers::default());
    let mut registered = Registered::new(&config);
    // A slow user database is no reason not to start: what it holds up comes a little later.
    let _ = tokio::time::timeout(REGISTRATIONS_WITHIN, registered.changed()).await;
    let holders = Arc::new(Holders {
        sessions: sessions.clone(),
        accounts: Accounts::new(service.directory, config.groups()),
        acls: Current::new(registered.acls()),
        kinds: config.others(),
        users_by_jwt: config.users_by_jwt(),
    });
    if holders.end_unvouched().await.is_err() {
        // What failed is logged there, and the store is tried again; nothing opens these sessions any more.
        warn!("sessions of kinds that are configured no more have ended and are still on disk");
    }
    let certd = certd_uid.map(|uid| {
        let settings = certd::Settings { socket: config.certd.socket.clone(), uid };
        Certd::start(settings, sessions.clone(), &tasks, stop.clone())
    });
    let issuers = Issuers::open(config.issuers())
        .map_err(|e| StartError::failed("cannot have the keys of [[jwt]]", e))?;
    let issuers = Arc::new(issuers);
    let plugins = Plugins::new(plugins(&config, &authenticators)?, tasks.clone(), stop.clone());
    let own_uids = own_uids(gateway);
    let kinds = config.kinds();
    let parts = driver::Parts {
        issuers: issuers.clone(),
        plugins,
        holders: holders.clone(),
        conversations: Conversations::new(config.conversations(), tasks.clone()),
        certd,
        peers: peers.clone(),
        policy: Current::new(policy(&config, own_uids.clone())),
        token_rules: Current::new(config.token_rules(&kinds)?),
        refusal_delay: Current::new(config.refusal_delay()),
        audit: audit.clone(),
        penalties: penalties.clone(),
    };
    let logins = Arc::new(Logins::new(parts, tasks.clone(), stop.clone()));
    let accepted_from = listeners(config.local_login.mode, &config.peers, gateway, kernel.clone());
    let accepted_from = Arc::new(Current::new(accepted_from));
    let renewal = Renewal {
        logins: logins.clone(),
        holders: holders.clone(),
        own_uids,
        accepted_from: accepted_from.clone(),
        gateway: (gateway, config.peers.clone()),
        kernel,
        kinds,
        registered,
    };
    let shared = Shared { logins, holders, signer: Arc::new(signer), audit, stop: stop.clone() };

    let path = config.socket.path.clone();
    let listener = socket.listen_unix(128)?;
    let door = Door { listener: peer_socket.listen(128)?, gateway: gateway.uid, accepted_from };
    let keeper = tokio::spawn({
        let (sessions, holders, stop) = (sessions.clone(), shared.holders.clone(), stop.clone());
        async move { tokio::join!(sessions.keep(&stop), holders.keep(&stop), issuers.keep(&stop)) }
    });
    let penalty_keeper = tokio::spawn({
        let (penalties, stop) = (penalties.clone(), stop.clone());
        async move { penalties.keep(&stop).await }
    });
    let peer_door = tokio::spawn(door.serve(peers, stop.clone()));
    tokio::spawn(renewal.run(control.reloads(), stop.clone()));
    info!(socket = %path.display(), gateway = gateway.uid, "ready");
    control.ready();
    let served = serve_grpc(listener, gateway.uid, shared, &stop).await;

    // Whatever ended the server ends the rest, in order: logins, then sessions, then their store.
    stop.cancel();
    tasks.close();
    if tokio::time::timeout(STOP_WITHIN, tasks.wait()).await.is_err() {
        warn!("logins did not end in time");
    }
    let peer_door = peer_door.await.unwrap_or_else(|panic| Err(io::Error::other(panic)));
    // A panic in the keeper is told by the runtime; what it would have written is written by `close`.
    let _ = keeper.await;
    let _ = penalty_keeper.await;
    penalties.close().await;
    sessions.close().await;
    served?;
    peer_door.map_err(|e| StartError::failed("the peer socket failed", e))
}

/// What a local user's connection must have been accepted from.
fn listeners(mode: LocalMode, peers: &config::Peers, gateway: Identity, kernel: Diagnosis) -> Listeners {
    let tcp = match mode {
        LocalMode::Kernel => Some(TcpListeners { uid: gateway.uid, ports: peers.gateway_ports.clone() }),
        LocalMode::Unix | LocalMode::Off => None,
    };
    Listeners { unix: peers.gateway_socket.clone(), tcp, kernel }
}

/// Uids that are services': nobody logs in as one of them without a password. Without separation there
/// is nothing that a service's own uid could be protected from.
fn own_uids(gateway: Identity) -> Vec<u32> {
    let own = rustix::process::geteuid().as_raw();
    if own == gateway.uid {
        warn!(uid = own, "the gateway runs as the same user: no separation of privileges");
        Vec::new()
    } else {
        vec![own, gateway.uid]
    }
}

fn policy(config: &Config, own_uids: Vec<u32>) -> Policy {
    Policy {
        local_login: match config.local_login.mode {
            LocalMode::Kernel | LocalMode::Unix => true,
            LocalMode::Off => false,
        },
        uid_min: config.local_login.uid_min,
        own_uids,
        ..Policy::default()
    }
}

async fn serve_grpc(
    listener: UnixListener,
    gateway: u32,
    shared: Shared,
    stop: &CancellationToken,
) -> Result<(), StartError> {
    let classify = classify(gateway);
    let allow = {
        let classify = classify.clone();
        move |uid| classify(uid).is_some()
    };
    let limits = Limits { per_uid: CONNECTIONS_MAX, ..Limits::default() };
    let incoming =
        incoming(listener, allow, limits).map_err(|e| StartError::failed("cannot accept connections", e))?;
    let serving = server()
        .layer(AccessLayer::new(ROWS, classify))
        .layer(Intake::new(Unfinished::default(), REQUEST_MAX))
        .add_service(LoginServer::new(LoginService(shared.clone())).max_decoding_message_size(REQUEST_MAX))
        .add_service(
            SessionsServer::new(SessionsService(shared.clone())).max_decoding_message_size(REQUEST_MAX),
        )
        .add_service(RightsServer::new(RightsService(shared)).max_decoding_message_size(REQUEST_MAX))
        .serve_with_incoming_shutdown(incoming, stop.cancelled());
    let late = async {
        stop.cancelled().await;
        tokio::time::sleep(STOP_WITHIN).await;
    };
    tokio::select! {
        served = serving => served.map_err(|e| StartError::failed("the gRPC server failed", e)),
        () = late => Ok(()),
    }
}
