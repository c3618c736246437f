//! The gateway as a whole: what it binds before it gives up root, and how it runs after that.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use doorward_launch::{
    Control, Current, Identity, StartError, chain, file,
    socket::{Bound, Sockets},
};
use tokio::{
    net::{TcpListener, UnixListener},
    task::JoinSet,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    accept::{Door, Listener, Places},
    backend::Backend,
    channels::{Engine, Handlers, Policies},
    config::{Carrier, Config, Subsystems},
    hub::{Hub, Notice},
    misses::Misses,
    redis,
    router::Router,
    subsystem,
    transport::{
        Gates, STOP_PATIENCE, Shared, Tls,
        certificate::{self, Pem},
    },
};

/// Connections that wait for accept().
const BACKLOG: i32 = 1_024;
/// Who may use the door: everybody.
const DOOR_MODE: u32 = 0o666;
/// For clients to hear that the gateway stops, once what they asked for is answered.
const GOODBYE: Duration = Duration::from_secs(3);

/// A start reads the key as root, a reload does not.
const MEND_KEY: &str = "the gateway reads certificate and key as its own user: chgrp the key to the \
    gateway's group, chmod 640 it, and let that group through the directories above";

/// What was bound and read before privileges were dropped.
#[derive(Debug)]
pub struct Parts {
    tcp: Vec<(Bound, Listener)>,
    unix: Option<Bound>,
    /// The configured certificate; without one there is an own one in the state directory.
    configured: Option<Pem>,
    authd: u32,
    certd: Option<u32>,
    hub: Hub,
    redis: Option<redis::Settings>,
    policies: Policies,
}

impl Parts {
    /// Where events are registered: for tests, which publish some of their own. Those of subsystems are registered by
    /// `subsystem/events.rs`.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }
}

/// Binds the sockets and reads the configured key.
///
/// # Errors
/// With the sentence for whoever has to mend it.
pub fn bind(config: &Config, service: &Identity, sockets: &mut Sockets) -> Result<Parts, StartError> {
    let (authd, certd) = (config.authd_uid()?, config.certd_uid()?);
    file::state_directory(&config.state_dir, service)?;
    let policies = Policies::read(&config.channels.file)?;
    let configured = match config.tls.files() {
        Some((certificate, key)) => {
            let pem = certificate::read(certificate, key)?;
            // Said now and not when nobody looks any more.
            certificate::load(&pem)?;
            Some(pem)
        }
        None => None,
    };
    let listen = &config.listen;
    let of = |addresses: &[SocketAddr], kind| addresses.iter().map(|a| (*a, kind)).collect::<Vec<_>>();
    let tcp = [
        of(&listen.tls, Listener::Door),
        of(&listen.token, Listener::Token),
        of(&listen.token_plain, Listener::PlainToken),
    ];
    let tcp = tcp.into_iter().flatten();
    let tcp = tcp.filter_map(|(address, kind)| Some((sockets.tcp(address).transpose()?, kind)));
    let tcp = tcp.map(|(bound, kind)| Ok((bound?, kind))).collect::<Result<_, StartError>>()?;
    let unix = match config.listen.unix.as_path() {
        path if path.as_os_str().is_empty() => None,
        path => Some(sockets.stream(path, DOOR_MODE, (*service).into())?),
    };
    let redis = match config.channels.engine {
        Carrier::Memory => None,
        Carrier::Redis => Some(config.redis.settings()?),
    };
    Ok(Parts { tcp, unix, configured, authd, certd, hub: Hub::new(), redis, policies })
}

