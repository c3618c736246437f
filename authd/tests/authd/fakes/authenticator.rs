//! A plug-in authenticator that does what a test says.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixListener,
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};

use doorward_launch::grpc::{Limits, incoming};
use doorward_proto::authenticator::v1::{
    self as wire,
    authenticate_reply::Outcome,
    authenticator_server::{Authenticator, AuthenticatorServer},
};
use tonic::{Request, Response, Status};

/// What comes of a question.
pub(crate) enum Does {
    /// It is somebody.
    Knows(wire::Identity),
    /// It is nobody.
    Refuses,
    /// Something else.
    Says(wire::AuthenticateReply),
    /// A status of gRPC.
    Fails(Status),
    /// Nothing, for this long.
    Hangs(Duration),
}

struct Fake<F>(Arc<F>);

#[tonic::async_trait]
impl<F: Fn(wire::AuthenticateRequest) -> Does + Send + Sync + 'static> Authenticator for Fake<F> {
    async fn authenticate(
        &self,
        request: Request<wire::AuthenticateRequest>,
    ) -> Result<Response<wire::AuthenticateReply>, Status> {
        let outcome = |outcome| Ok(Response::new(wire::AuthenticateReply { outcome: Some(outcome) }));
        match (self.0)(request.into_inner()) {
            Does::Knows(identity) => outcome(Outcome::Identity(identity)),
            Does::Refuses => outcome(Outcome::Refused(wire::Refused { why: "no\u{1b} such".into() })),
            Does::Says(reply) => Ok(Response::new(reply)),
            Does::Fails(status) => Err(status),
            Does::Hangs(time) => {
                tokio::time::sleep(time).await;
                outcome(Outcome::Refused(wire::Refused::default()))
            }
        }
    }
}

/// Serves `path` with this script until the test's runtime ends.
pub(crate) fn serve(
    path: &Path,
    script: impl Fn(wire::AuthenticateRequest) -> Does + Send + Sync + 'static,
) -> tokio::task::JoinHandle<()> {
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).expect("bound");
    let incoming = incoming(listener, |_| true, Limits::default()).expect("accepting");
    tokio::spawn(async move {
        let server = AuthenticatorServer::new(Fake(Arc::new(script))).max_encoding_message_size(64 << 20);
        let serving = tonic::transport::Server::builder().add_service(server);
        serving.serve_with_incoming(incoming).await.expect("serves");
    })
}

/// Takes every connection, reads a little, writes this, and closes it.
pub(crate) fn serve_bytes(path: &Path, bytes: &'static [u8]) {
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).expect("bound");
    thread::spawn(move || {
        while let Ok((mut connection, _)) = listener.accept() {
            let mut read = [0; 64];
            let _ = connection.read(&mut read);
            let _ = connection.write_all(bytes);
        }
    });
}
