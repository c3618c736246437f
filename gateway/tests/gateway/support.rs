//! A gateway in this process on fresh sockets, and clients for it.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use doorward_gateway::{config::Config, hub::Hub};
use doorward_launch::{Control, Identity};
use futures_util::{SinkExt, StreamExt};
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::{
        ResolvesClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::CertifiedKey,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{self, Message, client::IntoClientRequest, protocol::WebSocketConfig},
};

use crate::{fake_authd::FakeAuthd, fake_certd::FakeCertd};

/// Nothing here takes so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until there is something, and gives up after a while.
pub(crate) async fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The same for what is asked of others.
pub(crate) async fn until_async(mut look: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !look().await {
        assert!(Instant::now() < deadline, "waited in vain");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A running gateway with its fake authd.
pub(crate) struct Gateway {
    pub(crate) authd: FakeAuthd,
    pub(crate) directory: TempDir,
    pub(crate) unix: PathBuf,
    pub(crate) tls: SocketAddr,
    /// For the token API alone, with TLS and without.
    pub(crate) token: SocketAddr,
    pub(crate) token_plain: SocketAddr,
    pub(crate) fingerprint: String,
    pub(crate) hub: Hub,
    pub(crate) config: Config,
    control: Control<Config>,
    task: JoinHandle<Result<(), doorward_launch::StartError>>,
}

impl Gateway {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// With another configuration.
    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let directory = TempDir::new().expect("a directory");
        let authd = FakeAuthd::start(directory.path());
        let gateway = Self::start_in(directory, authd, change).await;
        gateway.authd.watched().await;
        gateway
    }

    /// With a fake certd, which has been reached.
    pub(crate) async fn start_with_certd() -> (Self, FakeCertd) {
        let directory = TempDir::new().expect("a directory");
        let (authd, certd) = (FakeAuthd::start(directory.path()), FakeCertd::start(directory.path()));
        let gateway = Self::start_in(directory, authd, |config| config.certd.socket = certd.socket()).await;
        gateway.authd.watched().await;
        gateway.certd_is(true).await;
        (gateway, certd)
    }

    /// Waits until certd is listed, or is not.
    pub(crate) async fn certd_is(&self, up: bool) {
        let (mut client, _) = self.alice().await;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let reply = client.call(r#"{"namespace":"rpc","name":"query"}"#).await;
            if reply["args"].get("rpc/settings").is_some() == up {
                return;
            }
            assert!(Instant::now() < deadline, "waited in vain: {reply}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub(crate) async fn start_in(
        directory: TempDir,
        authd: FakeAuthd,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let mut config = Config { state_dir: directory.path().join("state"), ..Config::default() };
        config.listen.tls = vec!["127.0.0.1:0".parse().expect("an address")];
        config.listen.token = vec!["127.0.0.1:0".parse().expect("an address")];
        config.listen.token_plain = config.listen.token.clone();
        config.listen.unix = directory.path().join("gateway.sock");
        config.authd.socket = authd.socket();
        config.authd.peer_socket = authd.peer_socket();
        config.authd.user = Identity::current().uid.to_string();
        // Tests of what certd answers have a fake one.
        config.certd.socket = PathBuf::new();
        config.certd.user.clone_from(&config.authd.user);
        // The tests are all one source.
        config.limits.per_source = 200;
        config.limits.connections_per_source = Some(1 << 20);
        config.exempt = None;
        change(&mut config);
        config.check().expect("a good configuration");

        let parts = doorward_gateway::bind(
            &config,
            &Identity::current(),
            &mut doorward_launch::socket::Sockets::default(),
        )
        .expect("bound");
        let hub = parts.hub().clone();
        let listening = config.state_dir.join("listening.json");
        let (control, unix) = (Control::new(), config.listen.unix.clone());
        let task = tokio::spawn(doorward_gateway::serve(config.clone(), parts, control.clone()));
        until(|| (control.is_ready() || task.is_finished()).then_some(())).await;
        let listening = std::fs::read_to_string(listening).expect("listening.json");
        let listening: Value = serde_json::from_str(&listening).expect("JSON");
        assert_eq!(listening["unix"], unix.to_str().expect("UTF-8"));
        let address = |of: &str| listening[of][0].as_str().expect("an address").parse().expect("an address");
        Self {
            tls: address("tls"),
            token: address("token"),
            token_plain: address("token_plain"),
            fingerprint: listening["fingerprint"].as_str().expect("text").to_owned(),
            authd,
            directory,
            unix,
            hub,
            config,
            control,
            task,
        }
    }

    /// Asks it to stop; see [`Gateway::stopped`].
    pub(crate) fn stop(&self) {
        self.control.shutdown.cancel();
    }

    /// Reads this configuration again, as after a hangup.
    pub(crate) async fn reload(&self) {
        self.try_reload().await.expect("it is taken over");
    }

    pub(crate) async fn try_reload(&self) -> Result<(), doorward_launch::StartError> {
        self.control.reload(self.config.clone()).await
    }

    /// A WebSocket for channels, over the Unix socket.
    pub(crate) async fn channels(&self) -> Client {
        Client::over(self.unix_stream().await, "ws://localhost/ws/events").await.expect("a WebSocket")
    }

    /// Waits until it has stopped.
    pub(crate) async fn stopped(self) -> (TempDir, FakeAuthd) {
        self.stop();
        let result = timeout(PATIENCE, self.task).await.expect("it stops").expect("it does not panic");
        result.expect("it stops without error");
        (self.directory, self.authd)
    }

    pub(crate) async fn unix_stream(&self) -> Io {
        Box::new(UnixStream::connect(&self.unix).await.expect("connect"))
    }

    pub(crate) async fn tls_stream(&self) -> Io {
        self.tls_stream_with(&[&rustls::version::TLS13]).await.expect("TLS").0
    }

    /// The stream, and the certificate that the server showed.
    pub(crate) async fn tls_stream_with(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> io::Result<(Io, CertificateDer<'static>)> {
        self.tls_stream_showing(versions, None).await
    }

    /// The same, showing this certificate and signing with this key, whether or not they fit.
    pub(crate) async fn tls_stream_showing(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        certificate: Option<Arc<CertifiedKey>>,
    ) -> io::Result<(Io, CertificateDer<'static>)> {
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .expect("versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody));
        let config = match certificate {
            None => config.with_no_client_auth(),
            Some(certificate) => config.with_client_cert_resolver(Arc::new(Always(certificate))),
        };
        self.tls_stream_to(self.tls, config).await
    }

    /// To the token API's own listener.
    pub(crate) async fn token_stream(&self) -> Io {
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody))
            .with_no_client_auth();
        self.tls_stream_to(self.token, config).await.expect("TLS").0
    }

    async fn tls_stream_to(
        &self,
        address: SocketAddr,
        config: ClientConfig,
    ) -> io::Result<(Io, CertificateDer<'static>)> {
        let tcp = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").expect("a name");
        let tls = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
        let shown = tls.get_ref().1.peer_certificates().expect("a certificate")[0].clone().into_owned();
        Ok((Box::new(tls), shown))
    }

    pub(crate) async fn unix(&self) -> Client {
        Client::over(self.unix_stream().await, "ws://localhost/").await.expect("a WebSocket")
    }

    pub(crate) async fn tls(&self) -> Client {
        let url = format!("ws://{}/", self.tls);
        Client::over(self.tls_stream().await, &url).await.expect("a WebSocket")
    }

    /// Logged in as a user with full access; the token too.
    pub(crate) async fn alice(&self) -> (Client, String) {
        let mut client = self.unix().await;
        let token = client.log_in("alice", "wonderland").await;
        (client, token)
    }
}

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}
pub(crate) type Io = Box<dyn Stream>;

/// A client that trusts every certificate: what is shown is compared by the tests that care.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Shows this certificate whatever the server wants.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesClientCert for Always {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A WebSocket client.
pub(crate) struct Client(pub(crate) WebSocketStream<Io>);

impl Client {
    pub(crate) async fn over(stream: Io, url: &str) -> Result<Self, tungstenite::Error> {
        Self::with_headers(stream, url, &[]).await
    }

    pub(crate) async fn with_headers(
        stream: Io,
        url: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, tungstenite::Error> {
        let mut request = url.into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().expect("a value"));
        }
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let handshake = client_async_with_config(request, stream, Some(config));
        timeout(PATIENCE, handshake).await.expect("an answer").map(|(socket, _)| Self(socket))
    }

    pub(crate) async fn send(&mut self, text: impl Into<String>) {
        self.0.send(Message::text(text.into())).await.expect("sent");
    }

    /// The next message that is no ping or pong; nothing when the connection is over.
    pub(crate) async fn message(&mut self) -> Option<Message> {
        loop {
            match timeout(PATIENCE, self.0.next()).await.expect("a message or an end") {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(message)) => return Some(message),
                Some(Err(_)) | None => return None,
            }
        }
    }

    pub(crate) async fn reply(&mut self) -> Value {
        match self.message().await {
            Some(Message::Text(text)) => serde_json::from_str(&text).expect("JSON"),
            other => panic!("no reply but {other:?}"),
        }
    }

    pub(crate) async fn call(&mut self, text: impl Into<String>) -> Value {
        self.send(text).await;
        self.reply().await
    }

    /// The code of an error, 0 for a success; checks the envelope.
    pub(crate) async fn code(&mut self, namespace: &str, name: &str, args: &str) -> u64 {
        let text = format!(r#"{{"namespace":"{namespace}","name":"{name}","id":"x","args":{args}}}"#);
        let reply = self.call(text).await;
        assert_eq!((&reply["id"], &reply["namespace"]), (&"x".into(), &namespace.into()), "{reply}");
        code(&reply)
    }

    /// Reads nothing from now on, and is answered so much that the gateway waits for it.
    pub(crate) async fn stops_reading(&mut self) {
        // Each ping is answered at once, with as much.
        self.fill_with(&[&[0x89, 0x80 | 125][..], &[0; 4 + 125]].concat().repeat(1_000)).await;
    }

    /// Sends these frames again and again, until the gateway waits for this client, which reads no answer.
    pub(crate) async fn fill_with(&mut self, frames: &[u8]) {
        let stream = self.0.get_mut();
        let mut rest = frames;
        while let Ok(written) = timeout(Duration::from_millis(500), stream.write(rest)).await {
            rest = &rest[written.expect("it is connected")..];
            if rest.is_empty() {
                rest = frames;
            }
        }
    }

    pub(crate) async fn query(&mut self) -> u64 {
        self.code("rpc", "query", "{}").await
    }

    /// The token of a login that succeeds.
    pub(crate) async fn log_in(&mut self, username: &str, password: &str) -> String {
        let reply = self.call(auth(username, password)).await;
        assert_eq!(reply["args"][1], 300, "{reply}");
        reply["args"][0].as_str().expect("a token").to_owned()
    }

    /// How the server closes, when it is the next thing that it does.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        match self.message().await {
            Some(Message::Close(Some(frame))) => (frame.code.into(), frame.reason.to_string()),
            other => panic!("no close but {other:?}"),
        }
    }
}

pub(crate) fn code(reply: &Value) -> u64 {
    match reply["name"].as_str() {
        Some("response") => 0,
        Some("error") => reply["args"]["code"].as_u64().expect("a number"),
        _ => panic!("neither response nor error: {reply}"),
    }
}

pub(crate) fn auth(username: &str, password: &str) -> String {
    serde_json::json!({
        "namespace": "rpc", "name": "auth", "id": "auth",
        "args": {"username": username, "password": password},
    })
    .to_string()
}
