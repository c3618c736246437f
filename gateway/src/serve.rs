//! The gateway as a whole: what it binds before it gives up root, and how it runs after that.

use std::sync::Arc;
use std::time::Duration;

use doorward_launch::{
    Control, Identity, StartError, file,
    socket::{Bound, Sockets},
};
use tokio::{
    net::{TcpListener, UnixListener},
    task::JoinSet,
    time::timeout,
};
use tokio_util::task::TaskTracker;

use crate::{
    accept::{Door, Places},
    backend::Backend,
    config::Config,
    gate::Gate,
    hub::Hub,
    router::Router,
    transport::{
        Shared, Tls,
        certificate::{self, Pem},
    },
};

/// Connections that wait for accept().
const BACKLOG: i32 = 1_024;
/// Who may use the door: everybody.
const DOOR_MODE: u32 = 0o666;
/// For clients to hear that the gateway stops.
const GOODBYE: Duration = Duration::from_secs(4);

/// What was bound and read before privileges were dropped.
#[derive(Debug)]
pub struct Parts {
    tls: Vec<Bound>,
    unix: Option<Bound>,
    /// The configured certificate; without one there is an own one in the state directory.
    configured: Option<Pem>,
    authd: u32,
    certd: Option<u32>,
    hub: Hub,
}

impl Parts {
    /// Where those who offer events register them.
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
    let configured = match (&config.tls.certificate, &config.tls.key) {
        (Some(certificate), Some(key)) => {
            let pem = certificate::read(certificate, key)?;
            // Said now and not when nobody looks any more.
            certificate::load(&pem)?;
            Some(pem)
        }
        (None, None) | (Some(_), None) | (None, Some(_)) => None,
    };
    let tls = config.listen.tls.iter().map(|address| sockets.tcp(*address)).collect::<Result<_, _>>()?;
    let unix = match config.listen.unix.as_path() {
        path if path.as_os_str().is_empty() => None,
        path => Some(sockets.stream(path, DOOR_MODE, (*service).into())?),
    };
    Ok(Parts { tls, unix, configured, authd, certd, hub: Hub::new() })
}

/// Serves until `control.shutdown`.
///
/// # Errors
/// With the sentence for whoever has to mend it.
pub async fn serve(config: Config, parts: Parts, control: Control) -> Result<(), StartError> {
    let hostname = hostname();
    let pem = match parts.configured {
        Some(pem) => pem,
        None => certificate::own(&config.state_dir, &hostname)?,
    };
    let served = certificate::load(&pem)?;
    drop(pem);
    let tls = Tls::new(&served).map_err(|error| StartError::failed("cannot use TLS", error))?;

    let backend = Backend::start(config.backend(parts.authd, parts.certd));
    let shared = Arc::new(Shared {
        router: Router::new(&hostname, backend.certd()),
        backend,
        hub: parts.hub,
        rules: config.rules(),
        limits: config.limits(),
        timers: config.timers(),
        newcomers: Gate::new(config.limits.connections_before_login, config.limits.per_source),
        // One source can have a sixteenth, so that it takes many to keep others out.
        plain: Gate::new(config.limits.plain_http, (config.limits.plain_http / 16).max(1)),
        tasks: TaskTracker::new(),
        stop: control.shutdown.clone(),
    });
    let limits = config.limits;
    let places =
        Places::new(limits.connections, limits.connections_per_source, doorward_launch::descriptors());
    let door = Door { shared: Arc::clone(&shared), places, refusals: Arc::default(), exempt: config.exempt };

    let mut doors = JoinSet::new();
    let mut addresses = Vec::new();
    for bound in parts.tls {
        // Before the first connection can come: authd believes nothing of one without it.
        doorward_peercred::keep_proof_of_accept(&bound)
            .map_err(|error| StartError::failed("cannot prepare a TCP socket", error))?;
        let listener = bound.listen_tcp(BACKLOG)?;
        let failed = |error| StartError::failed("cannot use a TCP socket", error);
        let listener = TcpListener::from_std(listener).map_err(failed)?;
        addresses.push(listener.local_addr().map_err(failed)?.to_string());
        doors.spawn(door.clone().tcp(listener, tls.clone()));
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

    let listening = serde_json::json!({
        "tls": addresses,
        "unix": path.as_deref().map(|path| path.to_string_lossy()),
        "fingerprint": served.fingerprint,
    });
    file::create_public(&config.state_dir.join("listening.json"), listening.to_string().as_bytes())?;
    for address in &addresses {
        tracing::info!(tls = address, fingerprint = served.fingerprint, "ready");
    }
    if let Some(path) = path {
        tracing::info!(unix = %path.display(), "ready");
    }
    control.ready();

    control.shutdown.cancelled().await;
    while doors.join_next().await.is_some() {}
    shared.tasks.close();
    if timeout(GOODBYE, shared.tasks.wait()).await.is_err() {
        tracing::warn!("some clients did not go in time");
    }
    shared.backend.stop().await;
    Ok(())
}

fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
