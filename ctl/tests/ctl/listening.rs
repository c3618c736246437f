//! Where the fake services of these tests listen, and the runtime that they have for themselves.

use std::{
    os::unix::net::UnixListener as StdUnixListener,
    path::{Path, PathBuf},
};

use futures_util::stream;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::{
    net::{TcpListener, UnixListener},
    runtime::Runtime,
};
use tonic::transport::server::Router;

/// A Unix socket and a TCP port, and a key for TLS there.
pub(crate) struct Listening {
    pub(crate) runtime: Runtime,
    pub(crate) socket: PathBuf,
    pub(crate) unix: UnixListener,
    pub(crate) url: String,
    pub(crate) tcp: TcpListener,
    pub(crate) certificate: CertificateDer<'static>,
    /// The certificate as text.
    pub(crate) pem: String,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Listening {
    /// Listens before it returns.
    pub(crate) fn start(socket: PathBuf) -> Self {
        let runtime = runtime();
        let (unix, tcp) = {
            let _inside = runtime.enter();
            let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            tcp.set_nonblocking(true).unwrap();
            (unix(&socket), TcpListener::from_std(tcp).unwrap())
        };
        let url = format!("wss://{}", tcp.local_addr().unwrap());
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
        let (certificate, pem) = (cert.der().clone(), cert.pem());
        Self { runtime, socket, unix, url, tcp, certificate, pem, key }
    }
}

/// A gRPC service at a path, until the runtime is dropped.
pub(crate) fn grpc(socket: &Path, services: Router) -> Runtime {
    let runtime = runtime();
    let listener = {
        let _inside = runtime.enter();
        unix(socket)
    };
    let incoming = stream::unfold(listener, async |listener| {
        let accepted = listener.accept().await.map(|(stream, _)| stream);
        Some((accepted, listener))
    });
    runtime.spawn(async move { services.serve_with_incoming(Box::pin(incoming)).await.unwrap() });
    runtime
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// On a runtime.
fn unix(socket: &Path) -> UnixListener {
    let listener = StdUnixListener::bind(socket).unwrap();
    listener.set_nonblocking(true).unwrap();
    UnixListener::from_std(listener).unwrap()
}
