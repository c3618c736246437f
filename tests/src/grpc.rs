//! authd's and certd's sockets as the gateway uses them, under any uid.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use doorward_proto::authd::v1::login_client::LoginClient;
use doorward_proto::authd::v1::rights_client::RightsClient;
use doorward_proto::authd::v1::sessions_client::SessionsClient;
use doorward_proto::authd::v1::{PeerAnswer, PeerQuery, peer_answer};
use doorward_proto::certd::v1::proofs_client::ProofsClient;
use doorward_proto::certd::v1::registry_client::RegistryClient;
use doorward_proto::certd::v1::store_client::StoreClient;
use hyper_util::rt::TokioIo;
use prost::Message;
use rustix::net::sockopt::set_socket_timeout;
use rustix::net::{
    RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv, sendmsg, sockopt::Timeout,
};
use tonic::transport::{Channel, Endpoint};

use crate::client::PATIENCE;
use crate::door::{Kind, connect_as};
use crate::stack::Stack;

/// A channel to authd as `uid`; connecting happens now, so that a refusal is seen here.
///
/// # Errors
/// When the connection or the HTTP/2 handshake fails.
pub async fn channel(stack: &Stack, uid: u32) -> Result<Channel, Box<dyn std::error::Error + Send + Sync>> {
    channel_to(stack.path("run/authd/authd.sock"), uid).await
}

/// A channel to any of the services' sockets as `uid`.
///
/// # Errors
/// When the connection or the HTTP/2 handshake fails.
pub async fn channel_to(
    path: PathBuf,
    uid: u32,
) -> Result<Channel, Box<dyn std::error::Error + Send + Sync>> {
    let endpoint = Endpoint::from_static("http://service").timeout(PATIENCE).connect_timeout(PATIENCE);
    let connect = tower::service_fn(move |_| {
        let path = path.clone();
        async move {
            let descriptor = connect_as(uid, Kind::Stream, &path)?;
            let stream = std::os::unix::net::UnixStream::from(descriptor);
            stream.set_nonblocking(true)?;
            io::Result::Ok(TokioIo::new(tokio::net::UnixStream::from_std(stream)?))
        }
    });
    Ok(endpoint.connect_with_connector(connect).await?)
}

/// All services of authd on one channel.
#[derive(Debug, Clone)]
pub struct Authd {
    /// `doorward.authd.v1.Login`.
    pub login: LoginClient<Channel>,
    /// `doorward.authd.v1.Sessions`.
    pub sessions: SessionsClient<Channel>,
    /// `doorward.authd.v1.Rights`.
    pub rights: RightsClient<Channel>,
}

impl Authd {
    /// As the gateway's uid.
    ///
    /// # Panics
    /// When authd refuses that.
    pub async fn as_gateway(stack: &Stack) -> Self {
        let channel = channel(stack, stack.gateway_uid()).await.expect("authd takes the gateway's uid");
        Self {
            login: LoginClient::new(channel.clone()),
            sessions: SessionsClient::new(channel.clone()),
            rights: RightsClient::new(channel),
        }
    }
}

/// All services of certd on one channel.
#[derive(Debug, Clone)]
pub struct Certd {
    /// `doorward.certd.v1.Registry`.
    pub registry: RegistryClient<Channel>,
    /// `doorward.certd.v1.Proofs`.
    pub proofs: ProofsClient<Channel>,
    /// `doorward.certd.v1.Store`.
    pub store: StoreClient<Channel>,
}

impl Certd {
    /// As `uid`, on the socket for the gateway and root.
    ///
    /// # Errors
    /// When certd refuses that.
    pub async fn connect(stack: &Stack, uid: u32) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let channel = channel_to(stack.path("run/certd/certd.sock"), uid).await?;
        Ok(Self {
            registry: RegistryClient::new(channel.clone()),
            proofs: ProofsClient::new(channel.clone()),
            store: StoreClient::new(channel),
        })
    }
}

/// Asks on the peer socket, as the gateway's uid, who is at the far end of these descriptors.
///
/// # Errors
/// authd's sentence, or `closed` when it hung up without one.
///
/// # Panics
/// When the socket cannot be spoken to at all.
pub fn ask_peer(stack: &Stack, connection: &str, descriptors: &[BorrowedFd<'_>]) -> Result<Vec<u8>, String> {
    let query = PeerQuery { connection: connection.to_owned(), whose: false }.encode_to_vec();
    let answer = send_to_peer(stack, &query, descriptors).expect("the gateway may ask")?;
    match PeerAnswer::decode(answer.as_slice()).expect("an answer").kind.expect("an answer of some kind") {
        peer_answer::Kind::Handle(handle) => Ok(handle),
        peer_answer::Kind::Refused(why) => Err(why),
        peer_answer::Kind::Uid(uid) => panic!("nobody asked for the uid {uid}"),
    }
}

/// Sends a packet with descriptors to the peer socket; the packet that comes back, or `closed`.
///
/// # Errors
/// When the packet cannot be sent or no answer comes in time.
pub fn send_to_peer(
    stack: &Stack,
    packet: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<Result<Vec<u8>, String>> {
    let socket = connect_as(stack.gateway_uid(), Kind::Packets, &stack.path("run/authd/peer.sock"))?;
    exchange(&socket, packet, descriptors)
}

/// Sends a packet with descriptors; the packet that comes back, or `closed`.
///
/// # Errors
/// When the packet cannot be sent or no answer comes in time.
pub fn exchange(
    socket: &OwnedFd,
    packet: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<Result<Vec<u8>, String>> {
    set_socket_timeout(socket, Timeout::Recv, Some(PATIENCE))?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)), "at most 16 descriptors");
    }
    if let Err(e) = sendmsg(socket.as_fd(), &[IoSlice::new(packet)], &mut control, SendFlags::NOSIGNAL) {
        // Hung up before we had finished: as good as after.
        return if e == rustix::io::Errno::PIPE { Ok(Err("closed".into())) } else { Err(e.into()) };
    }
    let mut buffer = [0_u8; 4096];
    match recv(socket, buffer.as_mut_slice(), RecvFlags::empty()) {
        Ok((_, 0)) | Err(rustix::io::Errno::CONNRESET) => Ok(Err("closed".into())),
        Ok((_, length)) => Ok(Ok(buffer[..length].to_vec())),
        Err(e) => Err(e.into()),
    }
}
