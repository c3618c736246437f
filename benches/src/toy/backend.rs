//! gRPC over a Unix socket: what stands in for authd and for a subsystem.

use std::{io, path::Path, pin::Pin};

use doorward_proto::subsystem::v1::{
    CallPart, CallReply, CallRequest, DescribeRequest, Description, Event, EventsRequest,
    call_reply::Outcome,
    subsystem_client::SubsystemClient,
    subsystem_server::{Subsystem, SubsystemServer},
};
use futures_util::Stream;
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint, Server, Uri},
};

use super::{Options, commits::Commits};

struct Echo {
    answer: Vec<u8>,
    /// For requests that bring a signature.
    commits: Option<Commits>,
}

type Nothing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Subsystem for Echo {
    async fn describe(&self, _: Request<DescribeRequest>) -> Result<Response<Description>, Status> {
        Err(Status::unimplemented("a toy"))
    }

    async fn call(&self, request: Request<CallRequest>) -> Result<Response<CallReply>, Status> {
        if let Some(commits) = &self.commits {
            commits
                .take(&request.into_inner().args)
                .await
                .map_err(|error| Status::internal(error.to_string()))?;
        }
        Ok(Response::new(CallReply { outcome: Some(Outcome::Result(self.answer.clone())) }))
    }

    type CallStreamStream = Nothing<CallPart>;

    async fn call_stream(&self, _: Request<CallRequest>) -> Result<Response<Nothing<CallPart>>, Status> {
        Err(Status::unimplemented("a toy"))
    }

    type EventsStream = Nothing<Event>;

    async fn events(&self, _: Request<EventsRequest>) -> Result<Response<Nothing<Event>>, Status> {
        Err(Status::unimplemented("a toy"))
    }
}

pub(super) async fn serve(options: Options) -> io::Result<()> {
    let path = options.socket.ok_or(io::ErrorKind::InvalidInput)?;
    let commits = match &options.store {
        Some(directory) => Some(Commits::open(directory, &options.key, &options.answer)?),
        None => None,
    };
    let listener = UnixListener::bind(&path)?;
    super::ready("ready");
    Server::builder()
        .add_service(SubsystemServer::new(Echo { answer: options.answer.into_bytes(), commits }))
        .serve_with_incoming(UnixListenerStream::new(listener))
        .await
        .map_err(io::Error::other)
}

pub(super) async fn connect(path: &Path) -> io::Result<SubsystemClient<Channel>> {
    let path = path.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(hyper_util::rt::TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://backend").connect_with_connector(connector).await;
    channel.map(SubsystemClient::new).map_err(io::Error::other)
}
