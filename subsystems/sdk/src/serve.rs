//! From a listening socket to answers, until it is asked to stop.

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use doorward_assertion::Verifier;
use doorward_launch::grpc::{AccessLayer, Intake, Limits, Peer, Unfinished, incoming, server};
use doorward_launch::{Audit, StartError};
use doorward_proto::subsystem::v1::subsystem_server::SubsystemServer;
use tokio::task::JoinSet;

use crate::access::ROWS;
use crate::bounds::REQUEST_MAX;
use crate::call::Ended;
use crate::record::Recorder;
use crate::service::{Service, first_second};
use crate::subsystem::Subsystem;

/// How long calls that are under way at a stop may take.
const STOP_WITHIN: Duration = Duration::from_secs(3);

/// Whom a subsystem believes what.
#[derive(Debug, Clone)]
pub struct Peers {
    /// Who may connect: the gateway's uid.
    pub gateway: u32,
    /// Whose the file of the key may be, beside root's: authd's uid.
    pub authd: u32,
    /// authd's public key.
    pub key: PathBuf,
}

/// Serves until `stop`. [`main`](crate::main) does this and all that comes before; a program that has its own
/// main, and tests, call it alone.
///
/// # Errors
/// When the description cannot be used, or the subsystem ends by itself.
pub async fn serve(
    mut subsystem: Subsystem,
    listener: UnixListener,
    peers: Peers,
    audit: Audit,
    record_reads: bool,
    stop: Ended,
) -> Result<(), StartError> {
    // However this ends, the work beside it ends too.
    let _ends = stop.clone().drop_guard();
    let name = subsystem.audience();
    let tasks = subsystem.tasks();
    let checked =
        subsystem.checked().map_err(|wrong| StartError::failed("cannot describe the subsystem", wrong))?;
    let gateway = peers.gateway;
    let verifier = Verifier::new(peers.key, peers.authd, name);
    let Some(started) = stop.run_until_cancelled(first_second()).await else { return Ok(()) };
    let service = Service::new(checked, verifier, Recorder::new(audit, record_reads), started, stop.clone());
    let classify = move |uid: u32| (uid == gateway).then_some(Peer::Gateway);
    let incoming = incoming(listener, move |uid| classify(uid).is_some(), Limits::default())
        .map_err(|error| StartError::failed("cannot accept connections", error))?;
    let serving = server()
        .layer(AccessLayer::new(ROWS, classify))
        .layer(Intake::new(Unfinished::default(), REQUEST_MAX))
        .add_service(SubsystemServer::new(service).max_decoding_message_size(REQUEST_MAX))
        .serve_with_incoming_shutdown(incoming, stop.cancelled());
    let mut beside = JoinSet::new();
    for task in tasks {
        beside.spawn(task(stop.clone()));
    }
    let late = async {
        stop.cancelled().await;
        tokio::time::sleep(STOP_WITHIN).await;
    };
    tokio::select! {
        served = serving => served.map_err(|error| StartError::failed("the gRPC server failed", error)),
        () = late => Ok(()),
        () = broken(&mut beside) => Err(StartError::failed("a task broke off", "a defect in this program")),
    }
}

/// Ends when one of them panicked; those that came to their end are fine.
async fn broken(beside: &mut JoinSet<()>) {
    while let Some(ended) = beside.join_next().await {
        if ended.is_err() {
            return;
        }
    }
    std::future::pending().await
}