/// Serves until `control.shutdown`.
///
/// # Errors
/// With the sentence for whoever has to mend it.
pub async fn serve(config: Config, parts: Parts, control: Control<Config>) -> Result<(), StartError> {
    let hostname = hostname();
    let pem = match parts.configured {
        Some(pem) => pem,
        None => certificate::own(&config.state_dir, &hostname)?,
    };
    let served = certificate::load(&pem)?;
    drop(pem);
    if let Some(Err(error)) = config.tls.files().map(|(certificate, key)| certificate::read(certificate, key))
    {
        tracing::warn!(%error, mend = MEND_KEY, "a reload will not be able to read the TLS certificate and key");
    }
    let tls = Tls::new(&served).map_err(|error| StartError::failed("cannot use TLS", error))?;
    let tls = Arc::new(Current::new(tls));

    let backend = Backend::start(config.backend(parts.authd, parts.certd));
    let limits = config.limits;
    let subsystems = subsystem::Registry::default();
    let keeping = {
        let (subsystems, hub) = (subsystems.clone(), parts.hub.clone());
        let Subsystems { directory, pace } = config.subsystems.clone();
        async move { subsystem::keep(&directory, pace, subsystems, hub).await }
    };
    // What is under way needs the back ends until it is answered.
    let drained = CancellationToken::new();
    let keeping = tokio::spawn(drained.clone().run_until_cancelled_owned(keeping));
    let router = Router::new(&hostname, backend.certd(), subsystems);
    router.set_policies(parts.policies);
    let (engine, carrying) = match parts.redis {
        None => (Engine::memory(parts.hub.clone()), None),
        Some(settings) => {
            let prefix = config.redis.prefix.as_deref().unwrap_or_default();
            let (engine, running) = Engine::redis(prefix, settings, parts.hub.clone());
            let keep = drained.clone().run_until_cancelled_owned(running.keep());
            (engine, Some(tokio::spawn(keep)))
        }
    };
    let handlers = Handlers::new(&backend, router.policies());
    let shared = Shared {
        router,
        engine,
        handlers,
        speakers: Arc::default(),
        channels: config.ways(),
        backend: Arc::clone(&backend),
        audit: control.audit.clone(),
        hub: parts.hub,
        rules: config.rules(),
        proxies: config.http.trusted_proxies.clone(),
        limits: config.limits(),
        timers: config.timers(),
        door: Gates::new(limits.connections_before_login, limits.per_source, limits.plain_http),
        token_door: Gates::new(limits.connections_before_login, limits.per_source, limits.plain_http),
        misses: Arc::new(Misses::new(limits.token_misses)),
        server_uuid: config.token_api.server_uuid,
        tasks: TaskTracker::new(),
        stop: control.shutdown.clone(),
    };
    let tasks = shared.tasks.clone();
    let shared = Arc::new(Current::new(shared));
    let places =
        Places::new(limits.connections, limits.connections_per_source, doorward_launch::descriptors());
    let door = Door {
        shared: Arc::clone(&shared),
        stop: control.shutdown.clone(),
        places: places.clone(),
        refusals: Arc::default(),
        exempt: config.exempt,
    };

    let mut doors = JoinSet::new();
    let mut addresses = Addresses::default();
    for (bound, kind) in parts.tcp {
        // Before the first connection can come: authd believes nothing of one without it.
        doorward_peercred::keep_proof_of_accept(&bound)
            .map_err(|error| StartError::failed("cannot prepare a TCP socket", error))?;
        let listener = bound.listen_tcp(BACKLOG)?;
        let failed = |error| StartError::failed("cannot use a TCP socket", error);
        let listener = TcpListener::from_std(listener).map_err(failed)?;
        addresses.of(kind).push(listener.local_addr().map_err(failed)?.to_string());
        doors.spawn(door.clone().tcp(listener, kind, Arc::clone(&tls)));
    }
    let mut path = None;
    if let Some(bound) = parts.unix {
        path = bound.path().map(ToOwned::to_owned);
        let listener = bound.listen_unix(BACKLOG)?;
        let listener = UnixListener::from_std(listener)
            .map_err(|error| StartError::failed("cannot use the Unix socket", error))?;
        doors.spawn(door.clone().unix(listener));
    }
    drop(door);

    for address in &addresses.tls {
        tracing::info!(tls = address, fingerprint = served.fingerprint, "ready");
    }
    for address in addresses.token.iter().chain(&addresses.token_plain) {
        tracing::info!(token_api = address, "ready");
    }
    if let Some(path) = &path {
        tracing::info!(unix = %path.display(), "ready");
    }
    let renewal = Renewal {
        state_dir: config.state_dir,
        policies: config.channels.file,
        hostname,
        addresses,
        unix: path,
        tls,
        shared,
        places,
    };
    renewal.publish(&served);
    let mut reloads = control.reloads();
    control.ready();

    loop {
        let reload = tokio::select! {
            () = control.shutdown.cancelled() => break,
            reload = reloads.next() => reload,
        };
        let outcome = renewal.take_over(&reload.config);
        reload.done(outcome);
    }
    while doors.join_next().await.is_some() {}
    tasks.close();
    if timeout(STOP_PATIENCE + GOODBYE, tasks.wait()).await.is_err() {
        tracing::warn!("some clients did not go in time");
    }
    drained.cancel();
    // These end at once, and have nothing to say.
    let _ = keeping.await;
    if let Some(carrying) = carrying {
        let _ = carrying.await;
    }
    backend.stop().await;
    Ok(())
}

