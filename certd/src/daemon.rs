//! From the configuration to the sockets, and the order in which certd stops.

use std::{os::unix::net::UnixListener, sync::Arc, time::Duration};

use doorward_launch::{
    Confinement, Control, Daemon, Identity, Keys, Misconfigured, Peers, StartError,
    audit::Place,
    file,
    grpc::{AccessLayer, Intake, Limits, Unfinished, incoming, server},
    log,
    socket::{Bound, Owner, Sockets},
};
use doorward_proto::certd::v1::{
    proofs_server::ProofsServer, registry_server::RegistryServer, store_server::StoreServer,
};
use tokio_util::sync::CancellationToken;

use crate::{
    access::{Door, ROWS},
    config::{Config, KEYS},
    registry::{Registry, Watch},
    service::{Core, ProofsService, RegistryService, StoreService},
};

/// What a request may weigh: a certificate, twice a key, and an assertion.
const REQUEST_MAX: usize = 64 << 10;
/// What comes as many messages; its service bounds each, and the silence between.
const STREAMS: &[&str] = &["/doorward.certd.v1.Store/Import"];
/// How long calls that are under way at a stop may take.
const STOP_WITHIN: Duration = Duration::from_secs(3);

/// certd as launch starts it.
#[derive(Debug, Clone, Copy)]
pub struct Certd;

/// What is had before privileges are dropped.
#[derive(Debug)]
pub struct Parts {
    gateway_socket: Bound,
    authd_socket: Bound,
    gateway: Identity,
    authd: Identity,
}

impl Daemon for Certd {
    const NAME: &'static str = "doorward-certd";
    const CONFIG_PATH: &'static str = "/etc/doorward/certd.toml";
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
        Confinement::new(&config.sandbox).keep(&config.state_dir).read_beside(&config.assertion.key)
    }

    fn audit(config: &Config) -> Option<Place> {
        config.audit.place(&config.state_dir)
    }

    fn check(config: &Config) -> Result<(), Misconfigured> {
        config.check()
    }

    fn bind(config: &Config, service: &Identity, sockets: &mut Sockets) -> Result<Parts, StartError> {
        let Peers { gateway, authd } = Peers::resolve(service, &config.peers.gateway, &config.peers.authd)?;
        Parts::bind(config, service, gateway, authd, sockets)
    }

    async fn serve(config: Config, parts: Parts, control: Control<Config>) -> Result<(), StartError> {
        serve(config, parts, Watch::nothing(), control).await
    }
}

impl Parts {
    /// Binds the sockets and makes the directory of the registry.
    ///
    /// # Errors
    /// When one of them cannot be had; says which and why.
    pub fn bind(
        config: &Config,
        service: &Identity,
        gateway: Identity,
        authd: Identity,
        sockets: &mut Sockets,
    ) -> Result<Self, StartError> {
        file::state_directory(&config.state_dir, service)?;
        let owner = |peer: Identity| Owner { uid: service.uid, gid: peer.gid };
        Ok(Self {
            gateway_socket: sockets.stream(&config.socket.path, 0o660, owner(gateway))?,
            authd_socket: sockets.stream(&config.socket.authd_path, 0o660, owner(authd))?,
            gateway,
            authd,
        })
    }
}

/// Serves until `control.shutdown`. `watch` sees the registry's commits: tests end the process there.
///
/// # Errors
/// When certd cannot start, or one of its parts ends by itself.
pub async fn serve(
    config: Config,
    parts: Parts,
    watch: Watch,
    control: Control<Config>,
) -> Result<(), StartError> {
    let registry = Registry::open(&config.state_dir, config.registry_limits(), watch)
        .map_err(|error| StartError::failed("cannot open the registry", error))?;
    let stop = control.shutdown.clone();
    let core = Core::new(&config, registry, parts.authd.uid, control.audit.clone(), stop.clone());
    let gateway_listener = parts.gateway_socket.listen_unix(128)?;
    let authd_listener = parts.authd_socket.listen_unix(128)?;
    let (gateway, authd) = (parts.gateway.uid, parts.authd.uid);
    tracing::info!(socket = %config.socket.path.display(), gateway, authd, "ready");
    control.ready();

    let mut reloads = control.reloads();
    let renewal = async {
        while let Some(reload) = stop.run_until_cancelled(reloads.next()).await {
            core.take_over(&reload.config);
            reload.done(Ok(()));
        }
    };
    let ((), at_gateway, at_authd) = tokio::join!(
        renewal,
        serve_door(gateway_listener, Door::Gateway(gateway), &core, &stop),
        serve_door(authd_listener, Door::Authd(authd), &core, &stop),
    );
    core.finish_changes().await;
    let closing = tokio::task::spawn_blocking(move || core.close());
    closing.await.map_err(|panic| StartError::failed("the registry did not close", panic))?;
    at_gateway.and(at_authd)
}

/// One door ends both: half of certd is none.
async fn serve_door(
    listener: UnixListener,
    door: Door,
    core: &Arc<Core>,
    stop: &CancellationToken,
) -> Result<(), StartError> {
    let _ends_both = stop.clone().drop_guard();
    let incoming = incoming(listener, move |uid| door.classify(uid).is_some(), Limits::default())
        .map_err(|error| StartError::failed("cannot accept connections", error))?;
    let serving = server()
        .layer(AccessLayer::new(ROWS, move |uid| door.classify(uid)))
        .layer(Intake::new(Unfinished::default(), REQUEST_MAX).streams(STREAMS))
        .add_service(
            RegistryServer::new(RegistryService(core.clone())).max_decoding_message_size(REQUEST_MAX),
        )
        .add_service(ProofsServer::new(ProofsService(core.clone())).max_decoding_message_size(REQUEST_MAX))
        .add_service(StoreServer::new(StoreService(core.clone())).max_decoding_message_size(REQUEST_MAX))
        .serve_with_incoming_shutdown(incoming, stop.cancelled());
    let late = async {
        stop.cancelled().await;
        tokio::time::sleep(STOP_WITHIN).await;
    };
    tokio::select! {
        served = serving => served.map_err(|error| StartError::failed("the gRPC server failed", error)),
        () = late => Ok(()),
    }
}
