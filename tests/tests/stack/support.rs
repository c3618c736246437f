//! What several tests of the stack need.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::{fs, io};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use doorward_tests::client::token_of;
use doorward_tests::door::{Kind, connect_as};
use doorward_tests::keys::{Quick, der};
use doorward_tests::{Client, Role, Stack, skip};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A listening socket that authd is told is the gateway's: what a gateway that was taken over has.
pub(crate) struct Doorstep {
    dir: TempDir,
    listener: UnixListener,
}

impl Doorstep {
    pub(crate) fn new() -> Self {
        let dir = open_dir();
        let path = dir.path().join("gateway.sock");
        let listener = UnixListener::bind(&path).expect("a listener");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("chmod of our socket");
        Self { dir, listener }
    }

    /// For `peers.gateway_socket`.
    pub(crate) fn path(&self) -> String {
        self.dir.path().join("gateway.sock").to_str().expect("UTF-8").to_owned()
    }

    /// A connection from `uid`: the accepted end, and the client's.
    pub(crate) fn accept_from(&self, uid: u32) -> (OwnedFd, OwnedFd) {
        let far = connect_as(uid, Kind::Stream, &self.dir.path().join("gateway.sock")).expect("open to all");
        let (near, _) = self.listener.accept().expect("a connection");
        (near.into(), far)
    }
}

/// A connection that was made to a socket on which `uid` listens: the end that connected, and the other.
pub(crate) fn connected_to(uid: u32) -> (OwnedFd, OwnedFd) {
    let dir = open_dir();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).expect("chmod of our directory");
    let path = dir.path().join("s");
    let listener = UnixListener::from(connect_as(uid, Kind::Listening, &path).expect("a listener"));
    let connecting = UnixStream::connect(&path).expect("a connection");
    let (accepted, _) = listener.accept().expect("a connection");
    (connecting.into(), accepted.into())
}

fn open_dir() -> TempDir {
    let dir = tempfile::Builder::new().prefix("dwt").tempdir().expect("a temporary directory");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod of our directory");
    dir
}

/// A uid that is neither root's nor one of the stack's; `None` without root (and that was said).
pub(crate) fn stranger(stack: &Stack) -> Option<u32> {
    if !skip::root("a stranger's uid") {
        return None;
    }
    let services = [stack.authd_uid(), stack.certd_uid(), stack.gateway_uid()];
    (64_000..65_000).find(|uid| !services.contains(uid))
}

/// Somebody who wants in without a password.
pub(crate) struct Comer {
    /// Who it is.
    pub(crate) uid: u32,
    /// Who it says it is.
    pub(crate) user: Option<String>,
    pub(crate) may: bool,
    pub(crate) what: &'static str,
}

/// All kinds of them, on the Unix socket and on loopback alike.
pub(crate) fn comers(stack: &Stack) -> Vec<Comer> {
    let name = |role| stack.person(role).name.clone();
    let uid = |role| stack.person(role).uid;
    let (alice, bob, carol) = (name(Role::Full), name(Role::Limited), name(Role::Nobody));
    let rows: Vec<(u32, Option<&str>, bool, &'static str)> = vec![
        (uid(Role::Full), Some(&alice), true, "the own user"),
        (uid(Role::Full), None, true, "whoever it is"),
        (uid(Role::Limited), Some(&bob), true, "the own user, limited access"),
        (uid(Role::Full), Some(&bob), false, "another user"),
        (uid(Role::Limited), Some(&alice), false, "another user with more access"),
        (uid(Role::Full), Some("root"), false, "root's name"),
        (uid(Role::Full), Some("nosuchuser"), false, "nobody's name"),
        (0, None, false, "root"),
        (0, Some("root"), false, "root by name"),
        (0, Some(&alice), false, "root as another user"),
        (65_534, None, false, "nobody"),
        (u32::MAX - 1, None, false, "the last uid"),
        (33, None, false, "a service's uid"),
        (stack.gateway_uid(), None, false, "the gateway's uid"),
        (stack.authd_uid(), None, false, "authd's uid"),
        (stack.certd_uid(), None, false, "certd's uid"),
        (uid(Role::Nobody), Some(&carol), false, "a user in no access group"),
        (64_999, None, false, "a uid without an account"),
    ];
    let comer = |(uid, user, may, what): (u32, Option<&str>, bool, &'static str)| Comer {
        uid,
        user: user.map(str::to_owned),
        may,
        what,
    };
    rows.into_iter().map(comer).collect()
}

/// The args of a login without a password.
pub(crate) fn named(user: Option<&str>) -> Value {
    user.map_or_else(|| json!({}), |user| json!({"username": user, "password": ""}))
}