/// Where the gateway is.
#[derive(Debug, Default)]
struct Addresses {
    tls: Vec<String>,
    token: Vec<String>,
    token_plain: Vec<String>,
}

impl Addresses {
    fn of(&mut self, kind: Listener) -> &mut Vec<String> {
        match kind {
            Listener::Door => &mut self.tls,
            Listener::Token => &mut self.token,
            Listener::PlainToken => &mut self.token_plain,
        }
    }
}

/// What a reload changes, and where the changed certificate is told.
struct Renewal {
    state_dir: PathBuf,
    /// Its place takes a restart; what is in it does not.
    policies: PathBuf,
    hostname: String,
    addresses: Addresses,
    unix: Option<PathBuf>,
    tls: Arc<Current<Tls>>,
    shared: Arc<Current<Shared>>,
    places: Places,
}

impl Renewal {
    /// What can fail comes first, so that nothing or everything changes. Connections that are open keep
    /// what they have.
    fn take_over(&self, config: &Config) -> Result<(), StartError> {
        let pem = match config.tls.files() {
            Some((certificate, key)) => {
                certificate::read(certificate, key).map_err(|error| StartError::failed(MEND_KEY, error))?
            }
            None => certificate::own(&self.state_dir, &self.hostname)?,
        };
        let served = certificate::load(&pem)?;
        let tls = Tls::new(&served).map_err(|error| StartError::failed("cannot use TLS", error))?;
        let policies = Policies::read(&self.policies)?;
        self.tls.set(tls);
        let shared = self.shared.get().renewed(
            config.rules(),
            config.http.trusted_proxies.clone(),
            config.ways(),
            config.limits(),
            config.timers(),
        );
        let limits = &config.limits;
        for gates in [&shared.door, &shared.token_door] {
            gates.resize(limits.connections_before_login, limits.per_source, limits.plain_http);
        }
        self.places.resize(limits.connections, limits.connections_per_source, doorward_launch::descriptors());
        // Whoever may hear no more what they are subscribed to is told now.
        shared.router.set_policies(policies);
        // In this order: until then whoever asks is told by the new table.
        shared.handlers.renew();
        shared.hub.tell(Notice::LookAgain);
        self.shared.set(shared);
        self.publish(&served);
        Ok(())
    }

    /// Writes down where the gateway is and which key it shows. Where that cannot be written (a full disk) the door is open
    /// all the same.
    fn publish(&self, served: &certificate::Served) {
        let listening = serde_json::json!({
            "tls": self.addresses.tls,
            "token": self.addresses.token,
            "token_plain": self.addresses.token_plain,
            "unix": self.unix.as_deref().map(Path::to_string_lossy),
            "fingerprint": served.fingerprint,
        });
        let path = self.state_dir.join("listening.json");
        if let Err(error) = file::create_public(&path, listening.to_string().as_bytes()) {
            let error = chain(&error);
            tracing::warn!(error, "where the gateway listens and which key it shows is not written down");
        }
        tracing::info!(fingerprint = served.fingerprint, "the TLS key that clients see");
        if let Some(complaint) = served.complaint(SystemTime::now()) {
            tracing::warn!("{complaint}");
        }
    }
}

fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