/// authd's sockets, the guard's and certd's.
pub(crate) fn inner_sockets(stack: &Stack) -> [(Kind, PathBuf); 5] {
    [
        (Kind::Stream, stack.path("run/authd/authd.sock")),
        (Kind::Packets, stack.path("run/authd/peer.sock")),
        (Kind::Packets, stack.path("run/pam/pam.sock")),
        (Kind::Stream, stack.path("run/certd/certd.sock")),
        (Kind::Stream, stack.path("run/certd/authd.sock")),
    ]
}

/// A challenge of this client's connection: context and string.
pub(crate) async fn challenge(client: &mut Client, purpose: Purpose) -> Result<(String, String), u64> {
    let reply = match purpose {
        Purpose::Login => client.ask("rpc/auth_ssl", json!("")).await?,
        Purpose::Registration => client.ask("rpc/settings", json!({"action": "register_challenge"})).await?,
    };
    let text = |name: &str| reply[name].as_str().unwrap_or_else(|| panic!("no {name}: {reply}")).to_owned();
    Ok((text("context"), text("test_string")))
}

/// What a challenge is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Login,
    Registration,
}

/// Registers a key with a proof, or says the code of the refusal.
pub(crate) async fn register(client: &mut Client, key: &Quick, nickname: &str) -> Result<(), u64> {
    let (context, text) = challenge(client, Purpose::Registration).await?;
    let proof = STANDARD.encode(key.prove(&context, &text));
    let args = json!({
        "action": "register_ssl_cert", "pub_key": key.packed(), "nickname": nickname, "proof": proof
    });
    client.ask("rpc/settings", args).await.map(drop)
}

/// Revokes a key of the client's own.
pub(crate) async fn revoke(client: &mut Client, key: &Quick) -> Result<(), u64> {
    let args = json!({"action": "revoke_ssl_cert", "pub_key": key.packed()});
    client.ask("rpc/settings", args).await.map(drop)
}

/// Answers a challenge by a key; the token, or the code of the refusal.
pub(crate) async fn log_in_with(client: &mut Client, key: &Quick) -> Result<String, u64> {
    let (context, text) = challenge(client, Purpose::Login).await?;
    answer(client, &key.prove(&context, &text), json!({})).await
}

/// The second stage with this signature and these hints.
pub(crate) async fn answer(client: &mut Client, signature: &[u8], hints: Value) -> Result<String, u64> {
    let mut args = hints;
    args["encrypted_string"] = STANDARD.encode(signature).into();
    client.ask("rpc/auth_ssl", args).await.map(|args| token_of(&args))
}

/// All registered keys that this client sees, as the base64 of their DER, each with its text.
pub(crate) async fn listed(client: &mut Client) -> BTreeMap<String, String> {
    let reply = client.ask("rpc/settings", json!({"action": "list_ssl_certs"})).await.expect("a list");
    let users = reply.as_object().expect("users");
    let keys = users.values().flat_map(|keys| keys.as_object().expect("keys"));
    keys.map(|(packed, text)| {
        let pem = String::from_utf8(STANDARD.decode(packed).expect("base64")).expect("PEM");
        (STANDARD.encode(der(&pem)), text.as_str().expect("a text").to_owned())
    })
    .collect()
}

/// Reads until the other end closes; how many bytes came before that.
pub(crate) fn bytes_until_closed(socket: &OwnedFd) -> io::Result<usize> {
    use rustix::net::sockopt::{Timeout, set_socket_timeout};
    use rustix::net::{RecvFlags, recv};
    set_socket_timeout(socket.as_fd(), Timeout::Recv, Some(doorward_tests::client::PATIENCE))?;
    let mut buffer = [0_u8; 1024];
    let mut all = 0;
    loop {
        match recv(socket, buffer.as_mut_slice(), RecvFlags::empty()) {
            Ok((_, 0)) | Err(rustix::io::Errno::CONNRESET) => return Ok(all),
            Ok((_, length)) => all += length,
            Err(e) => return Err(e.into()),
        }
    }
}

/// Users of this host who are nobody of the stack's.
pub(crate) fn strangers<const N: usize>(stack: &Stack) -> Option<[u32; N]> {
    if !skip::root("connections of other users") {
        return None;
    }
    let services = [stack.authd_uid(), stack.certd_uid(), stack.gateway_uid()];
    let mut free = (64_000..65_000).filter(|uid| !services.contains(uid));
    Some(std::array::from_fn(|_| free.next().expect("many uids")))
}
